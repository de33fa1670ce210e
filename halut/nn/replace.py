"""Putting modules in the place of others: under every name, with hooks, and back again."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from halut.nn.layers import layers_of

__all__ = [
    "Structure",
    "Whole",
    "all_names",
    "as_written",
    "become",
    "carry_over",
    "replace_everywhere",
    "replace_module",
]

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip
_STATE_HOOKS = (
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one with that name."""
    parent_name, _, child = name.rpartition(".")
    _set_child(model.get_submodule(parent_name), child, module)


def replace_everywhere(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another one, under every name that it has in the model."""
    for parent in list(model.modules()):
        for child, module in list(parent._modules.items()):
            if module is old:
                _set_child(parent, child, new)


def _set_child(parent: nn.Module, child: str, module: nn.Module) -> None:
    """Set a child.

    `nn.TransformerEncoderLayer` reads the weights of its parts when it takes its fused path in
    evaluation mode; a converted one no longer takes it.
    """
    setattr(parent, child, module)
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0


class Whole(nn.Module):
    """A model that has nothing but one layer, for what replaces layers in models.

    Parameters
    ----------
    layer : nn.Module
    """

    _NAME = "layer"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.train(layer.training)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self.layer(*args, **kwargs)

        self.forward = functools.wraps(layer.forward)(forward)  # with its signature

    def own_name(self, name: str) -> str:
        """Return the layer's own name for a name in this model."""
        return name.removeprefix(self._NAME).removeprefix(".")

    def named(self, config: Any, filter_fn: Any) -> tuple[Any, Any]:
        """Return what `halut.nn.convert_` takes for this model, given what is for the layer."""
        if isinstance(config, Mapping):
            config = {
                f"{self._NAME}.{name}" if name else self._NAME: one for name, one in config.items()
            }
        own = filter_fn
        if filter_fn is not None:

            def own(name: str, module: nn.Module) -> bool:
                return bool(filter_fn(self.own_name(name), module))

        return config, own


def as_written(model: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` was given, of what it made; others as they are."""
    written = getattr(model, "_orig_mod", None)
    return written if isinstance(written, nn.Module) else model


def become(old: nn.Module, new: nn.Module) -> None:
    """Make a module what another one is, whoever holds it; the other one is not used any more."""
    vars(old).clear()
    vars(old).update(vars(new))
    old.__class__ = type(new)


def all_names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Return every name of every module."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


class Structure:
    """Which modules a model is made of at one time."""

    def __init__(self, model: nn.Module) -> None:
        self._children = [(module, dict(module._modules)) for module in model.modules()]
        self._fused = [
            (module, module.activation_relu_or_gelu)
            for module in model.modules()
            if isinstance(module, nn.TransformerEncoderLayer)
        ]

    def put_back(self) -> None:
        """Make the model what it was."""
        for module, children in self._children:
            module._modules.clear()
            module._modules.update(children)
        for layer, fused in self._fused:
            layer.activation_relu_or_gelu = fused

    @classmethod
    @contextmanager
    def kept_on_error(cls, model: nn.Module) -> Iterator[None]:
        """Put everything back when the block ends with an exception."""
        before = cls(model)
        try:
            yield
        except BaseException:
            before.put_back()
            raise


def carry_over(old: nn.Module, new: nn.Module) -> str:
    """Give a module what belongs to the one that it replaces; return which hooks are lost.

    Hooks move; handles that were returned for them still remove them. Parameters train where the
    old ones did. Hooks that only compute the weight (`torch.nn.utils.weight_norm`, `spectral_norm`,
    `prune`) do not move: the weight that they gave has been learned.
    """
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    weighing = [key for key, hook in old._forward_pre_hooks.items() if _only_weighs(hook)]
    if weighing:
        new._forward_pre_hooks = old._forward_pre_hooks.copy()
        for key in weighing:
            del new._forward_pre_hooks[key]
    parameters = list(old.parameters())
    trained = any(parameter.requires_grad for parameter in parameters)
    for parameter_name, parameter in new.named_parameters():
        if not parameter_name.endswith("temperature") and parameters:
            parameter.requires_grad_(trained)
    own = getattr(old, "bias", None)
    if isinstance(own, nn.Parameter) and isinstance(getattr(new, "bias", None), nn.Parameter):
        new.bias.requires_grad_(own.requires_grad)
    for layer in layers_of(new).values():
        layer.weight_dtype = next((one.dtype for one in parameters), None)
    lost = [name[1:].replace("_", " ") for name in _STATE_HOOKS if getattr(old, name, None)]
    return "" if weighing else ", ".join(lost)


def _only_weighs(hook: object) -> bool:
    """Return whether a hook only computes the weight, as old reparametrisations of torch do."""
    kinds = "weight_norm", "spectral_norm", "prune"
    return type(hook).__module__ in [f"torch.nn.utils.{kind}" for kind in kinds]
