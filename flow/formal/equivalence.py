"""Netlist = RTL: every output and every stored bit has the same function in both.

The RTL is read by Yosys on its own, without any of synthesis' optimisations, and dissolved into
one module. The netlist is the finished one: mapped, buffered and sized. A stored bit of the RTL is
found in the netlist by its name; the cell may hold it inverted, several bits of the RTL may share
a cell, and a bit may have become a constant. That they do is assumed of the bits before a clock
edge and proved of those after it. So from every state of the netlist there is one of the RTL that
gives the same outputs for ever.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from flow.cells.generic import generic_library
from flow.cells.liberty import Library
from flow.cells.platform_file import read_platform
from flow.formal.circuit import Circuit
from flow.formal.pair import Equivalence, Name, Pair
from flow.netlist.netlist import Netlist, from_json
from flow.tools import Tool, run_tool
from halut.errors import CheckFailed, HalutError
from halut.files import write_text

__all__ = ["prove_netlist", "read_rtl", "simple_cells"]

_SCRIPT = """\
read_verilog {source}
hierarchy -check -top {top}
proc
flatten
memory -nomap
memory_map
opt_clean
techmap
simplemap
dfflegalize -cell $_DFF_P_ x -cell $_DLATCH_P_ x -cell $_DLATCH_N_ x
opt_clean
write_json {json}
"""


def read_rtl(yosys: Tool, source: Path, top: str, folder: Path) -> tuple[Netlist, dict[Name, int]]:
    """Verilog as a netlist of Yosys' simplest cells, and the net of every name in it."""
    script, path = folder / "rtl.ys", folder / "rtl.json"
    # Relative names: a folder's name may have spaces, which Yosys' scripts have no quotes for.
    text = _SCRIPT.format(source=os.path.relpath(source, folder), top=top, json=path.name)
    write_text(script, text)
    run_tool(yosys, [script.name], folder / "rtl.log", cwd=folder)
    names: dict[Name, int] = {}
    netlist = from_json(json.loads(path.read_text()), top, _outputs(simple_cells()), names)
    path.unlink()
    return netlist, names


def simple_cells() -> Library:
    return generic_library(read_platform("generic"))


def _outputs(library: Library) -> dict[str, list[str]]:
    return {name: cell.outputs for name, cell in library.cells.items()}


def prove_netlist(
    abc: Tool,
    yosys: Tool,
    verilog: Path,
    mapped: Path,
    netlist: Netlist,
    library: Library,
    clock: str,
    folder: Path,
    timeout: float = 1800,
) -> Equivalence:
    """Compare a finished netlist with the RTL that it was made of.

    Parameters
    ----------
    verilog : Path
        The RTL.
    mapped : Path
        Yosys' netlist (JSON), which `netlist` was made of: it has the names of the registers.
    netlist : Netlist
        The one to prove; its nets are those of `mapped`, and more.
    clock : str
        The clock port; rising edges count.
    folder : Path
        Where both circuits (BLIF) and logs go.
    timeout : float
        Seconds for the solver.

    Returns
    -------
    Equivalence
        With a `difference` when they are not equivalent.

    Raises
    ------
    CheckFailed
        When the solver neither proves nor refutes it in time.
    HalutError
        When the two cannot be compared: other ports, storage that is not clocked by `clock`, or
        a stored bit in the netlist that has become something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rtl_netlist, rtl_names = read_rtl(yosys, verilog, netlist.top, folder)
    names: dict[Name, int] = {}
    design = json.loads(mapped.read_text())
    again = from_json(design, netlist.top, _outputs(library), names)
    if again.net_names != netlist.net_names[: len(again.net_names)]:
        raise HalutError(f"the netlist must be made of {mapped}, not of another one")
    pair = Pair(
        Circuit(rtl_netlist, simple_cells(), clock, "the RTL"),
        Circuit(netlist, library, clock, "the netlist"),
        rtl_names,
        names,
        {
            module: [n for n, port in item["ports"].items() if port["direction"] == "output"]
            for module, item in design["modules"].items()
        },
    )
    result = pair.result
    result.difference = pair.simulate() or pair.prove(abc, folder, timeout)
    if result.difference is not None and result.unused:
        lost = result.unused[0]
        more = f" and {len(result.unused) - 1} more" if len(result.unused) > 1 else ""
        raise CheckFailed(
            f"every stored bit that outputs depend on must have its name in the netlist, unlike "
            f"{lost}{more}: the mapping to this library lost them, so nothing is proved"
        )
    return result
