"""Cycles of the accelerator in the system: what is read, compared and refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flow.studies.bus import BusSystem
from halut.errors import CheckFailed
from rtl_gen.config import AcceleratorConfig
from soc.accelerator import bus_block
from soc.bus_cycles import MEMORY, GroupCycles, check_bus_cycles, read_bus_cycles
from soc.report import bus_table

BLOCK = bus_block(
    AcceleratorConfig.from_yaml(Path(__file__).parents[2] / "configs" / "options" / "soc.yaml")
)


def _layer(name: str, side: int, n_groups: int, n_outputs: int) -> Any:
    output = SimpleNamespace(shape=(side, side, n_groups * n_outputs))
    return SimpleNamespace(name=name, output=output, table=np.zeros((n_groups, 2, 16, n_outputs)))


def test_every_group_is_beside_its_prediction() -> None:
    layers = [_layer("one", 4, 1, 25), _layer("two", 2, 2, 24)]
    log = "way accelerator\n busy_group 0 cycles 24000\n busy_group 1 cycles 10000\n"
    log += " busy_group 2 cycles 11000\n"
    groups = read_bus_cycles(log, BLOCK, layers)
    assert [(one.layer, one.rows, one.tiles) for one in groups] == [
        ("one", 16, 2), ("two", 4, 1), ("two", 4, 1),
    ]  # fmt: skip
    bus = BusSystem(BLOCK, MEMORY)
    assert [one.predicted for one in groups] == [
        bus.cycles(*sizes).total for sizes in ((16, 2), (4, 1), (4, 1))
    ]
    rows = bus_table(groups)
    assert rows[-1][3] == "45,000" and len({len(row) for row in rows}) == 1


def test_a_group_that_is_not_reported_is_refused() -> None:
    with pytest.raises(CheckFailed, match="firmware must report the cycles of 2 groups"):
        read_bus_cycles(" busy_group 1 cycles 10\n", BLOCK, [_layer("two", 2, 2, 24)])


def test_a_prediction_that_is_off_is_refused() -> None:
    fits = GroupCycles(layer="a", rows=1, tiles=1, measured=1000, predicted=1050)
    check_bus_cycles([fits])
    for predicted in (1051, 949):
        off = GroupCycles(layer="b", rows=1, tiles=1, measured=1000, predicted=predicted)
        with pytest.raises(CheckFailed, match=r"within 5 % .* 1000, not \d+ \(layer b\)"):
            check_bus_cycles([fits, off])
