"""Training a network by a `Recipe`: exact, then layer by layer looked up, then all of it.

A run is a folder. After every epoch and every stage ``checkpoint.pt`` there is replaced as a whole;
a run that was interrupted continues from it to bit-identically the same network (same machine,
threads and processes). Started by ``torchrun``, several processes share each batch.
"""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import halut
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write, locked
from halut.nn import checkpoint
from halut.nn.checkpoint import Best, State
from halut.nn.convert import convert_
from halut.nn.data import Dataset, Shifts, load
from halut.nn.display import epochs_shown, scalars
from halut.nn.layers import layers_of
from halut.nn.network import save_network
from halut.nn.optimise import (
    limit_temperatures,
    loss_of,
    set_rate,
    set_temperatures,
)
from halut.nn.plan import build_model, exact_recipe, model_arguments, stages, target_of, targets
from halut.nn.processes import device_of, group, place
from halut.nn.recipe import Augmentation, Recipe, Stage
from halut.nn.reconstruct import reconstruct_
from halut.nn.watch import (
    evaluating,
    finite_outputs,
    first_not_finite,
    logits_of,
    spreads_of,
)

__all__ = ["BASE", "CHECKPOINT", "HISTORY", "NETWORK", "SUMMARY", "train"]

_log = logging.getLogger(__name__)

CHECKPOINT, NETWORK, BASE = "checkpoint.pt", "network.pt", "base.pt"
AFTER_BASE = "after-base.pt"
HISTORY, SUMMARY, RECIPE = "history.jsonl", "summary.json", "recipe.yaml"

_TEST_BATCH = 512


def train(
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    resume: bool = False,
    exact: bool = False,
    base: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Carry out a recipe, or what is left of it.

    Parameters
    ----------
    recipe : Recipe
    output : path-like
        Folder of the run. A run of the same recipe in it is continued, or, when it is finished,
        its summary returned.
    root : path-like, optional
        Folder of the data set, see `halut.nn.data.load`.
    device : str, optional
        As torch names it; by default "cuda" when there is one, else "cpu".
    resume : bool, default False
        Raise when there is nothing to continue.
    exact : bool, default False
        Replace nothing, and train the exact network for as many epochs as the recipe has in all
        stages, along one schedule: what the recipe's result is to be compared with.
    base : path-like, optional
        Folder of another run whose recipe trains the same exact network: a new run begins where
        that one's base was trained, as if it had trained it itself.
    on_epoch : callable, optional
        Takes each new entry of the history, after its checkpoint is written.

    Returns
    -------
    dict
        What ``summary.json`` holds: accuracies of the base, after each stage and at the end,
        seconds, versions and the recipe's hash.

    Raises
    ------
    HalutError
        When the recipe does not fit the data or the model, or the folder holds something else or
        another run works in it.
    CheckFailed
        When the loss, or what a layer gives, is not finite; the message names the layer. The
        last checkpoint stays.
    """
    if not isinstance(recipe, Recipe):
        raise HalutError(f"recipe must be a Recipe, not {type(recipe).__name__}")
    rank, world = place()
    with torch.random.fork_rng(devices=[]):
        run = _Run(recipe, Path(output), root, device, rank, world, exact)
        if resume:
            run.check_begun()
        # Before processes meet: who is refused must not leave the others waiting inside.
        with locked(output, wait=False) if rank == 0 else nullcontext(), group(world):
            if base is not None:
                run.take_base(Path(base))
            return run.resumed() or run.carry_out(on_epoch)


class _Run:
    """One run in one folder."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        root: str | os.PathLike[str] | None,
        device: str | None,
        rank: int,
        world: int,
        exact: bool = False,
    ) -> None:
        self.recipe, self.output, self.rank, self.world = recipe, output, rank, world
        if recipe.batch_size % world:
            raise HalutError(
                f"batch_size must be a multiple of the {world} processes, not {recipe.batch_size}"
            )
        if recipe.batch_size // world < 2 * recipe.accumulate:
            raise HalutError(
                f"accumulate must leave at least 2 inputs per part, not {recipe.accumulate} parts "
                f"of {recipe.batch_size // world}"
            )
        self.device = device_of(device)
        self.load_arguments: dict[str, Any] = {
            "name": recipe.data,
            "seed": recipe.seed,
            "n_train": recipe.n_train,
            "n_test": recipe.n_test,
        }
        self.root = None if root is None else os.path.abspath(root)
        data = load(root=self.root, **self.load_arguments).labelled()
        if recipe.validation.n_inputs:
            data = data.hold_out(recipe.validation.n_inputs, recipe.seed)
        self.data: Dataset = data.to(self.device)
        shifted = recipe.augmentation != Augmentation()
        if shifted and not self.data.images:
            raise HalutError("augmentation must be absent where inputs are no images")
        n_train = len(self.data.train_x)
        if recipe.batch_size > n_train:
            raise HalutError(
                f"batch_size must be at most the {n_train} training images, not {recipe.batch_size}"
            )
        self.steps_per_epoch = n_train // recipe.batch_size
        self.augment = Shifts(pixels=recipe.augmentation.pixels, flip=recipe.augmentation.flip)

        torch.manual_seed(recipe.seed)
        self.kwargs = model_arguments(recipe, self.data)
        model = build_model(recipe, self.kwargs)
        one = self.data.test_x[:1].cpu()
        with torch.no_grad(), evaluating(model):
            logits_of(model, one, self.data.n_classes)
        self.targets = targets(recipe, model, one)
        if exact:
            self.recipe = recipe = exact_recipe(recipe, self.targets)
            self.targets = []
        for pattern in recipe.layer_settings:
            if not fnmatch.filter(self.targets, pattern):
                raise HalutError(
                    f"layer_settings must match layers to replace ({', '.join(self.targets)}), "
                    f"not {pattern!r}"
                )
        self.stages = stages(recipe, self.targets)
        self.n_epochs = sum(stage.epochs for _, stage, _ in self.stages)
        self.state = State(recipe, self.stages, model.to(self.device), self.kwargs)

    # The course of a run

    def carry_out(self, on_epoch: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """Do all stages that are not done, and write what the run results in."""
        begin = time.perf_counter() - self.state.progress.seconds
        now = self.state.progress
        with self._shown() as show:
            while now.stage < len(self.stages):
                name, stage, layers = self.stages[now.stage]
                if not now.prepared:
                    _log.info("stage %d/%d: %s", now.stage + 1, len(self.stages), name)
                    self.state.optimizer = None
                    self._prepare(name, layers)
                    now.prepared = True
                    now.seconds = time.perf_counter() - begin
                    self._save()
                wrapped = self._wrapped()
                if self.state.optimizer is None:
                    self.state.begin_stage()
                while now.epoch < stage.epochs and not self._stalled():
                    entry = self._epoch(wrapped, name, stage)
                    now.seconds = time.perf_counter() - begin
                    entry["seconds"] = now.seconds
                    now.history.append(entry)
                    self._save()
                    show(entry)
                    if on_epoch is not None:
                        on_epoch(entry)
                self._finish_stage(name)
                now.seconds = time.perf_counter() - begin
                self._save()
        return self._results()

    def _prepare(self, name: str, layers: list[str]) -> None:
        """Replace the layers of a stage, and switch on the formats that begin with it."""
        recipe = self.recipe
        if self.state.progress.stage == 1 and (recipe.distillation.weight or recipe.reconstruct):
            self.state.set_teacher(copy.deepcopy(self.state.model))
        if layers:
            changes: dict[str, Any] = {"temperature": recipe.temperature.start}
            if recipe.lut_bits_from != "replace":
                changes["lut_bits"] = None
            if recipe.input_format_from != "replace":
                changes["input_format"] = None
            images = self.data.train_x[: recipe.calibration_images]
            report = convert_(
                self.state.model,
                {
                    layer: dataclasses.replace(recipe.layer_config(layer), **changes)
                    for layer in layers
                },
                list(images.split(_TEST_BATCH)),
                progress=self.rank == 0,
            )
            self.state.model.train()
            for row in report.rows:
                if not row.converted and row.name in layers:
                    raise HalutError(
                        f"layers must be ones that can be converted, not {row.name} ({row.reason})"
                    )
            self.state.errors = {row.name: row.error for row in report.rows if row.converted}
            self.state.train_temperatures()
            self._fit(layers, images)
        if name == "fine-tune":
            self._set_formats("fine_tune")

    def _fit(self, layers: list[str], images: Tensor) -> None:
        """Fit newly replaced layers to what they get, and to what the exact network's give."""
        recipe, model = self.recipe, self.state.model
        replaced = {
            path: layer
            for path, layer in layers_of(model).items()
            if target_of(path, self.targets) in layers
        }
        if recipe.reconstruct is not None:
            assert self.state.teacher is not None
            report = reconstruct_(model, self.state.teacher, images, recipe.reconstruct)
            _log.info("reconstruction:\n%s", report)
        if recipe.temperature.unit == "spread":
            with evaluating(model):
                self.state.units |= spreads_of(model, list(replaced), images[:_TEST_BATCH])
        if recipe.temperature.unit == "spread" or recipe.reconstruct is not None:
            at = recipe.temperature.at(self._done())
            for path, layer in replaced.items():
                layer.temperature.data.fill_(at * self.state.units.get(path, 1.0))

    def _set_formats(self, moment: str) -> None:
        for path, layer in layers_of(self.state.model).items():
            config = self.recipe.layer_config(target_of(path, self.targets))
            if self.recipe.lut_bits_from == moment:
                layer.set_formats(lut_bits=config.lut_bits)
            if self.recipe.input_format_from == moment:
                layer.set_formats(input_format=config.input_format)

    def _finish_stage(self, name: str) -> None:
        now = self.state.progress
        last = now.stage == len(self.stages) - 1
        best = self.state.best
        if best is not None and best.model is not None:
            self.state.model.load_state_dict(best.model)
            _log.info("%s: epoch %d was the best", name, best.epoch)
        self.state.best = None
        # Where a stage ended early, schedules go on as if it had not.
        planned = sum(stage.epochs for _, stage, _ in self.stages[: now.stage + 1])
        now.step = planned * self.steps_per_epoch
        if last:
            self._set_formats("end")
        loss, accuracy = self._evaluate("test")
        entry = {
            "name": name,
            "test_accuracy": accuracy,
            "test_loss": loss,
            "epochs": now.epoch,
            **({} if best is None or best.model is None else {"best_epoch": best.epoch}),
            "layer_errors": self.state.errors,
        }
        _log.info("%s: test accuracy %.2f %%", name, 100 * accuracy)
        now.stages.append(entry)
        self.state.errors = {}
        now.stage, now.epoch, now.prepared = now.stage + 1, 0, False
        self.state.optimizer = None
        if name == "base" and self.rank == 0:
            self._save_network(BASE)
            self.state.save(self.output / AFTER_BASE, self.world)

    # An epoch

    def _stalled(self) -> bool:
        """Return whether a stage has gone on for long enough without a better network."""
        patience, best = self.recipe.validation.patience, self.state.best
        return bool(patience) and best is not None and self.state.progress.epoch >= (
            best.epoch + patience
        )  # fmt: skip

    def _judge(self, loss: float, accuracy: float) -> None:
        """Keep the network as it is if it is the best of its stage."""
        chosen = self.recipe.validation
        new = Best(self.state.progress.epoch, accuracy, loss)
        if (chosen.keep, chosen.patience) != ("last", 0) and new.beats(self.state.best):
            if chosen.keep == "best":
                new.model = copy.deepcopy(self.state.model.state_dict())
            self.state.best = new

    def _step(self, wrapped: nn.Module, images: Tensor, labels: Tensor, where: str) -> Tensor:
        """Do one step of the optimiser; return the sum of the losses, and how many were right."""
        recipe, optimizer, scaler = self.recipe, self.state.optimizer, self.state.scaler
        assert optimizer is not None
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        optimizer.zero_grad(set_to_none=True)
        parts = list(zip(images.tensor_split(recipe.accumulate),
                         labels.tensor_split(recipe.accumulate), strict=True))  # fmt: skip
        for k, (some, those) in enumerate(parts):
            alone: AbstractContextManager[Any] = nullcontext()
            if k + 1 < len(parts) and isinstance(wrapped, DistributedDataParallel):
                alone = wrapped.no_sync()
            with alone:
                with self._autocast():
                    logits = wrapped(some)
                    loss = loss_of(recipe, some, logits, those, self.state.teacher)
                if not math.isfinite(loss.item()):
                    raise CheckFailed(
                        f"loss must be finite, not {loss.item()} ({where}; "
                        f"{first_not_finite(self.state.model, some)})"
                    )
                scaler.scale(loss * (len(those) / len(labels))).backward()
            right = (logits.detach().argmax(dim=1) == those).sum()
            total += torch.stack([loss.detach().double() * len(those), right.double()])
        if recipe.gradient_clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.state.model.parameters(), recipe.gradient_clip)
        scaler.step(optimizer)
        scaler.update()
        return total

    def _autocast(self) -> torch.autocast:
        dtype = getattr(torch, self.recipe.precision)
        enabled = dtype != torch.float32
        return torch.autocast(self.device.type, dtype=dtype if enabled else None, enabled=enabled)

    def _wrapped(self) -> nn.Module:
        if self.world == 1:
            return self.state.model
        return DistributedDataParallel(self.state.model)

    def _epoch(self, wrapped: nn.Module, name: str, stage: Stage) -> dict[str, Any]:
        recipe, now = self.recipe, self.state.progress
        assert self.state.optimizer is not None
        wrapped.train()
        order = torch.randperm(len(self.data.train_x), generator=self.state.generator)
        total = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, right ones
        black = self.data.black
        rate = 0.0
        for index in range(self.steps_per_epoch):
            rate = stage.lr_at(now.epoch * self.steps_per_epoch + index, self.steps_per_epoch)
            set_rate(self.state.optimizer, rate)
            set_temperatures(self.state.model, recipe.temperature, self._done(), self.state.units)
            chosen = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
            chosen = chosen.to(self.device)
            part = slice(self.rank, None, self.world)
            images = self.augment(self.data.train_x[chosen], self.state.generator, black, part)
            labels = self.data.train_y[chosen[part]]
            where = f"{name}, epoch {now.epoch + 1}, step {index + 1}"
            total += self._step(wrapped, images, labels, where)
            limit_temperatures(self.state.model, recipe.temperature)
            now.step += 1
        if self.world > 1:
            distributed.all_reduce(total)
        loss_sum, right_sum = (total / (self.steps_per_epoch * recipe.batch_size)).tolist()
        now.epoch += 1
        measured = "validation" if recipe.validation.n_inputs else "test"
        measured_loss, accuracy = self._evaluate(measured)
        if recipe.validation.n_inputs:
            self._judge(measured_loss, accuracy)
        return {
            "stage": name,
            "epoch": now.epoch,
            "step": now.step,
            "lr": rate,
            "loss": loss_sum,
            "train_accuracy": right_sum,
            f"{measured}_loss": measured_loss,
            f"{measured}_accuracy": accuracy,
        }

    def _done(self) -> float:
        """Return the share, in [0, 1], of the steps that are done: of the stage, or after the base.

        As the recipe's temperature says.
        """
        if self.recipe.temperature.over == "stage":
            _, stage, _ = self.stages[self.state.progress.stage]
            earlier = sum(one.epochs for _, one, _ in self.stages[: self.state.progress.stage])
            steps = self.state.progress.step - earlier * self.steps_per_epoch
            return min(1.0, steps / max(1, stage.epochs * self.steps_per_epoch - 1))
        before = self.recipe.base.epochs * self.steps_per_epoch
        after = self.n_epochs * self.steps_per_epoch - before
        return min(1.0, max(0, self.state.progress.step - before) / max(1, after - 1))

    @contextmanager
    def _shown(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Yield what shows an epoch; only the first process does."""
        if self.rank:
            yield lambda _: None
            return
        done = len(self.state.progress.history)
        with (
            scalars(self.output / "tensorboard", self.state.progress.step) as write,
            epochs_shown(done, self.n_epochs) as show,
        ):

            def both(entry: dict[str, Any]) -> None:
                write(entry)
                show(entry)

            yield both

    @torch.no_grad()
    def _evaluate(self, which: str) -> tuple[float, float]:
        """Return loss and accuracy on "test" or "validation"; raise when one is not finite."""
        self.state.model.eval()
        if self.world > 1:
            # Each process' batch norms saw its part of the batches; one network is what counts.
            for buffer in self.state.model.buffers():
                distributed.broadcast(buffer, 0)
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        part = slice(self.rank, None, self.world)
        all_images, all_labels = (getattr(self.data, f"{which}_{x}") for x in "xy")
        images, labels = all_images[part], all_labels[part]
        with finite_outputs(self.state.model) as finite:
            for some, those in zip(
                images.split(_TEST_BATCH), labels.split(_TEST_BATCH), strict=True
            ):
                logits = self.state.model(some)
                loss = functional.cross_entropy(logits, those, reduction="sum")
                right = (logits.argmax(dim=1) == those).sum()
                total += torch.stack([loss.double(), right.double()])
        for name, good in finite.items():
            if not good.item():
                raise CheckFailed(f"activations must be finite, not NaN or infinite (layer {name})")
        if self.world > 1:
            distributed.all_reduce(total)
        loss_sum, right_sum = (total / len(all_images)).tolist()
        return loss_sum, right_sum

    # What is on disk

    def _save(self) -> None:
        """Replace checkpoint and history by those of now; the first process does."""
        if self.rank:
            return
        if not (self.output / CHECKPOINT).exists():
            _write(self.output / RECIPE, self.recipe.to_yaml())
        self.state.save(self.output / CHECKPOINT, self.world)
        lines = [json.dumps(entry) + "\n" for entry in self.state.progress.history]
        _write(self.output / HISTORY, "".join(lines))

    def check_begun(self) -> None:
        """Raise `HalutError` when there is nothing to go on with."""
        path = self.output / CHECKPOINT
        if not path.exists():
            raise HalutError(f"--resume must be given a folder with {CHECKPOINT}, not {path}")

    def take_base(self, folder: Path) -> None:
        """Begin where another run's base was trained, unless this folder has a run already."""
        if (self.output / CHECKPOINT).exists():
            return
        path = folder / AFTER_BASE
        if not path.exists():
            raise HalutError(f"base must be the folder of a run with {AFTER_BASE}, not {folder}")
        content = checkpoint.read(path)
        if content.get("base") != self.recipe.base_hash:
            raise HalutError(
                f"base must be a run whose exact network is trained by the same settings, "
                f"not {folder} (see its {RECIPE})"
            )
        self.state.restore(content, path)
        if self.rank == 0:
            self._save_network(BASE)
            self.state.save(self.output / AFTER_BASE, self.world)
        self._save()

    def resumed(self) -> dict[str, Any] | None:
        """Take up the run in the folder, if there is one; return the summary of a finished one."""
        path = self.output / CHECKPOINT
        if not path.exists():
            return None
        content = checkpoint.read(path)
        if content.get("recipe") != self.recipe.hash:
            raise HalutError(
                f"output must be a folder without a run of another recipe, not {self.output} "
                f"(see its {RECIPE}; -o names another folder)"
            )
        processes = self.state.restore(content, path)
        if processes != self.world:
            _log.warning(
                "the run began with %d processes and continues with %d: its result will differ",
                processes,
                self.world,
            )
        if self.state.progress.stage == len(self.stages):
            _log.info("the run in %s is finished", self.output)
            return self._results()
        name = self.stages[self.state.progress.stage][0]
        _log.info("continuing in %s after epoch %d", name, self.state.progress.epoch)
        return None

    def _save_network(self, name: str) -> None:
        save_network(
            self.output / name,
            self.state.model,
            {"name": self.recipe.model, "kwargs": self.kwargs},
            {
                **self.load_arguments,
                "root": self.root,
                "input_shape": list(self.data.test_x.shape[1:]),
            },
        )

    def _results(self) -> dict[str, Any]:
        now = self.state.progress
        summary = {
            "recipe": self.recipe.name,
            "recipe_hash": self.recipe.hash,
            "base_accuracy": now.stages[0]["test_accuracy"],
            "final_accuracy": now.stages[-1]["test_accuracy"],
            "stages": now.stages,
            "layers": self.targets,
            "table_bytes": sum(one.table_bytes for one in layers_of(self.state.model).values()),
            "n_train": len(self.data.train_x),
            "n_validation": self.recipe.validation.n_inputs,
            "n_test": len(self.data.test_x),
            "seconds": now.seconds,
            "processes": self.world,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "versions": {
                "halut": halut.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
            },
        }
        if self.rank == 0:
            self._save_network(NETWORK)
            _write(self.output / SUMMARY, json.dumps(summary, indent=2) + "\n")
        return summary


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
