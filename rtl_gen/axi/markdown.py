"""The registers and descriptors as tables in Markdown."""

from __future__ import annotations

from .config import AxiConfig
from .descriptor import FIELDS, OPCODES
from .registers import ERRORS, Field, registers

__all__ = ["descriptor_table", "register_table"]

_ACCESS = {
    "constant": "read", "status": "read", "setting": "read, write",
    "event": "read, write 1 to clear", "command": "write",
}  # fmt: skip


def _bits(low: int, bits: int) -> str:
    return f"{low}" if bits == 1 else f"{low + bits - 1}:{low}"


def _after_reset(field: Field) -> str:
    if field.access == "command":
        return ""
    return f"0x{field.value:x}" if field.value > 9 else str(field.value)


def register_table(config: AxiConfig) -> str:
    """Return a table of every field of every register of a configuration."""
    lines = ["| offset | register | bits | field | access | after reset | what it is |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for register in registers(config):
        for k, field in enumerate(register.fields):
            place, name = (f"0x{register.offset:03x}", register.name) if k == 0 else ("", "")
            whole = field.name == "value"
            text = register.text if whole else field.text
            if register.name == "ERROR":
                text = ERRORS[field.name]
            shown = "" if whole else field.name
            lines.append(
                f"| {place} | {name} | {_bits(field.low, field.bits)} | {shown} "
                f"| {_ACCESS[field.access]} | {_after_reset(field)} | {text} |"
            )
    return "\n".join(lines) + "\n"


def descriptor_table() -> str:
    """Return a table of the fields of a descriptor, and one of the opcodes."""
    lines = ["| word | bits | field | what it is |", "|---|---|---|---|"]
    for field in FIELDS:
        place = _bits(field.low, field.bits)
        lines.append(f"| {field.word} | {place} | {field.name} | {field.text} |")
    lines += ["", "| opcode | name | what it does |", "|---|---|---|"]
    lines += [f"| {number} | {name} | {text} |" for name, (number, text) in OPCODES.items()]
    return "\n".join(lines) + "\n"
