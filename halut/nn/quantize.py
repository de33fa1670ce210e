"""Tables, thresholds and inputs as the hardware holds them, with straight-through gradients.

Forward, every value is the very integer (held in a float) or half float that the accelerator
works with, so that a layer's forward pass is the hardware's. Backward, rounding is the identity.
The rules are those of `halut.quantize`; scales follow the parameters at every step.

Each function is an operator of its own: compilers may neither fuse a product into a sum nor leave
out a rounding, and so compiled layers give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "half_inputs",
    "half_thresholds",
    "input_words",
    "integer_thresholds",
    "quantize_tables",
    "scaled",
]


@torch.library.custom_op("halut::quantize_tables", mutates_args=())
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
    low, high = torch.aminmax(lut, dim=3)  # (G, M, C)
    middle = (low + high) / 2
    span = (high - low).amax(dim=2)  # (G, M)
    if granularity == "table":
        span = span.amax(dim=1, keepdim=True).expand_as(span)
    # Not below what float32 holds in full: a constant column.
    scale = (span / (2**lut_bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)
    scale = scale.float().to(lut.dtype)
    half = 2 ** (lut_bits - 1)
    entries = (lut - middle[..., None]) / scale[..., None, None] - 0.5
    entries = entries.round_().clamp_(-half, half - 1)
    offset = middle.sum(dim=2) + 0.5 * scale * lut.shape[2]
    return entries, scale.float(), offset.float()


@quantize_tables.register_fake
def _(lut: Tensor, _bits: int, _granularity: str) -> tuple[Tensor, Tensor, Tensor]:
    scale = lut.new_empty(lut.shape[:2], dtype=torch.float32)
    return torch.empty_like(lut), scale, torch.empty_like(scale)


def _tables_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1], output[2])


def _tables_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None]:
    (scale,) = ctx.saved_tensors
    return grad / scale[..., None, None], None, None


quantize_tables.register_autograd(_tables_backward, setup_context=_tables_context)


@torch.library.custom_op("halut::integer_thresholds", mutates_args=())
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
    exact = thresholds.double()
    depth = _depth(exact)
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
    words = (exact - _per_node(offset).double()) / _per_node(scale).double() - 0.5
    words.round_().clamp_(-half, half - 2)
    return words.to(thresholds.dtype), scale, offset


@integer_thresholds.register_fake
def _(thresholds: Tensor, _bits: int, _granularity: str) -> tuple[Tensor, Tensor, Tensor]:
    shape = (*thresholds.shape[:2], _depth(thresholds))
    scale = thresholds.new_empty(shape, dtype=torch.float32)
    return torch.empty_like(thresholds), scale, torch.empty_like(scale)


def _thresholds_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None]:
    (scale,) = ctx.saved_tensors
    return grad / _per_node(scale), None, None


integer_thresholds.register_autograd(_thresholds_backward, setup_context=_tables_context)


def _depth(thresholds: Tensor) -> int:
    return int(thresholds.shape[2] + 1).bit_length() - 1


def _per_node(per_level: Tensor) -> Tensor:
    """Repeat a value of every level, (G, C, T), for each node of that level, (G, C, K - 1)."""
    levels = [
        value[:, :, None].expand(-1, -1, 2**level)
        for level, value in enumerate(per_level.unbind(2))
    ]
    return torch.cat(levels, dim=2)


@torch.library.custom_op("halut::input_words", mutates_args=())
def input_words(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Turn inputs into words of an integer format, without saturation.

    In float64, as `Program.input_words`. Thresholds lie inside the format's range, so that
    saturation changes no decision; without it, the surrogate gradient of what lies far outside
    stays small.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T, L)
    scale, offset : float32 Tensor of shape (G, C, T)

    Returns
    -------
    Tensor of the shape and dtype of `x`
        Integers.
    """
    words = torch.empty_like(x)
    # One item after the other on a CPU: doubles of all of them would not fit a cache.
    for values, out in [(x, words)] if x.is_cuda else zip(x, words, strict=True):
        exact = values.double().sub_(offset[..., None]).div_(scale[..., None])
        out.copy_(exact.round_())
    return words


@input_words.register_fake
def _(x: Tensor, _scale: Tensor, _offset: Tensor) -> Tensor:
    return torch.empty_like(x)


def _words_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001
    ctx.save_for_backward(inputs[1])


def _words_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    (scale,) = ctx.saved_tensors
    return grad / scale[..., None], None, None


input_words.register_autograd(_words_backward, setup_context=_words_context)


@torch.library.custom_op("halut::half_inputs", mutates_args=())
def half_inputs(x: Tensor) -> Tensor:
    """Round to the nearest half float, ties to even, and back; overflow gives infinity."""
    return x.half().to(x.dtype)


@torch.library.custom_op("halut::half_thresholds", mutates_args=())
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
    exact = thresholds.clamp(-65504.0, 65504.0)
    nearest = exact.half()
    bits = nearest.view(torch.int16)
    # One step towards minus infinity: from zero to the smallest negative subnormal.
    below = torch.where(nearest > 0, bits - 1, bits + 1)
    below = torch.where(nearest == 0, torch.full_like(bits, -0x7FFF), below).view(torch.float16)
    chosen = torch.where(nearest.to(exact.dtype) > exact, below, nearest)
    return chosen.to(thresholds.dtype)


for _operator in (half_inputs, half_thresholds):
    _operator.register_fake(torch.empty_like)
    _operator.register_autograd(lambda _, grad: grad)


@torch.library.custom_op("halut::scaled", mutates_args=())
def scaled(sums: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Turn accumulators into values of the product, as `halut.golden.dequantize` does.

    Parameters
    ----------
    sums : float32 Tensor of shape (B, G, M, L)
        Integers.
    scale, offset : float32 Tensor of shape (G, M)

    Returns
    -------
    float32 Tensor of shape (B, G, M, L)
        ``sums * scale``, rounded, ``+ offset``, rounded.
    """
    return (sums * scale[..., None]).add_(offset[..., None])


@scaled.register_fake
def _(sums: Tensor, _scale: Tensor, _offset: Tensor) -> Tensor:
    return torch.empty_like(sums)


def _scaled_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    (scale,) = ctx.saved_tensors
    return grad * scale[..., None], None, grad.sum(dim=(0, 3))


scaled.register_autograd(_scaled_backward, setup_context=_words_context)
