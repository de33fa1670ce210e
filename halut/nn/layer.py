"""`HalutLayer`: what the looked-up layers share, from inputs to programs.

A layer holds, for each of its G groups (1, or the groups of a convolution), what a `Program` holds
of one matrix: split dimensions, thresholds and tables. It trains with the surrogate gradient of
`halut.nn.functional`. With `lut_bits` and `input_format` set, its forward pass, in training and in
evaluation, is the hardware's: table entries are summed as there, go through its output stage, and
``float32(result) * scale + offset`` is all that follows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, fx, nn

import halut
from halut.errors import HalutError
from halut.matmul import QuantisationError
from halut.native import convolution
from halut.nn import native
from halut.nn.config import LayerConfig
from halut.nn.learning import learn_group, total
from halut.nn.tables import LookUp, by_row
from halut.program import Program

__all__ = ["Executor", "HalutLayer", "Placed", "is_dense", "traced_call"]

_Layer = TypeVar("_Layer", bound="HalutLayer")

Executor = Callable[["HalutLayer", Tensor], Tensor]
"""Takes a layer and its input, returns what leaves the hardware, as `HalutLayer.results`."""


@dataclass(frozen=True)
class Placed:
    """An input as images in memory, for `halut.nn.native.convolve`.

    Attributes
    ----------
    x : Tensor of shape (B, channels, H, W)
        Contiguous, or contiguous with channels last.
    pad : Tensor of shape (channels,) or None
        What images are padded with; None: 0.
    size : tuple of int
        Height and width of the output.
    by_pixel : bool
        Whether channels of the output are neighbours in memory.
    fields : dict
        Those of the geometry that say what is read, see `halut.native.convolution.FIELDS`.
    """

    x: Tensor
    pad: Tensor | None
    size: tuple[int, int]
    by_pixel: bool
    fields: dict[str, int]


class HalutLayer(LookUp, ABC):
    """What `HalutLinear` and `HalutConv2d` share; see `LookUp` for what it holds.

    Attributes
    ----------
    executor : callable or None
        When set, it computes the results (see `Executor`) in place of this layer.
    error : QuantisationError or None
        Error of the product as it was learned, with the formats of then, on calibration rows that
        were held out of learning; None for layers that were not learned here.
    weight_dtype : torch.dtype or None
        Of `weight`: that of the module that was replaced; None for that of the tables.
    """

    executor: Executor | None = None
    error: QuantisationError | None = None
    weight_dtype: torch.dtype | None = None

    # What a subclass says.

    kind: ClassVar[str]
    """What files call it."""
    replaces: ClassVar[type[nn.Module]]
    arguments: ClassVar[tuple[str, ...]]
    """What its constructor and that of the module it replaces share, by name."""
    with_bias: bool

    @abstractmethod
    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        """Gather features (G, C, S) of all positions as (B, G, C, S, L)."""

    @abstractmethod
    def _feature_ends(self, x: Tensor) -> Tensor | None:
        """Return the lowest and the highest value of features (2, G, D), if there are positions."""

    @abstractmethod
    def _placed(self, x: Tensor) -> Placed:
        """Say where an input's features are in memory, and where the outputs go."""

    @abstractmethod
    def _shaped(self, images: Tensor, x: Tensor) -> Tensor:
        """Turn output images (B, G * M, H, W) for an input into the module's output."""

    @abstractmethod
    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Turn outputs (B, G, M, L) for an input into the module's output."""

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight of the module that this one replaces."""

    @property
    def weight(self) -> Tensor:
        """Shape, dtype and device of the weight of the module that this one replaces; values NaN.

        For code that asks a layer for the dtype or the device of its weight. There is no such
        weight any more: whoever computes with it gets NaN, not a product that differs from that
        of the tables.
        """
        dtype = self.weight_dtype or self.lut.dtype
        return torch.full((), math.nan, dtype=dtype, device=self.lut.device).expand(
            self.weight_shape
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = self.lut.dtype
        super()._apply(fn, recurse)
        if self.lut.dtype != before:
            self.weight_dtype = None
        return self

    def geometry(self) -> dict[str, Any]:
        """Return the constructor's arguments but `config`, as JSON has them, and the kind."""
        values = {name: getattr(self, name) for name in self.arguments} | {"bias": self.with_bias}
        listed = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }
        return {"kind": self.kind, **listed, "n_codebooks": self.n_codebooks}

    def _looked_at(self, x: Tensor) -> Tensor:
        """Gather what the encoder looks at: (B, G, C, T, L), or (B, G, C, D / C, L)."""
        self._check_input(x)
        return self._inputs(x, self.read)

    @staticmethod
    def _check_input(x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise HalutError(f"input must be a tensor, not {type(x).__name__}")
        if not x.is_floating_point():
            raise HalutError(f"input must be of a floating dtype, not {x.dtype}")
        if not is_dense(x):
            raise HalutError("input must be a dense tensor, not a sparse or nested one")

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
        if isinstance(x, fx.Proxy):
            return traced_call(self, x)
        if self.executor is not None:
            return self.finish(self.executor(self, x), x)
        self._check_input(x)
        exactly = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exactly:
            native_form = x.numel() and self._is_native(x)
            values = self._convolved(x) if native_form else self._looked_up(x)
        return values.to(_output_dtype(x))

    def _looked_up(self, x: Tensor) -> Tensor:
        """Return the output for an input, by torch's operations."""
        gathered = self._looked_at(x)
        if self.training and self.signs is not None:
            self._follow_terms(self._feature_ends(x))
        tables, scale, offset = self.tables()
        sums = self._sums(gathered, tables)
        if self.training and self.output_range is not None and sums.numel():
            self._follow(sums.detach(), scale, offset.detach())
        results = self._results(sums, scale, offset)
        return self._arrange(self._values(results, scale, offset), x)

    def _convolved(self, x: Tensor) -> Tensor:
        """Return the output for an input, by the native operators."""
        placed, config, followed = self._placed(x.float()), self.config, self._is_followed(x)
        # What a ReLU on accumulators drops has no gradient: that is left to torch.
        relu = config.relu and config.output_format == "raw" and not followed
        is_product = (
            config.output_format == "raw" and not self.raw_output and (relu or not config.relu)
        )
        fields = placed.fields | {
            "groups": self.groups,
            "n_codebooks": self.n_codebooks,
            "depth": self.tree_depth,
            "terms": config.n_terms,
            "n_outputs": self.n_outputs,
            "wrap_bits": config.acc_bits or 0,
            "relu": int(relu),
            "out_by_pixel": int(placed.by_pixel and is_product),
        }
        where = placed.size, convolution.geometry(fields)

        def multipliers(scale: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
            if is_product:
                return scale, offset
            return torch.ones_like(scale), torch.zeros_like(scale)  # sums, exact in float32

        if self.training and self.signs is not None:
            self._follow_terms(self._feature_ends(x))
        if followed:
            nodes, *inputs = self._nodes(torch.float32)
            lut, tables, scale, offset = self._packed()
            images = native.train(
                placed.x, placed.pad, self.split_dims.to(torch.int32).contiguous(), nodes, lut,
                None if is_product else scale, tables, *multipliers(scale, offset),
                inputs[0] / self.temperature.float(), self.signs, *inputs, self._native_format,
                *where,
            )  # fmt: skip
        else:
            prepared = self._prepared()
            scale, offset = prepared.scale, prepared.offset
            images = native.convolve(
                placed.x, placed.pad, prepared.dims, prepared.thresholds, prepared.tables,
                *multipliers(scale, offset), prepared.signs, prepared.input_scale,
                prepared.input_offset, self._native_format, *where,
            )  # fmt: skip
        if is_product:
            return self._shaped(images, x)
        sums = images.view(len(images), self.groups, self.n_outputs, -1)
        if self.training and self.output_range is not None:
            self._follow(sums.detach(), scale, offset.detach())
        results = self._results(sums, scale, offset)
        return self._arrange(self._values(results, scale, offset), x)

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
        return by_row(gathered[:, :, 0])

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of an input, uint8 of shape (G, N, C), range [0, K)."""
        return by_row(self._codes(self._looked_at(x)))

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
        self.check_exact()
        sums = self._sums(self._looked_at(x), self.tables()[0])
        kind = torch.int32 if self.config.lut_format == "int" else torch.float32
        return by_row(sums).to(kind)

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
        self.check_exact()
        tables, scale, offset = self.tables()
        results = self._results(self._sums(self._looked_at(x), tables), scale, offset)
        kind = torch.int32 if self.config.lut_format == "int" else torch.float32
        kinds = {"fp16": torch.float16, "int8": torch.int8}
        return by_row(results).to(kinds.get(self.config.output_format, kind))

    def finish(self, results: Tensor, x: Tensor) -> Tensor:
        """Turn results (G, N, M) for an input into the layer's output."""
        wanted = self.groups, self.n_outputs
        if not isinstance(results, Tensor) or results.shape[::2] != wanted:
            raise HalutError(
                f"results must be a tensor of shape ({wanted[0]}, any, {wanted[1]}), not "
                f"{tuple(results.shape) if isinstance(results, Tensor) else type(results).__name__}"
            )
        _, scale, offset = self.tables()
        n_items = self._n_items(x)
        n_positions = results.shape[1] // max(n_items, 1)
        ordered = results.unflatten(1, (n_items, n_positions)).permute(1, 0, 3, 2)  # (B, G, M, L)
        values = self._values(ordered.to(scale.dtype), scale, offset)
        return self._arrange(values, x).to(_output_dtype(x))

    def _n_items(self, _x: Tensor) -> int:
        return 1

    def check_exact(self) -> None:
        """Raise `HalutError` unless the layer computes what hardware computes; say what to set."""
        if self.config.encoder == "centroid":
            raise HalutError(
                'encoder must be "tree", "sums", "window" or "node" for hardware, not "centroid"'
            )
        for name, value, example in (
            ("lut_bits", self.config.lut_bits, "8"),
            ("input_format", self.input_format, '"int8"'),
        ):
            if value is None:
                raise HalutError(
                    f"{name} must be set for hardware, not None: "
                    f"layer.set_formats({name}={example}), or {name} in the recipe"
                )
        if self.output_range is not None and not self.output_range.isfinite().all():
            raise HalutError(
                'output range must be known for output_format "int8": '
                "layer.learn_output_range(inputs), or train"
            )

    @torch.no_grad()
    def programs(self) -> list[Program]:
        """Return what an accelerator is loaded with, one program per group.

        Raises
        ------
        HalutError
            When the layer is not `exact`.
        """
        self.check_exact()
        entries, lut_scale, lut_offset = self.tables()
        stage: dict[str, Any] = {"relu": self.config.relu}
        if self.config.output_format == "int8":
            stage["scale"], stage["offset"] = self._grid().tolist()
        return [
            Program(
                n_features=self.n_features,
                input_format=str(self.input_format),
                lut_bits=int(self.config.lut_bits or 0),
                lut_format=self.config.lut_format,
                **self.tree_fields(group),
                lut=_numpy(entries[group]),
                lut_scale=_numpy(lut_scale[group]),
                lut_offset=_numpy(lut_offset[group]),
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

    @classmethod
    def from_module(
        cls: type[_Layer],
        module: nn.Module,
        x: Tensor | Sequence[Tensor],
        config: LayerConfig | None = None,
    ) -> _Layer:
        """Learn a layer in place of a module.

        Parameters
        ----------
        module : nn.Linear, or nn.Conv2d
        x : Tensor or sequence of Tensor
            Calibration inputs, (..., in_features), or (B, channels, H, W).
        config : LayerConfig, optional

        Raises
        ------
        HalutError
            When the module is another one, or `learn` does.
        """
        if not isinstance(module, cls.replaces):
            wanted = cls.replaces.__name__
            raise HalutError(f"module must be an nn.{wanted}, not {type(module).__name__}")
        exact: Any = module
        given: dict[str, Any] = {name: getattr(exact, name) for name in cls.arguments}
        given |= {"bias": exact.bias is not None, "config": config, "device": exact.weight.device}
        layer = cls(**given)
        layer.weight_dtype = exact.weight.dtype
        layer.learn(x, exact.weight, exact.bias)
        return layer.train(exact.training)

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
        order = self._in_layout(torch.arange(self.n_features)).numpy()
        flat = weight.detach().double().cpu().reshape(self.groups, self.n_outputs, self.n_features)
        encoder = self.centroids if self.config.encoder == "centroid" else self.thresholds
        groups = []
        for group in range(self.groups):
            A = np.ascontiguousarray(rows[group].float().cpu().numpy()[:, order])
            B = np.ascontiguousarray(flat[group].numpy().T[order].astype(np.float32))
            learned = learn_group(A, B, self.n_codebooks, self.config)
            if learned.split_dims is not None:
                self.split_dims[group].copy_(torch.from_numpy(order[learned.split_dims]))
            if self.signs is not None and self.term_ends is not None:
                self.signs[group].copy_(torch.from_numpy(learned.signs))
                self.term_ends[:, group].copy_(torch.from_numpy(learned.term_ends))
            encoder[group].copy_(torch.from_numpy(learned.nodes))
            self.lut[group].copy_(torch.from_numpy(learned.lut))
            outputs = slice(group * self.n_outputs, (group + 1) * self.n_outputs)
            self.bias[outputs].copy_(torch.from_numpy(learned.offset))
            groups.append(learned)
        if bias is not None:
            self.bias.add_(bias.detach().to(self.bias))
        if self.output_range is not None:
            self.learn_output_range(x)
        judged = np.stack([one.judged_rows for one in groups])[:, :, np.argsort(order)]
        product, codes = map(_numpy, self.product_of(torch.from_numpy(judged).to(self.lut.device)))
        given = np.zeros(len(self.bias)) if bias is None else _numpy(bias.double())
        errors = [
            one.error_of(*each, bias=added, relu=self.config.relu)
            for one, *each, added in zip(
                groups, product, codes, given.reshape(self.groups, -1), strict=True
            )
        ]
        self.error = total(errors, self.n_codebooks, self.n_outputs)

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
        tables, scale, offset = self.tables()
        sums = [self._sums(self._looked_at(batch), tables) for batch in _batches(x)]
        ranges = [self._product_range(part, scale, offset) for part in sums if part.numel()]
        if not ranges:
            raise HalutError("calibration must give at least one row, not 0")
        found = torch.stack(ranges)
        if not found.isfinite().all():
            raise HalutError("calibration inputs must give a finite product, not NaN or infinite")
        self.output_range.copy_(torch.stack([found[:, 0].amin(), found[:, 1].amax()]))

    def _calibration_rows(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        batches = _batches(x)
        # Counted without computing: the choice of rows depends on their number only.
        counts = [self.rows(torch.empty_like(one, device="meta")).shape[1] for one in batches]
        total_rows = sum(counts)
        chosen = None
        if total_rows > self.config.max_rows:
            generator = torch.Generator().manual_seed(self.config.seed)
            chosen = torch.randperm(total_rows, generator=generator)[: self.config.max_rows]
        parts, first = [], 0
        for batch, count in zip(batches, counts, strict=True):
            rows = self.rows(batch.detach())
            if chosen is not None:
                inside = chosen[(chosen >= first) & (chosen < first + count)].sort().values
                rows = rows[:, (inside - first).to(rows.device)]
            parts.append(rows)
            first += count
        rows = torch.cat(parts, dim=1) if parts else self.lut.new_zeros((self.groups, 0, 1))
        if chosen is not None:
            rows = rows[:, chosen.argsort().argsort().to(rows.device)]
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


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor has a place in memory for each of its values."""
    return tensor.layout is torch.strided and not tensor.is_nested


def traced_call(module: nn.Module, x: fx.Proxy, *arguments: Any, **named: Any) -> fx.Proxy:
    """Return what stands for a module's result where torch.fx traces a model: one call of it.

    Tracers call the forward of modules that are not torch's own, with proxies.

    Parameters
    ----------
    module : nn.Module
        In the traced model.
    x, arguments, named
        Of its forward.
    """
    tracer: Any = x.tracer
    name = tracer.path_of_module(module)
    if not name:
        raise HalutError(
            f"what torch.fx traces must be a model with looked-up layers, not a bare "
            f"{type(module).__name__}"
        )
    return tracer.create_proxy("call_module", name, (x, *arguments), named)


def _batches(x: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return calibration inputs as a list of tensors."""
    batches: list[Any] = list(x) if isinstance(x, Iterable) and not isinstance(x, Tensor) else [x]
    for batch in batches:
        if not isinstance(batch, Tensor) or not batch.is_floating_point():
            what = batch.dtype if isinstance(batch, Tensor) else type(batch).__name__
            raise HalutError(f"calibration inputs must be tensors of a floating dtype, not {what}")
        if not is_dense(batch):
            raise HalutError("calibration inputs must be dense tensors, not sparse or nested ones")
    return batches


def _output_dtype(x: Tensor) -> torch.dtype:
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()
