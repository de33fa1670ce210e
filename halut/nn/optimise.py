"""One step of training: parameter groups, the loss, and what changes from step to step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.nn.layers import HalutLayer, layers_of
from halut.nn.recipe import Recipe, Stage, Temperature

__all__ = ["limit_temperatures", "loss_of", "new_optimizer", "set_rate", "set_temperatures"]

_LOWEST_TEMPERATURE = 1e-3


def new_optimizer(model: nn.Module, recipe: Recipe, stage: Stage) -> torch.optim.Optimizer:
    """Return the optimiser of a stage; its groups have a ``factor`` of the learning rate.

    Weights of exact layers decay; tables, thresholds and temperatures of Halut layers have rates
    of their own, and so do biases and norms where there are Halut layers.
    """
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    norms_lr = recipe.norms_lr if layers_of(model) else 1.0
    tables: list[nn.Parameter] = rest if recipe.tables_lr == norms_lr else []
    thresholds: list[nn.Parameter] = []
    temperatures: list[nn.Parameter] = []
    by_name = {"thresholds": thresholds, "temperature": temperatures, "lut": tables}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, HalutLayer):
                by_name.get(name, rest).append(parameter)
            elif parameter.ndim > 1:
                weights.append(parameter)
            else:
                rest.append(parameter)
    groups = [
        {"params": weights, "factor": 1.0, "weight_decay": stage.weight_decay},
        {"params": rest, "factor": norms_lr, "weight_decay": 0.0},
        {
            "params": [] if tables is rest else tables,
            "factor": recipe.tables_lr,
            "weight_decay": 0.0,
        },
        {"params": thresholds, "factor": recipe.thresholds_lr, "weight_decay": 0.0},
        {"params": temperatures, "factor": recipe.temperature.lr, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=stage.lr)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def set_temperatures(
    model: nn.Module, schedule: Temperature, done: float, units: Mapping[str, float]
) -> None:
    """Set the temperature that is scheduled when a share `done` of the steps is over.

    `units` says, by the name of a layer, what its temperature is a multiple of; 1 where absent.
    """
    if schedule.schedule in ("linear", "cosine"):
        for name, layer in layers_of(model).items():
            layer.temperature.data.fill_(schedule.at(done) * units.get(name, 1.0))


def limit_temperatures(model: nn.Module, schedule: Temperature) -> None:
    """Keep temperatures that are trained above zero."""
    if schedule.schedule == "trained":
        for layer in layers_of(model).values():
            layer.temperature.data.clamp_(min=_LOWEST_TEMPERATURE)


def loss_of(
    recipe: Recipe, images: Tensor, logits: Tensor, labels: Tensor, teacher: nn.Module | None
) -> Tensor:
    """Return the loss of a batch: from labels, and from a teacher's outputs where there is one."""
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher is None or not recipe.distillation.weight:
        return loss
    share, temperature = recipe.distillation.weight, recipe.distillation.temperature
    with torch.no_grad():
        taught = functional.log_softmax(teacher(images) / temperature, dim=1)
    distance = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        taught,
        reduction="batchmean",
        log_target=True,
    )
    return (1 - share) * loss + share * temperature**2 * distance
