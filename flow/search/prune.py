"""Which points are not worth their synthesis, by the model's estimates and its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flow.search.model import Estimate
from flow.search.points import Row
from flow.search.space import MARGINS, Prune

__all__ = ["prune"]

_MODELLED = {"area": "area_um2", "energy": "energy_pj_per_cycle"}
"""Objectives that are estimated, and the target of the model whose error they have."""


def _costs(row: Row, objectives: Sequence[str]) -> list[float] | None:
    """Value of each objective, smaller is better; None when one is not known."""
    known = row.estimated
    if any(name not in known for name in objectives):
        return None
    return [-known[name] if name == "throughput" else known[name] for name in objectives]


def prune(rows: Sequence[Row], rule: Prune, with_error: bool) -> None:
    """Mark pending rows as pruned by `Prune`'s rule.

    Rows that are measured already count with their estimates, too: a sweep that goes on prunes
    what it would have pruned at first.
    """
    objectives = [name for name in rule.objectives if with_error or name != "error"]
    groups: dict[tuple[Any, ...], list[tuple[Row, Estimate, list[float]]]] = {}
    for row in rows:
        p, known = row.point, _costs(row, objectives)
        if row.estimate is not None and known is not None:
            key = (p.platform, p.corner, p.clock_ns, p.target_ns, p.layout)
            groups.setdefault(key, []).append((row, row.estimate, known))
    for members in groups.values():
        model = members[0][0].model
        assert model is not None
        allowed = {
            target: float(getattr(error, rule.margin) if rule.margin in MARGINS else rule.margin)
            for target, error in model.errors.items()
        }
        margins = np.array([allowed[_MODELLED[o]] if o in _MODELLED else 0.0 for o in objectives])
        costs = np.array([known for _, _, known in members])
        # Pessimistic for what prunes, optimistic for what is pruned.
        high, low = costs * (1 + margins), costs * (1 - margins)
        periods = np.array([estimate.period_ns for _, estimate, _ in members])
        meets = periods * (1 + allowed["period_ns"]) <= members[0][0].point.clock_ns
        for i, (row, _, _) in enumerate(members):
            better = (high <= low[i]).all(axis=1) & (costs < costs[i]).any(axis=1) & meets
            if row.status == "pending" and better.any():
                row.status = "pruned"
