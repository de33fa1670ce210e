"""How many multiply-accumulate operations the products of a network have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from halut.nn.layers import HalutLayer
from halut.nn.watch import evaluating, hooked, run_batch

__all__ = ["count_macs"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COUNTED = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, HalutLayer)


@torch.no_grad()
def count_macs(model: nn.Module, batch: Any) -> dict[str, int]:
    """Count the operations of linear layers, convolutions and attentions' projections.

    Parameters
    ----------
    model : nn.Module
    batch : batch
        As for `halut.nn.convert_`.

    Returns
    -------
    dict of str to int
        Per module that was called, in that order; of all items of the batch. Of a replaced layer
        those of the product that it stands for.
    """
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def called(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            counts[name] = counts.get(name, 0) + _macs(module, args, output)

        return called

    hooks = (
        module.register_forward_hook(count(name))
        for name, module in model.named_modules()
        if isinstance(module, _COUNTED)
    )
    with evaluating(model), hooked(hooks):
        run_batch(model, batch)
    return counts


def _macs(module: Any, args: tuple[Any, ...], output: Any) -> int:
    if isinstance(module, nn.MultiheadAttention):
        given = [one for one in args[:3] if isinstance(one, Tensor)]
        return module.embed_dim * (sum(one.numel() for one in given) + output[0].numel())
    if isinstance(module, HalutLayer):
        return int(output.numel()) * module.n_features
    if isinstance(module, nn.Linear):
        return int(output.numel()) * module.in_features
    if isinstance(module, _TRANSPOSED):
        return (
            int(args[0].numel())
            * module.out_channels
            // module.groups
            * math.prod(module.kernel_size)
        )
    return int(output.numel()) * module.in_channels // module.groups * math.prod(module.kernel_size)
