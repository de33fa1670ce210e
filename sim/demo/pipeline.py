"""From a problem to checked results: learn, quantise, generate, simulate, compare."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rtl_gen
from halut import golden
from halut.baseline import ProductQuantization
from halut.files import atomic_write
from halut.matmul import HalutMatmul
from halut.program import Program
from rtl_gen.config import AcceleratorConfig
from sim.demo.problems import Problem
from sim.simulation import SimulationResult, simulate

__all__ = ["Outcome", "Sweep", "run_problem", "sweep_codebooks"]

log = logging.getLogger(__name__)

_SWEEP_ROWS = 20_000  # training rows for the curves of error by C


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that a problem gave.

    Attributes
    ----------
    problem : Problem
    config : AcceleratorConfig
    multiplier : HalutMatmul
        With float tables.
    program : Program
        What the accelerator was loaded with.
    codes : uint8 ndarray of shape (n_rows, n_codebooks)
        Codes of the held-out rows.
    exact, maddness, int8, rtl : float32 ndarray of shape (n_rows, n_outputs)
        The product on the held-out rows: exact, by float tables, by the model with quantised
        tables, and as the simulated Verilog gave it.
    result : SimulationResult
    verilog : Path
        The generated file.
    """

    problem: Problem
    config: AcceleratorConfig
    multiplier: HalutMatmul
    program: Program
    codes: NDArray[np.uint8]
    exact: NDArray[np.float32]
    maddness: NDArray[np.float32]
    int8: NDArray[np.float32]
    rtl: NDArray[np.float32]
    result: SimulationResult
    verilog: Path

    @property
    def qualities(self) -> dict[str, float]:
        """Accuracy or error of each stage, from exact to RTL."""
        return {
            "exact": self.problem.quality(self.exact),
            "MADDNESS": self.problem.quality(self.maddness),
            "INT8": self.problem.quality(self.int8),
            "RTL": self.problem.quality(self.rtl),
        }

    @property
    def lut_bytes(self) -> int:
        """Bytes of all look-up tables."""
        return self.config.lut_total_bits // 8


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Error by number of codebooks, on the held-out rows, with float tables.

    Attributes
    ----------
    n_codebooks : tuple of int
    maddness, nearest : tuple of float
        `Problem.error` with learned trees, and with nearest-centroid codes (product
        quantisation), the bound for what codes of this size can do.
    accuracy : tuple of float
        Accuracy with learned trees; empty where the problem is no classifier.
    """

    n_codebooks: tuple[int, ...]
    maddness: tuple[float, ...]
    nearest: tuple[float, ...]
    accuracy: tuple[float, ...]


def _timed(what: str, start: float) -> None:
    log.info("  %-46s %5.1f s", what, time.monotonic() - start)


def run_problem(
    problem: Problem, config: AcceleratorConfig, folder: Path, simulator: str | None
) -> Outcome:
    """Learn, generate, simulate and check one problem.

    Raises
    ------
    CheckFailed
        When one output bit of the Verilog differs from the model.
    """
    start = time.monotonic()
    multiplier = HalutMatmul(C=config.n_codebooks, K=config.n_prototypes)
    multiplier.learn_offline(problem.train, problem.weights)
    program = multiplier.program(
        input_format=config.input_format, lut_bits=config.lut_bits, calibration=problem.train
    )
    program.save(folder / f"{problem.name}.npz")
    _timed(f"learned from {len(problem.train)} rows", start)

    start = time.monotonic()
    verilog = rtl_gen.write(config, folder / f"{problem.name}.v")
    _timed(f"generated {verilog}", start)

    words = program.input_words(problem.test)
    codes = golden.encode(program, words)
    int8 = golden.dequantize(program, golden.accumulate(program, codes))

    start = time.monotonic()
    result = simulate(config, program, problem.test, simulator=simulator)
    rtl = golden.dequantize(program, result.outputs)
    with atomic_write(folder / f"{problem.name}_rtl.npy") as temporary:
        np.save(temporary, result.outputs)
    _timed(f"simulated {result.cycles} cycles, checked {result.outputs.size} outputs", start)
    return Outcome(
        problem=problem,
        config=config,
        multiplier=multiplier,
        program=program,
        codes=codes,
        exact=problem.test @ problem.weights,
        maddness=multiplier.matmul_online(problem.test),
        int8=int8,
        rtl=rtl,
        result=result,
        verilog=verilog,
    )


def sweep_codebooks(problem: Problem, n_prototypes: int) -> Sweep:
    """Learn with every number of codebooks of the problem's sweep."""
    train = problem.train[:_SWEEP_ROWS]
    maddness, nearest, accuracy = [], [], []
    for n_codebooks in problem.sweep:
        trees = HalutMatmul(C=n_codebooks, K=n_prototypes).learn_offline(train, problem.weights)
        centroids = ProductQuantization(C=n_codebooks, K=n_prototypes)
        centroids.learn_offline(train, problem.weights)
        product = trees.matmul_online(problem.test)
        maddness.append(problem.error(product))
        nearest.append(problem.error(centroids.matmul_online(problem.test)))
        if problem.labels is not None:
            accuracy.append(problem.quality(product))
    return Sweep(
        n_codebooks=problem.sweep,
        maddness=tuple(maddness),
        nearest=tuple(nearest),
        accuracy=tuple(accuracy),
    )
