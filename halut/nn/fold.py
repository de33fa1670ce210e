"""Folding of batch norm and ReLU, so that a network runs with integers between its layers.

Three rewrites, each of which leaves an `nn.Identity` where a module was:

- *integers between layers*: behind a hardware-exact layer, everything up to the next ones is a
  non-decreasing function f of the accumulator a, rounding included. The next layer's decision
  ``f(a) > threshold`` is therefore ``a > t`` for the integer ``t = max{a : not f(a) > threshold}``.
  Its trees compare accumulators with such t, its padding is an integer that decides as 0 did, and
  no scale, offset, batch norm or ReLU is left between the two. Every decision is the same as
  before. Where a batch norm's weight is negative, the producer's table entries e become -1 - e.
- *batch norm*: behind any other layer, it becomes part of the layer's tables and bias.
- *ReLU*: before layers that compare floats, ``relu(x) > t`` is ``x > t`` for ``t >= 0`` and always
  true for ``t < 0``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.nn.chains import Chain, Graph, Path, Step, shape_of
from halut.nn.convert import replace_module
from halut.nn.layers import HalutConv2d, HalutLayer
from halut.program import Program

__all__ = ["Edge", "FoldReport", "fold_"]

_MOST_BITS = 16
_PIECE = 1 << 24
"""Values of f that are held at a time."""


class _Refused(Exception):
    """Why a chain stays as it is."""


@dataclass(frozen=True)
class Edge:
    """What became of one way from a layer to a reader of its output.

    Attributes
    ----------
    producer, consumer : str
        Names in the model; `consumer` is the ReLU or batch norm for the other two rewrites.
    kind : str
        "integers", "batch norm" or "relu".
    folded : bool
    reason : str
        Why not, when it is not folded.
    removed : tuple of str
        Modules that became `nn.Identity`.
    bits : int
        Width of the integers that are handed on, 0 when they are not.
    """

    producer: str
    consumer: str
    kind: str
    folded: bool
    reason: str = ""
    removed: tuple[str, ...] = ()
    bits: int = 0


@dataclass(frozen=True)
class FoldReport:
    """What `fold_` did.

    Attributes
    ----------
    edges : list of Edge
    integer_values, values : int
        Values per item that Halut layers take as integers from others, and all that they take from
        values that depend on other Halut layers.
    identical : bool
        Whether the model's output for the example input has the same bits as before.
    max_difference : float
        Largest absolute difference of that output.
    """

    edges: list[Edge] = field(default_factory=list)
    integer_values: int = 0
    values: int = 0
    identical: bool = True
    max_difference: float = 0.0

    @property
    def integer_share(self) -> float:
        """Share of values between Halut layers that are integers."""
        return self.integer_values / self.values if self.values else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {**asdict(self), "integer_share": self.integer_share}

    def __str__(self) -> str:
        width = max([len(f"{edge.producer} -> {edge.consumer}") for edge in self.edges] or [0])
        lines = []
        for edge in self.edges:
            what = f"{edge.producer} -> {edge.consumer}"
            done = f"int{edge.bits}" if edge.bits else "folded"
            lines.append(
                f"{what:{width}}  {edge.kind:10}  {done if edge.folded else 'no: ' + edge.reason}"
            )
        lines.append(
            f"integers between layers: {self.integer_values} of {self.values} values "
            f"({100 * self.integer_share:.1f} %)"
        )
        same = "the same bits" if self.identical else f"differs by up to {self.max_difference:.3g}"
        lines.append(f"output for the example input: {same}")
        return "\n".join(lines)


@torch.no_grad()
def fold_(
    model: nn.Module, example_input: Tensor, *, norms: bool = True, least_bits: int = 2
) -> FoldReport:
    """Fold batch norms and ReLUs into Halut layers and hand integers from layer to layer.

    The model is changed in place and is for inference from then on: its decisions are those of
    integer thresholds, which have no gradient.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode; torch.fx must be able to trace it.
    example_input : float32 Tensor
        An input, for shapes and for the comparison of outputs.
    norms : bool, default True
        Whether batch norms whose result stays a float are folded into tables, too: the only
        rewrite that changes roundings. Without it, the network's output has the same bits.
    least_bits : int, default 2
        Least width of integers between layers, 2 to 16; otherwise the least even number that
        holds every accumulator. 16 gives all layers the same input format.

    Returns
    -------
    FoldReport

    Raises
    ------
    HalutError
        When the model holds no Halut layer, is in training mode, or cannot be traced.
    """
    if isinstance(least_bits, bool) or least_bits not in range(2, _MOST_BITS + 1):
        raise HalutError(f"least_bits must be in [2, {_MOST_BITS}], not {least_bits!r}")
    graph = Graph(model, example_input)
    producers = graph.nodes(HalutLayer)
    if not producers:
        raise HalutError("model must hold at least one Halut layer (convert_)")
    before = _output(model, example_input)
    edges: list[Edge] = []
    for node in producers:
        edges += _fold_integers(graph, node, least_bits)
    for node in producers if norms else []:
        edges += _fold_norm(graph, node)
    for node in graph.nodes(nn.ReLU):
        edges += _fold_relu(graph, node)
    after = _output(model, example_input)
    difference = float((before.double() - after.double()).abs().max()) if before.numel() else 0.0

    between = graph.between()
    counts = [math.prod(shape_of(node.all_input_nodes[0])[1:]) for node in between]
    integer = [graph.module(node).input_bits > 0 for node in between]
    return FoldReport(
        edges=edges,
        integer_values=sum(count for count, yes in zip(counts, integer, strict=True) if yes),
        values=sum(counts),
        identical=torch.equal(before, after),
        max_difference=difference,
    )


def _output(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    if not isinstance(output, Tensor):
        raise HalutError(f"model must return one tensor, not {type(output).__name__}")
    return output


# Integers between layers.


@dataclass(frozen=True)
class _Inputs:
    """What a layer compares accumulators with: thresholds (G, C, K - 1), a pad per channel."""

    words: NDArray[np.int64]
    pad: NDArray[np.int64] | None


def _fold_integers(graph: Graph, node: Any, least_bits: int) -> list[Edge]:
    chain = graph.chain(node)
    producer = chain.module
    assert isinstance(producer, HalutLayer)
    if producer.raw_output:
        return []
    try:
        if graph.calls[chain.name] > 1:
            raise _Refused(f"{chain.name} is called more than once")
        inputs, bits, flipped = _integer_chain(chain, least_bits)
        _flip(producer, flipped)
    except _Refused as refused:
        return [
            Edge(chain.name, _end(path), "integers", False, path.reason or str(refused))
            for path in chain.paths
        ]
    producer.raw_output = True
    edges = []
    for path, wanted in zip(chain.paths, inputs, strict=True):
        consumer = path.consumer
        assert isinstance(consumer, HalutLayer)
        consumer.use_integer_inputs(torch.from_numpy(wanted.words).to(torch.int32), bits)
        if wanted.pad is not None:
            assert isinstance(consumer, HalutConv2d)
            pad = torch.from_numpy(wanted.pad).to(producer.lut.device, torch.float32)
            consumer.pad_value = pad
        removed = tuple(step.name for step in path.steps if step.kind in ("norm", "activation"))
        edges.append(Edge(chain.name, _end(path), "integers", True, "", removed, bits))
    for name in {name for edge in edges for name in edge.removed}:
        replace_module(graph.model, name, nn.Identity())
        graph.modules[name] = nn.Identity()
    return edges


def _end(path: Path) -> str:
    return str(path.end.target) if path.end.op == "call_module" else path.end.name


def _integer_chain(chain: Chain, bits: int) -> tuple[list[_Inputs], int, Tensor]:
    """Return each reader's integer inputs, their width and the channels to flip."""
    producer = chain.module
    assert isinstance(producer, HalutLayer)
    if not producer.exact:
        raise _Refused(f"{chain.name} is not exact (lut_bits and input_format)")
    formats = producer.config
    if formats.lut_format != "int":
        raise _Refused(f"{chain.name} adds up half floats (lut_format)")
    if formats.overflow is not None:
        raise _Refused(f"{chain.name} has accumulators that overflow (overflow)")
    if formats.output_format != "raw" or formats.relu:
        raise _Refused(f"{chain.name} has an output stage (output_format, relu)")
    if chain.broken():
        raise _Refused(f"another reader: {chain.broken()}")
    for path in chain.paths:
        consumer = path.consumer
        assert isinstance(consumer, HalutLayer)
        if not consumer.exact:
            raise _Refused(f"{path.end.target} is not exact (lut_bits and input_format)")
        for step in path.steps:
            if step.kind not in ("norm", "activation", "max", "same", "flatten"):
                raise _Refused(f"{step.name} is not a non-decreasing function of each value")
            if step.kind == "activation" and step.module is None:
                raise _Refused(f"{step.name} is a function in forward, not a module")
    flipped = _directions(chain)

    low, high = _ranges(producer, flipped)
    while low.min() < -(2 ** (bits - 1)) or high.max() >= 2 ** (bits - 1):
        bits += 2 - bits % 2
    while bits <= _MOST_BITS:
        try:
            found = [
                _integer_inputs(producer, path, flipped, low, high, bits) for path in chain.paths
            ]
        except OverflowError:
            bits += 2 - bits % 2
            continue
        return found, bits, flipped
    raise _Refused(f"accumulators from {low.min()} to {high.max()} need more than 16 bits")


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
                raise _Refused(f"{name} comes before a batch norm with a negative weight")
        turned[channel[sign < 0]] = True
        kept[channel[sign > 0]] = True
    if (turned & kept).any():
        raise _Refused("batch norms turn one channel both ways")
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
    """Return what trees compare for values (C', T, W): float32 or float64 of that shape."""
    floating = FLOAT_FORMATS.get(program.input_format)
    if floating:
        return floating.values(floating.words(values))
    words = values.astype(np.float64)
    words -= program.input_offset[codebooks, :, None]
    words /= program.input_scale[codebooks, :, None]
    np.rint(words, out=words)
    limit = 2 ** (program.input_bits - 1)
    return np.clip(words, -limit, limit - 1, out=words)


def _levels(depth: int) -> Iterator[tuple[int, slice]]:
    for level in range(depth):
        yield level, slice(2**level - 1, 2 ** (level + 1) - 1)


def _integer_inputs(
    producer: HalutLayer,
    path: Path,
    flipped: Tensor,
    low: NDArray[Any],
    high: NDArray[Any],
    bits: int,
) -> _Inputs:
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
    features = _features(consumer)  # (G, C, T)
    origin = path.origin(len(flipped)).numpy()
    found = np.empty(tuple(consumer.thresholds.shape), dtype=np.int64)
    step = max(1, _PIECE // (consumer.tree_depth * len(words)))
    programs = consumer.programs()
    for group, program in enumerate(programs):
        for first in range(0, consumer.n_codebooks, step):
            part = slice(first, first + step)
            read = features[group, part]  # (C', T)
            values = _transfer(producer, path.steps, read.flatten(), flipped, words)
            compared = _decides(
                program, values.cpu().numpy().reshape(*read.shape, -1), part
            )  # (C', T, W)
            if (np.diff(compared) < 0).any():
                raise _Refused("rounding makes the way between the layers not monotone")
            nodes = program.threshold_values[part].astype(compared.dtype)
            for level, at in _levels(consumer.tree_depth):
                for index in range(len(read)):
                    below = np.searchsorted(compared[index, level], nodes[index, at], "right")
                    found[group, first + index, at] = below - half - 1
    channel = origin[features.numpy()]
    lowest = np.repeat(low[channel], 2 ** np.arange(consumer.tree_depth), axis=2)  # (G, C, K-1)
    highest = np.repeat(high[channel], 2 ** np.arange(consumer.tree_depth), axis=2)
    if ((found < -half) & (lowest <= -half)).any():
        raise OverflowError
    if not isinstance(consumer, HalutConv2d) or not any(consumer.sides()):
        return _Inputs(np.maximum(found, -half), None)
    if consumer.padding_mode != "zeros":
        return _Inputs(np.maximum(found, -half), None)
    # Where all integers that occur decide alike, the padded 0 may still decide otherwise.
    right = np.stack([_zero_decides(program) for program in programs])
    always = np.where(right, -half, np.maximum(lowest - 1, -half))
    never = np.where(right, highest, half - 1)
    found = np.where(found < lowest, always, np.where(found >= highest, never, found))
    return _Inputs(found, _padding(producer, path, flipped, right, found, words))


def _features(consumer: HalutLayer) -> Tensor:
    """Return which feature of its input every level of every tree reads, int64 (G, C, T)."""
    dims = consumer.split_dims.cpu()
    if not isinstance(consumer, HalutConv2d):
        return dims
    first = torch.arange(consumer.groups)[:, None, None] * (consumer.in_channels // consumer.groups)
    return dims // math.prod(consumer.kernel_size) + first


def _zero_decides(program: Program) -> NDArray[np.bool_]:
    """Return at which nodes (C, K - 1) the value 0 goes right."""
    zero = np.zeros((*program.split_dims.shape, 1), dtype=np.float32)
    compared = _decides(program, zero, slice(None))
    return np.concatenate(
        [
            compared[:, level] > program.threshold_values[:, at].astype(compared.dtype)
            for level, at in _levels(program.tree_depth)
        ],
        axis=1,
    )


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
    channel = np.repeat(_features(consumer).numpy(), 2 ** np.arange(consumer.tree_depth), axis=2)
    np.maximum.at(above, channel[right], found[right])
    np.minimum.at(up_to, channel[~right], found[~right])
    bad = np.flatnonzero(above >= up_to)
    if len(bad):
        if (above[bad] >= half - 1).any() or (up_to[bad] <= -half).any():
            raise OverflowError
        raise _Refused(
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


def _flip(producer: HalutLayer, flipped: Tensor) -> None:
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
            raise _Refused("negated tables are rounded otherwise")
    producer.bias[turned.flatten()] *= -1


# Batch norm and ReLU beside float values.


def _fold_norm(graph: Graph, node: Any) -> list[Edge]:
    """Fold a batch norm that alone reads a layer's output into the layer."""
    layer = graph.module(node)
    assert isinstance(layer, HalutLayer)
    reader = node
    while True:
        users = list(reader.users)
        norm = graph.module(users[0]) if len(users) == 1 else None
        if not isinstance(norm, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            break
        reader = users[0]
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) or layer.raw_output:
        return []
    name, target = str(users[0].target), str(node.target)
    reason = ""
    if graph.calls[name] > 1 or graph.calls[target] > 1:
        reason = "one of the two is called more than once"
    elif norm.running_mean is None or norm.running_var is None:
        reason = f"{name} has no running statistics"
    elif not isinstance(layer, HalutConv2d) and len(shape_of(node)) != 2:
        reason = f"{name} does not work channel by channel"
    elif layer.config.lut_bits is not None and layer.config.lut_granularity == "table":
        reason = "one scale for all tables would cost accuracy (lut_granularity)"
    elif layer.config.overflow is not None:
        reason = "accumulators overflow at other places (overflow)"
    elif layer.config.relu or layer.config.output_format == "int8":
        reason = "it comes after an output stage (output_format, relu)"
    if reason:
        return [Edge(target, name, "batch norm", False, reason)]
    assert norm.running_mean is not None and norm.running_var is not None
    factor = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    bias = (layer.bias.double() - norm.running_mean.double()) * factor
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    layer.bias.copy_(bias)
    shape = (layer.groups, layer.n_outputs, 1, 1)
    layer.lut.copy_(layer.lut.double() * factor.view(shape))
    replace_module(graph.model, name, nn.Identity())
    graph.modules[name] = nn.Identity()
    return [Edge(target, name, "batch norm", True, "", (name,))]


def _fold_relu(graph: Graph, node: Any) -> list[Edge]:
    """Fold a ReLU into the thresholds of the layers that read it."""
    if not isinstance(graph.module(node), nn.ReLU):  # it is gone
        return []
    chain = graph.chain(node)
    readers = [path.consumer for path in chain.paths if isinstance(path.consumer, HalutLayer)]
    if not readers:
        return []
    name = chain.name
    reason = chain.broken()
    if graph.calls[name] > 1:
        reason = f"{name} is called more than once"
    for path in chain.paths:
        consumer = path.consumer
        if reason or not isinstance(consumer, HalutLayer):
            break
        odd = [step for step in path.steps if step.kind not in ("max", "same", "flatten")]
        if odd:
            reason = f"{odd[0].name} lies between"
        elif consumer.config.encoder != "tree" or consumer.input_bits:
            reason = f"{path.end.target} compares no floats"
        elif consumer.input_format not in (None, *FLOAT_FORMATS) and not _all_above_zero(consumer):
            reason = f"{path.end.target} has thresholds below 0, which integers cannot leave out"
    sources = [str(source.target) for source in node.all_input_nodes]
    if reason:
        return [Edge(source, name, "relu", False, reason) for source in sources]
    for consumer in readers:
        if consumer.input_format in (None, *FLOAT_FORMATS):
            # Minus infinity becomes the lowest finite threshold of the format.
            consumer.thresholds[consumer.thresholds < 0] = -math.inf
    replace_module(graph.model, name, nn.Identity())
    graph.modules[name] = nn.Identity()
    return [Edge(source, name, "relu", True, "", (name,)) for source in sources]


def _all_above_zero(consumer: HalutLayer) -> bool:
    """Whether integer thresholds send the value 0 left at every node."""
    return not any(_zero_decides(program).any() for program in consumer.programs())
