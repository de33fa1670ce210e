"""What the steps of a network compute, in NumPy: the bits that the C code must give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.nn.c_export.steps import (
    Add,
    Affine,
    Clamp,
    LookUp,
    Maximum,
    Mean,
    Network,
    Product,
    Quantise,
    Stage,
    Step,
    Sums,
    Value,
    Words,
)
from halut.nn.c_export.thresholds import keys

__all__ = ["compute", "fused"]

_Array = NDArray[Any]
_AT_ONCE = 1 << 22
"""Values of one array that a product in floats works on."""


def compute(
    network: Network,
    inputs: NDArray[np.float32],
    watch: Callable[[Value, _Array], None] | None = None,
) -> NDArray[np.float32]:
    """Run a network.

    Parameters
    ----------
    network : Network
    inputs : float32 ndarray of shape (n, height, width, channels), finite
    watch : callable, optional
        Is given every value and what it is, (n, height, width, channels).

    Returns
    -------
    float32 ndarray of shape (n, n_outputs)
        As they lie in memory.
    """
    memory: dict[int, _Array] = {id(network.input): np.asarray(inputs, dtype=np.float32)}

    def read(value: Value) -> _Array:
        return memory[id(value.memory)].reshape(len(inputs), *value.shape)

    if watch is not None:
        watch(network.input, read(network.input))
    for step in network.steps:
        result = _STEPS[type(step)](step, *(read(value) for value in step.inputs))
        memory[id(step.output.memory)] = result
        if watch is not None:
            watch(step.output, read(step.output))
    return memory[id(network.output.memory)].reshape(len(inputs), -1)


def fused(a: _Array, b: _Array, c: _Array) -> NDArray[np.float32]:
    """Return ``a * b + c`` of float32 arrays, rounded once."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact
    addend = c.astype(np.float64)
    total = product + addend
    # What the sum lost, exactly (Knuth's two-sum); then to odd, so that only one rounding counts.
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    is_even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.copysign(np.inf, lost))
    return np.where((lost != 0) & is_even, odd, total).astype(np.float32)


def apply_stage(stage: Stage, sums: NDArray[np.int64]) -> _Array:
    """Turn sums (..., n_channels) into what is stored."""
    if isinstance(stage, Words):
        exact = sums * stage.multiplier + stage.addend
        words = np.clip(exact >> stage.shift, stage.low, 127)
        if stage.grid is None:
            return words
        return words.astype(np.float32) * np.float32(stage.grid[0]) + np.float32(stage.grid[1])
    if stage.relu:
        sums = np.maximum(sums, 0)
    if isinstance(stage, Sums):
        return sums
    return sums.astype(np.float32) * stage.scale + stage.offset


def _look_up(step: LookUp, x: _Array) -> _Array:
    source, out = step.inputs[0], step.output.shape
    pixel, valid = step.window.taps(source.shape, out)
    flat = x.reshape(len(x), -1, source.shape[2])
    compared = keys(flat) if source.kind == "f32" else flat.astype(np.int64)
    if step.reads == "sums" and source.grid is not None:
        flat = source.grid.values(flat)
    n_groups, n_codebooks, _, n_outputs = step.table.shape
    sums = np.zeros((len(x), out[0] * out[1], n_groups, n_outputs), dtype=np.int64)
    for group in range(n_groups):
        for codebook in range(n_codebooks):
            node = np.zeros(sums.shape[:2], dtype=np.intp)
            nodes = step.thresholds[group, codebook]

            def read(values: _Array, place: tuple[int, ...]) -> _Array:
                tap, channel = step.tap[place], step.channel[place]
                pad = 0 if step.pad is None else step.pad[channel]
                return np.where(valid[:, tap], values[:, pixel[:, tap], channel], pad)

            for level in range(len(nodes).bit_length()):
                place = group, codebook, level
                if step.reads == "sums":
                    value = _sum(step, place, partial(read, flat))
                elif step.reads == "nodes":
                    first = 2**level - 1
                    each = [
                        read(compared, (*place[:2], one)) for one in range(first, 2 * first + 1)
                    ]
                    value = np.take_along_axis(np.stack(each), (node - first)[None], axis=0)[0]
                else:
                    value = read(compared, place)
                node = 2 * node + 1 + (value > nodes[node])
            sums[:, :, group] += step.table[group, codebook][node - len(nodes)]
    return apply_stage(step.stage, sums.reshape(len(x), *out))


def _sum(step: LookUp, place: tuple[int, int, int], read: Callable[..., _Array]) -> _Array:
    """Return the sum of words that a level compares, of float values that `read` gives."""
    terms = step.terms
    assert terms is not None
    scale, offset = terms.scale[place].astype(np.float64), terms.offset[place]
    half, total = 2 ** (terms.bits - 1), np.zeros((), dtype=np.int64)
    for term, sign in enumerate(terms.signs[place]):
        steps = (read((*place, term)).astype(np.float64) - offset) / scale
        words = np.clip(np.rint(steps), -half, half - 1).astype(np.int64)
        if sign:
            total = total + (words if sign > 0 else ~words)
    return total


def _product(step: Product, x: _Array) -> _Array:
    source, out = step.inputs[0], step.output.shape
    pixel, valid = step.window.taps(source.shape, out)
    n_groups, n_outputs, n_features = step.weights.shape
    flat = x.reshape(len(x), -1, source.shape[2])
    pad = step.pad if source.kind != "f32" else np.float32(0)
    result: _Array = np.empty((len(x), len(pixel), n_groups, n_outputs), dtype=step.weights.dtype)
    at_once = max(1, _AT_ONCE // (len(pixel) * max(n_features, n_outputs)))
    for first in range(0, len(x), at_once):
        part = flat[first : first + at_once]
        patches = np.where(valid[..., None], part[:, pixel], pad)  # (n, L, area, channels)
        by_group = patches.reshape(*patches.shape[:3], n_groups, -1)
        for group in range(n_groups):
            rows = by_group[:, :, :, group].reshape(-1, n_features)
            weights = step.weights[group]
            if source.kind == "f32":
                added: _Array = np.zeros((len(rows), n_outputs), dtype=np.float32)
                for feature in range(n_features):
                    added += rows[:, feature, None] * weights[:, feature]
            else:
                added = np.rint(rows.astype(np.float64) @ weights.T.astype(np.float64))
            result[first : first + at_once, :, group] = added.reshape(len(part), -1, n_outputs)
    sums = result.reshape(len(x), *out)
    if source.kind != "f32":
        return apply_stage(step.stage, sums)
    return sums if step.bias is None else sums + step.bias


def _affine(step: Affine, x: _Array) -> _Array:
    return fused(x, step.scale, step.offset) if step.fused else x * step.scale + step.offset


def _clamp(step: Clamp, x: _Array) -> _Array:
    low = np.where(x < np.float32(step.low), np.float32(step.low), x)
    return low if step.high is None else np.where(x > step.high, np.float32(step.high), low)


def _maximum(step: Maximum, x: _Array) -> _Array:
    source, out = step.inputs[0], step.output.shape
    pixel, valid = step.window.taps(source.shape, out)
    flat = x.reshape(len(x), -1, source.shape[2])
    result = np.where(valid[:, :1], flat[:, pixel[:, 0]], _lowest(flat))
    for tap in range(1, pixel.shape[1]):
        candidate = np.where(valid[:, tap, None], flat[:, pixel[:, tap]], _lowest(flat))
        result = np.where(candidate > result, candidate, result)
    return result.reshape(len(x), *out)


def _lowest(x: _Array) -> Any:
    return np.float32(-np.inf) if x.dtype == np.float32 else np.iinfo(np.int64).min


def _mean(step: Mean, x: _Array) -> _Array:
    source, out = step.inputs[0], step.output.shape
    pixel, _ = step.window.taps(source.shape, out)
    flat = x.reshape(len(x), -1, source.shape[2])
    sums: _Array = np.zeros((len(x), len(pixel), source.shape[2]), dtype=x.dtype)
    for tap in range(pixel.shape[1]):
        sums += flat[:, pixel[:, tap]]
    sums = sums.reshape(len(x), *out)
    if source.kind == "f32":
        return sums / np.float32(pixel.shape[1])
    return apply_stage(step.stage, sums)


def _add(step: Add, a: _Array, b: _Array) -> _Array:
    if step.output.kind == "f32":
        return a + b
    exact = a * step.multipliers[0] + b * step.multipliers[1] + step.addend
    return np.clip(exact >> step.shift, step.low, 127)


def _quantise(step: Quantise, x: _Array) -> _Array:
    limit = np.float32(512)
    words = np.rint(np.clip(x * step.inverse, -limit, limit)).astype(np.int64)
    return np.clip(words + step.zero, -128, 127)


_STEPS: dict[type[Step], Callable[..., _Array]] = {
    LookUp: _look_up,
    Product: _product,
    Affine: _affine,
    Clamp: _clamp,
    Maximum: _maximum,
    Mean: _mean,
    Add: _add,
    Quantise: _quantise,
}
