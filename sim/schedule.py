"""Runs a schedule on the accelerator's Verilog: a product of any size, tile by tile."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
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
from rtl_gen import reference
from rtl_gen.machine import machine
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.simulation import build_accelerator

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
    if machine(config) != plan.machine:
        raise HalutError(f"schedule must be for configuration {config.name}, not for another")
    if len(np.asarray(A)) != plan.n_rows:
        raise HalutError(f"A must have the schedule's {plan.n_rows} rows, not {len(np.asarray(A))}")
    tiling = plan.tiling(program)
    built = build_accelerator(config, verilog=verilog, simulator=simulator, timeout_s=timeout_s)
    folder = Path(tempfile.mkdtemp(prefix="schedule-", dir=built.directory))
    try:
        steps = [dataclasses.astuple(step) for step in plan.steps]
        job = {"config": config.to_dict(), "stall_pattern": stall_pattern, "seed": seed,
               "steps": steps}  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        for k, part in enumerate(tiling.tiles):
            part.save(folder / f"tile-{k}.npz")
            np.save(folder / f"words-{k}.npy", part.input_words(A))
        run = runner.run(
            built,
            "sim.bench_schedule",
            env={"HALUT_JOB": str(folder)},
            seed=seed,
            timeout_s=timeout_s,
        )
        cycles = json.loads((folder / "counts.json").read_text())["cycles"]
        n_parts = sum(step.kind == "rows" for step in plan.steps)
        parts = [np.load(folder / f"outputs-{k}.npy") for k in range(n_parts)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
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
        outputs=outputs, cycles=cycles, simulator=built.simulator, seconds=run.seconds
    )
