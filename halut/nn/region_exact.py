"""A network's first convolution, which is not looked up, with the bits of torch's.

torch adds the products of a convolution one by one, each rounded once (a fused multiplication and
addition), and then the bias; in which order depends on the layout and the number of images. So
torch is asked: random images of the same shape show whether it is an order that is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halut.native import network
from halut.native.library import Kernels

__all__ = ["Rounding", "exact_size", "exact_step", "first_place", "has_kernel", "rounding_of"]

_MOST_CHANNELS = 4
"""More of them are multiplied faster by torch."""


@dataclass(frozen=True)
class Rounding:
    """How torch computes a convolution.

    Attributes
    ----------
    by_channel : bool
        Whether all of a channel's products come before the next one's, or all of a pixel's.
    by_pixel : bool
        Whether channels of the result are neighbours in memory.
    """

    by_channel: bool
    by_pixel: bool


def has_kernel(layer: nn.Module | None) -> bool:
    """Say whether there is a kernel for a layer, on processors that have it."""
    return (
        type(layer) is nn.Conv2d
        and layer.in_channels <= _MOST_CHANNELS
        and layer.groups == 1
        and layer.stride[1] == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
    )


def exact_step(
    planes: network.Planes, layer: nn.Conv2d, *, by_channel: bool
) -> tuple[network.Step, list[Any]]:
    """Return the step of a convolution, but for where it reads and writes, and what it points to.

    Parameters
    ----------
    planes : Planes
        Its input, with margins of at least the padding.
    layer : nn.Conv2d
    by_channel : bool
        See `Rounding`.
    """
    kernel, dilation = layer.kernel_size, layer.dilation
    channel, row, column = np.indices((layer.in_channels, *kernel)).reshape(3, -1)
    order = np.arange(len(channel)) if by_channel else np.lexsort((channel, column, row))
    places = channel * planes.step + row * dilation[0] * planes.row_step + column * dilation[1]
    features = layer.weight.detach().contiguous().numpy().reshape(layer.out_channels, -1)[:, order]
    weights = network.by_multiplied(features)
    places = np.ascontiguousarray(places[order], dtype=np.int64)
    height, width = exact_size(layer, planes.height, planes.width)
    held: list[Any] = [places, weights]
    step = network.Step(
        kind=network.MULTIPLY, n_items=planes.n_items, height=height, width=width,
        n_outputs=layer.out_channels, n_features=len(order),
        row_step=layer.stride[0] * planes.row_step, item_step=planes.item_step,
        places=places.ctypes.data, weights=weights.ctypes.data,
    )  # fmt: skip
    if layer.bias is not None:
        bias = layer.bias.detach().contiguous()
        held.append(bias)
        step.offset = bias.data_ptr()
    return step, held


def first_place(planes: network.Planes, layer: nn.Conv2d) -> int:
    """Return where in a plane the first position's window begins."""
    above, left = map(int, layer.padding)
    return planes.first - above * planes.row_step - left


def exact_size(layer: nn.Conv2d, height: int, width: int) -> tuple[int, int]:
    """Return height and width of a convolution's result."""
    spans = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    above, left = map(int, layer.padding)
    rows = (height + 2 * above - spans[0]) // layer.stride[0] + 1
    return rows, (width + 2 * left - spans[1]) // layer.stride[1] + 1


def rounding_of(chosen: Kernels, layer: nn.Conv2d, x: Tensor) -> Rounding | None:
    """Return how torch computes a convolution of images, or None where that is not known.

    Parameters
    ----------
    chosen : Kernels
    layer : nn.Conv2d
        One that `has_kernel`.
    x : Tensor
        Images, whose shape and layout count.
    """
    if not network.multiplies(chosen) or not bool(layer.weight.isfinite().all()):
        return None
    probe = torch.empty_strided(x.shape, x.stride())
    probe.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        wanted = layer(probe)
    by_pixel = not wanted.is_contiguous()
    for by_channel in (True, False):
        if torch.equal(_computed(chosen, layer, probe.contiguous(), by_channel), wanted):
            return Rounding(by_channel, by_pixel)
    return None


def _computed(chosen: Kernels, layer: nn.Conv2d, x: Tensor, by_channel: bool) -> Tensor:
    """Return what the library computes of contiguous images."""
    n_items, channels, height, width = x.shape
    planes = network.Planes(n_items, channels, height, width, max(map(int, layer.padding)))
    memory = torch.zeros(channels * planes.step)
    load = network.Step(
        kind=network.LOAD, n_items=n_items, channels=channels, height=height, width=width,
        row_step=planes.row_step, item_step=planes.item_step, out_step=planes.step,
        x=x.data_ptr(), out=memory.data_ptr() + 4 * planes.first,
    )  # fmt: skip
    step, held = exact_step(planes, layer, by_channel=by_channel)
    out = torch.empty(n_items, layer.out_channels, step.height, step.width)
    step.x = memory.data_ptr() + 4 * first_place(planes, layer)
    step.out, step.out_row_step = out.data_ptr(), step.width
    step.out_step = step.height * step.width
    step.out_item_step = layer.out_channels * step.out_step
    _run(chosen, (load, step))
    del held
    return out


def _run(chosen: Kernels, steps: Sequence[network.Step]) -> None:
    network.run(chosen, (network.Step * len(steps))(*steps), 0, 0)
