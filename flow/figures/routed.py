"""Metrics of the layout, from the results of a run's steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from flow.figures.energy import NO_ENGINE, ROUTED, energy_per_word, kinds_of_units, set_energy
from flow.figures.metrics import UNITS, Metrics
from flow.layout.corners import Corners, PowerAtCorners
from flow.layout.products import Products
from flow.layout.routed import RoutedNetlist
from flow.layout.stages import LaidOut, no_layout
from flow.netlist.block import Block
from flow.run.context import Run
from flow.run.power import Loaded, Summed
from flow.run.simulation import Simulated

__all__ = ["set_corners", "set_routed"]

_LATER = ("cts__", "globalroute__", "detailedroute__", "finish__", "halut__routed__")
# Of blocks and of what is around them, added up.
_COUNTED = (
    "detailedroute__route__drc_errors",
    "detailedroute__route__wirelength",
    "detailedroute__route__vias",
    "detailedroute__antenna__violating__nets",
    "finish__timing__setup__tns",
    "finish__timing__hold__tns",
    "finish__timing__drv__max_slew",
    "finish__timing__drv__max_cap",
)
_NAMES = ("floorplan__", "detailedplace__", *_LATER)


def set_routed(
    metrics: Metrics,
    run: Run,
    laid_out: LaidOut | None,
    routed: RoutedNetlist | None,
    products: Products | None,
    corners: Corners | None,
    loaded: Loaded | None,
    simulated: Simulated | None,
    power: Summed | None,
    at_corners: PowerAtCorners | None,
    with_activity: bool,
) -> None:
    """Set all metrics of the layout, or why they are missing.

    `with_activity` says whether stages had the activity of the mapped netlist.
    """
    if laid_out is None or products is None:
        metrics.missing(_NAMES, "not asked for" if run.options.layout == "none" else no_layout(run))
        return
    no_power = ""
    if not with_activity:
        no_power = "no activity: no simulation, or blocks"
    elif run.library.ground_power:
        no_power = "OpenROAD adds the library's power of ground pins to that of the supply"
    _put_found(metrics, laid_out.metrics, no_power)
    placed = "detailedplace__design__instance__area"
    if run.srams and placed in laid_out.metrics:
        # As after synthesis and at the end, SRAM macros are part of it.
        metrics.set(f"{placed}__stdcell", laid_out.metrics[placed])
    metrics.provenance.setdefault("tools", {})["openroad"] = laid_out.openroad
    metrics.provenance["layout"] = {
        "stages": {name: asdict(stage.usage) for name, stage in laid_out.stages.items()},
        "options": asdict(run.options.place_and_route),
    }
    if routed is None:
        metrics.notes["pictures"] = products.pictures
        metrics.missing(_LATER, "placed only: make pnr goes on")
        return
    layout = run.platform.layout
    assert layout is not None
    metrics.notes["wires"] = (
        "extracted wires" if layout.extraction else "wires estimated from the routes"
    )
    if latency := run.options.place_and_route.io_latency_ns:
        metrics.notes["ports"] = f"registers outside get the clock's edge {latency:g} ns late"
    metrics.notes["pictures"] = products.pictures
    if products.gds is not None:
        metrics.notes["gds"] = asdict(products.gds)
    else:
        metrics.notes["gds_lacking"] = f"platform {run.platform.name} has no GDS of its cells"
    _area(metrics, run, routed)
    metrics.set(
        "halut__routed__shortest_period", routed.shortest_period, "OpenROAD did not report it"
    )
    set_corners(metrics, corners)
    if run.block is not None:
        _add_block(metrics, run, run.block)
    if errors := metrics.values["detailedroute__route__drc_errors"]:
        metrics.notes["routing"] = (
            f"{errors} design-rule violations are left ({laid_out.folder}/drc.rpt)"
        )
    if simulated is None or power is None:
        metrics.missing(("finish__power", "halut__routed"), "no simulation")
        return
    _energy(metrics, run, routed, loaded, simulated, power)
    if at_corners is None:
        return
    for at in at_corners.found:
        metrics.notes["corners"][at.corner] |= {
            "voltage": at.voltage,
            "energy_per_cycle": at.total * run.options.clock_ns,
        }


def _add_block(metrics: Metrics, run: Run, block: Block) -> None:
    """What was found inside of the block, where OpenROAD saw it from outside."""
    count = len(run.block_names)
    slower = run.options.clock_ns - block.clock_ns
    values, own = metrics.values, block.metrics

    def join(name: str, of: Callable[[float, float], float], more: float = 0.0) -> None:
        here, inside = values.get(name), own.get(name)
        if here is not None and inside is not None:
            metrics.set(name, of(here, inside + more))

    join("finish__timing__setup__ws", min, slower)
    join("finish__timing__hold__ws", min)
    join("halut__routed__corners__hold__ws", min)
    join("halut__routed__shortest_period", max)
    for name in _COUNTED:
        join(name, lambda here, inside: here + count * inside)
    for corner, at in metrics.notes.get("corners", {}).items():
        inside = block.corners.get(corner)
        if inside is not None:
            at["setup"] = min(at["setup"], inside["setup"] + slower)
            at["hold"] = min(at["hold"], inside["hold"])
            at["shortest_period"] = max(at["shortest_period"], inside["shortest_period"])
    metrics.notes["block"] = (
        f"{count} hard macros {block.name} of {block.size[0]:g} x {block.size[1]:g} um, routed "
        f"before; timing and violations are the worse of theirs and of what is around them"
    )


def set_corners(metrics: Metrics, corners: Corners | None) -> None:
    """The worst hold slack of all, and a line for each."""
    if corners is None:
        metrics.missing(("halut__routed__corners",), "the platform has one corner")
        return
    metrics.set(
        "halut__routed__corners__hold__ws",
        min((at.hold for at in corners.found), default=None),
        "no corner's library is there",
    )
    metrics.notes["corners"] = {at.corner: asdict(at) for at in corners.found}
    if corners.lacking:
        metrics.notes["corners_lacking"] = ", ".join(corners.lacking)


def _put_found(metrics: Metrics, found: Mapping[str, Any], no_power: str) -> None:
    """What OpenROAD measured, in this project's units; `no_power` says why its power is not."""
    for name, unit in UNITS.items():
        if not name.startswith(_NAMES) or name not in found:
            continue
        if unit == "mW":
            # It is in watts. The final power is that of the routed netlist's own activity.
            if not no_power and not name.startswith("finish__"):
                metrics.set(name, float(found[name]) * 1e3)
            continue
        value = found[name]
        if isinstance(value, (int, float)):
            metrics.set(name, value, "not a finite number")
    if no_power:
        metrics.missing(("detailedplace__power",), no_power)


def _area(metrics: Metrics, run: Run, routed: RoutedNetlist) -> None:
    library, instances = run.library, routed.netlist.instances
    area = math.fsum(library.cells[instance.cell].area for instance in instances)
    gate = library.cells[run.platform.gate_equivalent].area
    metrics.set("finish__design__instance__area__stdcell", area)
    metrics.set("finish__design__instance__count__stdcell", len(instances))
    metrics.set("halut__routed__gate_equivalents", area / gate)
    die = metrics.values["finish__design__die__area"]
    core = metrics.values["floorplan__design__core__area"]
    metrics.set(
        "finish__design__instance__utilization", area / core if core else None, "no core area"
    )
    macs = run.design.macs_per_cycle
    for name, value in (("die_area", die), ("area", area)):
        metrics.set(
            f"halut__routed__{name}_per_mac_per_cycle",
            value / macs if macs and value else None,
            NO_ENGINE,
        )


def _energy(
    metrics: Metrics,
    run: Run,
    routed: RoutedNetlist,
    loaded: Loaded | None,
    simulated: Simulated,
    power: Summed,
) -> None:
    clock = run.options.clock_ns
    if loaded is not None:
        per_word = energy_per_word(loaded, clock)
        metrics.set("halut__routed__energy_per_program_word", per_word)
    else:
        metrics.missing(("halut__routed__energy_per_program_word",), "no program is loaded")
    metrics.set("halut__routed__transfers_checked", simulated.checked)
    metrics.notes["routed_power"] = (
        f"{power.sums.method} with {metrics.notes['wires']}; activity from a simulation of the "
        f"routed netlist, whose {simulated.checked} output transfers equal the exact model; the "
        f"same sum by flow.power.liberty_power with lumped wires: {power.own:.4g} mW"
    )
    set_energy(metrics, ROUTED, power.sums, clock, simulated.look_ups, simulated.macs)
    rows = kinds_of_units(routed.netlist, routed.kinds, run.library, power.sums.units)
    for row in rows:
        # The routed Verilog is flat: it does not say which instance of a unit a cell is of.
        del row["instances"]
    metrics.notes["routed_breakdown"] = rows
