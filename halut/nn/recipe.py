"""The recipe: everything that decides what a training run computes, in one validated object.

It is that of Stella Nera (arXiv 2311.10207, section V): train the exact network, replace its
layers one after the other in forward order and train after each, then train all of it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from halut.checks import boolean, either, integer_in, known, located, mapping, read_yaml
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.data import check_source
from halut.nn.models import check_model
from halut.nn.reconstruct import Reconstruction

__all__ = ["Augmentation", "Distillation", "Recipe", "Stage", "Temperature", "Validation"]

RECIPE_VERSION = 1
MODES = ("sequential", "simultaneous")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "linear", "cosine", "trained")
UNITS = ("absolute", "spread")
PERIODS = ("run", "stage")
PRECISIONS = ("float32", "bfloat16", "float16")
_ADDED = (
    "validation", "precision", "accumulate", "gradient_clip", "layer_settings", "channels_last",
    "tables_lr", "norms_lr", "reconstruct",
)  # fmt: skip
_OPTIONAL = ("reconstruct",)
_OF_BASE = (
    "data", "model", "model_options", "seed", "n_train", "n_test", "batch_size", "augmentation",
    "label_smoothing", "validation", "precision", "accumulate", "gradient_clip", "channels_last",
    "base",
)  # fmt: skip
KEPT = ("last", "best")
MOMENTS = ("replace", "fine_tune", "end")


def _number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Check that a value is a number in [low, high], and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) else ""
        raise HalutError(f"{name} must be a number, not {value!r}{hint}")
    if not (math.isfinite(value) and low <= value <= high):
        rule = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise HalutError(f"{name} must be {rule}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training; the learning rate falls to 0 along half a cosine.

    Parameters
    ----------
    epochs : int
        0 to 100000.
    lr : float
        Learning rate at the start, greater than 0.
    optimizer : {"adam", "sgd"}, default "adam"
        Adam with decoupled weight decay, or SGD with Nesterov momentum 0.9.
    weight_decay : float, default 0
        Of exact weights; tables, thresholds, biases and batch norms have none.
    warm_up_epochs : float, default 0
        Over which the learning rate grows linearly from 0 first.
    """

    epochs: int
    lr: float = 0.001
    optimizer: str = "adam"
    weight_decay: float = 0.0
    warm_up_epochs: float = 0.0

    def __post_init__(self) -> None:
        integer_in("epochs", self.epochs, 0, 100_000)
        _number("lr", self.lr, 1e-12)
        either("optimizer", self.optimizer, OPTIMIZERS)
        _number("weight_decay", self.weight_decay, 0)
        _number("warm_up_epochs", self.warm_up_epochs, 0, max(self.epochs, 0))

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0, of this stage.

        Examples
        --------
        >>> stage = Stage(epochs=2, lr=1.0)
        >>> [round(stage.lr_at(step, 2), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        warm_up = self.warm_up_epochs * steps_per_epoch
        if step < warm_up:
            return self.lr * (step + 1) / (warm_up + 1)
        done = (step - warm_up) / max(1, self.epochs * steps_per_epoch - warm_up)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied.

    Parameters
    ----------
    pixels : int, default 0
        Largest shift in each direction, 0 to 64.
    flip : bool, default False
        Mirror half of the images, left to right.
    """

    pixels: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        integer_in("pixels", self.pixels, 0, 64)
        boolean("flip", self.flip)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How much converted networks learn from the exact one's outputs.

    Parameters
    ----------
    weight : float, default 0.9
        Share of the loss, 0 to 1; the labels have the rest.
    temperature : float, default 4
        That logits are divided by, at least 0.01.
    """

    weight: float = 0.9
    temperature: float = 4.0

    def __post_init__(self) -> None:
        _number("weight", self.weight, 0, 1)
        _number("temperature", self.temperature, 0.01)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Temperature of the trees' surrogate gradient over the stages after the base.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine", "trained"}, default "constant"
        From `start` to `end` over all steps after the base, or `start`, and then trained.
    start, end : float, default 1
        At least 0.001; `end` is for "linear" and "cosine".
    lr : float, default 1
        "trained": its learning rate over that of the stage.
    unit : {"absolute", "spread"}, default "absolute"
        What temperatures are multiples of: 1, or the standard deviation of what the trees of a
        layer compare, measured when the layer is replaced.
    over : {"run", "stage"}, default "run"
        "linear", "cosine": from `start` to `end` once, over all steps after the base, or anew in
        every stage.
    """

    schedule: str = "constant"
    start: float = 1.0
    end: float = 1.0
    lr: float = 1.0
    unit: str = "absolute"
    over: str = "run"

    def __post_init__(self) -> None:
        either("schedule", self.schedule, SCHEDULES)
        _number("start", self.start, 0.001)
        _number("end", self.end, 0.001)
        _number("lr", self.lr, 0)
        either("unit", self.unit, UNITS)
        either("over", self.over, PERIODS)

    def at(self, done: float) -> float:
        """Return the temperature when a share `done`, in [0, 1], of the steps is over.

        Examples
        --------
        >>> Temperature(schedule="cosine", start=3.0).at(0.5)
        2.0
        """
        if self.schedule == "linear":
            return self.start + (self.end - self.start) * done
        if self.schedule == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * done))
        return self.start


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What is chosen during training, by inputs that are neither trained on nor tested with.

    Parameters
    ----------
    n_inputs : int, default 0
        Drawn from the training inputs, by the recipe's seed. With 0, the test inputs show progress
        after every epoch, and nothing is chosen.
    keep : {"last", "best"}, default "last"
        Parameters that a stage ends with: those after its last epoch, or those of the epoch with
        the highest validation accuracy (of equal ones, the one with the lowest loss).
    patience : int, default 0
        A stage ends after so many epochs without a better one; never early with 0.
    """

    n_inputs: int = 0
    keep: str = "last"
    patience: int = 0

    def __post_init__(self) -> None:
        integer_in("n_inputs", self.n_inputs, 0, 10**9)
        either("keep", self.keep, KEPT)
        integer_in("patience", self.patience, 0, 100_000)
        if not self.n_inputs and (self.keep, self.patience) != ("last", 0):
            raise HalutError("n_inputs must be at least 1 where keep or patience chooses, not 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained, converted and trained again.

    Parameters
    ----------
    name : str
        Label, and default output folder; letters, digits, ``_`` and ``-``.
    data : str or mapping
        A built-in data set, or where one's own is, see `halut.nn.data.load`.
    model : str or mapping
        "resnet9", "resnet20" or "dscnn", see `halut.nn.models`; or ``{"import":
        "package.module:function"}``, a class or function that returns an `nn.Module`, which takes
        inputs (n, ...) and returns logits (n, n_classes).
    model_options : mapping, optional
        What the model takes; ``in_channels``, ``n_classes`` and ``image_size`` come from the data
        where it has arguments of these names.
    seed : int, default 0
        Of initial weights, order of images and augmentation (and generated data).
    n_train, n_test : int, optional
        Only so many images.
    batch_size : int, default 64
        Images per step, of all processes together.
    augmentation : Augmentation
    label_smoothing : float, default 0
        0 to 1.
    validation : Validation
    precision : {"float32", "bfloat16", "float16"}, default "float32"
        Of the products of exact layers in training (`torch.autocast`); "float16" scales the loss.
    accumulate : int, default 1
        A batch is computed in so many parts, whose gradients add up: less memory. Batch norms see
        the parts.
    gradient_clip : float, optional
        Largest norm of all gradients together.
    base, replace, fine_tune : Stage
        Training of the exact network; after each replaced layer ("simultaneous": once, after all);
        and of the whole at the end.
    mode : {"sequential", "simultaneous"}, default "sequential"
        Replace layers one after the other, each learned from the activations of the network as
        trained so far; or all at once.
    layers : "interior", "all", "none" or sequence of str, default "interior"
        What to replace: all convolutions and linear layers but the first and the last; all; none,
        and the base is the only stage; or those whose names match one of these patterns
        (``layer1.*``).
    exclude : sequence of str, default none
        Patterns of names that stay in any case.
    layer : LayerConfig
        Codebooks and formats of replaced layers; its temperature is `temperature.start`.
    layer_settings : mapping of str to mapping, optional
        Fields of `LayerConfig` for layers whose names match a pattern, in place of those of
        `layer`; where several match, the later one counts.
    lut_bits_from, input_format_from : {"replace", "fine_tune", "end"}, default "replace"
        From when on the format applies: as soon as a layer is replaced, when fine-tuning begins,
        or only after all training.
    thresholds_lr : float, default 0.5
        Learning rate of thresholds over that of the stage.
    tables_lr, norms_lr : float, default 1
        The same of table entries, and of biases and norms, once layers are replaced.
    channels_last : bool, default False
        Whether convolutions compute with channels last in memory: faster on many CPUs and GPUs;
        sums are rounded otherwise.
    reconstruct : Reconstruction, optional
        How newly replaced layers are first trained to do what the exact network's do, before the
        stage's training; see `halut.nn.reconstruct_`.
    calibration_images : int, default 1024
        Training images that layers are learned from.
    temperature : Temperature
    distillation : Distillation

    Raises
    ------
    HalutError
        When a value breaks its rule.

    Examples
    --------
    >>> recipe = Recipe(name="a", data="digits", model="resnet9", base=Stage(epochs=3))
    >>> Recipe.from_dict(recipe.to_dict()) == recipe
    True
    """

    name: str
    data: str | Mapping[str, Any]
    model: str | Mapping[str, Any]
    model_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    n_train: int | None = None
    n_test: int | None = None
    batch_size: int = 64
    augmentation: Augmentation = Augmentation()
    label_smoothing: float = 0.0
    validation: Validation = Validation()
    precision: str = "float32"
    accumulate: int = 1
    gradient_clip: float | None = None
    base: Stage = Stage(epochs=30)
    replace: Stage = Stage(epochs=5)
    fine_tune: Stage = Stage(epochs=30)
    mode: str = "sequential"
    layers: str | Sequence[str] = "interior"
    exclude: Sequence[str] = ()
    layer: LayerConfig = field(default_factory=LayerConfig)
    layer_settings: Mapping[str, Any] = field(default_factory=dict)
    lut_bits_from: str = "replace"
    input_format_from: str = "replace"
    thresholds_lr: float = 0.5
    tables_lr: float = 1.0
    norms_lr: float = 1.0
    channels_last: bool = False
    reconstruct: Reconstruction | None = None
    calibration_images: int = 1024
    temperature: Temperature = Temperature()
    distillation: Distillation = Distillation()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.name):
            raise HalutError(f"name must be letters, digits, _ and -, not {self.name!r}")
        object.__setattr__(self, "data", check_source(self.data))
        object.__setattr__(self, "model", check_model(self.model))
        if not isinstance(self.model_options, Mapping) or not all(
            isinstance(key, str) for key in self.model_options
        ):
            raise HalutError(f"model_options must be a mapping, not {self.model_options!r}")
        object.__setattr__(self, "model_options", dict(self.model_options))
        for name, kind in _nested(typing.cast("type", type(self))).items():
            if name in _OPTIONAL and getattr(self, name) is None:
                continue
            if not isinstance(getattr(self, name), kind):
                raise HalutError(f"{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        integer_in("seed", self.seed, 0, 2**31 - 1)
        for name in ("n_train", "n_test"):
            if getattr(self, name) is not None:
                integer_in(name, getattr(self, name), 1, 10**9)
        integer_in("batch_size", self.batch_size, 2, 1_000_000)
        _number("label_smoothing", self.label_smoothing, 0, 1)
        either("precision", self.precision, PRECISIONS)
        integer_in("accumulate", self.accumulate, 1, self.batch_size)
        if self.gradient_clip is not None:
            _number("gradient_clip", self.gradient_clip, 1e-12)
        object.__setattr__(self, "layer_settings", mapping("layer_settings", self.layer_settings))
        for pattern, settings in self.layer_settings.items():
            self._with(pattern, settings)
        either("mode", self.mode, MODES)
        if isinstance(self.layers, str):
            either("layers", self.layers, ("interior", "all", "none"))
        else:
            object.__setattr__(self, "layers", _patterns("layers", self.layers))
        object.__setattr__(self, "exclude", _patterns("exclude", self.exclude))
        either("lut_bits_from", self.lut_bits_from, MOMENTS)
        either("input_format_from", self.input_format_from, MOMENTS)
        for name in ("thresholds_lr", "tables_lr", "norms_lr"):
            _number(name, getattr(self, name), 0)
        boolean("channels_last", self.channels_last)
        integer_in("calibration_images", self.calibration_images, 1, 10**9)

    def layer_config(self, layer: str) -> LayerConfig:
        """Return the configuration of a replaced layer, by its name."""
        fields = self.layer.to_dict()
        for pattern, settings in self.layer_settings.items():
            if fnmatch.fnmatchcase(layer, pattern):
                fields |= settings
        return LayerConfig.from_dict(fields)

    def _with(self, pattern: str, settings: Any) -> LayerConfig:
        """Return the configuration of all layers with some settings of one pattern."""
        where = f"layer_settings.{pattern}"
        try:
            return LayerConfig.from_dict(self.layer.to_dict() | mapping(where, settings))
        except HalutError as error:
            raise HalutError(f"{where}: {error}") from None

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the recipe as canonical JSON."""
        return _hash(self.to_dict())

    @property
    def base_hash(self) -> str:
        """The same of what the training of the exact network depends on."""
        values = self.to_dict()
        return _hash({name: values[name] for name in _OF_BASE if name in values})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, with the file's version, as YAML and JSON have them.

        Those that were added later are there where they are set.
        """
        values = {**dataclasses.asdict(self), "layer": self.layer.to_dict()}
        for name in ("unit", "over"):
            if values["temperature"][name] == getattr(Temperature, name):
                del values["temperature"][name]
        for entry in dataclasses.fields(self):
            if entry.name in _ADDED and getattr(self, entry.name) == _default(entry):
                del values[entry.name]
        for name in ("layers", "exclude"):
            values[name] = list(values[name]) if isinstance(values[name], tuple) else values[name]
        return {"version": RECIPE_VERSION, **values}

    def to_yaml(self) -> str:
        """Return a YAML file with every field."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe of a mapping of field names; ``version`` must be present and 1."""
        values = mapping("a recipe", values)
        version = values.pop("version", None)
        if version != RECIPE_VERSION:
            raise HalutError(f"version must be {RECIPE_VERSION}, not {version!r}")
        return typing.cast("Recipe", _made(cls, values, ""))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Read a YAML file; every error names it."""
        values = read_yaml(path, "a recipe")
        with located(path):
            return cls.from_dict(values)


def _hash(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _default(entry: dataclasses.Field[Any]) -> Any:
    made = entry.default_factory
    return entry.default if made is dataclasses.MISSING else made()


def _patterns(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise HalutError(f"{name} must be a list of names or patterns, not {value!r}")
    if not all(isinstance(item, str) and item for item in value):
        raise HalutError(f"{name} must be a list of names or patterns, not {list(value)!r}")
    return tuple(value)


@cache
def _nested(cls: type) -> dict[str, type]:
    """Return the fields that are dataclasses themselves."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(cls).items():
        for kind in typing.get_args(hint) or (hint,):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                found[name] = kind
    return found


def _made(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Make a dataclass of a mapping; errors begin with the path of the field."""
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    known(f"a field of {where[:-1]}" if where else "a field", values, fields)
    for name, entry in fields.items():
        missing = (entry.default, entry.default_factory) == (dataclasses.MISSING,) * 2
        if missing and name not in values:
            raise HalutError(f"{where}{name} must be given")
    given = dict(values)
    for name, kind in _nested(cls).items():
        if name in given and not (name in _OPTIONAL and given[name] is None):
            if not isinstance(given[name], Mapping):
                raise HalutError(f"{where}{name} must be a mapping, not {given[name]!r}")
            given[name] = _made(kind, given[name], f"{where}{name}.")
    try:
        return cls(**given)
    except HalutError as error:
        raise HalutError(f"{where}{error}") from None
