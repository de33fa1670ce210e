"""The bit-exact model of the accelerator, in integer arithmetic on integer arrays.

What this module computes is what the hardware computes, on every output bit, for every input,
special values included. The walk through a tree is Algorithm 1 of MADDNESS (arXiv 2106.10860)
with a strict comparison: a value goes right when it is greater than the threshold, not when it
equals it. As in Stella Nera (arXiv 2311.10207), and unlike section 4.4 of MADDNESS, table entries
are summed exactly, never averaged.

Floats are compared as integers: sign and magnitude become one signed key, for which -0 = +0, and
NaN comes before everything, so that it goes left.

Examples
--------
>>> import numpy as np
>>> rng = np.random.default_rng(1)
>>> program = random_program(rng, 4, 16, 3, "fp16", 8)
>>> words = random_words(rng, program, 5)
>>> words.shape, words.dtype.name
((5, 4, 4), 'uint16')
>>> accumulators = matmul(program, words)
>>> accumulators.shape, accumulators.dtype.name
((5, 3), 'int32')
>>> dequantize(program, accumulators).dtype.name
'float32'
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.accumulation import OVERFLOWS, Accumulation, add_in_order, pairwise
from halut.encoding import comparison_keys, encode
from halut.errors import HalutError
from halut.program import Program
from halut.stimuli import random_program, random_words

__all__ = [
    "OVERFLOWS",
    "Accumulation",
    "accumulate",
    "add_in_order",
    "check_codes",
    "comparison_keys",
    "dequantize",
    "encode",
    "matmul",
    "pairwise",
    "random_program",
    "random_words",
    "results",
]


def accumulate(
    program: Program, codes: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Add up the table entries that the codes select.

    Parameters
    ----------
    program : Program
    codes : integer ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
    accumulation : Accumulation, optional
        Width, overflow and order; exact sums, one codebook after the other, when absent.
    **fields
        Of `Accumulation`, in place of one.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        Accumulators: int32 up to 32 bits, int64 above; float32 for tables of half floats, with
        every NaN 0x7fc00000.

    Raises
    ------
    HalutError
        When the codes do not fit the program, or `acc_bits` could overflow and `overflow` is
        absent.
    """
    how = Accumulation(**fields) if accumulation is None else replace(accumulation, **fields)
    array = check_codes(program, codes)
    width = how.width(program)
    table = np.ascontiguousarray(program.lut.transpose(1, 2, 0))  # (C, K, M)
    if program.lut_format == "fp16":

        def entry(codebook: int) -> NDArray[np.float32]:
            return table[codebook][array[:, codebook]].astype(np.float32)

        with np.errstate(all="ignore"):
            floats = add_in_order(entry, program.n_codebooks, np.add, how)
        return np.where(np.isnan(floats), np.float32(np.nan), floats)
    half = 1 << (width - 1)
    dtype = np.int32 if width <= 32 else np.int64
    sums = np.zeros((array.shape[0], program.n_outputs), dtype=dtype)
    for codebook in range(program.n_codebooks):
        sums += table[codebook][array[:, codebook]]
        ends = (codebook + 1) % how.parallel_codebooks == 0 or codebook == program.n_codebooks - 1
        if how.overflow == "saturate" and ends:
            np.clip(sums, -half, half - 1, out=sums)
    if how.overflow == "wrap":
        sums = ((sums + half) & (2 * half - 1)) - half
    return sums


def check_codes(program: Program, codes: ArrayLike) -> NDArray[Any]:
    """Return codes as an array; raise `HalutError` unless they fit the program."""
    array = np.asarray(codes)
    if array.ndim != 2 or array.shape[1] != program.n_codebooks:
        raise HalutError(f"codes must have shape (any, {program.n_codebooks}), not {array.shape}")
    if array.dtype.kind not in "iu":
        raise HalutError(f"codes must be integers, not {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= program.n_prototypes):
        raise HalutError(
            f"codes must be in [0, {program.n_prototypes}), not {array.min()} to {array.max()}"
        )
    return array


def matmul(
    program: Program, words: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Return the accumulators that the hardware returns for input words.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        As `Program.input_words` returns them.
    accumulation, **fields
        As for `accumulate`.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs), int32, int64 or float32
        ``accumulate(program, encode(program, words), …)``.
    """
    return accumulate(program, encode(program, words), accumulation, **fields)


def results(
    program: Program, words: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Return what leaves the hardware for input words: accumulators after the output stage.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        As `Program.input_words` returns them.
    accumulation, **fields
        As for `accumulate`.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        `OutputStage.apply` of the accumulators: int32, int64 or float32; float16; or int8.
    """
    return program.output.apply(matmul(program, words, accumulation, **fields))


def dequantize(program: Program, accumulators: ArrayLike) -> NDArray[np.float32]:
    """Turn accumulators into values of the product.

    Computed in float32, in this order: an integer accumulator is rounded to float32, multiplied by
    `Program.lut_scale`, rounded, `Program.lut_offset` is added, rounded; each to nearest even.

    Parameters
    ----------
    program : Program
    accumulators : integer, or for tables of half floats float32, ndarray (n_rows, n_outputs)

    Returns
    -------
    float32 ndarray of shape (n_rows, n_outputs)
    """
    array = np.asarray(accumulators)
    if array.ndim != 2 or array.shape[1] != program.n_outputs:
        raise HalutError(
            f"accumulators must have shape (any, {program.n_outputs}), not {array.shape}"
        )
    if program.lut_format == "fp16":
        if array.dtype != np.float32:
            raise HalutError(f"accumulators must be float32, not {array.dtype}")
    elif array.dtype.kind not in "iu":
        raise HalutError(f"accumulators must be integers, not {array.dtype}")
    return array.astype(np.float32) * program.lut_scale + program.lut_offset
