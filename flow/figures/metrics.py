"""Metrics of one run: names, units, reasons for what is missing, provenance, comparison.

Names follow METRICS 2.1 (``synth__design__instance__area__stdcell``); what that scheme does not
know is called ``halut__...``. Units are fixed: ns, um2, mW, pJ. A metric that was not measured is
null, and `reasons` says why.
"""

from __future__ import annotations

import json
import math
import platform as machine
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import halut
from flow.figures.words import METRICS, UNITS
from halut import process
from halut.checks import read_json
from halut.errors import HalutError
from halut.files import write_text

__all__ = [
    "METRICS",
    "UNITS",
    "Metrics",
    "check_rules",
    "compare",
    "read_metrics",
    "repository_state",
]

Number = int | float | None


@dataclass
class Metrics:
    """What one run measured."""

    #: Every name in `METRICS`.
    values: dict[str, Number] = field(default_factory=lambda: dict.fromkeys(METRICS))
    reasons: dict[str, str] = field(default_factory=dict)  #: Why a value is None.
    provenance: dict[str, Any] = field(default_factory=dict)
    #: Per kind of unit: cells, area, power.
    breakdown: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)  #: Texts: the critical path, conditions.

    def set(self, name: str, value: float | int | None, reason: str = "") -> None:
        """Set a metric, or say why it has no value."""
        if name not in METRICS:
            raise KeyError(name)
        if value is not None and not math.isfinite(value):
            value, reason = None, reason or "not a finite number"
        self.values[name] = value
        if value is None:
            self.reasons[name] = reason
        else:
            self.reasons.pop(name, None)

    def missing(self, prefix: tuple[str, ...], reason: str) -> None:
        """Give one reason for every metric with one of these prefixes that has no value."""
        for name, value in self.values.items():
            if value is None and name.startswith(prefix):
                self.reasons.setdefault(name, reason)

    def to_dict(self) -> dict[str, Any]:
        self.missing(("",), "not asked for")
        return {
            "version": 1,
            "kind": "halut-metrics",
            "metrics": self.values,
            "reasons": dict(sorted(self.reasons.items())),
            "units": UNITS,
            "breakdown": self.breakdown,
            "notes": self.notes,
            "provenance": self.provenance,
        }

    def write(self, path: Path) -> None:
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")


def read_metrics(path: Path) -> Metrics:
    """Read a metrics file.

    Raises
    ------
    HalutError
        When it is not one.
    """
    data = read_json(path, "metrics")
    if not isinstance(data, dict) or data.get("kind") != "halut-metrics":
        raise HalutError(f"metrics must be a metrics.json of this flow ({path})")
    if data.get("version") != 1 or not isinstance(data.get("metrics"), dict):
        raise HalutError(f"metrics version must be 1, not {data.get('version')} ({path})")
    metrics = Metrics()
    for name, value in data["metrics"].items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise HalutError(f"a metric must be a number or null, not {value!r} ({path}, {name})")
        metrics.values[name] = value
    for part, kind in (("reasons", dict), ("provenance", dict), ("breakdown", list),
                       ("notes", dict)):  # fmt: skip
        found = data.get(part, kind())
        if not isinstance(found, kind):
            word = "a list" if kind is list else "a mapping"
            raise HalutError(f"{part} must be {word}, not {type(found).__name__} ({path})")
        setattr(metrics, part, found)
    return metrics


def compare(old: Metrics, new: Metrics) -> list[tuple[str, Number, Number, float | None, int]]:
    """Rows (name, old, new, relative change, verdict) for metrics that changed.

    The verdict is +1 for better, -1 for worse, 0 for neither.
    """
    rows = []
    for name, word in METRICS.items():
        before, after = old.values.get(name), new.values.get(name)
        if before == after or (
            before is not None and after is not None and math.isclose(before, after, rel_tol=1e-6)
        ):
            continue
        change = None
        verdict = 0
        if before is not None and after is not None:
            change = (after - before) / abs(before) if before else None
            towards = (after - before) * word.direction
            verdict = (towards > 0) - (towards < 0)
        rows.append((name, before, after, change, verdict))
    return rows


_COMPARE = {
    "<=": lambda value, limit: value <= limit,
    ">=": lambda value, limit: value >= limit,
    "==": lambda value, limit: value == limit,
}


def check_rules(metrics: Metrics, rules: Any, where: Path) -> list[str]:
    """Failures of a rules file: ``{"name": {"value": 1.0, "compare": "<="}}``.

    Raises
    ------
    HalutError
        When the file is not like that.
    """
    if not isinstance(rules, Mapping):
        raise HalutError(f"rules must be a mapping of metrics to limits ({where})")
    failures = []
    for name, rule in rules.items():
        if name not in METRICS:
            raise HalutError(f"rules must be about known metrics, not {name} ({where})")
        sign = rule.get("compare") if isinstance(rule, Mapping) else None
        if sign not in _COMPARE or not isinstance(rule.get("value"), (int, float)):
            raise HalutError(
                f"a rule must have a value and compare one of {', '.join(_COMPARE)}, not {rule!r} "
                f"({where}, {name})"
            )
        value = metrics.values[name]
        if value is None or not _COMPARE[sign](value, rule["value"]):
            failures.append(f"{name} must be {sign} {rule['value']:g}, not {value}")
    return failures


NOT_COUNTED = "not counted: simulated without delays"
"""The note ``glitches`` of a run whose power and energy lack them."""


def repository_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and whether files differ from it; (None, None) outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = process.run(["git", *arguments], cwd=folder, timeout_s=30)
        except OSError:
            return None
        return done.output.strip() if done.status == 0 else None

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def base_provenance() -> dict[str, Any]:
    """What every run records."""
    commit, dirty = repository_state(Path(__file__).parent)
    return {
        "halut_stack": halut.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": machine.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
