"""A design on an FPGA: alone, or in a self-test on a board; its metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flow.designs.design import Design
from flow.figures.described import design_provenance, set_design
from flow.figures.energy import NO_ENGINE
from flow.figures.metrics import Metrics
from flow.fpga.parts import Board, Part
from flow.fpga.self_test import TOP, self_test
from flow.fpga.steps import FpgaOptions, Implemented, Sources, run_steps, set_resources
from flow.run.options import BUILD
from halut.errors import CheckFailed
from halut.files import locked

__all__ = ["FpgaOptions", "check_clock", "clock_of", "implement"]

_TRANSFERS = 256  # of a self-test


def implement(
    design: Design,
    place: Part | Board,
    options: FpgaOptions | None = None,
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
        When the part cannot be given an option. When a tool is missing; says how to get it.
    CheckFailed
        When a tool fails: the design may be too large for the part. When a board's clock is missed.
    """
    options = options or FpgaOptions()
    board = place if isinstance(place, Board) else None
    part = board.part if board else place
    assert isinstance(part, Part)
    options.check_part(part)
    clock_ns = clock_of(options, board)
    folder = build / design.slug / "fpga" / place.name / f"{clock_ns:.6g}ns"
    alone = board is None and bool(part.family.alone)
    sources = _sources(design, options, board, alone)
    pins = None if alone else board.pins() if board else part.pins()
    done = run_steps(
        sources, part, clock_ns, options, folder, pins=pins, bitstream=board is not None
    )
    metrics = _metrics(design, part, done, clock_ns, options, alone)
    metrics.provenance["platform"] = place.name
    metrics.provenance["tools"] = done.tools
    metrics.provenance["seconds"] = done.seconds
    with locked(folder):
        metrics.write(folder / "metrics.json")
    if board:
        check_clock(board, done, clock_ns, folder)
    return metrics, folder


def clock_of(options: FpgaOptions, board: Board | None) -> float:
    """The period that is asked for, ns: that of the options, else the board's, else 10."""
    if options.clock_ns is not None:
        return options.clock_ns
    return 1000 / board.clock_mhz if board else 10.0


def check_clock(board: Board, done: Implemented, clock_ns: float, folder: Path) -> None:
    """Check that a board's clock is met.

    Raises
    ------
    CheckFailed
        When it is missed.
    """
    if 1000 / done.mhz > clock_ns:
        raise CheckFailed(
            f"the clock of {board.name} must be met: {clock_ns:g} ns, not {1000 / done.mhz:.2f} "
            f"({folder / 'metrics.json'})"
        )


def _sources(design: Design, options: FpgaOptions, board: Board | None, alone: bool) -> Sources:
    files = {"design.v": design.verilog}
    reads = ["read_verilog design.v"]
    if alone:
        return Sources(files=files, reads=reads, top=design.top)
    low = board is not None and board.leds_active_low
    files["self_test.v"], words = self_test(design, options.seed, _TRANSFERS, low)
    # Not elaborated before its parameters name the files that it reads.
    reads.append("read_verilog -defer self_test.v")
    return Sources(files=files | words, reads=reads, top=TOP)


def _metrics(
    design: Design,
    part: Part,
    done: Implemented,
    clock_ns: float,
    options: FpgaOptions,
    alone: bool,
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
    set_resources(metrics, part, done, clock_ns)
    set_design(metrics, design)
    macs = design.macs_per_cycle
    luts = metrics.values["halut__fpga__luts"]
    per_mac = luts / macs if luts is not None and macs else None
    metrics.set("halut__fpga__luts_per_mac_per_cycle", per_mac, NO_ENGINE)
    metrics.missing(("",), "not of an FPGA")
    return metrics
