"""Trees whose levels compare sums of a few features, each with a sign, in torch operations.

What `halut.sums` and `halut.quantize.sum_thresholds` are for NumPy: forward the integers of the
hardware, backward rounding is the identity, and a sum hands its gradient to each of its terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from halut import quantize
from halut.nn.operators import differentiable
from halut.nn.quantize import input_words, per_node

__all__ = ["signed_sums", "sum_thresholds", "sum_words"]


@torch.library.custom_op("halut::sum_thresholds", mutates_args=())
def sum_thresholds(
    thresholds: Tensor, signs: Tensor, ends: Tensor, bits: int, granularity: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the grids of integer inputs that are added up, and the thresholds of their sums.

    `halut.quantize.sum_thresholds`, group by group.

    Parameters
    ----------
    thresholds : float Tensor of shape (G, C, K - 1), finite
    signs : int8 Tensor of shape (G, C, T, terms), range [-1, 1]
    ends : float32 Tensor of shape (2, G, C, T, terms)
        The lowest and the highest value of each term.
    bits : int
        Of an input word.
    granularity : {"codebook", "dimension", "all"}
        What shares one grid.

    Returns
    -------
    words : Tensor of shape (G, C, K - 1), dtype of `thresholds`
        Integers in the range of signed ``bits + ceil(log2 terms)`` bits.
    scale, offset : float32 Tensor of shape (G, C, T)
        ``word = clip(rint((x - offset) / scale))``; no gradient.
    """
    low, high = ends.cpu().numpy()
    each = zip(thresholds.detach().cpu().numpy(), signs.cpu().numpy(), low, high, strict=True)
    found = [quantize.sum_thresholds(*group, bits, granularity) for group in each]
    words, scale, offset = (
        torch.from_numpy(np.stack(part)).to(thresholds.device) for part in zip(*found, strict=True)
    )
    return words.to(thresholds.dtype), scale, offset


@sum_thresholds.register_fake
def _(
    thresholds: Tensor, signs: Tensor, _ends: Tensor, _bits: int, _granularity: str
) -> tuple[Tensor, Tensor, Tensor]:
    scale = thresholds.new_empty(signs.shape[:3], dtype=torch.float32)
    return torch.empty_like(thresholds), scale, torch.empty_like(scale)


def _context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None, None, None]:
    (scale,) = ctx.saved_tensors
    return grad / per_node(scale), None, None, None, None


sum_thresholds = differentiable(sum_thresholds, _backward, _context)


def sum_words(x: Tensor, signs: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Turn inputs into words, and add up those of each level, as `halut.encoding` does.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T * terms, L)
    signs : int8 Tensor of shape (G, C, T, terms), range [-1, 1]
    scale, offset : float32 Tensor of shape (G, C, T)
    bits : int
        Of a word. What lies beyond saturates, and has no gradient.

    Returns
    -------
    Tensor of shape (B, G, C, T, L), dtype of `x`
        Integers; what is subtracted is complemented: ``-1 - word``.
    """
    terms, half = signs.shape[3], 2 ** (bits - 1)
    grids = (each.repeat_interleave(terms, dim=2) for each in (scale, offset))
    words = input_words(x, *grids)
    # The ends have a gradient. That of clamp has there what torch's version makes of it.
    saturated = words.detach().clamp(-half, half - 1)
    words = torch.where(saturated == words, words, saturated)
    complements = (signs < 0).sum(dim=3).to(x.dtype)
    return signed_sums(words, signs) - complements[..., None]


def signed_sums(x: Tensor, signs: Tensor) -> Tensor:
    """Add up the terms of each level in their order, each times its sign.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T * terms, L)
    signs : int8 Tensor of shape (G, C, T, terms), range [-1, 1]
        Where it is 0 no term is added, whatever its value.

    Returns
    -------
    Tensor of shape (B, G, C, T, L), dtype of `x`
    """
    by_term = x.unflatten(3, signs.shape[2:])
    total = torch.zeros_like(by_term[:, :, :, :, 0])
    for term, sign in enumerate(signs.to(x.dtype).unbind(3)):
        value = sign[..., None] * by_term[:, :, :, :, term]
        total = torch.where(sign[..., None] == 0, total, total + value)
    return total
