"""From Verilog to the finished netlist, and the proof that they are equal."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from flow.formal.equivalence import prove_netlist
from flow.netlist.netlist import Netlist, from_json
from flow.netlist.sram import sram_modules
from flow.netlist.yosys import synthesise
from flow.repair.repair import RepairReport, repair
from flow.run.context import Run
from halut.errors import CheckFailed, HalutError
from halut.files import write_text
from sim.estimate import check_size

__all__ = ["Finished", "Mapped", "Proof", "finish", "map_design", "mapped_files", "prove"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mapped:
    """Yosys' netlists."""

    adders: tuple[str, ...]  #: Kinds of adder, the smallest first; one netlist each.


@dataclass(frozen=True)
class Finished:
    """The netlist of cells with buffers and sizes."""

    adder: str  #: The kind that was taken.
    swept: int  #: Cells removed because nothing reads them.
    repair: RepairReport  #: Empty for a platform without a library.

    @property
    def clock_buffers(self) -> list[str]:
        """Instances in the clock network."""
        return self.repair.clock_buffers


@dataclass(frozen=True)
class Proof:
    """What was proved equal."""

    #: Bits.
    outputs: int
    registers: int
    latches: int
    abc: str  #: Version of the solver.


def _mapped(run: Run, adder: str) -> Path:
    return run.folder / "yosys" / adder / "netlist.json"


def mapped_files(run: Run) -> list[Path]:
    """Yosys' netlists, one per kind of adder."""
    return [_mapped(run, options.adder) for options in run.options.synth.candidates]


def map_design(run: Run) -> Mapped:
    """Have Yosys map the design, once per kind of adder."""
    check_size(run.design.verilog, run.design.top, "map it to cells")
    source = run.folder / "rtl.v"
    write_text(source, run.design.verilog)
    library = run.library if run.platform.has_library else None
    replacements = []
    if run.srams:
        assert run.platform.sram is not None
        replacements.append(run.folder / "sram.v")
        write_text(replacements[0], sram_modules(run.srams, run.platform.sram))
    if run.block is not None:
        replacements.append(run.folder / "block.v")
        write_text(replacements[-1], run.block.black_box())
    candidates = run.options.synth.candidates
    for options in candidates:
        synthesise(
            run.tools.yosys,
            [source],
            run.design.top,
            _mapped(run, options.adder).parent,
            run.platform,
            library,
            options,
            run.target,
            replacements,
        )
    return Mapped(tuple(options.adder for options in candidates))


def finish(run: Run, mapped: Mapped) -> Finished:
    """Buffer and size the first netlist that meets the target, else the fastest."""
    best: tuple[float, Netlist, Finished] | None = None
    for adder in mapped.adders:
        data = json.loads(_mapped(run, adder).read_text())
        netlist = from_json(data, run.design.top, run.outputs)
        swept = netlist.sweep(run.outputs)
        report = RepairReport()
        if run.platform.has_library:
            report = repair(netlist, run.library, run.platform, run.constraints(run.target))
        slack = report.slack_after
        log.debug("%s adders: slack %.4f ns", adder, slack)
        if best is None or slack > best[0]:
            best = (slack, netlist, Finished(adder, swept, report))
        if slack >= 0:
            break
    if best is None:
        raise HalutError("adder must name at least one kind")
    _, netlist, result = best
    run.keep(netlist)
    return result


def prove(run: Run, finished: Finished) -> Proof:
    """Compare the finished netlist with the RTL.

    Raises
    ------
    CheckFailed
        When they differ; says where.
    """
    folder = run.folder / "proof"
    found = prove_netlist(
        run.abc,
        run.tools.yosys,
        run.folder / "rtl.v",
        _mapped(run, finished.adder),
        run.netlist,
        run.library,
        run.design.clock,
        folder,
    )
    if found.difference is not None:
        write_text(folder / "difference.txt", found.difference.text)
        raise CheckFailed(
            f"the netlist must equal the RTL, not differ in {found.difference} "
            f"(values: {folder / 'difference.txt'})"
        )
    return Proof(found.outputs, found.registers, found.latches, run.abc.version)
