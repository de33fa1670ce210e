import pytest

from flow.netlist.netlist import from_json
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from tests.flow.support import chain, module, outputs, tiny_library, tiny_platform


@pytest.fixture
def library(tmp_path):
    return tiny_library(tmp_path)


@pytest.fixture
def platform(tmp_path):
    return tiny_platform(tmp_path)


def _timing(netlist, library, platform, period=4.0, clock="clk"):
    timing = Timing(netlist, library, platform, Constraints(clock=clock, period_ns=period))
    timing.update()
    return timing


def test_a_path_computed_by_hand(library, platform):
    timing = _timing(chain(library), library, platform)
    names = timing.netlist.net_names
    arrival = dict(zip(names, timing.arrival.max(axis=1), strict=True))
    # a: clock to output 0.3 + 0.01 * 1 fF (the inverter).
    assert arrival["a"] == pytest.approx(0.31)
    # na: + 0.1 + 0.01 * 1 fF (NAND2's A).
    assert arrival["na"] == pytest.approx(0.31 + 0.11)
    # b arrives at 20 % of 4 ns + driver's delay with 1 + 3 fF rising less its unloaded delay.
    assert arrival["b_"] == pytest.approx(0.8 + 0.005 * 4)
    # d: from b, falling b (2 fF) or rising: the later one, + 0.1 + 0.01 * 1 fF.
    assert arrival["d"] == pytest.approx(0.82 + 0.11)
    # Due at 4 - 0.2 (set-up); the output at 80 % of 4 ns, behind a register with 2 fF.
    assert timing.worst_slack() == pytest.approx(min(3.8 - 0.93, 3.2 - 0.32))
    assert timing.slack()[names.index("na")] == pytest.approx(3.8 - 0.11 - 0.42)


def test_the_shortest_period_has_no_slack(library, platform):
    timing = _timing(chain(library), library, platform)
    period = timing.shortest_period()
    # b: 0.2 T + 0.02 + 0.11 + 0.2 = T, or the register's path, or the output's 0.8 T.
    assert period == pytest.approx(max(0.33 / 0.8, 0.31 + 0.11 + 0.11 + 0.2, 0.32 / 0.8), abs=1e-4)
    assert _timing(chain(library), library, platform, period).worst_slack() == pytest.approx(
        0, abs=1e-4
    )


def test_latches_behind_a_clock_gate(library, platform):
    top = module(
        {"clk": ("input", [2]), "e": ("input", [3]), "y": ("output", [6])},
        {
            "gate": ("GATE", {"CK": 2, "E": 3, "GCK": 4}),
            "data": ("DFF", {"CK": 2, "D": 3, "Q": 5}),
            "bit": ("LATCH", {"G": 4, "D": 5, "Q": 6}),
        },
        {"gclk": [4], "d": [5]},
    )
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    timing = _timing(netlist, library, platform)
    assert set(timing.clock_nets) == {netlist.ports[0].nets[0], netlist.net_names.index("gclk")}
    due = {
        netlist.instances[i].name: value
        for i, value in zip(timing.end_instance, timing.end_due, strict=True)
        if i >= 0
    }
    # Written in the high phase of its own cycle; the gate's enable by the next edge.
    assert due["bit"] == pytest.approx(2.0 - 0.1)
    assert due["gate"] == pytest.approx(4.0 - 0.1)
