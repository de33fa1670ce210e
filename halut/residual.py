"""Trees that choose among all columns, each learned for what all the others leave over.

`halut.forest` learns each tree for its own group of columns. But split dimensions are gathered for
every codebook anyway, so a tree may look at any column, and several at the same one. Here each
tree is learned again, one after the other, for the strongest directions of the rest of the
product (backfitting, as Friedman and Stuetzle, Projection pursuit regression, 1981, have it);
tables are then solved for together by ridge regression.

With `terms` greater than 1 a level compares the sum of so many columns, each with a sign, in place
of one column; `halut.sums` chooses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.choice import is_better
from halut.effort import Variant, passes_shown
from halut.forest import Forest, add_entries, sums_by_code
from halut.lookup import walk_rows
from halut.nodes import by_node
from halut.ridge import Fit, Gram, HeldOut, best_strength, solve
from halut.sums import greedy_sum, products, second_moments, sum_of, sums_of_one
from halut.trees import SortedColumns, learn_node_tree, learn_tree, split_column
from halut.windows import WINDOWED

__all__ = ["ResidualTrees", "TermTrees"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TermTrees:
    """Trees of all codebooks, and the codes of the rows that they were learned from.

    Parameters
    ----------
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth, terms)
        Without the last axis where `signs` is None; or (n_codebooks, n_prototypes - 1), per node.
    signs : int8 ndarray of the same shape, range [-1, 1], or None
        0 where there is no further term.
    thresholds : float32 ndarray of shape (n_codebooks, n_prototypes - 1)
    codes : uint8 ndarray of shape (n_codebooks, n)
    """

    split_dims: NDArray[np.int32]
    signs: NDArray[np.int8] | None
    thresholds: NDArray[np.float32]
    codes: NDArray[np.uint8]

    def copy(self) -> TermTrees:
        """Return trees that later changes of these leave alone."""
        signs = None if self.signs is None else self.signs.copy()
        return TermTrees(
            split_dims=self.split_dims.copy(),
            signs=signs,
            thresholds=self.thresholds.copy(),
            codes=self.codes.copy(),
        )

    def walk(self, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the codes (n_codebooks, n_rows) of rows (n_rows, n_features)."""
        return walk_rows(rows, self.split_dims, self.thresholds, self.signs)


class ResidualTrees:
    """Refits the trees of a forest.

    Parameters
    ----------
    forest : Forest
        Learned; its trees are where refitting begins. They stay as they are.
    terms : int
        Columns, at most, of which a level compares the sum.
    n_candidates : int
        Columns that are tried in full at each level; with one term only.
    encoder : {"tree", "sums", "window", "node"}
        With ``"window"`` and ``"node"`` trees keep to their own groups.
    """

    def __init__(
        self, forest: Forest, *, terms: int, n_candidates: int, encoder: str = "tree"
    ) -> None:
        self.forest = forest
        self._encoder = encoder
        self._terms = terms
        self._n_candidates = n_candidates
        self._bins = SortedColumns()
        self._second_moments: NDArray[np.float64] | None = None

    def start(self) -> TermTrees:
        """Return the forest's trees."""
        f = self.forest
        dims, signs = f.split_dims.copy(), None
        if self._terms > 1:
            dims, signs = sums_of_one(dims, self._terms)
        if self._encoder == "node":
            dims = by_node(dims)
        return TermTrees(
            split_dims=dims, signs=signs, thresholds=f.thresholds.copy(), codes=f.codes.copy()
        )

    def gram(self, trees: TermTrees) -> Gram:
        """Return what ridge regression needs to know of the rows that are learned from."""
        return Gram.of(trees.codes, self.forest.targets, self.forest.n_prototypes)

    def refit(
        self, trees: TermTrees, entries: NDArray[np.float64], strength: float, n_targets: int
    ) -> None:
        """Learn every tree again, in place, for what the tables of the others leave over.

        Parameters
        ----------
        trees : TermTrees
        entries : float64 ndarray of shape (C*K, R)
            Tables.
        strength : float
            Lambda of the ridge regression that they come from.
        n_targets : int
            See `Variant`.
        """
        learn = partial(self._learn, trees)
        self.forest.backfit(entries, strength, trees.codes, learn, n_targets)

    def best(
        self,
        variants: tuple[Variant, ...],
        first: Fit,
        held_out: NDArray[np.float32],
        ridge: str | float,
        progress: bool = False,
    ) -> tuple[TermTrees, list[Fit], int] | None:
        """Refit by each variant and keep what held-out rows gain most by.

        Parameters
        ----------
        variants : tuple of Variant
        first : Fit
            Of the forest's trees, with entries.
        held_out : float32 ndarray of shape (n, n_features)
            Rows to judge by.
        ridge : "auto" or float
        progress : bool
            Show it, on a terminal.

        Returns
        -------
        (trees, fits, n_targets), or None
            The best trees; the fit before each pass that led to them, and theirs; the variant's
            targets. None when no variant is better than the forest, by more than chance would have
            it (`halut.choice.is_better`).
        """
        best: tuple[TermTrees, list[Fit], int] | None = None
        least = first.error
        f = self.forest
        judged: NDArray[Any] = (held_out - f.centre) @ f.weights
        total = sum(variant.n_passes for variant in variants)
        with passes_shown(total, progress) as advance:
            for variant in variants:
                trees, fits = self.start(), [first]
                for _ in range(variant.n_passes):
                    assert fits[-1].entries is not None
                    self.refit(trees, fits[-1].entries, fits[-1].strength, variant.n_targets)
                    codes = trees.walk(held_out)
                    judge = HeldOut(codes=codes, targets=judged, n_prototypes=f.n_prototypes)
                    if isinstance(ridge, str):
                        fit = best_strength(self.gram(trees), judge, None, fits[-1].strength)
                    else:
                        fit = best_strength(self.gram(trees), judge, None, ridge, (ridge,))
                    fits.append(fit)
                    advance()
                    if fit.error < least:
                        least = fit.error
                        best = trees.copy(), list(fits), variant.n_targets
        if best is None:
            return None
        errors = [
            _row_errors(each.walk(held_out), fit, judged)
            for each, fit in ((self.start(), first), (best[0], best[1][-1]))
        ]
        return best if is_better(*errors) else None

    def replay(self, fits: list[Fit], n_targets: int) -> TermTrees:
        """Refit from other rows, with the choices that `best` made."""
        trees = self.start()
        for fit in fits[:-1]:
            self.refit(trees, solve(self.gram(trees), fit.strength), fit.strength, n_targets)
        return trees

    def _learn(
        self, trees: TermTrees, codebook: int, targets: NDArray[np.float64], shrinkage: float
    ) -> None:
        f = self.forest
        if trees.signs is not None:
            self._learn_sums(trees, codebook, targets, shrinkage)
            return
        group, bins = slice(0, len(f.columns)), self._bins
        if self._encoder in WINDOWED:
            group, bins = f.groups[codebook], f.bins[codebook]
        given = f.columns[group], targets, f.tree_depth
        if self._encoder == "node":
            found = learn_node_tree(*given, shrinkage, bins)
        else:
            found = learn_tree(*given, self._n_candidates, shrinkage, bins)
        dims, trees.thresholds[codebook], trees.codes[codebook] = found
        trees.split_dims[codebook] = dims + group.start

    def _learn_sums(
        self, trees: TermTrees, codebook: int, targets: NDArray[np.float64], shrinkage: float
    ) -> None:
        """Learn one tree whose levels compare sums of columns."""
        f = self.forest
        assert trees.signs is not None
        if self._second_moments is None:
            self._second_moments = second_moments(f.columns, f.centre)
        n_rows = targets.shape[1]
        codes = np.zeros(n_rows, dtype=np.uint8)
        crossed = products(f.columns, f.centre, targets.astype(np.float32).T)
        for level in range(f.tree_depth):
            n_nodes = 2**level
            counts = np.maximum(np.bincount(codes, minlength=n_nodes), 1)[:, None]
            means = sums_by_code(codes, n_nodes, f.columns, f.centre) / counts  # (nodes, D)
            sums = np.stack([np.bincount(codes, one, minlength=n_nodes) for one in targets], axis=1)
            within = self._second_moments - (means * counts).T @ means
            shared = crossed - means.T @ sums  # (D, q)
            best = -1.0
            dims, signs = greedy_sum(within, shared, self._terms)
            for length in sorted({1, len(dims)}):
                column = sum_of(f.columns, dims[:length], signs[:length])
                gain, thresholds = split_column(column, targets, codes, n_nodes, shrinkage)
                if gain > best:
                    best, kept = gain, (length, column, thresholds)
            length, column, thresholds = kept
            trees.signs[codebook, level] = 0
            trees.split_dims[codebook, level] = dims[0]
            trees.signs[codebook, level, :length] = signs[:length]
            trees.split_dims[codebook, level, :length] = dims[:length]
            trees.thresholds[codebook, n_nodes - 1 : 2 * n_nodes - 1] = thresholds
            reached = thresholds[codes]
            codes += codes
            codes += column > reached
        trees.codes[codebook] = codes


def _row_errors(
    codes: NDArray[np.uint8], fit: Fit, targets: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the squared error of a fit's tables for each row of targets (n, R): (n,)."""
    assert fit.entries is not None
    tables = fit.entries.astype(np.float32).reshape(len(codes), -1, targets.shape[1])
    rest = targets.copy()
    for table, code in zip(tables, codes, strict=True):
        add_entries(rest, table, code, -1)
    return np.square(rest, dtype=np.float64).sum(axis=1)
