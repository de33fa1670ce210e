"""A learned product as an accelerator's program: its number formats, and what they cost."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import halut
from halut import golden, native
from halut.arrays import training_matrix
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, HALF_BITS, check_sums, input_format_bits
from halut.judging import NOTABLE_COST, Judge, QuantisationError, Statistics
from halut.lookup import LookUpProduct, chunks, gather, look_up, walk_rows
from halut.outliers import QUANTILES, clip_entries, clip_thresholds
from halut.program import Program
from halut.quantised import QuantisedMatmul
from halut.quantize import half_lut, integer_thresholds, quantize_lut
from halut.ridge import count_meetings
from halut.sums import integer_sums
from halut.trees import walk
from halut.windows import WINDOWED, window_fields

__all__ = ["TreeProduct"]

_log = logging.getLogger(__name__)

_WORTH_CLIPPING = 0.02
"""Ranges of inputs are clipped where that saves more than this share of the float tables' error;
the share is that of one codebook among all."""


class TreeProduct(LookUpProduct):
    """A product with learned trees: multiplies rows, and becomes programs.

    Attributes
    ----------
    split_dims_, signs_, thresholds_, stats_
        See `halut.HalutMatmul`, which learns them.
    """

    encoder: str
    random_state: int
    chosen_: dict[str, Any]
    split_dims_: NDArray[np.int32]
    signs_: NDArray[np.int8] | None
    thresholds_: NDArray[np.float32]
    stats_: Statistics
    _judge: Judge
    _ordinary_counts: NDArray[np.int64]

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
        if self.signs_ is None:
            codes = native.encode_floats(rows, self.split_dims_, self.thresholds_)
            if codes is not None:
                return codes
        return np.ascontiguousarray(self._walk(rows).T)

    def _walk(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        return walk_rows(rows, self.split_dims_, self.thresholds_, self.signs_)

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
        if self.signs_ is None:
            trees = self.split_dims_, self.thresholds_
            looked_up = native.product(rows, *trees, self.lut_, self.offset_)
            if looked_up is not None:
                return looked_up
        out = np.empty((len(rows), len(self.lut_)), dtype=np.float32)
        tables = self._tables()
        for part in chunks(len(rows)):
            product = out[part]
            codes = np.empty((self.C, len(product)), dtype=np.uint8)
            walk(gather(rows, part, self.split_dims_, self.signs_), self.thresholds_, codes)
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
            are brought in where held-out rows gain by it. Sums take integers only; their grid
            spans the values. Words of windows share their codebook's grid, or one for everything.
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
        if self.signs_ is not None:
            check_sums(self.signs_.shape[2], input_format)
        lut: NDArray[Any]
        if lut_format == "fp16":
            lut_bits = HALF_BITS
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
        elif self.signs_ is None:
            thresholds, scale, offset = integer_thresholds(
                self.thresholds_for(bits, input_granularity), bits, input_granularity
            )
        content: dict[str, Any] = {
            "n_features": self.n_features_,
            "input_format": input_format,
            "lut_bits": int(lut_bits),
            "lut_format": lut_format,
            "split_dims": self.split_dims_,
            "lut": lut,
            "lut_scale": lut_scale,
            "lut_offset": lut_offset,
            "provenance": {
                "source": "halut.HalutMatmul",
                "halut_version": halut.__version__,
                "loss": str(self.chosen_["loss"]),
                "ridge": f"{self.stats_.ridge:g}",
                "refine_passes": str(self.stats_.refine_passes),
                "n_rows": str(self.stats_.n_rows),
                "held_out_error_float": f"{self.stats_.held_out_error:.6g}",
                "lut_granularity": lut_granularity,
                "random_state": str(self.random_state),
            },
        }
        if self.signs_ is None:
            content |= {"thresholds": thresholds, "input_scale": scale, "input_offset": offset}
            if self._windowed:
                grids = input_granularity, scale, offset
                content |= window_fields(self.split_dims_, self.n_features_, *grids)
                content["provenance"]["encoder"] = self._windowed
        else:
            trees = self.split_dims_, self.signs_, self.thresholds_
            content |= integer_sums(self.term_ends(), *trees, bits, input_granularity)
            content["provenance"]["encoder"] = f"sums of {self.signs_.shape[2]}"
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

    @property
    def _windowed(self) -> str:
        """The encoder where codebooks take their windows; else empty."""
        encoder = str(self.chosen_["encoder"]) if self.encoder == "best" else self.encoder
        return encoder if encoder in WINDOWED else ""

    def quantised(
        self, input_format: str = "int8", lut_bits: int = 8, **options: Any
    ) -> QuantisedMatmul:
        """Return a product with quantised inputs and tables, faster than this one.

        Parameters
        ----------
        input_format, lut_bits, **options
            As for `program`.

        Returns
        -------
        QuantisedMatmul
            Of ``program(input_format, lut_bits, **options)``; what is learned later does not
            change it.
        """
        return QuantisedMatmul(self.program(input_format, lut_bits, **options))

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
            if values.shape[1] != scale.shape[1]:  # a node's values, on their codebook's grid
                scale, offset = scale[:, :1], offset[:, :1]
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

    def term_ends(self) -> NDArray[np.float32]:
        """Return what each term of sums is from and to: float32 (2, C, tree_depth, terms).

        Rows far from all others do not count.
        """
        self._check_learned("term_ends")
        rows = self._judge.rows[self._judge.ordinary]
        return np.stack([rows.min(axis=0)[self.split_dims_], rows.max(axis=0)[self.split_dims_]])

    def _flip_costs(
        self, rows: NDArray[np.float32], exact: NDArray[np.float64], codes: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return what other codes (C, n) for rows add to the float tables' squared error: (C,)."""
        own = self._walk(rows)
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
        codes = self._walk(rows)

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
