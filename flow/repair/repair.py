"""What a mapped netlist still lacks: tie cells, clock buffers, fan-out trees, sizes.

The whole design is one netlist here, and repair works on all of it:

1. constants get tie cells, clock nets get buffers, nets with many readers get buffer trees;
2. cells that drive more than their limit are enlarged, or get a buffer when that is smaller;
3. cells on paths that miss the target period are resized, batch after batch, each batch kept only
   when the worst paths got shorter; a slow net gets a buffer, before all of its readers or before
   those with time to spare;
4. cells that turned out larger than needed are made smaller again.

Sizing asks for all slacks after every batch, dozens of times, so it has a timer of its own
(`flow.timing.analysis`): an answer takes a small part of what one start of OpenSTA takes, and
sizing needs no program besides Python. The same timer gives the delays of the simulated netlist
and the loads and slews of its power. It goes, and this folder with it, when OpenROAD can be
required: ``repair_design`` and ``repair_timing`` do this work with the cells in their places, and
``write_sdf`` and ``report_power`` replace the rest. docs/flow.md has what each pass is worth.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from flow.repair.buffers import (
    add_clock_tree,
    add_fanout_trees,
    add_tie_cells,
    buffer_drivers,
    buffer_slow_nets,
)
from flow.repair.sizing import Sizer
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints

__all__ = ["RepairReport", "repair"]

log = logging.getLogger(__name__)

_TURNS = 6  # of resizing and buffering in turn
_BATCHES = 40  # of sizes, at most; a quarter of them in a turn


@dataclass
class RepairReport:
    """What was done.

    Attributes
    ----------
    clock_buffers : list of str
        Names of the buffers in the clock network.
    tie_cells, buffers, resized : int
        Cells added or changed.
    slack_before, slack_after : float
        Worst slack at the target period, ns.
    """

    clock_buffers: list[str] = field(default_factory=list)
    tie_cells: int = 0
    buffers: int = 0
    resized: int = 0
    slack_before: float = 0.0
    slack_after: float = 0.0


def repair(
    netlist: Netlist,
    library: Library,
    platform: Platform,
    constraints: Constraints,
) -> RepairReport:
    """Buffer and size a mapped netlist in place.

    Parameters
    ----------
    netlist : Netlist
    library : Library
    platform : Platform
    constraints : Constraints
        Its period is the target.

    Returns
    -------
    RepairReport
    """
    report = RepairReport()
    report.tie_cells = add_tie_cells(netlist, platform)
    report.clock_buffers = add_clock_tree(netlist, library, platform, constraints)
    timing = Timing(netlist, library, platform, constraints)
    timing.update()
    report.buffers = add_fanout_trees(netlist, platform, timing)
    for turn in range(_TURNS):
        timing = Timing(netlist, library, platform, constraints)
        sizer = Sizer(timing)
        enlarged, needed = sizer.electrical()
        report.resized += enlarged
        if needed:
            timing.write_back()
            buffer_drivers(netlist, timing, needed)
            report.buffers += len(needed)
            timing = Timing(netlist, library, platform, constraints)
            sizer = Sizer(timing)
        timing.update()
        if turn == 0:
            report.slack_before = timing.worst_slack()
        last = turn == _TURNS - 1
        report.resized += sizer.speed_up(_BATCHES if last else _BATCHES // 4)
        if last or timing.worst_slack() >= 0:
            break
        timing.write_back()
        added = buffer_slow_nets(netlist, timing, limit=max(50, len(netlist.instances) // 50))
        log.debug("buffers: %d added at worst slack %.4f", added, timing.worst_slack())
        report.buffers += added
        if not added:
            report.resized += sizer.speed_up(_BATCHES)
            break
    report.resized += sizer.slim_down(_BATCHES // 4)
    timing.update()
    report.slack_after = timing.worst_slack()
    timing.write_back()
    return report
