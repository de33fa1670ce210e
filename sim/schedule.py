"""Runs a schedule on the accelerator's Verilog: a product of any size, tile by tile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import golden
from halut.errors import CheckFailed, HalutError
from halut.program import Program
from halut.schedule import Schedule
from halut.tiles import Tiling
from rtl_gen import program_image, reference
from rtl_gen.image import switch_word
from rtl_gen.machine import machine
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.accelerator import input_bytes, results
from sim.simulation import build_accelerator
from sim.transfers import Segment, check_settings, move, word_bytes

__all__ = ["ScheduleResult", "simulate_schedule"]


@dataclass(frozen=True, kw_only=True)
class ScheduleResult:
    """What the accelerator answered, and how long it took.

    Attributes
    ----------
    outputs : ndarray of shape (n_rows, n_outputs), dtype as `halut.tiles.Tiling.dtype`
        Results of the whole product.
    cycles : int
        Clock cycles from the first program word to the last output transfer, both included.
    simulator : str
    seconds : float
        Wall-clock time of the run, without the build.
    """

    outputs: NDArray[Any]
    cycles: int
    simulator: str
    seconds: float


def simulate_schedule(
    config: AnyConfig,
    plan: Schedule,
    program: Program,
    A: ArrayLike,
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    check: bool = True,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> ScheduleResult:
    """Run a schedule on the accelerator, in simulation.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator, the one that the schedule was made for.
    plan : Schedule
    program : Program
        The whole product's.
    A : array-like of shape (n_rows, n_features)
    verilog, simulator, stall_pattern, seed, check, timeout_s
        As for `sim.simulate`. `check` compares with the model's run of the schedule, for integers
        of the whole product, and without stalls the cycles with the schedule's.

    Returns
    -------
    ScheduleResult

    Raises
    ------
    CheckFailed
        When an output or the number of cycles differs.
    HalutError
        When schedule, accelerator, program and matrix do not fit each other.
    """
    check_settings(stall_pattern, seed, timeout_s)
    if machine(config) != plan.machine:
        raise HalutError(f"schedule must be for configuration {config.name}, not for another")
    if len(np.asarray(A)) != plan.n_rows:
        raise HalutError(f"A must have the schedule's {plan.n_rows} rows, not {len(np.asarray(A))}")
    tiling = plan.tiling(program)
    built = build_accelerator(
        config, verilog=verilog, simulator=simulator, compiled=True, timeout_s=timeout_s
    )
    segments, ends = _segments(config, plan, tiling, A)
    moved = move(
        built,
        config,
        segments,
        ends[-1],
        stall_pattern=stall_pattern,
        program_stalls=True,
        seed=seed,
        timeout_s=timeout_s,
    )
    n_rows = [step.last - step.first for step in plan.steps if step.kind == "rows"]
    parts = [
        results(config, moved.data[begin:end], n)
        for n, (begin, end) in zip(n_rows, itertools.pairwise(ends), strict=True)
    ]
    cycles = int(moved.cycles[-1])  # from cycle 1, in which the first word is offered
    outputs = plan.join(tiling, parts)
    if check:
        if config.lut_format == "int" and config.overflow is None:  # the same in any order
            expected = golden.results(program, program.input_words(A))
        else:
            expected = plan.run(program, A, partial(reference.results, config))
        wrong = int((reference.result_words(outputs) != reference.result_words(expected)).sum())
        if wrong:
            raise CheckFailed(f"outputs must equal the model: {wrong} of {outputs.size} differ")
        if stall_pattern == "none" and cycles != plan.cycles:
            raise CheckFailed(f"cycles must be the schedule's {plan.cycles}, not {cycles}")
    return ScheduleResult(
        outputs=outputs, cycles=cycles, simulator=moved.simulator, seconds=moved.seconds
    )


def _segments(
    config: AnyConfig, plan: Schedule, tiling: Tiling, A: ArrayLike
) -> tuple[list[Segment], list[int]]:
    """Return every step as a segment, and where the output transfers of each "rows" step end."""
    words: dict[int, NDArray[Any]] = {}
    kinds = [step.kind for step in plan.steps]
    # The step after which rows may begin, and which itself waits for the rows before.
    ready = "switch" if "switch" in kinds else "load"
    segments: list[Segment] = []
    ends = [0]
    n_rows_steps = n_words_steps = n_ready = 0
    for step in plan.steps:
        if step.kind == "rows":
            if step.tile not in words:
                words[step.tile] = tiling.tiles[step.tile].input_words(A)
            part = words[step.tile][step.first : step.last]
            items = input_bytes(config, part)
            segments.append(Segment(stream="input", items=items, after_segments=n_ready))
            ends.append(ends[-1] + -(-len(part) // config.rows) * config.n_beats)
            n_rows_steps += 1
            continue
        if step.kind == "load":
            image = program_image(config, tiling.tiles[step.tile], step.bank)
        else:
            image = [switch_word(config, step.bank)]
        items = word_bytes(config, image)
        after = n_rows_steps if step.kind == ready else 0
        segments.append(Segment(stream="program", items=items, after_segments=after))
        n_words_steps += 1
        if step.kind == ready:
            n_ready = n_words_steps
    return segments, ends
