"""Sums and differences of a few columns as what a level of a tree compares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.quantize import sum_thresholds

__all__ = ["greedy_sum", "integer_sums", "products", "second_moments", "sum_of",
           "sums_of_one"]  # fmt: skip

_WORTH_A_TERM = 1.0001
"""A further column must explain more by this factor."""

_COLUMNS_AT_ONCE = 64


def products(
    columns: NDArray[np.float32], centre: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Multiply centred columns (D, n) with others (n, q): (D, q)."""
    found = np.empty((len(columns), others.shape[1]))
    for begin in range(0, len(columns), _COLUMNS_AT_ONCE):  # a centred copy of all is not needed
        part = slice(begin, begin + _COLUMNS_AT_ONCE)
        found[part] = (columns[part] - centre[part, None]) @ others
    return found


def second_moments(
    columns: NDArray[np.float32], centre: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the products of all centred columns (D, n) with each other: (D, D), symmetric."""
    found = np.empty((len(columns), len(columns)))
    for begin in range(0, len(columns), _COLUMNS_AT_ONCE):
        part = slice(begin, begin + _COLUMNS_AT_ONCE)
        centred = columns[part] - centre[part, None]
        found[:, part] = products(columns, centre, centred.T)
    return (found + found.T) / 2


def sum_of(
    columns: NDArray[np.float32], dims: NDArray[np.int32], signs: NDArray[np.int8]
) -> NDArray[np.float32]:
    """Add up columns (D, n) in the order of `dims`, each times its sign, in float32: (n,)."""
    total = np.zeros(columns.shape[1], dtype=np.float32)
    for dim, sign in zip(dims, signs, strict=True):
        total += sign * columns[dim]
    return total


def sums_of_one(
    split_dims: NDArray[np.int32], terms: int
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Return columns (n_codebooks, tree_depth) as sums with one term of `terms`.

    Returns
    -------
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth, terms)
    signs : int8 ndarray of the same shape, 1 and 0
    """
    signs = np.zeros((*split_dims.shape, terms), dtype=np.int8)
    signs[..., 0] = 1
    return np.repeat(split_dims[..., None], terms, axis=2), signs


def greedy_sum(
    moments: NDArray[np.float64], shared: NDArray[np.float64], terms: int
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Choose columns and signs whose sum explains most of the targets by a straight line.

    With s the vector of signs, a line explains ``|s @ shared|**2 / (s @ moments @ s)``. First the
    column is taken that explains most alone, then each time the column and sign with which the sum
    explains most; the choice ends where none explains more.

    Parameters
    ----------
    moments : float64 ndarray of shape (D, D)
        Products of the centred columns with each other.
    shared : float64 ndarray of shape (D, n_targets)
        Their products with the targets.
    terms : int
        Columns at most.

    Returns
    -------
    dims : int32 ndarray of shape (n,), range [0, D), 1 <= n <= terms
    signs : int8 ndarray of shape (n,), -1 or 1; the first is 1

    Examples
    --------
    >>> dims, signs = greedy_sum(np.eye(3), np.array([[2.0], [0.0], [-1.9]]), terms=2)
    >>> dims.tolist(), signs.tolist()
    ([0, 2], [1, -1])
    """
    spread = moments.diagonal()
    least = 1e-9 * max(float(spread.max()), 1e-30)  # of columns that do not vary, or cancel out
    alone = np.einsum("ij,ij->i", shared, shared)
    explained = np.where(spread > least, alone / np.maximum(spread, least), 0)
    first = int(explained.argmax())
    dims, signs = [first], [1]
    best, size = float(explained[first]), float(spread[first])
    together, meets = shared[first].copy(), moments[first].copy()
    while len(dims) < terms:
        both = np.array([[1.0], [-1.0]])
        top = together @ together + 2 * both * (shared @ together) + alone
        bottom = size + 2 * both * meets + spread
        gains = np.where(bottom > least, top / np.maximum(bottom, least), 0)
        gains[:, dims] = 0
        which, dim = (int(place) for place in np.unravel_index(gains.argmax(), gains.shape))
        if gains[which, dim] <= _WORTH_A_TERM * best:
            break
        best, size = float(gains[which, dim]), float(bottom[which, dim])
        sign = 1 - 2 * which
        dims.append(dim)
        signs.append(sign)
        together += sign * shared[dim]
        meets += sign * moments[dim]
    return np.array(dims, dtype=np.int32), np.array(signs, dtype=np.int8)


def integer_sums(
    ends: NDArray[np.float32],
    split_dims: NDArray[np.int32],
    signs: NDArray[np.int8],
    thresholds: NDArray[np.float32],
    bits: int,
    granularity: str,
) -> dict[str, Any]:
    """Return the fields of a `halut.program.Program` that compares sums of integer words.

    Parameters
    ----------
    ends : float32 ndarray of shape (2, n_codebooks, tree_depth, terms)
        The lowest and the highest value of each term, which grids span.
    split_dims, signs, thresholds
        As of `halut.HalutMatmul`: a sign of 0 is no term.
    bits : int
        Of an input word.
    granularity : {"codebook", "dimension", "all"}
        What shares a grid.

    Returns
    -------
    dict of str to ndarray
    """
    low, high = ends
    words, scale, offset = sum_thresholds(thresholds, signs, low, high, bits, granularity)
    return {
        "split_dims": np.where(signs == 0, -1, split_dims),
        "signs": np.where(signs < 0, -1, 1),
        "thresholds": words,
        "input_scale": scale,
        "input_offset": offset,
    }
