"""`HalutLinear` and `HalutConv2d`: layers whose product is looked up.

A layer holds, for each of its G groups (1, or the groups of a convolution), what a `Program` holds
of one matrix: split dimensions, thresholds and tables. It trains with the surrogate gradient of
`halut.nn.functional`. With `lut_bits` and `input_format` set, its forward pass, in training and in
evaluation, is the hardware's: table entries are summed as there, go through its output stage, and
``float32(result) * scale + offset`` is all that follows.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import halut
from halut.baseline import ProductQuantization
from halut.errors import HalutError, closest
from halut.forest import subspaces
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.matmul import HalutMatmul
from halut.nn.config import LayerConfig
from halut.nn.functional import look_up, nearest, nearest_sums, walk
from halut.nn.quantize import (
    byte_outputs,
    float_inputs,
    float_thresholds,
    grid,
    half_outputs,
    input_words,
    integer_thresholds,
    quantize_tables,
    rectified,
    scaled,
    wrapped,
)
from halut.output import MAX_EXACT_BITS
from halut.program import Program

__all__ = ["Executor", "HalutConv2d", "HalutLayer", "HalutLinear", "layer_of", "layers_of"]

Executor = Callable[["HalutLayer", Tensor], Tensor]
"""Takes a layer and its input, returns what leaves the hardware, as `HalutLayer.results`."""

_Layer = TypeVar("_Layer", bound="HalutLayer")

_log = logging.getLogger(__name__)

_EXACT_FLOAT32 = 24
"""Bits of a sum of integers up to which float32 is exact."""

_FORMATS = (
    "lut_bits", "lut_granularity", "lut_format", "input_format", "input_granularity",
    "parallel_codebooks", "codebook_tiles", "codebooks_per_load", "acc_bits", "overflow",
    "output_format", "relu",
)  # fmt: skip
_MOMENTUM = 0.1
"""Share of a batch in the range of the product that training keeps."""


class HalutLayer(nn.Module, ABC):
    """What `HalutLinear` and `HalutConv2d` share.

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
    bias : bool
        Whether the module that it replaces has a bias.
    config : LayerConfig

    Attributes
    ----------
    thresholds : float32 Parameter of shape (G, C, K - 1)
        Breadth-first, as in `Program`. For centroids absent.
    lut : float32 Parameter of shape (G, M, C, K)
    bias : float32 Parameter of shape (G * M,)
        What is added to each sum of entries: the product of the mean row, and the module's bias.
    temperature : float32 Parameter of shape ()
        Of the surrogate gradient; trained only when its ``requires_grad`` is set.
    split_dims : int64 buffer of shape (G, C, T), range [0, D)
        What the trees look at. For centroids (G, C, D / C): all features of each codebook.
    centroids : float32 Parameter of shape (G, C, K, D / C)
        Instead of thresholds, for ``encoder="centroid"``.
    executor : callable or None
        When set, it computes the results (see `Executor`) in place of this layer.
    raw_output : bool
        When set, the layer returns its accumulators, as float32: integers between layers.
    input_bits : int
        Not 0: inputs are integers of so many bits, compared with the buffer `threshold_words`
        of shape (G, C, K - 1), int32.
    output_range : float32 buffer of shape (2,) or None
        ``output_format="int8"`` only: lowest and highest value of the product, which the words
        span. Learned from calibration inputs; in training a moving average, as of batch norm.
    """

    split_dims: Tensor
    threshold_words: Tensor | None
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
        super().__init__()
        self.config = config
        self.n_features, self.n_outputs, self.groups = n_features, n_outputs, groups
        self.n_codebooks, self.n_prototypes = n_codebooks, config.n_prototypes
        self.executor: Executor | None = None
        self.raw_output = False
        self.input_bits = 0
        n_prototypes = config.n_prototypes
        columns = subspaces(n_features, n_codebooks)
        if config.encoder == "centroid":
            if n_features % n_codebooks:
                raise HalutError(
                    f'codebook_width must divide the {n_features} features for encoder "centroid", '
                    f"not cut them into {n_codebooks} codebooks"
                )
            width = n_features // n_codebooks
            dims = torch.arange(n_features).view(1, n_codebooks, width).repeat(groups, 1, 1)
            shape = (groups, n_codebooks, n_prototypes, width)
            self.centroids = nn.Parameter(torch.randn(shape, device=device))
        else:
            depth = config.tree_depth
            dims = torch.stack(
                [part.start + torch.randperm(part.stop - part.start).repeat(depth)[:depth]
                 for _ in range(groups) for part in columns]
            ).view(groups, n_codebooks, depth)  # fmt: skip
            nodes = (groups, n_codebooks, n_prototypes - 1)
            self.thresholds = nn.Parameter(0.5 * torch.randn(nodes, device=device))
        self.register_buffer("split_dims", self._in_layout(dims).to(device))
        # As large as the entries of the default initialisation of nn.Linear's product.
        spread = 1 / math.sqrt(3 * n_codebooks)
        shape = (groups, n_outputs, n_codebooks, n_prototypes)
        self.lut = nn.Parameter(spread * torch.randn(shape, device=device))
        self.bias = nn.Parameter(torch.zeros(groups * n_outputs, device=device))
        self.temperature = nn.Parameter(
            torch.tensor(float(config.temperature), device=device), requires_grad=False
        )
        self.register_buffer("threshold_words", None)
        self.register_buffer("output_range", None)
        self._set_config(config)

    # What a subclass says.

    @abstractmethod
    def geometry(self) -> dict[str, Any]:
        """Return the constructor's arguments but `config`, as JSON has them, and the kind."""

    @abstractmethod
    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        """Gather features (G, C, S) of all positions as (B, G, C, S, L)."""

    @abstractmethod
    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Turn outputs (B, G, M, L) for an input into the module's output."""

    def _in_layout(self, dims: Tensor) -> Tensor:
        """Turn indices into the features as the layout orders them into indices of features."""
        return dims

    # Formats.

    @property
    def tree_depth(self) -> int:
        """T = log2 K."""
        return self.config.tree_depth

    @property
    def exact(self) -> bool:
        """Whether the forward pass is the hardware's, bit for bit."""
        return self.config.lut_bits is not None and self.input_format is not None

    @property
    def input_format(self) -> str | None:
        """What trees compare, None for floats."""
        return f"int{self.input_bits}" if self.input_bits else self.config.input_format

    @property
    def accumulation(self) -> dict[str, Any]:
        """How sums are formed: keyword arguments of `halut.golden.matmul` and `results`."""
        config = self.config
        return {
            "acc_bits": config.acc_bits,
            "overflow": config.overflow,
            "parallel_codebooks": config.parallel_codebooks,
            "codebook_tiles": config.codebook_tiles,
            "codebooks_per_load": config.codebooks_per_load,
        }

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
        for name in changes:
            if name not in _FORMATS:
                raise HalutError(
                    f"a format must be one of {', '.join(_FORMATS)}, not {name!r}"
                    f"{closest(name, _FORMATS)}"
                )
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

    def use_integer_inputs(self, threshold_words: Tensor, bits: int) -> None:
        """Compare inputs that are integers with integer thresholds from now on.

        Parameters
        ----------
        threshold_words : int32 Tensor of shape (G, C, K - 1), range of signed `bits` bits
        bits : int
            2 to 16.
        """
        if threshold_words.shape != self.thresholds.shape:
            raise HalutError(
                f"threshold_words must have shape {tuple(self.thresholds.shape)}, "
                f"not {tuple(threshold_words.shape)}"
            )
        self.input_bits = input_format_bits(f"int{bits}") and bits
        self.threshold_words = threshold_words.to(self.thresholds.device, torch.int32)

    # Forward.

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
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

    def _compared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what the trees compare, for gathered inputs (B, G, C, T, L).

        Returns
        -------
        values (B, G, C, T, L), nodes (G, C, K - 1), slope (G, C, T)
            For `look_up`.
        scale, offset : (G, C, T)
            Of the words, one and zero when they are values.
        """
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        x = x.to(dtype)
        thresholds = self.thresholds.to(dtype)
        scale = torch.ones_like(self.split_dims, dtype=dtype)
        offset = torch.zeros_like(scale)
        if self.input_bits:
            values = input_words(x, scale, offset)
            assert self.threshold_words is not None
            nodes = self.threshold_words.to(dtype) + 0.5
        elif self.config.input_format is None:
            values, nodes = x, thresholds
        elif self.config.input_format in FLOAT_FORMATS:
            name = self.config.input_format
            values, nodes = float_inputs(x, name), float_thresholds(thresholds, name)
        else:
            bits = input_format_bits(self.config.input_format)
            words, scale, offset = integer_thresholds(
                thresholds, bits, self.config.input_granularity
            )
            # Between a threshold and the next word: the same decisions, and never on the edge.
            values, nodes = input_words(x, scale, offset), words + 0.5
        slope = scale / self.temperature.to(dtype)
        return values, nodes, slope, scale, offset

    def _sums(self, x: Tensor, tables: Tensor) -> Tensor:
        """Return sums of table entries (B, G, M, L) for an input."""
        gathered = self._inputs(x, self.split_dims)
        by_leaf = tables.permute(0, 2, 3, 1).contiguous()  # (G, C, K, M): a row per leaf
        if self.config.encoder == "centroid":
            dtype = self.centroids.dtype if x.dtype == torch.float64 else torch.float32
            return nearest_sums(
                gathered.to(dtype), self.centroids.to(dtype), by_leaf, self.temperature.to(dtype)
            )
        values, nodes, slope, _, _ = self._compared(gathered)
        kind = torch.promote_types(values.dtype, by_leaf.dtype)
        parts = values.to(kind), nodes.to(kind), by_leaf.to(kind), slope.to(kind)
        config = self.config
        if config.lut_bits is None:
            return look_up(*parts)
        order = config.parallel_codebooks, config.codebook_tiles, config.codebooks_per_load or 0
        if config.lut_format == "fp16":
            return look_up(*parts, order)
        if config.overflow == "saturate":
            return look_up(*parts, order, config.acc_bits or 0)
        sums = look_up(*parts)
        return wrapped(sums, config.acc_bits or 0) if config.overflow == "wrap" else sums

    def forward(self, x: Tensor) -> Tensor:
        """Return the approximate output of the layer that this one replaces.

        Parameters
        ----------
        x : Tensor
            As for `nn.Linear` or `nn.Conv2d`.

        Returns
        -------
        Tensor
            Of the dtype of `x`, or of autocast.
        """
        if self.executor is not None:
            return self.finish(self.executor(self, x), x)
        dtype = _output_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            tables, scale, offset = self._tables()
            sums = self._sums(x, tables)
            if self.training and self.output_range is not None and sums.numel():
                self._follow(sums.detach(), scale, offset.detach())
            results = self._results(sums, scale, offset)
            return self._arrange(self._values(results, scale, offset), x).to(dtype)

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

    # Exactly what the hardware computes.

    def rows(self, x: Tensor) -> Tensor:
        """Return the matrix whose product this layer stands for.

        Parameters
        ----------
        x : Tensor
            An input.

        Returns
        -------
        Tensor of shape (G, N, D)
            One row per position, items one after the other; feature ``c * kh * kw + ky * kw + kx``.
        """
        dims = torch.arange(self.n_features, device=x.device).expand(self.groups, 1, -1)
        gathered = self._inputs(x, dims)  # (B, G, 1, D, L)
        return gathered[:, :, 0].permute(1, 0, 3, 2).flatten(1, 2)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of an input, uint8 of shape (G, N, C), range [0, K)."""
        gathered = self._inputs(x, self.split_dims)
        if self.config.encoder == "centroid":
            codes = nearest(gathered.to(self.centroids.dtype), self.centroids)
        else:
            values, nodes, _, _, _ = self._compared(gathered)
            codes = walk(values, nodes)
        return codes.permute(1, 0, 3, 2).flatten(1, 2)

    @torch.no_grad()
    def accumulators(self, x: Tensor) -> Tensor:
        """Return the sums that the hardware forms, as `halut.golden.matmul` does.

        Parameters
        ----------
        x : Tensor
            An input.

        Returns
        -------
        Tensor of shape (G, N, M), int32, or float32 for tables of half floats
        """
        self._check_exact()
        sums = self._sums(x, self._tables()[0])
        kind = torch.int32 if self.config.lut_format == "int" else torch.float32
        return _by_row(sums).to(kind)

    @torch.no_grad()
    def results(self, x: Tensor) -> Tensor:
        """Return what leaves the hardware for an input, as `halut.golden.results` does.

        Parameters
        ----------
        x : Tensor
            An input.

        Returns
        -------
        Tensor of shape (G, N, M)
            int32, or float32 for tables of half floats; float16; int8.
        """
        self._check_exact()
        tables, scale, offset = self._tables()
        results = self._results(self._sums(x, tables), scale, offset)
        kind = torch.int32 if self.config.lut_format == "int" else torch.float32
        kinds = {"fp16": torch.float16, "int8": torch.int8}
        return _by_row(results).to(kinds.get(self.config.output_format, kind))

    def finish(self, results: Tensor, x: Tensor) -> Tensor:
        """Turn results (G, N, M) for an input into the layer's output."""
        _, scale, offset = self._tables()
        n_items = self._n_items(x)
        n_positions = results.shape[1] // max(n_items, 1)
        ordered = results.unflatten(1, (n_items, n_positions)).permute(1, 0, 3, 2)  # (B, G, M, L)
        values = self._values(ordered.to(scale.dtype), scale, offset)
        return self._arrange(values, x).to(_output_dtype(x))

    def _n_items(self, _x: Tensor) -> int:
        return 1

    def _check_exact(self) -> None:
        if self.config.encoder == "centroid":
            raise HalutError('encoder must be "tree": there is no hardware for centroids')
        for name, value in (
            ("lut_bits", self.config.lut_bits),
            ("input_format", self.input_format),
        ):
            if value is None:
                raise HalutError(f"{name} must be set for hardware, not None (set_formats)")

    @torch.no_grad()
    def programs(self) -> list[Program]:
        """Return what an accelerator is loaded with, one program per group.

        Raises
        ------
        HalutError
            When the layer is not `exact`.
        """
        self._check_exact()
        entries, lut_scale, lut_offset = self._tables()
        nothing = self.thresholds.new_zeros((1, *self.split_dims.shape, 1), dtype=torch.float32)
        _, nodes, _, scale, offset = self._compared(nothing)
        if self.input_format in FLOAT_FORMATS:
            words = _numpy(nodes)
            if self.input_format != "fp16":
                words = FLOAT_FORMATS[self.input_format].words(words)
        else:
            words = _numpy(nodes - 0.5)
        stage: dict[str, Any] = {"relu": self.config.relu}
        if self.config.output_format == "int8":
            stage["scale"], stage["offset"] = self._grid().tolist()
        return [
            Program(
                n_features=self.n_features,
                input_format=str(self.input_format),
                lut_bits=int(self.config.lut_bits or 0),
                lut_format=self.config.lut_format,
                split_dims=_numpy(self.split_dims[group]),
                thresholds=words[group],
                lut=_numpy(entries[group]),
                lut_scale=_numpy(lut_scale[group]),
                lut_offset=_numpy(lut_offset[group]),
                input_scale=_numpy(scale[group]),
                input_offset=_numpy(offset[group]),
                provenance={
                    "source": f"halut.nn.{type(self).__name__}",
                    "halut_version": halut.__version__,
                    "group": f"{group} of {self.groups}",
                },
            ).with_output(self.config.output_format, **stage)
            for group in range(self.groups)
        ]

    @property
    def table_bytes(self) -> int:
        """Size of all tables in bytes; 32-bit entries when they are floats."""
        return math.ceil(self.lut.numel() * (self.config.lut_bits or 32) / 8)

    # Learning.

    @torch.no_grad()
    def learn(self, x: Tensor | Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> None:
        """Learn encoders and tables from inputs.

        Parameters
        ----------
        x : Tensor or sequence of Tensor
            Calibration inputs, at least 4 K positions; finite.
        weight : Tensor of shape (G * M, ...)
            Of the module that is replaced; D values per output.
        bias : Tensor of shape (G * M,) or None

        Raises
        ------
        HalutError
            When there are too few rows, or one is not finite.
        """
        rows = self._calibration_rows(x)  # (G, N, D)
        config = self.config
        order = self._in_layout(torch.arange(self.n_features)).numpy()
        flat = weight.detach().double().cpu().reshape(self.groups, self.n_outputs, self.n_features)
        for group in range(self.groups):
            A = np.ascontiguousarray(rows[group].float().cpu().numpy()[:, order])
            B = np.ascontiguousarray(flat[group].numpy().T[order].astype(np.float32))
            sizes = self.n_codebooks, self.n_prototypes
            learner: HalutMatmul | ProductQuantization
            if config.encoder == "centroid":
                learner = ProductQuantization(*sizes, random_state=config.seed)
                learner.learn_offline(A, B)
                centroids = np.stack(learner.centroids_)  # (C, K, D / C), of centred columns
                centroids += learner.centre_.reshape(self.n_codebooks, 1, -1)
                self.centroids[group].copy_(torch.from_numpy(centroids))
            else:
                learner = HalutMatmul(
                    *sizes,
                    refine_passes=config.refine_passes,
                    ridge=config.ridge,
                    random_state=config.seed,
                )
                learner.learn_offline(A, B)
                thresholds = learner.thresholds_
                if (config.input_format or "").startswith("int"):
                    bits = input_format_bits(str(config.input_format))
                    thresholds = learner.thresholds_for(bits, config.input_granularity)
                elif config.input_format in FLOAT_FORMATS:
                    _warn_of_overflow(config.input_format, A, thresholds)
                self.split_dims[group].copy_(torch.from_numpy(order[learner.split_dims_]))
                self.thresholds[group].copy_(torch.from_numpy(thresholds))
            lut = learner.lut_
            if config.lut_bits is not None and isinstance(learner, HalutMatmul):
                formats = config.lut_bits, config.lut_granularity, config.lut_format
                lut, _ = learner.tables_for(*formats)
            self.lut[group].copy_(torch.from_numpy(lut))
            outputs = slice(group * self.n_outputs, (group + 1) * self.n_outputs)
            self.bias[outputs].copy_(torch.from_numpy(learner.offset_))
        if bias is not None:
            self.bias.add_(bias.detach().to(self.bias))
        if self.output_range is not None:
            self.learn_output_range(x)

    @torch.no_grad()
    def learn_output_range(self, x: Tensor | Sequence[Tensor]) -> None:
        """Let 8-bit words span what the product is for inputs; for ``output_format="int8"``.

        Parameters
        ----------
        x : Tensor or sequence of Tensor
            Calibration inputs; at least one.

        Raises
        ------
        HalutError
            When the output format is another one.
        """
        if self.output_range is None:
            raise HalutError(
                'output_format must be "int8" for an output range, '
                f'not "{self.config.output_format}"'
            )
        tables, scale, offset = self._tables()
        batches = [x] if isinstance(x, Tensor) else list(x)
        ranges = torch.stack(
            [self._product_range(self._sums(batch, tables), scale, offset) for batch in batches]
        )
        self.output_range.copy_(torch.stack([ranges[:, 0].amin(), ranges[:, 1].amax()]))

    def _calibration_rows(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        batches = [x] if isinstance(x, Tensor) else list(x)
        generator = torch.Generator().manual_seed(self.config.seed)
        parts = []
        for batch in batches:
            rows = self.rows(batch.detach())
            share = -(-self.config.max_rows // len(batches))
            if rows.shape[1] > share:
                chosen = torch.randperm(rows.shape[1], generator=generator)[:share]
                rows = rows[:, chosen.to(rows.device)]
            parts.append(rows)
        rows = torch.cat(parts, dim=1) if parts else self.lut.new_zeros((self.groups, 0, 1))
        needed = 4 * self.config.n_prototypes
        if rows.shape[1] < needed:
            raise HalutError(
                f"calibration must give at least {needed} rows (4 x {self.config.n_prototypes} "
                f"prototypes), not {rows.shape[1]}"
            )
        if not torch.isfinite(rows).all():
            raise HalutError("calibration inputs must be finite, not NaN or infinite")
        return rows

    def extra_repr(self) -> str:
        shown = self.geometry()
        shown.pop("kind")
        formats = f"lut_bits={self.config.lut_bits}, input_format={self.input_format}"
        changed = self.config.to_dict()
        for name in ("lut_format", "overflow", "acc_bits", "output_format", "relu"):
            if name in changed:
                formats += f", {name}={changed[name]}"
        return (
            ", ".join(f"{name}={value}" for name, value in shown.items())
            + f", C={self.groups}x{self.n_codebooks}, K={self.n_prototypes}, {formats}"
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        words = state_dict.get(prefix + "threshold_words")
        if words is not None and self.threshold_words is None:
            self.threshold_words = torch.empty_like(words, device=self.lut.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


class HalutLinear(HalutLayer):
    """A drop-in for `nn.Linear`, with any leading dimensions.

    Parameters
    ----------
    in_features, out_features : int
        D and M.
    bias : bool, default True
        Whether the module that it replaces has a bias. The constant per output is there anyway.
    config : LayerConfig, optional

    Examples
    --------
    >>> import torch
    >>> linear, x = torch.nn.Linear(32, 10), torch.randn(500, 32)
    >>> layer = HalutLinear.from_module(linear, x)
    >>> layer(torch.randn(2, 3, 32)).shape
    torch.Size([2, 3, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        config: LayerConfig | None = None,
        n_codebooks: int | None = None,
        device: Any = None,
    ) -> None:
        config = config or LayerConfig()
        self.in_features, self.out_features, self.with_bias = in_features, out_features, bias
        count = n_codebooks or config.codebooks(in_features)
        super().__init__(in_features, out_features, 1, count, config, device)

    @classmethod
    def from_module(
        cls,
        module: nn.Linear,
        x: Tensor | Sequence[Tensor],
        config: LayerConfig | None = None,
    ) -> HalutLinear:
        """Learn a layer in place of a linear module from calibration inputs (..., in_features)."""
        layer = cls(
            module.in_features,
            module.out_features,
            module.bias is not None,
            config=config,
            device=module.weight.device,
        )
        layer.learn(x, module.weight, module.bias)
        return layer.train(module.training)

    def geometry(self) -> dict[str, Any]:
        return {
            "kind": "linear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.with_bias,
            "n_codebooks": self.n_codebooks,
        }

    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        if x.shape[-1:] != (self.in_features,):
            raise HalutError(
                f"input must have shape (..., {self.in_features}), not {tuple(x.shape)}"
            )
        flat = x.reshape(-1, self.in_features)  # (N, D)
        gathered = flat.index_select(1, dims.flatten()).t()  # (G*C*S, N)
        return gathered.reshape(1, *dims.shape, len(flat))

    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        # Contiguous: batch norm rounds otherwise for other layouts.
        return outputs[0, 0].t().contiguous().view(*x.shape[:-1], self.n_outputs)


class HalutConv2d(HalutLayer):
    """A drop-in for `nn.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As for `nn.Conv2d`.
    config : LayerConfig, optional

    Examples
    --------
    >>> import torch
    >>> conv, x = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1), torch.randn(20, 4, 8, 8)
    >>> layer = HalutConv2d.from_module(conv, x)
    >>> layer.n_codebooks, layer(x).shape
    (4, torch.Size([20, 8, 4, 4]))
    """

    pad_value: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        config: LayerConfig | None = None,
        n_codebooks: int | None = None,
        device: Any = None,
    ) -> None:
        config = config or LayerConfig()
        if in_channels % groups or out_channels % groups:
            raise HalutError(
                f"groups must divide in_channels {in_channels} and out_channels {out_channels}, "
                f"not {groups}"
            )
        self.in_channels, self.out_channels, self.with_bias = in_channels, out_channels, bias
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.dilation, self.padding_mode = _pair(dilation), padding_mode
        self.padding = padding if isinstance(padding, str) else _pair(padding)
        area = math.prod(self.kernel_size)
        n_features = in_channels // groups * area
        count = n_codebooks or config.codebooks(n_features, area)
        super().__init__(n_features, out_channels // groups, groups, count, config, device)
        self.register_buffer("pad_value", None)

    @classmethod
    def from_module(
        cls,
        module: nn.Conv2d,
        x: Tensor | Sequence[Tensor],
        config: LayerConfig | None = None,
    ) -> HalutConv2d:
        """Learn a layer in place of a convolution from calibration inputs (B, channels, H, W)."""
        layer = cls(
            module.in_channels,
            module.out_channels,
            _pair(module.kernel_size),
            _pair(module.stride),
            module.padding if isinstance(module.padding, str) else _pair(module.padding),
            _pair(module.dilation),
            module.groups,
            module.bias is not None,
            module.padding_mode,
            config=config,
            device=module.weight.device,
        )
        layer.learn(x, module.weight, module.bias)
        return layer.train(module.training)

    def geometry(self) -> dict[str, Any]:
        padding = self.padding
        return {
            "kind": "conv2d",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "padding": padding if isinstance(padding, str) else list(padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
            "bias": self.with_bias,
            "padding_mode": self.padding_mode,
            "n_codebooks": self.n_codebooks,
        }

    def _in_layout(self, dims: Tensor) -> Tensor:
        if self.config.layout == "im2col":
            return dims
        # Here feature i of the layout is kernel position i / channels, channel i % channels.
        channels = self.in_channels // self.groups
        area = math.prod(self.kernel_size)
        return dims % channels * area + dims // channels

    def _sides(self) -> tuple[int, int, int, int]:
        """Return what is padded left, right, above and below."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if isinstance(self.padding, str):
            extents = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            (above, left), (below, right) = (
                [extent // 2 for extent in extents],
                [extent - extent // 2 for extent in extents],
            )
            return left, right, above, below
        rows, columns = self.padding
        return columns, columns, rows, rows

    def _padded(self, x: Tensor) -> Tensor:
        sides = self._sides()
        if not any(sides):
            return x
        if self.padding_mode != "zeros":
            return nn.functional.pad(x, sides, mode=self.padding_mode)
        if self.pad_value is None:
            return nn.functional.pad(x, sides)
        values = self.pad_value.to(x.dtype)[:, None, None]
        return nn.functional.pad(x - values, sides) + values

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the output for an input of that height and width."""
        left, right, above, below = self._sides()
        sizes = []
        for size, more, k, s, d in zip(
            (height, width),
            (above + below, left + right),
            self.kernel_size,
            self.stride,
            self.dilation,
            strict=True,
        ):
            sizes.append((size + more - d * (k - 1) - 1) // s + 1)
        return sizes[0], sizes[1]

    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise HalutError(
                f"input must have shape (any, {self.in_channels}, height, width), "
                f"not {tuple(x.shape)}"
            )
        size = self.output_size(*x.shape[-2:])
        if min(size) < 1:
            raise HalutError(
                f"input must be at least as large as the kernel {self.kernel_size}, "
                f"not {tuple(x.shape[-2:])}"
            )
        padded = self._padded(x if x.ndim == 4 else x[None])
        height, width = padded.shape[-2:]
        area = math.prod(self.kernel_size)
        group = torch.arange(self.groups, device=x.device)[:, None, None]
        channel = dims // area + group * (self.in_channels // self.groups)
        row = dims % area // self.kernel_size[1] * self.dilation[0]
        column = dims % self.kernel_size[1] * self.dilation[1]
        first = (channel * height + row) * width + column  # (G, C, S)
        down = torch.arange(size[0], device=x.device)[:, None] * (self.stride[0] * width)
        across = torch.arange(size[1], device=x.device) * self.stride[1]
        places = (first[..., None] + (down + across).flatten()).flatten()
        n_positions = size[0] * size[1]
        return padded.flatten(1).index_select(1, places).view(len(padded), *dims.shape, n_positions)

    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        size = self.output_size(*x.shape[-2:])
        arranged = outputs.contiguous().view(len(outputs), self.out_channels, *size)
        return arranged if x.ndim == 4 else arranged[0]

    def _n_items(self, _x: Tensor) -> int:
        return len(_x) if _x.ndim == 4 else 1

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        pad = state_dict.get(prefix + "pad_value")
        if pad is not None and self.pad_value is None:
            self.pad_value = torch.empty_like(pad, device=self.lut.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


_CLASSES: dict[str, type[HalutLayer]] = {"linear": HalutLinear, "conv2d": HalutConv2d}


def layer_of(entry: Mapping[str, Any]) -> HalutLayer:
    """Make a layer with random parameters, as files describe it.

    Parameters
    ----------
    entry : mapping
        ``geometry``, as `HalutLayer.geometry` gave it, and ``config``, of `LayerConfig.to_dict`.
    """
    arguments = dict(entry["geometry"])
    kind = arguments.pop("kind")
    if kind not in _CLASSES:
        raise HalutError(f"kind of a layer must be one of {', '.join(_CLASSES)}, not {kind!r}")
    return _CLASSES[kind](**arguments, config=LayerConfig.from_dict(entry["config"]))


def layers_of(model: nn.Module) -> dict[str, HalutLayer]:
    """Return the replaced layers of a model by their names; there may be none."""
    return {name: part for name, part in model.named_modules() if isinstance(part, HalutLayer)}


def _warn_of_overflow(name: str, rows: np.ndarray[Any, Any], nodes: np.ndarray[Any, Any]) -> None:
    """Warn of inputs and thresholds that a floating format does not hold."""
    floating = FLOAT_FORMATS[name]
    beyond = floating.overflows(rows), floating.overflows(nodes)
    if any(beyond):
        _log.warning(
            "warning: %d of %d calibration values and %d of %d thresholds are beyond %s, which "
            "ends at %g",
            beyond[0],
            rows.size,
            beyond[1],
            nodes.size,
            name,
            floating.largest_finite,
        )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _output_dtype(x: Tensor) -> torch.dtype:
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _by_row(values: Tensor) -> Tensor:
    """Turn (B, G, M, L) into (G, N, M)."""
    return values.permute(1, 0, 3, 2).flatten(1, 2)


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()
