"""The page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import halut
from flow.designs.design import PARTS
from flow.figures.metrics import METRICS, Metrics, compare
from flow.figures.words import STAGES, shown_unit, stage, title
from flow.report import template
from flow.report.conditions import caption
from flow.report.html import charts, schematic, waveform
from flow.report.html.accuracy import Accuracy
from flow.report.html.runs import Run
from flow.report.html.waveform import Excerpt
from flow.report.table import number
from rtl_gen.config import AcceleratorConfig

__all__ = ["HEADLINES", "Contents", "reached", "render"]

_TEMPLATES = Path(__file__).parent / "templates"
# The figures at the top of a run, and what became of them where the flow went on to a layout.
HEADLINES = {
    "synth__design__instance__area__stdcell": "finish__design__instance__area__stdcell",
    "halut__area__per_mac_per_cycle": "halut__routed__area_per_mac_per_cycle",
    "halut__timing__shortest_period": "halut__routed__shortest_period",
    "halut__energy__per_mac": "halut__routed__energy_per_mac",
    "halut__throughput__gmacs_per_s_per_mm2": None,
    "sim__latency__cycles": None,
    "halut__area__gate_equivalents": "halut__routed__gate_equivalents",
    "synth__design__logic__depth": None,
    "halut__fpga__luts": None,
    "halut__fpga__frequency": None,
    "halut__fpga__luts_per_mac_per_cycle": None,
    "halut__design__look_ups_per_cycle": None,
}
_HOW = ("timing_by", "power_by", "workload", "routed_power", "routing")
_POWER = ("internal_mw", "switching_mw", "leakage_mw")
_HEADLINE_COUNT = 6


@dataclass(kw_only=True)
class Contents:
    """What goes on the page."""

    runs: list[Run]
    baseline: tuple[str, Metrics] | None = None  #: What the runs are marked against, and its name.
    #: By a run's label: its waveform, or why there is none.
    excerpts: dict[str, Excerpt | str] = field(default_factory=dict)
    accuracy: Accuracy | None = None


@dataclass(kw_only=True)
class _Figures:
    """Plots of the page by the id of their place."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def place(self, figure: dict[str, Any] | None) -> str | None:
        """Keep a figure; returns the id of the element to draw it in."""
        if figure is None:
            return None
        name = f"plot-{len(self.found) + 1}"
        self.found[name] = figure
        return name


def _mark(change: float | None, verdict: int) -> dict[str, str] | None:
    """A change in words and signs: never by colour alone."""
    if verdict == 0 and change is None:
        return None
    sign = {1: "▲", -1: "▼", 0: "•"}[verdict]
    word = {1: "better", -1: "worse", 0: "changed"}[verdict]
    share = ""
    if change is not None:
        # From ten times on, percents do not say much.
        share = f"×{1 + change:.3g}" if change >= 9 else f"{100 * change:+.3g} %"
        share = share.replace("-", "−")
    return {"sign": sign, "word": word, "share": share, "sort": f"{change or 0:.9g}"}


def _marks(baseline: Metrics | None, metrics: Metrics) -> dict[str, dict[str, str] | None]:
    if baseline is None:
        return {}
    return {
        name: _mark(change, verdict) for name, _, _, change, verdict in compare(baseline, metrics)
    }


def _words(name: str) -> dict[str, Any]:
    """What a metric is called on the page."""
    return {"title": title(name), "name": name, "unit": shown_unit(name), "stage": stage(name)}


def _metric_rows(run: Run, baseline: Metrics | None) -> list[dict[str, Any]]:
    marks = _marks(baseline, run.metrics)
    rows = []
    for name in METRICS:
        value = run.metrics.values.get(name)
        if value is None:
            continue
        rows.append(
            {
                **_words(name),
                "value": value,
                "shown": number(value),
                "before": number(baseline.values.get(name)) if baseline else "",
                "mark": marks.get(name),
            }
        )
    return rows


def _headlines(run: Run, baseline: Metrics | None) -> list[dict[str, Any]]:
    marks = _marks(baseline, run.metrics)
    tiles = []
    for name, final in HEADLINES.items():
        value = run.metrics.values.get(name)
        if value is None:
            continue
        routed = run.metrics.values.get(final) if final else None
        tiles.append(
            {
                **_words(name),
                "shown": number(value),
                "mark": marks.get(name),
                "routed": None if routed is None else number(routed),
                "routed_stage": stage(final) if final else "",
            }
        )
    return tiles[:_HEADLINE_COUNT]


def _area_unit(metrics: Metrics) -> str:
    library = metrics.values.get("synth__design__instance__area__stdcell") is not None
    return "µm²" if library else "GE"


def _not_measured(metrics: Metrics) -> list[tuple[str, list[str]]]:
    """Reasons, each with what has no value for it."""
    found: dict[str, list[str]] = {}
    for name in METRICS:
        if metrics.values.get(name) is None:
            reason = metrics.reasons.get(name, "not in this file")
            found.setdefault(str(reason), []).append(f"{title(name)} ({stage(name)})")
    return list(found.items())


def _breakdown(metrics: Metrics) -> dict[str, Any]:
    powers = [sum(row.get(key, 0.0) for key in _POWER) for row in metrics.breakdown]
    area, power = sum(row["area"] for row in metrics.breakdown), sum(powers)
    return {
        "with_power": any("internal_mw" in row for row in metrics.breakdown),
        "unit": _area_unit(metrics),
        "rows": [
            {
                "unit": row["unit"],
                "part": PARTS.get(row["unit"], "–"),
                "instances": row.get("instances", 0),
                "cells": row.get("cells", 0),
                "area": row["area"],
                "area_share": row["area"] / area if area else 0.0,
                "parts": [row.get(key, 0.0) for key in _POWER],
                "power": own,
                "power_share": own / power if power else 0.0,
            }
            for row, own in zip(metrics.breakdown, powers, strict=True)
        ],
    }


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else str(value)


def _provenance(run: Run) -> list[tuple[str, str]]:
    rows = [
        ("differs from the commit" if key == "dirty" else key.replace("_", " "), _flat(value))
        for key, value in run.metrics.provenance.items()
        if key not in ("configuration",)
    ]
    if run.config is not None:
        rows.append(("configuration", _flat(run.config.to_dict())))
    return rows


def reached(metrics: Metrics) -> str:
    """The last stage of the flow that has figures."""
    if metrics.values.get("halut__fpga__frequency") is not None:
        return STAGES["fpga"]
    words = {name.split("__")[0] for name, value in metrics.values.items() if value is not None}
    last = [text for key, text in STAGES.items() if key in words and key != "sim"]
    return last[-1] if last else STAGES["synth"]


def _stage_words(metrics: Metrics) -> tuple[str, str]:
    """How far a run went, and what its conditions are those of."""
    last = reached(metrics)
    if last == STAGES["synth"]:
        return "Synthesis only.", "Conditions"
    if last == STAGES["fpga"]:
        return f"{last[0].upper()}{last[1:]}.", "Conditions"
    words = f"Taken to the layout: {last}. Every figure names its stage."
    return words, "Conditions of those after synthesis"


def _waveform(run: Run, excerpt: Excerpt | str | None) -> dict[str, Any] | None:
    if excerpt is None:
        return None
    if isinstance(excerpt, str):
        return {"reason": excerpt}
    assert isinstance(run.config, AcceleratorConfig)
    many = len(excerpt.results) > 12
    shown = excerpt.results[:12]
    words = ", ".join(f"{value:g}" for value in shown).replace("-", "−") + (", …" if many else "")
    return {
        "svg": waveform.draw(run.config, excerpt),
        "results": words,
        "program": excerpt.program,
        "wide": len(excerpt.cycles) > 22,
        "cut": any(b != a + 1 for a, b in zip(excerpt.cycles, excerpt.cycles[1:], strict=False)),
    }


def _treemaps(metrics: Metrics, figures: _Figures) -> list[dict[str, Any]]:
    """Area and power by unit, after synthesis and, where there are, after routing."""
    area = _area_unit(metrics)
    found = []
    for rows, when in (
        (metrics.breakdown, STAGES["synth"]),
        (metrics.notes.get("routed_breakdown", []), STAGES["finish"]),
    ):
        for words, keys, unit in (("Area", ("area",), area), ("Power", _POWER, "mW")):
            place = figures.place(charts.treemap(rows, keys, unit))
            if place is not None:
                found.append({"title": f"{words} by unit, {when}", "place": place})
    return found


def _section(run: Run, contents: Contents, figures: _Figures, index: int) -> dict[str, Any]:
    metrics = run.metrics
    baseline = contents.baseline[1] if contents.baseline else None
    if contents.baseline and baseline is metrics:
        baseline = None
    notes = metrics.notes
    path = notes.get("critical_path") or {}
    return {
        "id": f"run-{index}",
        "label": run.label,
        "caption": caption(metrics.provenance),
        "stage_words": _stage_words(metrics),
        "headlines": _headlines(run, baseline),
        "conditions": [str(text) for text in notes.get("conditions", [])],
        "how": [str(notes[key]) for key in _HOW if key in notes],
        "schematic": schematic.draw(run.config, metrics) if run.config else None,
        "treemaps": _treemaps(metrics, figures),
        "path": figures.place(charts.critical_path(metrics)),
        "path_from": str(path.get("from", "")),
        "path_to": str(path.get("to", "")),
        "path_reason": notes.get("timing_by")
        or metrics.reasons.get("synth__timing__setup__ws", "not measured"),
        "waveform": _waveform(run, contents.excerpts.get(run.label)),
        "pictures": [
            (name, "data:image/png;base64," + base64.b64encode(content).decode())
            for name, content in run.pictures
        ],
        "breakdown": _breakdown(metrics),
        "rows": _metric_rows(run, baseline),
        "not_measured": _not_measured(metrics),
        "baseline": contents.baseline[0] if baseline is not None and contents.baseline else None,
        "provenance": _provenance(run),
    }


def _comparison(contents: Contents, figures: _Figures) -> dict[str, Any]:
    runs = contents.runs
    baseline = contents.baseline[1] if contents.baseline else None
    marks = [_marks(baseline, run.metrics) for run in runs]
    rows = []
    for name in METRICS:
        values = [run.metrics.values.get(name) for run in runs]
        if all(value is None for value in values):
            continue
        rows.append(
            {
                **_words(name),
                "cells": [
                    {
                        "value": value,
                        "shown": number(value),
                        "reason": run.metrics.reasons.get(name, "not in this file"),
                        "mark": mark.get(name),
                    }
                    for run, value, mark in zip(runs, values, marks, strict=True)
                ],
            }
        )
    plots = [
        (charts.bar_title(name), figures.place(figure))
        for name in charts.COMPARED
        if (figure := charts.bars(runs, name)) is not None
    ]
    differing = [
        key.replace("_", " ")
        for key in ("platform", "corner", "clock_ns", "target_ns", "synthesis", "tools", "seed")
        if len({_flat(run.metrics.provenance.get(key)) for run in runs}) > 1
    ]
    return {
        "labels": [run.label for run in runs],
        "baseline": next((k for k, run in enumerate(runs) if run.metrics is baseline), None),
        "rows": rows,
        "plots": plots,
        "differing": differing,
    }


def render(contents: Contents) -> str:
    """The page as text: the same contents give the same bytes.

    Returns
    -------
    str
        HTML with style, scripts, plots and pictures inside.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    figures = _Figures()
    several = len(contents.runs) > 1
    comparison = _comparison(contents, figures) if several else None
    sections = [_section(run, contents, figures, k) for k, run in enumerate(contents.runs, 1)]
    accuracy = contents.accuracy
    plot = figures.place(accuracy.figure) if accuracy else None
    colours = "".join(
        f"--{part.split()[0].lower()}: {colour};" for part, colour in charts.COLOURS.items()
    )
    return template.render(
        _TEMPLATES / "report.html",
        title=f"{len(sections)} runs compared" if several else sections[0]["label"],
        version=halut.__version__,
        sections=sections,
        comparison=comparison,
        baseline=contents.baseline[0] if contents.baseline else None,
        accuracy=accuracy,
        accuracy_plot=plot,
        # Our own files and our own drawings, whose texts were escaped when they were made.
        style=Markup(":root {" + colours + "}\n" + (_TEMPLATES / "report.css").read_text()),
        script=Markup((_TEMPLATES / "report.js").read_text()),
        plotly=Markup(get_plotlyjs()),
        figures=json.loads(json.dumps(figures.found)),
        templates=charts.templates(),
    )
