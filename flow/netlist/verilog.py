"""Structural Verilog, read back by Yosys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flow.netlist.netlist import Netlist, from_json
from flow.tools import Tool, plain_path, run_tool
from halut.files import write_text
from sim.simulators import plain_link

__all__ = ["read_verilog"]


def read_verilog(
    yosys: Tool,
    files: Sequence[Path],
    top: str,
    outputs: Mapping[str, Iterable[str]],
    folder: Path,
    names_found: dict[tuple[str, int], int] | None = None,
) -> Netlist:
    """Read a netlist of library cells.

    Parameters
    ----------
    files : sequence of Path
        Verilog; modules in them are dissolved.
    top, outputs, names_found
        As `from_json` takes them.
    folder : Path
        Where Yosys works; it leaves ``read.ys``, ``read.log`` and ``read.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = plain_link(folder)
    named = " ".join(str(plain_path(file)) for file in files)
    write_text(folder / "read.ys", f"read_verilog {named}\nwrite_json {plain / 'read.json'}\n")
    run_tool(yosys, [str(plain / "read.ys")], folder / "read.log", cwd=folder)
    return from_json(json.loads((folder / "read.json").read_text()), top, outputs, names_found)
