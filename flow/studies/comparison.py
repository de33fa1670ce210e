"""Efficiency of designs in one table, as the paper compares accelerators: ours and published ones.

An operation is half of a multiply-accumulate; a look-up stands for as many as a codebook has
columns (arXiv 2311.10207, table of its comparison).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow.figures.metrics import Metrics
from flow.report.table import fixed

__all__ = ["LEFT", "PUBLISHED", "Figures", "best_first", "measured_row", "routed_row",
           "synthesised", "table"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One row."""

    #: `label` is ``"measured"`` (after synthesis), ``"routed"``, ``"scaled"`` or ``"published"``.
    design: str
    technology: str
    label: str
    tops_per_w: float | None = None
    tops_per_mm2: float | None = None
    tops: float | None = None
    area_mm2: float | None = None
    frequency_mhz: float | None = None
    power_mw: float | None = None

    @property
    def efficiency(self) -> str:
        """For energy and area, in words."""
        return f"{self.tops_per_w:g} TOp/s/W, {self.tops_per_mm2:g} TOp/s/mm²"


# As their authors published them; nothing of it was measured here.
PUBLISHED = (
    Figures(design="Stella Nera (arXiv 2311.10207)", technology="14 nm, 0.55 V",
            label="published", tops_per_w=43.1, tops_per_mm2=5.1, frequency_mhz=624),
    Figures(design="Stella Nera (arXiv 2311.10207)", technology="scaled to 3 nm by its authors",
            label="published", tops_per_w=161),
    Figures(design="custom look-up circuits (arXiv 2506.16800)", technology="22 nm",
            label="published", tops_per_w=174, tops_per_mm2=2.01),
)  # fmt: skip


def _figures(
    design: str, technology: str, label: str, values: Mapping[str, float | None], *names: str
) -> Figures:
    """A row at the metrics' clock; `names` are those of area, energy per MAC and power."""
    area, energy, power = map(values.get, names)
    clock = values.get("synth__timing__clock__period")
    macs = values.get("halut__design__macs_per_cycle")
    tops = 2e-3 * macs / clock if macs and clock else None
    return Figures(
        design=design,
        technology=technology,
        label=label,
        tops_per_w=2 / energy if energy else None,
        tops_per_mm2=tops / (area * 1e-6) if tops and area else None,
        tops=tops,
        area_mm2=area * 1e-6 if area else None,
        frequency_mhz=1000 / clock if clock else None,
        power_mw=power,
    )


def synthesised(
    design: str, technology: str, label: str, values: Mapping[str, float | None]
) -> Figures:
    """A row from metrics after synthesis, measured or scaled: area of cells, no wires."""
    return _figures(
        design, technology, label, values, "synth__design__instance__area__stdcell",
        "halut__energy__per_mac", "synth__power__total",
    )  # fmt: skip


def measured_row(metrics: Metrics) -> Figures:
    """A row of a run after synthesis."""
    return synthesised(*_origin(metrics), "measured", metrics.values)


def routed_row(metrics: Metrics) -> Figures:
    """A row of a layout: area of the die, energy with extracted wires."""
    return _figures(
        *_origin(metrics), "routed", metrics.values, "finish__design__die__area",
        "halut__routed__energy_per_mac", "finish__power__total",
    )  # fmt: skip


def _origin(metrics: Metrics) -> tuple[str, str]:
    """Design and technology of a run."""
    source = metrics.provenance
    voltage = source.get("voltage")
    supply = "" if voltage is None else f", {voltage:g} V"
    return str(source.get("design")), f"{source.get('platform')}{supply}"


def best_first(rows: Sequence[Figures]) -> list[Figures]:
    """Rows by TOp/s/W, the highest first; those without it at the end."""
    return sorted(rows, key=lambda row: -(row.tops_per_w or 0))


_HEAD = ("design", "technology", "", "TOp/s/W", "TOp/s/mm²", "TOp/s", "area (mm²)",
         "frequency (MHz)", "power (mW)")  # fmt: skip
_DIGITS = (1, 1, 3, 5, 0, 3)
LEFT = range(3)  #: Columns of text.


def table(rows: Sequence[Figures]) -> list[Sequence[str]]:
    """The table, its head first."""
    lines: list[Sequence[str]] = [_HEAD]
    for row in rows:
        numbers = (row.tops_per_w, row.tops_per_mm2, row.tops, row.area_mm2, row.frequency_mhz,
                   row.power_mw)  # fmt: skip
        lines.append([row.design, row.technology, row.label, *map(fixed, numbers, _DIGITS)])
    return lines
