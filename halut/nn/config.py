"""What a layer is replaced with: codebooks, encoder and formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from halut.accumulation import OVERFLOWS, Accumulation
from halut.checks import boolean, either, in_range, integer, integer_at_least, known, power_of_two
from halut.effort import MOST_EFFORT
from halut.errors import HalutError
from halut.formats import HALF_BITS, MOST_TERMS, check_half_tables, check_sums, input_format_bits
from halut.output import OUTPUT_FORMATS
from halut.program import LUT_FORMATS
from halut.quantize import INPUT_GRANULARITIES, LUT_GRANULARITIES
from halut.ridge import MEANS, check_means
from halut.windows import WINDOWED, check_granularity
from halut.workloads import codebooks_of

__all__ = ["BY_LEVEL", "ENCODERS", "LAYOUTS", "LayerConfig"]

LAYOUTS = ("im2col", "kn2col")
ENCODERS = ("tree", "sums", "window", "node", "centroid")

BY_LEVEL = ("tree", "window")
"""Encoders whose levels compare one feature each."""

_ADDED_LATER = {"terms": None, "effort": 0}
"""Fields of trees, as `_HARDWARE_ONLY`."""

_HARDWARE_ONLY = {
    "lut_format": "int",
    "parallel_codebooks": 1,
    "codebook_tiles": 1,
    "codebooks_per_load": None,
    "acc_bits": None,
    "overflow": None,
    "output_format": "raw",
    "relu": False,
}
"""Fields with what they must be for centroids. They were added later: dictionaries have them only
where they are set, so that recipes without them keep their hash."""


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What a layer is replaced with.

    Parameters
    ----------
    n_prototypes : int, default 16
        K, a power of two from 2 to 256.
    codebook_width : int, optional
        Features per codebook. When absent: the area of the kernel, which is one codebook per
        input channel; 8 for linear layers and 1 x 1 kernels.
    layout : {"im2col", "kn2col"}, default "im2col"
        Convolutions: whether a codebook's features are the kernel positions of one channel after
        the other, or the channels of one kernel position after the other.
    encoder : {"tree", "sums", "window", "node", "centroid"}, default "tree"
        A tree that compares single features, or sums of a few (see `halut.HalutMatmul`), or the
        features of its codebook, all of which the accelerator takes, one per level or per node; or
        the nearest of K centroids (LUT-NN's softmax of negative distances). There is no hardware
        for centroids.
    terms : int, optional
        With ``"sums"``: features that a level adds up, at most, 2 to 16; 2 when absent.
    effort : int, default 0
        0 to 3, of learning trees: see `halut.HalutMatmul`.
    lut_bits : int or None, default 8
        Width of a table entry, 2 to 16; None for float tables.
    lut_granularity : {"column", "table"}, default "column"
        One table scale per output, or one for all.
    input_format : str or None, default None
        What trees compare: ``"fp16"``, ``"bf16"``, ``"fp8_e4m3"``, ``"fp8_e5m2"``, ``"int2"`` to
        ``"int16"``, or None for floats.
    input_granularity : {"codebook", "dimension", "all"}, default "codebook"
        Integer formats: what shares one input scale.
    lut_format : {"int", "fp16"}, default "int"
        Table entries: integers, or half floats (`lut_bits` 16), added up in float32 in the order
        of `halut.golden.accumulate`.
    parallel_codebooks : int, default 1
        Q of the accelerator. Changes results of half-float tables and of accumulators that
        saturate, whose additions have an order (`halut.golden.accumulate`).
    codebook_tiles : int, default 1
        Units of the accelerator that share the Q codebooks of a step, a divisor of Q. Changes
        results of half-float tables; must be 1 with `overflow`.
    codebooks_per_load : int, optional
        C of the accelerator where it is less than the layer's: half-float tables only, which are
        loaded one range of codebooks after the other. A multiple of Q.
    acc_bits : int, optional
        Width of an accumulator that is narrower than the sums need; with `overflow` only.
    overflow : {"saturate", "wrap"}, optional
        What such an accumulator does.
    output_format : {"raw", "fp16", "int8"}, default "raw"
        What leaves the accelerator, see `halut.output`: accumulators, the product rounded once to
        half floats, or the product in 8-bit words of a grid that spans what calibration, or
        training, has seen.
    relu : bool, default False
        Whether what is below zero becomes zero there: the product for ``"fp16"`` and ``"int8"``,
        the accumulator for ``"raw"``, before scale and offset.
    temperature : float, default 1.0
        Of the surrogate gradient, greater than 0.
    max_rows : int, default 16384
        Calibration rows, drawn at random, that trees and tables are learned from.
    refine_passes : int, default 1
        Passes over all trees, see `halut.HalutMatmul`.
    ridge : "auto", "means" or float, default "auto"
        Strength of the ridge regression, or none, see `halut.HalutMatmul`.
    seed : int, default 0
        Of the choice of rows.

    Raises
    ------
    HalutError
        When a field breaks one of these rules.

    Examples
    --------
    >>> LayerConfig(lut_bits=4).lut_bits
    4
    >>> LayerConfig().codebooks(n_features=576, kernel_area=9)
    64
    """

    n_prototypes: int = 16
    codebook_width: int | None = None
    layout: str = "im2col"
    encoder: str = "tree"
    terms: int | None = None
    effort: int = 0
    lut_bits: int | None = 8
    lut_granularity: str = "column"
    input_format: str | None = None
    input_granularity: str = "codebook"
    lut_format: str = "int"
    parallel_codebooks: int = 1
    codebook_tiles: int = 1
    codebooks_per_load: int | None = None
    acc_bits: int | None = None
    overflow: str | None = None
    output_format: str = "raw"
    relu: bool = False
    temperature: float = 1.0
    max_rows: int = 16384
    refine_passes: int = 1
    ridge: str | float = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        power_of_two("n_prototypes", self.n_prototypes)
        if self.codebook_width is not None:
            integer_at_least("codebook_width", self.codebook_width, 1)
        either("layout", self.layout, LAYOUTS)
        either("encoder", self.encoder, ENCODERS)
        in_range("effort", integer("effort", self.effort), 0, MOST_EFFORT)
        if self.encoder == "sums":
            in_range("terms", integer("terms", self.n_terms), 2, MOST_TERMS)
            if self.input_format is not None:
                check_sums(self.n_terms, self.input_format)
        elif self.terms is not None:
            raise HalutError(f'terms must be None for encoder "{self.encoder}", not {self.terms}')
        if self.lut_bits is not None and integer_at_least("lut_bits", self.lut_bits, 2) > 16:
            raise HalutError(f"lut_bits must be at most 16, not {self.lut_bits}")
        either("lut_granularity", self.lut_granularity, LUT_GRANULARITIES)
        if self.input_format is not None:
            input_format_bits(self.input_format)
            if self.encoder == "centroid":
                raise HalutError(
                    f'input_format must be None for encoder "centroid", not {self.input_format!r}'
                )
        either("input_granularity", self.input_granularity, INPUT_GRANULARITIES)
        if self.encoder in WINDOWED:
            check_granularity(self.input_granularity)
        self._check_sums()
        either("output_format", self.output_format, OUTPUT_FORMATS)
        boolean("relu", self.relu)
        if self.encoder == "centroid":
            for name, wanted in (_ADDED_LATER | _HARDWARE_ONLY).items():
                if getattr(self, name) != wanted:
                    raise HalutError(
                        f'{name} must be {wanted} for encoder "centroid", '
                        f"not {getattr(self, name)!r}"
                    )
        if isinstance(self.temperature, bool) or not isinstance(self.temperature, (int, float)):
            raise HalutError(f"temperature must be a number, not {self.temperature!r}")
        if not 0 < self.temperature < math.inf:
            raise HalutError(f"temperature must be greater than 0, not {self.temperature}")
        integer_at_least("max_rows", self.max_rows, 1)
        integer_at_least("refine_passes", self.refine_passes, 0)
        if self.ridge == MEANS:
            check_means(self.encoder, self.refine_passes, self.effort)
        elif self.ridge != "auto" and (
            isinstance(self.ridge, bool)
            or not isinstance(self.ridge, (int, float))
            or not 0 < self.ridge < math.inf
        ):
            raise HalutError(f'ridge must be "auto", "means" or greater than 0, not {self.ridge!r}')
        integer_at_least("seed", self.seed, 0)

    def _check_sums(self) -> None:
        either("lut_format", self.lut_format, LUT_FORMATS)
        if self.overflow is not None and self.codebook_tiles != 1:
            raise HalutError(f"codebook_tiles must be 1 with overflow, not {self.codebook_tiles}")
        if self.codebooks_per_load is not None and self.lut_format != "fp16":
            raise HalutError(
                f'codebooks_per_load must be None for lut_format "{self.lut_format}", '
                f"not {self.codebooks_per_load}"
            )
        if self.lut_format == "fp16":
            check_half_tables(self.lut_bits or HALF_BITS, self.output_format, self.overflow)
        if self.overflow is None:
            if self.acc_bits is not None:
                raise HalutError(f"acc_bits must be None without overflow, not {self.acc_bits!r}")
        else:
            either("overflow", self.overflow, OVERFLOWS)
            if self.acc_bits is None:
                raise HalutError("acc_bits must be given with overflow")
            integer_at_least("acc_bits", self.acc_bits, self.lut_bits or 2)
        _ = self.accumulation  # made before a layer is compiled, and checked

    @cached_property
    def accumulation(self) -> Accumulation:
        """How sums are formed."""
        return Accumulation(**{f.name: getattr(self, f.name) for f in fields(Accumulation)})

    @property
    def tree_depth(self) -> int:
        """T = log2 K."""
        return self.n_prototypes.bit_length() - 1

    @property
    def n_values(self) -> int:
        """Features of a codebook that are gathered: those of its levels' terms, or its nodes'."""
        if self.encoder == "node":
            return self.n_prototypes - 1
        return self.tree_depth * self.n_terms

    @property
    def n_terms(self) -> int:
        """Features that a level of a tree compares: 1, or of how many it compares the sum."""
        if self.encoder != "sums":
            return 1
        return 2 if self.terms is None else self.terms

    def codebooks(self, n_features: int, kernel_area: int = 1) -> int:
        """Return C for a product of `n_features` columns: D / codebook_width, rounded."""
        return codebooks_of(n_features, kernel_area, self.codebook_width)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them; those that were added later where they are set."""
        values = asdict(self)
        for name, default in (_ADDED_LATER | _HARDWARE_ONLY).items():
            if values[name] == default:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LayerConfig:
        """Make a configuration of a mapping; unknown keys are errors."""
        if not isinstance(values, Mapping):
            raise HalutError(f"layer configuration must be a mapping, not {values!r}")
        names = [field.name for field in fields(cls)]
        known("layer configuration", values, names, "have known keys")
        return cls(**values)
