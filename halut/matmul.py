"""`HalutMatmul`: learn MADDNESS for ``A @ B``, then multiply by looking up.

The steps are those of MADDNESS (arXiv 2106.10860): cut A into column groups (section 4.1), learn
one tree per group (Algorithms 2 and 3, here `halut.trees`), optimise all prototypes together by
ridge regression (section 4.2, here `halut.ridge`), tabulate their products with B (section 4.3).
Beyond the paper, and each can be switched off:

- A tree minimises the error of its part of ``A @ B``, not of its columns of A
  (``loss="features"`` is the paper's).
- With all tables known, each tree is learned again for what the others leave over, while
  held-out rows gain from it (``refine_passes=0`` is the paper's).
- The strength of the ridge regression is chosen on held-out rows (``ridge=1.0`` is the paper's),
  and so is whether it shrinks tables towards zero or towards each codebook's own means.
- Columns are centred, and the mean's product with B becomes one constant per output.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import halut
from halut import golden
from halut.errors import HalutError, closest
from halut.program import Program, input_format_bits
from halut.quantize import half_thresholds, integer_thresholds, quantize_lut
from halut.ridge import Fit, Gram, best_strength, entries_of
from halut.trees import Bins, fill_empty_leaves, learn_tree, walk

__all__ = ["HalutMatmul", "Statistics", "subspaces"]

_log = logging.getLogger(__name__)

LOSSES = ("product", "features")

_ROWS_AT_ONCE = 1024
"""Rows that are encoded and decoded together: their values stay in the cache."""

_HELD_OUT_ROWS = 8192

_WORTH_A_PASS = 0.99
"""Refining goes on while the last pass brought the held-out error below this share."""

_TARGETS = 4
"""Directions of the product that a tree is learned for: the strongest ones."""

_REFINED_TARGETS = 2
"""Directions of what is left over that a tree is learned again for. Few are better: each tree
then knows one thing well, and the strongest direction is another one for the next tree."""

_TRACKED = 32
"""Directions of the product of which refining knows what is left over."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What learning found.

    Parameters
    ----------
    n_rows : int
        Training rows.
    n_tree_rows : int
        Training rows that the trees were learned from.
    ridge : float
        Strength of the ridge regression.
    ridge_around_means : bool
        Whether it shrinks towards each codebook's own means, or towards zero.
    refine_passes : int
        How often the trees were learned again.
    held_out_error : float
        ``|AB - Y|**2 / |AB|**2`` on the held-out rows; NaN without held-out rows.
    codebook_error : float64 ndarray of shape (n_codebooks,), range [0, 1]
        What each codebook alone leaves of its part of the centred product when every leaf stands
        for its mean: ``|A_c B_c - means|**2 / |A_c B_c|**2``; 0 where there is nothing to explain.
    code_counts : int64 ndarray of shape (n_codebooks, n_prototypes)
        Histogram of the codes of all training rows.
    code_entropy : float64 ndarray of shape (n_codebooks,), range [0, tree_depth]
        Entropy of the codes in bits; tree_depth when every leaf is used alike.
    lut_range : float32 ndarray of shape (n_outputs, 2)
        Smallest and largest table entry of every output.
    seconds : float
        Wall-clock time of learning.
    """

    n_rows: int
    n_tree_rows: int
    ridge: float
    ridge_around_means: bool
    refine_passes: int
    held_out_error: float
    codebook_error: NDArray[np.float64]
    code_counts: NDArray[np.int64]
    code_entropy: NDArray[np.float64]
    lut_range: NDArray[np.float32]
    seconds: float


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


def _matrix(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise HalutError(f"{name} must be a matrix, not a ragged sequence") from None
    if array.dtype.kind not in "biuf":
        raise HalutError(f"{name} must hold real numbers, not {array.dtype}")
    if array.ndim != 2 or 0 in array.shape[1:]:
        raise HalutError(f"{name} must be a matrix with columns, not of shape {array.shape}")
    return array


def _training_matrix(name: str, value: ArrayLike) -> NDArray[np.float32]:
    array = _matrix(name, value)
    if not len(array):
        raise HalutError(f"{name} must have at least one row, not 0")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    for begin in range(0, len(array), 1 << 14):
        if not np.isfinite(array[begin : begin + (1 << 14)]).all():
            bad = begin + int(np.argmax(~np.isfinite(array[begin:]).all(axis=1)))
            column = int(np.argmax(~np.isfinite(array[bad])))
            raise HalutError(
                f"{name} must be finite in float32, not {np.asarray(value)[bad, column]} "
                f"(row {bad}, column {column})"
            )
    return array


class _Grower:
    """The trees of all codebooks, learned together from one set of rows."""

    def __init__(
        self,
        A: NDArray[np.float32],
        rows: NDArray[np.intp],
        centre: NDArray[np.float32],
        weights: NDArray[np.float32],
        settings: HalutMatmul,
    ) -> None:
        self.groups = subspaces(A.shape[1], settings.C)
        self.tree_depth = settings.K.bit_length() - 1
        self.n_prototypes = settings.K
        self.settings = settings
        self.weights = weights  # (D, R)
        self.columns = np.empty((A.shape[1], len(rows)), dtype=np.float32)  # (D, n)
        for begin in range(0, len(rows), 256):  # in pieces that stay in the cache
            some = rows[begin : begin + 256]
            self.columns[:, begin : begin + 256] = A[some].T
        self.centre = centre
        self.targets = self.columns.T @ weights  # (n, R)
        self.targets -= centre @ weights
        self.bins: list[dict[int, Bins]] = [{} for _ in self.groups]
        shape = (settings.C, self.tree_depth)
        self.split_dims = np.zeros(shape, dtype=np.int32)
        self.thresholds = np.zeros((settings.C, settings.K - 1), dtype=np.float32)
        self.codes = np.zeros((settings.C, len(rows)), dtype=np.uint8)

    def _part(self, codebook: int) -> NDArray[np.float64]:
        """Return A_c B_c (n_targets, n), turned so that its strongest directions come first."""
        group = self.groups[codebook]
        columns = self.columns[group] - self.centre[group, None]
        left, size, _ = np.linalg.svd(self.weights[group], full_matrices=False)
        part = (left * size).T @ columns
        _, directions = np.linalg.eigh(part @ part.T)
        return (directions[:, ::-1].T @ part).astype(np.float64)

    def _learn(self, codebook: int, targets: NDArray[np.float64], shrinkage: float) -> None:
        group = self.groups[codebook]
        split_dims, self.thresholds[codebook], self.codes[codebook] = learn_tree(
            self.columns[group],
            targets,
            self.tree_depth,
            self.settings.n_candidates,
            shrinkage,
            self.bins[codebook],
        )
        self.split_dims[codebook] = split_dims + group.start

    def start(self) -> None:
        """Learn every tree for its own part."""
        for codebook, group in enumerate(self.groups):
            if self.settings.loss == "product":
                targets = self._part(codebook)[:_TARGETS]
            else:
                targets = (self.columns[group] - self.centre[group, None]).astype(np.float64)
            self._learn(codebook, targets, 0.0)

    def refine(self, entries: NDArray[np.float64], strength: float) -> None:
        """Learn every tree again, for what the tables of the other codebooks leave over."""
        K = self.n_prototypes
        _, directions = np.linalg.eigh((self.targets.T @ self.targets).astype(np.float64))
        directions = directions[:, : -_TRACKED - 1 : -1]  # (R, q)
        tables = (entries @ directions).reshape(len(self.groups), K, -1).astype(np.float32)
        rest = self.targets @ directions.astype(np.float32)  # (n, q)
        for table, codes in zip(tables, self.codes, strict=True):
            rest -= table.take(codes, axis=0)
        for codebook, table in enumerate(tables):
            rest += table.take(self.codes[codebook], axis=0)
            _, strongest = np.linalg.eigh((rest.T @ rest).astype(np.float64))
            strongest = strongest[:, : -_REFINED_TARGETS - 1 : -1].astype(np.float32)
            targets = (rest @ strongest).T.astype(np.float64)
            self._learn(codebook, targets, strength)
            sums = Gram.of(self.codes[codebook : codebook + 1], rest, K)
            table[:] = sums.sums / (sums.meetings.diagonal()[:, None] + strength)
            rest -= table.take(self.codes[codebook], axis=0)

    def means(self) -> NDArray[np.float64]:
        """Return each leaf's mean of its codebook's part of the product: (C*K, R)."""
        K = self.n_prototypes
        entries = np.zeros((len(self.groups), K, self.weights.shape[1]))
        for codebook, group in enumerate(self.groups):
            codes = self.codes[codebook].astype(np.intp)
            counts = np.bincount(codes, minlength=K)
            columns = self.columns[group] - self.centre[group, None]
            sums = np.stack([np.bincount(codes, column, minlength=K) for column in columns], axis=1)
            means = sums / np.maximum(counts, 1)[:, None]
            means = fill_empty_leaves(means[None], counts[None])[0]
            entries[codebook] = means @ self.weights[group]
        return entries.reshape(len(self.groups) * K, -1)

    def codebook_errors(self) -> NDArray[np.float64]:
        """Return what leaf means leave of each codebook's part, relative to the part."""
        errors = np.zeros(len(self.groups))
        for codebook, codes in enumerate(self.codes):
            part = self._part(codebook)
            part -= part.mean(axis=1, keepdims=True)
            total = float(np.einsum("ij,ij->", part, part))
            counts = np.maximum(np.bincount(codes, minlength=self.n_prototypes), 1)
            wide = codes.astype(np.intp)
            sums = np.stack([np.bincount(wide, row, minlength=self.n_prototypes) for row in part])
            if total > 0:
                errors[codebook] = max(0.0, 1 - float((sums**2 / counts).sum()) / total)
        return errors


class HalutMatmul:
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
    ridge : "auto" or float, default "auto"
        Strength of the ridge regression, greater than 0; "auto" chooses it on held-out rows.
    n_candidates : int, default 4
        Split dimensions that are tried in full at each level of a tree.
    max_tree_rows : int, default 32768
        Trees are learned from at most so many rows, drawn at random; tables from all rows.
    random_state : int, default 0
        Seed of the choice of rows.

    Attributes
    ----------
    split_dims_ : int32 ndarray of shape (n_codebooks, tree_depth), range [0, n_features)
        The column that each level of each tree looks at.
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

    split_dims_: NDArray[np.int32]
    thresholds_: NDArray[np.float32]
    lut_: NDArray[np.float32]
    offset_: NDArray[np.float32]
    n_features_: int
    stats_: Statistics

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
    ) -> None:
        for name, value, low in (
            ("C", C, 1),
            ("K", K, 2),
            ("refine_passes", refine_passes, 0),
            ("n_candidates", n_candidates, 1),
            ("max_tree_rows", max_tree_rows, 1),
            ("random_state", random_state, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise HalutError(f"{name} must be an integer, not {value!r}")
            if value < low and name != "K":
                raise HalutError(f"{name} must be at least {low}, not {value}")
        if K not in {2**depth for depth in range(1, 9)}:
            raise HalutError(f"K must be a power of two in [2, 256], not {K}")
        if loss not in LOSSES:
            raise HalutError(
                f'loss must be "product" or "features", not {loss!r}{closest(str(loss), LOSSES)}'
            )
        if isinstance(ridge, str):
            if ridge != "auto":
                raise HalutError(f'ridge must be "auto" or a number, not {ridge!r}')
        elif isinstance(ridge, bool) or not isinstance(ridge, (int, float, np.number)):
            raise HalutError(f'ridge must be "auto" or a number, not {ridge!r}')
        elif not 0 < ridge < np.inf:
            raise HalutError(f"ridge must be greater than 0 and finite, not {ridge}")
        self.C = int(C)
        self.K = int(K)
        self.loss = loss
        self.refine_passes = int(refine_passes)
        self.ridge = ridge if isinstance(ridge, str) else float(ridge)
        self.n_candidates = int(n_candidates)
        self.max_tree_rows = int(max_tree_rows)
        self.random_state = int(random_state)

    def __repr__(self) -> str:
        return f"HalutMatmul(C={self.C}, K={self.K}, loss={self.loss!r}, ridge={self.ridge!r})"

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
        rows_of_a = _training_matrix("A", A)
        matrix = _training_matrix("B", B)
        n_rows, n_features = rows_of_a.shape
        if len(matrix) != n_features:
            raise HalutError(
                f"B must have as many rows as A has columns, {n_features}, not {len(matrix)}"
            )
        if n_features < self.C:
            raise HalutError(f"C must be at most the columns of A, {n_features}, not {self.C}")

        centre = rows_of_a.mean(axis=0, dtype=np.float64).astype(np.float32)
        weights, back = matrix, None
        if matrix.shape[1] > n_features:
            # More outputs than columns: the product lies in n_features directions.
            left, size, back = np.linalg.svd(matrix, full_matrices=False)
            weights = left * size

        shuffled = np.random.default_rng(self.random_state).permutation(n_rows)
        held_out = shuffled[: min(_HELD_OUT_ROWS, n_rows // 5)]
        tree_rows = shuffled[len(held_out) :][: self.max_tree_rows]
        grower = _Grower(rows_of_a, np.sort(tree_rows), centre, weights, self)
        error = np.nan
        if len(held_out):
            fits, error = self._choose(grower, rows_of_a[held_out], matrix)
            if len(tree_rows) < min(n_rows, self.max_tree_rows):
                # The choice is made; now the held-out rows may teach the trees, too.
                tree_rows = shuffled[: self.max_tree_rows]
                grower = _Grower(rows_of_a, np.sort(tree_rows), centre, weights, self)
                self._replay(grower, fits)
        else:
            grower.start()
            strength = 1.0 if isinstance(self.ridge, str) else self.ridge
            fits = [Fit(strength=strength, around_means=False, error=np.nan)]

        self.n_features_ = n_features
        self.split_dims_ = grower.split_dims
        self.thresholds_ = grower.thresholds
        codes = self._encode(rows_of_a)
        targets = np.empty((n_rows, weights.shape[1]), dtype=np.float32)
        for first in range(0, n_rows, 1 << 14):
            part = slice(first, first + (1 << 14))
            np.matmul(rows_of_a[part] - centre, weights, out=targets[part])
        gram = Gram.of(codes, targets, self.K)
        del targets
        entries: NDArray[Any] = entries_of(fits[-1], gram, grower.means())
        entries = entries.reshape(self.C, self.K, -1)
        counts = np.stack([np.bincount(row, minlength=self.K) for row in codes])
        entries = fill_empty_leaves(entries, counts)
        if back is not None:
            entries = entries @ back
        self.lut_ = np.ascontiguousarray(entries.transpose(2, 0, 1), dtype=np.float32)
        self.offset_ = (centre.astype(np.float64) @ matrix).astype(np.float32)

        share = counts / n_rows
        entropy = -np.sum(share * np.log2(np.where(share > 0, share, 1)), axis=1)
        self.stats_ = Statistics(
            n_rows=n_rows,
            n_tree_rows=len(tree_rows),
            ridge=fits[-1].strength,
            ridge_around_means=fits[-1].around_means,
            refine_passes=len(fits) - 1,
            held_out_error=float(error),
            codebook_error=grower.codebook_errors(),
            code_counts=counts,
            code_entropy=entropy + 0.0,
            lut_range=np.stack([self.lut_.min(axis=(1, 2)), self.lut_.max(axis=(1, 2))], axis=1),
            seconds=time.perf_counter() - begin,
        )
        _log.info(
            "learned %d codebooks x %d prototypes x %d outputs from %d rows in %.1f s: "
            "ridge %g, %d refining passes, held-out error %.4g",
            self.C,
            self.K,
            matrix.shape[1],
            n_rows,
            self.stats_.seconds,
            self.stats_.ridge,
            self.stats_.refine_passes,
            error,
        )
        return self

    def _choose(
        self, grower: _Grower, held_out: NDArray[np.float32], matrix: NDArray[np.float32]
    ) -> tuple[list[Fit], float]:
        """Grow trees while held-out rows gain; return each pass's fit and the last one's error."""
        targets = (held_out - grower.centre) @ grower.weights
        fits: list[Fit] = []
        kept = (grower.split_dims, grower.thresholds, grower.codes)
        grower.start()
        for refined in range(self.refine_passes + 1):
            codes = _walk_rows(held_out, grower.split_dims, grower.thresholds)
            train = Gram.of(grower.codes, grower.targets, self.K)
            judge = Gram.of(codes, targets, self.K)
            means = grower.means()
            if isinstance(self.ridge, str):
                start = fits[-1].strength if fits else 10.0
                fit = best_strength(train, judge, means, start)
            else:
                fit = best_strength(train, judge, None, self.ridge, (self.ridge,))
            if fits and fit.error >= fits[-1].error:
                grower.split_dims, grower.thresholds, grower.codes = kept
                break
            fits.append(fit)
            _log.debug("%d refining passes: held-out error %g", refined, fit.error)
            if len(fits) > 1 and fit.error > _WORTH_A_PASS * fits[-2].error:
                break
            if refined < self.refine_passes:
                kept = (
                    grower.split_dims.copy(),
                    grower.thresholds.copy(),
                    grower.codes.copy(),
                )
                grower.refine(entries_of(fit, train, means), fit.strength)
        energy = float(np.square(held_out.astype(np.float64) @ matrix).sum())
        return fits, fits[-1].error / energy if energy > 0 else 0.0

    def _replay(self, grower: _Grower, fits: list[Fit]) -> None:
        """Grow trees with the choices that were made before."""
        grower.start()
        for fit in fits[:-1]:
            train = Gram.of(grower.codes, grower.targets, self.K)
            grower.refine(entries_of(fit, train, grower.means()), fit.strength)

    def _check_learned(self, method: str) -> None:
        if not hasattr(self, "lut_"):
            raise HalutError(f"learn_offline must be called before {method}")

    def _rows(self, A: ArrayLike) -> NDArray[Any]:
        rows = _matrix("A", A)
        if rows.shape[1] != self.n_features_:
            raise HalutError(f"A must have shape (any, {self.n_features_}), not {rows.shape}")
        return rows

    def _encode(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        return _walk_rows(rows, self.split_dims_, self.thresholds_)

    def encode(self, A: ArrayLike) -> NDArray[np.uint8]:
        """Walk rows through the trees.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Rows; compared as float32. NaN goes left.

        Returns
        -------
        uint8 ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
            Codes.
        """
        self._check_learned("encode")
        return np.ascontiguousarray(self._encode(self._rows(A)).T)

    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Add up the table entries that codes select.

        Parameters
        ----------
        codes : integer array-like of shape (n_rows, n_codebooks), range [0, n_prototypes)

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
            The approximate product.
        """
        self._check_learned("decode")
        array = np.asarray(codes)
        if array.ndim != 2 or array.shape[1] != self.C:
            raise HalutError(f"codes must have shape (any, {self.C}), not {array.shape}")
        if array.dtype.kind not in "iu":
            raise HalutError(f"codes must be integers, not {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= self.K):
            raise HalutError(f"codes must be in [0, {self.K}), not {array.min()} to {array.max()}")
        out = np.empty((len(array), len(self.lut_)), dtype=np.float32)
        tables = self._tables()
        for part in _chunks(len(array)):
            _look_up(tables, array[part].T, out[part])
        return out

    def matmul_online(self, A: ArrayLike) -> NDArray[np.float32]:
        """Multiply rows with B, approximately: ``decode(encode(A))`` in one go.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Rows; float32 in row-major order is fastest.

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
        """
        self._check_learned("matmul_online")
        rows = self._rows(A)
        out = np.empty((len(rows), len(self.lut_)), dtype=np.float32)
        tables = self._tables()
        codes = np.empty((self.C, _ROWS_AT_ONCE), dtype=np.uint8)
        for part in _chunks(len(rows)):
            product = out[part]
            some = codes[:, : len(product)]
            walk(_gather(rows, part, self.split_dims_), self.thresholds_, some)
            _look_up(tables, some, product)
        return out

    def _tables(self) -> NDArray[np.float32]:
        """Return tables (C, K, M) with the offset inside the first one."""
        tables = np.ascontiguousarray(self.lut_.transpose(1, 2, 0))
        tables[0] += self.offset_
        return tables

    def program(
        self,
        input_format: str = "int8",
        lut_bits: int = 8,
        lut_granularity: str = "column",
        input_granularity: str = "codebook",
        calibration: ArrayLike | None = None,
    ) -> Program:
        """Quantise into what an accelerator is loaded with.

        Parameters
        ----------
        input_format : str, default "int8"
            ``"fp16"``, or ``"int2"`` to ``"int16"``.
        lut_bits : int, default 8
            Width of a table entry, 2 to 16.
        lut_granularity : {"column", "table"}, default "column"
            One scale per output, or one for the whole table.
        input_granularity : {"codebook", "dimension", "all"}, default "codebook"
            Integer formats: what shares one input scale and offset, a codebook, a level of a
            codebook, or everything.
        calibration : array-like of shape (n_rows, n_features), optional
            Rows on which the mean error of each output is measured and taken off its offset.

        Returns
        -------
        Program

        Raises
        ------
        HalutError
            When a format is unknown, or nothing was learned.
        """
        self._check_learned("program")
        bits = input_format_bits(input_format)
        lut, lut_scale, lut_offset = quantize_lut(
            self.lut_, self.offset_, self.stats_.code_counts, lut_bits, lut_granularity
        )
        scale = offset = None
        if input_format == "fp16":
            thresholds: NDArray[Any] = half_thresholds(self.thresholds_)
        else:
            thresholds, scale, offset = integer_thresholds(
                self.thresholds_, bits, input_granularity
            )
        content: dict[str, Any] = {
            "n_features": self.n_features_,
            "input_format": input_format,
            "lut_bits": int(lut_bits),
            "split_dims": self.split_dims_,
            "thresholds": thresholds,
            "lut": lut,
            "lut_scale": lut_scale,
            "lut_offset": lut_offset,
            "input_scale": scale,
            "input_offset": offset,
            "provenance": {
                "source": "halut.HalutMatmul",
                "halut_version": halut.__version__,
                "loss": self.loss,
                "ridge": f"{self.stats_.ridge:g}",
                "refine_passes": str(self.stats_.refine_passes),
                "n_rows": str(self.stats_.n_rows),
                "held_out_error": f"{self.stats_.held_out_error:.6g}",
                "lut_granularity": lut_granularity,
                "random_state": str(self.random_state),
            },
        }
        program = Program(**content)
        if calibration is None:
            return program
        rows = _training_matrix("calibration", calibration)
        product = golden.dequantize(program, golden.matmul(program, program.input_words(rows)))
        error = (product - self.matmul_online(rows)).mean(axis=0, dtype=np.float64)
        content["lut_offset"] = (lut_offset - error).astype(np.float32)
        content["provenance"]["calibration_rows"] = str(len(rows))
        return Program(**content)


def _chunks(n_rows: int) -> Iterator[slice]:
    for begin in range(0, n_rows, _ROWS_AT_ONCE):
        yield slice(begin, min(begin + _ROWS_AT_ONCE, n_rows))


def _gather(rows: NDArray[Any], part: slice, split_dims: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the values that the trees look at, (C, T, n), one contiguous row per level."""
    dims = split_dims.ravel()
    if rows.flags.f_contiguous and not rows.flags.c_contiguous:
        values = rows.T[dims, part]
    else:
        values = np.take(rows[part], dims, axis=1).T
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    return values.reshape(*split_dims.shape, -1)


def _walk_rows(
    rows: NDArray[Any], split_dims: NDArray[np.int32], thresholds: NDArray[np.float32]
) -> NDArray[np.uint8]:
    codes = np.empty((len(split_dims), len(rows)), dtype=np.uint8)
    for part in _chunks(len(rows)):
        walk(_gather(rows, part, split_dims), thresholds, codes[:, part])
    return codes


def _look_up(tables: NDArray[np.float32], codes: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write the sums of the table entries (C, K, M) that codes (C, n) select to out (n, M)."""
    index = codes.astype(np.intp)
    entries = np.empty_like(out)
    np.take(tables[0], index[0], axis=0, out=out, mode="clip")
    for table, places in zip(tables[1:], index[1:], strict=True):
        np.take(table, places, axis=0, out=entries, mode="clip")
        out += entries
