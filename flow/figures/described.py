"""What metrics say of the design that they are of, whatever it was made into."""

from __future__ import annotations

from typing import Any

from flow.designs.design import Design
from flow.figures.energy import NO_ENGINE
from flow.figures.metrics import Metrics, base_provenance

__all__ = ["design_provenance", "set_design"]


def design_provenance(design: Design) -> dict[str, Any]:
    """Where a run's figures come from: this project, and the design."""
    return {
        **base_provenance(),
        "design": design.name,
        "slug": design.slug,
        "configuration": design.configuration,
        "configuration_sha256": design.config_hash,
        "verilog_sha256": design.verilog_hash,
    }


def set_design(metrics: Metrics, design: Design) -> None:
    """Set what a design does in a cycle by construction."""
    values = {
        "halut__design__look_ups_per_cycle": design.look_ups_per_cycle or None,
        "halut__design__macs_per_cycle": design.macs_per_cycle or None,
        "halut__design__codebook_width": design.codebook_width,
    }
    for name, value in values.items():
        reason = "not a look-up engine" if design.macs_per_cycle else NO_ENGINE
        metrics.set(name, value, reason)
