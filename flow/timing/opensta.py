"""OpenSTA: the reported timing.

One script (``tcl/timing.tcl``) serves the 2019 version that Debian ships, current ones, and the one
inside ``openroad``. Liberty files are handed over as plain text (the old version cannot read gzip)
and without a default wire load (it would add guessed wires; the new version does not).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.cells.liberty_language import read_text
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from flow.timing.constraints import Constraints
from flow.timing.sdc import constraints_sdc
from flow.tools import Tool, plain_path, run_tool
from flow.tools.tcl import quote, settings
from halut.errors import CheckFailed
from halut.files import write_text

__all__ = ["SEARCH", "PathPoint", "StaTiming", "opensta_timing", "plain_liberty", "run_opensta"]

_TCL = Path(__file__).parent / "tcl"
SEARCH = _TCL / "search.tcl"
"""Tcl procedures that search the shortest period."""


@dataclass(frozen=True)
class PathPoint:
    """A step of a path: the cell's output, its delay and the arrival behind it, ns."""

    instance: str
    pin: str
    cell: str
    edge: str
    delay: float
    arrival: float


@dataclass(frozen=True)
class StaTiming:
    """What OpenSTA says."""

    #: Worst setup slack at the asked period, ns (register, clock-gate and output endpoints).
    slack: float
    #: Worst slack of latches' data: 0 while they are written inside their transparent phase.
    write_slack: float
    hold_slack: float  #: Worst hold slack, ns.
    shortest_period: float  #: ns.
    path: list[PathPoint] = field(default_factory=list)  #: Worst setup path at the shortest period.
    startpoint: str = ""
    endpoint: str = ""


def plain_liberty(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of liberty files that every OpenSTA reads, by content."""
    copies = []
    for path in paths:
        text = re.sub(r"(?m)^\s*default_wire_load\w*\s*:[^;\n]*;?", "", read_text(path))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = re.sub(r"\.lib(\.gz)?$", "", path.name)
        copy = folder / f"{name}-{digest}.lib"
        if not copy.is_file():
            write_text(copy, text)
        copies.append(copy)
    return copies


def run_opensta(sta: Tool, scripts: Sequence[Path], values: Mapping[str, Any], name: str) -> str:
    """Run Tcl files one after the other in one OpenSTA, on a netlist.

    Parameters
    ----------
    scripts : sequence of Path
        What they share is in ``tcl/open.tcl``.
    values : mapping
        The array ``halut``: ``liberty``, ``netlist``, ``top``, ``constraints``, and what the
        scripts need besides. The run's folder is that of the constraints.
    name : str
        Of ``<name>.tcl`` and ``<name>.log`` in that folder.

    Returns
    -------
    str
        The log.

    Raises
    ------
    CheckFailed
        When OpenSTA fails.
    """
    folder = values["constraints"].parent
    plain = {
        key: plain_path(value) if isinstance(value, Path) else value
        for key, value in values.items()
    } | {"liberty": [plain_path(path) for path in values["liberty"]]}
    text = settings(plain) + "".join(
        f"source {quote(plain_path(path))}\n" for path in (_TCL / "open.tcl", *scripts)
    )
    script = folder / f"{name}.tcl"
    write_text(script, text + 'puts "HALUT done"\nexit\n')
    log = folder / f"{name}.log"
    found = run_tool(sta, [str(plain_path(script))], log, cwd=folder)
    if "HALUT done" not in found:
        raise CheckFailed(f"OpenSTA must finish {script.name}{_error(found)} (log: {log})")
    return found


def _error(log: str) -> str:
    """The first error that OpenSTA printed; it goes on after some."""
    found = re.search(r"^(Error|\[ERROR).*", log, re.M)
    return f": {found[0]}" if found else ""


_POINT = re.compile(
    r"^\s+(?:\S+\s+){0,2}?(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+([v^])\s+(\S+)/(\S+)\s+\((\S+)\)", re.M
)


def opensta_timing(
    sta: Tool,
    netlist: Netlist,
    library: Library,
    platform: Platform,
    constraints: Constraints,
    liberty: Sequence[Path],
    verilog: Path,
    folder: Path,
    guess: float,
) -> StaTiming:
    """Run OpenSTA on a netlist.

    `guess` is an estimate of the shortest period in ns, which is found to 0.1 %.

    Raises
    ------
    CheckFailed
        When OpenSTA fails or reports no path.
    """
    sdc = folder / "constraints.sdc"
    write_text(sdc, constraints_sdc(netlist, library, platform, constraints))
    values = {
        "liberty": liberty,
        "netlist": verilog,
        "top": netlist.top,
        "constraints": sdc,
        "guess": f"{guess:.6g}",
    }
    text = run_opensta(sta, [SEARCH, _TCL / "timing.tcl"], values, "timing")
    found = dict(re.findall(r"^HALUT (slack|hold|write|period) (\S+)", text, re.M))
    if found["slack"] == "none":
        raise CheckFailed(
            f"OpenSTA must report timing paths{_error(text)} (log: {folder / 'timing.log'})"
        )
    report = text[text.index("HALUT path") : text.index("HALUT end")]
    ends = {
        name: match[1]
        for name in ("Startpoint", "Endpoint")
        if (match := re.search(rf"^{name}: (\S+)", report, re.M))
    }
    return StaTiming(
        slack=float(found["slack"]),
        write_slack=float(found["write"].replace("none", "0")),
        hold_slack=float(found["hold"].replace("none", "nan")),
        shortest_period=float(found["period"]),
        path=[
            PathPoint(instance, pin, cell, edge, float(delay), float(arrival))
            for delay, arrival, edge, instance, pin, cell in _POINT.findall(report)
            if pin not in library.cells[cell].clock_pins
        ],
        startpoint=ends.get("Startpoint", ""),
        endpoint=ends.get("Endpoint", ""),
    )
