"""What conversion made of a network's modules, in words that a file can hold, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from halut.nn.attention import HalutMultiheadAttention
from halut.nn.handlers import handled_again, made_from
from halut.nn.layers import layer_of, layers_of
from halut.nn.replace import become, replace_everywhere, replace_module

__all__ = ["FIELDS", "described", "rebuild_"]

FIELDS = ("identities", "attentions", "layers")
"""Fields that the description in a network file has always had; ``handled`` came later."""

_STATES = ("input_bits", "raw_output")


def described(model: nn.Module) -> dict[str, Any]:
    """Return what differs from the network before conversion, without its parameters.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    dict
        ``handled``: modules that a handler made of others, by name, with the shape and the dtype of
        an input. ``identities``: names of modules that do nothing (folding leaves them).
        ``attentions`` and ``layers``: how the looked-up ones are made.
    """
    modules = dict(model.named_modules())
    return {
        "handled": {
            name: {"shape": list(made[0]), "dtype": made[1]}
            for name, module in modules.items()
            if (made := made_from(module)) is not None
        },
        "identities": [n for n, module in modules.items() if isinstance(module, nn.Identity)],
        "attentions": {
            name: _attention_arguments(module)
            for name, module in modules.items()
            if isinstance(module, HalutMultiheadAttention)
        },
        "layers": {
            name: {
                "geometry": layer.geometry(),
                "config": layer.config.to_dict(),
                **{state: getattr(layer, state) for state in _STATES},
            }
            for name, layer in layers_of(model).items()
        },
    }


def rebuild_(model: nn.Module, description: Mapping[str, Any]) -> None:
    """Make a network that is not converted what a description says, with other parameters.

    Parameters
    ----------
    model : nn.Module
        Changed in place. Modules that are shared stay so.
    description : mapping
        As `described` returned it.

    Raises
    ------
    HalutError
        When a module's handler is not registered, or a layer's description breaks a rule.
    AttributeError, KeyError, TypeError, ValueError, RuntimeError
        When the network is another one.
    """
    for name, made in description.get("handled", {}).items():
        old = model.get_submodule(name)
        _replace(model, name, handled_again(name, old, made["shape"], made["dtype"]))
    for name in description.get("identities", ()):
        model.get_submodule(name)  # raises when there is nothing to replace
        replace_module(model, name, nn.Identity())
    for name, arguments in description.get("attentions", {}).items():
        _replace(model, name, HalutMultiheadAttention(**arguments))
    for name, entry in description["layers"].items():
        layer = layer_of(entry)
        for state in _STATES:
            if state in entry:
                setattr(layer, state, entry[state])
        _replace(model, name, layer)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    old = model.get_submodule(name)  # raises when there is nothing to replace
    if old is model:
        become(model, module)
    else:
        replace_everywhere(model, old, module)


def _attention_arguments(module: HalutMultiheadAttention) -> dict[str, Any]:
    return {
        "embed_dim": module.embed_dim,
        "num_heads": module.num_heads,
        "dropout": module.dropout,
        "bias": module.out_proj.with_bias,
        "kdim": module.k_proj.in_features,
        "vdim": module.v_proj.in_features,
        "batch_first": module.batch_first,
    }
