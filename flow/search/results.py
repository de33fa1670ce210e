"""Results of a sweep: one Parquet file, whose columns are the same in every sweep."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow.cells.platform import Platform
from flow.figures.metrics import UNITS
from flow.run.sources import sources_hash
from flow.search.points import Row
from flow.search.space import Data, Space
from halut.errors import HalutError
from halut.files import atomic_write
from rtl_gen.config import AcceleratorConfig

__all__ = ["VOLATILE", "model_errors", "read_results", "results_table", "write_results"]

VOLATILE = ("provenance__date", "provenance__seconds", "provenance__host")
"""Columns that differ from one run to the next; all others are the same."""


_PROVENANCE = ("halut_stack", "commit", "python", "dirty", "seed", "date")


def results_table(
    rows: Sequence[Row], space: Space, data: Data | None, platforms: Mapping[str, Platform]
) -> Any:
    """All rows but pending ones as a `pyarrow.Table`, in the order of the space."""
    import pyarrow as pa

    found = [_values(row, space, data, platforms) for row in rows if row.status != "pending"]
    fields, arrays = [], []
    for name, (kind, unit) in _columns().items():
        fields.append(pa.field(name, _arrow(kind), metadata={"unit": unit} if unit else None))
        arrays.append(pa.array([_typed(row.get(name), kind) for row in found], _arrow(kind)))
    about = {
        "kind": "halut-sweep",
        "version": "1",
        "space": space.name,
        "axes": json.dumps({name: list(values) for name, values in space.axes.items()}),
        "volatile": ",".join(VOLATILE),
    }
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))


def write_results(table: Any, path: Path) -> None:
    """Write a `results_table` as Parquet."""
    import pyarrow.parquet as parquet

    with atomic_write(path) as temporary:
        parquet.write_table(table, temporary)


def _values(
    row: Row, space: Space, data: Data | None, platforms: Mapping[str, Platform]
) -> dict[str, Any]:
    point, config, record = row.point, row.point.config, row.record
    values: dict[str, Any] = {
        "status": row.status,
        "message": row.message or None,
        "point": row.key or None,
        "space": space.name,
        "platform": point.platform,
        "corner": point.corner or platforms[point.platform].default_corner or None,
        "clock_ns": point.clock_ns,
        "target_ns": point.target_ns,
        "layout": point.layout,
        **(point.values if config is None else {**config.to_dict(), "slug": config.slug}),
        "throughput__gmacs_per_s": row.gmacs_per_s,
        "provenance__code": sources_hash(),
    }
    if data is not None:
        values |= {"provenance__data": data.digest, "data": data.name}
    if row.learned is not None:
        values |= {
            "learn__relative_error": row.learned.error,
            "learn__accuracy": row.learned.accuracy,
        }
    if row.estimate is not None and row.model is not None:
        estimate = dataclasses.asdict(row.estimate)
        values |= {f"estimate__{name}": value for name, value in estimate.items()}
        values["provenance__model"] = json.dumps(dict(row.model.conditions), sort_keys=True)
    if record is not None:
        values |= {
            **record.metrics,
            "reasons": json.dumps(record.reasons, sort_keys=True),
            "provenance__code": record.code,
            "provenance__seconds": record.seconds,
            "provenance__host": record.host,
        }
        values |= {f"provenance__{name}": record.provenance.get(name) for name in _PROVENANCE}
        if "tools" in record.provenance:
            values["provenance__tools"] = json.dumps(record.provenance["tools"], sort_keys=True)
    return values


def _columns() -> dict[str, tuple[type, str]]:
    """Columns of the results: type and unit."""
    columns: dict[str, tuple[type, str]] = {
        name: (str, "") for name in ("status", "message", "point", "space", "data", "platform",
                                     "corner", "layout")
    }  # fmt: skip
    columns |= {"clock_ns": (float, "ns"), "target_ns": (float, "ns")}
    for f in dataclasses.fields(AcceleratorConfig):
        if f.name != "name":
            texts = isinstance(f.default, str) or f.name == "overflow"
            columns[f.name] = (bool if isinstance(f.default, bool) else str if texts else int, "")
    columns["slug"] = (str, "")
    columns |= {
        "learn__relative_error": (float, "1"),
        "learn__accuracy": (float, "1"),
        "throughput__gmacs_per_s": (float, "GMAC/s"),
        "estimate__area_um2": (float, "um2"),
        "estimate__energy_pj_per_cycle": (float, "pJ"),
        "estimate__period_ns": (float, "ns"),
        "estimate__area_um2_per_mac_per_cycle": (float, "um2"),
        "estimate__energy_pj_per_mac": (float, "pJ"),
    }
    columns |= {name: (float, unit) for name, unit in UNITS.items()}
    columns["reasons"] = (str, "")
    for name in ("halut_stack", "commit", "code", "data", "model", "python", "tools"):
        columns[f"provenance__{name}"] = (str, "")
    columns |= {
        "provenance__dirty": (bool, ""),
        "provenance__seed": (int, ""),
        "provenance__date": (str, ""),
        "provenance__seconds": (float, "s"),
        "provenance__host": (str, ""),
    }
    return columns


def _arrow(kind: type) -> Any:
    import pyarrow as pa

    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]


def _typed(value: Any, kind: type) -> Any:
    """A value of a column; None where an invalid combination has something of another kind."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else None


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a sweep's Parquet file; a foreign file is one clear error."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise HalutError("pyarrow must be installed for results: pip install -e .[flow]") from None
    if not Path(path).is_file():
        raise HalutError(
            f"results must be a readable file, not {path}; make them with: python -m flow sweep"
        )
    foreign = HalutError(f"results must be a Parquet file of python -m flow sweep ({path})")
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException):
        raise foreign from None
    if (table.schema.metadata or {}).get(b"kind") != b"halut-sweep":
        raise foreign
    return table.to_pylist()


def model_errors(rows: Sequence[Row]) -> str:
    """How far estimates were off on the measured points."""
    ratios: dict[str, list[float]] = {"area": [], "energy": []}
    for row in rows:
        if row.status == "measured" and row.estimate is not None:
            for name, off in ratios.items():
                if measured := row.measured.get(name):
                    off.append(abs(row.estimated[name] / measured - 1))
    found = [
        f"{name} {np.mean(values):.0%} (largest {max(values):.0%})"
        for name, values in zip(("area", "energy per MAC"), ratios.values(), strict=True)
        if values
    ]
    return f"estimates were off by: {', '.join(found)}" if found else ""
