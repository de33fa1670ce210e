"""Yosys' netlists (JSON), as the flow changes them before nextpnr reads them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halut.checks import read_json
from halut.files import write_text

__all__ = ["change_netlist", "readers_of"]


def change_netlist(file: Path, *changes: Callable[[dict[str, Any]], None]) -> None:
    """Make changes, one after the other, to every module of a netlist."""
    netlist = read_json(file, "Yosys' netlist")
    for module in netlist["modules"].values():
        for change in changes:
            change(module)
    write_text(file, json.dumps(netlist))


def readers_of(module: dict[str, Any]) -> dict[Any, list[tuple[str, str]]]:
    """Return who reads each bit: a cell and its port, or no cell ("") and the module's port."""
    readers = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for bit in bits:
                    readers[bit].append((name, port))
    for port, description in module["ports"].items():
        for bit in description["bits"]:
            readers[bit].append(("", port))
    return readers
