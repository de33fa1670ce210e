import pytest

from flow.netlist.netlist import HIGH, LOW, from_json
from flow.repair.buffers import add_clock_tree, add_tie_cells, buffer_slow_nets
from flow.repair.repair import repair
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
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
    names = add_clock_tree(Timing(netlist, library, platform, constraints))
    timing = Timing(netlist, library, platform, constraints)
    assert {netlist.instances[i].name for i in timing.clock_cells} == set(names)
    registers = [i for i in netlist.instances if i.cell == "DFF"]
    assert len(registers) == 21 and all(i.pins["CK"] in timing.clock_nets for i in registers)


def test_constants_get_tie_cells(library, platform):
    top = module(
        {"clk": ("input", [2]), "y": ("output", [3, 4, "1"])},
        {"g": ("NAND2", {"A": "1", "B": 2, "Y": 3}), "h": ("INV", {"A": "0", "Y": 4})},
    )
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    add_tie_cells(netlist, platform)
    pins = [net for instance in netlist.instances for net in instance.pins.values()]
    assert LOW not in pins and HIGH not in pins
    assert netlist.cells()["TIE1"] == 2 and netlist.cells()["TIE0"] == 1


def test_an_urgent_reader_is_freed_of_the_others(library, platform):
    """A register drives one long path and three large inverters with time to spare."""
    cells = {
        "source": ("DFF", {"CK": 2, "D": 3, "Q": 4}),
        "end": ("DFF", {"CK": 2, "D": 13, "Q": 20}),
    }
    for number in range(4):
        cells[f"path{number}"] = ("INV", {"A": 10 + number - 1 if number else 4, "Y": 10 + number})
    for number in range(3):
        cells[f"other{number}"] = ("INV4", {"A": 4, "Y": 30 + number})
        cells[f"r{number}"] = ("DFF", {"CK": 2, "D": 30 + number, "Q": 40 + number})
    ports = {"clk": ("input", [2]), "d": ("input", [3]), "y": ("output", [20, 40, 41, 42])}
    top = module(ports, cells, {"busy": [4]})
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    constraints = Constraints(clock="clk", period_ns=0.9)

    def worst() -> tuple[Timing, float]:
        timing = Timing(netlist, library, platform, constraints)
        timing.update()
        return timing, timing.worst_slack()

    timing, before = worst()
    assert buffer_slow_nets(timing, limit=0) == 0
    assert buffer_slow_nets(timing, limit=10) == 1
    busy = netlist.net_names.index("busy")
    readers = {i.name: i.cell for i in netlist.instances if busy in i.pins.values()}
    assert set(readers) - {"source", "path0"} == {n for n, c in readers.items() if c == "BUF"}
    # 3 · 4 fF less, one buffer's 1 fF more, at 0.01 ns per fF.
    assert worst()[1] == pytest.approx(before + 0.11)
