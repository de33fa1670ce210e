import pytest

from flow.netlist.netlist import from_json
from flow.timing.constraints import Constraints
from flow.timing.graph import Graph
from halut.errors import HalutError
from tests.flow.support import chain, module, outputs, tiny_library, tiny_platform

CLOCK = Constraints(clock="clk", period_ns=4.0)


@pytest.fixture
def library(tmp_path):
    return tiny_library(tmp_path)


@pytest.fixture
def platform(tmp_path):
    return tiny_platform(tmp_path)


def test_who_drives_and_who_reads(library, platform):
    graph = Graph(chain(library), library, platform, CLOCK)
    instances, names = graph.netlist.instances, graph.netlist.net_names
    first, invert, join, second = (
        next(i for i, instance in enumerate(instances) if instance.name.startswith(name))
        for name in ("first", "invert", "join", "second")
    )
    a, b, d = names.index("a"), names.index("b_"), names.index("d")
    assert graph.driver[a] == first and graph.driver[d] == join
    assert graph.driver[b] == -1 and graph.inputs.tolist() == [b]
    for net, reader, pin in ((a, invert, "A"), (d, second, "D")):
        assert graph.readers(graph.sinks(net)) == [(instances[reader], pin)]
    assert sorted(graph.sink_instance[graph.sinks(b)]) == sorted([first, join])
    # The inverter, then the gate behind it.
    assert graph.depth == 2
    assert set(graph.launch_instance) == {first, second}


def test_an_inverted_clock_launches_at_its_fall(library, platform):
    top = module(
        {"clk": ("input", [2]), "d": ("input", [3]), "y": ("output", [5])},
        {"turn": ("INV", {"A": 2, "Y": 4}), "bit": ("DFF", {"CK": 4, "D": 3, "Q": 5})},
        {"nclk": [4]},
    )
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    graph = Graph(netlist, library, platform, CLOCK)
    root, inverted = netlist.ports[0].nets[0], netlist.net_names.index("nclk")
    assert graph.clock_nets == {root: False, inverted: True}
    assert {netlist.instances[i].name for i in graph.clock_cells} == {"turn"}
    assert graph.launch_low.tolist() == [1, 1]
    # Nothing of the clock network is a path.
    assert not len(graph.arc_in)


def test_a_loop_is_an_error(library, platform):
    top = module(
        {"clk": ("input", [2]), "y": ("output", [3])},
        {"g": ("INV", {"A": 4, "Y": 3}), "h": ("INV", {"A": 3, "Y": 4})},
    )
    netlist = from_json({"modules": {"top": top}}, "top", outputs(library))
    with pytest.raises(HalutError, match="no combinational loop"):
        Graph(netlist, library, platform, CLOCK)


def test_the_clock_must_be_a_port(library, platform):
    with pytest.raises(HalutError, match="clock must be a port of top, not ck"):
        Graph(chain(library), library, platform, Constraints(clock="ck", period_ns=4.0))
