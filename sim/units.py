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
from rtl_gen.units.skid_buffer import SkidBuffer
from rtl_gen.units.sram_table import SramTable
from rtl_gen.units.threshold_memory import ThresholdMemory
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog
from sim import runner

__all__ = ["UNITS", "build_unit", "unit_kinds"]

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
    "sram_table": lambda c: SramTable(
        n_words=c.n_groups * c.n_prototypes,
        width=c.decoders_per_word * c.lut_bits,
        rows=c.rows,
        n_banks=1,
    ),
    "decoder": Decoder,
    "decoder_block": DecoderBlock,
    "skid_buffer": lambda c: SkidBuffer(width=c.rows * c.n_outputs * c.accumulator_bits),
    "output_serializer": OutputSerializer,
    "output_stage": OutputStage,
    "control": Control,
}
"""Unit kinds, each with the testbench of that name in `sim.benches.units`."""


def unit_kinds(config: AcceleratorConfig) -> list[str]:
    """Return the kinds of `UNITS` that an accelerator of `config` has and that have a bench.

    Without SRAM that is all but its tables, the skid buffer and the output stage where there are
    any; with SRAM the words are in `sram_table`, and columns are run with their block.
    """
    absent = {"sram_table"} if config.memory != "sram" else {"lut_memory", "decoder"}
    if not config.skid_buffer:
        absent.add("skid_buffer")
    if not config.has_output_stage:
        absent.add("output_stage")
    return [kind for kind in UNITS if kind not in absent]


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
