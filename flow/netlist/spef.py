"""Capacitance of wires from SPEF files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from flow.netlist.netlist import Netlist
from halut.errors import HalutError

__all__ = ["net_capacitances", "wire_capacitance"]

_SCALE = {"FF": 1.0, "PF": 1e3, "NF": 1e6}


def net_capacitances(spef: Path) -> dict[str, float]:
    """Total capacitance of every net's wires in a SPEF file, fF, by the net's name in Verilog.

    Raises
    ------
    HalutError
        When the file has no unit of capacitance.
    """
    text = spef.read_text()
    unit = re.search(r"^\*C_UNIT\s+([\d.eE+-]+)\s+(\w+)", text, re.M)
    if unit is None or unit[2].upper() not in _SCALE:
        raise HalutError(f"a SPEF file must have *C_UNIT in FF, PF or NF ({spef})")
    scale = float(unit[1]) * _SCALE[unit[2].upper()]
    names = dict(re.findall(r"^(\*\d+)\s+(\S+)", _section(text, "*NAME_MAP"), re.M))
    found: dict[str, float] = {}
    for key, value in re.findall(r"^\*D_NET\s+(\S+)\s+([\d.eE+-]+)", text, re.M):
        name = names.get(key, key).replace("\\", "")
        found[name] = found.get(name, 0.0) + float(value) * scale
    return found


def wire_capacitance(spef: Path, netlist: Netlist) -> np.ndarray:
    """Total capacitance of every net in a SPEF file, fF, in the netlist's order of nets.

    Raises
    ------
    HalutError
        When the file has no unit of capacitance or none of the netlist's nets.
    """
    place = {netlist.net_label(net): net for net in range(len(netlist.net_names))}
    wires = np.zeros(len(netlist.net_names))
    seen = 0
    for name, value in net_capacitances(spef).items():
        net = place.get(name)
        if net is not None:
            wires[net] += value
            seen += 1
    if not seen:
        raise HalutError(f"a SPEF file must be of this netlist: none of its nets is there ({spef})")
    return wires


def _section(text: str, name: str) -> str:
    start = text.find(name)
    if start < 0:
        return ""
    end = re.search(r"^\*(PORTS|POWER_NETS|D_NET)\b", text[start:], re.M)
    return text[start : start + end.start()] if end else text[start:]
