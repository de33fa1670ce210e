"""The steps of a PyTorch network, found with torch.fx."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from halut.checks import located
from halut.errors import HalutError
from halut.nn.c_export.reference import fused
from halut.nn.c_export.steps import (
    Add,
    Affine,
    Clamp,
    LookUp,
    Maximum,
    Mean,
    Network,
    Product,
    Scaled,
    Shape,
    Stage,
    Step,
    Sums,
    Terms,
    Value,
    Window,
    Words,
)
from halut.nn.c_export.thresholds import threshold_keys
from halut.nn.chains import Graph, shape_of
from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear
from halut.nn.quantize import grid
from halut.program import Program

__all__ = ["trace"]

_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_PRODUCTS = (*_CONVOLUTIONS, nn.Linear)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d)
_MEANS = (nn.AvgPool1d, nn.AvgPool2d)
_ADAPTIVE_MAXIMA = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_ADAPTIVE_MEANS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_SIGNALS = (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d)
"""Modules of signals, which are images of height 1."""

_MAXIMUM = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEAN = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_ADAPTIVE = ("output_size", "return_indices")
_MODULES: dict[Any, tuple[Any, tuple[str, ...]]] = {
    functional.relu6: (nn.ReLU6, ("inplace",)),
    functional.hardtanh: (nn.Hardtanh, ("min_val", "max_val", "inplace")),
    torch.max_pool1d: (nn.MaxPool1d, _MAXIMUM),
    torch.max_pool2d: (nn.MaxPool2d, _MAXIMUM),
    functional.max_pool1d: (nn.MaxPool1d, _MAXIMUM),
    functional.max_pool2d: (nn.MaxPool2d, _MAXIMUM),
    functional.avg_pool1d: (nn.AvgPool1d, _MEAN),
    functional.avg_pool2d: (nn.AvgPool2d, _MEAN),
    functional.adaptive_max_pool1d: (nn.AdaptiveMaxPool1d, _ADAPTIVE),
    functional.adaptive_max_pool2d: (nn.AdaptiveMaxPool2d, _ADAPTIVE),
    functional.adaptive_avg_pool1d: (nn.AdaptiveAvgPool1d, _ADAPTIVE),
    functional.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, _ADAPTIVE),
}
"""Functions, the modules that they are, and the names of their arguments behind the input."""

_DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d)
_RESHAPES = (
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.select,
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "select",
)  # fmt: skip

_MIXING = (nn.Linear, HalutLinear)
_LARGEST_KERNEL = 256  # positions: their number is a byte


def trace(model: nn.Module, example_input: Tensor) -> tuple[Network, fx.Graph]:
    """Describe a network as steps.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, on the CPU, of float32. Converted layers must be exact, with tables of
        integers.
    example_input : float32 Tensor of shape (n, ...)
        Fixes the shapes of one item.

    Returns
    -------
    network : Network
        Every value has the name of its node in the graph.
    graph : torch.fx.Graph

    Raises
    ------
    HalutError
        When an operation has no counterpart in C, or torch.fx cannot trace the model.
    """
    graph = Graph(model, example_input)
    tracer = _Tracer(graph)
    with torch.no_grad():
        for node in graph.graph.nodes:
            with located(_where(node)):
                tracer.visit(node)
    if tracer.network is None or not tracer.network.steps:
        raise HalutError("network must have at least one layer, not none")
    return tracer.network, graph.graph


def _where(node: fx.Node) -> str:
    return f"{node.target}" if node.op == "call_module" else f"{node.name}"


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    """Return an argument of a call, by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    both = value if isinstance(value, (tuple, list)) else (value, value)
    return int(both[0]), int(both[-1])


def _image(shape: tuple[int, ...]) -> Shape:
    """Return (height, width, channels) of a tensor's shape."""
    if len(shape) == 4:
        return shape[2], shape[3], shape[1]
    if len(shape) == 3:
        return 1, shape[2], shape[1]
    if len(shape) == 2:
        return 1, 1, shape[1]
    raise HalutError(
        "values must have shape (n, features), (n, channels, length) or "
        f"(n, channels, height, width) in C, not {shape}"
    )


class _Tracer:
    """Visits the nodes of a graph in order and makes their steps."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[fx.Node, Value] = {}
        self.network: Network | None = None

    def visit(self, node: fx.Node) -> None:
        """Make the step of a node."""
        if node.op == "placeholder":
            if self.network is not None:
                raise HalutError("network must have one input in C, not several")
            value = Value(node.name, _image(shape_of(node)))
            self.network = Network(value, [])
            self.values[node] = value
        elif node.op == "output":
            (result,) = node.args
            if not isinstance(result, fx.Node):
                raise HalutError("network must return one tensor in C, not several")
            self._end(self.values[result])
        elif node.op == "call_module":
            self._module(node, self.graph.module(node))
        elif "tensor_meta" in node.meta:
            self._function(node)
        # What else a model computes from shapes, its other operations have as arguments.

    # What calls are.

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        source = self._source(node)
        if isinstance(module, HalutLayer):
            self._look_up(node, source, module)
        elif isinstance(module, _PRODUCTS) and type(module) in _PRODUCTS:
            self._product(node, source, module)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self._norm(node, source, module)
        elif type(module) is nn.ReLU:
            self._clamp(node, source, 0.0, None)
        elif isinstance(module, nn.Hardtanh):  # ReLU6, too
            self._clamp(node, source, float(module.min_val), float(module.max_val))
        elif getattr(module, "return_indices", False):
            raise HalutError("return_indices must be False in C, not True")
        elif type(module) in _MAXIMA:
            window = Window(
                kernel=_sizes(module, "kernel_size"),
                stride=_sizes(module, "stride"),
                dilation=_sizes(module, "dilation"),
                padding=_sizes(module, "padding"),
            )
            self._maximum(node, source, window)
        elif type(module) in _MEANS:
            divisor = getattr(module, "divisor_override", None)
            if module.ceil_mode or any(_sizes(module, "padding")) or divisor:
                raise HalutError("average pooling must be without padding and ceil_mode in C")
            self._mean(
                node, source, Window(_sizes(module, "kernel_size"), _sizes(module, "stride"))
            )
        elif type(module) in (*_ADAPTIVE_MEANS, *_ADAPTIVE_MAXIMA):
            make = self._mean if type(module) in _ADAPTIVE_MEANS else self._maximum
            make(node, source, _adaptive(source.shape, _image(shape_of(node))))
        elif type(module) is nn.Flatten:
            self._reshape(node, source)
        elif isinstance(module, _SAME):
            self.values[node] = source
        else:
            raise HalutError(f"module must be one that C knows, not {type(module).__name__}")

    def _function(self, node: fx.Node) -> None:
        called: Any = node.target
        if called in (operator.add, operator.iadd, torch.add, "add", "add_"):
            self._addition(node)
            return
        if called in (torch.relu, functional.relu, "relu", "relu_"):
            self._clamp(node, self._source(node), 0.0, None)
        elif called in _RESHAPES:
            self._reshape(node, self._source(node))
        elif called in (torch.mean, "mean"):
            self._average(node, self._source(node))
        elif called in _DROPOUTS:
            if _argument(node, 2, "training", True):
                raise HalutError("dropout must be off in evaluation (training=self.training)")
            self.values[node] = self._source(node)
        elif called in _MODULES:
            self._source(node)  # or the error that there is not one
            made, names = _MODULES[called]
            settings = dict(zip(names, node.args[1:], strict=False)) | node.kwargs
            self._module(node, made(**settings))
        else:
            raise HalutError(f"function must be one that C knows, not {node.name}")

    # What makes a step.

    def _source(self, node: fx.Node) -> Value:
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node) or len(self._tensors(node)) != 1:
            raise HalutError("operation must read one value in C")
        return self.values[first]

    @staticmethod
    def _tensors(node: fx.Node) -> list[fx.Node]:
        """Return what a node reads but for sizes, which an example has fixed."""
        return [one for one in node.all_input_nodes if "tensor_meta" in one.meta]

    def _value(self, node: fx.Node, kind: str | None = None) -> Value:
        """Return what a node makes; value by value it is of the kind of what it reads."""
        source = self.values[self._tensors(node)[0]]
        shape = _image(shape_of(node))
        by_value = type(self.graph.module(node)) not in _MIXING
        places = source.places if by_value and shape == source.shape else None
        return Value(node.name, shape, kind or source.kind, places)

    def _add(self, step: Step, node: fx.Node) -> None:
        assert self.network is not None
        self.network.steps.append(step)
        self.values[node] = step.output

    def _end(self, result: Value) -> None:
        network = self.network
        assert network is not None
        if network.steps and result is not network.output:
            raise HalutError("network must return what its last operation makes")
        if result.kind != "f32":
            raise HalutError("network must return floats, not accumulators")

    def _look_up(self, node: fx.Node, source: Value, layer: HalutLayer) -> None:
        layer.check_exact()
        for name, wanted in (("lut_format", "int"), ("overflow", None)):
            if getattr(layer.config, name) != wanted:
                raise HalutError(f"{name} must be {wanted} in C, not {getattr(layer.config, name)}")
        if layer.config.output_format == "fp16":
            raise HalutError("output_format must be raw or int8 in C, not fp16")
        if isinstance(layer, HalutLinear):
            self._rows(node)
        window = _window_of(layer) if isinstance(layer, HalutConv2d) else Window()
        integers = layer.input_bits > 0
        if integers != (source.kind != "f32"):
            raise HalutError(
                "integer inputs must come from a layer with raw outputs, and go to one"
            )
        programs = layer.programs()
        terms = None
        if layer.signs is not None:
            terms = _terms(layer, programs)
            thresholds = np.stack([one.thresholds.astype(np.int64) for one in programs])
        elif integers:
            thresholds = np.stack([one.thresholds.astype(np.int64) for one in programs])
        else:
            thresholds = np.stack([threshold_keys(one) for one in programs])
        dims = layer.read.cpu().numpy()  # (G, C, T), or all terms, or all nodes
        is_image = isinstance(layer, HalutConv2d)
        tap, channel = _placed(dims, source, layer.groups, window, is_image)
        if terms is not None:
            tap, channel = tap.reshape(terms.signs.shape), channel.reshape(terms.signs.shape)
        pad = getattr(layer, "pad_value", None)
        table = np.stack([one.lut.transpose(1, 2, 0).astype(np.int64) for one in programs])
        output = self._value(node, _narrowest(table) if layer.raw_output else "f32")
        self._add(
            LookUp(
                inputs=[source],
                output=output,
                window=window,
                tap=tap,
                channel=channel,
                thresholds=thresholds,
                pad=None if pad is None else pad.cpu().numpy().astype(np.int64),
                table=table,
                lut_bits=int(layer.config.lut_bits or 0),
                stage=_stage(layer, programs),
                terms=terms,
            ),
            node,
        )

    def _product(
        self, node: fx.Node, source: Value, module: nn.Conv1d | nn.Conv2d | nn.Linear
    ) -> None:
        self._floats(source)
        weight = module.weight.detach().cpu().numpy().astype(np.float32)
        window = Window()
        groups = 1
        if isinstance(module, _CONVOLUTIONS):
            window, groups = _window_of(module), module.groups
            # (G, M, positions, channels), the channels last.
            by_group = weight.reshape(groups, -1, weight.shape[1], math.prod(window.kernel))
            weights = np.ascontiguousarray(by_group.transpose(0, 1, 3, 2))
        else:
            self._rows(node)
            weights = np.zeros_like(weight)
            weights[:, _places(source)] = weight
        self._add(
            Product(
                inputs=[source],
                output=self._value(node),
                window=window,
                weights=weights.reshape(groups, weight.shape[0] // groups, -1),
                bias=None if module.bias is None else module.bias.detach().cpu().numpy(),
            ),
            node,
        )

    def _norm(self, node: fx.Node, source: Value, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        self._floats(source)
        if norm.running_mean is None or norm.running_var is None:
            raise HalutError("batch norm must have running statistics in C")
        n = norm.num_features

        def evaluated(rows: Tensor, mean: Tensor | None, bias: Tensor | None) -> Tensor:
            average = torch.zeros(n) if mean is None else mean
            return functional.batch_norm(
                rows, average, norm.running_var, norm.weight, bias, False, 0.0, norm.eps
            )

        # By PyTorch itself: value * scale + offset, rounded once where the processor can.
        scale = evaluated(torch.ones(1, n), None, None)[0].numpy()
        offset = evaluated(torch.zeros(1, n), norm.running_mean, norm.bias)[0].numpy()
        probes = torch.randn((64, n), generator=torch.Generator().manual_seed(0))
        wanted = evaluated(probes, norm.running_mean, norm.bias).numpy()
        once = np.array_equal(fused(probes.numpy(), scale, offset), wanted)
        placed = [_by_channel(part, source) for part in (scale, offset)]
        output = self._value(node)
        self._add(
            Affine(inputs=[source], output=output, scale=placed[0], offset=placed[1], fused=once),
            node,
        )

    def _clamp(self, node: fx.Node, source: Value, low: float, high: float | None) -> None:
        self._floats(source)
        self._add(Clamp(inputs=[source], output=self._value(node), low=low, high=high), node)

    def _maximum(self, node: fx.Node, source: Value, window: Window) -> None:
        self._add(Maximum(inputs=[source], output=self._value(node), window=window), node)

    def _mean(self, node: fx.Node, source: Value, window: Window) -> None:
        self._floats(source)
        self._add(Mean(inputs=[source], output=self._value(node), window=window), node)

    def _addition(self, node: fx.Node) -> None:
        nodes = [one for one in node.args if isinstance(one, fx.Node)]
        if len(nodes) != 2 or len(node.args) != 2 or node.kwargs:
            raise HalutError("addition must be of two values in C")
        sources = [self.values[one] for one in nodes]
        for source in sources:
            self._floats(source)
        if sources[0].shape != sources[1].shape:
            raise HalutError("addition must be of values of one shape in C")
        self._add(Add(inputs=sources, output=self._value(node)), node)

    def _average(self, node: fx.Node, source: Value) -> None:
        """The mean over all positions."""
        n_axes = len(shape_of(self._tensors(node)[0]))
        axes = _argument(node, 1, "dim", None)
        axes = [axes] if isinstance(axes, int) else axes or []
        if sorted(axis % n_axes for axis in axes) != list(range(2, n_axes)) or n_axes == 2:
            raise HalutError("mean must be of all positions of each channel in C")
        whole = source.shape[:2]
        self._mean(node, source, Window(whole, whole))

    def _reshape(self, node: fx.Node, source: Value) -> None:
        """The same values in the same order, with other axes."""
        shape = shape_of(node)
        if math.prod(shape[1:]) != source.size:
            raise HalutError("reshaping must keep all values of each item in C")
        image, is_row = _image(shape), len(shape) == 2
        if image == source.shape and (is_row or source.places is None):
            self.values[node] = source
            return
        if not is_row:
            self._with_unit_axes(node, source, image)
            return
        height, width, channels = source.shape
        places = np.arange(source.size).reshape(height, width, channels).transpose(2, 0, 1)
        self.values[node] = Value(
            node.name, (1, 1, source.size), source.kind, places.ravel(), base=source
        )

    def _with_unit_axes(self, node: fx.Node, source: Value, image: Shape) -> None:
        """Another shape in which the values lie as they do."""
        order = np.arange(source.size)
        before, after = (
            order.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)
            for shape in (source.shape, image)
        )
        if source.places is not None or not np.array_equal(before.ravel(), after.ravel()):
            raise HalutError("reshaping must make rows of features, or add axes of size 1, in C")
        self.values[node] = Value(node.name, image, source.kind, base=source)

    def _rows(self, node: fx.Node) -> None:
        if len(shape_of(self._tensors(node)[0])) != 2:
            raise HalutError("linear layer must read rows of features in C (flatten)")

    @staticmethod
    def _floats(source: Value) -> None:
        if source.kind != "f32":
            raise HalutError("operation must read floats, not accumulators")


def _sizes(module: Any, name: str) -> tuple[int, int]:
    """Return a setting of a window for rows and columns."""
    value = getattr(module, name)
    if not isinstance(module, _SIGNALS):
        return _pair(value)
    return 0 if name == "padding" else 1, _pair(value)[-1]


def _window_of(module: nn.Conv1d | nn.Conv2d | HalutConv2d) -> Window:
    if module.padding_mode != "zeros" and module.padding not in (0, (0,), (0, 0), "valid"):
        raise HalutError(f'padding_mode must be "zeros" in C, not {module.padding_mode!r}')
    kernel, stride, dilation = (
        _sizes(module, name) for name in ("kernel_size", "stride", "dilation")
    )
    if module.padding == "valid":
        padding = (0, 0)
    elif module.padding == "same":
        padding = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    else:
        padding = _sizes(module, "padding")
    return Window(kernel, stride, dilation, padding)


def _adaptive(source: Shape, out: Shape) -> Window:
    """Return the window of adaptive pooling, where all windows have one size."""
    if source[0] % out[0] or source[1] % out[1]:
        raise HalutError(f"adaptive pooling must divide {source[:2]} evenly in C, not to {out[:2]}")
    size = source[0] // out[0], source[1] // out[1]
    return Window(size, size)


def _places(source: Value) -> NDArray[np.intp]:
    """Return where the features of rows lie."""
    return np.arange(source.size) if source.places is None else source.places


def _placed(
    dims: NDArray[np.int64], source: Value, groups: int, window: Window, is_image: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return kernel position and channel of split dimensions (G, C, T)."""
    if not is_image:
        return np.zeros_like(dims), _places(source)[dims]
    area = math.prod(window.kernel)
    if area > _LARGEST_KERNEL:
        raise HalutError(f"kernel must have at most {_LARGEST_KERNEL} positions in C, not {area}")
    first = np.arange(groups)[:, None, None] * (source.shape[2] // groups)
    return dims % area, dims // area + first


def _terms(layer: HalutLayer, programs: list[Program]) -> Terms:
    """Return how the levels of a layer make sums."""
    assert layer.signs is not None
    scale, offset = (
        np.stack([getattr(one, name) for one in programs])
        for name in ("input_scale", "input_offset")
    )
    signs = layer.signs.cpu().numpy().astype(np.int64)
    return Terms(signs=signs, scale=scale, offset=offset, bits=programs[0].input_bits)


def _by_channel(parameter: NDArray[np.float32], source: Value) -> NDArray[np.float32]:
    """Return a parameter of every channel, or feature, as they lie in memory."""
    if source.places is None:
        return parameter
    placed = np.empty_like(parameter)
    placed[source.places] = parameter
    return placed


def _stage(layer: HalutLayer, programs: list[Program]) -> Stage:
    relu = layer.config.relu
    if layer.raw_output:
        return Sums(relu)
    if layer.config.output_format == "raw":
        scale, offset = (
            np.concatenate([getattr(one, name) for one in programs])
            for name in ("lut_scale", "lut_offset")
        )
        return Scaled(scale, offset, relu)
    constants = {
        name: np.concatenate([one.output.constants[name] for one in programs]).astype(np.int64)
        for name in ("multiplier", "shift", "addend", "zero")
    }
    zero = constants.pop("zero")
    low = zero if relu else np.full_like(zero, -128)
    assert layer.output_range is not None
    steps = grid(layer.output_range, relu).tolist()
    return Words(**constants, low=low, grid=(steps[0], steps[1]))


def _narrowest(table: NDArray[np.int64]) -> str:
    """Return the narrowest kind that holds all sums of entries."""
    low, high = table.min(axis=2).sum(axis=1).min(), table.max(axis=2).sum(axis=1).max()
    for kind, bits in (("i8", 8), ("i16", 16)):
        if low >= -(2 ** (bits - 1)) and high < 2 ** (bits - 1):
            return kind
    return "i32"
