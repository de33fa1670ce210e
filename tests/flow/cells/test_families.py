from flow.cells.families import families
from tests.flow.support import tiny_library


def test_sizes_of_a_cell(tmp_path):
    library = tiny_library(tmp_path)
    assert families(library, set(library.cells))["INV"] == ["INV", "INV4"]
    assert families(library, {"INV", "NAND2"})["INV4"] == ["INV"]
    # Same pins, other function.
    assert families(library, set(library.cells))["BUF"] == ["BUF"]
