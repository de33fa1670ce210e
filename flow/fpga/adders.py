"""Adders on ECP5: carry chains that take no cell more than their sum, and half a cell for a carry.

nextpnr puts a cell in front of a chain whose carry input is connected, be it to a constant, and one
behind a chain whose last carry output is. `adders_ecp5.v` needs neither; Yosys connects both ends
all the same.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from halut.checks import read_json
from halut.files import write_text

__all__ = ["ADDERS", "open_carry_ends"]

ADDERS = Path(__file__).with_name("adders_ecp5.v")
# The table of a first half cell, whose carry output does not depend on its carry input.
_FIRST_HALF = format(0x000A, "016b")
_OPEN = ["x"]


def open_carry_ends(file: Path) -> None:
    """Disconnect carry inputs in a netlist that make no difference, and outputs that nothing reads.

    Parameters
    ----------
    file : Path
        Yosys' netlist (JSON), which is changed.
    """
    netlist = read_json(file, "Yosys' netlist")
    for module in netlist["modules"].values():
        cells = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
        inputs = Counter(
            bit
            for cell in module["cells"].values()
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] != "output"
            for bit in bits
        )
        outputs = {bit for port in module["ports"].values() for bit in port["bits"]}
        for cell in cells:
            ports = cell["connections"]
            if cell["parameters"]["INIT0"] == _FIRST_HALF:
                ports["CIN"] = _OPEN
            if not inputs[ports["COUT"][0]] and ports["COUT"][0] not in outputs:
                ports["COUT"] = _OPEN
    write_text(file, json.dumps(netlist))
