"""Which layers to convert, and how, so that a given drop of the network's decisions is kept.

Each layer is replaced alone, in every way that it may be, to measure what the network's outputs
lose: its sensitivity. Taken to add up, sensitivities order the plans from the exact network to the
cheapest one. Of these, the last that keeps the drop, measured on the whole converted network, is
found by bisection.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from halut.checks import either
from halut.costs import positive
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.reconstruct import Reconstruction
from halut.nn.study import fingerprint, tensors_in
from halut.nn.watch import batches_of

__all__ = ["Budget", "Costs", "Option", "Plan", "cheaper_plans", "last_within", "wider_plans"]

LEAST = ("table_bytes", "energy")
_LOOK_UP, _MAC = "halut__energy__per_look_up", "halut__energy__per_mac"
_LEAST_SENSITIVITY = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Budget:
    """What a conversion may cost the network, and what it is to save.

    Parameters
    ----------
    drop : float
        Share of the decisions that may change, or by which accuracy may fall; 0 to 1, less than 1.
    inputs : Tensor, or iterable of batches
        What the drop is measured on; not the calibration inputs.
    labels : integer Tensor, optional
        Classes of `inputs`. The drop is that of accuracy where they are given, and of agreement
        with the exact network where not.
    choices : sequence of mapping, default ({}, {"codebook_width": 4}, {"codebook_width": 2})
        Ways to convert a layer: fields of its `LayerConfig` that change.
    least : {"table_bytes", "energy"}, default "table_bytes"
        ``"table_bytes"``: as many MACs are converted as the drop allows, then with as small tables
        as it allows. ``"energy"``: look-ups of converted layers and MACs of the others take as
        little energy as the drop allows.
    metrics : path-like, optional
        ``metrics.json`` of an accelerator, for ``"energy"``: its energy per look-up.
    exact_metrics : path-like, optional
        ``metrics.json`` of an engine for exact products, for ``"energy"``: its energy per MAC.
    reconstruction : Reconstruction, optional
        Whether, and how, a network is reconstructed from the calibration inputs before its drop is
        measured.
    folder : path-like, optional
        Where sensitivities and trials are kept; a call with the same network, inputs and settings
        goes on there.

    Raises
    ------
    HalutError
        When a field breaks its rule, or a file is no metrics file.
    """

    drop: float
    inputs: Tensor | Iterable[Any]
    labels: Tensor | None = None
    choices: Sequence[Mapping[str, Any]] = ({}, {"codebook_width": 4}, {"codebook_width": 2})
    least: str = "table_bytes"
    metrics: str | os.PathLike[str] | None = None
    exact_metrics: str | os.PathLike[str] | None = None
    reconstruction: Reconstruction | None = None
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.drop, bool) or not isinstance(self.drop, (int, float)):
            raise HalutError(f"drop must be a number, not {self.drop!r}")
        if not 0 <= self.drop < 1:
            raise HalutError(f"drop must be in [0, 1), not {self.drop}")
        if not self.choices or not all(isinstance(one, Mapping) for one in self.choices):
            raise HalutError(f"choices must be at least one mapping, not {self.choices!r}")
        either("least", self.least, LEAST)
        if self.labels is not None and not isinstance(self.labels, Tensor):
            raise HalutError(f"labels must be a tensor, not {type(self.labels).__name__}")
        object.__setattr__(self, "inputs", batches_of(self.inputs))
        _ = self.costs  # read now, and checked

    @property
    def batches(self) -> list[Any]:
        """The inputs."""
        return list(self.inputs)

    @property
    def costs(self) -> Costs | None:
        """What the energy is counted with; None for table bytes."""
        if self.least == "table_bytes":
            return None
        if self.metrics is None or self.exact_metrics is None:
            raise HalutError('metrics and exact_metrics must be given for least "energy"')
        return Costs(look_up=_metric(self.metrics, _LOOK_UP), mac=_metric(self.exact_metrics, _MAC))

    def configs(self, base: LayerConfig) -> list[LayerConfig]:
        """Return the ways to convert a layer."""
        return [LayerConfig.from_dict(base.to_dict() | dict(choice)) for choice in self.choices]

    def header(self) -> dict[str, Any]:
        """Return what tells this budget from others, but for the drop, as JSON has it."""
        settings = None if self.reconstruction is None else asdict(self.reconstruction)
        given = [] if self.labels is None else [self.labels]
        return {
            "choices": [dict(choice) for choice in self.choices],
            "inputs": fingerprint(tensors_in(self.batches) + given),
            "labels": self.labels is not None,
            "reconstruction": settings,
        }


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Energy in pJ.

    Attributes
    ----------
    look_up : float
        Of a look-up.
    mac : float
        Of a multiply-accumulate operation of a layer that stays exact.
    """

    look_up: float
    mac: float


def _metric(path: str | os.PathLike[str], name: str) -> float:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        values = content["metrics"] if content["kind"] == "halut-metrics" else None
    except OSError as error:
        raise HalutError(f"metrics must be readable: {error.strerror} ({path})") from None
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, dict):
        raise HalutError(f"metrics must be a metrics.json of the flow ({path})")
    return positive(name, values.get(name), path)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to convert a layer, and what it gave when nothing else was converted.

    Attributes
    ----------
    layer : str
    choice : int
        Place in `Budget.choices`.
    sensitivity : float
        Divergence of the network's outputs, see `halut.nn.deviation.Likeness`.
    agreement : float
        Share of the decisions that were kept.
    macs, look_ups : int
        Of the inputs of the first calibration batch.
    table_bytes : int
    """

    layer: str
    choice: int
    sensitivity: float
    agreement: float
    macs: int
    look_ups: int
    table_bytes: int

    @property
    def loss(self) -> float:
        """The sensitivity, greater than 0."""
        return max(self.sensitivity, _LEAST_SENSITIVITY)


Plan = dict[str, Option]
"""The way to convert each layer that is converted."""


def cheaper_plans(
    start: Plan,
    options: Sequence[Option],
    cost: Callable[[Option], float],
    stays: Callable[[str], float] | None = None,
) -> list[Plan]:
    """Return plans from `start` to the cheapest one, in steps that each change one layer.

    Each step is the one that saves most for what it loses.

    Parameters
    ----------
    start : dict of str to Option
    options : sequence of Option
    cost : callable
        Of an option.
    stays : callable, optional
        Cost of a layer that is not converted; when absent, only layers of `start` change.
    """
    steps: list[tuple[float, int, str, Option]] = []
    for position, layer in enumerate(dict.fromkeys(one.layer for one in options)):
        own = [one for one in options if one.layer == layer]
        if layer in start:
            at, lost = cost(start[layer]), start[layer].loss
        elif stays is not None:
            at, lost = stays(layer), 0.0
        else:
            continue
        worst = math.inf
        while True:
            # Along the lower hull of cost over loss, so that what a step saves for a loss falls.
            better = [one for one in own if cost(one) < at and one.loss >= lost]
            if not better:
                break

            def saving(one: Option, at: float = at, lost: float = lost) -> float:
                return (at - cost(one)) / max(one.loss - lost, _LEAST_SENSITIVITY)

            best = max(better, key=lambda one: (saving(one), -cost(one)))
            worst = min(worst, saving(best))
            steps.append((-worst, position, layer, best))
            at, lost = cost(best), best.loss
    plans, plan = [dict(start)], dict(start)
    for _, _, layer, option in sorted(steps, key=lambda step: step[:2]):
        plan = plan | {layer: option}
        plans.append(plan)
    return plans


def wider_plans(options: Sequence[Option]) -> list[Plan]:
    """Return plans that convert more and more layers, each in the way that loses least."""
    gentlest: Plan = {}
    for one in options:
        if one.layer not in gentlest or one.loss < gentlest[one.layer].loss:
            gentlest[one.layer] = one
    return cheaper_plans({}, list(gentlest.values()), lambda _: 0.0, lambda n: gentlest[n].macs)


def last_within(plans: Sequence[Plan], keeps: Callable[[Plan], bool]) -> int:
    """Return the place of the last plan that keeps the drop; the first is taken to keep it.

    The drop is taken to grow from plan to plan, so that a few of them are tried.
    """
    low, high = 0, len(plans)
    while high - low > 1:
        middle = (low + high) // 2
        if keeps(plans[middle]):
            low = middle
        else:
            high = middle
    return low
