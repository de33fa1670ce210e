"""Training a network by a `Recipe`: exact, then layer by layer looked up, then all of it.

A run is a folder. After every epoch and every stage ``checkpoint.pt`` there is replaced as a whole;
a run that was interrupted continues from it to bit-identically the same network (same machine,
threads and processes). Started by ``torchrun``, several processes share each batch.
"""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import io
import json
import logging
import math
import os
import platform
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import halut
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write
from halut.nn.convert import convert_, replace_module
from halut.nn.data import Dataset, Shifts, load
from halut.nn.layers import HalutLayer, layer_of, layers_of
from halut.nn.models import arguments, build
from halut.nn.network import save_network
from halut.nn.recipe import Recipe, Stage

__all__ = ["BASE", "CHECKPOINT", "HISTORY", "NETWORK", "SUMMARY", "train"]

_log = logging.getLogger(__name__)

CHECKPOINT, NETWORK, BASE = "checkpoint.pt", "network.pt", "base.pt"
HISTORY, SUMMARY, RECIPE = "history.jsonl", "summary.json", "recipe.yaml"

_KIND, _VERSION = "halut-training", 1
_TEST_BATCH = 512
_LOWEST_TEMPERATURE = 1e-3


@dataclass
class _Progress:
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


def train(
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    resume: bool = False,
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
        When the recipe does not fit the data or the model, or the folder holds something else.
    CheckFailed
        When the loss, or what a layer gives, is not finite; the message names the layer. The
        last checkpoint stays.
    """
    with _processes() as (rank, world), torch.random.fork_rng(devices=[]):
        run = _Run(recipe, Path(output), root, device, rank, world)
        summary = run.resumed(resume)
        if summary is None:
            summary = run.carry_out(on_epoch)
        return summary


@contextmanager
def _processes() -> Iterator[tuple[int, int]]:
    """Yield this process' number and how many share the work, as ``torchrun`` says."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or distributed.is_initialized():
        ready = distributed.is_initialized()
        yield (distributed.get_rank(), distributed.get_world_size()) if ready else (0, 1)
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank(), world
    finally:
        distributed.destroy_process_group()


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
    ) -> None:
        self.recipe, self.output, self.rank, self.world = recipe, output, rank, world
        if recipe.batch_size % world:
            raise HalutError(
                f"batch_size must be a multiple of the {world} processes, not {recipe.batch_size}"
            )
        self.device = _device(device)
        self.load_arguments: dict[str, Any] = {
            "name": recipe.data,
            "seed": recipe.seed,
            "n_train": recipe.n_train,
            "n_test": recipe.n_test,
        }
        self.root = None if root is None else os.path.abspath(root)
        self.data: Dataset = load(root=self.root, **self.load_arguments).to(self.device)
        n_train = len(self.data.train_x)
        if recipe.batch_size > n_train:
            raise HalutError(
                f"batch_size must be at most the {n_train} training images, not {recipe.batch_size}"
            )
        self.steps_per_epoch = n_train // recipe.batch_size
        self.augment = Shifts(pixels=recipe.augmentation.pixels, flip=recipe.augmentation.flip)

        torch.manual_seed(recipe.seed)
        self.kwargs = _model_arguments(recipe, self.data)
        model = build(recipe.model, **self.kwargs)
        try:
            self.targets = _targets(recipe, model, self.data.test_x[:1].cpu())
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise HalutError(f"model must fit the data: {reason}") from None
        self.model = model.to(self.device)
        self.teacher: nn.Module | None = None
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.progress = _Progress()
        self.errors: dict[str, float | None] = {}  # of the layers replaced in this stage
        self.optimizer: torch.optim.Optimizer | None = None

        replaced: list[tuple[str, Stage, list[str]]]
        if recipe.mode == "sequential":
            replaced = [(f"replace {name}", recipe.replace, [name]) for name in self.targets]
        else:
            replaced = [("replace", recipe.replace, self.targets)]
        self.stages: list[tuple[str, Stage, list[str]]] = [
            ("base", recipe.base, []),
            *replaced,
            ("fine-tune", recipe.fine_tune, []),
        ]

    # The course of a run

    def carry_out(self, on_epoch: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """Do all stages that are not done, and write what the run results in."""
        begin = time.perf_counter() - self.progress.seconds
        now = self.progress
        with self._scalars() as writer, self._bar() as bar:
            while now.stage < len(self.stages):
                name, stage, layers = self.stages[now.stage]
                if not now.prepared:
                    _log.info("stage %d/%d: %s", now.stage + 1, len(self.stages), name)
                    self.optimizer = None
                    self._prepare(name, layers)
                    now.prepared = True
                    now.seconds = time.perf_counter() - begin
                    self._save()
                wrapped = self._wrapped()
                if self.optimizer is None:
                    self.optimizer = self._new_optimizer(stage)
                while now.epoch < stage.epochs:
                    entry = self._epoch(wrapped, name, stage)
                    now.seconds = time.perf_counter() - begin
                    entry["seconds"] = now.seconds
                    now.history.append(entry)
                    self._save()
                    if writer is not None:
                        for key in ("loss", "train_accuracy", "test_accuracy", "lr"):
                            writer.add_scalar(key, entry[key], now.step)
                    bar(entry)
                    if on_epoch is not None:
                        on_epoch(entry)
                self._finish_stage(name)
                now.seconds = time.perf_counter() - begin
                self._save()
        return self._results()

    def _prepare(self, name: str, layers: list[str]) -> None:
        """Replace the layers of a stage, and switch on the formats that begin with it."""
        recipe = self.recipe
        if self.progress.stage == 1 and recipe.distillation.weight:
            self._set_teacher(copy.deepcopy(self.model))
        if layers:
            config = dataclasses.replace(recipe.layer, temperature=recipe.temperature.start)
            if recipe.lut_bits_from != "replace":
                config = dataclasses.replace(config, lut_bits=None)
            if recipe.input_format_from != "replace":
                config = dataclasses.replace(config, input_format=None)
            images = self.data.train_x[: recipe.calibration_images]
            report = convert_(
                self.model,
                dict.fromkeys(layers, config),
                list(images.split(_TEST_BATCH)),
                progress=self.rank == 0,
            )
            self.model.train()
            self.errors = {row.name: row.error for row in report.rows if row.converted}
            missing = set(layers) - set(self.errors)
            if missing:
                raise HalutError(f"layers must be ones that can be converted, not {missing.pop()}")
            self._train_temperatures()
        if name == "fine-tune":
            self._set_formats("fine_tune")

    def _set_formats(self, moment: str) -> None:
        for layer in layers_of(self.model).values():
            if self.recipe.lut_bits_from == moment:
                layer.set_formats(lut_bits=self.recipe.layer.lut_bits)
            if self.recipe.input_format_from == moment:
                layer.set_formats(input_format=self.recipe.layer.input_format)

    def _train_temperatures(self) -> None:
        for layer in layers_of(self.model).values():
            layer.temperature.requires_grad_(self.recipe.temperature.schedule == "trained")

    def _set_teacher(self, model: nn.Module) -> None:
        self.teacher = model.eval().requires_grad_(False)

    def _finish_stage(self, name: str) -> None:
        now = self.progress
        last = now.stage == len(self.stages) - 1
        if last:
            self._set_formats("end")
        loss, accuracy = self._evaluate()
        entry = {
            "name": name,
            "test_accuracy": accuracy,
            "test_loss": loss,
            "epochs": now.epoch,
            "layer_errors": self.errors,
        }
        _log.info("%s: test accuracy %.2f %%", name, 100 * accuracy)
        now.stages.append(entry)
        self.errors = {}
        now.stage, now.epoch, now.prepared = now.stage + 1, 0, False
        self.optimizer = None
        if name == "base" and self.rank == 0:
            self._save_network(BASE)

    # An epoch

    def _wrapped(self) -> nn.Module:
        if self.world == 1:
            return self.model
        return DistributedDataParallel(self.model)

    def _epoch(self, wrapped: nn.Module, name: str, stage: Stage) -> dict[str, Any]:
        recipe, now = self.recipe, self.progress
        assert self.optimizer is not None
        wrapped.train()
        order = torch.randperm(len(self.data.train_x), generator=self.generator)
        total = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, right ones
        black = self.data.black
        rate = 0.0
        for index in range(self.steps_per_epoch):
            rate = stage.lr_at(now.epoch * self.steps_per_epoch + index, self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            self._set_temperatures()
            chosen = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
            chosen = chosen.to(self.device)
            part = slice(self.rank, None, self.world)
            images = self.augment(self.data.train_x[chosen], self.generator, black, part)
            labels = self.data.train_y[chosen[part]]
            logits = wrapped(images)
            loss = self._loss(images, logits, labels)
            if not math.isfinite(loss.item()):
                raise CheckFailed(
                    f"loss must be finite, not {loss.item()} ({name}, epoch {now.epoch + 1}, "
                    f"step {index + 1}; {_first_not_finite(self.model, images)})"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            if recipe.temperature.schedule == "trained":
                for layer in layers_of(self.model).values():
                    layer.temperature.data.clamp_(min=_LOWEST_TEMPERATURE)
            right = (logits.detach().argmax(dim=1) == labels).sum()
            total += torch.stack([loss.detach().double() * len(labels), right.double()])
            now.step += 1
        if self.world > 1:
            distributed.all_reduce(total)
        loss_sum, right_sum = (total / (self.steps_per_epoch * recipe.batch_size)).tolist()
        now.epoch += 1
        test_loss, accuracy = self._evaluate()
        return {
            "stage": name,
            "epoch": now.epoch,
            "step": now.step,
            "lr": rate,
            "loss": loss_sum,
            "train_accuracy": right_sum,
            "test_loss": test_loss,
            "test_accuracy": accuracy,
        }

    def _loss(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.teacher is None:
            return loss
        share, temperature = self.recipe.distillation.weight, self.recipe.distillation.temperature
        with torch.no_grad():
            taught = functional.log_softmax(self.teacher(images) / temperature, dim=1)
        distance = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            taught,
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * loss + share * temperature**2 * distance

    def _set_temperatures(self) -> None:
        schedule = self.recipe.temperature
        if schedule.schedule not in ("linear", "cosine"):
            return
        before = self.recipe.base.epochs * self.steps_per_epoch
        steps = sum(stage.epochs for _, stage, _ in self.stages) * self.steps_per_epoch - before
        value = schedule.at(min(1.0, max(0, self.progress.step - before) / max(1, steps - 1)))
        for layer in layers_of(self.model).values():
            layer.temperature.data.fill_(value)

    def _new_optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        weights: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        thresholds: list[nn.Parameter] = []
        temperatures: list[nn.Parameter] = []
        for module in self.model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                if isinstance(module, HalutLayer):
                    group = {"thresholds": thresholds, "temperature": temperatures}.get(name, rest)
                    group.append(parameter)
                elif parameter.ndim > 1:
                    weights.append(parameter)
                else:
                    rest.append(parameter)
        groups = [
            {"params": weights, "factor": 1.0, "weight_decay": stage.weight_decay},
            {"params": rest, "factor": 1.0, "weight_decay": 0.0},
            {"params": thresholds, "factor": self.recipe.thresholds_lr, "weight_decay": 0.0},
            {"params": temperatures, "factor": self.recipe.temperature.lr, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if stage.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=stage.lr, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(groups, lr=stage.lr)

    @torch.no_grad()
    def _evaluate(self) -> tuple[float, float]:
        """Return loss and accuracy on the test images; raise when an output is not finite."""
        self.model.eval()
        if self.world > 1:
            # Each process' batch norms saw its part of the batches; one network is what counts.
            for buffer in self.model.buffers():
                distributed.broadcast(buffer, 0)
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        part = slice(self.rank, None, self.world)
        images, labels = self.data.test_x[part], self.data.test_y[part]
        with _watched(self.model) as finite:
            for some, those in zip(
                images.split(_TEST_BATCH), labels.split(_TEST_BATCH), strict=True
            ):
                logits = self.model(some)
                loss = functional.cross_entropy(logits, those, reduction="sum")
                right = (logits.argmax(dim=1) == those).sum()
                total += torch.stack([loss.double(), right.double()])
        for name, good in finite.items():
            if not good.item():
                raise CheckFailed(f"activations must be finite, not NaN or infinite (layer {name})")
        if self.world > 1:
            distributed.all_reduce(total)
        loss_sum, right_sum = (total / len(self.data.test_x)).tolist()
        return loss_sum, right_sum

    # What is on disk

    def _save(self) -> None:
        """Replace checkpoint and history by those of now; the first process does."""
        if self.rank:
            return
        content = {
            "kind": _KIND,
            "version": _VERSION,
            "recipe": self.recipe.hash,
            "processes": self.world,
            "progress": dataclasses.asdict(self.progress),
            "errors": self.errors,
            "layers": {
                name: {"geometry": layer.geometry(), "config": layer.config.to_dict()}
                for name, layer in layers_of(self.model).items()
            },
            "model": self.model.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
        }
        # By way of memory: torch's own writer hides what a full disk says.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        if not (self.output / CHECKPOINT).exists():
            _write(self.output / RECIPE, self.recipe.to_yaml())
        with atomic_write(self.output / CHECKPOINT) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        lines = [json.dumps(entry) + "\n" for entry in self.progress.history]
        _write(self.output / HISTORY, "".join(lines))

    def resumed(self, must: bool) -> dict[str, Any] | None:
        """Take up the run in the folder, if there is one; return the summary of a finished one."""
        path = self.output / CHECKPOINT
        if not path.exists():
            if must:
                raise HalutError(f"--resume must be given a folder with {CHECKPOINT}, not {path}")
            return None
        content = _read(path)
        if content["recipe"] != self.recipe.hash:
            raise HalutError(
                f"output must be a folder without a run of another recipe, not {self.output} "
                f"(see its {RECIPE}; -o names another folder)"
            )
        try:
            self._restore(content)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise HalutError(f"checkpoint must fit its recipe: {reason} ({path})") from None
        if content["processes"] != self.world:
            _log.warning(
                "the run began with %d processes and continues with %d: its result will differ",
                content["processes"],
                self.world,
            )
        if self.progress.stage == len(self.stages):
            _log.info("the run in %s is finished", self.output)
            return self._results()
        name = self.stages[self.progress.stage][0]
        _log.info("continuing in %s after epoch %d", name, self.progress.epoch)
        return None

    def _restore(self, content: dict[str, Any]) -> None:
        self.progress = _Progress(**content["progress"])
        self.errors = content["errors"]
        if content["teacher"] is not None:
            teacher = build(self.recipe.model, **self.kwargs).to(self.device)
            teacher.load_state_dict(content["teacher"])
            self._set_teacher(teacher)
        for name, entry in content["layers"].items():
            layer = layer_of(entry)
            replace_module(self.model, name, layer.to(self.device))
        self._train_temperatures()
        self.model.load_state_dict(content["model"])
        if content["optimizer"] is not None:
            self.optimizer = self._new_optimizer(self.stages[self.progress.stage][1])
            self.optimizer.load_state_dict(content["optimizer"])
        self.generator.set_state(content["generator"])
        torch.set_rng_state(content["random"])

    def _save_network(self, name: str) -> None:
        save_network(
            self.output / name,
            self.model,
            {"name": self.recipe.model, "kwargs": self.kwargs},
            {
                **self.load_arguments,
                "root": self.root,
                "input_shape": list(self.data.test_x.shape[1:]),
            },
        )

    def _results(self) -> dict[str, Any]:
        now = self.progress
        summary = {
            "recipe": self.recipe.name,
            "recipe_hash": self.recipe.hash,
            "base_accuracy": now.stages[0]["test_accuracy"],
            "final_accuracy": now.stages[-1]["test_accuracy"],
            "stages": now.stages,
            "layers": self.targets,
            "table_bytes": sum(one.table_bytes for one in layers_of(self.model).values()),
            "n_train": len(self.data.train_x),
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

    @contextmanager
    def _scalars(self) -> Iterator[Any]:
        """Yield a TensorBoard writer, or None in other processes than the first."""
        if self.rank:
            yield None
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _log.warning(
                "no scalars for TensorBoard: it is not installed (pip install -e .[torch])"
            )
            yield None
            return
        self.output.mkdir(parents=True, exist_ok=True)
        with SummaryWriter(
            str(self.output / "tensorboard"), purge_step=self.progress.step + 1
        ) as writer:
            yield writer

    @contextmanager
    def _bar(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Yield what shows an epoch: a progress bar on a terminal, else the log."""
        if self.rank or not sys.stderr.isatty():
            with nullcontext():
                yield lambda entry: _log.info(
                    "%s, epoch %d: loss %.4f, test accuracy %.2f %%",
                    entry["stage"],
                    entry["epoch"],
                    entry["loss"],
                    100 * entry["test_accuracy"],
                )
            return
        from tqdm import tqdm

        total = sum(stage.epochs for _, stage, _ in self.stages)
        with tqdm(total=total, initial=len(self.progress.history), unit="epoch") as bar:

            def shown(entry: dict[str, Any]) -> None:
                bar.set_description(entry["stage"], refresh=False)
                bar.set_postfix_str(
                    f"loss {entry['loss']:.3f}, test {100 * entry['test_accuracy']:.1f} %"
                )
                bar.update()

            yield shown


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and "LOCAL_RANK" in os.environ:
            name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise HalutError(f"device must be one that torch can use here, not {name!r}") from None
    return device


def _model_arguments(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """Return what the model takes: what the data say, and the recipe's options."""
    said = {
        "in_channels": data.n_channels,
        "n_classes": data.n_classes,
        "image_size": data.image_size,
    }
    known = arguments(recipe.model)
    return {key: said[key] for key in said if key in known} | dict(recipe.model_options)


def _targets(recipe: Recipe, model: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the layers to replace, in forward order."""
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    model.eval()
    with torch.no_grad():
        model(image)
    model.train()
    for hook in hooks:
        hook.remove()
    order = list(dict.fromkeys(order))
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


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield {name: whether everything the module gave was finite}, in forward order."""
    finite: dict[str, Tensor] = {}
    hooks = []

    def watch(name: str) -> Callable[..., None]:
        def watched(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                good = torch.isfinite(output).all()
                finite[name] = finite[name] & good if name in finite else good

        return watched

    for name, module in model.named_modules():
        if isinstance(module, HalutLayer) or not any(True for _ in module.children()):
            hooks.append(module.register_forward_hook(watch(name)))
    try:
        yield finite
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _first_not_finite(model: nn.Module, images: Tensor) -> str:
    """Say which module's output is the first that is not finite."""
    if not torch.isfinite(images).all():
        return "the images are not finite"
    with _watched(model) as finite:
        model(images)
    for name, good in finite.items():
        if not good.item():
            return f"first not finite: layer {name}"
    return "every layer's output is finite"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        written = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise HalutError(f"checkpoint must be readable: {error.strerror} ({path})") from None
    try:
        with zipfile.ZipFile(written) as archive:
            damaged = archive.testzip()  # torch does not look at the check sums
        if damaged:
            raise zipfile.BadZipFile
        written.seek(0)
        content = torch.load(written, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign or damaged file makes torch.load raise nearly anything
        raise HalutError(
            f"checkpoint must be an undamaged one of a training run, not something else: "
            f"{type(error).__name__} ({path})"
        ) from None
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise HalutError(f"checkpoint must be one of a training run, not something else ({path})")
    if content.get("version") != _VERSION:
        raise HalutError(
            f"version of a checkpoint must be {_VERSION}, not {content.get('version')!r} ({path})"
        )
    return content
