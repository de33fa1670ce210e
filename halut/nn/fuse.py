"""Networks for this processor: looked-up convolutions, and what is between them, in one call.

A network is traced, and cut into regions that the native library runs (`halut.nn.region`) and
parts that torch runs.
"""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.fx.passes.split_module import split_module

from halut.nn.layers import HalutLayer
from halut.nn.region import Region, matched
from halut.nn.replace import as_written

__all__ = ["fused"]


def fused(model: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that runs faster on this processor.

    Looked-up convolutions that follow each other, with the batch norms, ReLUs, 2x2 max poolings and
    residual additions between them, become one native call. Everything else is left to torch, as it
    is: other layers, and modules that torch.fx cannot trace, but for what is inside them. Results
    are equal. The copy is to run only: it cannot be trained, converted, saved or exported.

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
    return _fused(copy.deepcopy(as_written(model)).eval().requires_grad_(False))


def _fused(module: nn.Module) -> nn.Module:
    """Fuse a module, or what is inside it where it cannot be traced."""
    if isinstance(module, HalutLayer):
        return module
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # whatever a forward method raises when it meets no tensor
        for name, child in list(module.named_children()):
            setattr(module, name, _fused(child))
        return module
    traced = fx.GraphModule(module, graph)
    parts = _parts(traced)
    if not parts:
        return module
    whole = split_module(traced, module, lambda node: parts[node], keep_original_order=True)
    for name, part in list(whole.named_children()):
        if isinstance(part, fx.GraphModule):
            setattr(whole, name, Region.of(part) or part)
    return whole


def _parts(traced: fx.GraphModule) -> dict[fx.Node, int]:
    """Number neighbouring nodes that the native library runs, or torch; none without a region."""
    native, convolutions = matched(traced)
    parts: dict[fx.Node, int] = {}
    number, before = 0, None
    for node in traced.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            parts[node] = number
            continue
        number += before is not None and (node in native) != before
        before = node in native
        parts[node] = number
    return parts if convolutions else {}
