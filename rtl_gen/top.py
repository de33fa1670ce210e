# amaranth: UnusedElaboratable=no
"""The accelerator: control, one encoder per codebook lane, decoder blocks, output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, ceil_log2
from .program_port import REGIONS
from .tiled_config import AnyConfig
from .units.addressed_encoder import AddressedEncoder
from .units.cells import equals, storage_kind
from .units.control import Control
from .units.decoder import DecoderBlock
from .units.encoder import Encoder, encoder_unit
from .units.output_stage import OutputStage, is_region
from .units.serializer import OutputSerializer, output_payload
from .units.skid_buffer import SkidBuffer
from .units.unit import Unit, named

__all__ = ["HalutMatmul", "ProgramWrite", "accelerator_members", "partial_config"]


def partial_config(config: AcceleratorConfig) -> AcceleratorConfig:
    """The configuration of the partial sums of `config`: what leaves are accumulators."""
    return replace(config, output_format="raw", relu=False)


def accelerator_members(config: AnyConfig) -> dict[str, In | Out]:
    """Return the streams of an accelerator, one unit or several: rows, results, program words."""
    c = config
    words = data.ArrayLayout(unsigned(c.input_bits), c.n_values)
    lanes = data.ArrayLayout(words, c.parallel_codebooks)
    program = data.StructLayout({"address": c.program_address_bits, "data": c.program_data_bits})
    return {
        "i": In(stream.Signature(data.ArrayLayout(lanes, c.rows))),
        "o": Out(stream.Signature(output_payload(c))),
        "program": In(stream.Signature(program)),
    }


class HalutMatmul(Unit):
    """Matrix product by look-up: values of split dimensions in, sums of LUT entries out.

    Parameters
    ----------
    config : AcceleratorConfig
    partial : bool, default False
        Accumulators leave as they are, whatever the output format: they are partial sums, which
        are joined and converted outside, and the constants are stored there.

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(input_bits, n_values), Q), P)))
        Per row and lane a codebook's T split-dimension values, the terms of T sums, or its window.
        A row group is G transfers; transfer g carries codebooks g*Q to g*Q + Q-1.
    o : Out(stream.Signature(output_payload(config)))
        Sums, `n_beats` transfers per row group.
    program : In(stream.Signature(StructLayout(address, data)))
        Program words, see `AcceleratorConfig.address_fields` and `image.program_image`. Words at
        addresses that stand for nothing are taken and dropped. Accepted between row groups only:
        every row group sees one program, the one that was complete when it began.
    output_busy : In(1)
        `partial` and an output format with constants only: results wait behind `o`.
    active_bank : Out(1)
        Then, with `double_buffer`: the bank of everything inside and behind.

    Timing
    ------
    `latency_cycles` from a row group's last input transfer to its first output transfer, one row
    group every `interval_cycles` when nothing stalls. Any stream may stall at any cycle. In a
    cycle of reset nothing moves: both readies and `o.valid` are 0; the program stays.
    """

    def __init__(self, config: AcceleratorConfig, *, partial: bool = False) -> None:
        self.config = config
        self.partial = partial
        members = accelerator_members(partial_config(config) if partial else config)
        members["program"] = accelerator_members(config)["program"]
        if partial and config.output_constants:
            members["output_busy"] = In(1)
            if config.double_buffer:
                members["active_bank"] = Out(1)
        super().__init__(members, module_name="halut_matmul", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        control = Control(c)
        self.add(m, "control", control, platform)
        m.d.comb += [
            control.i_valid.eq(self.i.valid),
            self.i.ready.eq(control.i_ready),
            control.program_valid.eq(self.program.valid),
            self.program.ready.eq(control.program_ready),
        ]
        write = ProgramWrite(m, c, self.program, platform)
        if c.double_buffer:
            m.d.comb += [
                control.program_switch.eq(write.switch),
                control.program_bank.eq(write.bank),
            ]
        encoders = [self._add_encoder(m, platform, q, control, write) for q in self._lanes]
        codes = [self._carried(m, q, encoder.codes, control) for q, encoder in enumerate(encoders)]
        blocks = [self._add_block(m, platform, b, control, write, codes) for b in range(c.n_blocks)]
        output: OutputSerializer | OutputStage = OutputSerializer(c)
        self.add(m, "serializer", output, platform)
        columns = [block.sums[u] for block in blocks for u in range(c.decoders_per_word)]
        sums = output.i
        if c.skid_buffer:
            # What is kept waits for the output, which is then busy: no program word passes it.
            skid = SkidBuffer(width=len(output.i.payload.as_value()))
            self.add(m, "skid_buffer", skid, platform)
            m.d.comb += [
                output.i.payload.as_value().eq(skid.o.payload),
                output.i.valid.eq(skid.o.valid),
                skid.o.ready.eq(output.i.ready),
                control.full_next.eq(skid.full_next),
            ]
            sums = skid.i
        m.d.comb += [
            Value.cast(sums.payload).eq(
                Cat(column[row] for row in range(c.rows) for column in columns)
            ),
            sums.valid.eq(control.sums_valid),
        ]
        if not c.skid_buffer:
            m.d.comb += control.sums_ready.eq(sums.ready)
        if self.partial and c.output_constants:
            m.d.comb += control.output_busy.eq(output.o_valid | self.output_busy)
            if c.double_buffer:
                m.d.comb += self.active_bank.eq(control.active_bank)
        elif c.has_output_stage and not self.partial:
            output = self._add_output_stage(m, platform, output, control, write)
        m.d.comb += [
            self.o.valid.eq(output.o_valid & self.running(platform)),
            output.o_ready.eq(self.o.ready),
            self.o.payload.data.as_value().eq(output.o_data.as_value()),
            self.o.payload.last.eq(output.o_last),
        ]
        if c.n_beats > 1:
            m.d.comb += self.o.payload.index.eq(output.o_index)

    def _add_output_stage(
        self,
        m: Module,
        platform: object,
        serializer: OutputSerializer,
        control: Control,
        write: ProgramWrite,
    ) -> OutputStage:
        c = self.config
        stage = OutputStage(c)
        self.add(m, "output_stage", stage, platform)
        m.d.comb += [
            stage.i_valid.eq(serializer.o_valid),
            serializer.o_ready.eq(stage.i_ready),
            stage.i_data.eq(serializer.o_data),
            stage.i_last.eq(serializer.o_last),
        ]
        if c.n_beats > 1:
            m.d.comb += stage.i_index.eq(serializer.o_index)
        if c.output_constants:
            m.d.comb += control.output_busy.eq(stage.busy)
            write.connect_constants(m, stage)
            if c.double_buffer:
                m.d.comb += stage.bank.eq(control.active_bank)
        return stage

    @property
    def _lanes(self) -> range:
        return range(self.config.parallel_codebooks)

    def _add_encoder(
        self, m: Module, platform: object, q: int, control: Control, write: ProgramWrite
    ) -> Encoder | AddressedEncoder:
        c = self.config
        encoder = encoder_unit(c)
        self.add(m, f"encoder{q}", encoder, platform)
        word = write.constants
        codebook = word.field("thresholds", "codebook")
        group, hit = _split_codebook(c, codebook, q)
        hit = named(m, f"encoder{q}_hit", hit)
        m.d.comb += [
            *(encoder.words[row].eq(self.i.payload[row][q]) for row in range(c.rows)),
            encoder.enable.eq(control.enable[: c.encoder_cycles]),
            encoder.write_enable.eq(word.stored & write.is_thresholds & hit),
            encoder.write_data.eq(word.data[: len(encoder.write_data)]),
        ]
        if c.encoder == "interleaved":
            m.d.comb += encoder.phase.eq(control.phase)
        if c.stored_groups > 1:
            m.d.comb += [encoder.group.eq(control.group), encoder.write_group.eq(group)]
        if c.threshold_words > 1:
            m.d.comb += encoder.write_word.eq(word.field("thresholds", "word"))
        return encoder

    def _carried(self, m: Module, q: int, codes: Any, control: Control) -> Value:
        """A lane's codes behind the registers that carry them to the blocks of decoders."""
        c = self.config
        carried: Value = codes.as_value()
        for stage in range(c.encoder_cycles, c.code_cycles - c.block_code_stages):
            register = Signal(len(carried), name=f"lane{q}_stage{stage}_codes", reset_less=True)
            with m.If(control.enable[stage]):
                m.d.sync += register.eq(carried)
            carried = register
        return carried

    def _add_block(
        self,
        m: Module,
        platform: object,
        index: int,
        control: Control,
        write: ProgramWrite,
        codes: list[Value],
    ) -> DecoderBlock:
        c = self.config
        block, word = DecoderBlock(c), write.tables
        self.add(m, f"block{index}", block, platform)
        hit = named(m, f"block{index}_hit", equals(word.field("lut", "block"), index))
        m.d.comb += [
            block.write_enable.eq(word.stored & write.is_lut & hit),
            block.write_prototype.eq(word.field("lut", "prototype")),
            block.write_data.eq(word.data[: len(block.write_data)]),
            *(block.codes[q].as_value().eq(codes[q]) for q in self._lanes),
            block.enable.eq(control.enable[c.pipeline_stages - c.block_cycles :]),
        ]
        if c.stored_codebooks > 1:
            m.d.comb += block.write_codebook.eq(word.field("lut", "codebook"))
        if c.stored_groups > 1:
            m.d.comb += block.group.eq(control.lut_group)
        if c.n_groups > 1:
            m.d.comb += block.first.eq(control.first)
        return block


class _Word:
    """A program word on its way to one kind of storage, with what its address says."""

    def __init__(
        self, config: AcceleratorConfig, address: Value, stored: Value, data: Value
    ) -> None:
        self._fields = config.address_fields
        self._unit_bits = config.program_address_bits
        self._address = address
        self.stored = stored  #: It is written at the next clock edge.
        self.data = data

    def field(self, region: str, name: str) -> Value:
        """A field of the address."""
        low, width = self._fields[region][name]
        return self._address[low : low + width]

    @property
    def tile(self) -> Value:
        """What is above a unit's address."""
        return self._address[self._unit_bits :]

    def is_in(self, region: str) -> Value:
        """Whether the address is in a region, 1 bit."""
        return is_region(self.field(region, "region"), REGIONS[region])


class ProgramWrite:
    """An accepted program word, as each kind of storage takes it.

    A latch takes the address at once and the data from a register; SRAMs keep what the address says
    until the data is there. Other storage takes both from registers. So no write but a latch's is
    on a path from the ports and the pipeline's state. SRAMs beside such storage take a word that
    has moved on to registers already, before they keep it: they are written two clock edges after
    it was accepted, and read three edges after it at the earliest.

    Parameters
    ----------
    m : Module
    config : AcceleratorConfig
        Its fields are in the lowest bits of the address.
    program : the program stream
    platform : object
    """

    def __init__(
        self, m: Module, config: AcceleratorConfig, program: Any, platform: object
    ) -> None:
        c = self._config = config
        accepted = Signal(name="program_accepted")
        m.d.comb += accepted.eq(program.valid & program.ready)
        data = Signal(c.program_data_bits, name="program_word", reset_less=True)
        # RAMs take a word in the cycle after, and need not know before whether it was accepted.
        keeps = Const(1) if c.constants_memory == "lutram" else accepted
        with m.If(keeps):
            m.d.sync += data.eq(program.payload.data)
        now = _Word(c, program.payload.address, accepted, data)
        if c.double_buffer:
            self._command(m, now)
        self.tables = self.constants = now
        tables, constants = (
            storage_kind(kind, platform) for kind in (c.memory, c.constants_memory)
        )
        at_once = ("latch", "sram")
        if tables not in at_once or constants not in at_once:
            # Without reset: a word that was accepted just before one is written in it.
            n_bits = len(program.payload.address)
            address = Signal(n_bits, name="program_word_address", reset_less=True)
            stored = Signal(name="program_word_valid", reset_less=True)
            m.d.sync += stored.eq(now.stored)
            with m.If(keeps):
                m.d.sync += address.eq(program.payload.address)
            later = _Word(c, address, stored, data)
            if tables not in at_once:
                self.tables = later
            if constants not in at_once:
                self.constants = later
                if tables == "sram":
                    word = Signal(len(data), name="program_word_for_sram", reset_less=True)
                    m.d.sync += word.eq(data)
                    self.tables = _Word(c, address, stored, word)
        self.is_lut = named(m, "is_lut_word", self.tables.is_in("lut"))
        self.is_thresholds = named(m, "is_threshold_word", self.constants.is_in("thresholds"))
        if c.output_constants:
            self._is_constant = named(m, "is_constant_word", self.constants.is_in("output"))

    def _command(self, m: Module, word: _Word) -> None:
        """With `double_buffer`: whether the word is a command, and the bank that it is for."""
        c = self._config
        self.switch = word.field("switch", "command").any()
        is_lut = ~word.field("lut", "region").any()
        codebook = Mux(is_lut, word.field("lut", "codebook"), word.field("thresholds", "codebook"))
        second: Value = codebook >= c.n_codebooks
        if c.output_constants:
            column = word.field("output", "column")
            second = Mux(word.is_in("output"), column >= c.n_outputs, second)
        self.bank = Signal(name="program_bank")
        stored = Signal(name="program_stored")
        m.d.comb += [
            self.bank.eq(Mux(self.switch, word.field("switch", "bank"), second)),
            stored.eq(word.stored & ~self.switch),
        ]
        word.stored = stored

    def connect_constants(self, m: Module, stage: OutputStage, hit: Value | None = None) -> None:
        """Let an output stage take the words of its constants, those where `hit` is high."""
        c, word = self._config, self.constants
        enable = word.stored & self._is_constant
        m.d.comb += [
            stage.write_enable.eq(enable if hit is None else enable & hit),
            stage.write_data.eq(word.data[: len(stage.write_data)]),
        ]
        if c.stored_columns > 1:
            m.d.comb += stage.write_column.eq(word.field("output", "column"))
        if c.output_constant_words > 1:
            m.d.comb += stage.write_word.eq(word.field("output", "word"))


def _split_codebook(config: AcceleratorConfig, codebook: Value, lane: int) -> tuple[Value, Value]:
    """(group, whether `codebook` belongs to `lane`) for codebook = group * Q + lane."""
    q = config.parallel_codebooks
    if q & (q - 1) == 0:
        low = ceil_log2(q)
        return codebook[low:], equals(codebook[:low], lane)
    groups = range(config.stored_groups)
    hits = [equals(codebook, g * q + lane) for g in groups]
    group = Cat(
        Cat(hits[g] for g in groups if g >> bit & 1).any()
        for bit in range(ceil_log2(config.stored_groups))
    )
    return group, Cat(hits).any()
