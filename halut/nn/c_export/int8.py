"""The steps of a network in 8-bit words, without floats between layers.

Exact products get weights of INT8, one scale per output; batch norm and ReLU become part of the
layer before; every value between layers becomes words of a grid that spans what calibration saw.
Looked-up layers keep their tables; their thresholds become those of words. What is left of floats
is the input, turned into words where an exact layer reads it, and the last layer's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import located
from halut.errors import HalutError
from halut.nn.c_export.reference import compute
from halut.nn.c_export.steps import (
    Add,
    Affine,
    Clamp,
    Grid,
    LookUp,
    Maximum,
    Mean,
    Network,
    Product,
    Quantise,
    Scaled,
    Stage,
    Step,
    Sums,
    Value,
    Words,
)
from halut.nn.c_export.thresholds import keys

__all__ = ["in_words"]

_Ranges = dict[int, tuple[float, float]]  # lowest and highest, by id of the value

_MULTIPLIER_BITS = 16
_LARGEST_SHIFT = 40
_MOST_WEIGHT = 127


def in_words(network: Network, images: NDArray[np.float32]) -> Network:
    """Return a network that computes in 8-bit words what another one computes in floats.

    Parameters
    ----------
    network : Network
        As `halut.nn.c_export.trace.trace` returns it.
    images : float32 ndarray of shape (n, height, width, channels)
        Calibration inputs: the range of every value is that which they give.

    Returns
    -------
    Network

    Raises
    ------
    HalutError
        When a batch norm or an activation does not follow a layer that it can become part of.
    """
    ranges: _Ranges = {}

    def watch(value: Value, array: NDArray[Any]) -> None:
        ranges[id(value)] = float(array.min()), float(array.max())

    compute(network, images, watch)
    return _Converter(_fused(network, ranges), ranges).network()


def _fused(network: Network, ranges: _Ranges) -> Network:
    """Make batch norms and activations part of the steps before them."""
    fused = Network(network.input, [replace(step) for step in network.steps])
    for step in list(fused.steps):
        if isinstance(step, (Affine, Clamp)):
            with located(step.name):
                maker = _maker(fused, step.inputs[0])
                if isinstance(step, Affine):
                    _scale(maker, step)
                else:
                    _clamp(fused, maker, step, ranges)
                maker.output = step.output  # it makes now what this step made of it
                fused.steps.remove(step)
    return fused


def _maker(network: Network, value: Value) -> Step:
    """Return the step that makes a value, which must have one reader."""
    makers = [one for one in network.steps if one.output.memory is value.memory]
    if not makers or len(network.readers(value)) > 1:
        raise HalutError("batch norm and activation must alone follow a layer for INT8")
    return makers[0]


def _clamp(network: Network, maker: Step, clamp: Clamp, ranges: _Ranges) -> None:
    """Let the words before pooling saturate where an activation behind it does.

    Words saturate at the ends of their range. That of the activation's output ends where it does.
    """
    if clamp is network.steps[-1]:
        raise HalutError("network must not end with an activation for INT8")
    high = math.inf if clamp.high is None else clamp.high
    while isinstance(maker, Maximum):
        source = maker.inputs[0]
        maker = _maker(network, source)
        ends = ranges[id(maker.output)]
        ranges[id(maker.output)] = max(ends[0], clamp.low), min(ends[1], high)


def _scale(maker: Step, norm: Affine) -> None:
    """Make a batch norm part of a product."""
    scale, offset = norm.scale.astype(np.float64), norm.offset.astype(np.float64)
    if len(scale) != maker.output.shape[2]:
        raise HalutError("batch norm must come before flattening for INT8")
    if isinstance(maker, Product):
        n_groups, n_outputs, _ = maker.weights.shape
        by_output = scale.reshape(n_groups, n_outputs, 1)
        bias = np.zeros(len(scale)) if maker.bias is None else maker.bias.astype(np.float64)
        maker.weights = (maker.weights.astype(np.float64) * by_output).astype(np.float32)
        maker.bias = (bias * scale + offset).astype(np.float32)
    elif isinstance(maker, LookUp) and isinstance(maker.stage, Scaled) and not maker.stage.relu:
        maker.stage = Scaled(
            (maker.stage.scale * scale).astype(np.float32),
            (maker.stage.offset * scale + offset).astype(np.float32),
        )
    else:
        raise HalutError("batch norm must follow a layer without an output stage for INT8")


def _grid(low: float, high: float) -> Grid:
    """Return the grid of words that spans a range, 0 included, and holds 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return Grid(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _fixed_point(
    ratios: NDArray[np.float64], constant: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return multipliers (n, k), addends (n,) and shifts (n,) of rint(sum of ratio * x + constant).

    Parameters
    ----------
    ratios : float64 ndarray of shape (n, k)
    constant : float64 ndarray of shape (n,)
    """
    largest = np.maximum(np.abs(ratios).max(axis=1), 2.0**-30)
    shift = np.clip(_MULTIPLIER_BITS - 1 - np.floor(np.log2(largest)), 0, _LARGEST_SHIFT)
    power = np.exp2(shift)
    multiplier = np.rint(ratios * power[:, None]).astype(np.int64)
    # A half more: rounding down then rounds to nearest.
    addend = np.rint((constant + 0.5) * power).astype(np.int64)
    return multiplier, addend, shift.astype(np.int64)


def _words(scale: NDArray[np.float64], offset: NDArray[np.float64], grid: Grid, low: int) -> Words:
    """Return the stage that turns sums into words of a grid."""
    multiplier, addend, shift = _fixed_point(
        (scale / grid.scale)[:, None], offset / grid.scale + grid.zero
    )
    lowest = np.full(len(scale), low, dtype=np.int64)
    return Words(multiplier[:, 0], shift, addend, lowest)


class _Converter:
    """Makes the steps in words, one after the other."""

    def __init__(self, network: Network, ranges: _Ranges) -> None:
        self.source = network
        self.ranges = ranges
        self.values: dict[int, Value] = {id(network.input): network.input}
        self.steps: list[Step] = []
        self.words_of_input: Value | None = None

    def network(self) -> Network:
        """Return the converted network."""
        convert: dict[type[Step], Callable[[Any], Step]] = {
            LookUp: self._look_up,
            Product: self._product,
            Maximum: self._same_grid,
            Mean: self._mean,
            Add: self._add,
        }
        for step in self.source.steps:
            with located(step.name):
                made = convert[type(step)](step)
            self.steps.append(made)
            self.values[id(step.output)] = made.output
        return Network(self.source.input, self.steps)

    # Values

    def _read(self, value: Value) -> Value:
        """Return the converted form of a value, flattened ones seen as rows of the same words."""
        if id(value) in self.values:
            return self.values[id(value)]
        assert value.base is not None
        base = self._read(value.base)
        seen = replace(value, kind=base.kind, grid=base.grid, base=base)
        self.values[id(value)] = seen
        return seen

    def _read_words(self, value: Value) -> Value:
        """Return a value in words: the network's input is quantised when this is asked first."""
        found = self._read(value)
        if found.kind != "f32":
            return found
        if found.memory is not self.source.input:
            raise HalutError("values between layers must be words for INT8")
        if self.words_of_input is None:
            grid = _grid(*self.ranges[id(self.source.input)])
            words = Value("input_words", self.source.input.shape, "i8", grid=grid)
            inverse = np.float32(1 / grid.scale)
            step = Quantise(inputs=[found.memory], output=words, inverse=inverse, zero=grid.zero)
            self.steps.append(step)
            self.words_of_input = words
        words = self.words_of_input
        return (
            words if found.base is None else replace(found, kind="i8", grid=words.grid, base=words)
        )

    def _output(self, step: Step) -> tuple[Value, Grid | None]:
        """Return what a step makes, and its grid: None where it is the network's output."""
        if step is self.source.steps[-1]:
            return replace(step.output, kind="f32"), None
        low, high = self.ranges[id(step.output)]
        grid = _grid(low, high)
        return replace(step.output, kind="i8", grid=grid), grid

    def _stage(
        self, step: Step, scale: NDArray[np.float64], offset: NDArray[np.float64]
    ) -> tuple[Value, Stage]:
        output, grid = self._output(step)
        if grid is None:
            return output, Scaled(scale.astype(np.float32), offset.astype(np.float32))
        return output, _words(scale, offset, grid, -128)

    # Steps

    def _look_up(self, step: LookUp) -> Step:
        source = self._read(step.inputs[0])
        thresholds, pad = step.thresholds, step.pad
        # Sums are of what the words stand for.
        if source.kind == "i8" and source.grid is not None and step.reads != "sums":
            grid = source.grid
            words = keys(grid.values(np.arange(-128, 128)))
            # Of the words, in their order, those that go left come first.
            thresholds = np.searchsorted(words, step.thresholds, side="right") - 129
            pad = np.full(source.shape[2], grid.zero, dtype=np.int64)
        if isinstance(step.stage, Sums):
            return replace(
                step, inputs=[source], output=replace(step.output), thresholds=thresholds, pad=pad
            )
        if not isinstance(step.stage, Scaled) or step.stage.relu:
            raise HalutError("looked-up layers must have no output stage for INT8")
        output, stage = self._stage(
            step, step.stage.scale.astype(np.float64), step.stage.offset.astype(np.float64)
        )
        return replace(
            step, inputs=[source], output=output, thresholds=thresholds, pad=pad, stage=stage
        )

    def _product(self, step: Product) -> Step:
        source = self._read_words(step.inputs[0])
        if source.grid is None:
            raise HalutError("exact layers must not read accumulators for INT8")
        weights = step.weights.astype(np.float64)
        steps = np.abs(weights).max(axis=2) / _MOST_WEIGHT  # (G, M)
        steps = np.where(steps > 0, steps, 1.0)
        words = np.rint(weights / steps[..., None]).astype(np.int64)
        scale = source.grid.scale * steps.ravel()
        bias = np.zeros(len(scale)) if step.bias is None else step.bias.astype(np.float64)
        offset = bias - source.grid.zero * scale * words.sum(axis=2).ravel()
        output, stage = self._stage(step, scale, offset)
        return replace(
            step, inputs=[source], output=output, weights=words, bias=None, pad=source.grid.zero,
            stage=stage,
        )  # fmt: skip

    def _same_grid(self, step: Maximum) -> Step:
        source = self._read(step.inputs[0])
        if source.kind == "f32":
            source = self._read_words(step.inputs[0])
        if step is self.source.steps[-1]:
            raise HalutError("network must end with a layer for INT8")
        output = replace(step.output, kind=source.kind, grid=source.grid)
        return replace(step, inputs=[source], output=output)

    def _mean(self, step: Mean) -> Step:
        source = self._read_words(step.inputs[0])
        if source.grid is None:
            raise HalutError("average pooling must not read accumulators for INT8")
        count = math.prod(step.window.kernel)
        scale = np.full(source.shape[2], source.grid.scale / count)
        offset = np.full(source.shape[2], -source.grid.zero * source.grid.scale)
        output, stage = self._stage(step, scale, offset)
        return replace(step, inputs=[source], output=output, stage=stage)

    def _add(self, step: Add) -> Step:
        sources = [self._read_words(value) for value in step.inputs]
        output, grid = self._output(step)
        if grid is None:
            raise HalutError("network must end with a layer for INT8")
        grids = [source.grid for source in sources]
        ratios = np.array([[one.scale / grid.scale for one in grids if one is not None]])
        zeros = np.array([one.zero for one in grids if one is not None])
        constant = grid.zero - (ratios * zeros).sum(axis=1)
        multiplier, addend, shift = _fixed_point(ratios, constant)
        first, second = multiplier[0].tolist()
        return replace(
            step, inputs=sources, output=output, multipliers=(first, second),
            addend=int(addend[0]), shift=int(shift[0]),
        )  # fmt: skip
