"""Numbers with units."""

from __future__ import annotations

import pytest

from flow.search.quantities import AREA, ENERGY, RATE, RATIO, TIME
from halut.errors import HalutError


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (AREA, "0.5mm2", 500_000.0),
        (AREA, "120 µm²", 120.0),
        (TIME, "2ns", 2.0),
        (TIME, "500ps", 0.5),
        (TIME, "500MHz", 2.0),
        (TIME, "0.5 GHz", 2.0),
        (ENERGY, "50fJ", 0.05),
        (ENERGY, "5e-2pJ", 0.05),
        (RATE, "0.1TMAC/s", 100.0),
        (RATIO, "5%", 0.05),
        (RATIO, "0.05", 0.05),
    ],
)
def test_values(kind, text, value):
    assert kind.parse("--x", text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(AREA, "0.5"), (AREA, "0.5ns"), (TIME, "-1ns"), (TIME, "0ns"), (TIME, "ns"), (TIME, "1.2.3ns"),
     (ENERGY, ""), (ENERGY, "infpJ"), (RATIO, "5ns"), (TIME, "1e400ns")],
)  # fmt: skip
def test_what_is_refused(kind, text):
    with pytest.raises(HalutError, match=r"--x must be a positive number with a unit of .* not '"):
        kind.parse("--x", text)
