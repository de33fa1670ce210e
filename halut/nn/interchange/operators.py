"""ONNX's operators as functions of torch; some are modules instead, see `onnx_network`.

A function takes the node's attributes and its inputs, None for those that are absent, and returns
one output or a tuple of outputs. What they compute is defined by the ONNX operator specification
(https://onnx.ai/onnx/operators); default attributes are those of operator set 13 and later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from halut.errors import HalutError

__all__ = ["DTYPES", "OPERATORS", "pad_sides", "spatial_padding"]

Attributes = dict[str, Any]
Operator = Callable[..., Any]

DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""Dtypes by the numbers of ``onnx.TensorProto.DataType``."""


def _ints(value: Tensor | None) -> list[int]:
    return [] if value is None else [int(one) for one in value.reshape(-1).tolist()]


def _of_one(function: Operator) -> Operator:
    return lambda _, x: function(x)


def _of_two(function: Operator) -> Operator:
    return lambda _, a, b: function(a, b)


def _of_many(function: Operator) -> Operator:
    def fold(_: Attributes, *given: Tensor) -> Tensor:
        found = given[0]
        for one in given[1:]:
            found = function(found, one)
        return found

    return fold


def _divide(_: Attributes, a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _modulo(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if attributes.get("fmod") else torch.remainder(a, b)


def _clip(attributes: Attributes, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low = attributes.get("min") if low is None else low.item()
    high = attributes.get("max") if high is None else high.item()
    return x if low is None and high is None else x.clamp(low, high)


def _gelu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=attributes.get("approximate", "none"))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = attributes.get("axes") or _ints(axes)
        if not chosen:
            if attributes.get("noop_with_empty_axes"):
                return x
            chosen = list(range(x.ndim))
        return function(x, chosen, bool(attributes.get("keepdims", 1)))

    return reduce


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(function: Callable[..., Tensor]) -> Operator:
    def place(attributes: Attributes, x: Tensor) -> Tensor:
        axis = attributes.get("axis", 0)
        keep = bool(attributes.get("keepdims", 1))
        if attributes.get("select_last_index"):
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
        return function(x, axis, keepdim=keep)

    return place


def _cast(attributes: Attributes, x: Tensor) -> Tensor:
    number = attributes["to"]
    if number not in DTYPES:
        raise HalutError(f"Cast must be to a dtype of torch, not {number}")
    return x.to(DTYPES[number])


def _matrix_product(attributes: Attributes, a: Tensor, b: Tensor, c: Any = None) -> Tensor:
    """Gemm."""
    a = a.t() if attributes.get("transA") else a
    b = b.t() if attributes.get("transB") else b
    found = attributes.get("alpha", 1.0) * (a @ b)
    return found if c is None else found + attributes.get("beta", 1.0) * c


# Shapes


def _reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _ints(shape)
    if not attributes.get("allowzero"):
        sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    return x.reshape(tuple(sizes))


def _flatten(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    # Not -1: a batch may be empty.
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(attributes: Attributes, x: Tensor) -> Tensor:
    return x.permute(attributes.get("perm") or list(range(x.ndim))[::-1])


def _squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = attributes.get("axes") or _ints(axes)
    return x.squeeze(tuple(chosen)) if chosen else x.squeeze()


def _unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = attributes.get("axes") or _ints(axes)
    n_dims = x.ndim + len(chosen)
    for axis in sorted(axis % n_dims for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _concatenate(attributes: Attributes, *given: Tensor) -> Tensor:
    return torch.cat(given, attributes["axis"])


def _split(attributes: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    given = attributes.get("split") or _ints(sizes)
    if given:
        return x.split(given, axis)
    parts = int(attributes.get("num_outputs") or attributes["_outputs"])
    return x.split(-(-x.shape[axis] // parts), axis)


def _slice(attributes: Attributes, x: Tensor, *given: Tensor | None) -> Tensor:
    if given:
        starts, ends, axes, steps = (_ints(one) for one in (*given, None, None)[:4])
    else:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes", []), []
    axes = axes or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
        else:  # torch's slices go forward only
            places = range(x.shape[axis])[start:end:step]
            x = x.index_select(axis, torch.tensor(list(places), device=x.device))
    return x


def _gather(attributes: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % x.ndim
    flat = places.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    found = x.index_select(axis, flat)
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _gather_elements(attributes: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = attributes.get("axis", 0)
    return x.gather(axis, torch.where(places < 0, places + x.shape[axis], places))


def _expand(_: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = _ints(shape)
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(sizes)))


def _constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    value = attributes.get("value", torch.zeros(1))
    return torch.full(_ints(shape), value.item(), dtype=value.dtype, device=shape.device)


def _shape(attributes: Attributes, x: Tensor) -> Tensor:
    sizes = list(x.shape)[attributes.get("start", 0) : attributes.get("end")]
    return torch.tensor(sizes, dtype=torch.int64)


def _range(_: Attributes, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _trilu(attributes: Attributes, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return x.triu(diagonal) if attributes.get("upper", 1) else x.tril(diagonal)


def _top(attributes: Attributes, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    found = x.topk(int(k), attributes.get("axis", -1), bool(attributes.get("largest", 1)))
    return found.values, found.indices


# Windows, norms and images


def pad_sides(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return sides as `torch.nn.functional.pad` takes them: the last axis first."""
    return [
        side for low, high in zip(begins[::-1], ends[::-1], strict=True) for side in (low, high)
    ]


def spatial_padding(
    attributes: Attributes, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the zeros before and after each axis of an image, as ``pads`` or ``auto_pad`` say."""
    n_axes = len(kernel)
    how = attributes.get("auto_pad", "NOTSET")
    if how in ("NOTSET", "VALID"):
        pads = attributes.get("pads") if how == "NOTSET" else None
        pads = pads or [0] * (2 * n_axes)
        return list(pads[:n_axes]), list(pads[n_axes:])
    strides = attributes.get("strides", [1] * n_axes)
    dilations = attributes.get("dilations", [1] * n_axes)
    total = [
        max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        for size, stride, width, dilation in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    less, more = [one // 2 for one in total], [one - one // 2 for one in total]
    return (less, more) if how == "SAME_UPPER" else (more, less)


_MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEAN_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def _ceiling(
    attributes: Attributes, sizes: Sequence[int], after: Sequence[int], kernel: list[int]
) -> list[int]:
    """Return the values after the end that rounding the output's size up needs.

    `sizes` are those of padded images, `after` their zeros after the end, where no window begins.
    """
    n_axes = len(kernel)
    strides = attributes.get("strides", [1] * n_axes)
    dilations = attributes.get("dilations", [1] * n_axes)
    more = []
    for size, high, stride, width, dilation in zip(
        sizes, after, strides, kernel, dilations, strict=True
    ):
        free = size - (width - 1) * dilation - 1
        begin = -(-free // stride) * stride  # of the last window
        more.append(begin - free if begin < size - high else 0)
    return more


def _pool(attributes: Attributes, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
    """Return padded images, and the kernel."""
    kernel = attributes["kernel_shape"]
    low, high = spatial_padding(attributes, x.shape[2:], kernel)
    if attributes.get("ceil_mode"):
        padded = [size + a + b for size, a, b in zip(x.shape[2:], low, high, strict=True)]
        more = _ceiling(attributes, padded, high, kernel)
        high = [a + b for a, b in zip(high, more, strict=True)]
    return functional.pad(x, pad_sides(low, high), value=value), kernel


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    padded, kernel = _pool(attributes, x, -math.inf)
    strides = attributes.get("strides", [1] * len(kernel))
    dilations = attributes.get("dilations", [1] * len(kernel))
    pool: Any = _MAX_POOLS[len(kernel) - 1]
    return torch.as_tensor(pool(padded, kernel, strides, 0, dilations))


def _mean_pool(attributes: Attributes, x: Tensor) -> Tensor:
    padded, kernel = _pool(attributes, x, 0.0)
    strides = attributes.get("strides", [1] * len(kernel))
    pool: Any = _MEAN_POOLS[len(kernel) - 1]
    found = torch.as_tensor(pool(padded, kernel, strides))
    if attributes.get("count_include_pad") and not attributes.get("ceil_mode"):
        return found
    counted = torch.ones_like(x[:1, :1])
    if attributes.get("count_include_pad"):  # what rounding up added does not count
        low, high = spatial_padding(attributes, x.shape[2:], kernel)
        counted = functional.pad(counted, pad_sides(low, high), value=1.0)
        without = {k: v for k, v in attributes.items() if k not in ("pads", "auto_pad")}
        counted, _ = _pool(without, counted, 0.0)
    else:
        counted, _ = _pool(attributes, counted, 0.0)
    return found / torch.as_tensor(pool(counted, kernel, strides))


def _all_of_an_image(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _layer_norm(
    attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    axis = attributes.get("axis", -1) % x.ndim
    shape = x.shape[axis:]
    bias = None if bias is None else bias.expand(shape)
    return functional.layer_norm(
        x, shape, scale.expand(shape), bias, attributes.get("epsilon", 1e-5)
    )


def _instance_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _group_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = attributes["num_groups"]
    if len(scale) == groups != x.shape[1]:
        scale, bias = (one.repeat_interleave(x.shape[1] // groups) for one in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, attributes.get("epsilon", 1e-5))


def _pad(
    attributes: Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    given = attributes.get("pads") or _ints(pads)
    chosen = [axis % x.ndim for axis in _ints(axes)] or list(range(x.ndim))
    low, high = [0] * x.ndim, [0] * x.ndim
    for k, axis in enumerate(chosen):
        low[axis], high[axis] = given[k], given[k + len(chosen)]
    mode = attributes.get("mode", "constant")
    if mode == "constant":
        filler = attributes.get("value", 0.0) if value is None else value.item()
        return functional.pad(x, pad_sides(low, high), value=filler)
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if any(low[:2]) or any(high[:2]):
        raise HalutError(f"Pad must keep batch and channels in mode {mode}")
    return functional.pad(x, pad_sides(low[2:], high[2:]), mode=modes[mode])


def _resize(
    attributes: Attributes, x: Tensor, _roi: Any = None, scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    mode = attributes.get("mode", "nearest")
    places = attributes.get("coordinate_transformation_mode", "half_pixel")
    wanted = _ints(sizes)
    if not wanted:
        assert scales is not None
        wanted = [int(size * scale) for size, scale in zip(x.shape, scales.tolist(), strict=True)]
    if wanted[:2] != list(x.shape[:2]):
        raise HalutError("Resize must keep batch and channels")
    if mode == "nearest" and all(b % a == 0 for a, b in zip(x.shape[2:], wanted[2:], strict=True)):
        return functional.interpolate(x, wanted[2:])
    known = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
    if mode != "linear" or places not in known or x.ndim not in (3, 4, 5):
        raise HalutError(f"Resize must be linear, or nearest by whole factors, not {mode} {places}")
    name = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    return functional.interpolate(x, wanted[2:], mode=name, align_corners=known[places])


def _depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    size = attributes["blocksize"]
    inner = channels // size**2
    if attributes.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, size)
    parts = x.reshape(n, size, size, inner, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, inner, height * size, width * size)


def _softmax(function: Operator) -> Operator:
    return lambda attributes, x: function(x, dim=attributes.get("axis", -1))


_ONE_INPUT: dict[str, Operator] = {
    "Abs": torch.abs, "Ceil": torch.ceil, "Cos": torch.cos, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": functional.hardswish, "Identity": lambda x: x,
    "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg, "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Softplus":
    functional.softplus, "Softsign": functional.softsign, "Sqrt": torch.sqrt,
    "Tanh": torch.tanh, "GlobalAveragePool": lambda x: x.mean(_all_of_an_image(x), True),
    "GlobalMaxPool": lambda x: x.amax(_all_of_an_image(x), True),
}  # fmt: skip

_TWO_INPUTS: dict[str, Operator] = {
    "Add": torch.add, "And": torch.logical_and, "Equal": torch.eq, "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
    "MatMul": torch.matmul, "Mul": torch.mul, "Or": torch.logical_or, "Pow": torch.pow,
    "Sub": torch.sub, "Xor": torch.logical_xor,
    "Tile": lambda x, counts: x.repeat(_ints(counts)),
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "CastLike": lambda x, like: x.to(like.dtype),
}  # fmt: skip

OPERATORS: dict[str, Operator] = {
    **{name: _of_one(one) for name, one in _ONE_INPUT.items()},
    **{name: _of_two(two) for name, two in _TWO_INPUTS.items()},
    "Max": _of_many(torch.maximum),
    "Min": _of_many(torch.minimum),
    "Sum": _of_many(torch.add),
    "Mean": lambda _, *given: sum(given) / len(given),
    "Div": _divide,
    "Mod": _modulo,
    "Clip": _clip,
    "Gelu": _gelu,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Selu": lambda _, x: functional.selu(x),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Where": lambda _, chosen, a, b: torch.where(chosen, a, b),
    "Cast": _cast,
    "Dropout": lambda _, x, *__: x,
    "Gemm": _matrix_product,
    "Einsum": lambda a, *given: torch.einsum(a["equation"], *given),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceProd": _reduction(_product),
    "ReduceL1": _reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "TopK": _top,
    "CumSum": lambda _, x, axis: x.cumsum(int(axis)),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concatenate,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Size": lambda _, x: torch.tensor(x.numel()),
    "Range": _range,
    "Trilu": _trilu,
    "MaxPool": _max_pool,
    "AveragePool": _mean_pool,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
}  # fmt: skip
