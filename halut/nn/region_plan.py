"""What a region of a network runs for one size of images: steps, planes and tables in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.native import network
from halut.native.library import Kernels
from halut.nn.layers import HalutConv2d
from halut.nn.region_exact import exact_size, exact_step, first_place

__all__ = ["Convolve", "Exact", "Largest", "Load", "Operation", "Plan", "Refused", "reads"]


class Refused(Exception):
    """The library cannot run a region on images of this size and layout."""


@dataclass(frozen=True)
class Load:
    """An input of the region, after a ReLU or as it is."""

    source: str
    output: str
    rectify: bool = False


@dataclass(frozen=True)
class Convolve:
    """A looked-up convolution and what follows it, in the order of the fields."""

    source: str
    output: str
    layer: HalutConv2d
    norm: nn.BatchNorm2d | None
    rectify: bool
    pool: bool
    other: str | None
    """A value that is added."""
    rectify_sum: bool


@dataclass(frozen=True)
class Exact:
    """A convolution that is not looked up and what follows it, in the order of the fields."""

    source: str
    output: str
    layer: nn.Conv2d
    norm: nn.BatchNorm2d | None
    rectify: bool
    by_channel: bool = True
    """See `halut.nn.region_exact.Rounding`."""


@dataclass(frozen=True)
class Largest:
    """The largest value of every channel."""

    source: str
    output: str


Operation = Load | Convolve | Exact | Largest

_Shape = tuple[int, int, int]


@dataclass(frozen=True)
class _Patch:
    """An address that every run sets: of an input, or of an output."""

    step: int
    name: str
    is_input: bool
    index: int
    item_bytes: int


class Plan:
    """Everything that a region needs in memory to run a number of images of one size.

    Parameters
    ----------
    chosen : Kernels
    operations : sequence of Operation
    inputs, outputs : sequence of str
        Their names.
    n_items : int
        How many images.
    by_pixel : sequence of bool
        Whether channels of an input are neighbours in memory.
    shapes : sequence of tuple of int
        Of an image of each input: channels, height, width.
    norms_by_pixel : bool
        Whether torch normalises batches whose channels are neighbours in memory.

    Attributes
    ----------
    output_shapes : list of tuple of int

    Raises
    ------
    Refused
        When sizes do not fit, or rounding of a batch norm is not known.
    """

    def __init__(
        self,
        chosen: Kernels,
        operations: Sequence[Operation],
        inputs: Sequence[str],
        outputs: Sequence[str],
        n_items: int,
        by_pixel: Sequence[bool],
        shapes: Sequence[_Shape],
        norms_by_pixel: bool,
    ) -> None:
        self._chosen, self._n_items, self._by_pixel = chosen, n_items, by_pixel
        self._norms_by_pixel = norms_by_pixel
        self._inputs, self._outputs = list(inputs), list(outputs)
        self._shapes = _shapes(operations, dict(zip(inputs, shapes, strict=True)))
        self.output_shapes = [self._shapes[name] for name in outputs]
        self._margins = _margins(operations)
        self._steps: list[network.Step] = []
        self._patches: list[_Patch] = []
        self._held: list[Any] = []  # what addresses point to
        self._convolutions: list[network.Convolution] = []
        self._planes: dict[str, tuple[network.Planes, Tensor]] = {}
        self._free: dict[network.Planes, list[Tensor]] = defaultdict(list)
        last = {name: k for k, one in enumerate(operations) for name in reads(one)}
        for k, one in enumerate(operations):
            if isinstance(one, Load):
                self._load(one.output, one.rectify, self._inputs.index(one.source), is_input=True)
            elif isinstance(one, Convolve):
                self._convolve(one, last, k)
            elif isinstance(one, Exact):
                self._exact(one, last, k)
            else:
                self._largest(one)
            for name in reads(one):
                if last[name] == k and name in self._planes:
                    planes, memory = self._planes.pop(name)
                    self._free[planes].append(memory)
        self._line_bytes, size = network.room_bytes(self._convolutions)
        self._room = torch.empty(size, dtype=torch.uint8)
        self._array = (network.Step * len(self._steps))(*self._steps)

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], begin: int) -> None:
        """Run images from `begin` on.

        Parameters
        ----------
        inputs, outputs : sequence of Tensor
            All images, in the layouts that were given; outputs contiguous.
        begin : int
        """
        for patch in self._patches:
            tensor = (inputs if patch.is_input else outputs)[patch.index]
            address = tensor.data_ptr() + begin * patch.item_bytes
            setattr(self._array[patch.step], patch.name, address)
        network.run(self._chosen, self._array, self._room.data_ptr(), self._line_bytes)

    def _made(self, name: str) -> tuple[network.Planes, Tensor]:
        """Return planes for a value: those of a value that is no longer needed, or new ones."""
        planes = network.Planes(self._n_items, *self._shapes[name], self._margins[name])
        free = self._free[planes]
        memory = free.pop() if free else torch.zeros(planes.channels * planes.step)
        self._held.append(memory)
        self._planes[name] = planes, memory
        return planes, memory

    def _patch(self, name: str, is_input: bool, index: int, shape: _Shape) -> None:
        channels, height, width = shape
        item_bytes = 4 * channels * height * width
        self._patches.append(_Patch(len(self._steps), name, is_input, index, item_bytes))

    def _load(self, name: str, rectify: bool, index: int, *, is_input: bool) -> None:
        planes, memory = self._made(name)
        channels, height, width = self._shapes[name]
        self._patch("x", is_input, index, self._shapes[name])
        self._steps.append(
            network.Step(
                kind=network.LOAD, n_items=self._n_items, channels=channels, height=height,
                width=width, row_step=planes.row_step, item_step=planes.item_step,
                by_pixel=int(is_input and self._by_pixel[index]), out_step=planes.step,
                rectify=int(rectify), out=memory.data_ptr() + 4 * planes.first,
            )
        )  # fmt: skip

    def _largest(self, one: Largest) -> None:
        planes, memory = self._planes[one.source]
        channels, height, width = self._shapes[one.source]
        self._patch("out", False, self._outputs.index(one.output), self._shapes[one.output])
        self._steps.append(
            network.Step(
                kind=network.LARGEST, n_items=self._n_items, channels=channels, height=height,
                width=width, row_step=planes.row_step, item_step=planes.item_step,
                in_step=planes.step, x=memory.data_ptr() + 4 * planes.first,
            )
        )  # fmt: skip

    def _exact(self, one: Exact, last: dict[str, int], index: int) -> None:
        planes, memory = self._planes[one.source]
        step, held = exact_step(planes, one.layer, by_channel=one.by_channel)
        step.rectify = int(one.rectify)
        step.x = memory.data_ptr() + 4 * first_place(planes, one.layer)
        self._normalise(step, one.norm)
        self._held += held
        if one.output in self._outputs:
            shape = n_outputs, height, width = self._shapes[one.output]
            self._patch("out", False, self._outputs.index(one.output), shape)
            step.out_step, step.out_row_step = height * width, width
            step.out_item_step = n_outputs * height * width
        else:
            target, made = self._made(one.output)
            step.out, step.out_step = made.data_ptr() + 4 * target.first, target.step
            step.out_row_step, step.out_item_step = target.row_step, target.item_step
        self._steps.append(step)
        if one.output in self._outputs and last.get(one.output, -1) > index:
            self._load(one.output, False, self._outputs.index(one.output), is_input=False)

    def _normalise(self, step: network.Step, norm: nn.BatchNorm2d | None) -> None:
        """Have a step's values go through a batch norm."""
        if norm is not None:
            scale, offset, once = _norm(norm, self._norms_by_pixel)
            step.norm_scale, step.norm_offset = scale.data_ptr(), offset.data_ptr()
            step.norm_once = int(once)
            self._held += [scale, offset]

    def _convolve(self, one: Convolve, last: dict[str, int], index: int) -> None:
        layer, shape = one.layer, self._shapes[one.output]
        prepared = layer._prepared()
        planes, memory = self._planes[one.source]
        other = None if one.other is None else self._planes[one.other]
        step = network.Step(
            kind=network.CONVOLVE, groups=layer.groups, n_codebooks=layer.n_codebooks,
            depth=layer.tree_depth, n_outputs=layer.n_outputs,
            wrap_bits=layer.config.acc_bits or 0, relu=int(layer.config.relu), pool=int(one.pool),
            rectify=int(one.rectify), rectify_sum=int(one.rectify_sum), x=memory.data_ptr(),
            tables=prepared.tables.data_ptr(), scale=prepared.scale.data_ptr(),
            offset=prepared.offset.data_ptr(),
        )  # fmt: skip
        trees = network.make_trees(self._chosen, prepared.thresholds.numpy())
        step.trees = trees.ctypes.data
        self._held += [prepared, trees]
        _check_finite(prepared.scale, prepared.offset)
        self._normalise(step, one.norm)
        if other is not None:
            step.other, step.other_step = other[1].data_ptr(), other[0].step
        leaves = one.output in self._outputs
        if leaves:
            self._patch("out", False, self._outputs.index(one.output), shape)
            to = network.dense_places(self._n_items, *shape)
            step.out_step = shape[1] * shape[2]
        else:
            target, made = self._made(one.output)
            to, step.out, step.out_step = target.places(), made.data_ptr(), target.step
        window = network.Window(layer.kernel_size, layer.stride, layer.dilation, layer.sides())
        convolution = network.plan(
            planes, window, prepared.dims.numpy().astype("int64"),
            layer.output_size(planes.height, planes.width), pool=one.pool, to=to,
            other=None if other is None else other[0].places(),
        )  # fmt: skip
        convolution.fill(step)
        self._convolutions.append(convolution)
        self._steps.append(step)
        if leaves and last.get(one.output, -1) > index:
            self._load(one.output, False, self._outputs.index(one.output), is_input=False)


def reads(one: Operation) -> list[str]:
    """Return the values of the region that an operation reads."""
    if isinstance(one, Load):
        return []
    if isinstance(one, Largest | Exact):
        return [one.source]
    return [one.source] if one.other is None else [one.source, one.other]


def _shapes(operations: Sequence[Operation], given: dict[str, _Shape]) -> dict[str, _Shape]:
    """Return the shapes of all values, (channels, height, width)."""
    shapes = dict(given)
    for one in operations:
        shape = channels, height, width = shapes[one.source]
        if isinstance(one, Largest):
            shape = channels, 1, 1
        elif isinstance(one, Exact):
            shape = one.layer.out_channels, *exact_size(one.layer, height, width)
        elif isinstance(one, Convolve):
            size = one.layer.output_size(height, width)
            if one.pool:
                size = size[0] // 2, size[1] // 2
            shape = one.layer.out_channels, *size
            fits = one.other is None or shapes[one.other] == shape
            if channels != one.layer.in_channels or min(size) < 1 or not fits:
                raise Refused
            if one.norm is not None and one.norm.num_features != shape[0]:
                raise Refused
        shapes[one.output] = shape
    return shapes


def _margins(operations: Sequence[Operation]) -> dict[str, int]:
    """Return how much is padded around each value."""
    margins: dict[str, int] = defaultdict(int)
    for one in operations:
        if isinstance(one, Convolve):
            margins[one.source] = max(margins[one.source], *one.layer.sides())
        elif isinstance(one, Exact):
            margins[one.source] = max(margins[one.source], *map(int, one.layer.padding))
    return margins


def _check_finite(*tensors: Tensor) -> None:
    if not all(bool(one.isfinite().all()) for one in tensors):
        raise Refused


def _norm(norm: nn.BatchNorm2d, by_pixel: bool) -> tuple[Tensor, Tensor, bool]:
    """Return scale and offset of a batch norm, and whether torch rounds once or after each step."""
    n = norm.num_features
    layout = torch.channels_last if by_pixel else torch.contiguous_format

    def evaluated(values: Tensor, mean: Tensor, bias: Tensor | None) -> Tensor:
        images = values.contiguous(memory_format=layout)
        return functional.batch_norm(
            images, mean, norm.running_var, norm.weight, bias, False, 0.0, norm.eps
        )

    assert norm.running_mean is not None
    shape, nothing = (3, n, 5, 7), torch.zeros(n)
    scale = evaluated(torch.ones(shape), nothing, None)[0, :, 0, 0].clone()
    offset = evaluated(torch.zeros(shape), norm.running_mean, norm.bias)[0, :, 0, 0].clone()
    _check_finite(scale, offset)
    probes = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wanted = evaluated(probes, norm.running_mean, norm.bias)
    a, b = scale[:, None, None], offset[:, None, None]
    twice = probes * a + b
    # A product of float32 is exact in float64, whose sum is rounded again: seldom otherwise.
    exact = probes.double() * a.double() + b.double()
    if torch.equal(twice, wanted):
        return scale, offset, False
    if torch.equal(exact.float(), wanted):
        return scale, offset, True
    raise Refused
