"""What encoders cost in hardware, and which of them a limit allows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halut.checks import read_json
from halut.errors import HalutError

__all__ = ["DENSE", "EncoderArea", "affordable", "positive", "read_areas"]

_AREA = "synth__design__instance__area__stdcell"


@dataclass(frozen=True, kw_only=True)
class EncoderArea:
    """An encoder, in the words of `halut.HalutMatmul`, and what an accelerator with it takes.

    Parameters
    ----------
    encoder : str
    terms : int or None
        With ``"sums"``.
    area : float
        Of the whole accelerator, in any unit, greater than 0.
    """

    encoder: str
    terms: int | None = None
    area: float

    @property
    def settings(self) -> dict[str, Any]:
        """The words."""
        terms = {} if self.terms is None else {"terms": self.terms}
        return {"encoder": self.encoder, **terms}


DENSE = (
    EncoderArea(encoder="tree", area=535_074),
    EncoderArea(encoder="sums", terms=2, area=589_682),
    EncoderArea(encoder="node", area=630_729),
    EncoderArea(encoder="sums", terms=4, area=660_171),
)
"""``configs/dense.yaml`` on NanGate45 in um2, as docs/encoders.md has them."""


def positive(name: str, value: object, path: str | os.PathLike[str]) -> float:
    """Return the value of a metric in a file; raise `HalutError` unless it is greater than 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise HalutError(f"metrics must have {name}, greater than 0, not {value!r} ({path})")
    return float(value)


def read_areas(paths: Sequence[str | os.PathLike[str]]) -> tuple[EncoderArea, ...]:
    """Read areas from metrics files of the flow; the configuration there says which encoder it is.

    Raises
    ------
    HalutError
        When a file is no metrics file, or has no area.
    """
    found = []
    for path in paths:
        content = read_json(Path(path), "metrics")
        try:
            if content["kind"] != "halut-metrics":
                raise KeyError
            area = content["metrics"][_AREA]
            configuration: Mapping[str, Any] = content["provenance"]["configuration"]
            unit = configuration.get("unit", configuration)
            terms, window = int(unit.get("terms", 1)), int(unit.get("window", 0))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise HalutError(f"metrics must be a metrics.json of an accelerator ({path})") from None
        area = positive(_AREA, area, path)
        encoder: dict[str, Any] = {"encoder": "tree"}
        if terms > 1:
            encoder = {"encoder": "sums", "terms": terms}
        elif window:
            encoder = {"encoder": "node" if unit.get("splits") == "node" else "window"}
        found.append(EncoderArea(area=area, **encoder))
    return tuple(found)


def affordable(areas: Sequence[EncoderArea], most_area: float) -> list[EncoderArea]:
    """Return the encoders within a limit, the cheapest first.

    Parameters
    ----------
    areas : sequence of EncoderArea
        Among them that of ``"tree"``, which is always affordable.
    most_area : float
        Area over that with trees, at least 1.

    Examples
    --------
    >>> [one.settings for one in affordable(DENSE, 1.15)]
    [{'encoder': 'tree'}, {'encoder': 'sums', 'terms': 2}]
    """
    trees = [one.area for one in areas if one.encoder == "tree"]
    if len(trees) != 1:
        raise HalutError(f'areas must have one of encoder "tree" to compare with, not {len(trees)}')
    if isinstance(most_area, bool) or not isinstance(most_area, (int, float)) or not most_area >= 1:
        raise HalutError(f"most_area must be at least 1, not {most_area!r}")
    within = [one for one in areas if one.encoder == "tree" or one.area <= most_area * trees[0]]
    return sorted(within, key=lambda one: (one.encoder != "tree", one.area))
