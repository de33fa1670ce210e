"""SRAM macros: which are taken, what their liberty files say, and what is refused."""

import dataclasses

import pytest

from flow.cells.liberty import load_libraries
from flow.cells.platform_file import read_platform
from flow.cells.sram import Arrangement, SramMacros, arrange
from halut.errors import HalutError
from tests.flow.sram_support import CELL, LIBERTY, MACROS, PINS, platform_with_macro

SIZES = {"narrow": (64, 8), "wide": (64, 32), "deep": (256, 32)}
AREAS = {"narrow": 30.0, "wide": 100.0, "deep": 280.0}


@pytest.mark.parametrize(
    ("words", "width", "expected"),
    [
        (64, 8, ("narrow", 1, 1)),
        (64, 32, ("wide", 1, 1)),  # four narrow ones are larger
        (64, 24, ("narrow", 3, 1)),
        (128, 32, ("wide", 1, 2)),
        (192, 32, ("deep", 1, 1)),
        (200, 64, ("deep", 2, 1)),
        (2, 1, ("narrow", 1, 1)),
    ],
)
def test_the_smallest_arrangement(words, width, expected):
    cell, across, deep = expected
    found = arrange(words, width, SIZES, AREAS)
    assert found == Arrangement(cell, *SIZES[cell], across, deep)
    assert found.n_macros == across * deep


def test_of_equal_areas_the_fewest_macros():
    assert arrange(64, 16, {"a": (64, 8), "b": (64, 16)}, {"a": 1.0, "b": 2.0}).cell == "b"


def test_a_macros_liberty_file(tmp_path):
    """A bus is a pin per bit; energies and times are the file's."""
    path = tmp_path / "m.lib"
    path.write_text(LIBERTY)
    cell = load_libraries([path]).cells[CELL]
    MACROS.check(cell)
    assert cell.kind == "sram" and cell.clock_pins == {"CK"}
    assert cell.outputs == [f"Q[{bit}]" for bit in range(8)]
    assert len(cell.inputs) == 3 + 4 + 8
    assert {arc.kind for arc in cell.pins["A[3]"].arcs} == {"setup_rising", "hold_rising"}
    assert cell.pins["CK"].power[0].rise.values == [[300.0]]
    assert cell.pins["Q[7]"].arcs[0].tables["cell_rise"].values == [[0.25]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lef": "a.lef", "power_layer": ""}, "power_layer must be a layer where there is a lef"),
        ({"macros": {}}, "macros must name at least one cell"),
        ({"macros": {"a": 3}}, r"macros\.a must be \[words, bits\], not 3"),
        ({"macros": {"a": [12, 8]}}, r"macros\.a must have a power of two of words, not 12"),
        ({"macros": {"a": [16, 1]}}, r"macros\.a, bits, must be at least 3, not 1"),
        ({"pins": {"clock": "CK"}}, "pins must have .*, not lack enable"),
        ({"pins": {**PINS, "chip": "C"}}, "pins must .*chip"),
        ({"inverted": ("clock",)}, "inverted must .*clock"),
    ],
)
def test_rules_of_the_platform_file(changed, message):
    with pytest.raises(HalutError, match=message):
        dataclasses.replace(MACROS, **changed)


def test_missing_files_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path))
    monkeypatch.setenv("FLOW_HOME", str(tmp_path / "flow"))
    platform = dataclasses.replace(read_platform("nangate45"), sram=MACROS)
    with pytest.raises(HalutError, match=r"must have lib/test_16x8\.lib .*set FLOW_HOME to"):
        platform.sram_library()
    with pytest.raises(HalutError, match="corner must be one of typ for SRAM macros, not slow"):
        platform.sram_library("slow")
    with pytest.raises(HalutError, match=r"must list macros .*, not generic"):
        read_platform("generic").sram_library()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"macros": {CELL: [32, 8]}}, r"pins\.address must be a pin of test_16x8, not A\[4\]"),
        ({"macros": {CELL: [16, 4]}}, "D of test_16x8 must have 4 bits, not more"),
        ({"pins": {**PINS, "enable": "CE"}}, r"pins\.enable must be a pin of test_16x8, not CE"),
    ],
)
def test_a_macro_that_is_not_what_the_platform_says(changed, message, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOW_HOME", str(tmp_path))
    macros: SramMacros = dataclasses.replace(MACROS, **changed)
    with pytest.raises(HalutError, match=message):
        platform_with_macro(tmp_path, macros).sram_library()
