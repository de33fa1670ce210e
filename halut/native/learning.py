"""Sums and counts over rows in C, for learning: each returns None where NumPy is to compute."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halut.native.layouts import are
from halut.native.library import kernels

__all__ = ["Splits", "add_entries", "column_sums", "count_meetings", "rank_columns",
           "split_nodes", "table_sums"]  # fmt: skip

_MOST_ROWS = 2**31


class Splits(NamedTuple):
    """The best split of every node.

    Attributes
    ----------
    sizes : int64 ndarray of shape (n_nodes,)
        Rows.
    gains : float64 ndarray of shape (n_nodes,)
        What the squared error falls by; at least 0.
    places : int64 ndarray of shape (n_nodes,)
        The last bin on the left.
    nexts : int64 ndarray of shape (n_nodes,)
        The first bin on the right that has rows; 0 when none has.
    lasts : int64 ndarray of shape (n_nodes,)
        The last bin that has rows; 0 when none has.
    """

    sizes: NDArray[np.int64]
    gains: NDArray[np.float64]
    places: NDArray[np.int64]
    nexts: NDArray[np.int64]
    lasts: NDArray[np.int64]

    @staticmethod
    def dtypes() -> tuple[type, ...]:
        """Return the types of the arrays."""
        return np.int64, np.float64, np.int64, np.int64, np.int64


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


def split_nodes(
    nodes: NDArray[np.uint8],
    bins: NDArray[np.uint16],
    n_nodes: int,
    n_bins: int,
    targets: NDArray[np.float64],
    shrinkage: float,
) -> Splits | None:
    """Find the best place to cut each node's rows in two; see `halut.trees`.

    Parameters
    ----------
    nodes : uint8 ndarray of shape (n_rows,), range [0, n_nodes)
    bins : uint16 ndarray of shape (n_rows,), range [0, n_bins)
    n_nodes, n_bins : int
    targets : float64 ndarray of shape (n_targets, n_rows)
    shrinkage : float
    """
    chosen = kernels()
    if chosen is None or not (
        are(np.uint8, nodes) and are(np.uint16, bins) and are(np.float64, targets)
    ):
        return None
    found = Splits(*(np.empty(n_nodes, dtype=dtype) for dtype in Splits.dtypes()))
    chosen.call("halut_split_nodes", nodes.ctypes.data, bins.ctypes.data, len(nodes), n_nodes,
                n_bins, targets.ctypes.data, len(targets), shrinkage,
                *(array.ctypes.data for array in found))  # fmt: skip
    return found


def rank_columns(
    nodes: NDArray[np.uint8], columns: NDArray[np.float32], targets: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return how much of the targets a straight line in each node explains, for every column.

    Parameters
    ----------
    nodes : uint8 ndarray of shape (n_rows,)
    columns : float32 ndarray of shape (n_columns, n_rows)
    targets : float64 ndarray of shape (n_targets, n_rows)

    Returns
    -------
    float64 ndarray of shape (n_columns,), or None
    """
    chosen = kernels()
    if chosen is None or not (
        are(np.uint8, nodes) and are(np.float32, columns) and are(np.float64, targets)
    ):
        return None
    explained = np.empty(len(columns))
    chosen.call("halut_rank_columns", nodes.ctypes.data, len(nodes), int(nodes.max()) + 1,
                columns.ctypes.data, len(columns), targets.ctypes.data, len(targets),
                explained.ctypes.data)  # fmt: skip
    return explained


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
