"""Power of a netlist: of its work, and while it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from flow.power.activity import Activity
from flow.power.liberty_power import Power, liberty_power
from flow.power.opensta import opensta_power, reads_activity
from flow.power.sums import PowerSums, power_sums
from flow.run.context import Run
from flow.run.simulation import ROWS_ACTIVITY, Simulated, Workpiece, load_task, play
from flow.timing.opensta import plain_liberty

__all__ = ["Loaded", "Summed", "load", "mapped_piece", "opensta_sees_all", "sum_power"]


@dataclass(frozen=True)
class Summed:
    """Power of a netlist at work."""

    sums: PowerSums  #: By OpenSTA or OpenROAD where they can be trusted with activity.
    own: float  #: Total by `flow.power.liberty_power`, mW.
    settled: float  #: The same without glitches, mW.


@dataclass(frozen=True)
class Loaded:
    """Power while a program is loaded, a word in every cycle."""

    power: float  #: mW.
    #: Words, and the cycles that they took.
    words: int
    window: int


def opensta_sees_all(run: Run) -> bool:
    """Whether OpenSTA's power, and OpenROAD's, is that of all cells, once.

    They do not look into blocks, and add the internal power of ground pins to that of the supply.
    """
    return run.block is None and not run.library.ground_power


def mapped_piece(run: Run, shortest: float | None) -> Workpiece:
    """The finished netlist, with its shortest period in ns."""
    timing = run.whole_timing if run.platform.has_library else None
    sta = run.tools.sta
    power = None
    if sta is not None and reads_activity(sta) and opensta_sees_all(run):
        power = partial(_by_opensta, run)
    return Workpiece(run.whole, timing, shortest, run.folder, power)


def _by_opensta(run: Run, activity: Activity, period_ps: int) -> Power:
    assert run.tools.sta is not None
    return opensta_power(
        run.tools.sta,
        run.netlist,
        run.library,
        run.design.clock,
        activity,
        plain_liberty(run.liberty, run.cache),
        run.folder / "netlist.v",
        run.folder / "timing",
        period_ps,
    )


def _power(piece: Workpiece, activity: Activity, period_ps: int) -> tuple[Power, float]:
    """Power, and our own total."""
    assert piece.timing is not None
    own = liberty_power(piece.timing, activity)
    if piece.power is None:
        return own, own.total
    return replace(piece.power(activity, period_ps), ports=own.ports), own.total


def sum_power(piece: Workpiece, simulated: Simulated, kinds: Sequence[str]) -> Summed:
    """Power of what `simulate` had the netlist do; `kinds` are its cells' kinds of unit."""
    assert piece.timing is not None
    activity = Activity.load(piece.folder / ROWS_ACTIVITY)
    power, own = _power(piece, activity, simulated.period_ps)
    settled = liberty_power(piece.timing, activity, glitches=False)
    return Summed(power_sums(power, kinds), own, settled.total)


def load(run: Run, piece: Workpiece) -> Loaded:
    """Load a program into a netlist, and sum the power."""
    task = load_task(run)
    simulated = play(run, piece, task)
    activity = Activity.load(piece.folder / task.activity)
    power, _ = _power(piece, activity, simulated.period_ps)
    return Loaded(power.total, simulated.transfers, task.window)
