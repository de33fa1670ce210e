"""What a recipe means for a model: its arguments, the layers to replace, the stages."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from halut.errors import HalutError
from halut.nn.data import Dataset
from halut.nn.handlers import candidates
from halut.nn.models import arguments, build
from halut.nn.recipe import Recipe, Stage
from halut.nn.watch import call_counts

__all__ = ["build_model", "exact_recipe", "model_arguments", "stages", "target_of", "targets"]


def model_arguments(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """Return what the model takes: what the data say, and the recipe's options."""
    said = {"n_classes": data.n_classes}
    if data.images:
        said |= {"in_channels": data.n_channels, "image_size": data.image_size}
    known = arguments(recipe.model)
    return {key: said[key] for key in said if key in known} | dict(recipe.model_options)


def build_model(recipe: Recipe, kwargs: dict[str, Any]) -> nn.Module:
    """Make the recipe's exact network, with parameters in the memory format that it names."""
    model = build(recipe.model, **kwargs)
    if recipe.channels_last:
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def targets(recipe: Recipe, model: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the layers to replace, in forward order."""
    order = list(call_counts(model, candidates(model), image))
    if recipe.layers == "interior":
        chosen = order[1:-1]
    elif recipe.layers == "all":
        chosen = list(order)
    elif recipe.layers == "none":
        return []
    else:
        for pattern in recipe.layers:
            if not fnmatch.filter(order, pattern):
                raise HalutError(
                    f"layers must match layers of the model ({', '.join(order)}), not {pattern!r}"
                )
        chosen = [
            name for name in order if any(fnmatch.fnmatchcase(name, p) for p in recipe.layers)
        ]
    for pattern in recipe.exclude:
        if not fnmatch.filter(order, pattern):
            raise HalutError(
                f"exclude must match layers of the model ({', '.join(order)}), not {pattern!r}"
            )
    chosen = [
        name for name in chosen if not any(fnmatch.fnmatchcase(name, p) for p in recipe.exclude)
    ]
    if not chosen:
        raise HalutError("layers must leave at least one layer to replace, not none")
    return chosen


def target_of(path: str, layers: Iterable[str]) -> str:
    """Return which of the layers to replace a looked-up layer is, or is a part of."""
    return max((one for one in layers if f"{path}.".startswith(f"{one}.")), key=len)


def stages(recipe: Recipe, layers: list[str]) -> list[tuple[str, Stage, list[str]]]:
    """Return the stages of a run in order: name, how to train, layers to replace before that."""
    if not layers:
        return [("base", recipe.base, [])]
    if recipe.mode == "sequential":
        replaced = [(f"replace {name}", recipe.replace, [name]) for name in layers]
    else:
        replaced = [("replace", recipe.replace, layers)]
    return [("base", recipe.base, []), *replaced, ("fine-tune", recipe.fine_tune, [])]


def exact_recipe(recipe: Recipe, layers: list[str]) -> Recipe:
    """Return the recipe that trains the exact network for as many epochs, to compare with.

    Parameters
    ----------
    recipe : Recipe
    layers : list of str
        Those that it replaces, see `targets`.
    """
    epochs = sum(stage.epochs for _, stage, _ in stages(recipe, layers))
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name[:58]}_exact",
        base=dataclasses.replace(recipe.base, epochs=epochs),
        layers="none",
        exclude=(),
        layer_settings={},
    )
