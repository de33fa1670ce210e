"""Runs a matrix on the accelerator's Verilog and compares every output bit with the model."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import rtl_gen
from halut.errors import CheckFailed, HalutError, closest
from halut.program import Program
from rtl_gen import check_program, reference
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.accelerator import top_name

__all__ = ["SimulationResult", "build_accelerator", "simulate", "simulate_all"]

_PATTERNS = ("none", "gaps", "backpressure", "both")


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What the accelerator answered, and how long it took.

    Attributes
    ----------
    outputs : ndarray of shape (n_rows, n_outputs), int32 or int64; float16; int8
        Results. Accumulators are turned into the product by `halut.golden.dequantize`.
    cycles : int
        Clock cycles from the first input transfer to the last output transfer, both included.
    load_cycles : int
        Clock cycles that it took to write the program before.
    input_stall_cycles : int
        Cycles in which a transfer was offered and the accelerator was not ready.
    output_stall_cycles : int
        Cycles in which the accelerator offered a result and the testbench was not ready.
    simulator : str
        Which simulator ran it.
    seconds : float
        Wall-clock time of the run, without the build; of all jobs together in `simulate_all`.
    waves : pathlib.Path or None
        Folder with the recorded signals, when they were asked for.
    """

    outputs: NDArray[np.signedinteger[Any]]
    cycles: int
    load_cycles: int
    input_stall_cycles: int
    output_stall_cycles: int
    simulator: str
    seconds: float
    waves: Path | None


@functools.lru_cache(maxsize=32)
def _generated(config: AnyConfig) -> str:
    return rtl_gen.generate(config).verilog


def _prefixed(text: str, top: str, path: Path | str) -> str:
    """The name of the top module in a file: `top`, or the one that ends so after a prefix."""
    found = re.findall(rf"^module (\w*{top})\b", text, re.M)
    if top not in found and len(found) != 1:
        raise HalutError(f"verilog must contain the module {top} ({path})")
    return top if top in found else found[0]


def build_accelerator(
    config: AnyConfig,
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> runner.Build:
    """Build the simulation of an accelerator's top module, or find the one built before.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    verilog : path-like, optional
        A Verilog file to simulate in place of what `config` generates (an edited one, a netlist);
        its ports must be those of `config`. Lint warnings do not stop it.
    simulator, waves, timeout_s
        See `sim.runner.build`.
    """
    top = top_name(config)
    if verilog is None:
        text = _generated(config)
    else:
        try:
            text = Path(verilog).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise HalutError(f"verilog must be a readable file: {reason} ({verilog})") from None
        top = _prefixed(text, top, verilog)
    return runner.build(
        text, top, simulator=simulator, waves=waves, strict=verilog is None, timeout_s=timeout_s
    )


def simulate(
    config: AnyConfig,
    program: Program,
    A: ArrayLike,
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    check: bool = True,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> SimulationResult:
    """Run the rows of a matrix through the accelerator, in simulation.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator.
    program : Program
        What to load it with; must fit `config`.
    A : array-like of shape (n_rows, n_features), real
        At least one row. When n_rows is not a multiple of P, rows of zeros fill the last row
        group, and their results are dropped.
    verilog : path-like, optional
        Simulate this file instead of generating; see `build_accelerator`.
    simulator : {"verilator", "icarus"}, optional
        By default the first one available.
    waves : bool, optional
        Record the signals; by default the environment's ``WAVES``.
    stall_pattern : {"none", "gaps", "backpressure", "both"}, default "none"
        Who pauses at random: the source of rows, the sink of results, or both.
    seed : int, default 1
        Seed of the pauses.
    check : bool, default True
        Compare every output with `halut.golden.results`.
    timeout_s : float, default 600
        Limit for the build and for the run, each in seconds.

    Returns
    -------
    SimulationResult

    Raises
    ------
    CheckFailed
        When an output differs from the model, a result is missing or extra, or the simulation
        fails.
    HalutError
        When the program does not fit the configuration, `A` does not fit the program, or no
        simulator can be run.
    """
    return simulate_all(
        config,
        [(program, A)],
        verilog=verilog,
        simulator=simulator,
        waves=waves,
        stall_pattern=stall_pattern,
        seed=seed,
        check=check,
        timeout_s=timeout_s,
    )[0]


def simulate_all(
    config: AnyConfig,
    jobs: Sequence[tuple[Program, ArrayLike]],
    *,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    waves: bool | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    check: bool = True,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> list[SimulationResult]:
    """Run several matrices one after the other in one simulation, each with its own program.

    The accelerator is reset once; each program is loaded over the one before. Starting a simulator
    takes longer than most matrices.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator.
    jobs : sequence of (Program, array-like of shape (n_rows, n_features))
        At least one.
    verilog, simulator, waves, stall_pattern, seed, check, timeout_s
        As for `simulate`.

    Returns
    -------
    list of SimulationResult
        One for each job.

    Raises
    ------
    CheckFailed, HalutError
        As for `simulate`.
    """
    if stall_pattern not in _PATTERNS:
        raise HalutError(
            f"stall_pattern must be one of {', '.join(_PATTERNS)}, "
            f"not {stall_pattern!r}{closest(str(stall_pattern), _PATTERNS)}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise HalutError(f"seed must be an integer in [0, 2**31), not {seed!r}")
    if not 0 < timeout_s < float("inf"):
        raise HalutError(f"timeout must be greater than 0 s and finite, not {timeout_s!r}")
    if not jobs:
        raise HalutError("jobs must be at least one, not 0")
    words = []
    for program, A in jobs:
        check_program(config, program)
        words.append(program.input_words(A))
        if len(words[-1]) == 0:
            raise HalutError("A must have at least one row, not 0")
    built = build_accelerator(
        config, verilog=verilog, simulator=simulator, waves=waves, timeout_s=timeout_s
    )
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=built.directory))
    try:
        settings = {"config": config.to_dict(), "stall_pattern": stall_pattern, "seed": seed,
                    "n_jobs": len(jobs)}  # fmt: skip
        (folder / "job.json").write_text(json.dumps(settings))
        for k, (program, _) in enumerate(jobs):
            np.save(folder / f"words-{k}.npy", words[k])
            program.save(folder / f"program-{k}.npz")
        run = runner.run(
            built, "sim.bench_job", env={"HALUT_JOB": str(folder)}, seed=seed, timeout_s=timeout_s
        )
        counts = json.loads((folder / "counts.json").read_text())
        outputs = [np.load(folder / f"outputs-{k}.npy") for k in range(len(jobs))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if check:
        for k, (program, _) in enumerate(jobs):
            expected = reference.results(config, program, words[k])
            _check_equal(outputs[k], expected, f"job {k}, " if len(jobs) > 1 else "")
    return [
        SimulationResult(
            outputs=outputs[k],
            simulator=built.simulator,
            seconds=run.seconds,
            waves=run.directory,
            **counts[k],
        )
        for k in range(len(jobs))
    ]


def _check_equal(outputs: NDArray[Any], expected: NDArray[Any], where: str) -> None:
    # Bits, not values: zeros have signs, and NaN must be where it is.
    differ = reference.result_words(outputs) != reference.result_words(expected)
    if differ.any():
        row, column = np.argwhere(differ)[0]
        n_wrong = int(differ.sum())
        raise CheckFailed(
            f"outputs must equal the model: {where}row {row}, output {column} must be "
            f"{expected[row, column]}, not {outputs[row, column]} "
            f"({n_wrong} of {outputs.size} differ)"
        )
