"""What a recipe means for a model: its arguments, the layers to replace, the stages."""

from __future__ import annotations

import fnmatch
from typing import Any

from torch import Tensor, nn

from halut.errors import HalutError
from halut.nn.data import Dataset
from halut.nn.models import arguments
from halut.nn.recipe import Recipe, Stage
from halut.nn.watch import call_counts

__all__ = ["model_arguments", "stages", "targets"]


def model_arguments(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """Return what the model takes: what the data say, and the recipe's options."""
    said = {"n_classes": data.n_classes}
    if data.images:
        said |= {"in_channels": data.n_channels, "image_size": data.image_size}
    known = arguments(recipe.model)
    return {key: said[key] for key in said if key in known} | dict(recipe.model_options)


def targets(recipe: Recipe, model: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the layers to replace, in forward order."""
    order = list(call_counts(model, (nn.Conv2d, nn.Linear), image))
    if recipe.layers == "interior":
        chosen = order[1:-1]
    elif recipe.layers == "all":
        chosen = list(order)
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


def stages(recipe: Recipe, layers: list[str]) -> list[tuple[str, Stage, list[str]]]:
    """Return the stages of a run in order: name, how to train, layers to replace before that."""
    if recipe.mode == "sequential":
        replaced = [(f"replace {name}", recipe.replace, [name]) for name in layers]
    else:
        replaced = [("replace", recipe.replace, layers)]
    return [("base", recipe.base, []), *replaced, ("fine-tune", recipe.fine_tune, [])]
