"""A routed layout as one cell of a larger design: a hard macro, here called block.

``python -m flow pnr --abstract`` leaves what others see of a layout beside what is in it: outline,
pins and blockages (LEF), timing at its ports (Liberty), and its netlist with its wires (Verilog,
SPEF). A design with units of the same Verilog takes it with ``--block``. Layout and timing then
see the cell; simulation and power see what is in it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.cells.liberty import load_libraries
from flow.cells.library import Cell
from flow.netlist.netlist import Netlist
from flow.netlist.spef import net_capacitances
from flow.netlist.verilog import read_verilog
from flow.tools import Tool
from halut.checks import read_json
from halut.errors import HalutError

__all__ = ["Block", "read_block"]

FILES = ("abstract.lef", "abstract.lib", "final.v", "final.spef")
"""What a block is made of, in the folder of its layout."""


@dataclass(frozen=True)
class Block:
    """A routed layout and the cell that it is outside."""

    folder: Path  #: Of the layout.
    cell: Cell  #: Of kind ``block``; its area is that of the cells in it.
    library: str  #: Name of the library in its Liberty file.
    size: tuple[float, float]  #: Width and height, um.
    #: Of its run: the clock in ns, its `LayoutOptions`, its metrics, and its timing by corner
    #: (`flow.layout.corners.CornerTiming`).
    clock_ns: float
    options: dict[str, Any]
    metrics: dict[str, Any]
    corners: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """Of the cell and of the Verilog module."""
        return self.cell.name

    @property
    def lef(self) -> Path:
        return self.folder / "abstract.lef"

    def liberty(self, corner: str | None = None) -> Path:
        """Timing at the corner of the layout, or at another."""
        return self.folder / (f"abstract_{corner}.lib" if corner else "abstract.lib")

    @property
    def digest(self) -> str:
        """SHA-256 of its files."""
        files = (self.folder / name for name in FILES)
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def black_box(self) -> str:
        """A Verilog module with the block's ports and nothing in it."""
        ports = {}
        for pin in self.cell.pins.values():
            name, _, bit = pin.name.partition("[")
            span = f"[{bit[:-1]}:0] " if bit else ""
            ports[name] = f"{pin.direction} {span}{name}"  # bits come lowest first
        return f"(* blackbox *) module {self.name} (\n  {', '.join(ports.values())});\nendmodule\n"

    def look_into(
        self, yosys: Tool, verilog: Path, top: str, outputs: dict[str, list[str]], folder: Path
    ) -> tuple[Netlist, np.ndarray]:
        """The netlist of a design with the blocks' contents in place.

        Parameters
        ----------
        verilog : Path
            The design, of library cells and blocks.
        outputs : dict of str to list of str
            Output pins of the library's cells; the block's own are not looked at.
        folder : Path
            Where Yosys works.

        Returns
        -------
        netlist : Netlist
        wires : ndarray
            Capacitance of the blocks' own wires on each of its nets, fF.
        """
        cells = {name: pins for name, pins in outputs.items() if name != self.name}
        files = (verilog, self.folder / "final.v")
        found: dict[tuple[str, int], int] = {}
        netlist = read_verilog(yosys, files, top, cells, folder, found)
        wires = np.zeros(len(netlist.net_names))
        capacitances = [
            (*_name_and_bit(name), value)
            for name, value in net_capacitances(self.folder / "final.spef").items()
        ]
        for path, module in netlist.units:
            if module == self.name:
                for name, bit, value in capacitances:
                    net = found.get((f"{path}.{name}", bit))
                    if net is None:
                        raise HalutError(
                            f"a block's SPEF must have nets of its netlist, not {name} "
                            f"({self.folder / 'final.spef'})"
                        )
                    if net >= 0:
                        wires[net] += value
        return netlist, wires


def _name_and_bit(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, 0)


def read_block(folder: str | Path, verilog: str, platform: str, corner: str, cache: Path) -> Block:
    """Read a routed layout for a design.

    Parameters
    ----------
    folder : str or Path
        Of the layout: ``pnr`` in the folder of a run.
    verilog : str
        The design: it must have the module that was laid out, and all modules in it.
    platform, corner : str
        Of the design; the layout must be of the same.

    Raises
    ------
    HalutError
        When the folder holds no such layout, or it is not of the design.
    """
    folder = Path(folder).resolve()
    run = folder.parent
    needed = [*(folder / name for name in FILES), run / "rtl.v", run / "metrics.json"]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise HalutError(
            "--block must be the folder pnr of a routed run with --abstract, not one without "
            f"{missing[0].name} ({folder})"
        )
    record = read_json(run / "metrics.json", "metrics")
    provenance = record["provenance"]
    if "layout" not in provenance:
        raise HalutError(
            "--block must be a layout with its own metrics.json, not with that of a later run "
            f"without layout ({run})"
        )
    for what, wanted in (("platform", platform), ("corner", corner)):
        if provenance[what] != wanted:
            raise HalutError(
                f"--block must be of {what} {wanted}, not {provenance[what]} ({folder})"
            )
    library = load_libraries([folder / "abstract.lib"], cache)
    (cell,) = library.cells.values()
    own, there = (_modules(text) for text in ((run / "rtl.v").read_text(), verilog))
    for name, text in own.items():
        if there.get(name) != text:
            state = "another" if name in there else "no"
            raise HalutError(
                f"--block must be a unit of the design, not one with {state} module {name} there "
                f"({folder})"
            )
    cell.kind = "block"
    cell.state = {"clock": next(pin.name for pin in cell.pins.values() if pin.clock)}
    cell.area = record["metrics"]["finish__design__instance__area__stdcell"]
    size = re.search(
        r"^\s*SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", (folder / "abstract.lef").read_text(), re.M
    )
    if size is None:
        raise HalutError(f"a block's LEF must have a SIZE ({folder / 'abstract.lef'})")
    return Block(
        folder=folder,
        cell=cell,
        library=library.cell_library[cell.name],
        size=(float(size[1]), float(size[2])),
        clock_ns=provenance["clock_ns"],
        options=provenance["layout"]["options"],
        metrics=record["metrics"],
        corners=record["notes"].get("corners", {}),
    )


def _modules(verilog: str) -> dict[str, str]:
    """The text of every module."""
    return {
        found[1]: found[0]
        for found in re.finditer(r"^module (\w+).*?^endmodule", verilog, re.M | re.S)
    }
