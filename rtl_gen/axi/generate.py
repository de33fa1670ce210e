"""From a configuration to the block's Verilog, its manifest, and what software needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halut.files import locked

from ..estimate import check_size
from ..generate import (
    Generated,
    file_head,
    manifest_head,
    tools,
    with_constraints,
    write_generated,
    write_if_changed,
)
from ..program_port import describe_program_port
from ..verilog import unit_verilog
from .c_header import c_header
from .config import AxiConfig
from .descriptor import FIELDS, OPCODES
from .image import data_layout
from .ip_xact import fusesoc_core, ip_xact
from .markdown import descriptor_table, register_table
from .python_map import python_map
from .registers import ERRORS, INTERFACE_VERSION, registers
from .system_rdl import system_rdl
from .top import HalutAxi

__all__ = ["GeneratedAxi", "generate_axi", "register_files", "write_axi"]

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class GeneratedAxi(Generated):
    """What `Generated` has, and the other files by their endings."""

    config: AxiConfig

    def files(self, verilog: str) -> dict[str, str]:
        """Text of the other files, by their endings; `verilog` is the Verilog file's name."""
        module = self.manifest["module"]
        ports = [(p["name"], p["direction"], p["bits"]) for p in self.manifest["ports"]]
        return {
            **register_files(self.config, module),
            ".xml": ip_xact(self.config, module, ports, verilog),
            ".core": fusesoc_core(module, verilog),
        }


def register_files(config: AxiConfig, module: str = "halut_axi") -> dict[str, str]:
    """Return the registers as SystemRDL, C, Python and Markdown, by the endings of files."""
    document = (
        f"# Registers of {module}\n\nConfiguration {config.core_hash[:16]}. 32 bits each; other "
        "addresses, reads of what is only written and writes of what is only read are answered "
        f"with an error.\n\n{register_table(config)}\n## Descriptors\n\n{descriptor_table()}"
    )
    return {
        ".rdl": system_rdl(config, module),
        ".h": c_header(config, module),
        ".py": python_map(config, module),
        ".md": document,
    }


def _manifest(config: AxiConfig, top: HalutAxi, verilog: str, prefix: str) -> dict[str, Any]:
    return {
        **manifest_head("halut-axi-manifest", MANIFEST_VERSION, top, config, prefix),
        "interface": {
            "version": ".".join(map(str, INTERFACE_VERSION)),
            "registers": {r.name: r.offset for r in registers(config)},
            "errors": {name: 1 << bit for bit, name in enumerate(ERRORS)},
            "descriptor": {
                f.name: {"word": f.word, "lowest_bit": f.low, "bits": f.bits} for f in FIELDS
            },
            "opcodes": {name: number for name, (number, _) in OPCODES.items()},
        },
        "memory": data_layout(config),
        "program": describe_program_port(config.accelerator),
        "timing": {"core_cycles_per_item": config.core_cycles},
        "tools": tools(),
        "sha256": {
            "configuration": config.hash,
            "core_configuration": config.core_hash,
            "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        },
    }


def generate_axi(config: AxiConfig, *, prefix: str = "") -> GeneratedAxi:
    """Generate `halut_axi`, see `rtl_gen.generate`; the same configuration, the same bytes."""
    check_size(config.accelerator)
    top = HalutAxi(config)
    verilog = file_head(prefix + top.module_name, config) + unit_verilog(top, prefix)
    made = with_constraints(verilog, _manifest(config, top, verilog, prefix))
    return GeneratedAxi(made.verilog, made.manifest, made.sdc, config)


def write_axi(generated: GeneratedAxi, path: str | Path | None = None) -> Path:
    """Write all files, by default to ``build/<slug>/rtl/``; returns the Verilog file."""
    path = write_generated(generated, path, generated.config.slug)
    with locked(path.parent, path):
        for ending, text in generated.files(path.name).items():
            write_if_changed(path.with_suffix(ending), text)
    return path
