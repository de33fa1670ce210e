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

from dataclasses import dataclass, field

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from flow.repair import buffers
from flow.repair.sizing import Sizer
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints

__all__ = ["RepairReport", "repair"]

_TURNS = 6  # of resizing and buffering in turn
_BATCHES = 40  # of sizes, at most; a quarter of them in a turn


@dataclass(frozen=True)
class RepairReport:
    """What was done."""

    clock_buffers: list[str] = field(default_factory=list)  #: Names of those on the clock.
    buffers: int = 0  #: Others.
    slack_after: float = 0.0  #: Worst slack at the target period, ns.


def repair(
    netlist: Netlist, library: Library, platform: Platform, constraints: Constraints
) -> RepairReport:
    """Buffer and size a mapped netlist in place, for the period of the constraints."""

    def timed() -> Timing:
        return Timing(netlist, library, platform, constraints)

    buffers.add_tie_cells(netlist, platform)
    clock_buffers = buffers.add_clock_tree(timed())
    before = len(netlist.instances)
    timing = timed()
    timing.update()
    buffers.add_fanout_trees(timing)
    for turn in range(1, _TURNS + 1):
        sizer = Sizer(timing := timed())
        needed = sizer.electrical()
        if needed:
            timing.write_back()
            for net, kind in needed:
                buffers.buffer_net(timing, net, kind)
            sizer = Sizer(timing := timed())
        timing.update()
        sizer.speed_up(_BATCHES if turn == _TURNS else _BATCHES // 4)
        if turn == _TURNS or timing.worst_slack() >= 0:
            break
        timing.write_back()
        if not buffers.buffer_slow_nets(timing, limit=max(50, len(netlist.instances) // 50)):
            sizer.speed_up(_BATCHES)
            break
    sizer.slim_down(_BATCHES // 4)
    timing.write_back()
    return RepairReport(clock_buffers, len(netlist.instances) - before, timing.worst_slack())
