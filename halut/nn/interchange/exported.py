"""A program of `torch.export` as an `nn.Module`; its products with constant weights are layers."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from halut.errors import HalutError

__all__ = ["module_of", "read_pt2"]

_ATEN = torch.ops.aten
_PRODUCTS: dict[Any, type[nn.Module] | None] = {
    _ATEN.linear.default: None,
    _ATEN.conv1d.default: nn.Conv1d,
    _ATEN.conv2d.default: nn.Conv2d,
    _ATEN.conv3d.default: nn.Conv3d,
    _ATEN.conv1d.padding: nn.Conv1d,
    _ATEN.conv2d.padding: nn.Conv2d,
    _ATEN.conv3d.padding: nn.Conv3d,
}


def module_of(program: torch.export.ExportedProgram) -> nn.Module:
    """Return a module that computes what an exported program does.

    Linear layers and convolutions are torch's modules again, under the names that they had, so
    that `halut.nn.convert_` replaces them. The rest are operations; batch norms and dropout stay as
    they were exported.

    Parameters
    ----------
    program : torch.export.ExportedProgram

    Returns
    -------
    nn.Module
    """
    whole = program.module(check_guards=False)
    assert isinstance(whole, GraphModule)
    graph = whole.graph
    layers: dict[tuple[str, ...], str] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _PRODUCTS:
            _to_layer(whole, node, layers)
    graph.eliminate_dead_code()
    module = GraphModule(whole, graph)
    module.delete_all_unused_submodules()
    return module


def _to_layer(whole: GraphModule, node: Node, layers: dict[tuple[str, ...], str]) -> None:
    """Put a layer in the place of a product with a constant weight."""
    schema = node.target._schema  # type: ignore[union-attr]
    given: dict[str, Any] = {
        argument.name: node.args[k] if k < len(node.args) else argument.default_value
        for k, argument in enumerate(schema.arguments)
    } | dict(node.kwargs)
    weight, bias = given["weight"], given["bias"]
    if weight.op != "get_attr" or not (bias is None or bias.op == "get_attr"):
        return
    key = (weight.target, "" if bias is None else bias.target)
    if key not in layers:
        values = [_value(whole, one) for one in (weight, bias)]
        owner, _, _ = weight.target.rpartition(".")
        layers[key] = _free(whole, owner or "layer")
        _put(whole, layers[key], _layer(node, given, *values))
    with node.graph.inserting_before(node):
        called = node.graph.call_module(layers[key], (given["input"],))
    called.meta = dict(node.meta)
    node.replace_all_uses_with(called)
    node.graph.erase_node(node)


def _layer(node: Node, given: dict[str, Any], weight: Any, bias: Tensor | None) -> nn.Module:
    make: Any = _PRODUCTS[node.target]
    layer: Any
    if make is None:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        groups = given["groups"]
        layer = make(
            weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), given["stride"],
            given["padding"], given["dilation"], groups, bias is not None,
        )  # fmt: skip
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)
    if bias is not None:
        layer.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias)
    return layer


def _value(whole: nn.Module, node: Node | None) -> Any:
    if node is None:
        return None
    owner, _, name = str(node.target).rpartition(".")
    return getattr(whole.get_submodule(owner), name)


def _free(whole: nn.Module, name: str) -> str:
    """Return a name of a submodule that holds nothing but the weight and the bias."""
    try:
        there = whole.get_submodule(name)
    except AttributeError:
        return name
    only = {key for key, _ in there.named_parameters()} <= {"weight", "bias"}
    if only and not list(there.children()) and not isinstance(there, nn.Linear | nn.Conv2d):
        return name
    number = 1
    while hasattr(whole, f"{name.replace('.', '_')}_{number}"):
        number += 1
    return f"{name.replace('.', '_')}_{number}"


def _put(whole: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, child = name.rpartition(".")
    setattr(whole.get_submodule(owner), child, layer)


def read_pt2(path: str | os.PathLike[str]) -> nn.Module:
    """Read a program that `torch.export.save` wrote, see `module_of`.

    Raises
    ------
    HalutError
        When the file cannot be read or is no such program.
    """
    try:
        with open(path, "rb"):
            pass
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile("check sums differ")
        program = torch.export.load(os.fspath(path))
    except OSError as error:
        raise HalutError(f"network must be readable: {error.strerror or error} ({path})") from None
    except Exception as error:  # a foreign or damaged file makes torch raise nearly anything
        raise HalutError(
            f"network must be a program of torch.export (.pt2), not something else: "
            f"{type(error).__name__} ({path})"
        ) from None
    return module_of(program)
