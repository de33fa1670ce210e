"""Proofs about whole accelerators: accumulators are wide enough, and netlist = RTL."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.formal.equivalence import prove_netlist, simple_cells
from flow.formal.pair import Equivalence
from flow.formal.prove import Outcome
from flow.netlist.netlist import Netlist, from_json
from flow.netlist.yosys import SynthOptions, synthesise
from flow.tools import Tool
from halut.files import write_text
from rtl_gen.config import MAX_CODEBOOKS, AcceleratorConfig

__all__ = ["BoundCheck", "NetlistCheck", "prove_bound", "prove_mapped"]

_TARGET_NS = 6.0  # Yosys' gates have no delays: any period gives the same netlist


@dataclass(frozen=True)
class BoundCheck:
    """Accumulators hold every sum of C entries, for every C and every width of an entry."""

    name: str = "bound"


def _overflows(n_codebooks: int, lut_bits: int, acc_bits: int) -> bool:
    """Whether the least or the greatest sum is beyond a signed number of `acc_bits`."""
    least = -n_codebooks << (lut_bits - 1)
    greatest = n_codebooks * ((1 << (lut_bits - 1)) - 1)
    return least < -1 << (acc_bits - 1) or greatest > (1 << (acc_bits - 1)) - 1


def prove_bound(check: BoundCheck) -> list[Outcome]:
    """Count through all configurations: two numbers decide each; the twin is a bit narrower."""
    bits = {
        (c, b): AcceleratorConfig(n_codebooks=c, lut_bits=b).accumulator_bits
        for c in range(1, MAX_CODEBOOKS + 1)
        for b in range(2, 17)
    }
    wrong = [key for key, acc in bits.items() if _overflows(*key, acc)]
    twin = any(_overflows(*key, acc - 1) for key, acc in bits.items())
    says = f"no sum overflows, for {MAX_CODEBOOKS} numbers of codebooks and entries of 2 to 16 bits"
    example = f"{wrong[0][0]} codebooks, entries of {wrong[0][1]} bits" if wrong else ""
    return [Outcome(check.name, "width", says, not wrong, twin, example)]


@dataclass(frozen=True)
class NetlistCheck:
    """A configuration whose netlist of Yosys' gates must equal its RTL."""

    name: str
    config: AcceleratorConfig


def prove_mapped(
    check: NetlistCheck, yosys: Tool, abc: Tool, folder: Path, timeout: float = 120
) -> list[Outcome]:
    """Synthesise, prove, and refute a netlist in which one gate lost its inversion."""
    design, platform, library = accelerator(check.config), read_platform("generic"), simple_cells()
    outputs = {name: cell.outputs for name, cell in library.cells.items()}
    folder = folder / check.name
    source = folder / "rtl.v"
    write_text(source, design.verilog)
    mapped = synthesise(
        yosys, [source], design.top, folder, platform, None, SynthOptions(), _TARGET_NS
    )
    netlist = from_json(json.loads(mapped.read_text()), design.top, outputs)
    netlist.sweep(outputs)
    broken = copy.deepcopy(netlist)
    next(cell for cell in broken.instances if cell.cell == "$_NAND_").cell = "$_AND_"

    def prove(netlist: Netlist) -> Equivalence:
        return prove_netlist(
            abc, yosys, source, mapped, netlist, library, design.clock, folder / "proof", timeout
        )

    found, twin = prove(netlist), prove(broken)
    says = (
        f"netlist = RTL for {found.outputs} output bits, {found.registers} registers and "
        f"{found.latches} latches"
    )
    example = found.difference.text if found.difference else ""
    return [Outcome(check.name, "equal", says, not example, twin.difference is not None, example)]
