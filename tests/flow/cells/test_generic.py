from flow.cells.generic import generic_library
from flow.cells.platform_file import read_platform


def test_generic_gates_have_functions_and_unit_delay():
    library = generic_library(read_platform("generic"))
    assert library.cells["$_NAND_"].area == 1
    assert library.cells["$_DFF_P_"].kind == "ff"
    assert library.cells["halut_clock_gate"].kind == "clock_gate"
    arcs = library.cells["$_MUX_"].pins["Y"].arcs
    assert [arc.related for arc in arcs] == ["A", "B", "S"]
