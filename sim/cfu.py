"""What the custom function unit is given, and what it must answer: computed by the exact model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halut import golden
from halut.program import Program
from rtl_gen.cfu.config import CfuConfig, Command

__all__ = ["CfuJob", "Exchange", "add_rows", "encode_rows", "job", "random_layer"]

Exchange = tuple[Command, int]
"""A command and the answer that it must get, 32 bits, unsigned."""

_ANSWER = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class CfuJob:
    """A layer that the unit looks up, as commands with their answers.

    Attributes
    ----------
    exchanges : list of (Command, int)
    look_ups : int
        Entries of tables that are added, those of outputs only.
    """

    exchanges: list[Exchange]
    look_ups: int


def random_layer(
    config: CfuConfig,
    rng: np.random.Generator,
    n_rows: int,
    n_codebooks: int,
    n_outputs: int,
    corner: bool = False,
) -> tuple[Program, np.ndarray]:
    """Return a random program of INT8 inputs and words (n_rows, n_codebooks, T) for it."""
    program = golden.random_program(
        rng, n_codebooks, config.n_prototypes, n_outputs, "int8", config.lut_bits, corner=corner
    )
    return program, golden.random_words(rng, program, n_rows, corner)


def encode_rows(
    config: CfuConfig, program: Program, words: np.ndarray, codes: np.ndarray
) -> list[Exchange]:
    """Return commands that encode, codebook by codebook, and their answers.

    Parameters
    ----------
    words : integer ndarray of shape (n_rows, n_codebooks, T)
    codes : integer ndarray of shape (n_rows, n_codebooks)
        What the model says of them.
    """
    found: list[Exchange] = []
    depth = config.tree_depth
    for codebook in range(program.n_codebooks):
        thresholds = [int(value) for value in program.thresholds[codebook]]
        found += [(command, 0) for command in config.set_thresholds(thresholds)]
        for row, code in zip(words[:, codebook], codes[:, codebook].tolist(), strict=True):
            for pair, command in enumerate(config.walk([int(value) for value in row])):
                found.append((command, code >> (depth - min(2 * pair + 2, depth))))
    return found


def add_rows(
    config: CfuConfig, program: Program, codes: np.ndarray, sums: np.ndarray
) -> list[Exchange]:
    """Return commands that look up and add row by row, as many outputs as there are sums at a time.

    Parameters
    ----------
    codes : integer ndarray of shape (n_rows, n_codebooks)
    sums : integer ndarray of shape (n_rows, n_outputs)
        What the model says of them.
    """
    found: list[Exchange] = []
    for row, total in zip(codes.tolist(), sums.tolist(), strict=True):
        for first in range(0, program.n_outputs, config.n_sums):
            outputs = slice(first, min(first + config.n_sums, program.n_outputs))
            for codebook, code in enumerate(row):
                entries = program.lut[outputs, codebook, code].tolist()
                found += [(command, 0) for command in config.add(entries, start=codebook == 0)]
            for index, value in enumerate(total[outputs]):
                found.append((config.read(index), value & _ANSWER))
    return found


def job(
    config: CfuConfig,
    rng: np.random.Generator,
    n_rows: int = 2,
    n_codebooks: int = 2,
    n_outputs: int = 20,
    *,
    corner: bool = False,
) -> CfuJob:
    """Return a random layer as commands: codes are `halut.golden`'s, and so are sums."""
    program, words = random_layer(config, rng, n_rows, n_codebooks, n_outputs, corner)
    codes = golden.encode(program, words)
    sums = golden.accumulate(program, codes)
    return CfuJob(
        exchanges=[
            *encode_rows(config, program, words, codes),
            *add_rows(config, program, codes, sums),
        ],
        look_ups=codes.size * n_outputs,
    )
