"""Product quantisation: the same tables, but codes from the nearest of k-means' centroids.

What MADDNESS' trees replace (MADDNESS, arXiv 2106.10860, section 3; product quantisation is due to
Jegou, Douze and Schmid, 2011). Encoding costs K distances in every subspace and therefore
multiplications; with the same ridge regression behind it, it shows what the trees cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.arrays import to_scale, training_pair
from halut.checks import integer_at_least, power_of_two
from halut.forest import subspaces
from halut.lookup import LookUpProduct, chunks, product_basis
from halut.ridge import Fit, Gram, best_strength

__all__ = ["ProductQuantization", "k_means"]

_HELD_OUT_ROWS = 8192


def k_means(
    rows: NDArray[np.float32], n_centroids: int, n_rounds: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Cluster rows by Lloyd's algorithm from a k-means++ start.

    Parameters
    ----------
    rows : float32 ndarray of shape (n_rows, n_columns)
    n_centroids : int
        K.
    n_rounds : int
        Rounds at most; fewer when nothing moves.
    rng : numpy.random.Generator
        Draws the start, and new places for centroids that lost all rows.

    Returns
    -------
    float32 ndarray of shape (n_centroids, n_columns)
    """
    centroids = np.empty((n_centroids, rows.shape[1]), dtype=np.float32)
    centroids[0] = rows[rng.integers(len(rows))]
    away = np.square(rows - centroids[0]).sum(axis=1)
    for index in range(1, n_centroids):
        total = away.sum(dtype=np.float64)
        chance = away / total if total > 0 else np.full(len(rows), 1 / len(rows))
        cumulated = np.cumsum(chance, dtype=np.float64)
        chosen = np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")
        centroids[index] = rows[min(int(chosen), len(rows) - 1)]
        away = np.minimum(away, np.square(rows - centroids[index]).sum(axis=1))
    codes = np.full(len(rows), -1)
    for _ in range(n_rounds):
        nearest = _nearest(rows, centroids)
        if np.array_equal(nearest, codes):
            break
        codes = nearest
        counts = np.bincount(codes, minlength=n_centroids)
        for column in range(rows.shape[1]):
            sums = np.bincount(codes, rows[:, column], minlength=n_centroids)
            centroids[:, column] = sums / np.maximum(counts, 1)
        empty = np.flatnonzero(counts == 0)
        centroids[empty] = rows[rng.integers(len(rows), size=len(empty))]
    return centroids


def _nearest(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the nearest centroid's index for each row; the square of the row cancels out."""
    scores = rows @ (-2 * centroids.T)
    scores += np.square(centroids).sum(axis=1)
    return scores.argmin(axis=1)


class ProductQuantization(LookUpProduct):
    """A matrix product by table look-ups with nearest-centroid codes.

    Parameters
    ----------
    C : int, default 16
        Codebooks; at most the number of columns of A.
    K : int, default 16
        Centroids per codebook, a power of two from 2 to 256.
    n_rounds : int, default 25
        Rounds of k-means at most.
    max_cluster_rows : int, default 16384
        Centroids are learned from at most so many rows, drawn at random; tables from all rows.
    random_state : int, default 0
        Seed of the choice of rows and of k-means.

    Attributes
    ----------
    centroids_ : list of C float32 ndarray of shape (n_prototypes, codebook_width)
        Centroids of the centred columns.
    centre_ : float32 ndarray of shape (n_features,)
        The mean of the columns.
    lut_ : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
        Table entries.
    offset_ : float32 ndarray of shape (n_outputs,)
        What is added to each sum of entries.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 32))
    >>> baseline = ProductQuantization(C=8).learn_offline(A, rng.standard_normal((32, 5)))
    >>> baseline.encode(A).shape, baseline.matmul_online(A).shape
    ((500, 8), (500, 5))
    """

    centroids_: list[NDArray[np.float32]]
    centre_: NDArray[np.float32]

    def __init__(
        self,
        C: int = 16,
        K: int = 16,
        *,
        n_rounds: int = 25,
        max_cluster_rows: int = 16384,
        random_state: int = 0,
    ) -> None:
        self.C = integer_at_least("C", C, 1)
        self.K = power_of_two("K", K)
        self.n_rounds = integer_at_least("n_rounds", n_rounds, 1)
        self.max_cluster_rows = integer_at_least("max_cluster_rows", max_cluster_rows, 1)
        self.random_state = integer_at_least("random_state", random_state, 0)

    def learn_offline(self, A: ArrayLike, B: ArrayLike) -> ProductQuantization:
        """Learn centroids and tables for ``A @ B``.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Examples of rows, finite.
        B : array-like of shape (n_features, n_outputs), any real dtype
            The matrix that later rows are multiplied with, finite.

        Returns
        -------
        ProductQuantization
            Itself.
        """
        rows, weights = training_pair(A, B, self.C)
        rows, self._exponent = to_scale("A", rows)  # squares must not overflow
        weights, exponent = to_scale("B", weights)
        centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rng = np.random.default_rng(self.random_state)
        shuffled = rng.permutation(len(rows))
        some = rows[np.sort(shuffled[: self.max_cluster_rows])] - centre
        self.centre_ = centre
        self.centroids_ = [
            k_means(np.ascontiguousarray(some[:, group]), self.K, self.n_rounds, rng)
            for group in subspaces(rows.shape[1], self.C)
        ]
        codes = self._codes(rows, 0)
        fit = Fit(strength=1.0, around_means=False, error=np.nan)
        held_out = shuffled[: min(_HELD_OUT_ROWS, len(rows) // 5)]
        if len(held_out):
            basis = product_basis(weights)[0]
            rest = shuffled[len(held_out) :]
            train, judge = (
                Gram.of(codes[:, part], (rows[part] - centre) @ basis, self.K)
                for part in (rest, held_out)
            )
            fit = best_strength(train, judge)
        self._learn_tables(rows, weights, centre, codes, fit, None, self._exponent + exponent)
        self.centre_ = np.ldexp(centre, self._exponent)
        self.centroids_ = [np.ldexp(each, self._exponent) for each in self.centroids_]
        return self

    def _codes(self, rows: NDArray[Any], exponent: int) -> NDArray[np.uint8]:
        """Find the nearest centroids of rows, both divided by ``2**exponent``."""
        scaled = self.centroids_
        if exponent:
            scaled = [np.ldexp(each, -exponent) for each in scaled]
        codes = np.empty((self.C, len(rows)), dtype=np.uint8)
        for part in chunks(len(rows)):
            centred = rows[part].astype(np.float32, copy=False) - self.centre_
            if exponent:
                centred = np.ldexp(centred, -exponent)
            groups = subspaces(rows.shape[1], self.C)
            for code, group, centroids in zip(codes, groups, scaled, strict=True):
                code[part] = _nearest(centred[:, group], centroids)
        return codes

    def encode(self, A: ArrayLike) -> NDArray[np.uint8]:
        """Find the nearest centroids.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype

        Returns
        -------
        uint8 ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
            Codes.
        """
        self._check_learned("encode")
        return np.ascontiguousarray(self._codes(self._rows(A), self._exponent).T)
