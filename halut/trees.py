"""Balanced decision trees with one split dimension per level: learning and walking them.

A tree of depth T looks at one value of a row per level and ends in one of ``2**T`` leaves. The
thresholds of a level differ between its nodes, the split dimension does not (MADDNESS, arXiv
2106.10860, section 4.1 and Algorithm 1). Learning follows Algorithms 2 and 3 there: level by
level, for each candidate dimension, every node takes the threshold that leaves the smallest summed
squared error in its two halves, found over cumulative sums of its sorted rows; the dimension with
the smallest sum over all nodes is kept.

Four things are done differently:

- The squared error is that of `targets`, which need not be the columns that are split. Columns
  times B make a tree aware of B; what the other trees leave over makes it aware of them.
- Rows are sorted once, into bins, and cumulative sums run over bins.
- Rows are centred in their node. Then a node's cumulative sum S ends in zero, and a split lowers
  its squared error by ``|S|**2 / n_left + |S|**2 / n_right``: no squares are accumulated, and a
  large offset in the data does no harm.
- Candidates are ranked by how much of the targets a straight line in each node explains, not by
  their variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.native import learning

__all__ = ["Bins", "SortedColumns", "fill_empty_leaves", "learn_tree", "split_column", "walk"]

_BINS = learning.MOST_BINS
"""Thresholds lie between bins; with fewer values than this, between any two values."""

_RANKING_ROWS = 4096

_NODE_CANDIDATES = 32
"""Columns, at most, that every node tries."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """A column, sorted into bins of about equally many rows; equal values share a bin.

    Parameters
    ----------
    index : uint16 ndarray of shape (n_rows,), range [0, n_bins)
        The bin of every row.
    low, high : float32 ndarray of shape (n_bins,)
        The smallest and the largest value in each bin; no bin is empty.
    """

    index: NDArray[np.uint16]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, column: NDArray[np.float32]) -> Bins:
        """Sort a finite column of shape (n_rows,) into bins: one per value when they are few."""
        order = np.argsort(column)
        values = column[order]
        # Places where a bin may begin, and of those the ones nearest to even shares.
        borders = np.flatnonzero(values[1:] != values[:-1]) + 1
        if len(borders) >= _BINS:
            shares = np.arange(1, _BINS) * (len(values) / _BINS)
            nearest = np.searchsorted(borders, shares).clip(max=len(borders) - 1)
            borders = borders[np.unique(nearest)]
        begins = np.concatenate([[0], borders])
        ends = np.concatenate([borders, [len(values)]])
        index = np.empty(len(values), dtype=np.uint16)
        index[order] = np.repeat(np.arange(len(begins), dtype=np.uint16), ends - begins)
        return cls(index=index, low=values[begins], high=values[ends - 1])


class SortedColumns:
    """Columns in bins, sorted when a tree first needs them.

    Attributes
    ----------
    by_column : dict of int to Bins
        By NumPy.
    native : BinnedColumns or None
        By the native library.
    """

    def __init__(self) -> None:
        self.by_column: dict[int, Bins] = {}
        self.native: learning.BinnedColumns | None = None


def learn_tree(
    columns: NDArray[np.float32],
    targets: NDArray[np.float64],
    tree_depth: int,
    n_candidates: int = 4,
    shrinkage: float = 0.0,
    bins: SortedColumns | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]:
    """Learn one tree.

    Parameters
    ----------
    columns : float32 ndarray of shape (n_columns, n_rows)
        What can be split, one contiguous row per column; finite.
    targets : float64 ndarray of shape (n_targets, n_rows)
        What should vary little within a leaf; centred.
    tree_depth : int
        T, 1 to 8.
    n_candidates : int, default 4
        How many columns are tried in full at each level.
    shrinkage : float, default 0
        Added to the row counts of both halves when the gain of a split is computed: the error is
        then that of means shrunk by ridge regression, and tiny leaves gain less.
    bins : SortedColumns, optional
        Kept between calls with the same columns, it saves sorting them again.

    Returns
    -------
    split_dims : int32 ndarray of shape (tree_depth,), range [0, n_columns)
    thresholds : float32 ndarray of shape (2**tree_depth - 1,)
        Breadth-first; finite, and in the range of the column. A node whose rows do not differ
        sends them left.
    codes : uint8 ndarray of shape (n_rows,), range [0, 2**tree_depth)
        The leaf of every row.
    """
    kept = SortedColumns() if bins is None else bins
    every = -(-columns.shape[1] // _RANKING_ROWS)
    if kept.native is None:
        kept.native = learning.BinnedColumns(*columns.shape)
    found = learning.learn_tree(
        columns, targets, tree_depth, n_candidates, shrinkage, every, kept.native
    )
    if found is not None:
        return found
    split_dims = np.zeros(tree_depth, dtype=np.int32)
    thresholds = np.zeros(2**tree_depth - 1, dtype=np.float32)
    codes = np.zeros(columns.shape[1], dtype=np.uint8)
    ranked = np.ascontiguousarray(columns[:, ::every]), np.ascontiguousarray(targets[:, ::every])
    for level in range(tree_depth):
        n_nodes = 2**level
        here = slice(n_nodes - 1, 2 * n_nodes - 1)
        best = -1.0
        for column in _rank_columns(*ranked, np.ascontiguousarray(codes[::every]), n_candidates):
            if column not in kept.by_column:
                kept.by_column[column] = Bins.of(columns[column])
            gains, chosen = _split_nodes(kept.by_column[column], targets, codes, n_nodes, shrinkage)
            gain = float(gains.sum())
            if gain > best:
                best = gain
                split_dims[level] = column
                thresholds[here] = chosen
        reached = thresholds[here][codes]
        codes += codes
        codes += columns[split_dims[level]] > reached
    return split_dims, thresholds, codes


def learn_node_tree(
    columns: NDArray[np.float32],
    targets: NDArray[np.float64],
    tree_depth: int,
    shrinkage: float = 0.0,
    bins: SortedColumns | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]:
    """Learn one tree with a split dimension per node.

    Every node tries all columns, or the `_NODE_CANDIDATES` that explain most at its level.

    Parameters
    ----------
    columns, targets, tree_depth, shrinkage, bins
        As of `learn_tree`.

    Returns
    -------
    split_dims : int32 ndarray of shape (2**tree_depth - 1,), range [0, n_columns)
        Breadth-first, as the thresholds.
    thresholds, codes
        As of `learn_tree`.
    """
    kept = SortedColumns() if bins is None else bins
    split_dims = np.zeros(2**tree_depth - 1, dtype=np.int32)
    thresholds = np.zeros(2**tree_depth - 1, dtype=np.float32)
    codes = np.zeros(columns.shape[1], dtype=np.uint8)
    every, row = -(-columns.shape[1] // _RANKING_ROWS), np.arange(columns.shape[1])
    ranked = np.ascontiguousarray(columns[:, ::every]), np.ascontiguousarray(targets[:, ::every])
    for level in range(tree_depth):
        n_nodes = 2**level
        dims = split_dims[n_nodes - 1 : 2 * n_nodes - 1]
        chosen = thresholds[n_nodes - 1 : 2 * n_nodes - 1]
        best = np.full(n_nodes, -1.0)
        here = np.ascontiguousarray(codes[::every])
        for column in sorted(_rank_columns(*ranked, here, _NODE_CANDIDATES)):
            if column not in kept.by_column:
                kept.by_column[column] = Bins.of(columns[column])
            gains, found = _split_nodes(kept.by_column[column], targets, codes, n_nodes, shrinkage)
            better = gains > best
            best[better], dims[better], chosen[better] = gains[better], column, found[better]
        right = columns[dims[codes], row] > chosen[codes]
        codes += codes
        codes += right
    return split_dims, thresholds, codes


def split_column(
    column: NDArray[np.float32],
    targets: NDArray[np.float64],
    codes: NDArray[np.uint8],
    n_nodes: int,
    shrinkage: float,
) -> tuple[float, NDArray[np.float32]]:
    """Find every node's best threshold in one column.

    Parameters
    ----------
    column : float32 ndarray of shape (n_rows,)
        Finite.
    targets : float64 ndarray of shape (n_targets, n_rows)
    codes : uint8 ndarray of shape (n_rows,), range [0, n_nodes)
        The node of every row.
    n_nodes : int
    shrinkage : float
        See `learn_tree`.

    Returns
    -------
    float
        What the squared error falls by.
    float32 ndarray of shape (n_nodes,)
        Thresholds.
    """
    gains, thresholds = _split_nodes(Bins.of(column), targets, codes, n_nodes, shrinkage)
    return float(gains.sum()), thresholds


@dataclass(frozen=True, kw_only=True)
class _Splits:
    """The best split of every node: its rows, what the squared error falls by, the last bin on the
    left, the first on the right that has rows (0 when none has), the last that has rows."""

    sizes: NDArray[np.integer[Any]]
    gains: NDArray[np.float64]
    places: NDArray[np.intp]
    nexts: NDArray[np.intp]
    lasts: NDArray[np.intp]


def _split_nodes(
    bins: Bins,
    targets: NDArray[np.float64],
    codes: NDArray[np.uint8],
    n_nodes: int,
    shrinkage: float,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Find every node's best threshold in one column: gains and thresholds, (n_nodes,) each."""
    n_bins = len(bins.low)
    found = _best_splits(bins, targets, codes, n_nodes, shrinkage)
    # Between the largest value on the left and the smallest on the right, of values in use here.
    low, high = bins.high[found.places], bins.low[found.nexts]
    middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    chosen = np.where((low <= middle) & (middle < high), middle, low)
    # Rows that do not differ go left; where there are none, any value will do.
    chosen = np.where(found.gains > 0, chosen, bins.high[found.lasts])
    chosen = np.where(found.sizes > 0, chosen, bins.high[n_bins // 2])
    return found.gains, chosen


def _best_splits(
    bins: Bins,
    targets: NDArray[np.float64],
    codes: NDArray[np.uint8],
    n_nodes: int,
    shrinkage: float,
) -> _Splits:
    """Find the best place to cut each node's rows in two."""
    size, shape = n_nodes * len(bins.low), (n_nodes, len(bins.low))
    cell = codes.astype(np.intp)
    cell *= len(bins.low)
    cell += bins.index
    n_left = np.bincount(cell, minlength=size).reshape(shape).cumsum(axis=1)
    n_rows = n_left[:, -1:]
    n_right = n_rows - n_left
    share = n_left / np.maximum(n_rows, 1)
    gain = np.zeros(shape)
    for target in targets:
        sums = np.bincount(cell, target, minlength=size).reshape(shape)
        np.cumsum(sums, axis=1, out=sums)
        sums -= share * sums[:, -1:]  # of rows that are centred in their node
        np.multiply(sums, sums, out=sums)
        gain += sums
    gain *= 1 / np.maximum(n_left + shrinkage, 1) + 1 / np.maximum(n_right + shrinkage, 1)
    gain[(n_left == 0) | (n_right == 0)] = 0
    node = np.arange(n_nodes)
    places = gain.argmax(axis=1)
    return _Splits(
        sizes=n_rows[:, 0],
        gains=gain[node, places],
        places=places,
        nexts=(n_left > n_left[node, places][:, None]).argmax(axis=1),
        lasts=(n_left == n_rows).argmax(axis=1),
    )


def _explained(
    columns: NDArray[np.float32], targets: NDArray[np.float64], codes: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return how much of the targets a straight line in each node explains, for every column."""
    explained = np.zeros(len(columns))
    for node in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == node)
        if len(rows) < 2:
            continue
        x = columns.take(rows, axis=1)
        y = targets.take(rows, axis=1)
        x -= x.mean(axis=1, keepdims=True)
        y -= y.mean(axis=1, keepdims=True)
        spread = np.einsum("ij,ij->i", x, x)
        slope = x @ y.T.astype(np.float32)
        explained += np.einsum("ij,ij->i", slope, slope) / np.maximum(spread, 1e-30)
    return explained


def _rank_columns(
    columns: NDArray[np.float32],
    targets: NDArray[np.float64],
    codes: NDArray[np.uint8],
    wanted: int,
) -> list[int]:
    """Return the columns of which a straight line in each node explains most of the targets."""
    if wanted >= len(columns):
        return list(range(len(columns)))
    explained = _explained(columns, targets, codes)
    return [int(column) for column in np.argsort(-explained, kind="stable")[:wanted]]


def walk(
    values: NDArray[np.float32], thresholds: NDArray[np.float32], out: NDArray[np.uint8]
) -> None:
    """Walk rows through the trees of all codebooks.

    Parameters
    ----------
    values : float32 ndarray of shape (n_codebooks, tree_depth, n_rows)
        The values that the trees look at, a level's or, in shape (n_codebooks,
        2**tree_depth - 1, n_rows), a node's. NaN goes left.
    thresholds : float32 ndarray of shape (n_codebooks, 2**tree_depth - 1)
        Breadth-first.
    out : uint8 ndarray of shape (n_codebooks, n_rows)
        Written: the leaf of every row.
    """
    for codebook, (levels, nodes) in enumerate(zip(values, thresholds, strict=True)):
        code = (levels[0] > nodes[0]).astype(np.intp)
        depth = len(nodes).bit_length()
        is_per_node, row = len(levels) > depth, np.arange(levels.shape[1])
        for level in range(1, depth):
            first = 2**level - 1
            reached = nodes[first : 2 * first + 1].take(code, mode="clip")
            value = levels[first + code, row] if is_per_node else levels[level]
            code += code
            code += value > reached
        out[codebook] = code


def fill_empty_leaves(
    entries: NDArray[Any], counts: NDArray[np.integer[Any]]
) -> NDArray[np.floating[Any]]:
    """Give leaves that no training row reached the mean of their nearest relatives.

    Parameters
    ----------
    entries : floating ndarray of shape (n_codebooks, n_prototypes, n_targets)
        One entry per leaf.
    counts : integer ndarray of shape (n_codebooks, n_prototypes)
        Training rows per leaf.

    Returns
    -------
    floating ndarray of the shape of `entries`
        A copy in which each empty leaf has the mean entry of the rows below its lowest ancestor
        that has any.
    """
    filled = entries.copy()
    for codebook, leaf in zip(*np.nonzero(counts == 0), strict=True):
        size = 2
        while not counts[codebook, leaf // size * size : leaf // size * size + size].any():
            size *= 2
        relatives = slice(leaf // size * size, leaf // size * size + size)
        rows = counts[codebook, relatives]
        filled[codebook, leaf] = rows @ entries[codebook, relatives] / rows.sum()
    return filled
