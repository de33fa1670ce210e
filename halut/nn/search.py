"""The search for the plan that keeps a budget: sensitivities, trials, and what is kept of both."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halut.errors import HalutError
from halut.files import locked
from halut.nn.budget import Budget, Option, Plan, cheaper_plans, last_within, wider_plans
from halut.nn.config import LayerConfig
from halut.nn.deviation import Comparison, Likeness
from halut.nn.display import shown
from halut.nn.layers import layers_of
from halut.nn.macs import count_macs
from halut.nn.reconstruct import reconstruct_
from halut.nn.replace import Structure, replace_everywhere
from halut.nn.study import Study, fingerprint, tensors_in
from halut.nn.watch import Call, calls_of

__all__ = ["Found", "Layer", "Search"]

_log = logging.getLogger(__name__)

_KIND, _VERSION = "halut-budget", 1
_FILE = "budget.jsonl"


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A layer that may be converted.

    Attributes
    ----------
    module : nn.Module
    config : LayerConfig
        What the budget's choices change.
    only_call : bool
        Whether the model calls it once.
    """

    module: nn.Module
    config: LayerConfig
    only_call: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the search ended with; the model is converted so.

    Attributes
    ----------
    rows : list
        What `convert` gave for the plan.
    reasons : dict of str to str
        Why each of the other layers stays.
    """

    rows: list[Any]
    reasons: dict[str, str]


class Search:
    """A search on one model, which is in evaluation mode and exact.

    Parameters
    ----------
    model : nn.Module
    batches : list
        Of calibration.
    layers : mapping of str to Layer
        By their names, in forward order.
    budget : Budget
    learn : callable
        Takes a module, calls of it, and a configuration; returns the layer that replaces it.
    convert : callable
        Takes the configurations of the layers to convert, by name, and whether to measure errors
        on held-out inputs; converts the model and returns rows of its report.
    judged : bool
        Whether the model that is found needs errors on held-out inputs.
    progress : bool
    """

    def __init__(
        self,
        model: nn.Module,
        batches: list[Any],
        layers: Mapping[str, Layer],
        budget: Budget,
        learn: Callable[[nn.Module, list[Call], LayerConfig], nn.Module],
        convert: Callable[[Mapping[str, LayerConfig], bool], list[Any]],
        judged: bool,
        progress: bool,
    ) -> None:
        self.model, self.batches, self.layers, self.budget = model, batches, layers, budget
        self.learn, self.convert, self.judged, self.progress = learn, convert, judged, progress
        self.exact = Structure(model)
        self.twin = copy.deepcopy(model) if budget.reconstruction is not None else None
        self.comparison = Comparison(model, budget.batches, budget.labels)
        self.macs = count_macs(model, batches[0])
        self.best: tuple[Plan, Structure, list[Any]] | None = None
        self.failed: dict[str, str] = {}

    def run(self) -> Found:
        """Search, and leave the model converted as was found best."""
        with self._study() as study:
            options = [
                option
                for name in shown(list(self.layers), "measuring", "layer", self.progress)
                for option in self._options(study, name)
            ]
            plan = self._best_plan(study, options)
            if not plan:
                raise HalutError(
                    f"drop must allow at least one layer to be converted, not {self.budget.drop}"
                )
            rows = self._put_in_place(plan)
        return Found(rows=rows, reasons=self._reasons(plan, options))

    @contextmanager
    def _study(self) -> Iterator[Study]:
        folder = self.budget.folder
        if folder is None:
            yield Study(None, {})
            return
        header = {
            "kind": _KIND,
            "version": _VERSION,
            "network": fingerprint(self.model.state_dict().values()),
            "calibration": fingerprint(tensors_in(self.batches)),
            "layers": {name: layer.config.to_dict() for name, layer in self.layers.items()},
            "budget": self.budget.header(),
        }
        with locked(folder, wait=False):
            yield Study(Path(folder) / _FILE, json.loads(json.dumps(header)))

    # Sensitivities.

    @torch.no_grad()
    def _options(self, study: Study, name: str) -> list[Option]:
        """Return what each way to convert a layer alone gives; those that fail are left out."""
        known = {one["choice"]: one for one in study.results if one.get("layer") == name}
        layer = self.layers[name]
        calls: list[Call] = []
        options: list[Option] = []
        for choice, config in enumerate(self.budget.configs(layer.config)):
            if choice not in known:
                if not calls:
                    last = name if layer.only_call else None
                    calls = calls_of(self.model, [name], self.batches, last)[name]
                study.add(self._measured(name, choice, config, calls))
                known[choice] = study.results[-1]
            found = known[choice]
            if "reason" in found:
                self.failed[name] = found["reason"]
            elif not any(same_tables(found, asdict(one)) for one in options):
                options.append(Option(**found))
        return options

    def _measured(
        self, name: str, choice: int, config: LayerConfig, calls: list[Call]
    ) -> dict[str, Any]:
        module = self.layers[name].module
        try:
            new = self.learn(module, calls, config)
        except HalutError as error:
            return {"layer": name, "choice": choice, "reason": str(error)}
        replace_everywhere(self.model, module, new)
        try:
            like = self.comparison.of(self.model)
        finally:
            self.exact.put_back()
        parts = list(layers_of(new).values())
        share = sum(part.n_codebooks / part.n_features for part in parts) / len(parts)
        macs = self.macs.get(name, 0)
        option = Option(
            layer=name,
            choice=choice,
            sensitivity=like.divergence,
            agreement=like.agreement,
            macs=macs,
            look_ups=round(macs * share),
            table_bytes=sum(part.table_bytes for part in parts),
        )
        _log.info("measured %s", option)
        return asdict(option)

    # Plans.

    def _best_plan(self, study: Study, options: list[Option]) -> Plan:
        def keeps(plan: Plan) -> bool:
            return self._keeps(study, plan)

        costs = self.budget.costs
        if costs is not None:
            look_up, mac = costs.look_up, costs.mac
            plans = cheaper_plans(
                {}, options, lambda one: look_up * one.look_ups, lambda n: mac * self.macs.get(n, 0)
            )
            return plans[last_within(plans, keeps)]
        plans = wider_plans(options)
        widest = plans[last_within(plans, keeps)]
        smaller = cheaper_plans(widest, options, lambda one: one.table_bytes)
        return smaller[last_within(smaller, keeps)]

    def _keeps(self, study: Study, plan: Plan) -> bool:
        """Return whether a plan keeps the drop; the model is exact before and after."""
        key = _key(plan)
        known = [one["found"] for one in study.results if one.get("plan") == key]
        if not known:
            rows = self._convert(plan, False)
            like = self.comparison.of(self.model)
            study.add({"plan": key, "found": asdict(like)})
            known = [asdict(like)]
            if self._drop(like) <= self.budget.drop:
                self.best = plan, Structure(self.model), rows
            self.exact.put_back()
        found = Likeness(**known[0])
        _log.info("%d layers converted: drop %.2f points", len(plan), 100 * self._drop(found))
        return self._drop(found) <= self.budget.drop

    def _drop(self, like: Likeness) -> float:
        if like.accuracy is None or self.comparison.accuracy is None:
            return 1 - like.agreement
        return self.comparison.accuracy - like.accuracy

    def _convert(self, plan: Plan, judged: bool) -> list[Any]:
        configs = {
            name: self.budget.configs(self.layers[name].config)[plan[name].choice]
            for name in self.layers
            if name in plan
        }
        rows = self.convert(configs, judged)
        if self.twin is not None:
            reconstruct_(self.model, self.twin, self.batches, self.budget.reconstruction)
        return rows

    def _put_in_place(self, plan: Plan) -> list[Any]:
        if self.best is not None and not self.judged and _key(self.best[0]) == _key(plan):
            self.best[1].put_back()
            return self.best[2]
        return self._convert(plan, self.judged)

    def _reasons(self, plan: Plan, options: list[Option]) -> dict[str, str]:
        reasons = {}
        for name in self.layers:
            own = [option for option in options if option.layer == name]
            if name in plan:
                continue
            if not own:
                reasons[name] = self.failed[name]
                continue
            best = max(option.agreement for option in own)
            reasons[name] = (
                f"the budget leaves it exact (alone, it keeps {100 * best:.1f} % of the decisions)"
            )
        return reasons


def same_tables(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two options came to the same: codebooks that a layer is too narrow for."""
    names = "sensitivity", "table_bytes", "look_ups"
    return all(one[name] == other[name] for name in names)


def _key(plan: Plan) -> dict[str, int]:
    return {name: option.choice for name, option in sorted(plan.items())}
