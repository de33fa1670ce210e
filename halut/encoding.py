"""The bit-exact walk through the trees: words become comparable integers, these become codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.nodes import by_node
from halut.program import Program

__all__ = ["at_level", "at_node", "check_words", "compared_keys", "comparison_keys", "encode",
           "float_thresholds", "threshold_keys", "walk"]  # fmt: skip

_INFINITY = 0x7F800000
"""Bits of infinity in float32."""


def comparison_keys(words: ArrayLike, input_format: str) -> NDArray[np.int32]:
    """Map input words to integers that compare as the words' values do.

    Parameters
    ----------
    words : ndarray of any shape
        Bit patterns, uint16 or uint8, for floating formats; int16 in the format's range for
        integer formats.
    input_format : str
        A floating format, or ``"int2"`` to ``"int16"``.

    Returns
    -------
    int32 ndarray of the shape of `words`, range [-0x8000, 0x7fff]
        For ``"fp16"``: -0 and +0 are both 0, infinities are -0x7c00 and 0x7c00, every NaN is
        -0x8000; see `FloatFormat.keys`. Integer formats are returned as they are.

    Raises
    ------
    HalutError
        When the words are not of the format.

    Examples
    --------
    >>> import numpy as np
    >>> halves = np.array([-np.inf, -0.0, 0.0, 6e-8, np.inf, np.nan], dtype=np.float16)
    >>> comparison_keys(halves.view(np.uint16), "fp16").tolist()
    [-31744, 0, 0, 1, 31744, -32768]
    """
    array = np.asarray(words)
    bits = input_format_bits(input_format)
    floating = FLOAT_FORMATS.get(input_format)
    wanted = np.dtype(floating.dtype if floating else np.int16)
    if array.dtype != wanted:
        raise HalutError(f'words must be {wanted} for input_format "{input_format}", '
                         f"not {array.dtype}")  # fmt: skip
    if floating:
        return floating.keys(array)
    limit = 2 ** (bits - 1)
    if array.size and (array.min() < -limit or array.max() >= limit):
        raise HalutError(
            f"words must be in [{-limit}, {limit - 1}], not {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)


def encode(program: Program, words: ArrayLike) -> NDArray[np.uint8]:
    """Walk every row through every codebook's tree.

    Level t compares the row's word t, the sum of its words, or the word at its place in the
    codebook's window, as `Program` has it, with the threshold of the node that the walk has
    reached; strictly greater gives bit 1. The root's decision is the most significant bit.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, n_values)
        As `Program.input_words` returns them.

    Returns
    -------
    uint8 ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
        Codes.
    """
    partial = walk(program, check_words(program, words), program.tree_depth)
    return partial.astype(np.uint8)


def check_words(program: Program, words: ArrayLike) -> NDArray[Any]:
    """Return words as an array; raise `HalutError` unless their shape fits the program."""
    array = np.asarray(words)
    wanted = (program.n_codebooks, program.n_values)
    if array.ndim != 3 or array.shape[1:] != wanted:
        raise HalutError(f"words must have shape (any, {wanted[0]}, {wanted[1]}), "
                         f"not {array.shape}")  # fmt: skip
    return array


def walk(program: Program, words: NDArray[Any], n_levels: int) -> NDArray[np.intp]:
    """Return the decisions of the first levels, the root's as the most significant bit."""
    keys = compared_keys(program, words)
    thresholds = threshold_keys(program)  # (C, K-1)
    partial = np.zeros(words.shape[:2], dtype=np.intp)  # (N, C)
    for level in range(n_levels):
        reached = at_node(thresholds, partial, level)
        partial = 2 * partial + (at_level(program, keys, partial, level) > reached)
    return partial


def at_level(
    program: Program, keys: NDArray[np.int32], partial: NDArray[np.intp], level: int
) -> NDArray[np.int32]:
    """Return what a level compares, (n_rows, n_codebooks), of `compared_keys`.

    `partial` are the walks' decisions before, which windows with a place per node look at.
    """
    if program.places is None:
        return keys[:, :, level]
    if program.splits == "level":
        return keys[:, np.arange(program.n_codebooks), program.places[:, level]]
    places = at_node(program.places, partial, level)
    return np.take_along_axis(keys, places[:, :, None].astype(np.intp), axis=2)[:, :, 0]


def compared_keys(program: Program, words: NDArray[Any]) -> NDArray[np.int32]:
    """Return words' keys, (n_rows, n_codebooks, any), or what levels compare of them: sums."""
    keys = comparison_keys(words, program.input_format)
    if program.signs is None:
        return keys
    n_rows, n_codebooks, n_words = keys.shape
    keys = keys.reshape(n_rows, n_codebooks, n_words // program.terms, program.terms)
    # What is subtracted is complemented: -1 - word.
    return np.where(program.signs[:, : keys.shape[2]] < 0, ~keys, keys).sum(axis=3, dtype=np.int32)


def threshold_keys(program: Program) -> NDArray[np.int32]:
    """Return what keys are compared with, (n_codebooks, n_prototypes - 1)."""
    if program.signs is not None:  # wider than input words
        return program.thresholds.astype(np.int32)
    return comparison_keys(program.threshold_words, program.input_format)


def at_node(nodes: NDArray[Any], partial: NDArray[np.intp], level: int) -> NDArray[Any]:
    """Return what a level's nodes hold where the walks are.

    Parameters
    ----------
    nodes : ndarray of shape (n_codebooks, n_prototypes - 1)
        Level by level.
    partial : intp ndarray of shape (n_rows, n_codebooks)
        The walks' decisions before `level`, the root's as the most significant bit.
    level : int

    Returns
    -------
    ndarray of shape (n_rows, n_codebooks)
    """
    return nodes[np.arange(len(nodes)), 2**level - 1 + partial]


def float_thresholds(program: Program) -> NDArray[np.float32]:
    """Return thresholds that decide on float32 values as the program's do on their words.

    Words are in the order of the values that they are made of, so each threshold is the largest
    value whose word is not above the program's: found by halving the range of all floats.

    Parameters
    ----------
    program : Program
        Without sums and windows.

    Returns
    -------
    float32 ndarray of shape (n_codebooks, n_prototypes - 1)
        A value goes right when it is greater; infinity where none does.

    Examples
    --------
    >>> program = Program(n_features=1, input_format="int8", split_dims=[[0]], thresholds=[[2]],
    ...                   lut=[[[0, 1]]], lut_scale=[1], lut_offset=[0], input_scale=[[2.0]])
    >>> float_thresholds(program).tolist()
    [[5.0]]
    """
    if program.signs is not None:
        raise HalutError("program must not compare sums for thresholds of single values")
    if program.places is not None:
        raise HalutError("program must not have windows for thresholds of single values")
    wanted = comparison_keys(program.threshold_words, program.input_format)
    levels = by_node(np.arange(program.tree_depth))
    scale, offset = program.input_scale[:, levels], program.input_offset[:, levels]

    def value(place: NDArray[np.int64]) -> NDArray[np.float32]:
        """The floats from -infinity to infinity, numbered from -_INFINITY on."""
        bits = np.where(place < 0, 0x80000000 - place, place)
        return bits.astype(np.uint32).view(np.float32)

    low = np.full(wanted.shape, -_INFINITY, dtype=np.int64)  # goes left
    high = np.full(wanted.shape, _INFINITY + 1, dtype=np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        words = program.quantise(value(middle), scale, offset)
        left = comparison_keys(words, program.input_format) <= wanted
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return value(low)
