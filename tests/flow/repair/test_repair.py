import pkgutil

import pytest

from flow.netlist.netlist import from_json
from flow.repair.repair import repair
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from tests.flow.repair.ablation import PASSES
from tests.flow.support import module, outputs, tiny_library, tiny_platform


@pytest.fixture
def library(tmp_path):
    return tiny_library(tmp_path)


@pytest.fixture
def platform(tmp_path):
    return tiny_platform(tmp_path)


def test_a_missed_target_makes_cells_larger_and_a_met_one_smaller(library, platform):
    def inverters(period):
        """Two inverters behind a register; the last one drives four registers and 6 fF."""
        cells = {
            "source": ("DFF", {"CK": 2, "D": 3, "Q": 4}),
            "a": ("INV", {"A": 4, "Y": 5}),
            "b": ("INV", {"A": 5, "Y": 6}),
        }
        for number in range(4):
            cells[f"r{number}"] = ("DFF", {"CK": 2, "D": 6, "Q": 100 + number})
        top = module(
            {
                "clk": ("input", [2]),
                "d": ("input", [3]),
                "y": ("output", [100, 101, 102, 103]),
                "load": ("output", [6, 6, 6]),
            },
            cells,
        )
        netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
        for instance in netlist.instances:
            if instance.name == "a":
                instance.cell = "INV4"
        constraints = Constraints(clock="clk", period_ns=period)
        report = repair(netlist, library, platform, constraints)
        timing = Timing(netlist, library, platform, constraints)
        timing.update()
        assert report.slack_after == timing.worst_slack()
        return {i.name: i.cell for i in netlist.instances if i.name in "ab"}

    assert inverters(20.0) == {"a": "INV", "b": "INV"}
    assert "INV4" in inverters(0.5).values()


def test_the_ablation_leaves_out_passes_that_exist():
    assert PASSES
    for function, _ in PASSES.values():
        assert callable(pkgutil.resolve_name(f"flow.repair.{function}"))
