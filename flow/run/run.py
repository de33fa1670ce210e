"""One run of the flow: a design on a platform at a clock, from Verilog to metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow.cells.generic import generic_library
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.designs.design import LOADING_WARM_UP, Design, Workload, window_of
from flow.figures.energy import MAPPED, NO_ENGINE, by_kind, kinds_of_units, set_energy
from flow.figures.metrics import NOT_COUNTED, Metrics, base_provenance
from flow.formal.equivalence import prove_netlist
from flow.layout.place_and_route import LayoutOptions, measure_layout
from flow.netlist.netlist import Instance, Netlist, Port, from_json
from flow.netlist.yosys import SynthOptions, synthesise
from flow.power.activity import Activity, read_vcd
from flow.power.liberty_power import Power, liberty_power
from flow.power.opensta import opensta_power, reads_activity
from flow.repair.repair import repair
from flow.run.sources import sources_hash
from flow.run.stages import Stages
from flow.simulation.simulate import NetlistRun, run_netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints, clock_ps
from flow.timing.opensta import PathPoint, StaTiming, opensta_timing, plain_liberty
from flow.tools import Tool, find_abc, find_simulator, find_sta, find_yosys, no_simulator
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write, locked

__all__ = ["Run", "RunOptions", "measure", "run_folder"]

log = logging.getLogger(__name__)

BUILD = Path("build")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run.

    Attributes
    ----------
    clock_ns : float
        Period that timing is checked at and energy is told at.
    target_ns : float or None
        Period that the netlist is made for; `clock_ns` when None.
    corner : str or None
        The platform's default when None.
    synth : SynthOptions
    io_share : float
        Share of the period that is outside at every port.
    yosys, simulator : str
    sta : str or None
    seed : int
        Of program, rows and initial state.
    cycles : int or None
        Length of the activity window; chosen by the design's width when None.
    power : bool
        Simulate and sum the power.
    prove : bool
        Prove that the finished netlist equals the RTL.
    force : bool
        Do unchanged stages again.
    layout : {"none", "placed", "routed"}
        How far OpenROAD goes on.
    place_and_route : LayoutOptions
    """

    clock_ns: float = 6.0
    target_ns: float | None = None
    corner: str | None = None
    synth: SynthOptions = field(default_factory=SynthOptions)
    io_share: float = 0.2
    yosys: str = "pyosys"
    simulator: str = "auto"
    sta: str | None = None
    seed: int = 1
    cycles: int | None = None
    power: bool = True
    prove: bool = False
    force: bool = False
    layout: str = "none"
    place_and_route: LayoutOptions = field(default_factory=LayoutOptions)


def _netlist_json(netlist: Netlist) -> dict[str, Any]:
    return {
        "top": netlist.top,
        "ports": [dataclasses.astuple(port) for port in netlist.ports],
        "nets": netlist.net_names,
        "units": netlist.units,
        "instances": [[i.name, i.cell, i.pins, i.unit] for i in netlist.instances],
    }


def _read_netlist(path: Path) -> Netlist:
    data = json.loads(path.read_text())
    return Netlist(
        data["top"],
        [Port(*port) for port in data["ports"]],
        data["nets"],
        [Instance(*instance) for instance in data["instances"]],
        [(unit[0], unit[1]) for unit in data["units"]],
    )


def run_folder(build: Path, slug: str, platform: Platform, options: RunOptions) -> Path:
    """Where a run's products go: ``<build>/<slug>/<platform>[_<corner>]/<clock>ns``.

    With a target of its own, ``<clock>ns_for_<target>ns``: every period has its own netlist.
    """
    name = platform.name
    if platform.has_library:
        corner = platform.corner(options.corner)[0]
        name += f"_{corner}" if corner != platform.default_corner else ""
    periods = f"{options.clock_ns:.12g}ns"
    if options.target_ns not in (None, options.clock_ns):
        periods += f"_for_{options.target_ns:.12g}ns"
    return build / slug / name / periods


class Run:
    """A design on a platform: what the stages share.

    Attributes
    ----------
    folder, cache : Path
        Of this run's products, and of files that several runs share.
    library : Library
    liberty : list of Path
    netlist : Netlist
        Mapped, buffered and sized; there from the stage "finish" on.
    timing : Timing
        Of `netlist` at the asked clock.
    """

    def __init__(
        self,
        design: Design,
        platform: Platform,
        options: RunOptions,
        build: Path,
        cache: Path | None = None,
        folder: Path | None = None,
    ):
        self.design = design
        self.platform = platform
        self.options = options
        # The tools run in folders of their own.
        self.cache = (cache or build / "cache").resolve()
        self.corner = ""
        self.liberty: list[Path] = []
        if platform.has_library:
            self.corner = platform.corner(options.corner)[0]
            self.liberty = platform.liberty_files(self.corner)
            self.library: Library = platform.library(self.corner, self.cache)
        else:
            self.library = generic_library(platform)
        self.folder = (folder or run_folder(build, design.slug, platform, options)).resolve()
        self.outputs = {cell: self.library.cells[cell].outputs for cell in self.library.cells}
        self.quiet = (design.reset, *design.static)
        self.target = options.target_ns or options.clock_ns
        self._netlist: Netlist | None = None
        self._timing: Timing | None = None

    def constraints(self, period: float) -> Constraints:
        return Constraints(
            clock=self.design.clock,
            period_ns=period,
            io_share=self.options.io_share,
            quiet=self.quiet,
        )

    @property
    def netlist(self) -> Netlist:
        if self._netlist is None:
            self._netlist = _read_netlist(self.folder / "netlist.json")
        return self._netlist

    @property
    def timing(self) -> Timing:
        """Of the finished netlist at the asked clock."""
        if self._timing is None:
            self._timing = Timing(
                self.netlist,
                self.library,
                self.platform,
                self.constraints(self.options.clock_ns),
            )
            self._timing.update()
        return self._timing

    # The stages.

    def yosys(self, tool: Tool) -> dict[str, Any]:
        source = self.folder / "rtl.v"
        with atomic_write(source) as temporary:
            temporary.write_text(self.design.verilog)
        library = self.library if self.platform.has_library else None
        for options in self.options.synth.candidates:
            synthesise(
                tool,
                [source],
                self.design.top,
                self.folder / "yosys" / options.adder,
                self.platform,
                library,
                options,
                self.target,
            )
        return {}

    def mapped(self) -> list[Path]:
        """Yosys' netlists, one per kind of adder."""
        return [
            self.folder / "yosys" / options.adder / "netlist.json"
            for options in self.options.synth.candidates
        ]

    def finish(self) -> dict[str, Any]:
        """Buffer and size the first candidate that meets the target, else the fastest."""
        best: tuple[float, Netlist, dict[str, Any]] | None = None
        for path in self.mapped():
            data = json.loads(path.read_text())
            netlist = from_json(data, self.design.top, self.outputs)
            swept = netlist.sweep(self.outputs)
            result: dict[str, Any] = {
                "adder": path.parent.name,
                "swept": swept,
                "clock_buffers": [],
            }
            slack = 0.0
            if self.platform.has_library:
                report = repair(netlist, self.library, self.platform, self.constraints(self.target))
                result |= dataclasses.asdict(report)
                slack = report.slack_after
            log.debug("%s adders: slack %.4f ns", path.parent.name, slack)
            if best is None or slack > best[0]:
                best = (slack, netlist, result)
            if slack >= 0:
                break
        if best is None:
            raise HalutError("adder must name at least one kind")
        _, netlist, result = best
        self._netlist, self._timing = netlist, None
        with atomic_write(self.folder / "netlist.json") as temporary:
            temporary.write_text(json.dumps(_netlist_json(netlist)))
        with atomic_write(self.folder / "netlist.v") as temporary:
            temporary.write_text(netlist.verilog())
        return result

    def prove(self, yosys: Tool, abc: Tool, adder: str) -> dict[str, Any]:
        """Compare the finished netlist with the RTL.

        Raises
        ------
        CheckFailed
            When they differ; says where.
        """
        folder = self.folder / "proof"
        found = prove_netlist(
            abc,
            yosys,
            self.folder / "rtl.v",
            self.folder / "yosys" / adder / "netlist.json",
            self.netlist,
            self.library,
            self.design.clock,
            folder,
        )
        if found.difference is not None:
            with atomic_write(folder / "difference.txt") as temporary:
                temporary.write_text(found.difference.text)
            raise CheckFailed(
                f"the netlist must equal the RTL, not differ in {found.difference} "
                f"(values: {folder / 'difference.txt'})"
            )
        return dataclasses.asdict(found)

    def sta(self, tool: Tool | None) -> dict[str, Any]:
        timing = self.timing
        violations = self._violations()
        if tool is None or not self.platform.has_library:
            slack = timing.end_slack()
            return {
                "depth": timing.depth,
                "slack": float(slack.min()) if len(slack) else None,
                "shortest": timing.shortest_period() if self.platform.has_library else None,
                "opensta": None,
                **violations,
            }
        found = opensta_timing(
            tool,
            self.netlist,
            self.library,
            self.platform,
            self.constraints(self.options.clock_ns),
            plain_liberty(self.liberty, self.cache),
            self.folder / "netlist.v",
            self.folder / "timing",
            timing.shortest_period(),
        )
        return {"depth": timing.depth, "opensta": dataclasses.asdict(found), **violations}

    def _violations(self) -> dict[str, int]:
        timing = self.timing
        load, slew = timing.over_limits(1e-3)
        readers = np.bincount(timing.sink_net, minlength=len(timing.port_load))
        readers[timing.on_clock] = 0
        return {
            "max_cap": int(load.sum()),
            "max_slew": int(slew.sum()),
            "max_fanout": int((readers > self.platform.max_fanout).sum()),
        }

    def simulate(self, tool: Tool, shortest: float | None) -> dict[str, Any]:
        options, design = self.options, self.design
        warm_up, window = window_of(design, options.cycles)
        workload = design.workload(options.seed, warm_up + window + design.interval_cycles)
        run, begin, period_ps = self.play(
            tool, shortest, workload, warm_up, window, "simulation", "activity.npz"
        )
        transfers = sum(begin <= cycle < begin + window for cycle in run.input_cycles)
        return {
            "checked": run.answers,
            "window": window,
            "transfers": transfers,
            "latency": run.answer_cycles[0] - run.input_cycles[design.group_transfers - 1],
            "period_ps": period_ps,
            "with_delays": run.with_delays,
            "look_ups": workload.look_ups,
            "macs": workload.macs,
            "description": workload.description,
        }

    def load(self, tool: Tool, shortest: float | None, sta: Tool | None) -> dict[str, Any]:
        """Power while a program is loaded, a word in every cycle."""
        assert self.design.loading is not None
        workload, window = self.design.loading(self.options.seed)
        run, begin, period_ps = self.play(
            tool, shortest, workload, LOADING_WARM_UP, window, "loading", "loading.npz"
        )
        words = sum(begin <= cycle < begin + window for cycle in run.input_cycles)
        power, _ = self._power(sta, "loading.npz", period_ps)
        return {"total": power.total, "words": words, "window": window}

    def play(
        self,
        tool: Tool,
        shortest: float | None,
        workload: Workload,
        warm_up: int,
        window: int,
        folder: str,
        activity_file: str,
        timing: Timing | None = None,
    ) -> tuple[NetlistRun, int, int]:
        """Simulate a workload; the run, its window's first cycle, and the period in ps.

        `timing` is of the netlist to simulate; this run's own by default.
        """
        design = self.design
        period = self.options.clock_ns
        if shortest is not None and period < 1.1 * shortest:
            # Too fast for its clock: the activity of the same work at a clock that it meets.
            period = 1.1 * shortest
        timed = self.platform.has_library
        if timing is None and timed:
            timing = self.timing
        netlist = timing.netlist if timing is not None else self.netlist
        run = run_netlist(
            tool,
            netlist,
            self.library,
            timing,
            workload,
            self.folder / folder,
            clock=design.clock,
            reset=design.reset,
            period_ns=period,
            warm_up=warm_up,
            window=window,
            dump=timed,
        )
        period_ps = clock_ps(period)
        if timing is not None and run.dump is not None:
            activity = read_vcd(
                run.dump,
                len(netlist.net_names),
                period_ps,
                window,
                np.array(sorted(timing.clock_nets), int),
            )
            activity.save(self.folder / activity_file)
            run.dump.unlink()
        return run, run.started + warm_up, period_ps

    def _power(self, tool: Tool | None, name: str, period_ps: int) -> tuple[Power, Activity]:
        activity = Activity.load(self.folder / name)
        power = liberty_power(self.timing, activity)
        if tool is not None and reads_activity(tool):
            ports = power.ports
            power = opensta_power(
                tool,
                self.netlist,
                self.library,
                self.design.clock,
                activity,
                plain_liberty(self.liberty, self.cache),
                self.folder / "netlist.v",
                self.folder / "timing",
                period_ps,
            )
            power = dataclasses.replace(power, ports=ports)
        return power, activity

    def power(self, tool: Tool | None, simulation: dict[str, Any], buffers: list[str]) -> dict:
        power, activity = self._power(tool, "activity.npz", simulation["period_ps"])
        settled = liberty_power(self.timing, activity, glitches=False)
        in_tree = set(buffers)
        tree = np.array([i.name in in_tree for i in self.netlist.instances], bool)
        return {
            "method": power.method,
            "internal": float(power.internal.sum()),
            "switching": float(power.switching.sum()) + power.ports,
            "leakage": float(power.leakage.sum()),
            "total": power.total,
            "settled": settled.total,
            "clock_tree": float(power.cells.sum(axis=0)[tree].sum()),
            "ports": power.ports,
            "units": by_kind(self.kinds(buffers), power.cells),
        }

    def kinds(self, clock_buffers: Iterable[str]) -> list[str]:
        """Kind of unit of every cell of the netlist; the clock's buffers are one of their own."""
        tree = set(clock_buffers)
        return [
            "clock tree" if instance.name in tree else self.kind(instance)
            for instance in self.netlist.instances
        ]

    def kind(self, instance: Instance) -> str:
        """Kind of unit that a cell belongs to."""
        module = self.netlist.units[instance.unit][1]
        matches = [prefix for prefix in self.design.labels if module.startswith(prefix)]
        return self.design.labels[max(matches, key=len)] if matches else module


def _path_words(path: list[PathPoint], netlist: Netlist, kinds: Any) -> list[dict[str, Any]]:
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
                {"unit": unit, "kind": kinds(instance), "cells": [], "delays_ns": [],
                 "delay_ns": 0.0}
            )  # fmt: skip
        words[-1]["cells"].append(f"{point.instance} ({point.cell})")
        words[-1]["delays_ns"].append(round(point.delay, 6))
        words[-1]["delay_ns"] = round(words[-1]["delay_ns"] + point.delay, 6)
    return words


STAGES = ["yosys", "finish", "timing", "simulate", "power", "loading"]


def measure(
    design: Design,
    platform: Platform,
    options: RunOptions,
    build: Path = BUILD,
    cache: Path | None = None,
    folder: Path | None = None,
) -> tuple[Metrics, Path]:
    """Run the flow.

    Parameters
    ----------
    design : Design
    platform : Platform
    options : RunOptions
    build : Path
        Products go below it; see `run_folder`. A second process that wants the same folder
        waits until the first has done.
    cache : Path, optional
        Where read libraries are kept; ``<build>/cache`` when None.
    folder : Path, optional
        Where products go instead.

    Returns
    -------
    metrics : Metrics
        Also written to ``metrics.json`` in that folder; the run before it is kept as
        ``metrics.previous.json``.
    folder : Path

    Raises
    ------
    HalutError
        When a tool or file is missing; says what and how to get it.
    CheckFailed
        When a tool fails, the netlist does not compute what the model says, or with `prove`
        differs from the RTL.
    """
    run = Run(design, platform, options, build, cache, folder)
    with locked(run.folder):
        return _measured(run), run.folder


def _measured(run: Run) -> Metrics:
    design, platform, options = run.design, run.platform, run.options
    yosys = find_yosys(options.yosys)
    sta = find_sta(options.sta) if platform.has_library else None
    simulator = find_simulator(options.simulator) if options.power else None
    last = 3 if not options.power else 6 if design.loading and platform.has_library else 5
    stages = Stages(run.folder, STAGES[:last], options.force)
    source = {
        "platform": platform.source.read_text(),
        "corner": run.corner,
        "liberty": [[str(path), path.stat().st_size] for path in run.liberty],
    }
    stages.run(
        "yosys",
        [
            design.verilog_hash,
            design.top,
            source,
            dataclasses.asdict(options.synth),
            run.target,
            yosys.version,
        ],
        run.mapped(),
        lambda: run.yosys(yosys),
    )
    finished = stages.run(
        "finish",
        [options.io_share, run.target, design.static],
        [run.folder / "netlist.json", run.folder / "netlist.v"],
        run.finish,
    )
    proof = _prove(run, yosys, finished) if options.prove else None
    timing = stages.run(
        "timing",
        [options.clock_ns, sta.version if sta else None],
        [],
        lambda: run.sta(sta),
    )
    found = StaTiming(**timing["opensta"]) if timing.get("opensta") else None
    if found:
        found.path = [PathPoint(**point) for point in timing["opensta"]["path"]]
    shortest = found.shortest_period if found else timing.get("shortest")
    metrics = Metrics()
    _describe(metrics, run, yosys, sta, simulator)
    _area(metrics, run, finished)
    _proof(metrics, proof)
    _timing(metrics, run, timing, found, sta)
    simulation = power = loading = None
    if not options.power:
        metrics.missing(("sim__", "synth__power", "halut__power", "halut__energy"), "--no-power")
    elif simulator is None:
        metrics.missing(
            ("sim__", "synth__power", "halut__power", "halut__energy"),
            no_simulator() or "no simulator",
        )
    else:
        chosen = simulator
        files = [run.folder / "activity.npz"] if platform.has_library else []
        simulation = stages.run(
            "simulate",
            [options.clock_ns, options.seed, options.cycles, chosen.name, chosen.version,
             design.workload_key],
            files,
            lambda: run.simulate(chosen, shortest),
        )  # fmt: skip
        if platform.has_library:
            checked = simulation
            power = stages.run(
                "power", [], [], lambda: run.power(sta, checked, finished["clock_buffers"])
            )
            if design.loading:
                loading = stages.run("loading", [], [], lambda: run.load(chosen, shortest, sta))
    if simulation is not None:
        _energy(metrics, run, simulation, power)
    if loading is not None:
        _loading(metrics, run, loading)
    elif power is not None:
        metrics.missing(("halut__energy__per_program_word",), "no program is loaded")
    _breakdown(metrics, run, finished, power)
    measure_layout(metrics, run, yosys, simulator, finished["clock_buffers"], simulation)
    metrics.provenance["seconds"] = stages.seconds
    path = run.folder / "metrics.json"
    if path.is_file():
        old = path.read_text()
        with atomic_write(run.folder / "metrics.previous.json") as temporary:
            temporary.write_text(old)
    metrics.write(path)
    return metrics


def _describe(
    metrics: Metrics,
    run: Run,
    yosys: Tool,
    sta: Tool | None,
    simulator: Tool | None,
) -> None:
    options, design = run.options, run.design
    corner = run.platform.corners.get(run.corner)
    metrics.provenance = {
        **base_provenance(),
        "design": design.name,
        "slug": design.slug,
        "configuration": design.configuration,
        "configuration_sha256": design.config_hash,
        "verilog_sha256": design.verilog_hash,
        "platform": run.platform.name,
        "corner": run.corner or None,
        "voltage": corner.voltage if corner else None,
        "temperature": corner.temperature if corner else None,
        "clock_ns": options.clock_ns,
        "target_ns": run.target,
        "seed": options.seed,
        "synthesis": dataclasses.asdict(options.synth),
        "tools": {tool.name: tool.version for tool in (yosys, sta, simulator) if tool is not None},
    }
    metrics.notes["conditions"] = [
        "after synthesis, buffering and sizing; not placed, no wires",
        f"{options.io_share:.0%} of the period outside at every input and output",
        "ideal clock; its buffers are in the power and, listed apart, in the area",
    ]
    values = {
        "halut__design__look_ups_per_cycle": design.look_ups_per_cycle or None,
        "halut__design__macs_per_cycle": design.macs_per_cycle or None,
        "halut__design__codebook_width": design.codebook_width,
    }
    for name, value in values.items():
        reason = "not a look-up engine" if design.macs_per_cycle else NO_ENGINE
        metrics.set(name, value, reason)


def _area(metrics: Metrics, run: Run, finished: dict[str, Any]) -> None:
    library, platform = run.library, run.platform
    in_tree = set(finished["clock_buffers"])
    cells = [library.cells[i.cell] for i in run.netlist.instances if i.name not in in_tree]
    tree = [library.cells[i.cell] for i in run.netlist.instances if i.name in in_tree]
    kinds = Counter(cell.kind for cell in cells)
    area = math.fsum(cell.area for cell in cells)
    put = metrics.set
    put("synth__design__instance__count__stdcell", len(cells))
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
    put("synth__design__instance__count__buffer", finished["buffers"])
    put("synth__design__instance__area__stdcell", area)
    put("halut__area__gate_equivalents", area / library.cells[platform.gate_equivalent].area)
    if run.design.macs_per_cycle:
        put("halut__area__per_mac_per_cycle", area / run.design.macs_per_cycle)
    else:
        put("halut__area__per_mac_per_cycle", None, NO_ENGINE)
    put("halut__clock_tree__area", math.fsum(cell.area for cell in tree))
    put("halut__clock_tree__count", len(tree))


def _prove(run: Run, yosys: Tool, finished: dict[str, Any]) -> dict[str, Any]:
    """Netlist = RTL: a run of stages of its own, since nothing else depends on it."""
    abc = find_abc()
    key = hashlib.sha256(sources_hash().encode())
    for name in ("rtl.v", "netlist.json"):
        key.update((run.folder / name).read_bytes())
    stages = Stages(run.folder, ["proof"], run.options.force, key.hexdigest())
    tools = [yosys.version, abc.version, finished["adder"], [str(path) for path in run.liberty]]
    work = {"tool": abc.version}
    return stages.run("proof", tools, [], lambda: run.prove(yosys, abc, finished["adder"])) | work


def _proof(metrics: Metrics, proof: dict[str, Any] | None) -> None:
    if proof is None:
        metrics.missing(("synth__proof",), "--prove not given")
        return
    for name in ("outputs", "registers", "latches"):
        metrics.set(f"synth__proof__{name}", proof[name])
    metrics.notes["proof"] = (
        f"netlist = RTL for {proof['outputs']} output bits, {proof['registers']} registers and "
        f"{proof['latches']} latches (ABC {proof['tool']})"
    )


def _timing(
    metrics: Metrics,
    run: Run,
    timing: dict[str, Any],
    found: StaTiming | None,
    sta: Tool | None,
) -> None:
    put = metrics.set
    put("synth__design__logic__depth", timing["depth"])
    put("synth__timing__clock__period", run.options.clock_ns)
    put("synth__timing__target__period", run.target)
    if not run.platform.has_library:
        metrics.missing(
            ("synth__timing", "halut__timing", "halut__throughput"),
            "platform without a library: no delays in ns",
        )
        return
    for name in ("max_slew", "max_cap", "max_fanout"):
        put(f"synth__timing__drv__{name}", timing[name])
    if found is None:
        shortest = timing["shortest"]
        put("synth__timing__setup__ws", timing["slack"])
        metrics.missing(
            ("synth__timing__hold", "synth__timing__table_write"),
            "no OpenSTA: apt install opensta; setup is from flow.timing",
        )
        metrics.notes["timing_by"] = "flow.timing (no OpenSTA found: apt install opensta)"
    else:
        shortest = found.shortest_period
        put("synth__timing__setup__ws", found.slack)
        put("synth__timing__hold__ws", found.hold_slack)
        put("synth__timing__table_write__ws", found.write_slack)
        metrics.notes["timing_by"] = f"OpenSTA {sta.version if sta else ''}"
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


def _energy(
    metrics: Metrics, run: Run, simulation: dict[str, Any], power: dict[str, Any] | None
) -> None:
    put = metrics.set
    put("sim__transfers__checked", simulation["checked"])
    put("sim__latency__cycles", simulation["latency"])
    put("sim__window__cycles", simulation["window"])
    per_cycle = simulation["transfers"] / simulation["window"]
    put("sim__input_transfers__per_cycle", per_cycle)
    metrics.notes["workload"] = (
        f"{simulation['description']}, seed {run.options.seed}; {simulation['window']} cycles in "
        f"steady state, output always ready; all {simulation['checked']} output transfers equal "
        "the exact model"
    )
    if power is None:
        metrics.missing(
            ("synth__power", "halut__power", "halut__energy"),
            "platform without a library: no energy",
        )
        return
    glitches = "with delays" if simulation["with_delays"] else "without delays, no glitches"
    metrics.notes["glitches"] = "counted" if simulation["with_delays"] else NOT_COUNTED
    metrics.notes["power_by"] = f"{power['method']}; activity from a simulation {glitches}"
    put("halut__power__clock_tree", power["clock_tree"])
    put("halut__power__without_glitches", power["settled"])
    set_energy(
        metrics,
        MAPPED,
        [power[part] for part in ("internal", "switching", "leakage")],
        power["total"],
        run.options.clock_ns,
        simulation["look_ups"] * per_cycle,
        simulation["macs"] * per_cycle,
        {
            "mac_without_glitches": power["settled"],
            "mac_without_clock_tree": power["total"] - power["clock_tree"],
        },
    )


def _loading(metrics: Metrics, run: Run, loading: dict[str, Any]) -> None:
    per_word = loading["total"] * run.options.clock_ns * loading["window"] / loading["words"]
    metrics.set("halut__energy__per_program_word", per_word)
    metrics.notes["loading"] = (
        f"random program over another, {loading['words']} words in {loading['window']} cycles"
    )


def _breakdown(
    metrics: Metrics, run: Run, finished: dict[str, Any], power: dict[str, Any] | None
) -> None:
    kinds = run.kinds(finished["clock_buffers"])
    metrics.breakdown = kinds_of_units(
        run.netlist,
        kinds,
        run.library,
        power["units"] if power else None,
        power["ports"] if power else 0.0,
    )
