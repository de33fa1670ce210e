"""The constraints as SDC, for OpenSTA and for place and route."""

from __future__ import annotations

from pathlib import Path

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from flow.timing.constraints import Constraints
from flow.tools.tcl import settings

__all__ = ["constraints_sdc"]

_TCL = Path(__file__).parent / "tcl" / "constraints.tcl"


def constraints_sdc(
    netlist: Netlist, library: Library, platform: Platform, constraints: Constraints
) -> str:
    """Clock, ports, and latches of a netlist: the settings of ``constraints.tcl``, and that file.

    Units are ns and fF whatever the library's are. Endpoints at latches' data are the path group
    ``table_write``, all others are ``clk``.
    """
    unchecked = {constraints.clock, *constraints.quiet}
    ports = {
        direction: [
            port.name
            for port in netlist.ports
            if port.direction == direction and port.name not in unchecked
        ]
        for direction in ("input", "output")
    }
    driver = platform.driver
    values = {
        "clock": constraints.clock,
        "period": constraints.period_ns,
        "io_share": constraints.io_share,
        "io_latency": constraints.io_latency_ns,
        "inputs": ports["input"],
        "outputs": ports["output"],
        "driver_library": library.cell_library[driver["cell"]],
        "driver": driver["cell"],
        "driver_pin": driver["output"],
        "load_ff": platform.output_load_ff,
        "latch_arcs": [
            word
            for name, cell in sorted(library.cells.items())
            if cell.kind == "latch"
            for pin in cell.inputs
            if pin not in cell.clock_pins
            for output in cell.outputs
            for word in (f"{library.cell_library[name]}/{name}", pin, output)
        ],
    }
    head = f"# {netlist.top}: {constraints.io_share:.0%} of the period outside, at every port\n"
    return head + settings(values, "halut_sdc") + _TCL.read_text()
