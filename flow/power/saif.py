"""Activity as SAIF, which OpenSTA and OpenROAD read."""

from __future__ import annotations

import numpy as np

from flow.cells.library import Library
from flow.netlist.netlist import HIGH, LOW, Netlist
from flow.power.activity import Activity

__all__ = ["saif"]


def saif(netlist: Netlist, library: Library, activity: Activity, period_ps: int) -> str:
    """Activity as a SAIF file: time at 0 and at 1, and transitions, of every output pin."""
    duration = activity.cycles * period_ps
    lines = [
        '(SAIFILE (SAIFVERSION "2.0") (DIRECTION "backward") (DIVIDER / )',
        f"(TIMESCALE 1 ps) (DURATION {duration})",
        f"(INSTANCE {netlist.top}",
    ]
    high = np.rint(activity.duty * duration).astype(np.int64)
    toggles = np.rint(activity.toggles * activity.cycles).astype(np.int64)
    for instance in netlist.instances:
        nets = [
            f"({pin} (T0 {duration - high[net]}) (T1 {high[net]}) (TX 0) (TC {toggles[net]}))"
            for pin in library.cells[instance.cell].outputs
            if (net := instance.pins.get(pin, LOW)) not in (LOW, HIGH)
        ]
        if nets:
            lines.append(f"(INSTANCE {instance.name} (NET {' '.join(nets)}))")
    lines.append("))")
    return "\n".join(lines) + "\n"
