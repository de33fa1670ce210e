"""Rows of the comparison of efficiency: after synthesis, routed, published."""

from __future__ import annotations

import dataclasses

import pytest

from flow.figures.metrics import Metrics
from flow.studies.comparison import PUBLISHED, best_first, measured_row, routed_row, table


def run() -> Metrics:
    """1,000 MACs in 2 ns; 0.05 pJ each in cells of 0.5 mm2, 0.08 in a die of 0.8 mm2."""
    metrics = Metrics()
    metrics.values |= {
        "synth__timing__clock__period": 2.0,
        "halut__design__macs_per_cycle": 1000,
        "synth__design__instance__area__stdcell": 5e5,
        "halut__energy__per_mac": 0.05,
        "synth__power__total": 25.0,
        "finish__design__die__area": 8e5,
        "halut__routed__energy_per_mac": 0.08,
        "finish__power__total": 40.0,
    }
    metrics.provenance = {"design": "dense", "platform": "asap7", "voltage": 0.7}
    return metrics


def test_a_layout_counts_its_die_and_its_wires() -> None:
    cells, layout = measured_row(run()), routed_row(run())
    assert (cells.label, layout.label) == ("measured", "routed")
    assert cells.technology == layout.technology == "asap7, 0.7 V"
    assert (cells.tops, cells.area_mm2, layout.area_mm2) == pytest.approx((1.0, 0.5, 0.8))
    assert (cells.tops_per_w, layout.tops_per_w) == pytest.approx((40, 25))
    assert (cells.tops_per_mm2, layout.tops_per_mm2) == pytest.approx((2.0, 1.25))
    assert table([layout])[1] == [
        "dense", "asap7, 0.7 V", "routed", "25.0", "1.2", "1.000", "0.80000", "500", "40.000",
    ]  # fmt: skip


def test_what_is_better_stands_above_whoever_published_it() -> None:
    ours = routed_row(run())
    unknown = dataclasses.replace(ours, tops_per_w=None)
    best = dataclasses.replace(ours, tops_per_w=1000.0)
    rows = best_first([unknown, ours, *PUBLISHED, best])
    assert [row.tops_per_w for row in rows] == [1000.0, 174, 161, 43.1, pytest.approx(25), None]
