"""The block as a component in IP-XACT (IEEE 1685-2014), and as a FuseSoC core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import halut

from .config import AxiConfig
from .registers import SPACE_BYTES, Field, registers

__all__ = ["fusesoc_core", "ip_xact"]

_BUSES = {
    # prefix of ports: (interface, bus type, abstraction, mode)
    "s_axil": ("AXI4-Lite", "AMBA4", "AXI4Lite", "slave"),
    "m_axi": ("AXI4", "AMBA4", "AXI4", "master"),
    "s_axis": ("AXI4-Stream", "AMBA4", "AXI4Stream", "slave"),
    "m_axis": ("AXI4-Stream", "AMBA4", "AXI4Stream", "master"),
}
_ACCESS = {
    "constant": "read-only", "status": "read-only", "setting": "read-write",
    "event": "read-write", "command": "write-only",
}  # fmt: skip


def _tag(name: str, content: str | Iterable[str], indent: int, **attributes: str) -> list[str]:
    pad = "  " * indent
    given = "".join(f' {key}="{value}"' for key, value in attributes.items())
    if isinstance(content, str):
        return [f"{pad}<ipxact:{name}{given}>{escape(content)}</ipxact:{name}>"]
    return [f"{pad}<ipxact:{name}{given}>", *content, f"{pad}</ipxact:{name}>"]


def _bus_interface(prefix: str, ports: Sequence[tuple[str, str, int]]) -> list[str]:
    title, library, name, mode = _BUSES[prefix]
    maps: list[str] = []
    for port, _, _ in ports:
        if port.startswith(f"{prefix}_"):
            logical = _tag("logicalPort", _tag("name", port[len(prefix) + 1 :].upper(), 7), 6)
            physical = _tag("physicalPort", _tag("name", port, 7), 6)
            maps += _tag("portMap", [*logical, *physical], 5)
    kind = f'vendor="amba.com" library="{library}" name="{name}'
    reference = [f'          <ipxact:abstractionRef {kind}_rtl" version="r0p0_0"/>']
    abstraction = [*reference, *_tag("portMaps", maps, 4)]
    modes = {"slave": ['      <ipxact:slave>',
                       '        <ipxact:memoryMapRef memoryMapRef="registers"/>',
                       '      </ipxact:slave>']
             if prefix == "s_axil" else ["      <ipxact:slave/>"],
             "master": ["      <ipxact:master/>"]}  # fmt: skip
    return _tag(
        "busInterface",
        [
            *_tag("name", prefix, 3),
            *_tag("description", title, 3),
            f'      <ipxact:busType {kind}" version="r0p0_0"/>',
            *_tag("abstractionTypes", _tag("abstractionType", abstraction, 4), 3),
            *modes[mode],
        ],
        2,
    )


def _field(field: Field) -> list[str]:
    content = [
        *_tag("name", field.name, 6),
        *_tag("description", field.text, 6),
        *_tag("bitOffset", str(field.low), 6),
    ]
    if field.access not in ("status", "command"):
        content += _tag("resets", _tag("reset", _tag("value", hex(field.value), 8), 7), 6)
    content += _tag("bitWidth", str(field.bits), 6)
    content += _tag("access", _ACCESS[field.access], 6)
    if field.access == "event":
        content += _tag("modifiedWriteValue", "oneToClear", 6)
    return _tag("field", content, 5)


def _memory_map(config: AxiConfig) -> list[str]:
    block = [
        *_tag("name", "registers", 4),
        *_tag("baseAddress", "0", 4),
        *_tag("range", str(SPACE_BYTES), 4),
        *_tag("width", "32", 4),
        *_tag("usage", "register", 4),
    ]
    for register in registers(config):
        content = [
            *_tag("name", register.name, 5),
            *_tag("description", register.text, 5),
            *_tag("addressOffset", hex(register.offset), 5),
            *_tag("size", "32", 5),
        ]
        for field in register.fields:
            content += _field(field)
        block += _tag("register", content, 4)
    memory_map = [
        *_tag("name", "registers", 3),
        *_tag("addressBlock", block, 3),
        *_tag("addressUnitBits", "8", 3),
    ]
    return _tag("memoryMaps", _tag("memoryMap", memory_map, 2), 1)


def _port(name: str, direction: str, bits: int) -> list[str]:
    wire = _tag("direction", {"input": "in", "output": "out"}[direction], 4)
    if bits > 1:
        limits = [*_tag("left", str(bits - 1), 7), *_tag("right", "0", 7)]
        wire += _tag("vectors", _tag("vector", limits, 5), 4)
    return _tag("port", [*_tag("name", name, 3), *_tag("wire", wire, 3)], 2)


def ip_xact(
    config: AxiConfig, module: str, ports: Sequence[tuple[str, str, int]], verilog: str
) -> str:
    """Return the block as a component of IP-XACT.

    Parameters
    ----------
    config : AxiConfig
    module : str
        Name of the top module.
    ports : sequence of (name, direction, bits)
    verilog : str
        Name of the Verilog file.
    """
    prefixes = [p for p in _BUSES if any(port.startswith(f"{p}_") for port, _, _ in ports)]
    interfaces = [line for prefix in prefixes for line in _bus_interface(prefix, ports)]
    view = [*_tag("name", "rtl", 4), *_tag("componentInstantiationRef", "verilog", 4)]
    instantiation = [
        *_tag("name", "verilog", 4),
        *_tag("language", "verilog", 4),
        *_tag("moduleName", module, 4),
        *_tag("fileSetRef", _tag("localName", "rtl", 5), 4),
    ]
    file = [*_tag("name", verilog, 4), *_tag("fileType", "verilogSource", 4)]
    body = [
        *_tag("vendor", "halut-stack", 1),
        *_tag("library", "accelerators", 1),
        *_tag("name", module, 1),
        *_tag("version", halut.__version__, 1),
        *(_tag("busInterfaces", interfaces, 1) if interfaces else []),
        *_memory_map(config),
        *_tag(
            "model",
            [
                *_tag("views", _tag("view", view, 3), 2),
                *_tag("instantiations", _tag("componentInstantiation", instantiation, 3), 2),
                *_tag("ports", [line for port in ports for line in _port(*port)], 2),
            ],
            1,
        ),
        *_tag("fileSets", _tag("fileSet", [*_tag("name", "rtl", 3), *_tag("file", file, 3)], 2), 1),
        *_tag("description", f"Accelerator {config.core_hash[:16]} with registers and DMA", 1),
    ]
    opening = (
        '<ipxact:component xmlns:ipxact="http://www.accellera.org/XMLSchema/IPXACT/1685-2014" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation='
        '"http://www.accellera.org/XMLSchema/IPXACT/1685-2014 '
        'http://www.accellera.org/XMLSchema/IPXACT/1685-2014/index.xsd">'
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', opening, *body, "</ipxact:component>"]
    return "\n".join(lines) + "\n"


def fusesoc_core(module: str, verilog: str) -> str:
    """Return the FuseSoC core file of a block whose Verilog lies beside it."""
    return f"""CAPI=2:
name: "::{module}:{halut.__version__}"
description: MADDNESS accelerator with registers and a bus
filesets:
  rtl:
    files:
      - {verilog}
    file_type: verilogSource
targets:
  default:
    filesets: [rtl]
    toplevel: {module}
"""
