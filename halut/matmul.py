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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import halut
from halut import golden, native
from halut.arrays import to_scale, training_matrix, training_pair
from halut.checks import either, integer_at_least, power_of_two
from halut.errors import HalutError
from halut.forest import Forest
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.lookup import LookUpProduct, chunks, gather, look_up, product_basis, walk_rows
from halut.outliers import QUANTILES, clip_entries, clip_thresholds, ordinary_rows
from halut.program import Program
from halut.quantize import half_lut, integer_thresholds, quantize_lut
from halut.ridge import Fit, Gram, best_strength, count_meetings, entries_of
from halut.trees import walk

__all__ = ["HalutMatmul", "QuantisationError", "Statistics"]

_log = logging.getLogger(__name__)

LOSSES = ("product", "features")
"""What a tree's squared error can be of."""

_HELD_OUT_ROWS = 8192

_WORTH_A_PASS = 0.99
"""Refining goes on while the last pass brought the held-out error below this share."""

_JUDGED_ROWS = 4096
"""Rows, at most, that quantisation is judged on."""

_JUDGED_VALUES = 1 << 23
"""Values of these rows and of their product, at most, unless it is 256 rows."""

_FEW_ROWS = 32
"""With fewer held-out rows than this, quantisation is judged on all rows."""

_WORTH_CLIPPING = 0.02
"""Ranges of inputs are clipped where that saves more than this share of the float tables' error;
the share is that of one codebook among all."""

NOTABLE_COST = 0.05
"""A quantised program whose error is higher by more than this share deserves a warning."""


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
        ``|AB - Y|**2 / |AB|**2`` on the held-out rows, with float tables; NaN without held-out
        rows. Of a quantised program see `HalutMatmul.quantisation_error`.
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


@dataclass(frozen=True, kw_only=True)
class QuantisationError:
    """What quantising costs a program.

    Parameters
    ----------
    float_error : float
        ``|AB - Y|**2 / |AB|**2`` of the float tables on held-out rows, which they were not learned
        from; on the training rows when there were too few to hold any out.
    held_out : bool
        Whether there were enough.
    added : float
        What the program, computed in integers by `halut.golden` and dequantised, adds on those
        rows; less than 0 where rounding happens to help.
    codebook : int or None
        The codebook whose input grid, or format, adds most, when inputs add more than tables.
    output : int or None
        Otherwise, the output column whose error grows most.
    energy : float
        ``|AB|**2`` of those rows.
    """

    float_error: float
    held_out: bool
    added: float
    codebook: int | None
    output: int | None
    energy: float

    @property
    def error(self) -> float:
        """The program's error: float tables' plus what is added."""
        return self.float_error + self.added

    @property
    def notable(self) -> bool:
        """Whether the error is more than 5 % above that of the float tables."""
        return self.added > NOTABLE_COST * self.float_error or not np.isfinite(self.added)

    def __str__(self) -> str:
        """Return one line for the user."""
        blame = f"output column {self.output}" if self.codebook is None else (
            f"the inputs of codebook {self.codebook}"
        )  # fmt: skip
        return (
            f"quantisation raises the {'held-out' if self.held_out else 'training'} error from "
            f"{self.float_error:.4g} to {self.error:.4g}, most of it by {blame}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judge:
    """Rows that quantisation is judged on.

    Parameters
    ----------
    rows : float32 ndarray of shape (n, n_features)
    exact : float64 ndarray of shape (n, n_outputs)
        Their product.
    energy : float
        Of the product.
    ordinary : bool ndarray of shape (n,)
        See `ordinary_rows`; choices are made for these.
    """

    rows: NDArray[np.float32]
    exact: NDArray[np.float64]
    energy: float
    ordinary: NDArray[np.bool_]


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
        either("loss", loss, LOSSES)
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
        given = training_pair(A, B, self.C)
        (rows, a_exponent), (weights, b_exponent) = map(to_scale, "AB", given)
        n_rows = len(rows)
        ordinary = ordinary_rows(rows, weights)
        usual = rows if ordinary.all() else rows[ordinary]
        centre = usual.mean(axis=0, dtype=np.float64).astype(np.float32)
        del usual
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
        counts = self._learn_tables(
            rows, weights, centre, codes, fits[-1], means, a_exponent + b_exponent
        )
        self.split_dims_ = forest.split_dims
        self.thresholds_ = np.ldexp(forest.thresholds, a_exponent)
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
        self._judge = _Judge(
            rows=given[0][judging],
            exact=exact,
            energy=float(np.square(exact).sum()),
            ordinary=ordinary[judging],
        )
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
        rows = self._rows(A)
        codes = native.encode_floats(rows, self.split_dims_, self.thresholds_)
        if codes is not None:
            return codes
        return np.ascontiguousarray(walk_rows(rows, self.split_dims_, self.thresholds_).T)

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
        trees = self.split_dims_, self.thresholds_
        product = native.product(rows, *trees, self.lut_, self.offset_)
        if product is not None:
            return product
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
            The grid of an integer format spans the thresholds; a few that lie far from the others
            are brought in where held-out rows gain by it.
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
            Its provenance holds `held_out_error`, as `quantisation_error` measures it, and
            `held_out_error_float`.

        Raises
        ------
        HalutError
            When a format is unknown, or nothing was learned.
        """
        self._check_learned("program")
        bits = input_format_bits(input_format)
        lut: NDArray[Any]
        if lut_format == "fp16":
            lut_bits = 16
        tables, counts = self.tables_for(lut_bits, lut_granularity, lut_format)
        if lut_format == "fp16":
            lut, lut_scale, lut_offset = half_lut(tables, self.offset_, counts)
        else:
            lut, lut_scale, lut_offset = quantize_lut(
                tables, self.offset_, counts, lut_bits, lut_granularity
            )
        scale = offset = None
        if input_format in FLOAT_FORMATS:
            floating = FLOAT_FORMATS[input_format]
            thresholds: NDArray[Any] = floating.thresholds(self.thresholds_)
            beyond = floating.overflows(self.thresholds_)
            if beyond:
                _log.warning(
                    "warning: %d of %d thresholds are beyond %s, which ends at %g: they are "
                    "clipped",
                    beyond,
                    thresholds.size,
                    input_format,
                    floating.largest_finite,
                )
            if input_format == "fp16":
                thresholds = thresholds.view(np.float16)
        else:
            thresholds, scale, offset = integer_thresholds(
                self.thresholds_for(bits, input_granularity), bits, input_granularity
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
                "held_out_error_float": f"{self.stats_.held_out_error:.6g}",
                "lut_granularity": lut_granularity,
                "random_state": str(self.random_state),
            },
        }
        program = Program(**content)
        if calibration is None or lut_format == "fp16":
            return self._with_error(program)
        rows = training_matrix("calibration", calibration)
        codes = golden.encode(program, program.input_words(rows, quiet=True))
        if tables is not self.lut_:  # what a few far rows need is not what all others need
            usual = counts[np.arange(self.C), codes].all(axis=1)
            rows, codes = rows[usual], codes[usual]
        if not len(rows):
            return self._with_error(program)
        content["lut"], content["lut_scale"], lut_offset = quantize_lut(
            tables,
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
        return self._with_error(Program(**content))

    def _with_error(self, program: Program) -> Program:
        """Write a program's error into its provenance."""
        found = self.quantisation_error(program)
        error = found.error if found.held_out else np.nan
        provenance = program.provenance | {"held_out_error": f"{error:.6g}"}
        return replace(program, provenance=provenance)

    def quantisation_error(
        self,
        program: Program,
        scale: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> QuantisationError:
        """Measure what a program of this product adds to the error of the float tables.

        The program's results are computed bit by bit, by `halut.golden`, and dequantised. Up to
        4096 of the rows that were held out of learning are used, or all rows where those are
        few; what they show of the float tables they may have taught those, so that only the
        difference counts, and it is added to `Statistics.held_out_error`. With a ReLU the
        difference is that after it.

        Parameters
        ----------
        program : Program
            What `program` returned, with or without an output stage.
        scale, offset : float or array-like of shape (n_outputs,), optional
            The grid of its results, for output format ``"int8"``.

        Returns
        -------
        QuantisationError
        """
        words = program.input_words(self.judged_rows, quiet=True)
        results = golden.results(program, words)
        with np.errstate(all="ignore"):
            if program.output_format == "int8":
                if scale is None or offset is None:
                    raise HalutError('scale and offset must be given for output_format "int8"')
                product = results * np.asarray(scale) + np.asarray(offset)
            elif program.output_format == "raw" and not program.relu:
                product = golden.dequantize(program, results)
            elif program.output_format == "raw" or program.lut_format == "fp16":
                sums = golden.matmul(program, words)
                product = golden.dequantize(program, sums)
                if program.output_format == "fp16":
                    product = np.where(np.isinf(results), np.copysign(np.inf, product), product)
            else:
                product = results.astype(np.float64)
        return self.error_of(product, golden.encode(program, words), relu=program.relu)

    @property
    def judged_rows(self) -> NDArray[np.float32]:
        """Rows that quantisation is judged on, float32 (n, D): see `quantisation_error`."""
        self._check_learned("judged_rows")
        return self._judge.rows

    def error_of(
        self,
        product: NDArray[Any],
        codes: NDArray[np.uint8],
        *,
        bias: ArrayLike = 0.0,
        relu: bool = False,
    ) -> QuantisationError:
        """Measure what another way to the product adds to the error of the float tables.

        Parameters
        ----------
        product : float ndarray of shape (n, n_outputs)
            What it makes of `judged_rows`, plus `bias`.
        codes : uint8 ndarray of shape (n, n_codebooks), range [0, n_prototypes)
            Of those rows.
        bias : float or array-like of shape (n_outputs,), default 0
            What is added to every row of the product, before the ReLU.
        relu : bool, default False
            Compare what a ReLU leaves.

        Returns
        -------
        QuantisationError
        """
        judge = self._judge
        with np.errstate(all="ignore"):
            offset = np.asarray(bias, dtype=np.float64)
            floats, exact = self.matmul_online(judge.rows) + offset, judge.exact + offset
            if relu:
                floats, product, exact = (np.maximum(each, 0) for each in (floats, product, exact))
            error = np.square(floats - exact).sum(axis=0)
            added = np.square(product - exact).sum(axis=0) - error
        total = float(added.sum())
        energy = judge.energy if judge.energy > 0 else 1.0
        held_out = not np.isnan(self.stats_.held_out_error)
        inputs = self._flip_costs(judge.rows, judge.exact, codes.T)
        by_inputs = np.isfinite(total) and inputs.sum() > total / 2
        return QuantisationError(
            float_error=self.stats_.held_out_error if held_out else float(error.sum()) / energy,
            held_out=held_out,
            added=total / energy,
            codebook=int(inputs.argmax()) if by_inputs else None,
            output=None if by_inputs else int(added.argmax()),
            energy=judge.energy,
        )

    def thresholds_for(self, bits: int, granularity: str = "codebook") -> NDArray[np.float32]:
        """Return thresholds for an integer input format, few of which spoil the grid of the others.

        Those that lie beyond where all but 0, 0.1, 1 or 3 % of the values at either end are may be
        brought in to there, whichever leaves the smallest error on held-out rows; only where that
        saves more than 2 % of one codebook's share of the float tables' error, and so hardly ever
        for data without outliers. Rows far from all others do not count.

        Parameters
        ----------
        bits : int
            2 to 16.
        granularity : {"codebook", "dimension", "all"}, default "codebook"
            What shares one grid.

        Returns
        -------
        float32 ndarray of shape (n_codebooks, n_prototypes - 1)
        """
        self._check_learned("thresholds_for")
        rows = self._judge.rows[self._judge.ordinary]
        exact = self._judge.exact[self._judge.ordinary]
        values = gather(rows, slice(None), self.split_dims_)
        error = float(np.square(exact - self.matmul_online(rows)).sum())

        def costs(thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
            words, scale, offset = integer_thresholds(thresholds, bits, granularity)
            codes = np.empty((self.C, len(rows)), dtype=np.uint8)
            half = 2 ** (bits - 1)
            inputs = np.rint((values - offset[..., None].astype(np.float64)) / scale[..., None])
            inputs = np.clip(inputs, -half, half - 1).astype(np.float32)
            walk(inputs, words.astype(np.float32), codes)
            found = self._flip_costs(rows, exact, codes)
            return np.full(self.C, found.sum()) if granularity == "all" else found

        share = _WORTH_CLIPPING * error / (1 if granularity == "all" else self.C)
        best = self.thresholds_
        least = costs(best)
        if (least <= share).all():
            return best
        least = least - share  # what a change has to beat
        for low in QUANTILES:
            for high in QUANTILES:
                clipped = clip_thresholds(self.thresholds_, values, low, high, granularity)
                if np.array_equal(clipped, self.thresholds_):
                    continue
                cost = costs(clipped)
                better = cost < least
                best = np.where(better[:, None], clipped, best)
                least = np.where(better, cost, least)
        return best

    def _flip_costs(
        self, rows: NDArray[np.float32], exact: NDArray[np.float64], codes: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return what other codes (C, n) for rows add to the float tables' squared error: (C,)."""
        own = walk_rows(rows, self.split_dims_, self.thresholds_)
        rest = exact - self.matmul_online(rows)
        costs = np.zeros(self.C)
        for codebook in range(self.C):
            changed = np.flatnonzero(own[codebook] != codes[codebook])
            table = self.lut_[:, codebook].astype(np.float64)  # (M, K)
            change = table[:, own[codebook, changed]] - table[:, codes[codebook, changed]]
            costs[codebook] = np.sum((2 * rest[changed].T + change) * change)
        return costs

    def tables_for(
        self, lut_bits: int, granularity: str = "column", lut_format: str = "int"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return tables for a format, and how often entries are looked up.

        Where entries of a few rows far from all others (`halut.outliers.ordinary_rows`) would take
        the steps of the other entries, and that costs the others more than 5 % on held-out rows,
        they are brought in to the range of the others; those rows are then not counted.

        Parameters
        ----------
        lut_bits : int
            2 to 16.
        granularity : {"column", "table"}, default "column"
        lut_format : {"int", "fp16"}, default "int"

        Returns
        -------
        lut : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
        counts : int64 ndarray of shape (n_codebooks, n_prototypes)
        """
        self._check_learned("tables_for")
        counts = self.stats_.code_counts
        usual = self._ordinary_counts
        if usual is counts or not usual.any(axis=1).all():
            return self.lut_, counts
        clipped = clip_entries(self.lut_, usual)
        if np.array_equal(clipped, self.lut_):
            return self.lut_, counts
        rows = self._judge.rows[self._judge.ordinary]
        exact = self._judge.exact[self._judge.ordinary]
        codes = walk_rows(rows, self.split_dims_, self.thresholds_)

        def error(lut: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any]) -> float:
            sums = np.zeros_like(exact.T)
            for codebook, code in enumerate(codes):
                sums += lut[:, codebook, code]
            return float(np.square(sums.T * scale + offset - exact).sum())

        def quantised(lut: NDArray[np.float32], counts: NDArray[np.int64]) -> float:
            if lut_format == "fp16":
                return error(*half_lut(lut, self.offset_, counts))
            return error(*quantize_lut(lut, self.offset_, counts, lut_bits, granularity))

        floats = error(self.lut_, np.ones(len(self.lut_)), self.offset_)
        whole = quantised(self.lut_, counts)
        if whole > (1 + NOTABLE_COST) * floats and quantised(clipped, usual) < whole:
            return clipped, usual
        return self.lut_, counts
