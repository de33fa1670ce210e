"""Adders on ECP5: carry chains that take no cell more than their sum, and half a cell for a carry.

nextpnr puts a cell in front of a chain whose carry input is connected, be it to a constant, and one
behind a chain whose last carry output is. `adders_ecp5.v` needs neither; Yosys connects both ends
all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow.fpga.netlist import readers_of

__all__ = ["ADDERS", "open_carry_ends"]

ADDERS = Path(__file__).with_name("adders_ecp5.v")
# The table of a first half cell, whose carry output does not depend on its carry input.
_FIRST_HALF = format(0x000A, "016b")
_OPEN = ["x"]


def open_carry_ends(module: dict[str, Any]) -> None:
    """Disconnect carry inputs that make no difference, and carry outputs that nothing reads.

    Parameters
    ----------
    module : dict
        Of Yosys' netlist, which is changed.
    """
    readers = readers_of(module)
    for cell in module["cells"].values():
        if cell["type"] != "CCU2C":
            continue
        ports = cell["connections"]
        if cell["parameters"]["INIT0"] == _FIRST_HALF:
            ports["CIN"] = _OPEN
        if not readers[ports["COUT"][0]]:
            ports["COUT"] = _OPEN
