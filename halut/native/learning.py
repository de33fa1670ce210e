"""Sums and counts over rows in C, for learning: each returns None where NumPy is to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.native.layouts import address, aligned_bytes, are
from halut.native.library import kernels

__all__ = ["MOST_BINS", "BinnedColumns", "add_entries", "column_means", "column_sums",
           "count_meetings", "empty_columns", "exchange_entries", "learn_tree", "solve",
           "table_sums", "write_columns"]  # fmt: skip

MOST_BINS = 512
"""Bins of a column, at most, as in trees.h."""

_MOST_ROWS = 2**31

_BLOCK = 32
"""What sizes of systems are multiples of, as in cholesky.c."""


class BinnedColumns:
    """Columns sorted into bins, by `learn_tree` when it first needs them; see `halut.trees.Bins`.

    Parameters
    ----------
    n_columns, n_rows : int

    Attributes
    ----------
    index : uint16 ndarray of shape (n_columns, n_rows)
    low, high : float32 ndarray of shape (n_columns, 512)
    n_bins : int64 ndarray of shape (n_columns,)
        0 for a column that was not sorted yet.
    """

    def __init__(self, n_columns: int, n_rows: int) -> None:
        self.index = np.empty((n_columns, n_rows), dtype=np.uint16)
        self.low, self.high = np.empty((2, n_columns, MOST_BINS), dtype=np.float32)
        self.n_bins = np.zeros(n_columns, dtype=np.int64)
        parts = self.index, self.low, self.high, self.n_bins
        self.addresses = np.array([address(part) for part in parts], dtype=np.uintp)


def count_meetings(codes: NDArray[np.uint8], n_prototypes: int) -> NDArray[np.float64] | None:
    """Do what `halut.ridge.count_meetings` does."""
    chosen = kernels()
    if chosen is None or not are(np.uint8, codes) or codes.shape[1] >= _MOST_ROWS:
        return None
    size = len(codes) * n_prototypes
    counts = np.empty((size, size))
    chosen.call("halut_count_meetings", codes.ctypes.data, *codes.shape, n_prototypes,
                counts.ctypes.data)  # fmt: skip
    return counts


def table_sums(
    codes: NDArray[np.uint8], targets: NDArray[Any], n_prototypes: int
) -> NDArray[np.float64] | None:
    """Do what `halut.ridge.table_sums` does, for float32 targets."""
    chosen = kernels()
    if chosen is None or not (are(np.uint8, codes) and are(np.float32, targets)):
        return None
    sums = np.empty((len(codes) * n_prototypes, targets.shape[1]))
    chosen.call("halut_table_sums", codes.ctypes.data, *codes.shape, n_prototypes,
                targets.ctypes.data, targets.shape[1], sums.ctypes.data)  # fmt: skip
    return sums


def solve(
    matrix: NDArray[np.float64], strength: float, sides: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Solve ``(matrix + strength * I) @ solution = sides`` by Cholesky's factorisation.

    Parameters
    ----------
    matrix : float64 ndarray of shape (n, n)
        Symmetric.
    strength : float
    sides : float64 ndarray of shape (n, n_sides)

    Returns
    -------
    float64 ndarray of shape (n, n_sides), column-major, or None
        None also where the sum is not positive definite.
    """
    chosen = kernels()
    if chosen is None:
        return None
    n, n_sides = sides.shape
    padded = -(-n // _BLOCK) * _BLOCK
    # Rows that are a power of two apart would share places in the cache.
    work = np.empty((padded + n_sides, padded + 8))
    work[:n, :n] = matrix
    work[n:padded] = 0
    work[:, n:padded] = 0
    diagonal = work.ravel()[: padded * work.shape[1] : work.shape[1] + 1]
    diagonal[:n] += strength
    diagonal[n:] = 1
    work[padded:, :n] = sides.T
    if chosen.call("halut_solve", work.ctypes.data, work.shape[1], padded, n_sides):
        return None
    return work[padded:, :n].copy().T


def learn_tree(
    columns: NDArray[np.float32],
    targets: NDArray[np.float64],
    tree_depth: int,
    n_candidates: int,
    shrinkage: float,
    every: int,
    bins: BinnedColumns,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]] | None:
    """Do what `halut.trees.learn_tree` does, and rank columns by every so many-th rows.

    `bins` is of as many columns and rows; what is missing in it is added.
    """
    chosen = kernels()
    if (
        chosen is None
        or not (are(np.float32, columns) and are(np.float64, targets))
        or not (columns.size and targets.size)
        or columns.shape[1] >= _MOST_ROWS
    ):
        return None
    split_dims = np.zeros(tree_depth, dtype=np.int32)
    thresholds = np.zeros(2**tree_depth - 1, dtype=np.float32)
    codes = np.empty(columns.shape[1], dtype=np.uint8)
    chosen.call("halut_learn_tree", address(columns), *columns.shape, address(targets),
                len(targets), tree_depth, n_candidates, shrinkage, every,
                address(bins.addresses), address(split_dims), address(thresholds),
                address(codes))  # fmt: skip
    return split_dims, thresholds, codes


def column_sums(
    codes: NDArray[np.uint8],
    n_prototypes: int,
    columns: NDArray[np.float32],
    centre: NDArray[np.float32],
) -> NDArray[np.float64] | None:
    """Add up ``columns - centre`` by code, row by row in float64.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_rows,), range [0, n_prototypes)
    n_prototypes : int
    columns : float32 ndarray of shape (n_columns, n_rows)
    centre : float32 ndarray of shape (n_columns,)

    Returns
    -------
    float64 ndarray of shape (n_prototypes, n_columns), or None
    """
    chosen = kernels()
    if chosen is None or not (are(np.uint8, codes) and are(np.float32, columns, centre)):
        return None
    sums = np.empty((n_prototypes, len(columns)))
    chosen.call("halut_column_sums", codes.ctypes.data, len(codes), n_prototypes,
                columns.ctypes.data, centre.ctypes.data, len(columns),
                sums.ctypes.data)  # fmt: skip
    return sums


def add_entries(
    codes: NDArray[np.uint8], table: NDArray[np.float32], rows: NDArray[np.float32], sign: int
) -> bool:
    """Add ``sign * table[codes]`` to rows (n_rows, n_targets), in place; say whether it was done.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_rows,), range [0, n_prototypes)
    table : float32 ndarray of shape (n_prototypes, n_targets)
    rows : float32 ndarray of shape (n_rows, n_targets)
    sign : {-1, 1}
    """
    chosen = kernels()
    if chosen is None or not (are(np.uint8, codes) and are(np.float32, table, rows)):
        return False
    chosen.call("halut_add_entries", codes.ctypes.data, len(codes), table.ctypes.data,
                table.shape[1], int(sign < 0), rows.ctypes.data)  # fmt: skip
    return True


def exchange_entries(
    lost: tuple[NDArray[np.float32], NDArray[np.uint8]],
    gained: tuple[NDArray[np.float32], NDArray[np.uint8]],
    rows: NDArray[np.float32],
) -> NDArray[np.float64] | None:
    """Take table entries off rows (n_rows, n_targets), and add others, in place.

    Parameters
    ----------
    lost, gained : table, codes
        float32 ndarray of shape (n_prototypes, n_targets); uint8 ndarray of shape (n_rows,), range
        [0, n_prototypes).
    rows : float32 ndarray of shape (n_rows, n_targets)

    Returns
    -------
    float64 ndarray of shape (n_prototypes, n_targets), or None
        What rows were between the two, added up by the codes of `gained`.
    """
    chosen = kernels()
    (off, off_codes), (on, codes) = lost, gained
    if chosen is None or not (
        are(np.uint8, off_codes, codes) and are(np.float32, off, on, rows) and off.shape == on.shape
    ):
        return None
    sums = np.empty(on.shape)
    chosen.call("halut_exchange_entries", address(off_codes), address(off), address(codes),
                address(on), *rows.shape, len(on), address(rows), address(sums))  # fmt: skip
    return sums


def empty_columns(n_columns: int, n: int) -> NDArray[np.float32]:
    """Return float32 columns (n_columns, n), not set, that `write_columns` fills fastest.

    Their address is a multiple of 64 bytes, as that of large NumPy arrays never is.
    """
    return aligned_bytes(4 * n_columns * n).view(np.float32).reshape(n_columns, n)


def write_columns(rows: NDArray[np.float32], columns: NDArray[np.float32], begin: int) -> bool:
    """Write rows (n, n_columns) into columns (n_columns, any), from `begin` on; say if it was done.

    Parameters
    ----------
    rows : float32 ndarray of shape (n, n_columns)
    columns : float32 ndarray of shape (n_columns, at least begin + n)
    begin : int
    """
    chosen = kernels()
    if chosen is None or not are(np.float32, rows, columns):
        return False
    chosen.call("halut_columns", address(rows), *rows.shape,
                address(columns) + 4 * begin, columns.shape[1])  # fmt: skip
    return True


def column_means(rows: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the means of the columns of rows (n, n_columns), added up row by row in float64."""
    chosen = kernels()
    if chosen is None or not are(np.float32, rows):
        return None
    sums = np.empty(rows.shape[1])
    chosen.call("halut_add_up_rows", address(rows), *rows.shape, address(sums))
    return sums / len(rows)
