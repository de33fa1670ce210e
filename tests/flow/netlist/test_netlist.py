import pytest

from flow.netlist.netlist import HIGH, LOW, from_json
from halut.errors import HalutError
from tests.flow.support import chain, module, outputs, tiny_library


@pytest.fixture
def library(tmp_path):
    return tiny_library(tmp_path)


def test_hierarchy_is_dissolved_and_remembered(library):
    inner = module(
        {"i": ("input", [2]), "o": ("output", [3])},
        {"g": ("INV", {"A": 2, "Y": 3})},
    )
    top = module(
        {"a": ("input", [2, 3]), "y": ("output", [4, 5])},
        {"u0": ("inner", {"i": 2, "o": 4}), "u1": ("inner", {"i": 3, "o": 5})},
    )
    netlist = from_json({"modules": {"top": top, "inner": inner}}, "top", outputs(library))
    assert netlist.units == [("", "top"), ("u0", "inner"), ("u1", "inner")]
    assert [(i.name, i.cell, i.unit) for i in netlist.instances] == [
        ("u0__g", "INV", 1),
        ("u1__g", "INV", 2),
    ]
    assert netlist.instances[1].pins == {"A": netlist.ports[0].nets[1],
                                         "Y": netlist.ports[1].nets[1]}  # fmt: skip


def test_wires_and_constants_pass_through_modules(library):
    inner = module({"i": ("input", [2]), "o": ("output", [2]), "k": ("output", ["1"])}, {})
    top = module(
        {"a": ("input", [2]), "y": ("output", [5]), "k": ("output", [6])},
        {
            "u": ("inner", {"i": 2, "o": 3, "k": 4}),
            "g": ("NAND2", {"A": 3, "B": 4, "Y": 5}),
            "h": ("inner", {"i": "0", "o": 7, "k": 6}),
            "z": ("INV", {"A": 7, "Y": 8}),
        },
    )
    netlist = from_json({"modules": {"top": top, "inner": inner}}, "top", outputs(library))
    by_name = {instance.name: instance.pins for instance in netlist.instances}
    assert by_name["g"]["A"] == netlist.ports[0].nets[0]
    assert by_name["g"]["B"] == HIGH
    assert by_name["z"]["A"] == LOW
    assert netlist.ports[2].nets == [HIGH]
    text = netlist.verilog()
    assert "assign k = 1'b1;" in text and ".B(1'b1)" in text


def test_sweep_removes_what_nothing_depends_on(library):
    netlist = chain(library)
    unused = netlist.add_net("unused")
    netlist.add_instance("dead", "INV", {"A": netlist.ports[1].nets[0], "Y": unused})
    assert netlist.sweep(outputs(library)) == 1
    assert sorted(i.name for i in netlist.instances) == ["first", "invert", "join", "second"]


def test_names_are_plain_and_unique(library):
    netlist = chain(library)
    assert netlist.net_names[netlist.add_net("a")] == "a_2"
    assert netlist.net_names[netlist.add_net("a")] == "a_3"
    assert netlist.net_names[netlist.add_net("07")] == "n07"
    assert netlist.add_instance("clk", "INV", {}).name == "clk_2"
    text = netlist.verilog()
    assert "module top (" in text and "  INV invert (.A(a), .Y(na));" in text


def test_an_unknown_cell_is_an_error(library):
    top = module({"a": ("input", [2])}, {"g": ("$add", {"A": 2})})
    with pytest.raises(HalutError, match=r"library or a module, not \$add"):
        from_json({"modules": {"top": top}}, "top", outputs(library))


def test_clock_buffers_become_wires(library):
    netlist = chain(library)
    clock = netlist.ports[0].nets[0]
    first, second = netlist.add_net("clk_a"), netlist.add_net("clk_b")
    netlist.add_instance("root", "BUF", {"A": clock, "Y": first})
    netlist.add_instance("leaf", "BUF", {"A": first, "Y": second})
    for instance in netlist.instances:
        if instance.cell == "DFF":
            instance.pins["CK"] = second
    bare = netlist.without_buffers(["root", "leaf"], {"BUF": ("A", "Y")})
    assert [i.name for i in bare.instances] == ["first", "invert", "join", "second"]
    assert {i.pins["CK"] for i in bare.instances if i.cell == "DFF"} == {clock}
    assert len(netlist.instances) == 6
