"""Rows far from all others, and what keeps them from spoiling what is quantised.

One row that is a million times larger than the rest has a threshold and table entries of its own.
A grid that spans them leaves no steps for the others. So thresholds and entries may be brought in
to where ordinary rows lie; what that gains is judged on rows (`halut.matmul`). A threshold that was
brought in still lies beyond the ordinary rows, and so still tells the others apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.nodes import by_node

__all__ = ["clip_entries", "clip_thresholds", "ordinary_rows"]

QUANTILES = (0.0, 0.001, 0.01, 0.03)
"""Shares of values, at either end, beyond which thresholds are brought in for a trial."""

_DIRECTIONS = 4
_FAR = 1000.0
_RARE = 0.01


def ordinary_rows(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell ordinary rows from those whose product lies far from all others.

    Parameters
    ----------
    rows : float32 ndarray of shape (n_rows, n_features)
    weights : float32 ndarray of shape (n_features, n_outputs)

    Returns
    -------
    bool ndarray of shape (n_rows,)
        False for rows whose squared distance from the median product is more than 1000 times the
        mean of the nearest 99 %, along four fixed directions; at most 1 % of the rows, or one.
    """
    draw = np.random.default_rng(0)
    directions = weights @ draw.choice([-1.0, 1.0], (weights.shape[1], _DIRECTIONS))
    product = rows @ directions.astype(np.float32)  # (N, 4)
    product = product.astype(np.float64) - np.median(product, axis=0)
    away = np.einsum("ij,ij->i", product, product)
    n_rare = max(1, int(_RARE * len(rows)))
    if len(rows) <= n_rare:
        return np.ones(len(rows), dtype=bool)
    usual = np.partition(away, len(rows) - n_rare - 1)[: len(rows) - n_rare].mean()
    if not usual > 0:
        return np.ones(len(rows), dtype=bool)
    ordinary: NDArray[np.bool_] = away <= _FAR * usual
    return ordinary


def clip_thresholds(
    thresholds: NDArray[np.float32],
    values: NDArray[np.float32],
    low: float,
    high: float,
    granularity: str,
) -> NDArray[np.float32]:
    """Bring thresholds in to where values lie.

    Parameters
    ----------
    thresholds : float32 ndarray of shape (n_codebooks, n_prototypes - 1)
        Breadth-first.
    values : float32 ndarray of shape (n_codebooks, tree_depth, n_rows)
        What the trees look at, of ordinary rows; or (…, n_prototypes - 1, n_rows), a node's.
    low, high : float, range [0, 0.5)
        Shares of the values at either end that may lie beyond.
    granularity : {"codebook", "dimension", "all"}
        What shares a grid, and so a range: see `halut.quantize.integer_thresholds`.

    Returns
    -------
    float32 ndarray of the shape of `thresholds`
    """
    axis = {"dimension": (2,), "codebook": (1, 2), "all": (0, 1, 2)}[granularity]
    edges = np.quantile(values.astype(np.float64), [low, 1 - high], axis=axis, keepdims=True)
    margin = (edges[1] - edges[0]) / 128
    depth = thresholds.shape[1].bit_length()
    level = by_node(np.arange(depth))  # (K-1,)
    shape = (len(thresholds), depth, 1)
    lowest = np.broadcast_to(edges[0] - margin, shape)[:, level, 0]
    highest = np.broadcast_to(edges[1] + margin, shape)[:, level, 0]
    return np.clip(thresholds, lowest, highest).astype(np.float32)


def clip_entries(lut: NDArray[np.float32], counts: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Bring table entries that no ordinary row looks up in to the range of the others.

    Parameters
    ----------
    lut : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
    counts : integer ndarray of shape (n_codebooks, n_prototypes)
        How often ordinary rows look up each entry; at least once in every codebook.

    Returns
    -------
    float32 ndarray of the shape of `lut`
    """
    used = counts > 0
    low = np.where(used, lut, np.inf).min(axis=2, keepdims=True)
    high = np.where(used, lut, -np.inf).max(axis=2, keepdims=True)
    return np.clip(lut, low, high)
