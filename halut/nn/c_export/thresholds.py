"""Thresholds for floats as they come: no input is quantised.

A tree of an exact layer compares words of an input format, and a word is a non-decreasing function
of the float that it is made of. So every decision is ``x > t`` for one float32 t, found by
bisection. Floats are compared as integers, `keys`, which are in their order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from halut.formats import FLOAT_FORMATS
from halut.nodes import by_node
from halut.program import Program

__all__ = ["keys", "threshold_keys", "values"]

_INFINITY = 0x7F800000


def keys(floats: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return integers in the order of floats, -0 just before 0; not for NaN.

    Examples
    --------
    >>> keys(np.array([-1.0, -0.0, 0.0, 1.0], dtype=np.float32)).tolist()
    [-1065353217, -1, 0, 1065353216]
    """
    bits = np.ascontiguousarray(floats, dtype=np.float32).view(np.int32)
    return np.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).astype(np.int64)


def values(of_keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the floats that keys stand for."""
    bits = np.where(of_keys >= 0, of_keys, of_keys ^ 0x7FFFFFFF).astype(np.int32)
    return bits.view(np.float32)


def threshold_keys(program: Program) -> NDArray[np.int64]:
    """Return the key of the greatest float that goes left, for every node.

    Parameters
    ----------
    program : Program

    Returns
    -------
    int64 ndarray of shape (n_codebooks, n_prototypes - 1)
        Where no float goes left: the integer below the key of minus infinity.
    """
    nodes = program.threshold_values.astype(np.float64)
    levels = by_node(np.arange(program.tree_depth))
    if program.window:  # all words of a layer's window share one grid
        levels[:] = 0
    scale = program.input_scale[:, levels].astype(np.float64)
    offset = program.input_offset[:, levels].astype(np.float64)
    floating = FLOAT_FORMATS.get(program.input_format)
    half = 2 ** (program.input_bits - 1)

    def goes_right(of_keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        floats = values(of_keys)
        if floating is not None:
            return floating.values(floating.words(floats)) > nodes
        words = np.rint((floats.astype(np.float64) - offset) / scale)
        return np.clip(words, -half, half - 1) > nodes

    lowest = int(keys(np.array([-np.inf], dtype=np.float32))[0])
    left = np.full(nodes.shape, lowest - 1)  # goes left, or is no float
    right = np.full(nodes.shape, _INFINITY + 1)  # goes right, or is no float
    while (right - left > 1).any():
        middle = np.where(right - left > 1, (left + right) // 2, np.maximum(left, lowest))
        decides = goes_right(middle) & (right - left > 1)
        right = np.where(decides, middle, right)
        left = np.where(~decides & (right - left > 1), middle, left)
    return left
