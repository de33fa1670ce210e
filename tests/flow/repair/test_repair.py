import pytest

from flow.netlist.netlist import HIGH, LOW, from_json
from flow.repair.repair import add_clock_tree, add_tie_cells, repair
from flow.timing.graph import Constraints, Timing
from tests.flow.support import module, outputs, tiny_library, tiny_platform


@pytest.fixture
def library(tmp_path):
    return tiny_library(tmp_path)


@pytest.fixture
def platform(tmp_path):
    return tiny_platform(tmp_path)


def _wide(library, width):
    """One register whose output goes to `width` inverters, each into a register."""
    cells = {"source": ("DFF", {"CK": 2, "D": 3, "Q": 4})}
    for number in range(width):
        cells[f"i{number}"] = ("INV", {"A": 4, "Y": 10 + number})
        cells[f"r{number}"] = ("DFF", {"CK": 2, "D": 10 + number, "Q": 1000 + number})
    top = module(
        {
            "clk": ("input", [2]),
            "d": ("input", [3]),
            "y": ("output", [1000 + number for number in range(width)]),
        },
        cells,
        {"s": [4]},
    )
    return from_json({"modules": {"top": top}}, "top", outputs(library))


def _readers(netlist, library):
    count: dict[int, int] = {}
    for instance in netlist.instances:
        for pin, net in instance.pins.items():
            if library.cells[instance.cell].pins[pin].direction == "input":
                count[net] = count.get(net, 0) + 1
    return count


def _source_of(netlist, library, net):
    """Name of the cell that drives `net`, looking through buffers."""
    drivers = {
        i.pins[pin]: i for i in netlist.instances for pin in library.cells[i.cell].outputs
        if pin in i.pins
    }  # fmt: skip
    instance = drivers[net]
    while instance.cell == "BUF":
        instance = drivers[instance.pins["A"]]
    return instance.name


@pytest.mark.parametrize("width", [3, 4, 5, 17, 70])
def test_no_net_has_too_many_readers_and_none_is_lost(library, platform, width):
    netlist = _wide(library, width)
    constraints = Constraints(clock="clk", period_ns=20.0)
    report = repair(netlist, library, platform, constraints)
    assert max(_readers(netlist, library).values()) <= 4
    for instance in netlist.instances:
        if instance.name.startswith("i"):
            assert _source_of(netlist, library, instance.pins["A"]) == "source"
    timing = Timing(netlist, library, platform, constraints)
    timing.update()
    loads = timing.load[timing.out_net].max(axis=1)
    limit = timing.pin_limit[timing.first_pin[timing.kind[timing.out_instance]] + timing.out_pin]
    assert (loads <= limit).all()
    # width + 1 registers in groups of four: all of them through clock buffers.
    assert (
        len(report.clock_buffers) >= -(-(width + 1) // 4)
        if width > 3
        else not (report.clock_buffers)
    )


def test_clock_buffers_are_in_the_clock_network(library, platform):
    netlist = _wide(library, 20)
    constraints = Constraints(clock="clk", period_ns=20.0)
    names = add_clock_tree(netlist, library, platform, constraints)
    timing = Timing(netlist, library, platform, constraints)
    assert {netlist.instances[i].name for i in timing.clock_cells} == set(names)
    assert len(timing.clock_sinks) == 21


def test_constants_get_tie_cells(library, platform):
    top = module(
        {"clk": ("input", [2]), "y": ("output", [3, 4, "1"])},
        {"g": ("NAND2", {"A": "1", "B": 2, "Y": 3}), "h": ("INV", {"A": "0", "Y": 4})},
    )
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    assert add_tie_cells(netlist, platform) == 3
    pins = [net for instance in netlist.instances for net in instance.pins.values()]
    assert LOW not in pins and HIGH not in pins
    assert netlist.cells()["TIE1"] == 2 and netlist.cells()["TIE0"] == 1


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
        report = repair(netlist, library, platform, Constraints(clock="clk", period_ns=period))
        return {i.name: i.cell for i in netlist.instances if i.name in "ab"}, report

    relaxed, _ = inverters(20.0)
    assert relaxed == {"a": "INV", "b": "INV"}
    tight, report = inverters(0.5)
    assert "INV4" in tight.values()
    assert report.slack_after >= report.slack_before
