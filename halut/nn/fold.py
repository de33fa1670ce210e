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
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import in_range, integer
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.nn.chains import Graph, Path, shape_of
from halut.nn.integers import MOST_BITS, Refused, flip, integer_chain, zero_decides
from halut.nn.layers import HalutConv2d, HalutLayer
from halut.nn.replace import replace_module
from halut.nn.watch import output_of

__all__ = ["Edge", "FoldReport", "fold_"]


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
    in_range("least_bits", integer("least_bits", least_bits), 2, MOST_BITS)
    graph = Graph(model, example_input)
    producers = graph.nodes(HalutLayer)
    if not producers:
        raise HalutError("model must hold at least one Halut layer (convert_)")
    before = output_of(model, example_input)
    edges: list[Edge] = []
    for node in producers:
        edges += _fold_integers(graph, node, least_bits)
    for node in producers if norms else []:
        edges += _fold_norm(graph, node)
    for node in graph.nodes(nn.ReLU):
        edges += _fold_relu(graph, node)
    after = output_of(model, example_input)
    difference = float((before.double() - after.double()).abs().max()) if before.numel() else 0.0

    between = graph.between()
    counts = [math.prod(shape_of(node.all_input_nodes[0])[1:]) for node in between]
    are_integers = [graph.module(node).input_bits > 0 for node in between]
    return FoldReport(
        edges=edges,
        integer_values=sum(count for count, yes in zip(counts, are_integers, strict=True) if yes),
        values=sum(counts),
        identical=torch.equal(before, after),
        max_difference=difference,
    )


# Integers between layers.


def _fold_integers(graph: Graph, node: Any, least_bits: int) -> list[Edge]:
    chain = graph.chain(node)
    producer = chain.module
    assert isinstance(producer, HalutLayer)
    if producer.raw_output:
        return []
    try:
        if graph.calls[chain.name] > 1:
            raise Refused(f"{chain.name} is called more than once")
        inputs, bits, flipped = integer_chain(chain, least_bits)
        flip(producer, flipped)
    except Refused as refused:
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
        _remove(graph, name)
    return edges


def _remove(graph: Graph, name: str) -> None:
    replace_module(graph.model, name, nn.Identity())
    graph.modules[name] = nn.Identity()


def _end(path: Path) -> str:
    return str(path.end.target) if path.end.op == "call_module" else path.end.name


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
    _remove(graph, name)
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
        elif consumer.config.encoder in ("sums", "centroid") or consumer.input_bits:
            what = "sums of features" if consumer.signs is not None else "no floats"
            reason = f"{path.end.target} compares {what}"
        elif consumer.input_format not in (None, *FLOAT_FORMATS) and not _all_above_zero(consumer):
            reason = f"{path.end.target} has thresholds below 0, which integers cannot leave out"
    sources = [str(source.target) for source in node.all_input_nodes]
    if reason:
        return [Edge(source, name, "relu", False, reason) for source in sources]
    for consumer in readers:
        if consumer.input_format in (None, *FLOAT_FORMATS):
            # Minus infinity becomes the lowest finite threshold of the format.
            consumer.thresholds[consumer.thresholds < 0] = -math.inf
    _remove(graph, name)
    return [Edge(source, name, "relu", True, "", (name,)) for source in sources]


def _all_above_zero(consumer: HalutLayer) -> bool:
    """Whether integer thresholds send the value 0 left at every node."""
    return not any(zero_decides(program).any() for program in consumer.programs())
