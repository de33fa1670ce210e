"""Inter-layer pruning: drop outputs that no tree of the next layers looks at.

A tree of depth T reads at most T features of its codebook. Where codebooks span several channels
(linear layers, 1 x 1 convolutions), whole channels remain unread, and the layer before need not
compute them: no table rows, look-ups or weights, and nothing of batch norms in between. What the
network returns does not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from halut.errors import HalutError
from halut.nn.chains import Chain, Graph, Path, shape_of
from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear
from halut.nn.quantize import quantize_tables
from halut.nn.watch import output_of

__all__ = ["PruneReport", "PruneRow", "fit_", "prune_", "required_channels", "required_inputs"]


@dataclass(frozen=True)
class PruneRow:
    """What became of one layer's outputs.

    Attributes
    ----------
    name : str
    outputs, kept : int
        Output channels before and after.
    reason : str
        Why nothing was dropped, when nothing was.
    consumers : tuple of str
        Layers that read the outputs.
    table_bytes : int
        Size of the dropped tables, or of the dropped weights of a plain layer.
    look_ups : int
        Additions of table entries that one input no longer needs.
    macs : int
        Multiply-accumulates of a plain layer that one input no longer needs.
    """

    name: str
    outputs: int
    kept: int
    reason: str = ""
    consumers: tuple[str, ...] = ()
    table_bytes: int = 0
    look_ups: int = 0
    macs: int = 0


@dataclass(frozen=True)
class PruneReport:
    """What `prune_` did.

    Attributes
    ----------
    rows : list of PruneRow
        Layers whose outputs a Halut layer reads, in forward order.
    identical : bool
        Whether the model's output for the example input has the same bits as before.
    """

    rows: list[PruneRow] = field(default_factory=list)
    identical: bool = True

    @property
    def table_bytes(self) -> int:
        """Bytes of tables and weights that are gone."""
        return sum(row.table_bytes for row in self.rows)

    @property
    def look_ups(self) -> int:
        """Additions of table entries that one input no longer needs."""
        return sum(row.look_ups for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates that one input no longer needs."""
        return sum(row.macs for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        totals = {"table_bytes": self.table_bytes, "look_ups": self.look_ups, "macs": self.macs}
        return asdict(self) | totals

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows] + [5])
        lines = [f"{'layer':{width}} {'outputs':>13} {'bytes':>10} {'look-ups':>10} {'MACs':>10}"]
        for row in self.rows:
            kept = f"{row.kept}/{row.outputs}"
            saved = f"{row.table_bytes:10} {row.look_ups:10} {row.macs:10}"
            lines.append(f"{row.name:{width}} {kept:>13} {row.reason or saved}")
        lines.append(f"{'saved':{width}} {'':13} {self.table_bytes:10} {self.look_ups:10} "
                     f"{self.macs:10}")  # fmt: skip
        same = "the same bits" if self.identical else "other bits"
        lines.append(f"output for the example input: {same}")
        return "\n".join(lines)


def required_inputs(layer: HalutLayer) -> Tensor:
    """Return which features of each group a layer looks at.

    Parameters
    ----------
    layer : HalutLayer

    Returns
    -------
    bool Tensor of shape (G, D)
    """
    return layer.features_read()


def required_channels(layer: HalutLayer) -> Tensor:
    """Return which input channels, or features of a linear layer, a layer looks at.

    Parameters
    ----------
    layer : HalutLayer

    Returns
    -------
    bool Tensor of shape (in_channels,) or (in_features,)
    """
    read = required_inputs(layer)
    if isinstance(layer, HalutConv2d):
        read = read.unflatten(1, (-1, math.prod(layer.kernel_size))).any(dim=2)
    return read.flatten()


@torch.no_grad()
def prune_(model: nn.Module, example_input: Tensor) -> PruneReport:
    """Drop the outputs of layers that none of the Halut layers behind them looks at, in place.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode; torch.fx must be able to trace it.
    example_input : Tensor
        An input, for shapes and for the comparison of outputs.

    Returns
    -------
    PruneReport

    Raises
    ------
    HalutError
        When the model is in training mode, cannot be traced, or no Halut layer reads another
        layer's output.
    """
    graph = Graph(model, example_input)
    before = output_of(model, example_input)
    rows = []
    for node in graph.nodes((HalutLayer, nn.Conv2d, nn.Linear)):
        chain = graph.chain(node)
        if any(path.consumer is not None for path in chain.paths):
            rows.append(_prune(chain, graph))
    if not rows:
        raise HalutError("model must have a Halut layer that reads another layer's output")
    return PruneReport(rows, torch.equal(before, model(example_input)))


@torch.no_grad()
def fit_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Shrink plain layers and batch norms to the outputs that a pruned network's state has.

    Parameters
    ----------
    model : torch.nn.Module
        A network of the same structure that was not pruned.
    state : mapping of str to Tensor
        The state of the pruned one.
    """
    for name, module in model.named_modules():
        plain = isinstance(module, (nn.Conv2d, nn.Linear))
        if not plain and not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        wanted = state.get(f"{name}.{'weight' if plain else 'running_mean'}")
        before = _outputs(module) if plain else module.num_features
        if wanted is None or wanted.ndim == 0 or not 0 < len(wanted) < before:
            continue
        keep = torch.arange(before) < len(wanted)
        if plain:
            _shrink_outputs(module, keep)
        else:
            _shrink_norm(module, keep)


def _prune(chain: Chain, graph: Graph) -> PruneRow:
    producer = chain.module
    n_outputs = _outputs(producer)
    consumers = tuple(str(path.end.target) for path in chain.paths if path.consumer is not None)
    reason = _why_not(chain, graph)
    keep = torch.zeros(n_outputs, dtype=torch.bool)
    if not reason:
        for path in chain.paths:
            keep[path.origin(n_outputs)[required_channels(_layer(path))]] = True
        if keep.all():
            reason = "every output is read"
        elif not _scales_stay(producer, keep):
            reason = "one scale for all tables would change (lut_granularity)"
    if reason:
        return PruneRow(chain.name, n_outputs, n_outputs, reason, consumers)

    shrunk = set()  # paths share the steps before they part
    for path in chain.paths:
        kept = keep
        for step in path.steps:
            kept = kept.repeat_interleave(step.repeat)
            if step.kind == "norm" and step.name not in shrunk:
                _shrink_norm(step.module, kept)
                shrunk.add(step.name)
        _shrink_inputs(_layer(path), kept)
    dropped = n_outputs - int(keep.sum())
    positions = math.prod(shape_of(chain.producer)[1:]) // n_outputs
    if isinstance(producer, HalutLayer):
        per_output = producer.n_codebooks * producer.n_prototypes
        row = PruneRow(
            chain.name,
            n_outputs,
            n_outputs - dropped,
            consumers=consumers,
            table_bytes=dropped * per_output * (producer.config.lut_bits or 32) // 8,
            look_ups=dropped * producer.n_codebooks * positions,
        )
    else:
        weights = producer.weight[0].numel()
        row = PruneRow(
            chain.name,
            n_outputs,
            n_outputs - dropped,
            consumers=consumers,
            table_bytes=dropped * weights * producer.weight.element_size(),
            macs=dropped * weights * positions,
        )
    _shrink_outputs(producer, keep)
    return row


def _layer(path: Path) -> HalutLayer:
    assert isinstance(path.consumer, HalutLayer)
    return path.consumer


def _outputs(module: Any) -> int:
    return int(module.out_channels if hasattr(module, "out_channels") else module.out_features)


def _why_not(chain: Chain, graph: Graph) -> str:
    if graph.calls[chain.name] > 1:
        return f"{chain.name} is called more than once"
    if chain.broken():
        return chain.broken()
    if getattr(chain.module, "groups", 1) > 1:
        return "it has groups"
    for path in chain.paths:
        if _layer(path).groups > 1:
            return f"{path.end.target} has groups"
        if _layer(path).config.encoder == "centroid":
            return f"{path.end.target} has no trees"
    return ""


def _scales_stay(producer: Any, keep: Tensor) -> bool:
    """Whether the outputs that remain are quantised as before."""
    if not isinstance(producer, HalutLayer) or producer.config.lut_bits is None:
        return True
    if producer.config.lut_granularity == "column":
        return True
    kept = keep.to(producer.lut.device)
    whole = quantize_tables(producer.lut, producer.config.lut_bits, "table")
    part = quantize_tables(producer.lut[:, kept], producer.config.lut_bits, "table")
    return torch.equal(whole[1][:, kept], part[1])


def _shrink_norm(norm: Any, keep: Tensor) -> None:
    for name in ("weight", "bias"):
        value = getattr(norm, name)
        if value is not None:
            setattr(norm, name, _chosen(value, keep))
    for name in ("running_mean", "running_var"):
        setattr(norm, name, getattr(norm, name)[keep.to(norm.running_mean.device)])
    norm.num_features = int(keep.sum())


def _chosen(parameter: nn.Parameter, keep: Tensor, axis: int = 0) -> nn.Parameter:
    index = keep.nonzero().flatten().to(parameter.device)
    chosen = parameter.detach().index_select(axis, index)
    return nn.Parameter(chosen, parameter.requires_grad)


def _shrink_inputs(layer: HalutLayer, keep: Tensor) -> None:
    """Renumber the features of a layer of one group whose input lost channels."""
    new = keep.cumsum(0) - 1
    area = 1
    if isinstance(layer, HalutConv2d):
        area = math.prod(layer.kernel_size)
        layer.in_channels = int(keep.sum())
        if layer.pad_value is not None:
            layer.pad_value = layer.pad_value[keep.to(layer.pad_value.device)]
    elif isinstance(layer, HalutLinear):
        layer.in_features = int(keep.sum())
    layer.n_features = area * int(keep.sum())
    dims = layer.split_dims
    new = new.to(dims.device)
    layer.split_dims = new[dims // area] * area + dims % area


def _shrink_outputs(producer: Any, keep: Tensor) -> None:
    kept = int(keep.sum())
    if isinstance(producer, HalutLayer):
        producer.lut = _chosen(producer.lut, keep, axis=1)
        producer.n_outputs = kept
    else:
        producer.weight = _chosen(producer.weight, keep)
    if producer.bias is not None:
        producer.bias = _chosen(producer.bias, keep)
    if hasattr(producer, "out_channels"):
        producer.out_channels = kept
    else:
        producer.out_features = kept
