"""The state of a training run, and the file from which it goes on to the same bits."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from halut.errors import HalutError
from halut.nn import files
from halut.nn.description import described, rebuild_
from halut.nn.layers import layers_of
from halut.nn.optimise import new_optimizer
from halut.nn.plan import build_model
from halut.nn.recipe import Recipe, Stage

__all__ = ["Best", "Progress", "State", "read"]

_KIND, _VERSION = "halut-training", 1


@dataclass
class Best:
    """The best network of the stage under way, by the validation inputs.

    Attributes
    ----------
    epoch : int
        How many epochs of the stage were done.
    accuracy, loss : float
        On the validation inputs.
    model : dict of str to Tensor or None
        Its parameters and buffers, where the recipe keeps the best.
    """

    epoch: int
    accuracy: float
    loss: float
    model: dict[str, Any] | None = None

    def beats(self, other: Best | None) -> bool:
        """Return whether it is better: more accurate, or as accurate with less loss."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass
class Progress:
    """Where a run is.

    Attributes
    ----------
    stage : int
        The one that is next or under way.
    prepared : bool
        Whether its layers are replaced already.
    epoch : int
        Its epochs that are done.
    step : int
        Steps that are done, of all stages.
    seconds : float
        Wall-clock time of all sessions.
    history : list of dict
        One entry per epoch.
    stages : list of dict
        One entry per stage that is done.
    """

    stage: int = 0
    prepared: bool = False
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)


class State:
    """Everything that a run changes.

    Parameters
    ----------
    recipe : Recipe
    stages : list of (name, Stage, layers)
        See `halut.nn.plan.stages`.
    model : nn.Module
        As `build` made it, on its device.
    arguments : dict
        What `build` took.

    Attributes
    ----------
    teacher : nn.Module or None
        The exact network, once layers are replaced, for distillation and reconstruction.
    optimizer : torch.optim.Optimizer or None
        Of the stage under way.
    generator : torch.Generator
        Of the order of images and their augmentation.
    progress : Progress
    errors : dict of str to float or None
        Of the layers replaced in this stage.
    units : dict of str to float
        What the temperatures of layers are multiples of; 1 where absent.
    best : Best or None
        Where validation inputs choose.
    scaler : torch.amp.GradScaler
        Of the loss; it does nothing unless the precision is "float16".
    """

    def __init__(
        self,
        recipe: Recipe,
        stages: list[tuple[str, Stage, list[str]]],
        model: nn.Module,
        arguments: dict[str, Any],
    ) -> None:
        self.recipe, self.stages, self.model, self.arguments = recipe, stages, model, arguments
        self.teacher: nn.Module | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.progress = Progress()
        self.errors: dict[str, float | None] = {}
        self.units: dict[str, float] = {}
        self.best: Best | None = None
        device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "float16")

    def set_teacher(self, model: nn.Module) -> None:
        """Learn from a model's outputs from now on."""
        self.teacher = model.eval().requires_grad_(False)

    def train_temperatures(self) -> None:
        """Let the temperatures of all layers be trained, or not, as the recipe says."""
        for layer in layers_of(self.model).values():
            layer.temperature.requires_grad_(self.recipe.temperature.schedule == "trained")

    def begin_stage(self) -> None:
        """Begin the optimiser of the stage under way."""
        _, stage, _ = self.stages[self.progress.stage]
        self.optimizer = new_optimizer(self.model, self.recipe, stage)

    def save(self, path: str | os.PathLike[str], processes: int) -> None:
        """Replace the checkpoint by the state of now."""
        content = {
            "kind": _KIND,
            "version": _VERSION,
            "recipe": self.recipe.hash,
            "processes": processes,
            "progress": dataclasses.asdict(self.progress),
            "errors": self.errors,
            **described(self.model),
            "model": self.model.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
        }
        if (self.progress.stage, self.progress.prepared) == (1, False):
            content["base"] = self.recipe.base_hash  # other runs may begin here
        if self.units:
            content["units"] = self.units
        if self.best is not None:
            content["best"] = vars(self.best)
        if self.scaler.is_enabled():
            content["scaler"] = self.scaler.state_dict()
        files.write(path, content)

    def restore(self, content: dict[str, Any], path: str | os.PathLike[str]) -> int:
        """Take up what a checkpoint holds, and return how many processes wrote it.

        Raises
        ------
        HalutError
            When it does not fit the recipe; `path` is named.
        """
        try:
            self.progress = Progress(**content["progress"])
            if not 0 <= self.progress.stage <= len(self.stages):
                raise ValueError(f"stage {self.progress.stage} of {len(self.stages)}")
            self.errors, self.units = content["errors"], content.get("units", {})
            device = next(self.model.parameters()).device
            if content["teacher"] is not None:
                teacher = build_model(self.recipe, self.arguments).to(device)
                teacher.load_state_dict(content["teacher"])
                self.set_teacher(teacher)
            rebuild_(self.model, content)
            self.model.to(device)
            self.train_temperatures()
            self.model.load_state_dict(content["model"])
            if content["optimizer"] is not None:
                self.begin_stage()
                assert self.optimizer is not None
                self.optimizer.load_state_dict(content["optimizer"])
            best = content.get("best")
            self.best = None if best is None else Best(**best)
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(content["scaler"])
            self.generator.set_state(content["generator"])
            torch.set_rng_state(content["random"])
            return int(content["processes"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise HalutError(f"checkpoint must fit its recipe: {reason} ({path})") from None


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `State.save` wrote; `HalutError` when the file is something else."""
    return files.read(path, "checkpoint of a training run", _KIND, (_VERSION,))
