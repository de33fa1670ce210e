"""Layouts that others published, for the tables that stand beside ours; nothing measured here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DECODER", "ENCODER", "ENGINE", "LAYOUTS", "PublishedLayout"]


@dataclass(frozen=True, kw_only=True)
class PublishedLayout:
    """A row of the table of open results of joennlae/halutmatmul (README, read in 2026-11).

    Placed and routed with OpenROAD on NanGate45 at 1.1 V for a clock of 6 ns; it reports no power.
    """

    module: str  #: Name of the Verilog module.
    what: str  #: Its configuration.
    area: float  #: Of its cells, um2.
    kge: float  #: Thousands of gate equivalents.
    cells: int
    utilisation: float  #: Share of the core.
    tns_ns: float = 0.0  #: Total negative slack, ns.
    voltage: float = 1.1
    clock_ns: float = 6.0


ENGINE = PublishedLayout(
    module="halut_matmul", what="M=8, C=16, FP16 inputs, INT8 tables",
    area=128816, kge=161.423, cells=65496, utilisation=0.504,
)  # fmt: skip
ENCODER = PublishedLayout(
    module="halut_encoder_4", what="unit of four encoders, C=32",
    area=46782, kge=58.624, cells=23130, utilisation=0.487,
)  # fmt: skip
DECODER = PublishedLayout(
    module="halut_decoder", what="one decoder, C=32, INT8 tables",
    area=24667.5, kge=30.911, cells=12256, utilisation=0.521,
)  # fmt: skip
LAYOUTS = (ENGINE, ENCODER, DECODER)
