"""Power and energy as metrics, and by kind of unit: of the mapped and of the routed netlist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow.cells.library import Library
from flow.figures.metrics import Metrics
from flow.netlist.netlist import Netlist
from flow.power.sums import PowerSums
from flow.run.power import Loaded

__all__ = [
    "MAPPED",
    "NO_ENGINE",
    "ROUTED",
    "Names",
    "energy_per_word",
    "kinds_of_units",
    "set_energy",
]

NO_ENGINE = "a unit, not an engine: no multiply-accumulates"
_PARTS = ("internal", "switching", "leakage")


@dataclass(frozen=True)
class Names:
    """How metrics of a netlist begin."""

    power: str
    energy: str


MAPPED = Names("synth__power__", "halut__energy__per_")
ROUTED = Names("finish__power__", "halut__routed__energy_per_")


def set_energy(
    metrics: Metrics,
    names: Names,
    sums: PowerSums,
    clock_ns: float,
    look_ups: float,
    macs: float,
    less: Mapping[str, float] | None = None,
) -> None:
    """Set the power of a netlist, and its energy per cycle, look-up and MAC.

    Parameters
    ----------
    names : Names
        `MAPPED` or `ROUTED`.
    look_ups, macs : float
        Done per cycle.
    less : mapping of str to float, optional
        Power without something, mW, by the end of the metric's name: ``mac_without_glitches``.
    """
    total = sums.total
    metrics.set(f"{names.power}internal__total", sums.internal)
    metrics.set(f"{names.power}switching__total", sums.switching)
    metrics.set(f"{names.power}leakage__total", sums.leakage)
    metrics.set(f"{names.power}total", total)
    # mW times ns is pJ.
    metrics.set(f"{names.energy}cycle", total * clock_ns)
    reason = "not a look-up engine" if macs else NO_ENGINE
    of_look_up = total * clock_ns / look_ups if look_ups else None
    metrics.set(f"{names.energy}look_up", of_look_up, reason)
    for end, power in {"mac": total, **(less or {})}.items():
        metrics.set(f"{names.energy}{end}", power * clock_ns / macs if macs else None, NO_ENGINE)


def energy_per_word(loaded: Loaded, clock_ns: float) -> float:
    """Energy of loading a word of a program, pJ."""
    return loaded.power * clock_ns * loaded.window / loaded.words


def kinds_of_units(
    netlist: Netlist,
    kinds: Sequence[str],
    library: Library,
    power: Mapping[str, Sequence[float]] | None,
    ports_mw: float = 0.0,
) -> list[dict[str, Any]]:
    """The breakdown: cells, area and power of every kind of unit, the largest first.

    Parameters
    ----------
    kinds : sequence of str
        Of every cell.
    power : mapping of str to 3 float, or None
        `PowerSums.units`.
    ports_mw : float
        Switching of the nets that ports drive; a row of its own.
    """
    rows: dict[str, dict[str, Any]] = {}
    units: dict[str, set[int]] = {}
    for instance, kind in zip(netlist.instances, kinds, strict=True):
        row = rows.setdefault(kind, {"unit": kind, "instances": 0, "cells": 0, "area": 0.0})
        row["cells"] += 1
        row["area"] += library.cells[instance.cell].area
        units.setdefault(kind, set()).add(instance.unit)
    if ports_mw:
        rows[""] = {"unit": "input nets and clock root", "instances": 0, "cells": 0, "area": 0.0}
    for kind, row in rows.items():
        row["instances"] = len(units.get(kind, ()))
        row["area"] = round(row["area"], 6)
        if power is not None:
            parts = (0.0, ports_mw, 0.0) if not kind else power.get(kind, (0.0, 0.0, 0.0))
            row |= {f"{part}_mw": value for part, value in zip(_PARTS, parts, strict=True)}
    return sorted(rows.values(), key=lambda row: -row["area"])
