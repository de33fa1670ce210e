"""How many multiply-accumulate operations the products of a network have, and whose they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from halut.nn.layer import is_dense
from halut.nn.layers import HalutLayer
from halut.nn.watch import evaluating, hooked, run_batch

__all__ = ["count_macs", "macs_of_parameters"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COUNTED = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, HalutLayer)

_FACTORS = {
    "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "mv": (0, 1), "addmv": (1, 2),
    "_grouped_mm": (0, 1), "convolution": (1, 1),
}  # fmt: skip
"""Where torch's operations have the factors of a product. The first has rows as long as a sum; a
convolution has its weight only. Whatever multiplies matrices comes down to these."""


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


@torch.no_grad()
def macs_of_parameters(model: nn.Module, batch: Any) -> dict[tuple[str, ...], int]:
    """Count the operations of products one of whose factors is a parameter or a buffer, or a part.

    Whatever multiplies by it, a layer or a function: of parameters that a module multiplies by
    without calling a layer, nothing else knows.

    Parameters
    ----------
    model : nn.Module
    batch : batch
        As for `halut.nn.convert_`.

    Returns
    -------
    dict of tuple of str to int
        By all names of the parameter or buffer, of two dimensions or more; in the order of first
        use, of all items of the batch.
    """
    names: dict[int, list[str]] = {}
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        if tensor.ndim >= 2 and tensor.numel():
            names.setdefault(_place(tensor), []).append(name)
    products = _Products(set(names))
    with evaluating(model), products:
        run_batch(model, batch)
    return {tuple(names[place]): count for place, count in products.counts.items()}


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if is_dense(tensor) else 0


class _Products(TorchDispatchMode):
    """Counts the operations of products whose factors lie in one of several places in memory."""

    def __init__(self, places: set[int]) -> None:
        super().__init__()
        self.places, self.counts = places, dict[int, int]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        factors = _FACTORS.get(func.overloadpacket.__name__) if func.namespace == "aten" else None
        if factors is None:
            return output
        first, second = args[factors[0]], args[factors[1]]
        for place in {_place(first), _place(second)} & self.places:
            if func.overloadpacket.__name__ == "convolution":
                transposed = args[6]
                macs = (args[0] if transposed else output).numel() * first[0].numel()
            else:
                macs = output.numel() * first.shape[-1]
            self.counts[place] = self.counts.get(place, 0) + macs
        return output


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
