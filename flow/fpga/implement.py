"""A design on an FPGA: mapped by Yosys, placed and routed by nextpnr, measured, packed."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.designs.design import Design
from flow.figures.described import design_provenance, set_design
from flow.figures.energy import NO_ENGINE
from flow.figures.metrics import Metrics
from flow.fpga.adders import ADDERS, open_carry_ends
from flow.fpga.block_rams import (
    EXCLUSIVE_PORTS,
    LIST_MEMORIES,
    block_ram_commands,
    read_memories,
)
from flow.fpga.parts import Board, Part
from flow.fpga.self_test import TOP, self_test
from flow.fpga.tools import find_fpga_tool
from flow.run.options import BUILD
from flow.run.step_cache import StepCache
from flow.tools import find_yosys, run_tool
from halut.checks import read_json
from halut.errors import CheckFailed
from halut.files import locked, write_text
from rtl_gen.settings import check_settings, setting

__all__ = ["FpgaOptions", "implement"]

_TRANSFERS = 256  # of a self-test


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

    def __post_init__(self) -> None:
        check_settings(self)


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


def implement(
    design: Design,
    place: Part | Board,
    options: FpgaOptions = FpgaOptions(),
    build: Path = BUILD,
) -> tuple[Metrics, Path]:
    """Map, place and route a design; on a board, or a part that must have pins, as a self-test.

    Parameters
    ----------
    design : Design
    place : Part or Board
        A board gives a bitstream, too.
    build : Path
        Products go to ``<build>/<slug>/fpga/<part or board>/<clock>ns``.

    Returns
    -------
    metrics : Metrics
        Also written to ``metrics.json`` in that folder.

    Raises
    ------
    HalutError
        When a tool is missing; says how to get it.
    CheckFailed
        When a tool fails: the design may be too large for the part. When a board's clock is missed.
    """
    board = place if isinstance(place, Board) else None
    part = board.part if board else place
    assert isinstance(part, Part)
    clock_ns = options.clock_ns
    if clock_ns is None:
        clock_ns = 1000 / board.clock_mhz if board else 10.0
    yosys, placer = find_yosys(), find_fpga_tool(part.family.placer, part.family)
    packer = find_fpga_tool(part.family.packer, part.family) if board else None
    folder = build / design.slug / "fpga" / place.name / f"{clock_ns:.6g}ns"
    alone = board is None and bool(part.family.alone)
    with locked(folder):
        names = ("map", "place", *(["pack"] if packer else []))
        steps = StepCache(folder, names)
        sources = _write_sources(design, folder, options, board, alone)
        top = design.top if alone else TOP
        inputs = [sources, yosys.version, dataclasses.astuple(part.family), part.block_rams]
        inputs += [options.multipliers, options.wide_luts]
        if part.family.own_adders:
            inputs.append(ADDERS.read_text())
        steps.run("map", _Written, inputs, [folder / "mapped.json"],
                  lambda: _map(yosys, part, folder, top, options))  # fmt: skip
        placed_file = folder / "placed.txt"
        pins = "" if alone else board.pins() if board else part.pins()
        flags = [*part.flags, "--freq", f"{1000 / clock_ns:g}", "--seed", str(options.seed)]
        flags += ["--json", "mapped.json", "--report", "placed.json", "--timing-allow-fail", "-q"]
        if alone:
            flags += part.family.alone
        else:
            flags += [part.family.placed, placed_file.name]
            if pins:
                write_text(folder / "pins.txt", pins)
                flags += [flag.format("pins.txt") for flag in part.family.constraints]
        outputs = [folder / "placed.json", *([] if alone else [placed_file])]
        placed = steps.run("place", _Placed, [placer.version, flags, pins], outputs,
                           lambda: _place(placer, flags, folder))  # fmt: skip
        if packer is not None:
            steps.run("pack", _Written, [packer.version], [folder / part.family.bitstream],
                      lambda: _pack(packer, part, placed_file, folder))  # fmt: skip
        metrics = _metrics(design, part, placed, clock_ns, options, alone)
        metrics.provenance["platform"] = place.name
        tools = (yosys, placer, *([packer] if packer else []))
        metrics.provenance["tools"] = {tool.name: tool.version for tool in tools}
        metrics.provenance["seconds"] = steps.seconds
        metrics.write(folder / "metrics.json")
    if board and 1000 / placed.mhz > clock_ns:
        raise CheckFailed(
            f"the clock of {board.name} must be met: {clock_ns:g} ns, not {1000 / placed.mhz:.2f} "
            f"({folder / 'metrics.json'})"
        )
    return metrics, folder


def _write_sources(
    design: Design, folder: Path, options: FpgaOptions, board: Board | None, alone: bool
) -> str:
    """Write what Yosys reads; returns a hash of it."""
    files = {"design.v": design.verilog}
    if not alone:
        low = board is not None and board.leds_active_low
        files["self_test.v"], words = self_test(design, options.seed, _TRANSFERS, low)
        files |= words
    for name, text in files.items():
        write_text(folder / name, text)
    return hashlib.sha256("\0".join(f"{n}\0{t}" for n, t in files.items()).encode()).hexdigest()


def _map(yosys: Any, part: Part, folder: Path, top: str, options: FpgaOptions) -> _Written:
    family = part.family
    command = family.synthesis
    if options.multipliers == (part.multipliers == "-dsp"):
        command += f" {part.multipliers}"
    if not options.wide_luts:
        command += family.narrow_luts
    verilog = (folder / "design.v").read_text()
    lines = ["read_verilog design.v"]
    if top == TOP:
        # Not elaborated before its parameters name the files that it reads.
        lines.append("read_verilog -defer self_test.v")
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
        lines += block_ram_commands(memories, part.block_rams, family.block_ram_shapes)
        begin = "map_ram"
    if family.own_adders:
        write_text(folder / ADDERS.name, ADDERS.read_text())
        lines += [f"{command} -run {begin}:map_gates", f"techmap -map {ADDERS.name}"]
        begin = "map_gates"
    lines.append(f"{command} -run {begin}: -json mapped.json")
    _run_yosys(yosys, lines, "map", folder)
    if family.own_adders:
        open_carry_ends(folder / "mapped.json")
    return _Written("mapped.json")


def _run_yosys(yosys: Any, lines: list[str], name: str, folder: Path) -> None:
    write_text(folder / f"{name}.ys", "\n".join(lines) + "\n")
    run_tool(yosys, [f"{name}.ys"], folder / f"{name}.log", folder)


def _place(placer: Any, flags: list[str], folder: Path) -> _Placed:
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


def _pack(packer: Any, part: Part, placed: Path, folder: Path) -> _Written:
    flags = [*part.pack_flags, placed.name, *part.family.packed, part.family.bitstream]
    run_tool(packer, flags, folder / "pack.log", folder)
    return _Written(part.family.bitstream)


def _metrics(
    design: Design, part: Part, placed: _Placed, clock_ns: float, options: FpgaOptions, alone: bool
) -> Metrics:
    metrics = Metrics()
    metrics.provenance = {
        **design_provenance(design),
        "corner": None,
        "voltage": None,
        "temperature": None,
        "clock_ns": clock_ns,
        "target_ns": clock_ns,
        "seed": options.seed,
        "synthesis": dataclasses.asdict(options),
        "part": part.title,
    }
    metrics.notes["conditions"] = [
        f"placed and routed by nextpnr for {part.title}, one seed",
        "the design alone, its ports left open"
        if alone
        else "with the self-test: memories of words to send and to expect, a comparison",
    ]
    put = metrics.set
    counts = part.family.counts
    for name in ("luts", "flip_flops", "lut_rams", "block_rams", "multipliers"):
        metric = f"halut__fpga__{name}"
        kinds = counts.get(metric)
        used = sum(placed.used.get(kind, 0) for kind in kinds) if kinds else None
        put(metric, used, f"nextpnr does not count them on {part.name}")
    kinds = counts["halut__fpga__luts"]
    luts = sum(placed.used[kind] for kind in kinds)
    put("halut__fpga__luts_share", luts / sum(placed.available[kind] for kind in kinds))
    put("halut__fpga__shortest_period", 1000 / placed.mhz)
    put("halut__fpga__frequency", placed.mhz)
    put("halut__fpga__setup_slack", clock_ns - 1000 / placed.mhz)
    set_design(metrics, design)
    macs = design.macs_per_cycle
    put("halut__fpga__luts_per_mac_per_cycle", luts / macs if macs else None, NO_ENGINE)
    metrics.missing(("",), "not of an FPGA")
    return metrics
