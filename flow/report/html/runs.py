"""What a run of the flow left behind, checked, and in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.figures.metrics import Metrics, read_metrics
from halut.errors import HalutError
from rtl_gen.tiled_config import AnyConfig, config_from_dict

__all__ = [
    "Run",
    "metrics_of",
    "name_of",
    "read_run",
]

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run."""

    folder: Path  #: Where its metrics are.
    label: str  #: Short, and different from that of every other run on the page.
    metrics: Metrics
    #: None for a direct engine, behind a front end, and where the metrics do not say.
    config: AnyConfig | None
    pictures: list[tuple[str, bytes]]  #: Title and PNG file of each picture of the layout.


def _provenance(metrics: Metrics, path: Path) -> None:
    for key, kind, word in (
        ("design", str, "a text"),
        ("platform", str, "a text"),
        ("clock_ns", (int, float), "a number"),
        ("target_ns", (int, float), "a number"),
    ):
        value = metrics.provenance.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise HalutError(f"provenance.{key} must be {word}, not {value!r} ({path})")


def _numbers(row: Any, keys: tuple[str, ...]) -> bool:
    return all(
        isinstance(row.get(key, 0), (int, float)) and not isinstance(row.get(key), bool)
        for key in keys
    )


def _tables(metrics: Metrics, path: Path) -> None:
    keys = ("instances", "cells", "area", "internal_mw", "switching_mw", "leakage_mw")
    routed = metrics.notes.get("routed_breakdown", [])
    if not isinstance(routed, list):
        raise HalutError(f"notes.routed_breakdown must be a list, not {routed!r} ({path})")
    for row in [*metrics.breakdown, *routed]:
        if not isinstance(row, dict) or not isinstance(row.get("unit"), str):
            raise HalutError(f"a row of breakdown must have a unit, not be {row!r} ({path})")
        if "area" not in row or not _numbers(row, keys):
            raise HalutError(f"a row of breakdown must hold numbers, not {row!r} ({path})")
    route = metrics.notes.get("critical_path")
    if route is None:
        return
    stretches = route.get("stretches") if isinstance(route, dict) else None
    good = isinstance(stretches, list) and all(
        isinstance(part, dict)
        and isinstance(part.get("cells"), list)
        and isinstance(part.get("unit"), str)
        and isinstance(part.get("kind"), str)
        and isinstance(part.get("delay_ns"), (int, float))
        and isinstance(part.get("delays_ns", []), list)
        and all(isinstance(delay, (int, float)) for delay in part.get("delays_ns", []))
        for part in stretches
    )
    if not good:
        raise HalutError(f"notes.critical_path must be a path in stretches ({path})")


def metrics_of(place: str | Path) -> tuple[Metrics, Path]:
    """Read the metrics of a run's folder, or the file itself; also returns the file's path."""
    path = Path(place)
    if path.is_dir():
        path = path / "metrics.json"
    if not path.is_file():
        raise HalutError(f"a run must be a folder with metrics.json, or such a file, not {place}")
    metrics = read_metrics(path)
    _provenance(metrics, path)
    _tables(metrics, path)
    return metrics, path


def _pictures(folder: Path) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted((folder / "pnr" / "pictures").glob("*.png")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HalutError(f"a picture must be readable: {error.strerror} ({path})") from None
        if not content.startswith(_PNG):
            raise HalutError(f"a picture must be a PNG file ({path})")
        # A number in front puts them in order, and is no part of the title.
        found.append((re.sub(r"[_-]", " ", re.sub(r"^\d+[_-]", "", path.stem)), content))
    return found


def name_of(metrics: Metrics) -> str:
    """Design, platform and corner of a run."""
    source = metrics.provenance
    return f"{source['design']}, {source['platform']} {source.get('corner') or ''}".rstrip()


def read_run(place: str | Path, taken: set[str]) -> Run:
    """Read a run.

    Parameters
    ----------
    place : path-like
        Folder with ``metrics.json``, or that file.
    taken : set of str
        Labels of the runs before; this run's is added.

    Raises
    ------
    HalutError
        When something there is not what a run leaves behind.
    """
    metrics, path = metrics_of(place)
    label = wanted = name_of(metrics)
    count = 1
    while label in taken:
        count += 1
        label = f"{wanted} ({count})"
    taken.add(label)
    config = None
    given = metrics.provenance.get("configuration")
    # Front ends and direct engines are not drawn.
    if given is not None and not {"accelerator", "engine"} & set(given):
        try:
            config = config_from_dict(given)
        except HalutError as error:
            raise HalutError(f"{error} ({path}, provenance.configuration)") from None
    return Run(
        folder=path.parent,
        label=label,
        metrics=metrics,
        config=config,
        pictures=_pictures(path.parent),
    )
