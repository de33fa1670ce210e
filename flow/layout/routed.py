"""The routed netlist: read back, with its wires, put to work, and its power."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flow.designs.design import BLOCK, CLOCK_TREE
from flow.layout.openroad import run_script
from flow.layout.pictures import ADDED
from flow.layout.settings import layout_settings
from flow.layout.stages import LaidOut, scripts
from flow.netlist.netlist import Netlist
from flow.netlist.spef import wire_capacitance
from flow.power.activity import Activity
from flow.power.liberty_power import Power
from flow.power.opensta import input_activity, read_power
from flow.power.saif import saif
from flow.run.context import Run
from flow.run.power import opensta_sees_all
from flow.run.simulation import Workpiece
from flow.timing.analysis import Timing
from flow.timing.opensta import plain_liberty
from flow.tools.tcl import settings
from halut.files import write_text

__all__ = [
    "RoutedNetlist",
    "layout_unit",
    "read_routed",
    "routed_piece",
    "run_on_routed",
]


def layout_unit(name: str, known: Mapping[str, str]) -> str:
    """Kind of unit of a cell of the routed netlist.

    Parameters
    ----------
    name : str
        Instance name.
    known : mapping of str to str
        Kinds of the mapped netlist's instances.
    """
    if name in known:
        return known[name]
    if re.match(r"(clkbuf|clkload|delaybuf|clkinv|inv_clk)", name):
        return CLOCK_TREE
    # Flip-flops and gates that timing repair cloned keep the name they came from.
    base = re.sub(r"(_clone\d*|_dup\d*|_\d+)$", "", name)
    return known.get(base, ADDED)


@dataclass(frozen=True)
class RoutedNetlist:
    """What was routed."""

    timing: Timing  #: Of the final Verilog, with the capacitance of its wires.
    wires: np.ndarray  #: Capacitance of every net's wire, fF.
    kinds: list[str]  #: Kind of unit of every instance.
    shortest_period: float | None  #: By OpenROAD, ns; None when it does not say.

    @property
    def netlist(self) -> Netlist:
        return self.timing.netlist


def read_routed(run: Run, laid_out: LaidOut) -> RoutedNetlist:
    """Read ``final.v``, ``final.spef`` and what the last stage printed."""
    folder = laid_out.folder
    netlist, inside = run.read_back(folder / "final.v", folder)
    known = {instance.name: run.kind(instance) for instance in run.netlist.instances}
    log = (folder / "finish.log").read_text(errors="replace")
    period = re.search(r"^HALUT period (\S+)", log, re.M)
    wires = wire_capacitance(folder / "final.spef", netlist) + inside
    constraints = run.constraints(run.options.clock_ns)
    timing = Timing(netlist, run.library, run.platform, constraints, wires)
    timing.update()
    kinds = [
        BLOCK if instance.unit else layout_unit(instance.name, known)
        for instance in netlist.instances
    ]
    return RoutedNetlist(timing, wires, kinds, float(period[1]) if period else None)


def routed_piece(run: Run, laid_out: LaidOut, routed: RoutedNetlist) -> Workpiece:
    """The routed netlist with its wires; OpenROAD sums its power where that is right."""
    power = None
    if opensta_sees_all(run):
        power = partial(_by_openroad, run, laid_out, routed.netlist)
    shortest, folder = routed.shortest_period, laid_out.folder
    return Workpiece(routed.netlist, routed.timing, shortest, folder, power)


def run_on_routed(run: Run, folder: Path, script: str, name: str, values: Mapping[str, Any]) -> str:
    """Run a Tcl script on the routed design and its extracted wires; returns the log.

    Parameters
    ----------
    folder : Path
        Of the layout; the script's settings and log are called `name` there.
    script : str
        "power" or "corner", see `flow.layout.stages.scripts`.
    values : mapping
        The array ``halut``: ``liberty``, ``constraints``, and what the script needs besides.
    """
    tool = run.openroad
    assert tool is not None
    known = {
        **layout_settings(run.platform, run.library, run.design.top, run.options.place_and_route),
        "folder": folder,
        "input": folder / "finish.odb",
        "spef": folder / "final.spef",
    }
    own = folder / f"{name}.settings.tcl"
    own.write_text(settings(known | dict(values)))
    run_script(tool, [own, *scripts(script)], folder, name)
    return (folder / f"{name}.log").read_text(errors="replace")


def _by_openroad(
    run: Run, laid_out: LaidOut, netlist: Netlist, activity: Activity, period_ps: int
) -> Power:
    folder = laid_out.folder
    write_text(folder / "routed.saif", saif(netlist, run.library, activity, period_ps))
    values = {
        "liberty": plain_liberty(run.liberty, run.cache),
        "constraints": folder / "constraints.sdc",
        "saif": folder / "routed.saif",
        "ports": input_activity(netlist, run.design.clock, activity),
    }
    run_on_routed(run, folder, "power", "power", values)
    internal, switching, leakage = read_power(folder / "power.rpt", netlist)
    return Power(internal, switching, leakage, 0.0, f"OpenROAD {laid_out.openroad}")
