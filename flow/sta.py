"""OpenSTA: the reported timing, and power where the version can be trusted with activity.

One script serves the 2019 version that Debian ships, current ones, and the one inside
``openroad``. Liberty files are handed over as plain text (the old version cannot read gzip) and
without a default wire load (it would add guessed wires; the new version does not).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flow.activity import Activity
from flow.liberty import Library, read_text
from flow.netlist import HIGH, LOW, Netlist
from flow.platform import Platform
from flow.power import Power
from flow.timing import Constraints, clock_pins
from flow.tools import Tool, run_tool
from halut.errors import CheckFailed
from halut.files import atomic_write
from sim.simulators import plain_link

__all__ = [
    "PathPoint",
    "StaTiming",
    "constraints_sdc",
    "latch_arcs",
    "opensta_power",
    "opensta_timing",
    "plain_liberty",
    "reads_activity",
    "saif",
]


@dataclass(frozen=True)
class PathPoint:
    """A step of a path: the cell's output, its delay and the arrival behind it, ns."""

    instance: str
    pin: str
    cell: str
    edge: str
    delay: float
    arrival: float


@dataclass
class StaTiming:
    """What OpenSTA says.

    Attributes
    ----------
    slack : float
        Worst setup slack at the asked period, ns (register, clock-gate and output endpoints).
    write_slack : float
        Worst slack of latches' data: 0 while they are written inside their transparent phase.
    hold_slack : float
        Worst hold slack, ns.
    shortest_period : float
        ns.
    path : list of PathPoint
        Worst setup path at the shortest period.
    startpoint, endpoint : str
    """

    slack: float
    write_slack: float
    hold_slack: float
    shortest_period: float
    path: list[PathPoint] = field(default_factory=list)
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
            with atomic_write(copy) as temporary:
                temporary.write_text(text)
        copies.append(copy)
    return copies


def constraints_sdc(
    netlist: Netlist, library: Library, platform: Platform, constraints: Constraints
) -> str:
    """The constraints as SDC, for OpenSTA and for place and route.

    Units are ns and fF whatever the library's are.
    """
    inputs = [
        port.name
        for port in netlist.ports
        if port.direction == "input"
        and port.name != constraints.clock
        and port.name not in constraints.quiet
    ]
    outputs = [
        port.name
        for port in netlist.ports
        if port.direction == "output" and port.name not in constraints.quiet
    ]
    return "\n".join(
        [
            f"# {netlist.top}: {constraints.io_share:.0%} of the period outside, at every port",
            f"set halut_period {constraints.period_ns:g}",
            f"set halut_inputs {{{' '.join(inputs)}}}",
            f"set halut_outputs {{{' '.join(outputs)}}}",
            "proc halut_ports {names} {",
            "  set found {}",
            "  foreach name $names {",
            "    foreach port [get_ports -quiet [list $name $name\\[*\\]]] { lappend found $port }",
            "  }",
            "  return $found",
            "}",
            "proc halut_constrain {period} {",
            "  global halut_inputs halut_outputs",
            f"  create_clock -name clk -period $period [get_ports {constraints.clock}]",
            f"  set io [expr {{{constraints.io_share:g} * $period}}]",
            "  set_input_delay $io -clock clk [halut_ports $halut_inputs]",
            "  set_output_delay $io -clock clk [halut_ports $halut_outputs]",
            "}",
            "halut_constrain $halut_period",
            f"set_driving_cell -library {library.cell_library[platform.driver['cell']]} -lib_cell "
            f"{platform.driver['cell']} -pin {platform.driver['output']} "
            "[halut_ports $halut_inputs]",
            f"set_load {platform.output_load_ff:g} [halut_ports $halut_outputs]",
            "",
        ]
    )


def _plain(path: Path) -> Path:
    """A path that needs no quotes in Tcl."""
    return plain_link(path.parent) / path.name


def _prologue(liberty: Sequence[Path], netlist: Path, top: str, sdc: Path) -> list[str]:
    return [
        *(f"read_liberty {_plain(path)}" for path in liberty),
        f"read_verilog {_plain(netlist)}",
        f"link_design {top}",
        "set_cmd_units -time ns -capacitance fF -power uW",
        f"source {_plain(sdc)}",
    ]


def latch_arcs(library: Library) -> list[str]:
    """Commands that keep paths from running through the data pins of a library's latches."""
    return [
        f"set_disable_timing -from {pin} -to {output} "
        f"[get_lib_cells {library.cell_library[name]}/{name}]"
        for name, cell in sorted(library.cells.items())
        if cell.kind == "latch"
        for pin in cell.inputs
        if pin not in clock_pins(cell)
        for output in cell.outputs
    ]


def _latches(netlist: Netlist, library: Library) -> tuple[list[str], list[str]]:
    """Data pins of the latches, and commands that keep paths from running through them."""
    pins = []
    used = netlist.cells()
    for name in sorted(used):
        cell = library.cells[name]
        if cell.kind == "latch":
            data = [pin for pin in cell.inputs if pin not in clock_pins(cell)]
            pins += [f"{i.name}/{pin}" for pin in data for i in netlist.instances if i.cell == name]
    commands = [
        command for command in latch_arcs(library) if command.rsplit("/", 1)[1][:-1] in used
    ]
    return pins, commands


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
    folder.mkdir(parents=True, exist_ok=True)
    sdc = folder / "constraints.sdc"
    latch_pins, disable = _latches(netlist, library)
    script = [
        *_prologue(liberty, verilog, netlist.top, sdc),
        *disable,
        "proc halut_slack {group delay} {",
        "  set paths [find_timing_paths -path_group $group -path_delay $delay]",
        "  if {[llength $paths] == 0} { return none }",
        "  return [get_property [lindex $paths 0] slack]",
        "}",
    ]
    if latch_pins:
        script += [
            "set halut_latches {}",
            *(f"lappend halut_latches [get_pins {pin}]" for pin in latch_pins),
            "group_path -name table_write -to $halut_latches",
        ]
    script += [
        'puts "HALUT slack [halut_slack clk max]"',
        'puts "HALUT hold [halut_slack clk min]"',
        *(['puts "HALUT write [halut_slack table_write max]"'] if latch_pins else []),
        "proc halut_worst {period} {",
        "  halut_constrain $period",
        "  set worst [halut_slack clk max]",
        *(
            [
                # Latches borrow time, so that theirs is 0 until there is no more to borrow.
                "  set slack [halut_slack table_write max]",
                '  if {$slack != "none" && $slack < $worst && $slack < 0} { set worst $slack }',
            ]
            if latch_pins
            else []
        ),
        "  return $worst",
        "}",
        # Slack grows by at most 1 ns per ns of the period: going down by the slack never goes too
        # far. It grows by at least 0.3 (from port to port), which bounds the way up.
        f"set period {guess:.6g}",
        "set steps 0",
        "while {[incr steps] < 30} {",
        "  set slack [halut_worst $period]",
        "  if {$slack >= 0 && $slack < 0.001 * $period} { break }",
        "  if {$slack >= 0} {",
        "    set period [expr {$period - $slack}]",
        "  } elseif {$steps == 1} {",
        "    set period [expr {$period - 1.0001 * $slack}]",
        "  } else {",
        "    set period [expr {$period - $slack / 0.3}]",
        "  }",
        "}",
        'puts "HALUT period $period"',
        # What limits the period: at a long one, the ports' share of it would hide that.
        'puts "HALUT path"',
        "report_checks -path_group clk -path_delay max -digits 6",
        'puts "HALUT end"',
        'puts "HALUT done"',
    ]
    with atomic_write(sdc) as temporary:
        temporary.write_text(constraints_sdc(netlist, library, platform, constraints))
    tcl = folder / "timing.tcl"
    with atomic_write(tcl) as temporary:
        temporary.write_text("\n".join([*script, "exit", ""]))
    log = folder / "opensta.log"
    text = run_tool(sta, [str(_plain(tcl))], log, cwd=folder)
    found = dict(re.findall(r"^HALUT (slack|hold|write|period) (\S+)", text, re.M))
    if "HALUT done" not in text or found.get("slack", "none") == "none":
        errors = [line for line in text.splitlines() if line.startswith(("Error", "[ERROR"))]
        raise CheckFailed(
            f"OpenSTA must report timing paths{': ' + errors[0] if errors else ''} (log: {log})"
        )
    report = text[text.index("HALUT path") : text.index("HALUT end")]
    ends = {
        name: match[1]
        for name in ("Startpoint", "Endpoint")
        if (match := re.search(rf"^{name}: (\S+)", report, re.M))
    }
    return StaTiming(
        slack=float(found["slack"]),
        write_slack=float(found.get("write", "0").replace("none", "0")),
        hold_slack=float(found.get("hold", "nan").replace("none", "nan")),
        shortest_period=float(found["period"]),
        path=[
            PathPoint(instance, pin, cell, edge, float(delay), float(arrival))
            for delay, arrival, edge, instance, pin, cell in _POINT.findall(report)
            if pin not in clock_pins(library.cells[cell])
        ],
        startpoint=ends.get("Startpoint", ""),
        endpoint=ends.get("Endpoint", ""),
    )


def reads_activity(sta: Tool) -> bool:
    """Whether this OpenSTA keeps annotated activity (3.0 and later are known to)."""
    match = re.match(r"(\d+)\.(\d+)", sta.version)
    return bool(match) and int(match[1] if match else 0) >= 3


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


def opensta_power(
    sta: Tool,
    netlist: Netlist,
    library: Library,
    constraints: Constraints,
    activity: Activity,
    liberty: Sequence[Path],
    verilog: Path,
    folder: Path,
    period_ps: int,
) -> Power:
    """Have a current OpenSTA sum the power from SAIF activity.

    Raises
    ------
    CheckFailed
        When OpenSTA fails or leaves instances out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "activity.saif") as temporary:
        temporary.write_text(saif(netlist, library, activity, period_ps))
    inputs = []
    for port in netlist.ports:
        if port.direction == "input" and port.name != constraints.clock:
            for bit, net in enumerate(port.nets):
                rate, duty = activity.toggles[net], activity.duty[net]
                inputs.append(
                    f"set_power_activity -input_ports {{{port.bit_name(bit)}}} "
                    f"-activity {rate:.6g} -duty {duty:.6g}"
                )
    _, disable = _latches(netlist, library)
    script = [
        *_prologue(liberty, verilog, netlist.top, folder / "constraints.sdc"),
        *disable,
        f"read_saif -scope {netlist.top} {_plain(folder / 'activity.saif')}",
        *inputs,
        f"report_power -instances [get_cells *] -digits 6 > {_plain(folder / 'power.rpt')}",
        'puts "HALUT done"',
        "exit",
        "",
    ]
    tcl = folder / "power.tcl"
    with atomic_write(tcl) as temporary:
        temporary.write_text("\n".join(script))
    log = folder / "power.log"
    text = run_tool(sta, [str(_plain(tcl))], log, cwd=folder)
    if "HALUT done" not in text:
        raise CheckFailed(f"OpenSTA must report power (log: {log})")
    place = {instance.name: index for index, instance in enumerate(netlist.instances)}
    values = np.zeros((3, len(place)))
    seen = 0
    for line in (folder / "power.rpt").read_text().splitlines():
        parts = line.split()
        if len(parts) == 5 and parts[4] in place:
            values[:, place[parts[4]]] = [float(part) for part in parts[:3]]
            seen += 1
    if seen != len(place):
        raise CheckFailed(
            f"OpenSTA must report the power of {len(place)} cells, not {seen} ({log})"
        )
    # It reports watts, whatever set_cmd_units says.
    internal, switching, leakage = values * 1e3
    return Power(internal, switching, leakage, 0.0, f"OpenSTA {sta.version} read_saif")
