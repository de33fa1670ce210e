"""Power of the mapped netlist: of its work, and while it is loaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from flow.power.activity import Activity
from flow.power.liberty_power import Power, liberty_power
from flow.power.opensta import opensta_power, reads_activity
from flow.power.sums import PowerSums, power_sums
from flow.run.context import Run
from flow.run.simulation import Simulated, load_task, play_mapped
from flow.timing.opensta import plain_liberty

__all__ = ["Loaded", "MappedPower", "load", "sum_power"]


@dataclass(frozen=True)
class MappedPower:
    """Power of the mapped netlist.

    Attributes
    ----------
    sums : PowerSums
    settled : float
        Total without glitches, mW.
    """

    sums: PowerSums
    settled: float


@dataclass(frozen=True)
class Loaded:
    """Power while a program is loaded, a word in every cycle.

    Attributes
    ----------
    power : float
        mW.
    words, window : int
        Words, and the cycles that they took.
    """

    power: float
    words: int
    window: int


def _power(run: Run, activity: Activity, period_ps: int) -> Power:
    """By OpenSTA where it can be trusted with activity."""
    power = liberty_power(run.timing, activity)
    sta = run.tools.sta
    if sta is None or not reads_activity(sta):
        return power
    found = opensta_power(
        sta,
        run.netlist,
        run.library,
        run.design.clock,
        activity,
        plain_liberty(run.liberty, run.cache),
        run.folder / "netlist.v",
        run.folder / "timing",
        period_ps,
    )
    return dataclasses.replace(found, ports=power.ports)


def sum_power(run: Run, simulated: Simulated, clock_buffers: list[str]) -> MappedPower:
    """Power of what `simulate` did."""
    activity = Activity.load(run.folder / "activity.npz")
    power = _power(run, activity, simulated.period_ps)
    settled = liberty_power(run.timing, activity, glitches=False)
    return MappedPower(power_sums(power, run.kinds(clock_buffers)), settled.total)


def load(run: Run, shortest: float | None) -> Loaded:
    """Load a program into the mapped netlist, and sum the power."""
    task = load_task(run)
    played = play_mapped(run, task, shortest)
    power = _power(run, Activity.load(run.folder / task.activity), played.period_ps)
    return Loaded(power.total, played.transfers, task.window)
