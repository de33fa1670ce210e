"""Modules that are no plain layers, and the plain layers that they are equal to.

A handler takes a module and an input of it and returns an equal module, made of plain layers, which
`halut.nn.convert_` then replaces. Its output is compared with the module's before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from halut.errors import HalutError

__all__ = [
    "PLAIN",
    "Around",
    "Handler",
    "as_called",
    "candidates",
    "handled",
    "handled_again",
    "handler_of",
    "made_from",
    "plain",
    "register_handler",
]

PLAIN = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
"""What is converted as it is."""

Handler = Callable[[Any, Tensor], nn.Module]
"""Takes a module and an input of it; returns an equal module made of plain layers."""

_registered: dict[type[nn.Module], Handler] = {}

_MADE_FROM = "_halut_made_from"
"""Where what a handler made keeps the shape and the dtype of the input that it was made with."""


def register_handler(cls: type[nn.Module], handler: Handler) -> None:
    """Say how `convert_` converts modules of a class.

    Parameters
    ----------
    cls : type
        A subclass of `nn.Module`. Its own subclasses need handlers of their own.
    handler : callable
        Takes a module of the class and a calibration input of it. Returns a module, made of
        `nn.Linear`, `nn.Conv2d` and `nn.MultiheadAttention` and whatever is between them, that
        gives the same output in evaluation mode. Raises `HalutError` with the reason where there
        is none. `as_called` serves where ``forward`` does nothing but multiply by a weight that
        it computes.

    Raises
    ------
    HalutError
        When the class is no module, or the handler is no function.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from halut.nn import LayerConfig, convert_
    >>> class Scaled(nn.Linear):
    ...     def forward(self, x):
    ...         return nn.functional.linear(x, 0.1 * self.weight, self.bias)
    >>> register_handler(Scaled, as_called)
    >>> model = nn.Sequential(Scaled(16, 8), nn.ReLU())
    >>> convert_(model, LayerConfig(n_prototypes=4), torch.randn(200, 16)).converted
    ['0']
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise HalutError(f"cls must be a subclass of nn.Module, not {cls!r}")
    if not callable(handler):
        raise HalutError(f"handler must be a function, not {type(handler).__name__}")
    _registered[cls] = handler


def plain(module: nn.Module) -> bool:
    """Return whether a module computes what torch's class does, from its weight and bias."""
    for cls in PLAIN:
        if isinstance(module, cls):
            methods = ["__call__", "forward", *(["_conv_forward"] if cls is nn.Conv2d else [])]
            return all(
                getattr(type(module), name) is getattr(cls, name) and name not in vars(module)
                for name in methods
            )
    return False


def handler_of(module: nn.Module) -> Handler | None:
    """Return the handler of a module's class, or None."""
    cls = type(module)
    if cls in _registered:
        return _registered[cls]
    if plain(module) or "forward" in vars(module):
        return None
    if cls in _OF_TORCH:
        return _OF_TORCH[cls]
    if cls.__name__ in _BY_NAME:
        return _BY_NAME[cls.__name__]
    merged = getattr(module, "merged", None)
    if isinstance(module, (nn.Linear, nn.Conv2d)) and merged is True:
        return as_called  # an adapter whose product was added to the weight
    return None


def handled(module: nn.Module, x: Tensor) -> nn.Module:
    """Return what a module's handler makes of it, in evaluation mode.

    Raises
    ------
    HalutError
        When it gives no module.
    """
    handler = handler_of(module)
    assert handler is not None
    equal = handler(module, x)
    if not isinstance(equal, nn.Module):
        raise HalutError(f"its handler must return an nn.Module, not {type(equal).__name__}")
    vars(equal)[_MADE_FROM] = tuple(x.shape), str(x.dtype).removeprefix("torch.")
    return equal.eval()


def made_from(module: nn.Module) -> tuple[tuple[int, ...], str] | None:
    """Return shape and dtype of the input that a handler made a module with; None for others."""
    found: tuple[tuple[int, ...], str] | None = vars(module).get(_MADE_FROM)
    return found


@torch.no_grad()
def handled_again(name: str, module: nn.Module, shape: Sequence[int], dtype: str) -> nn.Module:
    """Return what `handled` made of such a module, with this one's parameters.

    Raises
    ------
    HalutError
        When the module's class has no handler.
    """
    if handler_of(module) is None:
        own = type(module).__name__
        raise HalutError(f"{name} must have a handler (register_handler({own}, function))")
    device = next((one.device for one in module.parameters()), None)
    return handled(module.eval(), torch.zeros(*shape, dtype=getattr(torch, dtype), device=device))


def candidates(model: nn.Module, others: tuple[type[nn.Module], ...] = ()) -> dict[str, nn.Module]:
    """Return the modules that `convert_` looks at, by their first names.

    Parameters
    ----------
    model : nn.Module
    others : tuple of type
        Classes beside plain layers and those that have handlers.
    """
    found: dict[str, nn.Module] = {}
    whole: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(whole):
            continue  # a part of one that is converted as a whole, or not at all
        of_handler = handler_of(module) is not None
        if of_handler or isinstance(module, (*PLAIN, *others)):
            found[name] = module
        if of_handler or isinstance(module, nn.MultiheadAttention):
            whole = (*whole, f"{name}.")
    return found


class Around(nn.Module):
    """A plain layer with something before and after it.

    Parameters
    ----------
    layer : nn.Module
    before, after : nn.Module or callable, optional
        Take one tensor. What comes before `after` also takes the input's shape.
    attributes : mapping, optional
        What other code reads, as the original module had it.
    """

    def __init__(
        self,
        layer: nn.Module,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor, torch.Size], Tensor] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.before, self.after = layer, before, after
        for name, value in (attributes or {}).items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for an input."""
        found: Tensor = self.layer(self.before(x))
        return found if self.after is None else self.after(found, x.shape)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer":
                raise
            return getattr(self.layer, name)


class _Products(TorchFunctionMode):
    """Notes products with a weight, and what they give."""

    arguments: ClassVar[dict[Any, tuple[str, ...]]] = {
        nn.functional.linear: ("input", "weight", "bias"),
        nn.functional.conv2d: (
            "input", "weight", "bias", "stride", "padding", "dilation", "groups",
        ),
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, dict[str, Any], Tensor]] = []

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in self.arguments:
            given = dict(zip(self.arguments[func], args, strict=False)) | (kwargs or {})
            self.seen.append((func, given, output))
        return output


@torch.no_grad()
def as_called(module: nn.Module, x: Tensor) -> nn.Module:
    """Return the plain layer that a module calls with weights of its own making.

    Its ``forward`` must be one call of `torch.nn.functional.linear` or `conv2d`, with the input, or
    the input padded as TensorFlow's "same" does, and return what that gives. Weights must not
    depend on the input. A handler, see `register_handler`.
    """
    watch = _Products()
    with watch:
        output = module.forward(x)
    if len(watch.seen) != 1 or watch.seen[0][2] is not output:
        raise HalutError(f"forward of {type(module).__name__} must be one product and nothing else")
    func, given, _ = watch.seen[0]
    weight, bias = given["weight"], given.get("bias")
    layer: Any
    if func is nn.functional.linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        layer = nn.Conv2d(
            weight.shape[1] * given.get("groups", 1), weight.shape[0], tuple(weight.shape[2:]),
            given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1),
            given.get("groups", 1), bias is not None,
        )  # fmt: skip
    _fill(layer, weight, bias)
    inner = given["input"]
    if inner is x or (inner.shape == x.shape and torch.equal(inner, x)):
        return layer
    before = getattr(module, "static_padding", None)
    if not isinstance(before, nn.Module):
        before = _SamePadding(layer) if isinstance(layer, nn.Conv2d) else None
    if before is None or not torch.equal(before(x), inner):
        raise HalutError(f"{type(module).__name__} must multiply its input as it is, or padded")
    return Around(layer, before)


class _SamePadding(nn.Module):
    """Pads with zeros as TensorFlow's "same" does: output sizes are input sizes over strides."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.sizes = list(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for size, (kernel, stride, dilation) in zip(x.shape[-2:], self.sizes, strict=True):
            steps = (size + stride - 1) // stride - 1
            more = max(steps * stride + (kernel - 1) * dilation + 1 - size, 0)
            sides = [more // 2, more - more // 2, *sides]
        return nn.functional.pad(x, sides)


def _fill(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    """Give a plain layer weights, in their dtype and on their device."""
    layer.weight = nn.Parameter(weight.detach().clone().reshape(layer.weight.shape))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    layer.eval()


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the sizes that a convolution of torch shows."""
    names = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "padding_mode", "transposed", "output_padding",
    )  # fmt: skip
    return {name: getattr(module, name) for name in names}


def _of_conv1d(module: nn.Conv1d, _x: Tensor) -> nn.Module:
    """A convolution of height 1."""
    padding: Any = module.padding if isinstance(module.padding, str) else (0, *module.padding)
    kernel: Any = (1, *module.kernel_size)
    stride: Any = (1, *module.stride)
    dilation: Any = (1, *module.dilation)
    if module.padding_mode == "reflect":
        raise HalutError('padding_mode "reflect" of nn.Conv1d is not converted')
    layer = nn.Conv2d(
        module.in_channels, module.out_channels, kernel, stride, padding, dilation, module.groups,
        module.bias is not None, module.padding_mode,
    )  # fmt: skip
    _fill(layer, module.weight, module.bias)
    return Around(layer, _rows_of_one, _without_rows, _attributes(module))


def _rows_of_one(x: Tensor) -> Tensor:
    return x.unsqueeze(-2)


def _without_rows(y: Tensor, _shape: torch.Size) -> Tensor:
    return y.select(-2, 0)


class _Slices(nn.Module):
    """Turns the slices under a 3-D kernel into channels of images, and back."""

    def __init__(self, module: nn.Conv3d, padding: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = module.kernel_size[0], module.stride[0]
        self.dilation, self.padding = module.dilation[0], padding

    def depth(self, size: int) -> int:
        return (size + sum(self.padding) - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x if x.ndim == 5 else x[None], (0, 0, 0, 0, *self.padding))
        first = self.stride * torch.arange(
            (x.shape[2] - self.dilation * (self.kernel - 1) - 1) // self.stride + 1, device=x.device
        )
        under = first[:, None] + self.dilation * torch.arange(self.kernel, device=x.device)
        slices = x[:, :, under]  # (B, channels, depth, kernel, height, width)
        return slices.transpose(1, 2).flatten(0, 1).flatten(1, 2)

    def back(self, y: Tensor, shape: torch.Size) -> Tensor:
        depth = self.depth(shape[-3])
        found = y.reshape(-1, depth, *y.shape[1:]).transpose(1, 2)
        return found if len(shape) == 5 else found[0]


def _of_conv3d(module: nn.Conv3d, _x: Tensor) -> nn.Module:
    """A convolution of images whose channels are the slices under the kernel."""
    if module.padding_mode != "zeros":
        raise HalutError(f'padding_mode "{module.padding_mode}" of nn.Conv3d is not converted')
    kernel = module.kernel_size[0]
    area: Any = module.kernel_size[1:]
    stride: Any = module.stride[1:]
    dilation: Any = module.dilation[1:]
    padding: Any = module.padding
    deep = (0, 0)
    if padding == "same":
        extent = module.dilation[0] * (kernel - 1)
        deep = (extent // 2, extent - extent // 2)
    elif not isinstance(padding, str):
        deep, padding = (padding[0], padding[0]), tuple(padding[1:])
    layer = nn.Conv2d(
        module.in_channels * kernel, module.out_channels, area, stride, padding, dilation,
        module.groups, module.bias is not None,
    )  # fmt: skip
    _fill(layer, module.weight.flatten(1, 2), module.bias)
    slices = _Slices(module, deep)
    return Around(layer, slices, slices.back, _attributes(module))


class _Spread(nn.Module):
    """Adds up the patches that a transposed convolution spreads its inputs over."""

    def __init__(self, module: nn.ConvTranspose1d | nn.ConvTranspose2d) -> None:
        super().__init__()
        flat = isinstance(module, nn.ConvTranspose1d)
        ones, zeros = ((1,), (0,)) if flat else ((), ())
        self.flat = flat
        self.kernel = (*ones, *module.kernel_size)
        self.stride = (*ones, *module.stride)
        self.dilation = (*ones, *module.dilation)
        self.padding: tuple[int, ...] = (*zeros, *module.padding)
        self.more = (*zeros, *module.output_padding)
        self.bias = None if module.bias is None else nn.Parameter(module.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-2) if self.flat else x

    def back(self, y: Tensor, _shape: torch.Size) -> Tensor:
        lengths: Sequence[int] = y.shape[-2:]
        if torch.jit.is_tracing():  # whose operation for ONNX takes numbers only
            lengths = [int(length) for length in lengths]
        size = tuple(
            (length - 1) * s - 2 * p + d * (k - 1) + more + 1
            for length, s, p, d, k, more in zip(
                lengths, self.stride, self.padding, self.dilation, self.kernel, self.more,
                strict=True,
            )
        )  # fmt: skip
        found = nn.functional.fold(
            y.flatten(-2), size, self.kernel, self.dilation, self.padding, self.stride
        )
        if self.bias is not None:
            found = found + self.bias.to(found.dtype)[:, None, None]
        return found.select(-2, 0) if self.flat else found


def _of_transposed(module: nn.ConvTranspose1d | nn.ConvTranspose2d, _x: Tensor) -> nn.Module:
    """A 1 x 1 convolution whose outputs are patches, which are added up where they overlap."""
    outputs = module.out_channels * math.prod(module.kernel_size)
    layer = nn.Conv2d(module.in_channels, outputs, 1, groups=module.groups, bias=False)
    weight = module.weight.unflatten(0, (module.groups, -1)).flatten(2)  # (G, in, out * area)
    _fill(layer, weight.transpose(1, 2), None)
    spread = _Spread(module)
    return Around(layer, spread, spread.back, _attributes(module))


def _of_transposed_weight(module: Any, _x: Tensor) -> nn.Module:
    """GPT-2's linear layer, which keeps its weight transposed (transformers' ``Conv1D``)."""
    layer = nn.Linear(*module.weight.shape)
    _fill(layer, module.weight.t(), module.bias)
    return layer


_OF_TORCH: dict[type[nn.Module], Handler] = {
    nn.Conv1d: _of_conv1d,
    nn.Conv3d: _of_conv3d,
    nn.ConvTranspose1d: _of_transposed,
    nn.ConvTranspose2d: _of_transposed,
}

_BY_NAME: dict[str, Handler] = {"Conv1D": _of_transposed_weight} | dict.fromkeys(
    (
        # timm and its like: padded as TensorFlow does, weights standardised
        "Conv2dSame", "Conv2dStaticSamePadding", "Conv2dDynamicSamePadding", "StdConv2d",
        "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame", "WeightStandardizedConv2d",
    ),
    as_called,
)  # fmt: skip
"""Classes of other packages, which need not be installed."""
