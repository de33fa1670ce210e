"""All trees of a product, learned together.

First every tree is learned for its own part of the product. Then, any number of times, every tree
is learned again for what the tables of all the others leave over of the product, one after the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from halut.native import learning
from halut.ridge import Gram, table_sums
from halut.trees import SortedColumns, fill_empty_leaves, learn_tree

__all__ = ["Forest", "add_entries", "subspaces", "sums_by_code"]

_TARGETS = 4
"""Directions of the product that a tree is learned for: the strongest ones."""

_REFINED_TARGETS = 2
"""Directions of what is left over that a tree is learned again for. Few are better: each tree
then knows one thing well, and the strongest direction is another one for the next tree."""

_TRACKED = 32
"""Directions of the product of which refining knows what is left over."""


def subspaces(n_features: int, n_codebooks: int) -> list[slice]:
    """Cut columns into groups of almost equal size, the larger ones first.

    Parameters
    ----------
    n_features : int
        D.
    n_codebooks : int
        C, at most D.

    Returns
    -------
    list of slice

    Examples
    --------
    >>> subspaces(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    width, larger = divmod(n_features, n_codebooks)
    edges = [c * width + min(c, larger) for c in range(n_codebooks + 1)]
    return [slice(begin, end) for begin, end in pairwise(edges)]


def add_entries(
    rest: NDArray[np.float32], table: NDArray[np.float32], codes: NDArray[np.uint8], sign: int
) -> None:
    """Add ``sign * table[codes]`` to `rest` (n, q), in place."""
    if not learning.add_entries(codes, table, rest, sign):
        (np.add if sign > 0 else np.subtract)(rest, table.take(codes, axis=0), out=rest)


def sums_by_code(
    codes: NDArray[np.uint8],
    n_prototypes: int,
    columns: NDArray[np.float32],
    centre: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Add up ``columns - centre`` of the rows that share a code.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_rows,), range [0, n_prototypes)
    n_prototypes : int
    columns : float32 ndarray of shape (n_columns, n_rows)
    centre : float32 ndarray of shape (n_columns,)

    Returns
    -------
    float64 ndarray of shape (n_prototypes, n_columns)
    """
    sums = learning.column_sums(codes, n_prototypes, columns, centre)
    if sums is None:
        wide = codes.astype(np.intp)
        centred = columns - centre[:, None]
        each = [np.bincount(wide, column, minlength=n_prototypes) for column in centred]
        sums = np.stack(each, axis=1)
    return sums


def _exchange_entries(
    rest: NDArray[np.float32],
    lost: tuple[NDArray[np.float32], NDArray[np.uint8]],
    gained: tuple[NDArray[np.float32], NDArray[np.uint8]],
) -> NDArray[np.float64]:
    """Take one table's entries off `rest` (n, q) and add another's, in place.

    Returns what `rest` was between the two, added up by the codes of `gained`: (K, q).
    """
    sums = learning.exchange_entries(lost, gained, rest)
    if sums is None:
        (off, off_codes), (on, codes) = lost, gained
        add_entries(rest, off, off_codes, -1)
        sums = table_sums(codes[None], rest, len(on))
        add_entries(rest, on, codes, 1)
    return sums


def _squares_gained(
    table: NDArray[np.float32], sums: NDArray[np.float64], counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what ``rest.T @ rest`` (q, q) gains when table entries are added to `rest`.

    `sums` are those of `rest` by code (K, q), `counts` how often each code is used.
    """
    entries = table.astype(np.float64)
    products = entries.T @ sums
    squares: NDArray[np.float64] = products + products.T + (entries.T * counts) @ entries
    return squares


Trees = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]
"""Split dimensions, thresholds, and the codes of the rows that trees were learned from."""


class Forest:
    """The trees of all codebooks, and the rows that they are learned from.

    Parameters
    ----------
    A : float32 ndarray of shape (n_rows, n_features)
    rows : integer ndarray of shape (n,)
        The rows of A to learn from, ascending.
    centre : float32 ndarray of shape (n_features,)
        The mean of the columns of A.
    weights : float32 ndarray of shape (n_features, n_targets)
        B, or a basis of it.
    n_codebooks, n_prototypes : int
        C and K.
    loss : {"product", "features"}
        What a tree's squared error is of at the start.
    n_candidates : int
        Split dimensions that are tried in full at each level.

    Attributes
    ----------
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth), range [0, n_features)
    thresholds : float32 ndarray of shape (n_codebooks, n_prototypes - 1)
    codes : uint8 ndarray of shape (n_codebooks, n)
        Leaves of the rows that are learned from.
    targets : float32 ndarray of shape (n, n_targets)
        Their centred product.
    """

    def __init__(
        self,
        A: NDArray[np.float32],
        rows: NDArray[np.intp],
        centre: NDArray[np.float32],
        weights: NDArray[np.float32],
        *,
        n_codebooks: int,
        n_prototypes: int,
        loss: str,
        n_candidates: int,
    ) -> None:
        self.groups = subspaces(A.shape[1], n_codebooks)
        self.tree_depth = n_prototypes.bit_length() - 1
        self.n_prototypes = n_prototypes
        self.loss = loss
        self.n_candidates = n_candidates
        self.weights = weights  # (D, R)
        self.centre = centre
        self.columns = learning.empty_columns(A.shape[1], len(rows))  # (D, n)
        self.targets = np.empty((len(rows), weights.shape[1]), dtype=np.float32)  # (n, R)
        for begin in range(0, len(rows), 256):  # in pieces that stay in the cache
            some = A[rows[begin : begin + 256]]
            if not learning.write_columns(some, self.columns, begin):
                self.columns[:, begin : begin + 256] = some.T
            some -= centre
            np.matmul(some, weights, out=self.targets[begin : begin + 256])
        self.bins = [SortedColumns() for _ in self.groups]
        shape = (n_codebooks, self.tree_depth)
        self.split_dims = np.zeros(shape, dtype=np.int32)
        self.thresholds = np.zeros((n_codebooks, n_prototypes - 1), dtype=np.float32)
        self.codes = np.zeros((n_codebooks, len(rows)), dtype=np.uint8)

    def trees(self) -> Trees:
        """Return a copy of the trees as they are."""
        return self.split_dims.copy(), self.thresholds.copy(), self.codes.copy()

    def restore(self, trees: Trees) -> None:
        """Take back what `trees` returned."""
        self.split_dims, self.thresholds, self.codes = trees

    def gram(self) -> Gram:
        """Return what ridge regression needs to know of the rows that are learned from."""
        return Gram.of(self.codes, self.targets, self.n_prototypes)

    def _part(self, codebook: int) -> NDArray[np.float64]:
        """Return the strongest directions of A_c B_c: (n_targets, n), the strongest one first."""
        group = self.groups[codebook]
        columns = self.columns[group] - self.centre[group, None]
        left, size, _ = np.linalg.svd(self.weights[group], full_matrices=False)
        part = (left * size).T @ columns
        _, directions = np.linalg.eigh(part @ part.T)
        strongest = directions[:, : -_TARGETS - 1 : -1]
        return (strongest.T @ part).astype(np.float64)

    def _learn(self, codebook: int, targets: NDArray[np.float64], shrinkage: float) -> None:
        group = self.groups[codebook]
        split_dims, self.thresholds[codebook], self.codes[codebook] = learn_tree(
            self.columns[group],
            targets,
            self.tree_depth,
            self.n_candidates,
            shrinkage,
            self.bins[codebook],
        )
        self.split_dims[codebook] = split_dims + group.start

    def start(self) -> None:
        """Learn every tree for its own part."""
        for codebook, group in enumerate(self.groups):
            if self.loss == "product":
                targets = self._part(codebook)
            else:
                targets = (self.columns[group] - self.centre[group, None]).astype(np.float64)
            self._learn(codebook, targets, 0.0)

    def refine(self, entries: NDArray[np.float64], strength: float) -> None:
        """Learn every tree again, for what the tables of the other codebooks leave over."""
        self.backfit(entries, strength, self.codes, self._learn, _REFINED_TARGETS)

    def backfit(
        self,
        entries: NDArray[np.float64],
        strength: float,
        all_codes: NDArray[np.uint8],
        learn: Callable[[int, NDArray[np.float64], float], None],
        n_targets: int,
    ) -> None:
        """Learn codebook after codebook again, for what the tables of all others leave over.

        Parameters
        ----------
        entries : float64 ndarray of shape (C*K, R)
            Tables.
        strength : float
            Lambda of the ridge regression that they come from.
        all_codes : uint8 ndarray of shape (n_codebooks, n)
            Of the trees; `learn` changes them.
        learn : callable
            Learns the tree of a codebook for targets (n_targets, n), with `strength`.
        n_targets : int
            Directions of the rest that a tree is learned for.
        """
        K = self.n_prototypes
        _, directions = np.linalg.eigh((self.targets.T @ self.targets).astype(np.float64))
        directions = directions[:, : -_TRACKED - 1 : -1]  # (R, q)
        tables = (entries @ directions).reshape(len(self.groups), K, -1).astype(np.float32)
        rest = self.targets @ directions.astype(np.float32)  # (n, q)
        for table, codes in zip(tables, all_codes, strict=True):
            add_entries(rest, table, codes, -1)
        squares = (rest.T @ rest).astype(np.float64)
        lost = np.zeros_like(tables[0]), all_codes[0]
        for codebook, table in enumerate(tables):
            codes = all_codes[codebook]
            sums = _exchange_entries(rest, lost, (table, codes))
            squares += _squares_gained(table, sums, np.bincount(codes, minlength=K))
            _, strongest = np.linalg.eigh(squares)
            strongest = strongest[:, : -n_targets - 1 : -1].astype(np.float32)
            targets = (rest @ strongest).T.astype(np.float64, order="C")
            learn(codebook, targets, strength)
            codes = all_codes[codebook]
            counts = np.bincount(codes, minlength=K)
            sums = table_sums(codes[None], rest, K)
            table[:] = sums / (counts[:, None] + strength)
            squares += _squares_gained(-table, sums, counts)
            lost = table, codes

    def means(self) -> NDArray[np.float64]:
        """Return each leaf's mean of its codebook's part of the product: (C*K, R)."""
        K = self.n_prototypes
        entries = np.zeros((len(self.groups), K, self.weights.shape[1]))
        for codebook, group in enumerate(self.groups):
            codes = self.codes[codebook]
            counts = np.bincount(codes, minlength=K)
            sums = sums_by_code(codes, K, self.columns[group], self.centre[group])
            means = sums / np.maximum(counts, 1)[:, None]
            means = fill_empty_leaves(means[None], counts[None])[0]
            entries[codebook] = means @ self.weights[group]
        return entries.reshape(len(self.groups) * K, -1)

    def codebook_errors(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what leaf means (as `means` gives them) leave of each codebook's part."""
        errors = np.zeros(len(self.groups))
        per_leaf = means.reshape(len(self.groups), self.n_prototypes, -1)
        n_rows = self.codes.shape[1]
        for codebook, group in enumerate(self.groups):
            counts = np.bincount(self.codes[codebook], minlength=self.n_prototypes)
            columns = self.columns[group]
            columns = columns - columns.mean(axis=1, dtype=np.float64)[:, None].astype(np.float32)
            moments = (columns @ columns.T).astype(np.float64)
            weights = self.weights[group].astype(np.float64)
            total = float(np.einsum("ij,im,jm->", moments, weights, weights))
            entries = per_leaf[codebook]
            explained = float(counts @ np.square(entries).sum(axis=1))
            explained -= float(np.square(counts @ entries).sum()) / n_rows
            if total > 0:
                errors[codebook] = min(max(0.0, 1 - explained / total), 1.0)
        return errors
