"""Timing of the finished netlist: by OpenSTA where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.run.context import Run
from flow.timing.opensta import StaTiming, opensta_timing, plain_liberty

__all__ = ["Timed", "check_timing"]


@dataclass(frozen=True)
class Timed:
    """Timing at the asked clock."""

    depth: int  #: Gates in a row, at most.
    #: Pins and nets beyond a limit.
    max_cap: int
    max_slew: int
    max_fanout: int
    #: Worst setup slack and shortest period by `flow.timing`, ns; None where OpenSTA says them,
    #: where there is no endpoint, and without a library.
    slack: float | None = None
    shortest: float | None = None
    opensta: StaTiming | None = None

    @property
    def shortest_period(self) -> float | None:
        """ns; None without a library."""
        return self.opensta.shortest_period if self.opensta else self.shortest


def check_timing(run: Run) -> Timed:
    """Time the finished netlist and count what is beyond limits."""
    timing = run.timing
    load, slew = timing.over_limits(1e-3)
    readers = np.bincount(timing.sink_net, minlength=len(timing.port_load))
    readers[timing.on_clock] = 0
    of_limits = (
        timing.depth,
        int(load.sum()),
        int(slew.sum()),
        int((readers > run.platform.max_fanout).sum()),
    )
    sta = run.tools.sta
    if sta is None:
        slack = timing.end_slack()
        return Timed(
            *of_limits,
            slack=float(slack.min()) if len(slack) else None,
            shortest=timing.shortest_period() if run.platform.has_library else None,
        )
    found = opensta_timing(
        sta,
        run.netlist,
        run.library,
        run.platform,
        run.constraints(run.options.clock_ns),
        plain_liberty(run.liberty, run.cache),
        run.folder / "netlist.v",
        run.folder / "timing",
        timing.shortest_period(),
    )
    return Timed(*of_limits, opensta=found)
