"""The routed netlist: units of its cells, and its wires."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.layout.routed import layout_unit, wire_capacitance
from flow.netlist.netlist import Netlist, Port
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from halut.errors import HalutError
from tests.flow import support

SPEF = """*SPEF "ieee 1481-1999"
*C_UNIT 1 PF
*NAME_MAP
*1 n1
*2 data\\[0\\]
*PORTS
data\\[0\\] I
*D_NET *1 0.0025
*CAP
1 *1:1 0.0025
*END
*D_NET *2 0.004
*END
"""


def test_wire_capacitance(tmp_path: Path) -> None:
    path = tmp_path / "a.spef"
    path.write_text(SPEF)
    netlist = Netlist("top", [Port("data", "input", [1])], ["n1", "d0", "n2"], [], [("", "top")])
    assert wire_capacitance(path, netlist).tolist() == [2.5, 4.0, 0.0]
    path.write_text(SPEF.replace("*C_UNIT 1 PF", "*C_UNIT 1 X"))
    with pytest.raises(HalutError, match="must have \\*C_UNIT"):
        wire_capacitance(path, netlist)
    path.write_text(SPEF.replace("D_NET", "E_NET"))
    with pytest.raises(HalutError, match="must be of this netlist"):
        wire_capacitance(path, netlist)


def test_wires_make_it_slower(tmp_path: Path) -> None:
    platform, library = support.tiny_platform(tmp_path), support.tiny_library(tmp_path)
    netlist = support.chain(library)
    constraints = Constraints(clock="clk", period_ns=2)
    bare = Timing(netlist, library, platform, constraints)
    wires = np.full(len(netlist.net_names), 3.0)
    wired = Timing(netlist, library, platform, constraints, wires)
    for timing in (bare, wired):
        timing.update()
    # Three gates in a row, 0.01 ns per fF each, 3 fF more on each net.
    assert np.isclose(wired.end_slack().min(), bare.end_slack().min() - 0.09)


def test_kinds_of_cells_that_place_and_route_added() -> None:
    known = {"block0_u": "decoder"}
    assert layout_unit("block0_u", known) == "decoder"
    assert layout_unit("block0_u_clone1", known) == "decoder"
    assert layout_unit("clkbuf_leaf_3_clk", known) == "clock tree"
    assert layout_unit("hold12", known) == "wire buffers"
