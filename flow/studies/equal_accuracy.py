"""One inference looked up beside one computed exactly: area, time and energy, and accuracies.

Both networks are counted whole. The looked-up one needs a look-up engine and a direct engine for
the layers that stay exact; the exact one needs the direct engine. No look-up is counted as
multiply-accumulates here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flow.figures.metrics import NOT_COUNTED, Metrics, base_provenance
from flow.studies.direct_cost import direct_layer, engine_of
from flow.studies.network_cost import system
from flow.studies.tile_energy import measured_on
from halut.checks import integer_from, located, number_in, read_json
from halut.errors import HalutError
from halut.workloads import Layer
from rtl_gen.tiled_config import AnyConfig

__all__ = ["RATIOS", "Accuracy", "beside", "read_accuracy"]

RATIOS = ("area_mm2", "time_us", "energy_uj", "energy_area", "time_area")
"""Totals of which the exact network's is divided by the looked-up one's."""

# What must not differ between metrics that are set beside each other.
_CONDITIONS = ("platform", "corner", "clock_ns", "io_share")


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy of a network on test images.

    Attributes
    ----------
    share : float
        Of the images, those that are classified right.
    images : int
    arithmetic : str
        What it was computed in.
    """

    share: float
    images: int
    arithmetic: str


def read_accuracy(flag: str, path: str, *, looked_up: bool) -> Accuracy:
    """Read ``summary.json`` of ``halut train``, or what ``halut evaluate -o`` writes.

    Parameters
    ----------
    flag : str
        For errors.
    looked_up : bool
        Whether it must be of a network with looked-up layers; a summary lists them.

    Raises
    ------
    HalutError
        When it is neither, or of the other kind of network.
    """
    data = read_json(path, "accuracy")
    names = ("final_accuracy", "n_test"), ("accuracy", "images")
    found = next((n for n in names if isinstance(data, dict) and set(n) <= set(data)), None)
    if found is None:
        raise HalutError(
            f"{flag} must be summary.json of `python -m halut train`, or what "
            f"`python -m halut evaluate -o` writes ({path})"
        )
    share, images = (data[name] for name in found)
    with located(path):
        number_in(found[0], share, 0, 1)
        integer_from(found[1], images, 1)
    layers = data.get("layers")
    if isinstance(layers, list) and bool(layers) != looked_up:
        wanted = "a network with looked-up layers" if looked_up else "an exact network"
        raise HalutError(
            f"{flag} must be of {wanted}, not of one with {len(layers)} looked-up layers ({path})"
        )
    as_trained = "as trained" if looked_up else "floats"
    return Accuracy(
        share=float(share), images=images, arithmetic=str(data.get("arithmetic", as_trained))
    )


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """Engines of one kind, side by side."""

    metrics: Metrics
    units: int
    flag: str

    def value(self, name: str, what: str) -> float:
        found = self.metrics.values.get(name)
        if found is None:
            why = self.metrics.reasons.get(name, "not in the file")
            raise HalutError(f"{self.flag} must have {what}, not null: {why}")
        return found

    @property
    def area(self) -> float:
        """In um2, of all units."""
        return self.units * self.value(measured_on(self.metrics).area, "an area")

    @property
    def leakage_per_cycle(self) -> float:
        """In pJ, of all units."""
        names = measured_on(self.metrics)
        clock = self.value("synth__timing__clock__period", "a clock period")
        return self.units * clock * self.value(names.leakage, "leakage")

    def check(self) -> None:
        """Check that everything is there that is counted."""
        names = measured_on(self.metrics)
        self.value(names.per_cycle, "an energy per cycle")
        self.value(names.per_word, "an energy per program word")
        _ = self.area, self.leakage_per_cycle


def beside(
    looked_up: tuple[str, Sequence[Layer]],
    exact: tuple[str, Sequence[Layer]],
    config: AnyConfig,
    *,
    metrics: Metrics,
    direct: Metrics,
    accuracies: tuple[Accuracy | None, Accuracy | None] = (None, None),
    batch: int = 1,
    units: int = 1,
    direct_units: int = 1,
    codebook_width: int | None = None,
) -> dict[str, Any]:
    """Figures of two networks, one looked up and one exact.

    Parameters
    ----------
    looked_up, exact : tuple of str and sequence of Layer
        Name and layers. All layers of `exact` are computed exactly, whatever they say.
    config : AcceleratorConfig or TiledConfig
        Of the look-up engine.
    metrics, direct : Metrics
        Measured on the look-up engine and on the direct engine, under the same conditions.
    accuracies : tuple of Accuracy or None
        Of both networks.
    batch : int, default 1
        Inferences that share one loading of tables or weights.
    units, direct_units : int, default 1
        Look-up engines; direct engines of the exact network. The looked-up network has one direct
        engine, for its exact layers.
    codebook_width : int, optional
        Of the looked-up network, as `flow.studies.network_cost.system`.

    Returns
    -------
    dict
        As docs/system.md describes it; ready for JSON.

    Raises
    ------
    HalutError
        When metrics lack what is counted or were measured under different conditions, or a
        network does not fit.
    """
    engine = engine_of(direct)
    look_up = _Engine(metrics=metrics, units=units, flag="--metrics")
    helper = _Engine(metrics=direct, units=1, flag="--direct-metrics")
    peers = _Engine(metrics=direct, units=direct_units, flag="--direct-metrics")
    stage = _check_conditions(metrics, direct)
    for one in (look_up, helper):
        one.check()
    name, layers = looked_up
    figures = system(
        name, layers, config, units=units, batch=batch, codebook_width=codebook_width,
        metrics=metrics,
    )  # fmt: skip
    # Without an exact layer there is nothing for a direct engine to do.
    helpers = [helper] if any(layer.exact for layer in layers) else []
    tables = iter(figures["layers"])
    mine = [
        _with_idle(direct_layer(layer, engine, direct, 1, batch), "direct", [look_up])
        if layer.exact
        else _with_idle(_of_tables(next(tables)), "look-up", helpers)
        for layer in layers
    ]
    theirs = [
        _with_idle(direct_layer(layer, engine, direct, direct_units, batch), "direct", [])
        for layer in exact[1]
    ]
    clock = look_up.value("synth__timing__clock__period", "a clock period")
    sides = {
        "looked_up": _side(name, mine, [look_up, *helpers], clock, batch, accuracies[0]),
        "exact": _side(exact[0], theirs, [peers], clock, batch, accuracies[1]),
    }
    totals = [side["per_inference"] for side in sides.values()]
    return {
        "version": 1,
        "kind": "halut-ratio",
        "batch": batch,
        "clock_ns": clock,
        "measured_on": stage,
        "configuration": config.to_dict(),
        "direct_configuration": engine.to_dict(),
        "units": units,
        "direct_units": direct_units,
        **sides,
        "exact_over_looked_up": {key: totals[1][key] / totals[0][key] for key in RATIOS},
        "accuracy": _difference(*accuracies),
        "measured": {
            role: {key: found.provenance.get(key) for key in
                   ("design", "slug", *_CONDITIONS, "target_ns", "commit", "tools")}
            for role, found in (("look_up", metrics), ("direct", direct))
        },
        "provenance": base_provenance(),
    }  # fmt: skip


def _check_conditions(metrics: Metrics, direct: Metrics) -> str:
    """Check that two engines were measured alike; returns which netlists it were."""
    for name in _CONDITIONS:
        mine, theirs = (found.provenance.get(name) for found in (metrics, direct))
        # Files of earlier versions do not say what share of the period is outside.
        if mine != theirs and not (name == "io_share" and None in (mine, theirs)):
            raise HalutError(
                f"{name} of --direct-metrics must be that of --metrics, {mine}, not {theirs}"
            )
    stages = [measured_on(found).netlist for found in (metrics, direct)]
    if stages[0] != stages[1]:
        raise HalutError(
            f"--direct-metrics must be of a {stages[0]}, as --metrics are, not of a {stages[1]}"
        )
    glitches = [found.notes.get("glitches") == NOT_COUNTED for found in (metrics, direct)]
    if glitches[0] != glitches[1]:
        raise HalutError("glitches must be counted in both metrics, or in none")
    return stages[0]


def _of_tables(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `system` as `direct_layer` has them."""
    streams = row["streams"]
    same = (
        "name", "kind", "rows", "n_features", "n_outputs", "n_codebooks", "groups", "macs",
        "look_ups", "tiles", "grid", "row_parts", "cycles", "utilisation",
    )  # fmt: skip
    return {
        **{name: row[name] for name in same},
        "share_of_made": row["look_ups"] / row["look_ups_made"],
        "program_words": streams["program"]["transfers"],
        "partial_sums": (row["grid"][0] - 1) * row["rows"] * row["n_outputs"] * row["groups"],
        "bits": {name: streams[name]["bits"] for name in ("input", "output", "program")},
        "energy_pj": row["energy_pj"],
    }


def _with_idle(row: dict[str, Any], engine: str, idle: Sequence[_Engine]) -> dict[str, Any]:
    """A row with the leakage of the engines that wait meanwhile."""
    energy = {name: row["energy_pj"][name] for name in ("stream", "load", "other_cycles")}
    leakage = sum(one.leakage_per_cycle for one in idle) * row["cycles"]["total"]
    energy["waiting_engine"] = leakage
    total = math.fsum(energy.values())
    padding = energy["stream"] * (1 - row["share_of_made"])
    energy |= {"total": total, "without_padding": total - padding}
    return {**row, "engine": engine, "energy_pj": energy}


def _side(
    name: str,
    rows: list[dict[str, Any]],
    engines: Sequence[_Engine],
    clock: float,
    batch: int,
    accuracy: Accuracy | None,
) -> dict[str, Any]:
    def each(*path: str) -> float:
        total = 0.0
        for row in rows:
            value: Any = row
            for key in path:
                value = value.get(key, 0)
            total += value
        return total / batch

    area = sum(one.area for one in engines)
    time = each("cycles", "total") * clock * 1e-3
    energy = {part: each("energy_pj", part) for part in rows[0]["energy_pj"]}
    direct = [row for row in rows if row["engine"] == "direct"]
    return {
        "network": name,
        "accuracy": None if accuracy is None else accuracy.share,
        "images": None if accuracy is None else accuracy.images,
        "arithmetic": None if accuracy is None else accuracy.arithmetic,
        "area_um2": {one.metrics.provenance.get("design") or one.flag: one.area for one in engines},
        "layers": rows,
        "per_inference": {
            "area_mm2": area * 1e-6,
            "cycles": each("cycles", "total"),
            "load_cycles": each("cycles", "load"),
            "time_us": time,
            "look_ups": each("look_ups"),
            "macs_computed": sum(row["macs"] for row in direct) / batch,
            "program_words": each("program_words"),
            "partial_sums": each("partial_sums"),
            "bits": {key: each("bits", key) for key in ("input", "output", "program")},
            "energy_pj": energy,
            "energy_uj": energy["total"] * 1e-6,
            "energy_of_direct_layers_uj": 1e-6
            * sum(row["energy_pj"]["total"] for row in direct)
            / batch,
            "energy_area": energy["total"] * 1e-6 * area * 1e-6,
            "time_area": time * area * 1e-6,
        },
    }


def _difference(mine: Accuracy | None, theirs: Accuracy | None) -> dict[str, Any] | None:
    """How far two accuracies are apart; None unless both are known."""
    if mine is None or theirs is None:
        return None
    right = [round(one.share * one.images) for one in (mine, theirs)]
    equal = mine.images == theirs.images and right[0] == right[1]
    variances = [one.share * (1 - one.share) / one.images for one in (mine, theirs)]
    return {
        "equal": equal,
        "exact_minus_looked_up": theirs.share - mine.share,
        "standard_error": math.sqrt(sum(variances)),
        "same_arithmetic": mine.arithmetic == theirs.arithmetic,
    }
