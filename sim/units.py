"""The units of an accelerator that have a testbench of their own, and how to build each."""

from __future__ import annotations

from collections.abc import Callable

from halut.checks import one_of
from rtl_gen.config import AcceleratorConfig
from rtl_gen.units.comparator import Comparator
from rtl_gen.units.control import Control
from rtl_gen.units.decoder import Decoder, DecoderBlock
from rtl_gen.units.encoder import encoder_unit
from rtl_gen.units.lut_memory import LutMemory
from rtl_gen.units.output_stage import OutputStage
from rtl_gen.units.serializer import OutputSerializer
from rtl_gen.units.threshold_memory import ThresholdMemory
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog
from sim import runner

__all__ = ["UNITS", "build_unit"]

UNITS: dict[str, Callable[[AcceleratorConfig], Unit]] = {
    "comparator": lambda c: Comparator(width=c.threshold_bits),
    "threshold_memory": ThresholdMemory,
    "encoder": encoder_unit,
    "lut_memory": lambda c: LutMemory(
        n_groups=c.n_groups,
        n_prototypes=c.n_prototypes,
        width=c.lut_bits,
        rows=c.rows,
        memory=c.memory,
    ),
    "decoder": Decoder,
    "decoder_block": DecoderBlock,
    "output_serializer": OutputSerializer,
    "output_stage": OutputStage,
    "control": Control,
}
"""Unit kinds, each with the testbench of that name in `sim.benches.units`.

`output_stage` is there only where a configuration converts its results.
"""


def build_unit(
    kind: str, config: AcceleratorConfig, *, simulator: str | None = None
) -> runner.Build:
    """Build the simulation of one unit of an accelerator, alone.

    Parameters
    ----------
    kind : str
        One of `UNITS`.
    config : AcceleratorConfig
    simulator : str, optional
        See `sim.runner.pick_simulator`.
    """
    one_of("unit", kind, UNITS)
    unit = UNITS[kind](config)
    return runner.build(unit_verilog(unit), unit.module_name, simulator=simulator)
