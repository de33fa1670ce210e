"""`LookUp`: tables, thresholds and formats, and the arithmetic of a look-up in torch operations.

It knows nothing of where features come from and where outputs go: that is what the layers of
`halut.nn.layer` and `halut.nn.layers` add. Shapes are those of gathered features, (B, G, C, S, L):
items, groups, codebooks, features that a codebook looks at, positions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from halut.accumulation import Accumulation
from halut.checks import known
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.native.convolution import MOST_DEPTH
from halut.nn import native
from halut.nn.cache import Cache
from halut.nn.config import BY_LEVEL, LayerConfig
from halut.nn.encoder import Encoder
from halut.nn.functional import look_up, nearest_sums
from halut.nn.operators import in_transform
from halut.nn.quantize import (
    byte_outputs,
    float_inputs,
    grid,
    half_outputs,
    packed_tables,
    quantize_tables,
    rectified,
    scaled,
    wrapped,
)
from halut.output import MAX_EXACT_BITS

__all__ = ["LookUp", "by_row"]

_EXACT_FLOAT32 = 24
"""Bits of a sum of integers up to which float32 is exact."""

_FORMATS = (
    "lut_bits", "lut_granularity", "lut_format", "input_format", "input_granularity",
    "parallel_codebooks", "codebook_tiles", "codebooks_per_load", "acc_bits", "overflow",
    "output_format", "relu",
)  # fmt: skip
_MOMENTUM = 0.1
"""Share of a batch in the range of the product that training keeps."""


class LookUp(Encoder):
    """What a looked-up product holds, and how its results are computed; see `Encoder`, too.

    Parameters
    ----------
    n_features : int
        D, per group.
    n_outputs : int
        M, per group.
    groups : int
        G.
    n_codebooks : int
        C, per group.
    config : LayerConfig

    Attributes
    ----------
    lut : float32 Parameter of shape (G, M, C, K)
    bias : float32 Parameter of shape (G * M,)
        What is added to each sum of entries: the product of the mean row, and the module's bias.
    temperature : float32 Parameter of shape ()
        Of the surrogate gradient; trained only when its ``requires_grad`` is set.
    raw_output : bool
        When set, the layer returns its accumulators, as float32: integers between layers.
    output_range : float32 buffer of shape (2,) or None
        ``output_format="int8"`` only: lowest and highest value of the product, which the words
        span. Learned from calibration inputs; in training a moving average, as of batch norm.
    """

    output_range: Tensor | None

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        groups: int,
        n_codebooks: int,
        config: LayerConfig,
        device: Any = None,
    ) -> None:
        super().__init__(n_features, groups, n_codebooks, config, device)
        self.n_outputs = n_outputs
        self.raw_output = False
        # As large as the entries of the default initialisation of nn.Linear's product.
        spread = 1 / math.sqrt(3 * n_codebooks)
        shape = (groups, n_outputs, n_codebooks, config.n_prototypes)
        self.lut = nn.Parameter(spread * torch.randn(shape, device=device))
        self.bias = nn.Parameter(torch.zeros(groups * n_outputs, device=device))
        self.temperature = nn.Parameter(
            torch.tensor(float(config.temperature), device=device), requires_grad=False
        )
        self.register_buffer("output_range", None)
        self._set_config(config)

    # Formats.

    @property
    def exact(self) -> bool:
        """Whether the forward pass is the hardware's, bit for bit."""
        return self.config.lut_bits is not None and self.input_format is not None

    @property
    def accumulation(self) -> Accumulation:
        """How sums are formed; see `halut.golden.matmul` and `results`."""
        return self.config.accumulation

    def set_formats(self, **changes: Any) -> None:
        """Change number formats; parameters stay as they are.

        Parameters
        ----------
        **changes
            Fields of `LayerConfig`: `lut_bits`, `lut_granularity`, `lut_format`, `input_format`,
            `input_granularity`, `parallel_codebooks`, `codebook_tiles`, `codebooks_per_load`,
            `acc_bits`, `overflow`, `output_format`, `relu`. For ``output_format="int8"``,
            `learn_output_range` or training must follow.

        Raises
        ------
        HalutError
            When a field is another one, or breaks its rule.
        """
        known("a format", changes, _FORMATS)
        self._set_config(dataclasses.replace(self.config, **changes))

    def _set_config(self, config: LayerConfig) -> None:
        """Take a configuration that fits the number of codebooks."""
        loaded = config.codebooks_per_load or self.n_codebooks
        if loaded < self.n_codebooks and (config.output_format != "raw" or config.relu):
            raise HalutError(
                f"codebooks_per_load must be at least {self.n_codebooks} for output_format "
                f'"{config.output_format}"{" with relu" if config.relu else ""}, not {loaded}: '
                "partial sums cannot be added up once they are converted"
            )
        if config.lut_bits is not None and config.lut_format == "int":
            needed = config.lut_bits + (self.n_codebooks - 1).bit_length()
            if config.acc_bits is not None and config.acc_bits >= needed:
                raise HalutError(
                    f"acc_bits must be less than the {needed} that {self.n_codebooks} codebooks "
                    f"need for overflow to happen, not {config.acc_bits}"
                )
            width, most = config.acc_bits or needed, {"fp16": MAX_EXACT_BITS, "int8": 32}
            if width > most.get(config.output_format, width):
                raise HalutError(
                    f"accumulators must have at most {most[config.output_format]} bits for "
                    f'output_format "{config.output_format}", not {width}'
                )
        self.config = config
        if config.output_format != "int8":
            self.output_range = None
        elif self.output_range is None:
            self.output_range = torch.tensor([math.inf, -math.inf], device=self.lut.device)

    # What follows from the parameters.

    @property
    def _cache(self) -> Cache:
        """Values that are kept; made late, so that layers from pickles of before have one, too."""
        kept: Cache = self.__dict__.setdefault("_kept", Cache())
        return kept

    def forget(self) -> None:
        """Drop the tables that are kept: after a write that no version counter shows."""
        self._cache.clear()

    def _tensors(self) -> tuple[Tensor | None, ...]:
        """Return everything that tables, thresholds, scales and offsets are made of."""
        encoder = self.centroids if self.config.encoder == "centroid" else self.thresholds
        trees = self.split_dims, self.signs, self.term_ends, self.threshold_words
        return self.lut, self.bias, encoder, *trees

    def _is_followed(self, x: Tensor) -> bool:
        """Say whether autograd follows a look-up in an input."""
        return torch.is_grad_enabled() and (
            x.requires_grad or any(one.requires_grad for one in self.parameters(recurse=False))
        )

    @property
    def computes_natively(self) -> bool:
        """Whether native operators compute sums of this layer's formats, where there are such."""
        config = self.config
        return (
            config.encoder in (*BY_LEVEL, "sums")
            and config.lut_bits is not None
            and config.lut_bits <= 8
            and config.lut_bits + (self.n_codebooks - 1).bit_length() <= _EXACT_FLOAT32
            and config.lut_format == "int"
            and config.overflow != "saturate"
            and config.tree_depth <= MOST_DEPTH
        )

    def _is_native(self, x: Tensor) -> bool:
        """Say whether the native operators compute what this layer does with an input."""
        return (
            self.computes_natively
            and x.device.type == self.lut.device.type == "cpu"
            and x.dtype != torch.float64
            and self.lut.dtype != torch.float64
            and not _is_exporting()
            and not in_transform()
            and native.available()
        )

    def _prepared(self) -> native.Prepared:
        """Return what the native operators read; kept while no parameter changes."""
        also = self.config, self.input_bits
        return self._cache.get("native", self._tensors(), also, self._prepare)

    def _prepare(self) -> native.Prepared:
        nodes, scale, offset = self._nodes(torch.float32)
        entries, *outputs = self.tables()
        nodes = nodes.detach().contiguous()
        terms: tuple[Tensor, ...] = ()
        if self.signs is None:
            nodes = native.decisions(nodes, scale, offset, self._native_format)
        else:
            terms = self.signs, scale.contiguous(), offset.contiguous()
        return native.Prepared(
            self.split_dims.to(torch.int32).contiguous(),
            nodes,
            native.pack_tables(entries.detach()),
            *(one.detach().float().contiguous() for one in outputs),
            *terms,
        )

    def _packed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return float32 `lut`, and the tables, scale and offset of it that `native.train` reads.

        Autograd follows `lut` and the offset. Entries are not kept as floats.
        """
        lut = self.lut.float()
        with torch.no_grad():
            assert self.config.lut_bits is not None
            tables, scale, offset = packed_tables(
                lut.contiguous(), self.config.lut_bits, self.config.lut_granularity
            )
        return lut, tables, scale, offset + self.bias.to(lut.dtype).view_as(offset)

    @property
    def _native_format(self) -> str:
        """What the native operators call the input format."""
        name = self.input_format or ""
        if self.signs is not None:
            return name  # words of terms saturate
        return name if name in FLOAT_FORMATS or not name else "int"

    # Forward.

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return tables (G, M, C, K), and the scale (G, M) and offset (G, M) of their sums."""
        lut = self.lut if self.lut.dtype == torch.float64 else self.lut.float()
        bias = self.bias.to(lut.dtype).view(self.groups, self.n_outputs)
        if self.config.lut_bits is None:
            return lut, torch.ones_like(bias), bias
        if self.config.lut_format == "fp16":
            ones = torch.ones_like(bias, dtype=torch.float32)
            return float_inputs(lut, "fp16"), ones, bias.float()
        entries, scale, offset = quantize_tables(
            lut, self.config.lut_bits, self.config.lut_granularity
        )
        if self.config.lut_bits + math.ceil(math.log2(self.n_codebooks)) > _EXACT_FLOAT32:
            entries = entries.double()
        return entries, scale, offset + bias

    def _sums(self, gathered: Tensor, tables: Tensor) -> Tensor:
        """Return sums of table entries (B, G, M, L) for gathered inputs."""
        by_leaf = tables.permute(0, 2, 3, 1).contiguous()  # (G, C, K, M): a row per leaf
        if self.config.encoder == "centroid":
            dtype = self.centroids.dtype if gathered.dtype == torch.float64 else torch.float32
            return nearest_sums(
                gathered.to(dtype), self.centroids.to(dtype), by_leaf, self.temperature.to(dtype)
            )
        values, nodes, slope, _, _ = self._compared(gathered)
        kind = torch.promote_types(values.dtype, by_leaf.dtype)
        parts = values.to(kind), nodes.to(kind), by_leaf.to(kind), slope.to(kind)
        config = self.config
        if config.lut_bits is None:
            return look_up(*parts)
        order = config.accumulation.order
        if config.lut_format == "fp16":
            return look_up(*parts, order)
        if config.overflow == "saturate":
            return look_up(*parts, order, config.acc_bits or 0)
        sums = look_up(*parts)
        return wrapped(sums, config.acc_bits or 0) if config.overflow == "wrap" else sums

    def _results(self, sums: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Turn sums of table entries (B, G, M, L) into what leaves the hardware."""
        config = self.config
        if config.output_format == "raw":
            return rectified(sums) if config.relu else sums
        if config.lut_bits is None:
            values = sums + offset[..., None]
            return rectified(values) if config.relu else values
        if config.output_format == config.lut_format == "fp16":
            halves = float_inputs(sums, "fp16")
            return rectified(halves) if config.relu else halves
        if config.output_format == "fp16":
            return half_outputs(sums, scale, offset.float(), config.relu)
        return byte_outputs(sums, scale, offset.float(), self._grid(), config.relu)[0]

    def _values(self, results: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Turn results (B, G, M, L) into values of the product."""
        config = self.config
        if self.raw_output:
            return results.to(scale.dtype)
        if config.lut_bits is None:
            return results + offset[..., None] if config.output_format == "raw" else results
        if config.output_format == "raw" or config.lut_format == "fp16":
            return scaled(results.to(scale.dtype), scale, offset)
        if config.output_format == "fp16":
            return results
        steps = self._grid()
        return scaled(results, steps[0].expand_as(scale), steps[1].expand_as(scale))

    def _grid(self) -> Tensor:
        """Return scale and offset of 8-bit words."""
        assert self.output_range is not None
        return grid(self.output_range, self.config.relu)

    def _follow(self, sums: Tensor, scale: Tensor, offset: Tensor) -> None:
        """Move the range of 8-bit words towards that of the product."""
        assert self.output_range is not None
        seen = self._product_range(sums, scale, offset)
        moved = self.output_range + _MOMENTUM * (seen - self.output_range)
        self.output_range.copy_(torch.where(self.output_range.isfinite().all(), moved, seen))

    @staticmethod
    def _product_range(sums: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        product = sums.to(scale.dtype) * scale[..., None] + offset[..., None]
        return torch.stack(torch.aminmax(product)).float()

    def product_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply rows, as the formats have it, and return the codes with the product.

        Parameters
        ----------
        rows : float32 Tensor of shape (G, N, D)

        Returns
        -------
        product : Tensor of shape (G, N, M)
            Without a ReLU on accumulators.
        codes : uint8 Tensor of shape (G, N, C), range [0, K)
        """
        dims = self.read.flatten(1)[:, None].expand(-1, rows.shape[1], -1)
        gathered = rows.gather(2, dims).permute(0, 2, 1).unflatten(1, self.read.shape[1:])
        tables, scale, offset = self.tables()
        results = self._sums(gathered[None], tables)
        if self.config.output_format != "raw":
            results = self._results(results, scale, offset)
        values = self._values(results, scale, offset)
        return by_row(values), by_row(self._codes(gathered[None]))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        words = state_dict.get(prefix + "threshold_words")
        if words is not None and self.threshold_words is None:
            self.threshold_words = torch.empty_like(words, device=self.lut.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _is_exporting() -> bool:
    """Say whether a model is being exported: its graph must run where there is no library."""
    if torch.jit.is_tracing():
        return True
    if hasattr(torch.compiler, "is_exporting"):
        return bool(torch.compiler.is_exporting())
    return bool(torch.compiler.is_compiling())  # before torch 2.7


def by_row(values: Tensor) -> Tensor:
    """Turn (B, G, M, L) into (G, N, M): a row for every position of every item."""
    return values.permute(1, 0, 3, 2).flatten(1, 2)
