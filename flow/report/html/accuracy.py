"""What a program is worth: what it remembers of its learning, and its error on given rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.report.html.charts import scatter
from halut import golden
from halut.arrays import load_matrix
from halut.errors import HalutError
from halut.problems import relative_error
from halut.program import Program

__all__ = ["Accuracy", "accuracy"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A program's quality."""

    facts: list[tuple[str, str]]  #: What, and its value.
    data: str  #: Which data the error is of.
    error: float | None  #: ``|AB - Y|**2 / |AB|**2`` on the rows that were given.
    figure: dict[str, Any] | None  #: Results against exact ones, for Plotly.


def accuracy(program: Program, name: str, test: str | None, matrix: str | None) -> Accuracy:
    """Report what a program is worth.

    Parameters
    ----------
    name : str
        Its file's name.
    test, matrix : str or None
        Files of rows that it was not learned from, and of B (``.npy``); both or none.

    Raises
    ------
    HalutError
        When the data cannot be used with the program.
    """
    facts = [
        ("program", name),
        ("product", f"{program.n_features} columns of A, {program.n_outputs} outputs"),
        ("codebooks × prototypes", f"{program.n_codebooks} × {program.n_prototypes}"),
        ("inputs, tables", f"{program.input_format}, {_tables(program)}"),
        ("results", program.output_format + (", ReLU" if program.relu else "")),
    ]
    known = program.provenance
    held_out = known.get("held_out_error")
    facts += [(key.replace("_", " "), value) for key, value in sorted(known.items())
              if key != "held_out_error"]  # fmt: skip
    if held_out is not None:
        facts.append(
            ("error on rows held out when it was learned", f"{held_out} (relative, squared)")
        )
    if test is None or matrix is None:
        data = "No rows were given, so nothing is measured here: --test and --b measure the error."
        return Accuracy(facts=facts, data=data, error=None, figure=None)
    rows, B = load_matrix("--test", test), load_matrix("--b", matrix)
    if B.shape != (program.n_features, program.n_outputs):
        raise HalutError(
            f"--b must have {program.n_features} rows and {program.n_outputs} columns, not "
            f"{B.shape[0]} and {B.shape[1]} ({matrix})"
        )
    if len(rows) == 0:
        raise HalutError(f"--test must have at least one row ({test})")
    words = program.input_words(rows)
    exact = rows.astype(np.float64) @ B.astype(np.float64)
    if not np.isfinite(exact).all() or not exact.any():
        raise HalutError(f"--test times --b must be finite and not all zero ({test})")
    product = golden.dequantize(program, golden.matmul(program, words)).astype(np.float64)
    error = relative_error(product, exact)
    return Accuracy(
        facts=facts,
        data=f"{len(rows):,} rows of {Path(test).name} times {Path(matrix).name}, by the bit-exact "
        "model of the hardware.",
        error=error,
        figure=scatter(exact, product),
    )


def _tables(program: Program) -> str:
    if program.lut_format == "fp16":
        return "half floats"
    return f"{program.lut_bits}-bit integers"
