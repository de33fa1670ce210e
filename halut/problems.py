"""Matrix products on which accuracy is measured, exactly reproducible from their seeds.

Examples
--------
>>> problem = uniform()
>>> problem.train.shape, problem.test.shape, problem.B.shape
((8000, 512), (2000, 512), (512, 10))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.errors import HalutError

__all__ = ["PROBLEMS", "PUBLISHED", "Problem", "digit_classes", "digits", "low_rank",
           "relative_error", "shuffled_digits", "uniform"]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A product to learn, and rows that learning does not see.

    Parameters
    ----------
    name : str
    train : float64 ndarray of shape (n_rows, n_features)
        Rows to learn from.
    test : float64 ndarray of shape (n_test_rows, n_features)
        Rows to judge by.
    B : float64 ndarray of shape (n_features, n_outputs)
    """

    name: str
    train: NDArray[np.float64]
    test: NDArray[np.float64]
    B: NDArray[np.float64]


def uniform() -> Problem:
    """Uniform noise in [0, 1): nothing to learn but the mean."""
    draw = np.random.RandomState(4419)
    A = draw.uniform(size=(10000, 512))
    B = draw.uniform(size=(512, 10))
    return Problem(name="uniform", train=A[:8000], test=A[8000:], B=B)


def low_rank() -> Problem:
    """512 columns that are mixtures of 32 decaying sources, plus a little noise."""
    draw = np.random.RandomState(4420)
    V = draw.randn(32, 512) / np.sqrt(32)
    B = draw.randn(512, 100) / np.sqrt(512)
    Z = draw.randn(12000, 32) * np.sqrt(0.95 ** np.arange(32))
    A = Z @ V + 0.1 * draw.randn(12000, 512)
    return Problem(name="low rank", train=A[:10000], test=A[10000:], B=B)


def shuffled_digits(draw: np.random.RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scikit-learn's digits in random order: images / 16, and which digit each is."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise HalutError(
            "scikit-learn must be installed for the digits (pip install scikit-learn)"
        ) from None
    found = load_digits()
    order = draw.permutation(len(found.data))
    return found.data[order] / 16, found.target[order]


def digits() -> Problem:
    """scikit-learn's 8x8 images of handwritten digits."""
    draw = np.random.RandomState(4421)
    A, _ = shuffled_digits(draw)
    B = draw.randn(64, 32)
    return Problem(name="digits", train=A[:1297], test=A[1297:], B=B)


def digit_classes() -> tuple[Problem, NDArray[np.int64]]:
    """Tell the digits apart: the largest of the product's ten columns is the class.

    Returns
    -------
    problem : Problem
        B is the least-squares fit of +1 for the digit and -1 for the others; the rows are those
        of `digits` less the mean of the training rows.
    labels : int64 ndarray of shape (n_test_rows,), range [0, 10)
    """
    A, labels = shuffled_digits(np.random.RandomState(4421))
    A = A - A[:1297].mean(axis=0)
    wanted = np.where(labels[:, None] == np.arange(10), 1.0, -1.0)[:1297]
    B = np.linalg.solve(A[:1297].T @ A[:1297] + np.eye(64), A[:1297].T @ wanted)
    problem = Problem(name="digit classes", train=A[:1297], test=A[1297:], B=B)
    return problem, labels[1297:].astype(np.int64)


PROBLEMS: tuple[tuple[Callable[[], Problem], tuple[int, ...]], ...] = (
    (uniform, (32,)),
    (low_rank, (16, 32, 64)),
    (digits, (8, 16)),
)
"""Each problem with the numbers of codebooks that it is measured at."""

PUBLISHED: dict[tuple[str, int], tuple[float, float, float]] = {
    ("uniform", 32): (0.00074, 0.00075, 0.00075),
    ("low rank", 16): (0.3033, 0.2984, 0.3085),
    ("low rank", 32): (0.1748, 0.1759, 0.1827),
    ("low rank", 64): (0.1086, 0.1096, 0.1056),
    ("digits", 8): (0.0552, 0.0835, 0.0459),
    ("digits", 16): (0.0252, 0.0548, 0.0188),
}
"""Errors of others on the same rows, K=16, float tables, measured before this project: the code of
Stella Nera (joennlae/halutmatmul), that of MADDNESS (dblalock/bolt), k-means with ridge."""


def relative_error(approximate: ArrayLike, exact: ArrayLike) -> float:
    """Return ``|exact - approximate|**2 / |exact|**2``.

    Parameters
    ----------
    approximate, exact : array-like of the same shape

    Returns
    -------
    float

    Examples
    --------
    >>> relative_error([[3.0, 0.0]], [[3.0, 4.0]])
    0.64
    """
    wanted = np.asarray(exact, dtype=np.float64)
    given = np.asarray(approximate, dtype=np.float64)
    return float(np.square(wanted - given).sum() / np.square(wanted).sum())
