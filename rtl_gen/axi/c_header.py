"""The registers and descriptors as a C header, which includes nothing but <stdint.h>."""

from __future__ import annotations

from .config import AxiConfig
from .descriptor import DESCRIPTOR_BYTES, FIELDS, OPCODES
from .image import data_layout
from .registers import ERRORS, IDENTITY, INTERFACE_VERSION, SPACE_BYTES, registers

__all__ = ["c_header"]


def _define(name: str, value: int, digits: int = 0) -> str:
    text = f"0x{value:0{digits}x}u" if digits else f"{value}u"
    return f"#define HALUT_AXI_{name} {text}"


def c_header(config: AxiConfig, module: str) -> str:
    """Return a header with the registers, the descriptors and the sizes of a configuration.

    Every name begins with ``HALUT_AXI_``. A register has its offset, a field its lowest bit and its
    mask in place.
    """
    lines = [
        f"/* Registers and descriptors of {module}, configuration {config.core_hash[:16]}.",
        "   Written by `python -m rtl_gen axi`. */",
        "#ifndef HALUT_AXI_REGISTERS_H",
        "#define HALUT_AXI_REGISTERS_H",
        "#include <stdint.h>",
        "",
        _define("IDENTITY", IDENTITY, 8),
        _define("VERSION_MAJOR", INTERFACE_VERSION[0]),
        _define("VERSION_MINOR", INTERFACE_VERSION[1]),
        _define("CONFIG_HASH0", int(config.core_hash[:8], 16), 8),
        _define("CONFIG_HASH1", int(config.core_hash[8:16], 16), 8),
        _define("SPACE_BYTES", SPACE_BYTES),
        "",
        "/* What lies in memory. */",
        *(_define(name.upper(), value) for name, value in data_layout(config).items()),
    ]
    for register in registers(config):
        lines += [
            "",
            f"/* {register.text} */",
            _define(f"{register.name}_OFFSET", register.offset, 3),
        ]
        for field in register.fields:
            if field.bits == 32:
                continue
            name = f"{register.name}_{field.name.upper()}"
            mask = ((1 << field.bits) - 1) << field.low
            lines += [_define(f"{name}_LSB", field.low), _define(f"{name}_MASK", mask, 8)]
    lines += ["", "/* Bits of ERROR. */"]
    lines += [_define(f"ERROR_{name.upper()}", 1 << i) for i, name in enumerate(ERRORS)]
    lines += ["", "/* Descriptors: eight words. */", _define("DESCRIPTOR_BYTES", DESCRIPTOR_BYTES)]
    lines += [_define(f"OPCODE_{name.upper()}", number) for name, (number, _) in OPCODES.items()]
    for place in FIELDS:
        name = f"DESCRIPTOR_{place.name.upper()}"
        lines += [_define(f"{name}_WORD", place.word), _define(f"{name}_LSB", place.low)]
    return "\n".join([*lines, "", "#endif"]) + "\n"
