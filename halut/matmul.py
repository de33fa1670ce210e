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
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import halut
from halut import golden
from halut.arrays import integer_at_least, power_of_two, training_matrix, training_pair
from halut.errors import HalutError, closest
from halut.forest import Forest
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.lookup import LookUpProduct, chunks, gather, look_up, product_basis, walk_rows
from halut.program import Program
from halut.quantize import half_lut, integer_thresholds, quantize_lut
from halut.ridge import Fit, Gram, best_strength, count_meetings, entries_of
from halut.trees import walk

__all__ = ["HalutMatmul", "Statistics"]

_log = logging.getLogger(__name__)

LOSSES = ("product", "features")
"""What a tree's squared error can be of."""

_HELD_OUT_ROWS = 8192

_WORTH_A_PASS = 0.99
"""Refining goes on while the last pass brought the held-out error below this share."""


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


class HalutMatmul(LookUpProduct):
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
        self.C = integer_at_least("C", C, 1)
        self.K = power_of_two("K", K)
        self.loss = loss
        self.refine_passes = integer_at_least("refine_passes", refine_passes, 0)
        self.ridge = ridge if isinstance(ridge, str) else float(ridge)
        self.n_candidates = integer_at_least("n_candidates", n_candidates, 1)
        self.max_tree_rows = integer_at_least("max_tree_rows", max_tree_rows, 1)
        self.random_state = integer_at_least("random_state", random_state, 0)

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
        rows, weights = training_pair(A, B, self.C)
        n_rows = len(rows)
        centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        shuffled = np.random.default_rng(self.random_state).permutation(n_rows)
        held_out = shuffled[: min(_HELD_OUT_ROWS, n_rows // 5)]
        tree_rows = shuffled[len(held_out) :][: self.max_tree_rows]
        forest = self._forest(rows, tree_rows, centre, weights)
        error = np.nan
        if len(held_out):
            fits, error = self._choose(forest, rows[held_out], weights)
            if len(tree_rows) < min(n_rows, self.max_tree_rows):
                # The choice is made; now the held-out rows may teach the trees, too.
                tree_rows = shuffled[: self.max_tree_rows]
                forest = self._forest(rows, tree_rows, centre, weights)
                self._replay(forest, fits)
        else:
            forest.start()
            strength = 1.0 if isinstance(self.ridge, str) else self.ridge
            fits = [Fit(strength=strength, around_means=False, error=np.nan)]

        codes = walk_rows(rows, forest.split_dims, forest.thresholds)
        means = forest.means()
        counts = self._learn_tables(rows, weights, centre, codes, fits[-1], means)
        self.split_dims_ = forest.split_dims
        self.thresholds_ = forest.thresholds
        share = counts / n_rows
        self.stats_ = Statistics(
            n_rows=n_rows,
            n_tree_rows=len(tree_rows),
            ridge=fits[-1].strength,
            ridge_around_means=fits[-1].around_means,
            refine_passes=len(fits) - 1,
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

    def _choose(
        self, forest: Forest, held_out: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> tuple[list[Fit], float]:
        """Grow trees while held-out rows gain; return each pass's fit and the last one's error."""
        targets = (held_out - forest.centre) @ forest.weights
        fits: list[Fit] = []
        kept = forest.trees()
        forest.start()
        for refined in range(self.refine_passes + 1):
            codes = walk_rows(held_out, forest.split_dims, forest.thresholds)
            train = forest.gram()
            judge = Gram.of(codes, targets, self.K)
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
                forest.refine(entries_of(fit, train, means), fit.strength)
        energy = float(np.square(held_out.astype(np.float64) @ weights).sum())
        return fits, fits[-1].error / energy if energy > 0 else 0.0

    def _replay(self, forest: Forest, fits: list[Fit]) -> None:
        """Grow trees with the choices that were made before."""
        forest.start()
        for fit in fits[:-1]:
            forest.refine(entries_of(fit, forest.gram(), forest.means()), fit.strength)

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
        codes = walk_rows(self._rows(A), self.split_dims_, self.thresholds_)
        return np.ascontiguousarray(codes.T)

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
        for part in chunks(len(rows)):
            product = out[part]
            codes = np.empty((self.C, len(product)), dtype=np.uint8)
            walk(gather(rows, part, self.split_dims_), self.thresholds_, codes)
            look_up(tables, codes, product)
        return out

    def program(
        self,
        input_format: str = "int8",
        lut_bits: int = 8,
        lut_granularity: str = "column",
        input_granularity: str = "codebook",
        calibration: ArrayLike | None = None,
        lut_format: str = "int",
    ) -> Program:
        """Quantise into what an accelerator is loaded with.

        Half floats keep 11 bits of a value, BF16 8, FP8 4 or 3: where columns vary little beside
        their mean, integer formats, whose grids span the thresholds only, lose less.

        Parameters
        ----------
        input_format : str, default "int8"
            ``"fp16"``, ``"bf16"``, ``"fp8_e4m3"``, ``"fp8_e5m2"``, or ``"int2"`` to ``"int16"``.
        lut_bits : int, default 8
            Width of a table entry, 2 to 16.
        lut_granularity : {"column", "table"}, default "column"
            One scale per output, or one for the whole table.
        input_granularity : {"codebook", "dimension", "all"}, default "codebook"
            Integer formats: what shares one input scale and offset, a codebook, a level of a
            codebook, or everything.
        calibration : array-like of shape (n_rows, n_features), optional
            Rows whose codes show which entries meet: entries are then rounded jointly, each
            making up for the rounding of others, and the mean error of each output is taken off
            its offset. Pays from 4 bits down.

        lut_format : {"int", "fp16"}, default "int"
            Table entries: integers, or half floats, of 16 bits whatever `lut_bits` says. These are
            rounded one by one; `lut_granularity` and `calibration` then change nothing.

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
        counts = self.stats_.code_counts
        lut: NDArray[Any]
        if lut_format == "fp16":
            lut_bits = 16
            lut, lut_scale, lut_offset = half_lut(self.lut_, self.offset_, counts)
        else:
            lut, lut_scale, lut_offset = quantize_lut(
                self.lut_, self.offset_, counts, lut_bits, lut_granularity
            )
        scale = offset = None
        if input_format in FLOAT_FORMATS:
            thresholds: NDArray[Any] = FLOAT_FORMATS[input_format].thresholds(self.thresholds_)
            if input_format == "fp16":
                thresholds = thresholds.view(np.float16)
        else:
            thresholds, scale, offset = integer_thresholds(
                self.thresholds_, bits, input_granularity
            )
        content: dict[str, Any] = {
            "n_features": self.n_features_,
            "input_format": input_format,
            "lut_bits": int(lut_bits),
            "lut_format": lut_format,
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
        if calibration is None or lut_format == "fp16":
            return program
        rows = training_matrix("calibration", calibration)
        codes = golden.encode(program, program.input_words(rows))
        content["lut"], content["lut_scale"], lut_offset = quantize_lut(
            self.lut_,
            self.offset_,
            np.stack([np.bincount(column, minlength=self.K) for column in codes.T]),
            lut_bits,
            lut_granularity,
            count_meetings(np.ascontiguousarray(codes.T), self.K),
        )
        content["lut_offset"] = lut_offset
        program = Program(**content)
        product = golden.dequantize(program, golden.accumulate(program, codes))
        error = (product - self.matmul_online(rows)).mean(axis=0, dtype=np.float64)
        content["lut_offset"] = (lut_offset - error).astype(np.float32)
        content["provenance"]["calibration_rows"] = str(len(rows))
        return Program(**content)
