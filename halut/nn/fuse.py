"""Networks for this processor: what follows a looked-up convolution is done as its results leave.

Native operators write a ReLU's and a pooling's results at once, so that less goes through memory.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from halut.nn.layers import HalutConv2d, HalutLayer

__all__ = ["fused"]


class _Fused(nn.Module):
    """A looked-up convolution, and the ReLU and 2x2 max pooling that follow it.

    The layer is no submodule: what looks for layers, to export or to convert them, finds none, and
    says so, instead of leaving out what follows.
    """

    def __init__(self, layer: HalutLayer, rectify: bool, pool: bool) -> None:
        super().__init__()
        self.__dict__["layer"] = layer
        self.rectify, self.pool = rectify, pool

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.__dict__["layer"]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        return f"{self.__dict__['layer']}, rectify={self.rectify}, pool={self.pool}"

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.__dict__["layer"].forward_pooled(
            x, rectify=self.rectify, pool=self.pool
        )
        return found


class _Largest(nn.Module):
    """The largest value of every channel: ``nn.AdaptiveMaxPool2d(1)``, which is slow."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x.amax(dim=(-2, -1), keepdim=True)
        return found


def fused(model: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that runs faster on this processor.

    In every `nn.Sequential`, a looked-up convolution takes in the ReLU that follows, and the 2x2
    max pooling after that; `nn.Identity` in between is left out. Other ReLUs there work in place
    on what a convolution or batch norm before them made. Results are equal. The copy is to run
    only: it cannot be trained, converted, saved or exported.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from halut.nn import HalutConv2d, fused
    >>> model = nn.Sequential(HalutConv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    >>> x = torch.randn(2, 4, 6, 6)
    >>> with torch.no_grad():
    ...     torch.equal(fused(model)(x), model(x))
    True
    """
    found = copy.deepcopy(model).eval()
    for module in list(found.modules()):
        if isinstance(module, nn.Sequential):
            _fuse(module)
        for name, child in list(module.named_children()):
            if type(child) is nn.AdaptiveMaxPool2d and child.output_size in (1, (1, 1)):
                setattr(module, name, _Largest())
    return found.requires_grad_(False)


def _fuse(sequence: nn.Sequential) -> None:
    """Fuse what follows looked-up convolutions in a sequence, in place."""
    names = [name for name, part in sequence.named_children() if type(part) is not nn.Identity]
    for name, *after in zip(names, [*names[1:], ""], [*names[2:], "", ""], strict=True):
        part, rectifies = sequence.get_submodule(name), sequence.get_submodule(after[0])
        pools = sequence.get_submodule(after[1]) if after[1] else None
        if after[0] and type(rectifies) is nn.ReLU:
            if isinstance(part, (nn.Conv2d, nn.BatchNorm2d)):
                rectifies.inplace = True
            elif type(part) is HalutConv2d:
                pool = _halves(pools)
                setattr(sequence, name, _Fused(part, rectify=True, pool=pool))
                setattr(sequence, after[0], nn.Identity())
                if pool:
                    setattr(sequence, after[1], nn.Identity())


def _halves(module: nn.Module | None) -> bool:
    """Say whether a module takes the largest of two by two values."""
    return (
        type(module) is nn.MaxPool2d
        and module.kernel_size in (2, (2, 2))
        and module.stride in (2, (2, 2))
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )
