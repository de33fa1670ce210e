"""What lies between a layer and the layers that read its output, found with torch.fx.

From a layer's output, a chain runs through operations that treat every channel for itself (batch
norm, activations, pooling, dropout, flattening) to the layers that read it. Everything else, such
as a residual addition, ends the chain and is named as the reason.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from halut.errors import HalutError
from halut.nn.layers import HalutLayer, HalutLinear
from halut.nn.replace import as_written

__all__ = ["Chain", "Graph", "Path", "Step", "shape_of"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_INCREASING = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
_ELEMENTWISE = (nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh,
                nn.ELU, nn.Softplus, nn.Mish)  # fmt: skip
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_MEANS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)

_FUNCTIONS: dict[Any, str] = {
    torch.relu: "activation",
    functional.relu: "activation",
    functional.relu6: "activation",
    "relu": "activation",
    functional.gelu: "elementwise",
    functional.silu: "elementwise",
    functional.hardswish: "elementwise",
    functional.max_pool2d: "max",
    torch.max_pool2d: "max",
    functional.adaptive_max_pool2d: "max",
    functional.avg_pool2d: "mean",
    functional.adaptive_avg_pool2d: "mean",
    torch.flatten: "flatten",
    "flatten": "flatten",
}


@dataclass(frozen=True)
class Step:
    """One operation of a chain.

    Attributes
    ----------
    node : torch.fx.Node
    kind : str
        "norm", "activation" (increasing), "elementwise", "max", "mean", "same" or "flatten".
    module : torch.nn.Module or None
        None when the step is a function.
    repeat : int
        Features that each channel becomes; 1 but for "flatten".
    """

    node: fx.Node
    kind: str
    module: Any
    repeat: int = 1

    @property
    def name(self) -> str:
        """What the step is called in a report."""
        return str(self.node.target) if self.module is not None else self.node.name


@dataclass(frozen=True)
class Path:
    """A way from a layer's output to a layer that reads it, or to what ends the chain.

    Attributes
    ----------
    steps : tuple of Step
    end : torch.fx.Node
    consumer : torch.nn.Module or None
        The module at the end, when it is one that was looked for.
    reason : str
        Why the chain ends when `consumer` is None.
    """

    steps: tuple[Step, ...]
    end: fx.Node
    consumer: nn.Module | None
    reason: str = ""

    def origin(self, n_channels: int) -> Tensor:
        """Return which channel each feature at the end comes from, int64."""
        channel = torch.arange(n_channels)
        for step in self.steps:
            channel = channel.repeat_interleave(step.repeat)
        return channel


@dataclass(frozen=True)
class Chain:
    """A layer's output and everything that reads it.

    Attributes
    ----------
    producer : torch.fx.Node
    module : torch.nn.Module
        The layer.
    paths : list of Path
        One for each reader; readers are reached through their own steps.
    """

    producer: fx.Node
    module: Any
    paths: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The producer's name in the model."""
        return str(self.producer.target)

    def broken(self) -> str:
        """Return why not all readers are layers, or an empty string."""
        for path in self.paths:
            if path.consumer is None:
                return path.reason
        return "" if self.paths else "nothing reads its output"


class Graph:
    """A traced model with the shape of every value.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode.
    example_input : Tensor
        What the model takes, of any batch size.

    Raises
    ------
    HalutError
        When the model is in training mode, torch.fx cannot trace it, or the input is empty.
    """

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        if not isinstance(model, nn.Module):
            raise HalutError(f"model must be an nn.Module, not {type(model).__name__}")
        model = as_written(model)
        if not isinstance(example_input, Tensor) or not example_input.numel():
            raise HalutError("example_input must be a tensor of at least one item")
        if model.training:
            raise HalutError("model must be in eval mode, not in training mode (model.eval())")
        tracer = fx.Tracer()
        try:
            self.graph = tracer.trace(model)
            ShapeProp(fx.GraphModule(model, self.graph)).propagate(example_input)
        except HalutError:
            raise
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise HalutError(
                f"model must be one that torch.fx can trace, not {type(model).__name__}: {first}"
            ) from error
        self.model = model
        self.modules = dict(model.named_modules())
        self.calls = Counter(
            str(node.target) for node in self.graph.nodes if node.op == "call_module"
        )

    def module(self, node: fx.Node) -> Any:
        """Return the module that a node calls, if it calls one."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def nodes(self, kinds: type | tuple[type, ...]) -> list[fx.Node]:
        """Return the nodes that call a module of some classes, in forward order."""
        return [node for node in self.graph.nodes if isinstance(self.module(node), kinds)]

    def chain(self, node: fx.Node) -> Chain:
        """Follow a layer's output to everything that reads it."""
        module = self.module(node)
        assert module is not None
        chain = Chain(node, module)
        # The axis of channels: the last one behind linear layers, else that of images.
        n_axes = len(shape_of(node))
        self._follow(chain, node, (), 1 if n_axes == 4 and not _linear(module) else n_axes - 1)
        return chain

    def _follow(self, chain: Chain, node: fx.Node, steps: tuple[Step, ...], axis: int) -> None:
        for user in node.users:
            module = self.module(user)
            if isinstance(module, HalutLayer):
                reason = self._refused(user)
                expected = len(shape_of(node)) - 1 if _linear(module) else 1
                if not reason and axis != expected:
                    reason = f"{user.target} reads another axis than the channels"
                chain.paths.append(Path(steps, user, None if reason else module, reason))
                continue
            kind = self._kind(user, module)
            step, reason = None, self._refused(user)
            if kind and not reason:
                step, reason = self._step(user, kind, module, node, axis)
            if step is None:
                reason = reason or f"{_words(user)} ends the chain"
                chain.paths.append(Path(steps, user, None, reason))
            else:
                self._follow(chain, user, (*steps, step), axis)

    def _refused(self, node: fx.Node) -> str:
        if node.op == "call_module" and self.calls[str(node.target)] > 1:
            return f"{node.target} is called more than once"
        if len(node.all_input_nodes) > 1:
            return f"{_words(node)} ends the chain"
        return ""

    @staticmethod
    def _kind(node: fx.Node, module: nn.Module | None) -> str:
        if module is not None:
            for kind, classes in (("norm", _NORMS), ("activation", _INCREASING), ("max", _MAXIMA),
                                  ("mean", _MEANS), ("same", _SAME), ("flatten", (nn.Flatten,)),
                                  ("elementwise", _ELEMENTWISE)):  # fmt: skip
                if isinstance(module, classes):
                    return kind
            return ""
        if node.op in ("call_function", "call_method"):
            return _FUNCTIONS.get(node.target, "")
        return ""

    def _step(
        self, node: fx.Node, kind: str, module: nn.Module | None, before: fx.Node, axis: int
    ) -> tuple[Step | None, str]:
        try:
            shape, after = shape_of(before), shape_of(node)
        except KeyError:
            return None, f"{_words(node)} does not return one tensor"
        if kind in ("norm", "max", "mean") and (axis != 1 or shape[:2] != after[:2]):
            return None, f"{_words(node)} does not work channel by channel"
        if kind == "norm":
            assert isinstance(module, _NORMS)
            if module.running_mean is None:
                return None, f"{node.target} has no running statistics"
            if before.meta["tensor_meta"].memory_format is None:
                return None, f"{node.target} rounds by the layout of its input, not contiguous"
        if kind == "flatten":
            if axis != 1 or len(after) != 2 or after[0] != shape[0]:
                return None, f"{_words(node)} does not flatten each item to one row"
            return Step(node, kind, module, after[1] // shape[1]), ""
        return Step(node, kind, module), ""

    def between(self) -> list[fx.Node]:
        """Return the calls of Halut layers whose input depends on another Halut layer."""
        behind: dict[fx.Node, bool] = {}
        found = []
        for node in self.graph.nodes:
            halut = isinstance(self.module(node), HalutLayer)
            depends = any(behind[source] for source in node.all_input_nodes)
            behind[node] = halut or depends
            if halut and depends:
                found.append(node)
        return found


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value."""
    return tuple(node.meta["tensor_meta"].shape)


def _linear(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, HalutLinear))


def _words(node: fx.Node) -> str:
    """Name a node as a user knows it."""
    if node.op == "output":
        return "the model's output"
    if node.op == "call_module":
        return str(node.target)
    if node.target in (operator.add, operator.iadd, torch.add):
        return "an addition"
    if node.target in (torch.cat, torch.concat):
        return "a concatenation"
    return f"the function {node.name}"
