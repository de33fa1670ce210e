"""Metrics as text for a terminal."""

from __future__ import annotations

from typing import Any

from flow.figures.metrics import NOT_COUNTED, Metrics, compare
from flow.figures.words import UNITS, title
from flow.report.conditions import caption
from flow.report.table import fixed, number, terminal

__all__ = ["FPGA_ROWS", "PLACED_ROWS", "ROUTED_ROWS", "ROWS", "comparison", "summary"]

ROWS = [
    "synth__design__instance__area__stdcell",
    "halut__area__gate_equivalents",
    "halut__area__per_mac_per_cycle",
    "synth__design__instance__count__stdcell",
    "halut__clock_tree__area",
    "synth__design__logic__depth",
    "synth__timing__setup__ws",
    "synth__timing__hold__ws",
    "synth__timing__table_write__ws",
    "halut__timing__shortest_period",
    "synth__timing__drv__max_slew",
    "synth__timing__drv__max_cap",
    "synth__timing__drv__max_fanout",
    "sim__input_transfers__per_cycle",
    "synth__power__total",
    "synth__power__internal__total",
    "synth__power__switching__total",
    "synth__power__leakage__total",
    "halut__power__clock_tree",
    "halut__power__without_glitches",
    "halut__energy__per_look_up",
    "halut__energy__per_mac",
    "halut__energy__per_mac_without_glitches",
    "halut__energy__per_mac_without_clock_tree",
    "halut__energy__per_program_word",
    "halut__throughput__gmacs_per_s_per_mm2",
    "halut__throughput__gmacs_per_s_per_mm2_at_shortest",
]
PLACED_ROWS = [
    "floorplan__design__die__area",
    "detailedplace__design__instance__area__stdcell",
    "detailedplace__design__instance__utilization",
    "detailedplace__timing__setup__ws",
    "detailedplace__power__total",
]
ROUTED_ROWS = [
    "finish__design__die__area",
    "finish__design__instance__area__stdcell",
    "finish__design__instance__count__stdcell",
    "halut__routed__gate_equivalents",
    "finish__design__instance__utilization",
    "halut__routed__die_area_per_mac_per_cycle",
    "halut__routed__area_per_mac_per_cycle",
    "detailedroute__route__wirelength",
    "detailedroute__route__drc_errors",
    "detailedroute__antenna__violating__nets",
    "finish__timing__setup__ws",
    "finish__timing__setup__tns",
    "finish__timing__hold__ws",
    "halut__routed__corners__hold__ws",
    "finish__clock__skew__setup",
    "halut__routed__shortest_period",
    "finish__power__total",
    "finish__power__internal__total",
    "finish__power__switching__total",
    "finish__power__leakage__total",
    "halut__routed__energy_per_look_up",
    "halut__routed__energy_per_mac",
    "halut__routed__energy_per_program_word",
]
FPGA_ROWS = [
    "halut__fpga__luts",
    "halut__fpga__luts_share",
    "halut__fpga__flip_flops",
    "halut__fpga__lut_rams",
    "halut__fpga__block_rams",
    "halut__fpga__multipliers",
    "halut__fpga__luts_per_mac_per_cycle",
    "halut__fpga__shortest_period",
    "halut__fpga__frequency",
    "halut__fpga__setup_slack",
]
_POWERS = ("internal", "switching", "leakage")


_LESS = {
    "synth__power__total": "power, glitches not counted",
    "halut__energy__per_look_up": "energy per look-up, no glitches",
    "halut__energy__per_mac": "energy per MAC, no glitches",
    "halut__energy__per_program_word": "energy per program word, no gl.",
}
"""Labels of what glitches are part of, where they were not simulated."""


def summary(metrics: Metrics) -> str:
    """The table that a run prints."""
    source, notes = metrics.provenance, metrics.notes
    lines = [f"{source['design']} on {caption(source)}"]
    given: set[str] = set()
    on_fpga = metrics.values["halut__fpga__frequency"] is not None
    rows = FPGA_ROWS if on_fpga else ROWS
    lines += _table(metrics, rows, given, notes.get("glitches") == NOT_COUNTED)
    width_of_code = metrics.values["halut__design__codebook_width"]
    if width_of_code and metrics.values["halut__energy__per_mac"] is not None:
        lines.append(f"  (one look-up counted as {width_of_code} MACs)")
    path = notes.get("critical_path")
    if path:
        lines.append(f"what limits the period, from {path['from']} to {path['to']}:")
        for part in path["stretches"]:
            lines.append(
                f"  {part['delay_ns']:.3f} ns in {part['unit']} ({part['kind']}, "
                f"{len(part['cells'])} cells)"
            )
    if metrics.breakdown:
        lines += ["by kind of unit:", _breakdown(metrics.breakdown)]
    stages = (
        ("placed, wires estimated (OpenROAD):", PLACED_ROWS),
        ("routed (OpenROAD):", ROUTED_ROWS),
    )
    for heading, rows in () if on_fpga else stages:
        table = _table(metrics, rows, given)
        if table:
            lines += [heading, *table]
    for name, at in notes.get("corners", {}).items():
        line = (
            f"corner {name}: setup slack {at['setup']:.3f} ns, hold slack {at['hold']:.3f} ns, "
            f"shortest period {at['shortest_period']:.3f} ns"
        )
        if "energy_per_cycle" in at:
            line += f", {at['voltage']:g} V, {at['energy_per_cycle']:.4g} pJ per cycle"
        lines.append(line)
    for reason in sorted(given - {""}):
        lines.append(f"not measured: {reason}")
    for key in ("sram", "block", "workload", "proof", "timing_by", "power_by", "routed_power",
                "routing"):  # fmt: skip
        if key in notes:
            lines.append(f"{key.replace('_by', '')}: {notes[key]}")
    lines.append("conditions: " + "; ".join(notes.get("conditions", [])))
    return "\n".join(lines)


def _labels(names: list[str]) -> list[tuple[str, str]]:
    """Names with their titles; what goes on from the title above is indented."""
    labels, above = [], ""
    for name in names:
        words = title(name)
        if above and words.startswith(f"{above}, "):
            words = f"  {words[len(above) + 2 :]}"
        else:
            above = words
        labels.append((words, name))
    return labels


def _table(metrics: Metrics, names: list[str], given: set[str], less: bool = False) -> list[str]:
    """Lines of the metrics that have a value; reasons of the others go to `given`.

    `less` labels what glitches are part of as without them.
    """
    labels = _labels(names)
    if less:
        labels = [(_LESS.get(name, label), name) for label, name in labels]
    width = max(len(label) for label, _ in [*_labels(ROWS), *labels])
    lines = []
    for label, name in labels:
        value = metrics.values[name]
        if value is None:
            given.add(metrics.reasons.get(name, ""))
        else:
            lines.append(f"  {label:<{width}}  {number(value):>12} {UNITS[name]}")
    return lines


def _breakdown(rows: list[dict[str, Any]]) -> str:
    total = sum(row["area"] for row in rows) or 1.0
    powers = [[row.get(f"{part}_mw", 0.0) for part in _POWERS] for row in rows]
    power = sum(map(sum, powers)) or 1.0
    lines = [["", "units", "cells", "area", "share"]]
    lines += [
        [row["unit"], str(row["instances"]), fixed(row["cells"]), fixed(row["area"]),
         f"{row['area'] / total:.1%}"]
        for row in rows
    ]  # fmt: skip
    if any("internal_mw" in row for row in rows):
        lines[0] += [*_POWERS, "mW", "share"]
        for line, parts in zip(lines[1:], powers, strict=True):
            line += [fixed(part, 4) for part in (*parts, sum(parts))]
            line.append(f"{sum(parts) / power:.1%}")
    return terminal(lines, indent=2)


def comparison(old: Metrics, new: Metrics, name: str) -> str:
    """What changed against an earlier run; "" when nothing did."""
    rows = compare(old, new)
    if not rows:
        return f"same numbers as {name}"
    lines = [f"against {name}:"]
    were, are = old.notes.get("glitches"), new.notes.get("glitches")
    if were and are and were != are:
        lines.append(f"  power and energy are not alike: glitches were {were}; now they are {are}")
    width = max(len(row[0]) for row in rows)
    for metric, before, after, change, verdict in rows:
        share = f"{change:+.2%}" if change is not None else ""
        word = {1: "better", -1: "worse", 0: ""}[verdict]
        lines.append(
            f"  {metric:<{width}}  {number(before):>12} -> {number(after):>12} "
            f"{UNITS[metric]:<10} {share:>9} {word}".rstrip()
        )
    return "\n".join(lines)
