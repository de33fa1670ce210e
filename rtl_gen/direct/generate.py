# amaranth: UnusedElaboratable=no
"""From a direct engine's configuration to its Verilog and the manifest beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rtl_gen.generate import (
    Generated,
    file_head,
    manifest_head,
    tools,
    with_constraints,
    write_generated,
)
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog

from .config import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig
from .dot_product import DotProductArray
from .stored_matrix import StoredMatrixEngine
from .systolic import SystolicArray

__all__ = ["engine_unit", "generate", "write"]

MANIFEST_VERSION = 2


def engine_unit(config: EngineConfig) -> Unit:
    """The hardware of a configuration."""
    if isinstance(config, DotProductConfig):
        return DotProductArray(config)
    if isinstance(config, SystolicConfig):
        return SystolicArray(config)
    if isinstance(config, StoredMatrixConfig):
        return StoredMatrixEngine(config)
    raise TypeError(f"config must be a direct engine's, not {type(config).__name__}")


def _manifest(config: EngineConfig, top: Unit, verilog: str, prefix: str) -> dict[str, Any]:
    bound = config.products_per_sum << (config.input_bits + config.weight_bits - 2)
    return {
        **manifest_head("halut-direct-manifest", MANIFEST_VERSION, top, config, prefix),
        "timing": {
            "latency_cycles": config.latency_cycles,
            "macs_per_cycle": config.macs_per_cycle,
        },
        "accumulator": {
            "bits": config.accumulator_bits,
            "overflow": "impossible",
            "proof": f"{config.products_per_sum} products are at most {bound} in magnitude, "
            f"within 2**{config.accumulator_bits - 1} - 1",
        },
        "tools": tools(),
        "sha256": {
            "configuration": config.hash,
            "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        },
    }


def generate(config: EngineConfig, *, prefix: str = "") -> Generated:
    """Generate a direct engine, see `rtl_gen.generate`; the same configuration, the same bytes."""
    top = engine_unit(config)
    verilog = file_head(prefix + top.module_name, config) + unit_verilog(top, prefix)
    return with_constraints(verilog, _manifest(config, top, verilog, prefix))


def write(config: EngineConfig, path: str | Path | None = None, *, prefix: str = "") -> Path:
    """Write Verilog, manifest and constraints, by default to ``build/<slug>/rtl/<module>.v``."""
    return write_generated(generate(config, prefix=prefix), path, config.slug)
