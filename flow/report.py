"""Metrics as text for a terminal."""

from __future__ import annotations

from typing import Any

from flow.metrics import METRICS, NOT_COUNTED, Metrics, compare

__all__ = ["TITLES", "comparison", "number", "summary"]

_ROWS = [
    ("area", "synth__design__instance__area__stdcell"),
    ("gate equivalents", "halut__area__gate_equivalents"),
    ("area per MAC/cycle", "halut__area__per_mac_per_cycle"),
    ("cells", "synth__design__instance__count__stdcell"),
    ("clock buffers (not in the area)", "halut__clock_tree__area"),
    ("logic depth", "synth__design__logic__depth"),
    ("worst setup slack", "synth__timing__setup__ws"),
    ("worst hold slack", "synth__timing__hold__ws"),
    ("worst slack of table writes", "synth__timing__table_write__ws"),
    ("shortest period", "halut__timing__shortest_period"),
    ("slew violations", "synth__timing__drv__max_slew"),
    ("load violations", "synth__timing__drv__max_cap"),
    ("fan-out violations", "synth__timing__drv__max_fanout"),
    ("input transfers", "sim__input_transfers__per_cycle"),
    ("power", "synth__power__total"),
    ("  internal", "synth__power__internal__total"),
    ("  switching", "synth__power__switching__total"),
    ("  leakage", "synth__power__leakage__total"),
    ("  of it clock buffers", "halut__power__clock_tree"),
    ("  without glitches", "halut__power__without_glitches"),
    ("energy per look-up", "halut__energy__per_look_up"),
    ("energy per MAC", "halut__energy__per_mac"),
    ("  without glitches", "halut__energy__per_mac_without_glitches"),
    ("  without clock buffers", "halut__energy__per_mac_without_clock_tree"),
    ("energy per program word", "halut__energy__per_program_word"),
    ("throughput density", "halut__throughput__gmacs_per_s_per_mm2"),
    ("  at the shortest period", "halut__throughput__gmacs_per_s_per_mm2_at_shortest"),
]
_PLACED_ROWS = [
    ("die", "floorplan__design__die__area"),
    ("cells", "detailedplace__design__instance__area__stdcell"),
    ("utilisation of the core", "detailedplace__design__instance__utilization"),
    ("worst setup slack", "detailedplace__timing__setup__ws"),
    ("power", "detailedplace__power__total"),
]
_ROUTED_ROWS = [
    ("die", "finish__design__die__area"),
    ("cells", "finish__design__instance__area__stdcell"),
    ("number of cells", "finish__design__instance__count__stdcell"),
    ("gate equivalents", "halut__routed__gate_equivalents"),
    ("utilisation of the core", "finish__design__instance__utilization"),
    ("die per MAC/cycle", "halut__routed__die_area_per_mac_per_cycle"),
    ("cells per MAC/cycle", "halut__routed__area_per_mac_per_cycle"),
    ("wires", "detailedroute__route__wirelength"),
    ("design-rule violations", "detailedroute__route__drc_errors"),
    ("antenna violations", "detailedroute__antenna__violating__nets"),
    ("worst setup slack", "finish__timing__setup__ws"),
    ("total negative slack", "finish__timing__setup__tns"),
    ("worst hold slack", "finish__timing__hold__ws"),
    ("clock skew", "finish__clock__skew__setup"),
    ("shortest period", "halut__routed__shortest_period"),
    ("power", "finish__power__total"),
    ("  internal", "finish__power__internal__total"),
    ("  switching", "finish__power__switching__total"),
    ("  leakage", "finish__power__leakage__total"),
    ("energy per look-up", "halut__routed__energy_per_look_up"),
    ("energy per MAC", "halut__routed__energy_per_mac"),
    ("energy per program word", "halut__routed__energy_per_program_word"),
]


def _titles() -> dict[str, str]:
    """The labels, where an indented one goes on from the one above it."""
    titles, above = {}, ""
    for label, name in [*_ROWS, *_PLACED_ROWS, *_ROUTED_ROWS]:
        if not label.startswith(" "):
            above = label
        titles[name] = label if label == above else f"{above}, {label.strip()}"
    return titles


TITLES = _titles()
"""What a metric is called in tables, by its name."""


def number(value: float | int | None) -> str:
    """A value in four digits; ``-`` for none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


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
    place = source["platform"]
    if source.get("corner"):
        place += f" {source['corner']} ({source['voltage']:g} V, {source['temperature']:g} C)"
    lines = [
        f"{source['design']} on {place}, clock {source['clock_ns']:g} ns, "
        f"made for {source['target_ns']:g} ns"
    ]
    given: set[str] = set()
    rows = _ROWS
    if notes.get("glitches") == NOT_COUNTED:
        rows = [(_LESS.get(name, label), name) for label, name in rows]
    lines += _table(metrics, rows, given)
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
        lines += ["by kind of unit:", *_breakdown(metrics.breakdown)]
    for title, rows in (
        ("placed, wires estimated (OpenROAD):", _PLACED_ROWS),
        ("routed (OpenROAD):", _ROUTED_ROWS),
    ):
        table = _table(metrics, rows, given)
        if table:
            lines += [title, *table]
    for reason in sorted(given - {""}):
        lines.append(f"not measured: {reason}")
    for key in ("workload", "timing_by", "power_by", "routed_power", "routing"):
        if key in notes:
            lines.append(f"{key.replace('_by', '')}: {notes[key]}")
    lines.append("conditions: " + "; ".join(notes.get("conditions", [])))
    return "\n".join(lines)


def _table(metrics: Metrics, rows: list[tuple[str, str]], given: set[str]) -> list[str]:
    """Lines of the metrics that have a value; reasons of the others go to `given`."""
    width = max(len(label) for label, _ in [*_ROWS, *rows])
    lines = []
    for label, name in rows:
        value = metrics.values[name]
        if value is None:
            given.add(metrics.reasons.get(name, ""))
        else:
            lines.append(f"  {label:<{width}}  {number(value):>12} {METRICS[name][0]}")
    return lines


def _breakdown(rows: list[dict[str, Any]]) -> list[str]:
    total = sum(row["area"] for row in rows) or 1.0
    with_power = any("internal_mw" in row for row in rows)
    name = max(len(row["unit"]) for row in rows)
    head = f"  {'':<{name}} {'units':>6} {'cells':>8} {'area':>10} {'share':>6}"
    if with_power:
        head += f" {'internal':>9} {'switching':>9} {'leakage':>9} {'mW':>8} {'share':>6}"
    lines = [head]
    power = sum(
        row.get("internal_mw", 0) + row.get("switching_mw", 0) + row.get("leakage_mw", 0)
        for row in rows
    )
    for row in rows:
        line = (
            f"  {row['unit']:<{name}} {row['instances']:>6} {row['cells']:>8,} "
            f"{row['area']:>10,.0f} {row['area'] / total:>6.1%}"
        )
        if with_power:
            parts = [row.get(f"{part}_mw", 0.0) for part in ("internal", "switching", "leakage")]
            line += "".join(f" {part:>9.4f}" for part in parts)
            line += f" {sum(parts):>8.4f} {sum(parts) / (power or 1.0):>6.1%}"
        lines.append(line)
    return lines


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
            f"{METRICS[metric][0]:<10} {share:>9} {word}".rstrip()
        )
    return "\n".join(lines)
