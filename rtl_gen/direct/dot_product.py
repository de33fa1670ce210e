# amaranth: UnusedElaboratable=no
"""Dot-product array: per column one dot product of the same inputs per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from rtl_gen.config import ceil_log2
from rtl_gen.units.cells import clock_gate, one_hot, storage_kind, store_word
from rtl_gen.units.unit import Unit

from .config import DotProductConfig
from .multiply import DotProduct, OperatorDotProduct, recode
from .pipeline import Pipeline

__all__ = ["DotProductArray"]


class DotProductArray(Unit):
    """Exact dot products of one input vector with a vector of weights per column.

    Parameters
    ----------
    config : DotProductConfig

    Members
    -------
    i : In(stream.Signature(StructLayout(data, first, last)))
        `data`: ArrayLayout(signed(input_bits), length); `first`: begins a sum; `last`: ends it,
        and the sums leave.
    weights : In(ArrayLayout(ArrayLayout(held_bits, length), columns))
        ``weights="ports"`` only: signed weights, or with ``recode="weights"`` their digits, see
        `multiply.recode`. Used in the cycle after an input is taken; meant to stand still.
    program : In(stream.Signature(StructLayout(address, data)))
        Otherwise: `data` becomes the weights of column `address`.
        Accepted while nothing is on its way; while a word is offered no input is taken.
    o : Out(stream.Signature(StructLayout(data)))
        ArrayLayout(signed(acc_bits), columns).

    Timing
    ------
    `latency_cycles` = 1 + stages from the last input of a sum to the sums; one input per cycle.
    """

    def __init__(self, config: DotProductConfig) -> None:
        self.config = config
        c = config
        item = data.StructLayout(
            {
                "data": data.ArrayLayout(signed(c.input_bits), c.length),
                "first": 1,
                "last": 1,
            }
        )
        members = {"i": In(stream.Signature(item))}
        if c.weights == "ports":
            column = data.ArrayLayout(unsigned(c.held_bits), c.length)
            members["weights"] = In(data.ArrayLayout(column, c.columns))
        else:
            address_bits = max(1, ceil_log2(c.columns))
            word = data.StructLayout({"address": address_bits, "data": c.length * c.weight_bits})
            members["program"] = In(stream.Signature(word))
        result = data.ArrayLayout(signed(c.accumulator_bits), c.columns)
        members["o"] = Out(stream.Signature(result))
        super().__init__(members, module_name=c.top, has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        hold: Value = Const(0)
        settling = Signal()
        if c.weights != "ports":
            hold = self.program.valid | settling
        sums_valid = Signal()
        running = self.running(platform)
        pipeline = Pipeline(
            m,
            stages=c.stages,
            i_valid=self.i.valid,
            hold=hold,
            first=self.i.payload.first,
            last=self.i.payload.last,
            o_valid=sums_valid,
            o_ready=self.o.ready,
            running=running,
        )
        m.d.comb += [
            self.i.ready.eq(pipeline.i_ready),
            self.o.valid.eq(running & sums_valid),
        ]
        columns = self._weights(m, platform, pipeline, settling)
        values = [Value.cast(self.i.payload.data[k]) for k in range(c.length)]
        arriving = Cat(recode(value) if c.recode == "inputs" else value for value in values)
        factors = Signal(len(arriving), name="factors", reset_less=True)
        with m.If(pipeline.enable[0]):
            m.d.sync += factors.eq(arriving)
        for column, weights in enumerate(columns):
            unit = self._add_column(m, platform, column, weights, factors)
            m.d.comb += [
                unit.enable.eq(pipeline.enable[1:]),
                unit.first.eq(pipeline.first),
                self.o.payload[column].eq(unit.sum),
            ]

    def _add_column(
        self, m: Module, platform: object, column: int, weights: Value, factors: Value
    ) -> DotProduct | OperatorDotProduct:
        """A column's dot product, connected to its factors."""
        c = self.config
        if c.recode == "synthesis":
            plain = OperatorDotProduct(
                length=c.length,
                multiplicand_bits=c.weight_bits,
                multiplier_bits=c.input_bits,
                acc_bits=c.accumulator_bits,
            )
            self.add(m, f"column{column}", plain, platform)
            m.d.comb += [plain.multiplicands.eq(weights), plain.multipliers.eq(factors)]
            return plain
        recode_inputs = c.recode == "inputs"
        unit = DotProduct(
            length=c.length,
            multiplicand_bits=c.weight_bits if recode_inputs else c.input_bits,
            multiplier_bits=c.input_bits if recode_inputs else c.weight_bits,
            acc_bits=c.accumulator_bits,
            cuts=c.cuts,
        )
        self.add(m, f"column{column}", unit, platform)
        if recode_inputs:
            m.d.comb += [unit.multiplicands.eq(weights), unit.digits.eq(factors)]
            return unit
        m.d.comb += [unit.multiplicands.eq(factors), unit.digits.eq(weights)]
        return unit

    def _weights(
        self, m: Module, platform: object, pipeline: Pipeline, settling: Signal
    ) -> list[Value]:
        """The weights of every column, recoded if they are to be."""
        c = self.config
        if c.weights == "ports":
            return [Value.cast(self.weights[column]) for column in range(c.columns)]
        accepted = Signal(name="program_accepted")
        m.d.comb += [
            self.program.ready.eq(self.running(platform) & ~pipeline.busy),
            accepted.eq(self.program.valid & self.program.ready),
        ]
        m.d.sync += settling.eq(accepted)
        kind = storage_kind(c.weights, platform)
        word = self.program.payload.data
        if c.recode == "weights":
            width = c.weight_bits
            word = Cat(recode(word[k * width : (k + 1) * width]) for k in range(c.length))
        if kind == "latch":
            register = Signal(len(word), name="program_word", reset_less=True)
            with m.If(accepted):
                m.d.sync += register.eq(word)
            word = register
        address = self.program.payload.address if c.columns > 1 else Signal(0)
        strobes = one_hot(m, "columns", address, c.columns, enable=accepted)
        stored: list[Value] = []
        for column in range(c.columns):
            strobe: Value = strobes[column]
            if kind == "latch":
                strobe = clock_gate(m, f"gate{column}", clock=self.clk_i, enable=strobe)
            stored.append(store_word(m, f"weights{column}", kind, strobe=strobe, data=word))
        return stored
