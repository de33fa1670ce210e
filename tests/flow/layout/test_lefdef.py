"""Reading LEF and DEF: every number checked by hand, every mistake one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.layout.lefdef import PlacedDesign, read_def, read_lef, read_net_lengths
from halut.errors import HalutError
from tests.flow.layout_support import DEF, LEF, write


def read(folder: Path, lef: str = LEF, layout: str = DEF) -> PlacedDesign:
    def_file, lef_file = write(folder, lef, layout)
    return read_def(def_file, read_lef([lef_file]))


def test_lef(tmp_path: Path) -> None:
    lef = read_lef([write(tmp_path)[1]])
    assert lef.layers == {"M1": 0.2, "M2": 0.4}
    assert list(lef.macros) == ["BUF", "DFF", "FILL"]
    assert (lef.macros["DFF"].width, lef.macros["DFF"].height) == (4.0, 2.0)
    assert [macro.is_fill for macro in lef.macros.values()] == [False, False, True]


def test_cells(tmp_path: Path) -> None:
    design = read(tmp_path)
    assert design.name == "small"
    assert design.die.tolist() == [0, 0, 20, 10]
    assert design.instances == ["word[0]", "word[1]", "clkbuf_0", "turned", "FILLER_0"]
    # East is turned by 90 degrees: 4 by 2 becomes 2 by 4.
    assert design.boxes.tolist() == [
        [0, 0, 4, 2],
        [6, 2, 10, 4],
        [10, 4, 12, 6],
        [18, 0, 20, 4],
        [4, 0, 5, 2],
    ]


def test_wires(tmp_path: Path) -> None:
    design = read(tmp_path)
    assert design.lengths == {"M1": 10.0 + 4.0, "M2": 5.0 + 4.0}
    # Half a width beyond the point, unless the point says how far.
    np.testing.assert_allclose(
        design.wires["M1"], [[0.9, 0.9, 11.1, 1.1], [2.9, 1.4, 7.1, 1.6]], atol=1e-12
    )
    np.testing.assert_allclose(
        design.wires["M2"], [[10.0, 5.0, 10.4, 10.0], [10.8, 0.8, 11.2, 5.1]], atol=1e-12
    )
    np.testing.assert_allclose(design.clock["M1"], design.wires["M1"][:1])
    np.testing.assert_allclose(design.clock["M2"], design.wires["M2"])
    assert set(design.supply) == {"M1"}
    np.testing.assert_allclose(design.supply["M1"], [[0, -0.3, 20, 0.3]], atol=1e-12)


@pytest.mark.parametrize(
    "via",
    [
        "via1",
        "own + VIARULE Array + CUTSIZE 50 50 + LAYERS M1 V1 M2 + ROWCOL 1 2",
        "own + RECT M1 ( -1 -1 ) ( 1 1 ) + RECT V1 ( 0 0 ) ( 1 1 ) + RECT M2 ( -1 -1 ) ( 1 1 )",
    ],
)
def test_a_path_goes_on_in_the_layer_behind_its_via(via: str, tmp_path: Path) -> None:
    name = via.split()[0]
    text = DEF.replace(
        "+ ROUTED M1 ( 3000 1500 ) RECT ( -70 -70 70 140 )",
        f"+ ROUTED M1 ( 3000 1500 ) ( 8000 * ) {name} ( * 4500 ) {name} ( 6000 * )",
    )
    assert text != DEF
    if name == "own":
        text = text.replace(
            "COMPONENTS 5 ;", f"VIAS 1 ;\n    - {via} ;\nEND VIAS\nCOMPONENTS 5 ;", 1
        )
    def_file, lef_file = write(tmp_path, layout=text)
    lef = read_lef([lef_file])
    design = read_def(def_file, lef)
    assert design.net_lengths["data"] == {"M1": 5.0 + 2.0 + 4.0, "M2": 3.0}
    assert design.lengths == {"M1": 10.0 + 11.0, "M2": 5.0 + 4.0 + 3.0}
    assert read_net_lengths(def_file, lef) == design.net_lengths
    # As wide as wires there are: 0.4 um.
    assert [7.8, 1.3, 8.2, 4.7] in np.round(design.wires["M2"], 9).tolist()


def test_clock_nets(tmp_path: Path) -> None:
    leaf = ["clkbuf_0", "word[0]", "word[1]", "turned"]
    assert read(tmp_path).clock_nets == {"clk": ["clkbuf_0"], "leaf": leaf}
    def_file, lef_file = write(tmp_path, layout=DEF.replace("USE CLOCK", "USE SIGNAL"))
    lef = read_lef([lef_file])
    assert read_def(def_file, lef).clock_nets == {}
    assert read_def(def_file, lef, ["leaf"]).clock_nets == {"leaf": leaf}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DESIGN small ;", "", "must have DESIGN"),
        ("MICRONS 1000", "MICRONS 0", "must have UNITS"),
        ("( 20000 10000 )", "( 20000 0 )", "DIEAREA must be an area"),
        ("END COMPONENTS", "", "must hold 5 COMPONENTS, not 0"),
        ("COMPONENTS 5", "COMPONENTS 6", "must hold 6 COMPONENTS, not 5"),
        ("+ FIXED ( 18000 0 ) E", "+ UNPLACED", "must be placed, not turned"),
        ("clkbuf_0 BUF", "clkbuf_0 BUFF", r'in the LEF, not BUFF \(did you mean "BUF"'),
        ("NEW M2 ( 11000", "NEW M3 ( 11000", "a routing layer of the LEF, not M3"),
        ("( * 5000 0 )", "( * half 0 )", "as in the DEF language"),
        ("( * 5000 0 )", "( * 5000", "as in the DEF language"),
    ],
)
def test_bad_def(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert DEF.count(old) >= 1
    with pytest.raises(HalutError, match=message):
        read(tmp_path, layout=DEF.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SIZE 4 BY 2 ;", "", "must have a SIZE, not none: DFF"),
        ("MACRO", "MICRO", "must hold cells"),
        ("TYPE ROUTING", "TYPE CUT", "must hold routing layers"),
    ],
)
def test_bad_lef(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        read(tmp_path, lef=LEF.replace(old, new))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HalutError, match="must be a readable text file"):
        read_lef([tmp_path / "none.lef"])
