# amaranth: UnusedElaboratable=no
"""The custom function unit behind PicoRV32's co-processor interface (PCPI)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from rtl_gen.units.cells import equals
from rtl_gen.units.unit import Unit

from .config import WORD_BITS, CfuConfig
from .unit import CustomFunctionUnit

__all__ = ["PcpiPort"]

CUSTOM_0 = 0b0001011


class PcpiPort(Unit):
    """Hands instructions of opcode custom-0 to the unit, and its answers back.

    Parameters
    ----------
    config : CfuConfig

    Members
    -------
    pcpi_valid : In(1)
        An instruction that the processor does not know; stays, with the other inputs, until
        `pcpi_ready`, and is 0 in the cycle after it.
    pcpi_insn, pcpi_rs1, pcpi_rs2 : In(32)
    pcpi_wr : Out(1)
        The answer is for the instruction's rd: always with `pcpi_ready`.
    pcpi_rd : Out(32)
    pcpi_wait : Out(1)
        The instruction is one of the unit's.
    pcpi_ready : Out(1)
        It is done.

    Timing
    ------
    `pcpi_ready` comes 1 cycle after `pcpi_valid`.
    """

    def __init__(self, config: CfuConfig) -> None:
        self.config = config
        inputs = {f"pcpi_{name}": In(WORD_BITS) for name in ("insn", "rs1", "rs2")}
        members = {
            "pcpi_valid": In(1),
            **inputs,
            "pcpi_wr": Out(1),
            "pcpi_rd": Out(WORD_BITS),
            "pcpi_wait": Out(1),
            "pcpi_ready": Out(1),
        }
        super().__init__(members, module_name="halut_pcpi", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        unit = CustomFunctionUnit(self.config)
        self.add(m, "unit", unit, platform)
        ours, given = Signal(name="ours"), Signal(name="given")
        m.d.comb += [
            ours.eq(self.pcpi_valid & equals(self.pcpi_insn[:7], CUSTOM_0)),
            unit.cmd.valid.eq(ours & ~given),
            unit.cmd.payload.function_id.eq(Cat(self.pcpi_insn[12:15], self.pcpi_insn[25:])),
            unit.cmd.payload.inputs_0.eq(self.pcpi_rs1),
            unit.cmd.payload.inputs_1.eq(self.pcpi_rs2),
            unit.rsp.ready.eq(1),
            self.pcpi_wait.eq(ours),
            self.pcpi_ready.eq(unit.rsp.valid),
            self.pcpi_wr.eq(unit.rsp.valid),
            self.pcpi_rd.eq(unit.rsp.payload),
        ]
        m.d.sync += given.eq(unit.cmd.valid & unit.cmd.ready)
