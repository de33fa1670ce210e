import numpy as np
import pytest

from flow.power.activity import Activity
from flow.power.liberty_power import liberty_power
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from tests.flow.support import chain, tiny_library, tiny_platform


def test_power_computed_by_hand(tmp_path):
    library, platform = tiny_library(tmp_path), tiny_platform(tmp_path)
    netlist = chain(library)
    timing = Timing(netlist, library, platform, Constraints(clock="clk", period_ns=4.0))
    timing.update()
    names = netlist.net_names
    rate = {"clk_": 2.0, "b_": 0.5, "a": 0.5, "na": 0.5, "d": 0.8, "y_": 0.6}
    duty = {"clk_": 0.5, "b_": 0.5, "a": 0.25, "na": 0.75, "d": 0.5, "y_": 0.5}
    toggles = np.array([rate[name] for name in names])
    settled = np.array([rate[name] / 2 for name in names])
    settled[names.index("clk_")] = 2.0
    activity = Activity(100, toggles, settled, np.array([duty[name] for name in names]))
    power = liberty_power(timing, activity)
    place = {instance.name: index for index, instance in enumerate(netlist.instances)}
    # fJ per 4 ns is 0.25 uW: everything below in fJ per cycle, times 0.25e-3 in mW.
    unit = 0.25e-3
    half_cv2 = 0.5 * 2.0**2
    # The inverter: (4 + 2) / 2 fJ per transition of its output; it drives 1 fF.
    assert power.internal[place["invert"]] == pytest.approx(3 * 0.5 * unit)
    assert power.switching[place["invert"]] == pytest.approx(half_cv2 * 1 * 0.5 * unit)
    # A register: (6 + 2) / 2 fJ per transition of its clock pin.
    assert power.internal[place["first"]] == pytest.approx(4 * 2.0 * unit)
    # The output's register drives the port's 2 fF.
    assert power.switching[place["second"]] == pytest.approx(half_cv2 * 2 * 0.6 * unit)
    # NAND2: 8 nW while both inputs are 1 (0.75 * 0.5), else 4 nW.
    assert power.leakage[place["join"]] == pytest.approx((0.375 * 8 + 0.625 * 4) * 1e-6)
    assert power.leakage[place["invert"]] == pytest.approx(3e-6)
    # The ports drive the clock's 2 fF, and b's 1 + 3 fF.
    assert power.ports == pytest.approx(half_cv2 * (2 * 2.0 + 4 * 0.5) * unit)
    assert power.total == pytest.approx(
        power.internal.sum() + power.switching.sum() + power.leakage.sum() + power.ports
    )
    quiet = liberty_power(timing, activity, glitches=False)
    assert quiet.internal[place["invert"]] == pytest.approx(power.internal[place["invert"]] / 2)
    assert quiet.internal[place["first"]] == pytest.approx(power.internal[place["first"]])
