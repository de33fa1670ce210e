"""`HalutLinear` and `HalutConv2d`: layers whose product is looked up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import either, integer_at_least
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.layer import Executor, HalutLayer, Placed
from halut.nn.operators import in_transform

__all__ = [
    "Executor",
    "HalutConv2d",
    "HalutLayer",
    "HalutLinear",
    "layer_of",
    "layers_of",
    "learned_layer",
]


class HalutLinear(HalutLayer):
    """A drop-in for `nn.Linear`, with any leading dimensions.

    Parameters
    ----------
    in_features, out_features : int
        D and M.
    bias : bool, default True
        Whether the module that it replaces has a bias. The constant per output is there anyway.
    config : LayerConfig, optional

    Examples
    --------
    >>> import torch
    >>> linear, x = torch.nn.Linear(32, 10), torch.randn(500, 32)
    >>> layer = HalutLinear.from_module(linear, x)
    >>> layer(torch.randn(2, 3, 32)).shape
    torch.Size([2, 3, 10])
    """

    kind = "linear"
    replaces = nn.Linear
    arguments = ("in_features", "out_features", "bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        config: LayerConfig | None = None,
        n_codebooks: int | None = None,
        device: Any = None,
    ) -> None:
        config = _checked(config)
        self.in_features = integer_at_least("in_features", in_features, 1)
        self.out_features = integer_at_least("out_features", out_features, 1)
        self.with_bias = bias
        count = config.codebooks(in_features) if n_codebooks is None else n_codebooks
        super().__init__(in_features, out_features, 1, count, config, device)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.out_features, self.in_features

    def _by_row(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.in_features,):
            raise HalutError(
                f"input must have shape (..., {self.in_features}), not {tuple(x.shape)}"
            )
        return x.reshape(-1, self.in_features)  # (N, D)

    def _placed(self, x: Tensor) -> Placed:
        flat = self._by_row(x).contiguous()
        size = flat.shape[0], 1  # an image that is one pixel wide
        fields = {
            "n_items": 1, "channels": self.in_features, "height": size[0], "width": 1,
            "kernel_height": 1, "kernel_width": 1, "stride_y": 1, "stride_x": 1,
            "dilation_y": 1, "dilation_x": 1, "left": 0, "right": 0, "above": 0, "below": 0,
            "in_by_pixel": 1,
        }  # fmt: skip
        image = flat[None, :, None].permute(0, 3, 1, 2)
        return Placed(image, None, size, True, fields)

    def _shaped(self, images: Tensor, x: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.n_outputs)

    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        flat = self._by_row(x)
        gathered = flat.index_select(1, dims.flatten()).t()  # (G*C*S, N)
        return gathered.reshape(1, *dims.shape, flat.shape[0])

    def _feature_ends(self, x: Tensor) -> Tensor | None:
        rows = self._by_row(x.detach()).float()
        return torch.stack([rows.amin(0), rows.amax(0)])[:, None] if rows.numel() else None

    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        # Contiguous: batch norm rounds otherwise for other layouts.
        return outputs[0, 0].t().contiguous().view(*x.shape[:-1], self.n_outputs)


class HalutConv2d(HalutLayer):
    """A drop-in for `nn.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As for `nn.Conv2d`.
    config : LayerConfig, optional

    Examples
    --------
    >>> import torch
    >>> conv, x = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1), torch.randn(20, 4, 8, 8)
    >>> layer = HalutConv2d.from_module(conv, x)
    >>> layer.n_codebooks, layer(x).shape
    (4, torch.Size([20, 8, 4, 4]))
    """

    kind = "conv2d"
    replaces = nn.Conv2d
    arguments = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "bias", "padding_mode",
    )  # fmt: skip
    pad_value: Tensor | None
    transposed = False
    output_padding = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        config: LayerConfig | None = None,
        n_codebooks: int | None = None,
        device: Any = None,
    ) -> None:
        config = _checked(config)
        integer_at_least("in_channels", in_channels, 1)
        integer_at_least("out_channels", out_channels, 1)
        if in_channels % integer_at_least("groups", groups, 1) or out_channels % groups:
            raise HalutError(
                f"groups must divide in_channels {in_channels} and out_channels {out_channels}, "
                f"not {groups}"
            )
        self.in_channels, self.out_channels, self.with_bias = in_channels, out_channels, bias
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride, self.dilation = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
        self.padding: str | tuple[int, int]
        if isinstance(padding, str):
            either("padding", padding, ("same", "valid"))
            if padding == "same" and self.stride != (1, 1):
                raise HalutError(f'stride must be 1 for padding "same", not {self.stride}')
            self.padding = padding
        else:
            self.padding = _pair("padding", padding, 0)
        either("padding_mode", padding_mode, ("zeros", "reflect", "replicate", "circular"))
        self.padding_mode = padding_mode
        area = math.prod(self.kernel_size)
        n_features = in_channels // groups * area
        count = config.codebooks(n_features, area) if n_codebooks is None else n_codebooks
        super().__init__(n_features, out_channels // groups, groups, count, config, device)
        self.register_buffer("pad_value", None)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def _in_layout(self, dims: Tensor) -> Tensor:
        if self.config.layout == "im2col":
            return dims
        # Here feature i of the layout is kernel position i / channels, channel i % channels.
        channels = self.in_channels // self.groups
        area = math.prod(self.kernel_size)
        return dims % channels * area + dims // channels

    def sides(self) -> tuple[int, int, int, int]:
        """Return what is padded left, right, above and below."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if isinstance(self.padding, str):
            extents = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            (above, left), (below, right) = (
                [extent // 2 for extent in extents],
                [extent - extent // 2 for extent in extents],
            )
            return left, right, above, below
        rows, columns = self.padding
        return columns, columns, rows, rows

    def _padded(self, x: Tensor) -> Tensor:
        sides = self.sides()
        if not any(sides):
            return x
        if self.padding_mode != "zeros":
            return nn.functional.pad(x, sides, mode=self.padding_mode)
        if self.pad_value is None:
            return nn.functional.pad(x, sides)
        values = self.pad_value.to(x.dtype)[:, None, None]
        return nn.functional.pad(x - values, sides) + values

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the output for an input of that height and width."""
        left, right, above, below = self.sides()
        sizes = []
        for size, more, k, s, d in zip(
            (height, width),
            (above + below, left + right),
            self.kernel_size,
            self.stride,
            self.dilation,
            strict=True,
        ):
            sizes.append((size + more - d * (k - 1) - 1) // s + 1)
        return sizes[0], sizes[1]

    def _checked_size(self, x: Tensor) -> tuple[int, int]:
        """Return height and width of the output for an input."""
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise HalutError(
                f"input must have shape (any, {self.in_channels}, height, width), "
                f"not {tuple(x.shape)}"
            )
        size = self.output_size(*x.shape[-2:])
        if min(size) < 1:
            raise HalutError(
                f"input must be at least as large as the kernel {self.kernel_size}, "
                f"not {tuple(x.shape[-2:])}"
            )
        return size

    def _placed(self, x: Tensor) -> Placed:
        size = self._checked_size(x)
        sides, by_pixel = self.sides(), _is_by_pixel(x)
        image = x if x.ndim == 4 else x[None]
        if any(sides) and self.padding_mode != "zeros":
            image, sides = nn.functional.pad(image, sides, mode=self.padding_mode), (0, 0, 0, 0)
        in_by_pixel = _is_by_pixel(image)
        if not in_by_pixel:
            image = image.contiguous()
        pad = None if self.pad_value is None or not any(sides) else self.pad_value.float()
        fields = {
            "n_items": image.shape[0], "channels": self.in_channels,
            "height": image.shape[2], "width": image.shape[3],
            "kernel_height": self.kernel_size[0], "kernel_width": self.kernel_size[1],
            "stride_y": self.stride[0], "stride_x": self.stride[1],
            "dilation_y": self.dilation[0], "dilation_x": self.dilation[1],
            "left": sides[0], "right": sides[1], "above": sides[2], "below": sides[3],
            "in_by_pixel": int(in_by_pixel),
        }  # fmt: skip
        return Placed(image, pad, size, by_pixel, fields)

    def _shaped(self, images: Tensor, x: Tensor) -> Tensor:
        return images if x.ndim == 4 else images[0]

    def _inputs(self, x: Tensor, dims: Tensor) -> Tensor:
        size = self._checked_size(x)
        padded = self._padded(x if x.ndim == 4 else x[None])
        height, width = padded.shape[-2:]
        area = math.prod(self.kernel_size)
        group = torch.arange(self.groups, device=x.device)[:, None, None]
        channel = dims // area + group * (self.in_channels // self.groups)
        row = dims % area // self.kernel_size[1] * self.dilation[0]
        column = dims % self.kernel_size[1] * self.dilation[1]
        first = (channel * height + row) * width + column  # (G, C, S)
        down = torch.arange(size[0], device=x.device)[:, None] * (self.stride[0] * width)
        across = torch.arange(size[1], device=x.device) * self.stride[1]
        places = (first[..., None] + (down + across).flatten()).flatten()
        n_positions = size[0] * size[1]
        gathered = padded.flatten(1).index_select(1, places)
        return gathered.view(padded.shape[0], *dims.shape, n_positions)

    def _feature_ends(self, x: Tensor) -> Tensor | None:
        height, width = self._checked_size(x)
        padded = self._padded(x.detach() if x.ndim == 4 else x.detach()[None]).float()
        if not (padded.numel() and height and width):
            return None
        (down, across), ends = self.stride, []
        for ky in range(self.kernel_size[0]):
            for kx in range(self.kernel_size[1]):
                top, left = ky * self.dilation[0], kx * self.dilation[1]
                seen = padded[:, :, top : top + down * (height - 1) + 1 : down,
                              left : left + across * (width - 1) + 1 : across]  # fmt: skip
                ends.append(torch.stack([seen.amin((0, 2, 3)), seen.amax((0, 2, 3))]))
        return torch.stack(ends, dim=2).view(2, self.groups, -1)

    def _arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        size = self.output_size(*x.shape[-2:])
        arranged = outputs.contiguous().view(outputs.shape[0], self.out_channels, *size)
        if x.ndim == 3:
            return arranged[0]
        if _is_by_pixel(x):
            return arranged.contiguous(memory_format=torch.channels_last)
        return arranged

    def _n_items(self, _x: Tensor) -> int:
        return _x.shape[0] if _x.ndim == 4 else 1

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        pad = state_dict.get(prefix + "pad_value")
        if pad is not None and self.pad_value is None:
            self.pad_value = torch.empty_like(pad, device=self.lut.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


_CLASSES: dict[str, type[HalutLayer]] = {one.kind: one for one in (HalutLinear, HalutConv2d)}


def learned_layer(
    module: nn.Module, x: Tensor | Sequence[Tensor], config: LayerConfig
) -> HalutLayer:
    """Learn the layer that stands in for a module; see `HalutLayer.from_module`."""
    for one in _CLASSES.values():
        if isinstance(module, one.replaces):
            return one.from_module(module, x, config)
    raise HalutError(f"module must be an nn.Linear or nn.Conv2d, not {type(module).__name__}")


def layer_of(entry: Mapping[str, Any]) -> HalutLayer:
    """Make a layer with random parameters, as files describe it.

    Parameters
    ----------
    entry : mapping
        ``geometry``, as `HalutLayer.geometry` gave it, and ``config``, of `LayerConfig.to_dict`.

    Raises
    ------
    HalutError
        When something is missing or unknown, or breaks its rule.
    """
    try:
        arguments = dict(entry["geometry"])
        kind = arguments.pop("kind")
        if kind not in _CLASSES:
            raise HalutError(f"kind of a layer must be one of {', '.join(_CLASSES)}, not {kind!r}")
        return _CLASSES[kind](**arguments, config=LayerConfig.from_dict(entry["config"]))
    except (KeyError, TypeError) as error:
        raise HalutError(f"geometry and config of a layer must be whole: {error}") from None


def layers_of(model: nn.Module) -> dict[str, HalutLayer]:
    """Return the replaced layers of a model by their names; there may be none."""
    return {name: part for name, part in model.named_modules() if isinstance(part, HalutLayer)}


def _is_by_pixel(x: Tensor) -> bool:
    """Say whether images (B, channels, H, W) are contiguous with channels last, and only so."""
    if x.ndim != 4 or x.is_contiguous() or in_transform():  # vmap has no layout to tell
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


def _checked(config: LayerConfig | None) -> LayerConfig:
    if not isinstance(config, LayerConfig | None):
        raise HalutError(f"config must be a LayerConfig, not {type(config).__name__}")
    return config or LayerConfig()


def _pair(name: str, value: Any, low: int) -> tuple[int, int]:
    """Return one number for rows and one for columns, both from `low` on."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise HalutError(f"{name} must be one number or two, not {value!r}")
    return integer_at_least(name, both[0], low), integer_at_least(name, both[1], low)
