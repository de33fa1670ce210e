"""`HalutMatmul`: learn MADDNESS for ``A @ B``, then multiply by looking up.

The steps are those of MADDNESS (arXiv 2106.10860): cut A into column groups, learn one tree per
group (section 4.2, Algorithms 2 and 3; here `halut.trees`), optimise all prototypes together by
ridge regression (section 4.3; here `halut.ridge`), tabulate their products with B.
Beyond the paper, and each can be switched off:

- A tree minimises the error of its part of ``A @ B``, not of its columns of A
  (``loss="features"`` is the paper's).
- With all tables known, each tree is learned again for what the others leave over, while
  held-out rows gain from it (``refine_passes=0`` is the paper's).
- The strength of the ridge regression is chosen on held-out rows (``ridge=1.0`` is the paper's),
  and so is whether it shrinks tables towards zero or towards each codebook's own means.
- Columns are centred, and the mean's product with B becomes one constant per output.
- On request (`effort`) trees choose among all columns, and are learned again and again for what
  the others leave over (`halut.residual`); levels may compare sums of columns (`encoder`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.arrays import to_scale, training_pair
from halut.checks import boolean, either, in_range, integer, integer_at_least, power_of_two
from halut.choice import FEW_ROWS, cross_validated, least_error, least_held_out
from halut.costs import DENSE, EncoderArea, affordable
from halut.effort import MOST_EFFORT, variants
from halut.errors import HalutError
from halut.forest import Forest
from halut.formats import MOST_TERMS
from halut.judging import Judge, QuantisationError, Statistics
from halut.lookup import centred_product, chunks, mean_row, product_basis, walk_rows
from halut.nodes import by_node
from halut.outliers import ordinary_rows
from halut.residual import ResidualTrees, TermTrees
from halut.ridge import MEANS, Fit, HeldOut, best_strength, check_means, entries_of
from halut.sums import sums_of_one
from halut.tree_product import TreeProduct
from halut.windows import WINDOWED

__all__ = ["HalutMatmul", "QuantisationError", "Statistics"]

_log = logging.getLogger(__name__)

LOSSES = ("product", "features")
"""What a tree's squared error can be of."""

ENCODERS = ("tree", "sums", "window", "node", "best")
"""What the levels of a tree compare: one column each, or a sum of a few, each with a sign; or a
column, of a level or of a node, of the codebook's window, all of which it takes; or the best of
these that a limit of area allows."""

PLAIN: dict[str, Any] = {"loss": "features", "refine_passes": 0, "ridge": 1.0}
"""Settings that make `HalutMatmul` the method of MADDNESS' paper."""

_ON_ITS_OWN: dict[str, Any] = {"loss": "features"}
"""Settings that are tried, too, where rows are few: trees that know nothing of B may then be the
better ones to begin with."""

MOST_AREA = 1.15
"""How much area the accelerator may have with the best encoder, over that with trees."""

_HELD_OUT_ROWS = 8192

_WORTH_A_PASS = 0.99
"""Refining goes on while the last pass brought the held-out error below this share."""

_JUDGED_ROWS = 4096
"""Rows, at most, that quantisation is judged on."""

_JUDGED_VALUES = 1 << 23
"""Values of these rows and of their product, at most, unless it is 256 rows."""

_FEW_ROWS = 32
"""With fewer held-out rows than this, quantisation is judged on all rows."""


class HalutMatmul(TreeProduct):
    """A matrix product by table look-ups, learned from examples.

    The constructor only stores and checks; what is learned ends in an underscore.

    Parameters
    ----------
    C : int, default 16
        Codebooks; at most the number of columns of A.
    K : int, default 16
        Prototypes per codebook, a power of two from 2 to 256.
    loss : {"product", "features"}, default "product"
        What a tree's squared error is of: its part of ``A @ B``, or its columns of A.
    refine_passes : int, default 3
        How often, at most, trees are learned again for what the others leave over.
    ridge : "auto", "means" or float, default "auto"
        Strength of the ridge regression, greater than 0; "auto" chooses it on held-out rows. With
        "means" there is none: tables are of the mean of the rows that share a code. Time and memory
        then grow with C*K and not with its square, and codebooks of a column are as good.
        Encoders "tree" and "window", without refining passes and effort.
    n_candidates : int, default 4
        Split dimensions that are tried in full at each level of a tree.
    max_tree_rows : int, default 32768
        Trees are learned from at most so many rows, drawn at random; tables from all rows.
    random_state : int, default 0
        Seed of the choice of rows.
    encoder : {"tree", "sums", "window", "node", "best"}, default "tree"
        What a level of a tree compares with its thresholds: one column; the sum of up to `terms`
        columns, each with a sign; with "window" one column of its codebook's own group, and the
        accelerator takes the whole group and selects in it, with "node" the same with a column
        per node; or the one with the least error on rows that were held out, of
        those that `most_area` allows.
    terms : int, optional
        With "sums": 2 to 16; 2 when absent.
    effort : int, default 0
        0 to 3: how much time is spent on better trees. From 1 on, trees choose among all columns
        and are refitted (`halut.residual`) several times; 2 and 3 try more ways. Refitting takes
        about 5, 30 and 120 minutes of one core at most (`halut.effort`), and does not depend on
        how fast that is. A way is kept
        only where it lowers the error on held-out rows by more than chance would have it. From 1
        on, the method of the paper (`PLAIN`) is tried, too, and the best is taken: with up to 4096
        rows by cross-validation.
    most_area : float, default 1.15
        With "best": area of the accelerator over that with trees, at least 1.
    areas : sequence of EncoderArea, optional
        With "best": the encoders to choose from (`halut.costs`); those that were measured with
        ``configs/dense.yaml`` when absent.
    progress : bool, default False
        Show the passes of refitting, on a terminal.

    Attributes
    ----------
    split_dims_ : int32 ndarray of shape (n_codebooks, tree_depth), range [0, n_features)
        The column that each level of each tree looks at; with "sums" of shape (n_codebooks,
        tree_depth, terms), with "node" (n_codebooks, n_prototypes - 1).
    signs_ : int8 ndarray of shape (n_codebooks, tree_depth, terms), range [-1, 1], or None
        With "sums": what each term is multiplied with; 0 where a level has fewer terms.
    thresholds_ : float32 ndarray of shape (n_codebooks, n_prototypes - 1)
        Breadth-first: node ``2**level - 1 + partial_code``; finite.
    lut_ : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
        Table entries.
    offset_ : float32 ndarray of shape (n_outputs,)
        What is added to each sum of entries.
    n_features_ : int
        D.
    stats_ : Statistics
        What learning found.
    chosen_ : dict
        The settings that were chosen, with which the same is learned again. Where sums were asked
        for and trees of single columns are better, these are sums of one column.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((2000, 4)) @ rng.standard_normal((4, 32))
    >>> B = rng.standard_normal((32, 5))
    >>> multiplier = HalutMatmul(C=8, K=16).learn_offline(A[:1500], B)
    >>> codes = multiplier.encode(A[1500:])
    >>> codes.shape, codes.dtype.name
    ((500, 8), 'uint8')
    >>> Y = multiplier.matmul_online(A[1500:])
    >>> Y.shape, Y.dtype.name
    ((500, 5), 'float32')
    >>> exact = A[1500:] @ B
    >>> bool(np.square(Y - exact).sum() < 0.1 * np.square(exact).sum())
    True
    >>> multiplier.program().accumulator_bits
    11
    """

    def __init__(
        self,
        C: int = 16,
        K: int = 16,
        *,
        loss: str = "product",
        refine_passes: int = 3,
        ridge: str | float = "auto",
        n_candidates: int = 4,
        max_tree_rows: int = 32768,
        random_state: int = 0,
        encoder: str = "tree",
        terms: int | None = None,
        effort: int = 0,
        most_area: float = MOST_AREA,
        areas: Sequence[EncoderArea] = DENSE,
        progress: bool = False,
    ) -> None:
        either("encoder", encoder, ENCODERS)
        if encoder != "sums" and terms is not None:
            raise HalutError(f'terms must be absent for encoder "{encoder}", not {terms}')
        either("loss", loss, LOSSES)
        if isinstance(ridge, str):
            if ridge not in ("auto", MEANS):
                raise HalutError(f'ridge must be "auto", "means" or a number, not {ridge!r}')
            if ridge == MEANS:
                check_means(encoder, refine_passes, effort)
        elif isinstance(ridge, bool) or not isinstance(ridge, (int, float, np.number)):
            raise HalutError(f'ridge must be "auto", "means" or a number, not {ridge!r}')
        elif not 0 < ridge < np.inf:
            raise HalutError(f"ridge must be greater than 0 and finite, not {ridge}")
        self.C = integer_at_least("C", C, 1)
        self.K = power_of_two("K", K)
        self.loss = loss
        self.refine_passes = integer_at_least("refine_passes", refine_passes, 0)
        self.ridge = ridge if isinstance(ridge, str) else float(ridge)
        self.n_candidates = integer_at_least("n_candidates", n_candidates, 1)
        self.max_tree_rows = integer_at_least("max_tree_rows", max_tree_rows, 1)
        self.random_state = integer_at_least("random_state", random_state, 0)
        self.encoder = encoder
        self.terms = 1
        if encoder == "sums":
            wanted = 2 if terms is None else integer("terms", terms)
            self.terms = in_range("terms", wanted, 2, MOST_TERMS)
        self.effort = in_range("effort", integer("effort", effort), 0, MOST_EFFORT)
        self.most_area, self.areas = most_area, tuple(areas)
        boolean("progress", progress)
        self.progress = progress
        self._affordable = affordable(self.areas, most_area)

    def __repr__(self) -> str:
        encoder = "" if self.encoder == "tree" else f", encoder={self.encoder!r}"
        encoder += f", terms={self.terms}" if self.encoder == "sums" else ""
        return (
            f"HalutMatmul(C={self.C}, K={self.K}, loss={self.loss!r}, ridge={self.ridge!r}"
            f"{encoder})"
        )

    @property
    def takes_windows(self) -> bool:
        """Whether codebooks take their windows with an encoder that can be chosen."""
        chosen = [one.encoder for one in self._affordable]
        return not {*WINDOWED}.isdisjoint(chosen if self.encoder == "best" else [self.encoder])

    @property
    def terms_to_choose(self) -> list[int]:
        """Columns that a level may add up: those of each encoder that can be chosen."""
        if self.encoder == "best":
            return [one.terms or 1 for one in self._affordable]
        return [self.terms]

    def learn_offline(self, A: ArrayLike, B: ArrayLike) -> HalutMatmul:
        """Learn trees and tables for ``A @ B``.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Examples of rows, finite; used as float32.
        B : array-like of shape (n_features, n_outputs), any real dtype
            The matrix that later rows are multiplied with, finite; used as float32.

        Returns
        -------
        HalutMatmul
            Itself.

        Raises
        ------
        HalutError
            When shapes do not fit, a value is not finite, or there are fewer columns than
            codebooks.
        """
        begin = time.perf_counter()
        given = training_pair(A, B, self.C)
        ways = self._ways(len(given[0]))
        if len(ways) > 1 or self.encoder == "best":
            self._take(self._best_of(ways, given))
            self.stats_ = replace(self.stats_, seconds=time.perf_counter() - begin)
            return self
        return self._learn(*given)

    def _ways(self, n_rows: int) -> list[dict[str, Any]]:
        """Return the settings to choose from, in the order in which they are preferred."""
        own: dict[str, Any] = {
            "loss": self.loss,
            "refine_passes": self.refine_passes,
            "ridge": self.ridge,
            "encoder": self.encoder,
            "terms": self.terms if self.encoder == "sums" else None,
            "effort": self.effort,
        }
        if self.encoder == "best":
            encoders = [{"terms": None} | one.settings for one in self._affordable]
        else:
            encoders = [{"encoder": self.encoder, "terms": own["terms"]}]
        ways = [own | encoder for encoder in encoders]
        if n_rows < 2:  # nothing to judge by
            return ways[:1]
        if self.effort or len(ways) > 1:
            tree = own | {"encoder": "tree", "terms": None, "effort": 0}
            first = [tree | PLAIN] + ([tree | _ON_ITS_OWN, tree] if n_rows <= FEW_ROWS else [])
            ways = first + [way for way in ways if way not in first]
        return ways

    def _best_of(
        self,
        ways: Sequence[Mapping[str, Any]],
        given: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> HalutMatmul:
        """Learn in the way that is best on rows that it does not see."""

        def learner(way: Mapping[str, Any]) -> HalutMatmul:
            return HalutMatmul(
                self.C,
                self.K,
                n_candidates=self.n_candidates,
                max_tree_rows=self.max_tree_rows,
                random_state=self.random_state,
                progress=self.progress,
                **way,
            )

        if len(ways) == 1:
            return learner(ways[0])._learn(*given)
        if len(given[0]) <= FEW_ROWS:
            judged = [lambda A, B, way=way: learner(way)._learn(A, B) for way in ways]
            errors = cross_validated(judged, *given, self.random_state)
            ordinary = ordinary_rows(*given)  # the choice is made for these
            way = ways[least_error([error[ordinary] for error in errors])]
            return learner(way)._learn(*given)
        learned = [learner(way)._learn(*given) for way in ways]
        return learned[least_held_out([one.stats_ for one in learned])]

    def _take(self, other: HalutMatmul) -> None:
        """Take what another one learned, and how."""
        self.__dict__.update(
            (name, value)
            for name, value in vars(other).items()
            if name.endswith("_") or name in ("_judge", "_ordinary_counts")
        )
        if self.encoder == "sums" and self.signs_ is None:  # trees were better, or as good
            self.split_dims_, self.signs_ = sums_of_one(self.split_dims_, self.terms)
        if self.encoder == "node" and other.encoder != "node":
            self.split_dims_ = by_node(self.split_dims_)

    def _learn(self, A: NDArray[np.float32], B: NDArray[np.float32]) -> HalutMatmul:
        """Learn as the settings say."""
        begin = time.perf_counter()
        given = A, B
        (rows, a_exponent), (weights, b_exponent) = map(to_scale, "AB", given)
        n_rows = len(rows)
        ordinary = ordinary_rows(rows, weights)
        usual = rows if ordinary.all() else rows[ordinary]
        centre = mean_row(usual)
        del usual
        shuffled = np.random.default_rng(self.random_state).permutation(n_rows)
        held_out = shuffled[: min(_HELD_OUT_ROWS, n_rows // 5)]
        tree_rows = shuffled[len(held_out) :][: self.max_tree_rows]
        forest = self._forest(rows, tree_rows, centre, weights)
        error = np.nan
        residual = self._residual(forest)
        if len(held_out):
            judged = rows[held_out]
            fits = self._choose(forest, judged)
            trees, further, n_targets = self._refit(residual, fits, judged)
            energy = 0.0
            for part in chunks(len(held_out)):
                exactly = judged[part].astype(np.float64) @ weights
                energy += float(np.square(exactly).sum())
            del judged
            error = further[-1].error / energy if energy > 0 else 0.0
            if len(tree_rows) < min(n_rows, self.max_tree_rows):
                # The choice is made; now the held-out rows may teach the trees, too.
                tree_rows = shuffled[: self.max_tree_rows]
                forest = self._forest(rows, tree_rows, centre, weights)
                self._replay(forest, fits)
                residual = self._residual(forest)
                trees = residual.replay(further, n_targets)
        else:
            forest.start()
            trees = residual.start()
            means_only = self.ridge == MEANS
            strength = 1.0 if isinstance(self.ridge, str) else self.ridge
            strength = np.inf if means_only else strength
            fits = further = [Fit(strength=strength, around_means=means_only, error=np.nan)]

        codes = trees.walk(rows)
        forest.codes = trees.codes
        means = forest.means()
        counts = self._learn_tables(
            rows, weights, centre, codes, further[-1], means, a_exponent + b_exponent
        )
        self.split_dims_, self.signs_ = trees.split_dims, trees.signs
        names = ("encoder", "loss", "refine_passes", "ridge", "effort")
        self.chosen_ = {name: getattr(self, name) for name in names}
        if self.encoder == "sums":
            self.chosen_["terms"] = self.terms
        self.thresholds_ = np.ldexp(trees.thresholds, a_exponent)
        self._ordinary_counts = counts
        if not ordinary.all():
            usual_codes = codes[:, ordinary]
            self._ordinary_counts = np.stack(
                [np.bincount(row, minlength=self.K) for row in usual_codes]
            )
        judging = held_out if len(held_out) >= _FEW_ROWS else shuffled
        n_judged = max(_JUDGED_VALUES // (weights.shape[0] + 2 * weights.shape[1]), 8 * _FEW_ROWS)
        judging = judging[: min(n_judged, _JUDGED_ROWS)]
        exact = given[0][judging].astype(np.float64) @ given[1]
        self._judge = Judge(
            rows=given[0][judging],
            exact=exact,
            energy=float(np.square(exact).sum()),
            ordinary=ordinary[judging],
        )
        share = counts / n_rows
        self.stats_ = Statistics(
            n_rows=n_rows,
            n_tree_rows=len(tree_rows),
            ridge=further[-1].strength,
            ridge_around_means=further[-1].around_means,
            refine_passes=len(fits) + len(further) - 2,
            held_out_error=float(error),
            codebook_error=forest.codebook_errors(means),
            code_counts=counts,
            code_entropy=0.0 - np.sum(share * np.log2(np.where(share > 0, share, 1)), axis=1),
            lut_range=np.stack([self.lut_.min(axis=(1, 2)), self.lut_.max(axis=(1, 2))], axis=1),
            seconds=time.perf_counter() - begin,
        )
        _log.info(
            "learned %d codebooks x %d prototypes x %d outputs from %d rows in %.1f s: "
            "ridge %g, %d refining passes, held-out error %.4g",
            self.C,
            self.K,
            weights.shape[1],
            n_rows,
            self.stats_.seconds,
            self.stats_.ridge,
            self.stats_.refine_passes,
            error,
        )
        return self

    def _forest(
        self,
        rows: NDArray[np.float32],
        chosen: NDArray[np.intp],
        centre: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> Forest:
        return Forest(
            rows,
            np.sort(chosen),
            centre,
            product_basis(weights)[0],
            n_codebooks=self.C,
            n_prototypes=self.K,
            loss=self.loss,
            n_candidates=self.n_candidates,
        )

    def _choose(self, forest: Forest, held_out: NDArray[np.float32]) -> list[Fit]:
        """Grow trees while held-out rows gain; return each pass's fit."""
        targets = centred_product(held_out, forest.centre, forest.weights)
        forest.start()
        if self.ridge == MEANS:
            codes = walk_rows(held_out, forest.split_dims, forest.thresholds)
            judge = HeldOut(codes=codes, targets=targets, n_prototypes=self.K)
            error = judge.squared_error(forest.means())
            return [Fit(strength=np.inf, around_means=True, error=error)]
        fits: list[Fit] = []
        kept = forest.trees()
        for refined in range(self.refine_passes + 1):
            codes = walk_rows(held_out, forest.split_dims, forest.thresholds)
            train = forest.gram()
            judge = HeldOut(codes=codes, targets=targets, n_prototypes=self.K)
            means = forest.means()
            if isinstance(self.ridge, str):
                start = fits[-1].strength if fits else 10.0
                fit = best_strength(train, judge, means, start)
            else:
                fit = best_strength(train, judge, None, self.ridge, (self.ridge,))
            _log.debug("%d refining passes: held-out error %g", refined, fit.error)
            if fits and fit.error >= fits[-1].error:
                forest.restore(kept)
                break
            fits.append(fit)
            if refined and fit.error > _WORTH_A_PASS * fits[-2].error:
                break
            if refined < self.refine_passes:
                kept = forest.trees()
                assert fit.entries is not None
                forest.refine(fit.entries, fit.strength)
        return fits

    def _refit(
        self, residual: ResidualTrees, fits: list[Fit], held_out: NDArray[np.float32]
    ) -> tuple[TermTrees, list[Fit], int]:
        """Refit the forest's trees while held-out rows gain: see `ResidualTrees.best`."""
        if not self.effort and self.encoder in ("tree", "window"):
            return residual.start(), fits[-1:], 0
        n_columns, n_rows = residual.forest.columns.shape
        if self.encoder in WINDOWED:
            n_columns = -(-n_columns // self.C)
        ways = variants(self.effort, n_rows, n_columns, self.C, self.terms, self.encoder)
        found = residual.best(ways, fits[-1], held_out, self.ridge, self.progress)
        return found or (residual.start(), fits[-1:], 0)

    def _residual(self, forest: Forest) -> ResidualTrees:
        return ResidualTrees(
            forest, terms=self.terms, n_candidates=self.n_candidates, encoder=self.encoder
        )

    def _replay(self, forest: Forest, fits: list[Fit]) -> None:
        """Grow trees with the choices that were made before."""
        forest.start()
        for fit in fits[:-1]:
            forest.refine(entries_of(fit, forest.gram(), forest.means()), fit.strength)
