"""What an accelerator computes: programs that fit a configuration, and the results it must give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import golden, native
from halut.accumulation import Accumulation
from halut.program import Program

from .tiled_config import AnyConfig

__all__ = ["accumulation", "random_program", "result_words", "results", "results_of_words"]


def random_program(config: AnyConfig, rng: np.random.Generator, corner: bool = False) -> Program:
    """Return a random program that fits; see `golden.random_program`."""
    return golden.random_program(
        rng,
        config.n_codebooks,
        config.n_prototypes,
        config.n_outputs,
        config.input_format,
        config.lut_bits,
        corner=corner,
        output_format=config.output_format,
        relu=config.relu,
        lut_format=config.lut_format,
        terms=config.terms,
        window=config.window,
        splits=config.splits,
    )


def accumulation(config: AnyConfig) -> Accumulation:
    """Return how an accelerator forms its sums."""
    return Accumulation(
        acc_bits=config.accumulator_bits,
        overflow=config.overflow,
        parallel_codebooks=config.parallel_codebooks,
        codebook_tiles=config.codebook_tiles,
    )


def results(config: AnyConfig, program: Program, words: ArrayLike) -> NDArray[Any]:
    """Return the results (n_rows, n_outputs) that the accelerator gives for input words.

    `halut.native` computes them, with the bits of `halut.golden`.
    """
    return native.results(program, words, accumulation(config))


def result_words(results: NDArray[Any]) -> NDArray[np.int64]:
    """Return results as integers: the bits of floats, other results as they are."""
    if results.dtype.kind == "f":
        results = np.ascontiguousarray(results).view(f"u{results.itemsize}")
    return results.astype(np.int64)


def results_of_words(config: AnyConfig, words: NDArray[np.int64]) -> NDArray[Any]:
    """The inverse of `result_words`."""
    if config.output_format == "fp16":
        return words.astype(np.uint16).view(np.float16)
    if config.output_format == "int8":
        return words.astype(np.int8)
    if config.lut_format == "fp16":
        return words.astype(np.uint32).view(np.float32)
    return words.astype(np.int32 if config.accumulator_bits <= 32 else np.int64)
