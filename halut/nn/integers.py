"""Integers between layers: the thresholds and the padding that stand for the values of before.

Behind a hardware-exact layer, everything up to the next ones is a non-decreasing function f of the
accumulator, evaluated here by the network's own operations at every integer; see `halut.nn.fold`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from halut.formats import FLOAT_FORMATS
from halut.nn.chains import Chain, Path, Step
from halut.nn.layers import HalutConv2d, HalutLayer
from halut.nodes import by_node
from halut.program import Program

__all__ = ["MOST_BITS", "Inputs", "Refused", "flip", "integer_chain", "zero_decides"]

MOST_BITS = 16
_PIECE = 1 << 24
"""Values of f that are held at a time."""


class Refused(Exception):
    """Why a chain stays as it is."""


@dataclass(frozen=True)
class Inputs:
    """What a layer compares accumulators with: thresholds (G, C, K - 1), a pad per channel."""

    words: NDArray[np.int64]
    pad: NDArray[np.int64] | None


def integer_chain(chain: Chain, bits: int) -> tuple[list[Inputs], int, Tensor]:
    """Return each reader's integer inputs, their width and the channels to flip."""
    producer = chain.module
    assert isinstance(producer, HalutLayer)
    if not producer.exact:
        raise Refused(f"{chain.name} is not exact (lut_bits and input_format)")
    formats = producer.config
    if formats.lut_format != "int":
        raise Refused(f"{chain.name} adds up half floats (lut_format)")
    if formats.overflow is not None:
        raise Refused(f"{chain.name} has accumulators that overflow (overflow)")
    if formats.output_format != "raw" or formats.relu:
        raise Refused(f"{chain.name} has an output stage (output_format, relu)")
    if chain.broken():
        raise Refused(f"another reader: {chain.broken()}")
    for path in chain.paths:
        consumer = path.consumer
        assert isinstance(consumer, HalutLayer)
        if not consumer.exact:
            raise Refused(f"{path.end.target} is not exact (lut_bits and input_format)")
        if consumer.signs is not None:
            raise Refused(f"{path.end.target} compares sums of features")
        for step in path.steps:
            if step.kind not in ("norm", "activation", "max", "same", "flatten"):
                raise Refused(f"{step.name} is not a non-decreasing function of each value")
            if step.kind == "activation" and step.module is None:
                raise Refused(f"{step.name} is a function in forward, not a module")
    flipped = _directions(chain)

    low, high = _ranges(producer, flipped)
    while low.min() < -(2 ** (bits - 1)) or high.max() >= 2 ** (bits - 1):
        bits += 2 - bits % 2
    while bits <= MOST_BITS:
        try:
            found = [
                _integer_inputs(producer, path, flipped, low, high, bits) for path in chain.paths
            ]
        except OverflowError:
            bits += 2 - bits % 2
            continue
        return found, bits, flipped
    raise Refused(f"accumulators from {low.min()} to {high.max()} need more than 16 bits")


def _directions(chain: Chain) -> Tensor:
    """Return the channels, bool (G * M,), that batch norms turn round."""
    n_channels = chain.module.groups * chain.module.n_outputs
    turned = torch.zeros(n_channels, dtype=torch.bool)
    kept = torch.zeros(n_channels, dtype=torch.bool)
    for path in chain.paths:
        channel = torch.arange(n_channels)
        sign = torch.ones(n_channels)
        at_maxima: list[tuple[Tensor, str]] = []
        for step in path.steps:
            channel = channel.repeat_interleave(step.repeat)
            sign = sign.repeat_interleave(step.repeat)
            at_maxima = [(s.repeat_interleave(step.repeat), name) for s, name in at_maxima]
            if step.kind == "norm" and getattr(step.module, "weight", None) is not None:
                sign = sign * torch.sign(step.module.weight).cpu()
            elif step.kind == "max":
                at_maxima.append((sign, step.name))
        for sign_there, name in at_maxima:
            if (sign_there * sign < 0).any():
                raise Refused(f"{name} comes before a batch norm with a negative weight")
        turned[channel[sign < 0]] = True
        kept[channel[sign > 0]] = True
    if (turned & kept).any():
        raise Refused("batch norms turn one channel both ways")
    return turned


def _ranges(producer: HalutLayer, flipped: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the lowest and highest accumulator of each channel, after the flip, int64."""
    entries = producer.tables()[0].double().cpu()
    low = entries.amin(dim=3).sum(dim=2).flatten()
    high = entries.amax(dim=3).sum(dim=2).flatten()
    shift = _shift(producer).cpu()
    low, high = (
        torch.where(flipped, -high - shift, low),
        torch.where(flipped, -low - shift, high),
    )
    return low.long().numpy(), high.long().numpy()


def _transfer(
    producer: HalutLayer, steps: tuple[Step, ...], features: Tensor, flipped: Tensor, words: Tensor
) -> Tensor:
    """Evaluate f, by the very operations of the network.

    Parameters
    ----------
    producer : HalutLayer
    steps : tuple of Step
    features : int64 Tensor of shape (n,)
        Features at the end of the steps.
    flipped : bool Tensor of shape (G * M,)
        Channels whose accumulator a is handed on as -a - shift.
    words : float32 Tensor of shape (W,)
        Integers that are handed on.

    Returns
    -------
    float32 Tensor of shape (n, W)
    """
    places = [features]  # of each stage, the last one first
    for step in reversed(steps):
        places.append(places[-1] // step.repeat)
    places.reverse()
    device = producer.lut.device
    _, scale, offset = producer.tables()
    channel = places[0].to(device)
    turned = flipped.to(device)[channel, None]
    # In the integers of before.
    sums = torch.where(turned, -words - _shift(producer)[channel, None], words)
    values = sums * scale.flatten()[channel, None] + offset.flatten()[channel, None]
    for step, place in zip(steps, places[1:], strict=True):
        if step.kind == "norm":
            norm = step.module
            at = place.to(device)
            values = functional.batch_norm(
                values[None],
                norm.running_mean[at],
                norm.running_var[at],
                None if norm.weight is None else norm.weight[at],
                None if norm.bias is None else norm.bias[at],
                False,
                0.0,
                norm.eps,
            )[0]
        elif step.kind == "activation":
            values = step.module(values)
    return values


def _decides(program: Program, values: NDArray[Any], codebooks: slice) -> NDArray[Any]:
    """Return what trees compare for values (C', P, W): float32 or float64 of that shape."""
    floating = FLOAT_FORMATS.get(program.input_format)
    if floating:
        return floating.values(floating.words(values))
    # All words of a window share one grid.
    grids = slice(0, 1) if program.window else slice(None)
    words = values.astype(np.float64)
    words -= program.input_offset[codebooks, grids, None]
    words /= program.input_scale[codebooks, grids, None]
    np.rint(words, out=words)
    limit = 2 ** (program.input_bits - 1)
    return np.clip(words, -limit, limit - 1, out=words)


def _place_of_nodes(n_places: int, n_nodes: int) -> NDArray[np.int64]:
    """Return which of P places each node compares, (K - 1,): that of its level, or its own."""
    places = np.arange(n_places)
    return places if n_places == n_nodes else by_node(places)


def _integer_inputs(
    producer: HalutLayer,
    path: Path,
    flipped: Tensor,
    low: NDArray[Any],
    high: NDArray[Any],
    bits: int,
) -> Inputs:
    """Find the integer thresholds of a reader, and the integers that it pads with.

    Raises
    ------
    OverflowError
        When words of so many bits do not do.
    """
    consumer = path.consumer
    assert isinstance(consumer, HalutLayer)
    half = 2 ** (bits - 1)
    words = torch.arange(-half, half, dtype=torch.float32, device=producer.lut.device)
    features = _features(consumer)  # (G, C, P)
    n_places = features.shape[2]
    place_of = _place_of_nodes(n_places, consumer.thresholds.shape[2])
    origin = path.origin(len(flipped)).numpy()
    found = np.empty(tuple(consumer.thresholds.shape), dtype=np.int64)
    step = max(1, _PIECE // (n_places * len(words)))
    programs = consumer.programs()
    for group, program in enumerate(programs):
        for first in range(0, consumer.n_codebooks, step):
            part = slice(first, first + step)
            read = features[group, part]  # (C', P)
            values = _transfer(producer, path.steps, read.flatten(), flipped, words)
            compared = _decides(
                program, values.cpu().numpy().reshape(*read.shape, -1), part
            )  # (C', P, W)
            if (np.diff(compared) < 0).any():
                raise Refused("rounding makes the way between the layers not monotone")
            nodes = program.threshold_values[part].astype(compared.dtype)
            for place in range(n_places):
                at = place_of == place
                for index in range(len(read)):
                    below = np.searchsorted(compared[index, place], nodes[index, at], "right")
                    found[group, first + index, at] = below - half - 1
    channel = origin[features.numpy()[..., place_of]]  # (G, C, K-1)
    lowest, highest = low[channel], high[channel]
    if ((found < -half) & (lowest <= -half)).any():
        raise OverflowError
    if not isinstance(consumer, HalutConv2d) or not any(consumer.sides()):
        return Inputs(np.maximum(found, -half), None)
    if consumer.padding_mode != "zeros":
        return Inputs(np.maximum(found, -half), None)
    # Where all integers that occur decide alike, the padded 0 may still decide otherwise.
    right = np.stack([zero_decides(program) for program in programs])
    always = np.where(right, -half, np.maximum(lowest - 1, -half))
    never = np.where(right, highest, half - 1)
    found = np.where(found < lowest, always, np.where(found >= highest, never, found))
    return Inputs(found, _padding(producer, path, flipped, right, found, words))


def _features(consumer: HalutLayer) -> Tensor:
    """Return which feature of its input stands at each place, int64 (G, C, P).

    P is T where a level's nodes compare one feature, K - 1 where each node has its own.
    """
    dims = consumer.split_dims.cpu()
    if not isinstance(consumer, HalutConv2d):
        return dims
    first = torch.arange(consumer.groups)[:, None, None] * (consumer.in_channels // consumer.groups)
    return dims // math.prod(consumer.kernel_size) + first


def zero_decides(program: Program) -> NDArray[np.bool_]:
    """Return at which nodes (C, K - 1) the value 0 goes right."""
    zero = np.zeros((len(program.split_dims), 1, 1), dtype=np.float32)
    n_places = 1 if program.window else program.tree_depth
    compared = _decides(program, zero.repeat(n_places, axis=1), slice(None))[..., 0]
    nodes = program.threshold_values.astype(compared.dtype)
    if program.window:
        return compared > nodes
    return by_node(compared) > nodes


def _padding(
    producer: HalutLayer,
    path: Path,
    flipped: Tensor,
    right: NDArray[np.bool_],
    found: NDArray[np.int64],
    words: Tensor,
) -> NDArray[np.int64]:
    """Find for each input channel the integer that decides everywhere as the value 0 does."""
    consumer = path.consumer
    assert isinstance(consumer, HalutConv2d)
    half = len(words) // 2
    # It must be greater than `above` and at most `up_to`.
    above = np.full(consumer.in_channels, -half - 1)
    up_to = np.full(consumer.in_channels, half - 1)
    features = _features(consumer).numpy()
    channel = features[..., _place_of_nodes(features.shape[2], found.shape[2])]
    np.maximum.at(above, channel[right], found[right])
    np.minimum.at(up_to, channel[~right], found[~right])
    bad = np.flatnonzero(above >= up_to)
    if len(bad):
        if (above[bad] >= half - 1).any() or (up_to[bad] <= -half).any():
            raise OverflowError
        raise Refused(
            f"no integer decides as the padded 0 does ({len(bad)} channels of {path.end.target}, "
            f"the first is {bad[0]})"
        )
    # Of those, the one that stands for a value nearest to 0.
    pad = np.empty(consumer.in_channels, dtype=np.int64)
    step = max(1, _PIECE // len(words))
    for first in range(0, consumer.in_channels, step):
        read = torch.arange(first, min(first + step, consumer.in_channels))
        values = _transfer(producer, path.steps, read, flipped, words)
        pad[read.numpy()] = values.abs().argmin(dim=1).cpu().numpy() - half
    return np.clip(pad, above + 1, up_to)


def _shift(producer: HalutLayer) -> Tensor:
    """Return what turns an output's accumulator a round: -a - shift, float32 (G * M,).

    Every codebook's entries e become -1 - e, but those of constant tables, which stay 0.
    """
    low, high = torch.aminmax(producer.lut, dim=3)
    return (low != high).sum(dim=2).flatten().to(torch.float32)


def flip(producer: HalutLayer, flipped: Tensor) -> None:
    """Turn the entries of some outputs round, and their outputs' sign."""
    if not flipped.any():
        return
    lut, before = producer.lut.clone(), producer.tables()[0]
    turned = flipped.to(before.device).view(producer.groups, producer.n_outputs)
    low, high = torch.aminmax(producer.lut, dim=3)
    change = (turned[..., None] & (low != high))[..., None]
    wanted = torch.where(change, -1 - before, before)
    producer.lut[turned] *= -1
    # Halves may have been rounded the other way: move those off the edge.
    entries, scale, _ = producer.tables()
    wrong = entries != wanted
    if wrong.any():
        nudge = (wanted - entries) * 0.25 * scale[..., None, None]
        producer.lut[wrong] += nudge[wrong].to(producer.lut.dtype)
        if not torch.equal(producer.tables()[0], wanted):
            producer.lut.copy_(lut)
            raise Refused("negated tables are rounded otherwise")
    producer.bias[turned.flatten()] *= -1
