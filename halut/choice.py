"""Choosing between ways of learning by rows that they did not see.

With few rows the choice is made by cross-validation; with many, one share of the rows that all ways
hold out is enough. A way that is listed later, as it costs more, must be better by more than
chance would have it: by one standard error of the difference, row by row (the rule is that of
Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.judging import Statistics

__all__ = ["FEW_ROWS", "cross_validated", "is_better", "least_error", "least_held_out"]

FEW_ROWS = 4096
"""With so many rows or fewer, ways of learning are cross-validated."""

_FOLDS = 5

Learn = Callable[[NDArray[np.float32], NDArray[np.float32]], Any]
"""Learns from rows (n, D) for B (D, M); what it returns has `matmul_online`."""


def is_better(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Say whether squared errors of rows fell by more than one standard error of the difference.

    Parameters
    ----------
    before, after : float64 ndarray of shape (n_rows,)

    Examples
    --------
    >>> before = np.array([1.0, 2.0, 3.0, 4.0])
    >>> is_better(before, before - 0.1)
    True
    >>> is_better(before, before - [9.0, 0, 0, 0])  # one row says nothing
    False
    """
    gained = before - after
    by_chance = np.sqrt(len(gained)) * gained.std(ddof=1) if len(gained) > 1 else 0.0
    return bool(gained.sum() > by_chance)


def least_error(errors: Sequence[NDArray[np.float64]]) -> int:
    """Return which of several ways to take, given each one's squared errors of the same rows."""
    best = 0
    for index in range(1, len(errors)):
        if is_better(errors[best], errors[index]):
            best = index
    return best


def cross_validated(
    ways: Sequence[Learn], rows: NDArray[np.float32], weights: NDArray[np.float32], seed: int
) -> list[NDArray[np.float64]]:
    """Return the squared error of every row by each way, learned from other rows.

    Parameters
    ----------
    ways : sequence of callable
    rows : float32 ndarray of shape (n, n_features)
    weights : float32 ndarray of shape (n_features, n_outputs)
    seed : int
        Of the five parts that the rows are cut into at random; at least two rows are needed.

    Returns
    -------
    list of float64 ndarray of shape (n,)
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = np.array_split(order, min(_FOLDS, len(rows)))
    errors = [np.empty(len(rows)) for _ in ways]
    for part in parts:
        kept = np.ones(len(rows), dtype=bool)
        kept[part] = False
        exact = rows[part].astype(np.float64) @ weights
        for learn, found in zip(ways, errors, strict=True):
            product = learn(rows[kept], weights).matmul_online(rows[part])
            found[part] = np.square(product - exact).sum(axis=1)
    return errors


def least_held_out(found: Sequence[Statistics]) -> int:
    """Return which of several ways to take, learned from the same rows with the same held out."""
    return int(np.argmin([one.held_out_error for one in found]))
