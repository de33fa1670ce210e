"""Tables, thresholds and inputs as the hardware holds them, with straight-through gradients.

Forward, every value is the very integer (held in a float) or half float that the accelerator
works with, so that a layer's forward pass is the hardware's. Backward, rounding is the identity.
The rules are those of `halut.quantize`; scales follow the parameters at every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["half_thresholds", "input_words", "integer_thresholds", "quantize_tables"]


def quantize_tables(lut: Tensor, lut_bits: int, granularity: str) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise tables.

    Parameters
    ----------
    lut : float Tensor of shape (G, M, C, K)
    lut_bits : int
        2 to 16.
    granularity : {"column", "table"}
        One scale per output, or one per group.

    Returns
    -------
    entries : Tensor of shape (G, M, C, K), dtype of `lut`
        Integers in the range of signed `lut_bits` bits.
    scale : float32 Tensor of shape (G, M)
        Greater than 0; no gradient.
    offset : float32 Tensor of shape (G, M)
        ``sum of entries * scale + offset`` is about the sum of table entries; no gradient.
    """
    exact = lut.detach()
    low, high = torch.aminmax(exact, dim=3)  # (G, M, C)
    middle = (low + high) / 2
    span = (high - low).amax(dim=2)  # (G, M)
    if granularity == "table":
        span = span.amax(dim=1, keepdim=True).expand_as(span)
    # Not below what float32 holds in full: a constant column.
    scale = (span / (2**lut_bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)
    scale = scale.float().to(lut.dtype)
    half = 2 ** (lut_bits - 1)
    steps = (lut - middle[..., None]) / scale[..., None, None] - 0.5
    entries = _straight_through(steps, steps.detach().round().clamp_(-half, half - 1))
    offset = middle.sum(dim=2) + 0.5 * scale * lut.shape[2]
    return entries, scale.float(), offset.float()


def integer_thresholds(
    thresholds: Tensor, bits: int, granularity: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the grids of integer inputs, and the thresholds in them.

    Equal to `halut.quantize.integer_thresholds`, group by group.

    Parameters
    ----------
    thresholds : float Tensor of shape (G, C, K - 1), finite
    bits : int
        2 to 16.
    granularity : {"codebook", "dimension", "all"}
        What shares one grid.

    Returns
    -------
    words : Tensor of shape (G, C, K - 1), dtype of `thresholds`
        Integers in the range of signed `bits` bits.
    scale, offset : float32 Tensor of shape (G, C, T)
        ``word = clip(rint((x - offset) / scale))``; no gradient.
    """
    exact = thresholds.detach().double()
    depth = (exact.shape[2] + 1).bit_length() - 1
    levels = [exact[:, :, 2**t - 1 : 2 ** (t + 1) - 1] for t in range(depth)]
    low = torch.stack([level.amin(dim=2) for level in levels], dim=2)  # (G, C, T)
    high = torch.stack([level.amax(dim=2) for level in levels], dim=2)
    if granularity != "dimension":
        shared = (2,) if granularity == "codebook" else (1, 2)
        low = low.amin(dim=shared, keepdim=True).expand_as(low)
        high = high.amax(dim=shared, keepdim=True).expand_as(high)
    half = 2 ** (bits - 1)
    largest = torch.maximum(low.abs(), high.abs())
    # Steps must not vanish beside the offset in float32.
    scale = torch.maximum((high - low) / (2**bits - 2), largest * 2.0**-23)
    # One threshold alone decides at its own place in any grid.
    alone = torch.where(largest > 0, largest / half, torch.ones_like(largest))
    scale = torch.where(high == low, alone, scale).float()
    offset = ((low + high) / 2 + scale.double() / 2).float()
    sizes = torch.tensor([2**t for t in range(depth)], device=exact.device)
    steps = per_node(scale, sizes), per_node(offset, sizes)
    words = ((exact - steps[1].double()) / steps[0].double() - 0.5).round_()
    words.clamp_(-half, half - 2)
    smooth = (thresholds - steps[1]) / steps[0] - 0.5
    return _straight_through(smooth, words.to(thresholds.dtype)), scale, offset


def per_node(per_level: Tensor, sizes: Tensor) -> Tensor:
    """Repeat a value of every level (…, T) for each node of that level, (…, K - 1)."""
    return per_level.repeat_interleave(sizes, dim=-1, output_size=2 ** len(sizes) - 1)


class _InputWords(torch.autograd.Function):
    """``rint((x - offset) / scale)`` in float64, as `Program.input_words` computes it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return x.double().sub_(offset).div_(scale).round_().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return grad / scale, None, None


def input_words(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Turn inputs into words of an integer format, without saturation.

    Thresholds lie inside the format's range, so that saturation changes no decision; without it,
    the surrogate gradient of what lies far outside stays small.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T, L)
    scale, offset : float32 Tensor of shape (G, C, T)

    Returns
    -------
    Tensor of the shape and dtype of `x`
        Integers.
    """
    words: Tensor = _InputWords.apply(x, scale[..., None], offset[..., None])
    return words


def half_thresholds(thresholds: Tensor) -> Tensor:
    """Round thresholds down to half floats, which decide half a step above on rounded inputs.

    Parameters
    ----------
    thresholds : float Tensor of any shape, finite

    Returns
    -------
    Tensor of the shape and dtype of `thresholds`
        Values of half floats, at most 65504.
    """
    exact = thresholds.detach().clamp(-65504.0, 65504.0)
    nearest = exact.half()
    bits = nearest.view(torch.int16)
    # One step towards minus infinity: from zero to the smallest negative subnormal.
    below = torch.where(nearest > 0, bits - 1, bits + 1)
    below = torch.where(nearest == 0, torch.full_like(bits, -0x7FFF), below).view(torch.float16)
    chosen = torch.where(nearest.to(exact.dtype) > exact, below, nearest)
    return _straight_through(thresholds, chosen.to(thresholds.dtype))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, _smooth: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _straight_through(smooth: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, bit for bit, with the gradient of `smooth`."""
    result: Tensor = _StraightThrough.apply(smooth, rounded)
    return result
