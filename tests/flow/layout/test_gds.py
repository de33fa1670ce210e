"""Merged GDS: cells come from their GDS, checks fail on what is missing, bytes are repeatable."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.layout.gds import write_gds
from halut.errors import CheckFailed, HalutError
from tests.flow.layout_support import DEF, LEF, write

db = pytest.importorskip(
    "klayout.db", reason="klayout is not installed (pip install -e .[flow])", exc_type=ImportError
)

# The outline of the cells on 1/0, and what the wires' layers are.
TECHNOLOGY = """<?xml version="1.0" encoding="utf-8"?>
<technology>
 <name>tiny</name>
 <dbu>0.001</dbu>
 <reader-options>
  <lefdef>
   <read-all-layers>true</read-all-layers>
   <layer-map>layer_map('DIE : 99/0';'M1 : 11/0';'M2 : 13/0';'V1 : 12/0')</layer-map>
   <cell-outline-layer>DIE</cell-outline-layer>
   <produce-cell-outlines>true</produce-cell-outlines>
  </lefdef>
 </reader-options>
</technology>
"""
SIZES = {"BUF": 2, "DFF": 4, "FILL": 1}


def _library(path: Path, empty: str = "", without: str = "", dbu: float = 0.0005) -> Path:
    layout = db.Layout()
    layout.dbu = dbu
    layer = layout.layer(1, 0)
    for name, width in SIZES.items():
        if name != without:
            cell = layout.create_cell(name)
            if name != empty:
                cell.shapes(layer).insert(db.DBox(0, 0, width, 2))
    layout.write(str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict:
    def_file, lef_file = write(tmp_path)
    technology = tmp_path / "tiny.lyt"
    technology.write_text(TECHNOLOGY)
    return {
        "def_file": def_file,
        "lef_files": [lef_file],
        "gds_files": [_library(tmp_path / "cells.gds")],
        "path": tmp_path / "out" / "small.gds",
        "technology": technology,
    }


def test_merged(files: dict) -> None:
    found = write_gds(**files)
    assert found.cells == {"BUF": 1, "DFF": 3, "FILL": 1}
    assert found.die_um == (0, 0, 20, 10)
    layout = db.Layout()
    layout.read(str(found.path))
    assert layout.dbu == 0.0005
    top = layout.top_cell()
    assert top.name == found.top == "small"

    def area(layer: int) -> float:
        return db.Region(top.begin_shapes_rec(layout.find_layer(layer, 0))).area() * layout.dbu**2

    assert area(1) == pytest.approx(3 * 8 + 4 + 2)
    assert area(99) == pytest.approx(200)
    # The turned cell: 4 by 2 has become 2 by 4.
    boxes = {instance.dbbox().to_s() for instance in top.each_inst()}
    assert "(18,0;20,4)" in boxes
    for wires in (11, 12, 13):
        assert area(wires) > 0


def test_same_bytes(files: dict, tmp_path: Path) -> None:
    first = write_gds(**files).path.read_bytes()
    second = write_gds(**{**files, "path": tmp_path / "again.gds"}).path.read_bytes()
    assert first == second


@pytest.mark.parametrize("how", [{"empty": "FILL"}, {"without": "FILL"}])
def test_cell_without_geometry(files: dict, tmp_path: Path, how: dict) -> None:
    files["gds_files"] = [_library(tmp_path / "less.gds", **how)]
    with pytest.raises(
        CheckFailed, match="every cell must have geometry in the GDS, not none: FIL"
    ):
        write_gds(**files)
    assert not files["path"].exists()


def test_a_cell_that_has_no_layout_is_drawn_from_its_lef(files: dict, tmp_path: Path) -> None:
    whole, own = files["lef_files"][0], tmp_path / "buf.lef"
    start, end = LEF.index("MACRO BUF"), LEF.index("MACRO DFF")
    whole.write_text(LEF[:start] + LEF[end:])
    own.write_text(f"VERSION 5.8 ;\n{LEF[start:end]}END LIBRARY\n")
    files |= {
        "lef_files": [whole, own],
        "gds_files": [_library(tmp_path / "less.gds", without="BUF")],
    }
    with pytest.raises(CheckFailed, match="must have geometry in the GDS, not none: BUF"):
        write_gds(**files)
    write_gds(**files, lef_cells=[own])
    layout = db.Layout()
    layout.read(str(files["path"]))
    assert layout.cell("BUF").dbbox().to_s() == "(0,0;2,2)"
    shapes = [
        shape.dbbox().to_s()
        for layer in layout.layer_indexes()
        for shape in layout.cell("BUF").each_shape(layer)
    ]
    assert "(0.2,0.9;0.6,1.1)" in shapes


def test_outline_must_be_the_die(files: dict) -> None:
    # KLayout reads the last DIEAREA, and a wrong one must not go unnoticed.
    text = DEF.replace("COMPONENTS 5 ;", "DIEAREA ( 0 0 ) ( 20000 12000 ) ;\nCOMPONENTS 5 ;")
    files["def_file"].write_text(text)
    with pytest.raises(CheckFailed, match="outline of small must be DIEAREA"):
        write_gds(**files)
    assert not files["path"].exists()


def test_bad_files(files: dict, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("this is no layout")
    for name, value, message in (
        ("def_file", rubbish, "DEF must have DESIGN"),
        ("gds_files", [rubbish], "GDS must be readable"),
        ("gds_files", [], "must be given and have one database unit"),
        ("technology", rubbish, "must be a KLayout .lyt file"),
        ("technology", tmp_path / "none.lyt", "must be a KLayout .lyt file"),
        ("lef_files", [tmp_path / "none.lef"], "LEF must be a readable text file"),
    ):
        with pytest.raises(HalutError, match=message):
            write_gds(**{**files, name: value})
    other = _library(tmp_path / "other.gds", dbu=0.001)
    with pytest.raises(HalutError, match="one database unit"):
        write_gds(**{**files, "gds_files": [*files["gds_files"], other]})
    assert not files["path"].exists()


def test_cell_that_the_lef_lacks(files: dict) -> None:
    files["lef_files"][0].write_text(LEF.replace("MACRO FILL", "MACRO FULL").replace(
        "END FILL", "END FULL"))  # fmt: skip
    with pytest.raises(HalutError, match="every cell must be in the LEF, not FILL"):
        write_gds(**files)
