"""A netlist at work, simulated against the exact model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow.designs.design import LOADING_WARM_UP, Workload, window_of
from flow.power.activity import read_vcd
from flow.run.context import Run
from flow.simulation.simulate import NetlistRun, run_netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import clock_ps

__all__ = [
    "Played", "Simulated", "Task", "load_task", "play", "play_mapped", "rows_task", "simulate",
]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Work for a netlist.

    Attributes
    ----------
    name : str
        Of the simulation's folder.
    activity : str
        Of the file of the counted activity.
    workload : Workload
    warm_up, window : int
        Cycles before activity is counted, and while it is.
    """

    name: str
    activity: str
    workload: Workload
    warm_up: int
    window: int


@dataclass(frozen=True)
class Played:
    """A task that was simulated, all of its outputs right.

    Attributes
    ----------
    run : NetlistRun
    transfers : int
        Input transfers in the window.
    period_ps : int
        Clock period of the simulation.
    """

    run: NetlistRun
    transfers: int
    period_ps: int


@dataclass(frozen=True)
class Simulated:
    """What the mapped netlist did.

    Attributes
    ----------
    checked : int
        Output transfers that equal the model's.
    window : int
        Cycles that activity was counted in.
    transfers : int
        Input transfers in these cycles.
    latency : int
        Cycles from the last input transfer of a row group to its first output transfer.
    period_ps : int
    with_delays : bool
    look_ups, macs : float
        Per input transfer.
    description : str
    """

    checked: int
    window: int
    transfers: int
    latency: int
    period_ps: int
    with_delays: bool
    look_ups: float
    macs: float
    description: str


def rows_task(run: Run) -> Task:
    """Rows in steady state."""
    design, options = run.design, run.options
    warm_up, window = window_of(design, options.cycles)
    workload = design.workload(options.seed, warm_up + window + design.interval_cycles)
    return Task("simulation", "activity.npz", workload, warm_up, window)


def load_task(run: Run) -> Task:
    """A program over another, for a design that is loaded."""
    assert run.design.loading is not None
    workload, window = run.design.loading(run.options.seed)
    return Task("loading", "loading.npz", workload, LOADING_WARM_UP, window)


def play(
    run: Run, task: Task, shortest: float | None, timing: Timing | None, folder: Path
) -> Played:
    """Simulate a task and keep the activity of its window.

    Parameters
    ----------
    run : Run
        Its simulator must be there.
    task : Task
    shortest : float or None
        Shortest period of the netlist, ns; None for one without delays.
    timing : Timing or None
        Of the netlist to simulate; None for the run's own, without delays and activity.
    folder : Path
        Of the simulation's folder and of the activity.
    """
    simulator = run.tools.simulator
    assert simulator is not None
    period = run.options.clock_ns
    if shortest is not None and period < 1.1 * shortest:
        # Too fast for its clock: the activity of the same work at a clock that it meets.
        period = 1.1 * shortest
    netlist = timing.netlist if timing is not None else run.netlist
    played = run_netlist(
        simulator,
        netlist,
        run.library,
        timing,
        task.workload,
        folder / task.name,
        clock=run.design.clock,
        reset=run.design.reset,
        period_ns=period,
        warm_up=task.warm_up,
        window=task.window,
        dump=timing is not None,
    )
    period_ps = clock_ps(period)
    if timing is not None and played.dump is not None:
        clock_nets = np.array(sorted(timing.clock_nets), int)
        activity = read_vcd(played.dump, len(netlist.net_names), period_ps, task.window, clock_nets)
        activity.save(folder / task.activity)
        played.dump.unlink()
    begin = played.started + task.warm_up
    transfers = sum(begin <= cycle < begin + task.window for cycle in played.input_cycles)
    return Played(played, transfers, period_ps)


def play_mapped(run: Run, task: Task, shortest: float | None) -> Played:
    """`play` with the mapped netlist."""
    timing = run.timing if run.platform.has_library else None
    return play(run, task, shortest, timing, run.folder)


def simulate(run: Run, shortest: float | None) -> Simulated:
    """Have the mapped netlist work on rows."""
    task = rows_task(run)
    played = play_mapped(run, task, shortest)
    first = played.run.input_cycles[run.design.group_transfers - 1]
    return Simulated(
        checked=played.run.answers,
        window=task.window,
        transfers=played.transfers,
        latency=played.run.answer_cycles[0] - first,
        period_ps=played.period_ps,
        with_delays=played.run.with_delays,
        look_ups=task.workload.look_ups,
        macs=task.workload.macs,
        description=task.workload.description,
    )
