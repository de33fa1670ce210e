"""Metrics of the mapped netlist, from the results of a run's steps."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from flow.figures.described import design_provenance, set_design
from flow.figures.energy import MAPPED, NO_ENGINE, energy_per_word, kinds_of_units, set_energy
from flow.figures.metrics import NOT_COUNTED, Metrics
from flow.netlist.netlist import Instance, Netlist
from flow.run.context import Run
from flow.run.mapping import Finished, Proof
from flow.run.power import Loaded, Summed
from flow.run.simulation import Simulated
from flow.run.timing import Timed
from flow.timing.opensta import PathPoint
from flow.tools import no_simulator

__all__ = ["set_mapped"]


def set_mapped(
    metrics: Metrics,
    run: Run,
    finished: Finished,
    proof: Proof | None,
    timed: Timed,
    simulated: Simulated | None,
    power: Summed | None,
    loaded: Loaded | None,
) -> None:
    """Set conditions and all metrics of the mapped netlist, or why they are missing."""
    _describe(metrics, run)
    _area(metrics, run, finished)
    _proof(metrics, proof)
    _timing(metrics, run, timed)
    if simulated is None:
        reason = no_simulator() or "no simulator" if run.options.power else "--no-power"
        metrics.missing(("sim__", "synth__power", "halut__power", "halut__energy"), reason)
    else:
        _energy(metrics, run, simulated, power)
    if loaded is not None:
        _loading(metrics, run, loaded)
    elif power is not None:
        metrics.missing(("halut__energy__per_program_word",), "no program is loaded")
    _breakdown(metrics, run, finished, power)


def _describe(metrics: Metrics, run: Run) -> None:
    options, design, tools = run.options, run.design, run.tools
    corner = run.platform.corners.get(run.corner)
    metrics.provenance = {
        **design_provenance(design),
        "platform": run.platform.name,
        "corner": run.corner or None,
        "voltage": corner.voltage if corner else None,
        "temperature": corner.temperature if corner else None,
        "clock_ns": options.clock_ns,
        "target_ns": run.target,
        "io_share": options.io_share,
        "seed": options.seed,
        "synthesis": dataclasses.asdict(options.synth),
        "tools": {
            tool.name: tool.version
            for tool in (tools.yosys, tools.sta, tools.simulator)
            if tool is not None
        },
    }
    metrics.notes["conditions"] = [
        "after synthesis, buffering and sizing; not placed, no wires",
        f"{options.io_share:.0%} of the period outside at every input and output",
        "ideal clock; its buffers are in the power and, listed apart, in the area",
    ]
    set_design(metrics, design)


def _area(metrics: Metrics, run: Run, finished: Finished) -> None:
    library, platform = run.library, run.platform
    in_tree = set(finished.clock_buffers)
    instances = run.whole.instances
    cells = [library.cells[i.cell] for i in instances if i.name not in in_tree]
    tree = [library.cells[i.cell] for i in instances if i.name in in_tree]
    kinds = Counter(cell.kind for cell in cells)
    area = math.fsum(cell.area for cell in cells)
    put = metrics.set
    put("synth__design__instance__count__stdcell", len(cells))
    if run.srams:
        macros = math.fsum(cell.area for cell in cells if cell.kind == "sram")
        put("synth__design__instance__count__macros", kinds["sram"])
        put("synth__design__instance__area__macros", macros)
        ways = "; ".join(
            f"{words} words of {width} bits are {way.n_macros} {way.cell}"
            for (words, width), way in run.srams.items()
        )
        metrics.notes["sram"] = f"{kinds['sram']} macros, {macros:,.0f} um2 of the area: {ways}"
    else:
        metrics.missing(
            ("synth__design__instance__count__macros", "synth__design__instance__area__macros"),
            "no tables in SRAM",
        )
    put("synth__design__instance__count__sequential", kinds["ff"])
    put("synth__design__instance__count__latch", kinds["latch"])
    put("synth__design__instance__count__clock_gate", kinds["clock_gate"])
    if not platform.has_library:
        put("halut__area__gate_equivalents", area)
        reason = "platform without a library: gate equivalents only"
        metrics.missing(
            ("synth__design__instance__area", "halut__area", "halut__clock_tree",
             "halut__throughput", "synth__design__instance__count__buffer"),
            reason,
        )  # fmt: skip
        return
    put("synth__design__instance__count__buffer", finished.repair.buffers)
    put("synth__design__instance__area__stdcell", area)
    put("halut__area__gate_equivalents", area / library.cells[platform.gate_equivalent].area)
    macs = run.design.macs_per_cycle
    put("halut__area__per_mac_per_cycle", area / macs if macs else None, NO_ENGINE)
    put("halut__clock_tree__area", math.fsum(cell.area for cell in tree))
    put("halut__clock_tree__count", len(tree))


def _proof(metrics: Metrics, proof: Proof | None) -> None:
    if proof is None:
        metrics.missing(("synth__proof",), "--prove not given")
        return
    metrics.set("synth__proof__outputs", proof.outputs)
    metrics.set("synth__proof__registers", proof.registers)
    metrics.set("synth__proof__latches", proof.latches)
    metrics.notes["proof"] = (
        f"netlist = RTL for {proof.outputs} output bits, {proof.registers} registers and "
        f"{proof.latches} latches (ABC {proof.abc})"
    )


def _timing(metrics: Metrics, run: Run, timed: Timed) -> None:
    put, found, shortest = metrics.set, timed.opensta, timed.shortest_period
    put("synth__design__logic__depth", timed.depth)
    put("synth__timing__clock__period", run.options.clock_ns)
    put("synth__timing__target__period", run.target)
    if shortest is None:
        metrics.missing(
            ("synth__timing", "halut__timing", "halut__throughput"),
            "platform without a library: no delays in ns",
        )
        return
    put("synth__timing__drv__max_slew", timed.max_slew)
    put("synth__timing__drv__max_cap", timed.max_cap)
    put("synth__timing__drv__max_fanout", timed.max_fanout)
    if found is None:
        put("synth__timing__setup__ws", timed.slack)
        metrics.missing(
            ("synth__timing__hold", "synth__timing__table_write"),
            "no OpenSTA: apt install opensta; setup is from flow.timing",
        )
        metrics.notes["timing_by"] = "flow.timing (no OpenSTA found: apt install opensta)"
    else:
        put("synth__timing__setup__ws", found.slack)
        put("synth__timing__hold__ws", found.hold_slack)
        put("synth__timing__table_write__ws", found.write_slack)
        metrics.notes["timing_by"] = f"OpenSTA {run.tools.sta.version if run.tools.sta else ''}"
        metrics.notes["critical_path"] = {
            "from": found.startpoint,
            "to": found.endpoint,
            "stretches": _path_words(found.path, run.netlist, run.kind),
        }
    put("halut__timing__shortest_period", shortest)
    put("synth__timing__fmax", 1000 / shortest)
    area = metrics.values["synth__design__instance__area__stdcell"] or 0.0
    rate = run.design.macs_per_cycle / (area * 1e-6) if area else None
    if not rate:
        metrics.missing(("halut__throughput",), NO_ENGINE)
    else:
        put("halut__throughput__gmacs_per_s_per_mm2", rate / run.options.clock_ns)
        put("halut__throughput__gmacs_per_s_per_mm2_at_shortest", rate / shortest)


def _path_words(
    path: list[PathPoint], netlist: Netlist, kind: Callable[[Instance], str]
) -> list[dict[str, Any]]:
    """A path as stretches within units."""
    place = {instance.name: instance for instance in netlist.instances}
    words: list[dict[str, Any]] = []
    for point in path:
        instance = place.get(point.instance)
        if instance is None:
            continue
        unit = netlist.units[instance.unit][0] or netlist.top
        if not words or words[-1]["unit"] != unit:
            words.append(
                {"unit": unit, "kind": kind(instance), "cells": [], "delays_ns": [],
                 "delay_ns": 0.0}
            )  # fmt: skip
        words[-1]["cells"].append(f"{point.instance} ({point.cell})")
        words[-1]["delays_ns"].append(round(point.delay, 6))
        words[-1]["delay_ns"] = round(words[-1]["delay_ns"] + point.delay, 6)
    return words


def _energy(metrics: Metrics, run: Run, simulated: Simulated, power: Summed | None) -> None:
    put = metrics.set
    put("sim__transfers__checked", simulated.checked)
    put("sim__latency__cycles", simulated.latency)
    put("sim__window__cycles", simulated.window)
    put("sim__input_transfers__per_cycle", simulated.transfers / simulated.window)
    metrics.notes["workload"] = (
        f"{simulated.description}, seed {run.options.seed}; {simulated.window} cycles in "
        f"steady state, output always ready; all {simulated.checked} output transfers equal "
        "the exact model"
    )
    if power is None:
        metrics.missing(
            ("synth__power", "halut__power", "halut__energy"),
            "platform without a library: no energy",
        )
        return
    glitches = "with delays" if simulated.with_delays else "without delays, no glitches"
    metrics.notes["glitches"] = "counted" if simulated.with_delays else NOT_COUNTED
    sums = power.sums
    metrics.notes["power_by"] = f"{sums.method}; activity from a simulation {glitches}"
    put("halut__power__clock_tree", sums.clock_tree)
    put("halut__power__without_glitches", power.settled)
    set_energy(
        metrics,
        MAPPED,
        sums,
        run.options.clock_ns,
        simulated.look_ups,
        simulated.macs,
        {
            "mac_without_glitches": power.settled,
            "mac_without_clock_tree": sums.total - sums.clock_tree,
        },
    )


def _loading(metrics: Metrics, run: Run, loaded: Loaded) -> None:
    metrics.set("halut__energy__per_program_word", energy_per_word(loaded, run.options.clock_ns))
    metrics.notes["loading"] = (
        f"random program over another, {loaded.words} words in {loaded.window} cycles"
    )


def _breakdown(metrics: Metrics, run: Run, finished: Finished, power: Summed | None) -> None:
    kinds = run.kinds(finished.clock_buffers)
    metrics.breakdown = kinds_of_units(
        run.whole,
        kinds,
        run.library,
        power.sums.units if power else None,
        power.sums.ports if power else 0.0,
    )
