"""Power of a netlist in sums: its parts, and by kind of unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.designs.design import CLOCK_TREE
from flow.power.liberty_power import Power

__all__ = ["PowerSums", "by_kind", "power_sums"]


@dataclass(frozen=True)
class PowerSums:
    """Power of a netlist, mW."""

    method: str  #: Who made the sum.
    internal: float
    switching: float
    leakage: float
    total: float  #: Their sum.
    clock_tree: float  #: Of the clock's buffers; in the others.
    ports: float  #: Switching of nets that ports drive; in `switching`.
    #: Internal, switching and leakage power by kind of unit, without `ports`.
    units: dict[str, list[float]]


def power_sums(power: Power, kinds: Sequence[str]) -> PowerSums:
    """Add up the power of cells, whose kinds of unit are `kinds`."""
    tree = np.array([kind == CLOCK_TREE for kind in kinds], bool)
    return PowerSums(
        method=power.method,
        internal=float(power.internal.sum()),
        switching=float(power.switching.sum()) + power.ports,
        leakage=float(power.leakage.sum()),
        total=power.total,
        clock_tree=float(power.cells.sum(axis=0)[tree].sum()),
        ports=power.ports,
        units=by_kind(kinds, power.cells),
    )


def by_kind(kinds: Sequence[str], power: np.ndarray) -> dict[str, list[float]]:
    """Internal, switching and leakage power of every kind of unit.

    Parameters
    ----------
    kinds : sequence of str
        Of every cell.
    power : ndarray of shape (3, n_instances)
        mW.
    """
    sums: dict[str, Any] = {}
    for kind, cell in zip(kinds, power.T, strict=True):
        sums[kind] = sums.get(kind, 0.0) + cell
    return {kind: values.tolist() for kind, values in sums.items()}
