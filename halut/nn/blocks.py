"""Blocks of a converted network, and what they and their exact twins are called with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halut.nn.deviation import tensors_of
from halut.nn.layers import HalutLayer, layers_of
from halut.nn.watch import Call, call_counts, calls_of

__all__ = [
    "Block",
    "Inputs",
    "blocks_of",
    "inputs_of",
    "only_trained",
    "smaller_batches",
    "trainable_parts",
]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a converted network that the exact one has under the same name.

    Attributes
    ----------
    name : str
        "" for the whole network.
    layers : tuple of str
        Names of the replaced layers in it, in the network, in the order of their calls.
    """

    name: str
    layers: tuple[str, ...]


def blocks_of(model: nn.Module, exact: nn.Module, batch: Any, most_layers: int) -> list[Block]:
    """Cut a network into the largest parts with at most so many replaced layers.

    Parameters
    ----------
    model, exact : nn.Module
    batch : batch
        As for `halut.nn.convert_`.
    most_layers : int

    Returns
    -------
    list of Block
        In the order in which the model calls them; parts that it does not call are left out.
    """
    order = list(call_counts(model, dict(model.named_modules()), batch))
    called = {name: index for index, name in enumerate(order)}
    layers = sorted((name for name in layers_of(model) if name in called), key=called.__getitem__)
    twins = {name for name, _ in exact.named_modules(remove_duplicate=False)}

    def inside(name: str) -> tuple[str, ...]:
        return tuple(one for one in layers if not name or one == name or one.startswith(f"{name}."))

    def cut(name: str, module: nn.Module) -> Iterator[Block]:
        here = inside(name)
        if not here:
            return
        children = {
            f"{name}.{child}" if name else child: part for child, part in module.named_children()
        }
        apart = all(child in twins for child in children if inside(child))
        whole = isinstance(module, HalutLayer) or not apart
        if name in called and (whole or len(here) <= most_layers):
            yield Block(name=name, layers=here)
            return
        for child, part in children.items():
            if child in twins:
                yield from cut(child, part)

    return sorted(cut("", model), key=lambda block: called[block.name])


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a block is called with for every batch, and what its exact twin gives there.

    Attributes
    ----------
    calls : list of list of Call
        Of the converted block, per batch.
    exact_calls : list of list of Call
    targets : list of list of Tensor
        What the exact twin gave, call by call; tensors of floats only.
    """

    calls: list[list[Call]]
    exact_calls: list[list[Call]]
    targets: list[list[Tensor]]


@torch.no_grad()
def inputs_of(model: nn.Module, exact: nn.Module, name: str, batches: list[Any]) -> Inputs:
    """Run both networks as far as a block, in evaluation mode."""
    once = call_counts(model, {name: model.get_submodule(name)}, batches[0])[name] == 1
    last = name if once and name else None
    twin = exact.get_submodule(name)
    calls, exact_calls, targets = [], [], []
    for batch in batches:
        calls.append(calls_of(model, [name], [batch], last)[name])
        exact_calls.append(calls_of(exact, [name], [batch], last)[name])
        targets.append(
            [one.clone() for call in exact_calls[-1] for one in tensors_of(call.run(twin))]
        )
    return Inputs(calls=calls, exact_calls=exact_calls, targets=targets)


def smaller_batches(batches: list[Any], size: int) -> list[Any]:
    """Cut batches into those of at most `size` items, where every tensor has as many items."""
    return [part for batch in batches for part in _cut(batch, size)]


def _cut(batch: Any, size: int) -> list[Any]:
    parts: list[Any]
    if isinstance(batch, (Tensor, np.ndarray)):
        return [batch[first : first + size] for first in range(0, max(len(batch), 1), size)]
    if isinstance(batch, Mapping):
        values = list(batch.values())
    elif isinstance(batch, (tuple, list)):
        values = list(batch)
    else:
        return [batch]
    arrays = [one for one in values if isinstance(one, (Tensor, np.ndarray)) and one.ndim]
    if len(arrays) != len(values) or len({len(one) for one in arrays}) != 1:
        return [batch]
    parts = [_cut(one, size) for one in arrays]
    if isinstance(batch, Mapping):
        return [dict(zip(batch, part, strict=True)) for part in zip(*parts, strict=True)]
    return [tuple(part) for part in zip(*parts, strict=True)]


def trainable_parts(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return tables, thresholds and constants of replaced layers, and what norms multiply and add.

    By their names in the module, each parameter once.
    """
    found: dict[str, nn.Parameter] = {}
    for name, part in module.named_modules():
        normalises = isinstance(part, _NORMS) or type(part).__name__.endswith("RMSNorm")
        if normalises or isinstance(part, HalutLayer):
            for own, parameter in part.named_parameters(recurse=False):
                if own != "temperature" and parameter.is_floating_point():
                    found[f"{name}.{own}" if name else own] = parameter
    return found


@contextmanager
def only_trained(model: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Let only some parameters have gradients, and put flags back afterwards."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
