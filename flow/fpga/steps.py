"""The steps of an FPGA's flow: Verilog is mapped by Yosys, placed and routed by nextpnr, packed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow.figures.metrics import Metrics
from flow.fpga.adders import ADDERS, open_carry_ends
from flow.fpga.block_rams import (
    EXCLUSIVE_PORTS,
    LIST_MEMORIES,
    block_ram_commands,
    read_memories,
    use_output_registers,
)
from flow.fpga.netlist import change_netlist
from flow.fpga.parts import Part
from flow.fpga.tools import find_fpga_tool
from flow.run.step_cache import StepCache
from flow.tools import find_yosys, run_tool
from flow.tools.tool import Tool
from halut.checks import integer_in, read_json
from halut.errors import CheckFailed, HalutError
from halut.files import locked, write_text
from rtl_gen.settings import check_settings, setting

__all__ = ["FpgaOptions", "Implemented", "Sources", "run_steps", "set_resources"]


@dataclass(frozen=True, kw_only=True)
class FpgaOptions:
    """How to implement a design.

    Parameters
    ----------
    clock_ns : float, optional
        Period that is asked for, ns; the board's, or 10.
    seed : int
        Of placement, and of the self-test's workload.
    multipliers : bool
        Whether products may go into the part's multipliers.
    wide_luts : bool
        Whether multiplexers may join LUTs to larger ones; ECP5 only.
    block_rams : int, optional
        How many of the part's block RAMs may be used, all if None; SRAMs beyond them are made of
        LUTs. ECP5 only.
    """

    clock_ns: float | None = setting(
        None, "--clock-ns", "clock period in ns that is asked for", parse=float, metavar="NS",
        derived="the board's, else 10", within=(0.1, 1e5),
    )  # fmt: skip
    seed: int = setting(1, "--seed", "seed of placement and of the self-test", within=(1, 2**31))
    multipliers: bool = setting(
        True, "--multipliers", "let products go into the part's multipliers"
    )
    wide_luts: bool = setting(
        True, "--wide-luts", "let multiplexers join LUTs to larger ones (ECP5)"
    )
    block_rams: int | None = setting(
        None, "--block-rams", "block RAMs that may be used; SRAMs beyond are made of LUTs (ECP5)",
        derived="all of the part",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)

    def block_rams_of(self, part: Part) -> int:
        """How many block RAMs of a part may be used."""
        return part.block_rams if self.block_rams is None else self.block_rams

    def check_part(self, part: Part) -> None:
        """Check that a part can be given these options.

        Raises
        ------
        HalutError
            When it cannot.
        """
        if not self.wide_luts and not part.family.narrow_luts:
            raise HalutError(f"--no-wide-luts must be left out for {part.name}: it is for ECP5")
        if self.block_rams is None:
            return
        if not part.family.block_ram_shapes:
            raise HalutError(f"--block-rams must be left out for {part.name}: it is for ECP5")
        integer_in(f"--block-rams for {part.name}", self.block_rams, 0, part.block_rams)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What Yosys reads.

    Attributes
    ----------
    files : mapping of str to str
        Verilog, and files that it reads, by name.
    reads : sequence of str
        Yosys' commands that read the Verilog.
    top : str
        Name of the top module.
    """

    files: Mapping[str, str]
    reads: Sequence[str]
    top: str

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of all of it."""
        parts = [*self.reads, self.top, *(f"{name}\t{text}" for name, text in self.files.items())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def verilog(self) -> str:
        """All Verilog."""
        return "".join(text for name, text in self.files.items() if name.endswith(".v"))


@dataclass(frozen=True)
class _Placed:
    """What nextpnr reports."""

    mhz: float
    used: dict[str, int]
    available: dict[str, int]


@dataclass(frozen=True)
class _Written:
    """A file that a step leaves."""

    file: str


@dataclass(frozen=True, kw_only=True)
class Implemented:
    """A design on a part.

    Attributes
    ----------
    mhz : float
        The slowest clock's frequency, MHz.
    used, available : dict of str to int
        Cells by nextpnr's names.
    tools : dict of str to str
        Versions.
    seconds : dict of str to float
        Of each step.
    """

    mhz: float
    used: dict[str, int]
    available: dict[str, int]
    tools: dict[str, str]
    seconds: dict[str, float]


def run_steps(
    sources: Sources,
    part: Part,
    clock_ns: float,
    options: FpgaOptions,
    folder: Path,
    *,
    pins: str | None,
    bitstream: bool,
) -> Implemented:
    """Map, place and route; steps that nothing changed for are not done again.

    Parameters
    ----------
    sources : Sources
    part : Part
    clock_ns : float
        Period that is asked for, ns.
    options : FpgaOptions
    folder : Path
        For all products.
    pins : str or None
        The file of pins, which may be empty; None: the design is placed alone, its ports open.
    bitstream : bool
        Whether one is packed.

    Raises
    ------
    HalutError
        When a tool is missing; says how to get it.
    CheckFailed
        When a tool fails: the design may be too large for the part.
    """
    family = part.family
    yosys, placer = find_yosys(), find_fpga_tool(family.placer, family)
    packer = find_fpga_tool(family.packer, family) if bitstream else None
    with locked(folder):
        names = ("map", "place", *(["pack"] if packer else []))
        steps = StepCache(folder, names)
        for name, text in sources.files.items():
            write_text(folder / name, text)
        block_rams = options.block_rams_of(part)
        inputs = [sources.hash, yosys.version, dataclasses.astuple(family), block_rams]
        inputs += [options.multipliers, options.wide_luts]
        if family.own_adders:
            inputs.append(ADDERS.read_text())
        steps.run("map", _Written, inputs, [folder / "mapped.json"],
                  lambda: _map(yosys, part, folder, sources, options))  # fmt: skip
        placed_file = folder / "placed.txt"
        flags = [*part.flags, "--freq", f"{1000 / clock_ns:g}", "--seed", str(options.seed)]
        flags += ["--json", "mapped.json", "--report", "placed.json", "--timing-allow-fail"]
        if pins is None:
            flags += family.alone
        else:
            flags += [family.placed, placed_file.name]
            if pins:
                write_text(folder / "pins.txt", pins)
                flags += [flag.format("pins.txt") for flag in family.constraints]
        outputs = [folder / "placed.json", *([] if pins is None else [placed_file])]
        placed = steps.run("place", _Placed, [placer.version, flags, pins or ""], outputs,
                           lambda: _place(placer, flags, folder))  # fmt: skip
        if packer is not None:
            steps.run("pack", _Written, [packer.version], [folder / family.bitstream],
                      lambda: _pack(packer, part, placed_file, folder))  # fmt: skip
        tools = (yosys, placer, *([packer] if packer else []))
        return Implemented(
            **dataclasses.asdict(placed),
            tools={tool.name: tool.version for tool in tools},
            seconds=steps.seconds,
        )


def set_resources(metrics: Metrics, part: Part, done: Implemented, clock_ns: float) -> None:
    """Set what the part's cells are used for, and the frequency."""
    put = metrics.set
    counts = part.family.counts
    for name in ("luts", "flip_flops", "lut_rams", "block_rams", "multipliers"):
        metric = f"halut__fpga__{name}"
        kinds = counts.get(metric)
        used = sum(done.used.get(kind, 0) for kind in kinds) if kinds else None
        put(metric, used, f"nextpnr does not count them on {part.name}")
    kinds = counts["halut__fpga__luts"]
    luts = sum(done.used[kind] for kind in kinds)
    put("halut__fpga__luts_share", luts / sum(done.available[kind] for kind in kinds))
    put("halut__fpga__shortest_period", 1000 / done.mhz)
    put("halut__fpga__frequency", done.mhz)
    put("halut__fpga__setup_slack", clock_ns - 1000 / done.mhz)


def _map(yosys: Tool, part: Part, folder: Path, sources: Sources, options: FpgaOptions) -> _Written:
    family = part.family
    command = family.synthesis
    if options.multipliers == (part.multipliers == "-dsp"):
        command += f" {part.multipliers}"
    if not options.wide_luts:
        command += family.narrow_luts
    verilog, top = sources.verilog, sources.top
    lines = list(sources.reads)
    command += f" -top {top}"
    has_srams = bool(family.block_ram_shapes) and "module halut_sram " in verilog
    if has_srams:
        lines += [f"hierarchy -check -top {top}", "proc", EXCLUSIVE_PORTS]
    if family.lut_rams and "ram_style" in verilog:
        # Each module's once, before Yosys makes one module of them all.
        library, cells = family.lut_rams
        lines += [f"hierarchy -check -top {top}", "proc", "opt", "memory_collect"]
        lines += [f"memory_libmap -lib {library} a:ram_style=distributed", f"techmap -map {cells}"]
    begin = "begin"
    if has_srams:
        lines += [f"{command} -run begin:map_ram", f"select {top}"]
        lines += ["write_rtlil -selected coarse.il", "select -clear", LIST_MEMORIES]
        _run_yosys(yosys, lines, "memories", folder)
        memories = read_memories(folder)
        lines = ["read_rtlil coarse.il", f"{command} -run begin:coarse"]
        lines += block_ram_commands(memories, options.block_rams_of(part), family.block_ram_shapes)
        begin = "map_ram"
    if family.own_adders:
        write_text(folder / ADDERS.name, ADDERS.read_text())
        lines += [f"{command} -run {begin}:map_gates", f"techmap -map {ADDERS.name}"]
        begin = "map_gates"
    lines.append(f"{command} -run {begin}: -json mapped.json")
    _run_yosys(yosys, lines, "map", folder)
    changes = [open_carry_ends] if family.own_adders else []
    changes += [use_output_registers] if family.block_ram_shapes else []
    if changes:
        change_netlist(folder / "mapped.json", *changes)
    return _Written("mapped.json")


def _run_yosys(yosys: Tool, lines: list[str], name: str, folder: Path) -> None:
    write_text(folder / f"{name}.ys", "\n".join(lines) + "\n")
    run_tool(yosys, [f"{name}.ys"], folder / f"{name}.log", folder)


def _place(placer: Tool, flags: list[str], folder: Path) -> _Placed:
    run_tool(placer, flags, folder / "place.log", folder)
    report = read_json(folder / "placed.json", "nextpnr's report")
    clocks = [clock["achieved"] for clock in report["fmax"].values()]
    if not clocks:
        raise CheckFailed(f"nextpnr must report a clock ({folder / 'placed.json'})")
    cells = report["utilization"]
    return _Placed(
        mhz=min(clocks),
        used={name: cell["used"] for name, cell in cells.items()},
        available={name: cell["available"] for name, cell in cells.items()},
    )


def _pack(packer: Tool, part: Part, placed: Path, folder: Path) -> _Written:
    flags = [*part.pack_flags, placed.name, *part.family.packed, part.family.bitstream]
    run_tool(packer, flags, folder / "pack.log", folder)
    return _Written(part.family.bitstream)
