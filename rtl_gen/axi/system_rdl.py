"""The registers in SystemRDL 2.0."""

from __future__ import annotations

from .config import AxiConfig
from .registers import Field, Register, registers

__all__ = ["system_rdl"]

_PROPERTIES = {
    "constant": ("sw = r", "hw = na"),
    "status": ("sw = r", "hw = w"),
    "setting": ("sw = rw", "hw = r"),
    "event": ("sw = rw", "hw = r", "onwrite = woclr", "hwset"),
    "command": ("sw = w", "hw = r", "swmod"),
}
"""What SystemRDL says of each kind of field."""


def _field(field: Field) -> list[str]:
    properties = [*_PROPERTIES[field.access]]
    if field.access not in ("status", "command"):
        properties.append(f"reset = {field.bits}'h{field.value:x}")
    return [
        "        field {",
        f'            desc = "{field.text}";',
        *(f"            {each};" for each in properties),
        f"        }} {field.name}[{field.low + field.bits - 1}:{field.low}];",
    ]


def _register(register: Register) -> list[str]:
    lines = ["    reg {", f'        desc = "{register.text}";', "        regwidth = 32;"]
    for field in register.fields:
        lines += _field(field)
    return [*lines, f"    }} {register.name} @ 0x{register.offset:03x};"]


def system_rdl(config: AxiConfig, module: str) -> str:
    """Return the registers of a configuration as the text of an ``.rdl`` file.

    Parameters
    ----------
    config : AxiConfig
    module : str
        Name of the address map: the module's.
    """
    lines = [
        f"// Registers of {module}, configuration {config.core_hash[:16]}.",
        f"addrmap {module} {{",
        f'    name = "Registers of {module}";',
        "    addressing = compact;",
        "    default accesswidth = 32;",
    ]
    for register in registers(config):
        lines += ["", *_register(register)]
    return "\n".join([*lines, "};"]) + "\n"
