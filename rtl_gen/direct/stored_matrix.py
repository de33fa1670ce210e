# amaranth: UnusedElaboratable=no
"""Exact engine that stores its matrix as the look-up accelerator stores its tables."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from rtl_gen.config import ceil_log2
from rtl_gen.units.cells import (
    clock_gate,
    equals,
    one_hot,
    one_hot_select,
    storage_kind,
    store_word,
)
from rtl_gen.units.serializer import OutputSerializer, output_payload
from rtl_gen.units.unit import Unit

from .config import StoredMatrixConfig
from .multiply import DotProduct, cuts_suffix, digit_bits, recode
from .pipeline import Pipeline

__all__ = ["StoredColumn", "StoredMatrixEngine"]


class StoredColumn(Unit):
    """One output's weights, and the dot products of all rows with them.

    Parameters
    ----------
    config : StoredMatrixConfig

    Members
    -------
    write_strobe : In(n_features)
        latch: gated clocks, open while high; ff: enables. One-hot or zero.
    write_data : In(weight_bits)
    select : In(n_groups)
        G > 1 only: one-hot, the group whose weights are fetched.
    digits : In(ArrayLayout(ArrayLayout(3 * ceil(input_bits / 2), group_features), P))
        Recoded inputs.
    enable : In(1 + stages)
        Bit 0: weights are fetched; bit s: stage s of the sums loads.
    first : In(1)
        With the last enable: a new sum is begun.
    sums : Out(ArrayLayout(acc_bits, P))

    Timing
    ------
    Weights are fetched (G > 1) at the edge at which the inputs' digits are registered; `stages`
    clock edges later the sums are there.
    """

    def __init__(self, config: StoredMatrixConfig) -> None:
        self.config = config
        c = config
        row = data.ArrayLayout(unsigned(digit_bits(c.input_bits)), c.group_features)
        members = {
            "write_strobe": In(c.n_features),
            "write_data": In(c.weight_bits),
            "digits": In(data.ArrayLayout(row, c.rows)),
            "enable": In(1 + c.stages),
            "first": In(1),
            "sums": Out(data.ArrayLayout(unsigned(c.accumulator_bits), c.rows)),
        }
        if c.n_groups > 1:
            members["select"] = In(c.n_groups)
        super().__init__(
            members,
            module_name=f"halut_stored_column_g{c.n_groups}_f{c.group_features}_p{c.rows}"
            f"_x{c.input_bits}_w{c.weight_bits}_acc{c.accumulator_bits}{cuts_suffix(c.cuts)}_{c.memory}",
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        kind = storage_kind(c.memory, platform)
        words = [
            store_word(m, f"word{i}", kind, strobe=self.write_strobe[i], data=self.write_data)
            for i in range(c.n_features)
        ]
        fetched = Cat(words)
        if c.n_groups > 1:
            fetched = Signal(c.group_features * c.weight_bits, name="weights", reset_less=True)
            selected = [
                one_hot_select(self.select, words[f :: c.group_features])
                for f in range(c.group_features)
            ]
            with m.If(self.enable[0]):
                m.d.sync += fetched.eq(Cat(selected))
        for row in range(c.rows):
            unit = DotProduct(
                length=c.group_features,
                multiplicand_bits=c.weight_bits,
                multiplier_bits=c.input_bits,
                acc_bits=c.accumulator_bits,
                cuts=c.cuts,
            )
            self.add(m, f"row{row}", unit, platform)
            m.d.comb += [
                unit.multiplicands.eq(fetched),
                unit.digits.eq(self.digits[row]),
                unit.enable.eq(self.enable[1:]),
                unit.first.eq(self.first),
                self.sums[row].eq(unit.sum),
            ]


class StoredMatrixEngine(Unit):
    """Exact matrix product with a stored matrix: features of P rows in, sums out.

    Parameters
    ----------
    config : StoredMatrixConfig

    Members
    -------
    i : In(stream.Signature(ArrayLayout(ArrayLayout(signed(input_bits), group_features), P)))
        A row group is G transfers; transfer g carries features g * group_features and up.
    o : Out(stream.Signature(output_payload(config.output)))
        As `HalutMatmul`'s.
    program : In(stream.Signature(StructLayout(address, data)))
        See `StoredMatrixConfig.image`. Accepted between row groups while nothing is on its way;
        while a word is offered no row group begins, nor in the cycle after it was taken.

    Timing
    ------
    `latency_cycles` = 1 + stages (+ 1 with several output beats) from a row group's last input
    transfer to its first output transfer; one transfer per cycle when nothing stalls.
    """

    def __init__(self, config: StoredMatrixConfig) -> None:
        self.config = config
        c = config
        row = data.ArrayLayout(signed(c.input_bits), c.group_features)
        program = data.StructLayout(
            {
                "address": max(1, ceil_log2(c.n_features * c.n_blocks)),
                "data": c.outputs_per_word * c.weight_bits,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(row, c.rows))),
                "o": Out(stream.Signature(output_payload(c.output))),
                "program": In(stream.Signature(program)),
            },
            module_name=c.top,
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        output = OutputSerializer(c.output)
        self.add(m, "serializer", output, platform)
        group = Signal(c.n_groups, init=1)
        settling = Signal()
        sums_valid = Signal()
        running = self.running(platform)
        pipeline = Pipeline(
            m,
            stages=c.stages,
            i_valid=self.i.valid,
            hold=group[0] & (self.program.valid | settling),
            first=group[0],
            last=group[-1],
            o_valid=sums_valid,
            o_ready=output.i.ready,
            running=running,
        )
        with m.If(pipeline.enable[0]):
            m.d.sync += group.eq(Cat(group[-1], group[:-1]))
        accepted = Signal(name="program_accepted")
        m.d.comb += [
            self.i.ready.eq(pipeline.i_ready),
            self.program.ready.eq(running & group[0] & ~pipeline.busy),
            accepted.eq(self.program.valid & self.program.ready),
        ]
        m.d.sync += settling.eq(accepted)
        arriving = Cat(
            recode(Value.cast(self.i.payload[row][f]))
            for row in range(c.rows)
            for f in range(c.group_features)
        )
        digits = Signal(len(arriving), name="digits", reset_less=True)
        with m.If(pipeline.enable[0]):
            m.d.sync += digits.eq(arriving)

        columns = []
        for block in range(c.n_blocks):
            strobes, word = self._write_block(m, platform, block, accepted)
            for u in range(c.outputs_per_word):
                column = StoredColumn(c)
                self.add(m, f"column{block * c.outputs_per_word + u}", column, platform)
                m.d.comb += [
                    column.write_strobe.eq(strobes),
                    column.write_data.eq(word[u * c.weight_bits : (u + 1) * c.weight_bits]),
                    column.digits.eq(digits),
                    column.enable.eq(pipeline.enable),
                    column.first.eq(pipeline.first),
                ]
                if c.n_groups > 1:
                    m.d.comb += column.select.eq(group)
                columns.append(column)
        m.d.comb += [
            output.i.payload.as_value().eq(
                Cat(column.sums[row] for row in range(c.rows) for column in columns)
            ),
            output.i.valid.eq(sums_valid),
            self.o.valid.eq(running & output.o_valid),
            output.o_ready.eq(self.o.ready),
            self.o.payload.data.eq(output.o_data),
            self.o.payload.last.eq(output.o_last),
        ]
        if c.output.n_beats > 1:
            m.d.comb += self.o.payload.index.eq(output.o_index)

    def _write_block(
        self, m: Module, platform: object, block: int, accepted: Value
    ) -> tuple[Value, Value]:
        """Strobes of a block's words, and the word to write."""
        c = self.config
        is_latch = storage_kind(c.memory, platform) == "latch"
        address = self.program.payload.address
        block_bits = ceil_log2(c.n_blocks)
        if c.n_blocks == 1 << block_bits:
            feature, hit = address[block_bits:], equals(address[:block_bits], block)
            enable = accepted & hit
            lines = one_hot(m, f"words{block}", feature, c.n_features, enable=enable)
        else:
            every = one_hot(m, f"words{block}", address, c.n_features * c.n_blocks, enable=accepted)
            lines = Signal(c.n_features, name=f"block{block}_words")
            m.d.comb += lines.eq(Cat(every[block :: c.n_blocks]))
        strobes = Signal(c.n_features, name=f"block{block}_strobe")
        for i in range(c.n_features):
            strobe: Value = lines[i]
            if is_latch:
                strobe = clock_gate(m, f"gate{block}_{i}", clock=self.clk_i, enable=strobe)
            m.d.comb += strobes[i].eq(strobe)
        word: Value = self.program.payload.data
        if is_latch:
            if block == 0:
                self._word = Signal(len(word), name="program_word", reset_less=True)
                with m.If(accepted):
                    m.d.sync += self._word.eq(word)
            word = self._word
        return strobes, word
