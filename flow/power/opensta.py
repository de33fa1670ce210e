"""Power as OpenSTA and OpenROAD sum it, where the version can be trusted with activity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.cells.library import Library
from flow.netlist.netlist import Netlist
from flow.power.activity import Activity
from flow.power.liberty_power import Power
from flow.power.saif import saif
from flow.timing.opensta import run_opensta
from flow.tools import Tool
from halut.errors import CheckFailed
from halut.files import write_text

__all__ = ["REPORT", "input_activity", "opensta_power", "read_power", "reads_activity"]

_TCL = Path(__file__).parent / "tcl"
REPORT = _TCL / "report.tcl"
"""Tcl procedure that reads activity and reports power."""


def reads_activity(sta: Tool) -> bool:
    """Whether this OpenSTA keeps annotated activity.

    Known are versions from 3.0 on and those inside OpenROAD from 25Q4 on.
    """
    found = re.match(r"(\d+)([.Q])(\d+)", sta.version)
    if not found:
        return False
    return (int(found[1]), int(found[3])) >= ((3, 0) if found[2] == "." else (25, 4))


def input_activity(netlist: Netlist, clock: str, activity: Activity) -> list[str | float]:
    """Transitions per cycle and share at 1 of every input port: name, rate, duty, name, ..."""
    return [
        word
        for port in netlist.ports
        if port.direction == "input" and port.name != clock
        for bit, net in enumerate(port.nets)
        for word in (port.bit_name(bit), float(activity.toggles[net]), float(activity.duty[net]))
    ]


def read_power(path: Path, netlist: Netlist) -> np.ndarray:
    """Power of every cell from ``report_power -instances``.

    Returns
    -------
    ndarray of shape (3, n_instances)
        Internal, switching and leakage power, mW.

    Raises
    ------
    CheckFailed
        When cells are left out.
    """
    place = {instance.name: index for index, instance in enumerate(netlist.instances)}
    found = np.full((3, len(place)), np.nan)
    for line in path.read_text().splitlines():
        parts = line.split()
        if len(parts) == 5 and parts[4] in place:
            # It is watts, whatever set_cmd_units says.
            found[:, place[parts[4]]] = [float(part) * 1e3 for part in parts[:3]]
    missing = int(np.isnan(found[0]).sum())
    if missing:
        raise CheckFailed(
            f"the power of every cell must be reported, not {missing} left out ({path})"
        )
    return found


def opensta_power(
    sta: Tool,
    netlist: Netlist,
    library: Library,
    clock: str,
    activity: Activity,
    liberty: Sequence[Path],
    verilog: Path,
    folder: Path,
    period_ps: int,
) -> Power:
    """Have a current OpenSTA sum the power from SAIF activity.

    `folder` is that of `opensta_timing`, whose constraints hold.

    Raises
    ------
    CheckFailed
        When OpenSTA fails or leaves instances out.
    """
    path = folder / "activity.saif"
    write_text(path, saif(netlist, library, activity, period_ps))
    values = {
        "liberty": liberty,
        "netlist": verilog,
        "top": netlist.top,
        "constraints": folder / "constraints.sdc",
        "folder": folder,
        "saif": path,
        "ports": input_activity(netlist, clock, activity),
    }
    run_opensta(sta, [REPORT, _TCL / "power.tcl"], values, "power")
    internal, switching, leakage = read_power(folder / "power.rpt", netlist)
    return Power(internal, switching, leakage, 0.0, f"OpenSTA {sta.version} read_saif")
