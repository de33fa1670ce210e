"""A netlist at work, simulated against the exact model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow.designs.design import LOADING_WARM_UP, Workload, window_of
from flow.netlist.netlist import Netlist
from flow.power.activity import Activity, read_vcd
from flow.power.liberty_power import Power
from flow.run.context import Run
from flow.simulation.simulate import run_netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import clock_ps

__all__ = [
    "ROWS_ACTIVITY",
    "Simulated",
    "Task",
    "Workpiece",
    "load_task",
    "play",
    "rows_task",
    "simulate",
]

ROWS_ACTIVITY = "activity.npz"
"""File of the activity while a netlist works on rows."""


@dataclass(frozen=True)
class Workpiece:
    """A netlist that is put to work: the mapped or the routed one."""

    netlist: Netlist
    timing: Timing | None  #: None for a netlist without delays, whose activity is not kept.
    shortest: float | None  #: Shortest period, ns.
    folder: Path  #: Of the simulations and their activity.
    #: ``power(activity, period_ps)`` has a program sum the power; None without one.
    power: Callable[[Activity, int], Power] | None


@dataclass(frozen=True)
class Task:
    """Work for a netlist."""

    name: str  #: Of the simulation's folder.
    activity: str  #: File of the counted activity.
    workload: Workload
    #: Cycles before activity is counted, and while it is.
    warm_up: int
    window: int


@dataclass(frozen=True)
class Simulated:
    """What a netlist did."""

    checked: int  #: Output transfers that equal the model's.
    window: int  #: Cycles that activity was counted in.
    transfers: int  #: Input transfers in these cycles.
    #: Cycles from the last input transfer of the first row group to its first output transfer.
    latency: int
    period_ps: int
    with_delays: bool
    #: Per cycle.
    look_ups: float
    macs: float
    description: str


def rows_task(run: Run) -> Task:
    """Rows in steady state."""
    design, options = run.design, run.options
    warm_up, window = window_of(design, options.cycles)
    workload = design.workload(options.seed, warm_up + window + design.interval_cycles)
    return Task("simulation", ROWS_ACTIVITY, workload, warm_up, window)


def load_task(run: Run) -> Task:
    """A program over another, for a design that is loaded."""
    assert run.design.loading is not None
    workload, window = run.design.loading(run.options.seed)
    return Task("loading", "loading.npz", workload, LOADING_WARM_UP, window)


def play(run: Run, piece: Workpiece, task: Task) -> Simulated:
    """Simulate a task with the run's simulator and keep the activity of its window.

    Raises
    ------
    CheckFailed
        When an output differs from the model's.
    """
    simulator, timing = run.tools.simulator, piece.timing
    assert simulator is not None
    period = run.options.clock_ns
    if piece.shortest is not None and period < 1.1 * piece.shortest:
        # Too fast for its clock: the activity of the same work at a clock that it meets.
        period = 1.1 * piece.shortest
    played = run_netlist(
        simulator,
        piece.netlist,
        run.library,
        timing,
        task.workload,
        piece.folder / task.name,
        clock=run.design.clock,
        reset=run.design.reset,
        period_ns=period,
        warm_up=task.warm_up,
        window=task.window,
        dump=timing is not None,
    )
    period_ps = clock_ps(period)
    if timing is not None and played.dump is not None:
        n_nets, clocks = len(piece.netlist.net_names), np.array(sorted(timing.clock_nets), int)
        activity = read_vcd(played.dump, n_nets, period_ps, task.window, clocks)
        activity.save(piece.folder / task.activity)
        played.dump.unlink()
    begin = played.started + task.warm_up
    transfers = sum(begin <= cycle < begin + task.window for cycle in played.input_cycles)
    return Simulated(
        checked=played.answers,
        window=task.window,
        transfers=transfers,
        latency=played.answer_cycles[0] - played.input_cycles[run.design.group_transfers - 1],
        period_ps=period_ps,
        with_delays=played.with_delays,
        look_ups=task.workload.look_ups * (transfers / task.window),
        macs=task.workload.macs * (transfers / task.window),
        description=task.workload.description,
    )


def simulate(run: Run, piece: Workpiece) -> Simulated:
    """Have a netlist work on rows."""
    return play(run, piece, rows_task(run))
