# amaranth: UnusedElaboratable=no
"""From the unit's configuration to its Verilog, manifest and C header."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.generate import (
    Generated,
    file_head,
    manifest_head,
    tools,
    with_constraints,
    write_generated,
)
from rtl_gen.verilog import unit_verilog

from .config import ADD, READ, START, THRESHOLDS, WALK, CfuConfig
from .header import header
from .pcpi import PcpiPort
from .unit import CustomFunctionUnit

__all__ = ["generate", "write"]

MANIFEST_VERSION = 1

# The module that LiteX looks for behind VexRiscv's port, with its names of ports.
_PORTS = {
    "clk_i": "clk",
    "rst_ni": "~reset",
    "cmd_valid": "cmd_valid",
    "cmd_ready": "cmd_ready",
    "cmd_function_id": "cmd_payload_function_id",
    "cmd_inputs_0": "cmd_payload_inputs_0",
    "cmd_inputs_1": "cmd_payload_inputs_1",
    "rsp_valid": "rsp_valid",
    "rsp_ready": "rsp_ready",
    "rsp_data": "rsp_payload_outputs_0",
}
_PORT = """
/* verilator lint_off DECLFILENAME */
module {prefix}Cfu({ports});
/* verilator lint_on DECLFILENAME */
  input cmd_valid, rsp_ready, reset, clk;
  output cmd_ready, rsp_valid;
  input [9:0] cmd_payload_function_id;
  input [31:0] cmd_payload_inputs_0, cmd_payload_inputs_1;
  output [31:0] rsp_payload_outputs_0;
  {prefix}halut_cfu unit (
    {connections}
  );
endmodule
"""


def _port(prefix: str) -> str:
    connections = ",\n    ".join(f".{name}({wire})" for name, wire in _PORTS.items())
    ports = ", ".join(wire.lstrip("~") for wire in _PORTS.values())
    return _PORT.format(prefix=prefix, ports=ports, connections=connections)


def _manifest(
    config: CfuConfig, top: CustomFunctionUnit | PcpiPort, verilog: str, prefix: str
) -> dict[str, Any]:
    return {
        **manifest_head("halut-cfu-manifest", MANIFEST_VERSION, top, config, prefix),
        "instructions": {
            "opcode": "custom-0",
            "funct3": {
                "thresholds": THRESHOLDS,
                "walk": WALK,
                "start": START,
                "add": ADD,
                "read": READ,
            },
            "entries_per_add": config.lanes,
            "most_codebooks": config.most_codebooks,
        },
        "timing": {"latency_cycles": config.latency_cycles},
        "tools": tools(),
        "sha256": {
            "configuration": config.hash,
            "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        },
    }


def generate(config: CfuConfig, *, prefix: str = "") -> Generated:
    """Generate the unit, and what is around it: ``Cfu`` for LiteX's VexRiscv, or ``halut_pcpi``.

    The same configuration gives the same bytes; see `rtl_gen.generate`.
    """
    top = PcpiPort(config) if config.port == "pcpi" else CustomFunctionUnit(config)
    verilog = file_head(prefix + top.module_name, config) + unit_verilog(top, prefix)
    if config.port == "cfu":
        verilog += _port(prefix)
    return with_constraints(verilog, _manifest(config, top, verilog, prefix))


def write(config: CfuConfig, path: str | Path | None = None, *, prefix: str = "") -> Path:
    """Write Verilog, manifest, constraints and C header; returns the Verilog file.

    By default to ``build/<slug>/rtl/<module>.v``; the header is named as the Verilog, with ``.h``.
    """
    if path is not None and Path(path).suffix == ".h":
        raise HalutError(
            f"the output must be a Verilog file, not one of what lies beside it ({path})"
        )
    place = write_generated(generate(config, prefix=prefix), path, config.slug)
    write_text(place.with_suffix(".h"), header(config))
    return place
