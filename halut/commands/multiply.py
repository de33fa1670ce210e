"""``python -m halut multiply``: rows through the bit-exact model of a program."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from halut import golden
from halut.arrays import load_matrix
from halut.files import atomic_write
from halut.program import Program


def add_verb(verbs: Any) -> None:
    """Add ``multiply`` to the command line."""
    verb = verbs.add_parser(
        "multiply",
        help="run rows through the bit-exact model of a program",
        description="Run rows through the bit-exact model of a program.",
    )
    add = verb.add_argument
    add("--program", required=True, metavar="FILE", help="program (.npz)")
    add("--input", required=True, metavar="FILE", help="matrix A, n_rows x n_features (.npy)")
    add("--output", required=True, metavar="FILE", help="where to write the results (.npy)")
    add("--dequantize", action="store_true",
        help="write the product as float32 (default: what leaves the accelerator, after ReLU and "
        "conversion)")  # fmt: skip
    verb.set_defaults(run=_multiply)


def _multiply(options: argparse.Namespace) -> int:
    program = Program.load(options.program)
    words = program.input_words(load_matrix("--input", options.input))
    results: Any = golden.results(program, words)
    if options.dequantize:
        results = golden.dequantize(program, golden.matmul(program, words))
    with atomic_write(options.output) as temporary, open(temporary, "wb") as file:
        np.save(file, results)
    print(f"wrote {options.output}")
    return 0
