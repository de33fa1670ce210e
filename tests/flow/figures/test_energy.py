"""Power, energy and breakdown by hand, under the names of both netlists."""

import numpy as np
import pytest

from flow.figures.energy import MAPPED, NO_ENGINE, ROUTED, kinds_of_units, set_energy
from flow.figures.metrics import Metrics
from flow.power.sums import PowerSums, by_kind
from tests.flow import support

SUMS = PowerSums("", 1.0, 2.0, 0.5, 3.5, clock_tree=0.5, ports=0.25, units={})


@pytest.mark.parametrize(
    ("names", "power", "energy"),
    [
        (MAPPED, "synth__power__", "halut__energy__per_"),
        (ROUTED, "finish__power__", "halut__routed__energy_per_"),
    ],
)
def test_energy_is_power_times_time_over_work(names, power, energy):
    metrics = Metrics()
    set_energy(metrics, names, SUMS, 2.0, look_ups=4, macs=28)
    assert metrics.values[f"{power}internal__total"] == 1
    assert metrics.values[f"{power}switching__total"] == 2
    assert metrics.values[f"{power}leakage__total"] == 0.5
    assert metrics.values[f"{power}total"] == 3.5
    assert metrics.values[f"{energy}cycle"] == 7
    assert metrics.values[f"{energy}look_up"] == 7 / 4
    assert metrics.values[f"{energy}mac"] == 7 / 28
    less = Metrics()
    set_energy(less, MAPPED, SUMS, 2, 0, 28, {"mac_without_glitches": 2.8})
    assert less.values["halut__energy__per_mac_without_glitches"] == pytest.approx(0.2)
    assert less.values["halut__energy__per_look_up"] is None
    assert less.reasons["halut__energy__per_look_up"] == "not a look-up engine"


def test_what_does_no_work_has_no_energy_of_work():
    metrics = Metrics()
    set_energy(metrics, ROUTED, SUMS, 2, 0, 0)
    assert metrics.values["halut__routed__energy_per_cycle"] == 7
    for work in ("look_up", "mac"):
        assert metrics.reasons[f"halut__routed__energy_per_{work}"] == NO_ENGINE


def test_kinds_add_up_to_the_whole(tmp_path):
    library = support.tiny_library(tmp_path)
    netlist = support.chain(library)
    netlist.instances[0].unit = 1
    kinds = ["register" if i.cell == "DFF" else "logic" for i in netlist.instances]
    power = np.array([[1.0, 2, 4, 8], [0, 0, 0, 1], [0.1, 0.1, 0.1, 0.1]])
    sums = by_kind(kinds, power)
    rows = kinds_of_units(netlist, kinds, library, sums, ports_mw=3.0)
    assert [row["unit"] for row in rows] == ["register", "logic", "input nets and clock root"]
    assert [row["cells"] for row in rows] == [2, 2, 0]
    assert [row["area"] for row in rows] == [10, 2, 0]
    assert [row["instances"] for row in rows] == [2, 1, 0]
    assert rows[2]["switching_mw"] == 3
    total = sum(row[f"{part}_mw"] for row in rows for part in ("internal", "switching", "leakage"))
    assert total == pytest.approx(power.sum() + 3)
    assert "internal_mw" not in kinds_of_units(netlist, kinds, library, None)[0]
