# amaranth: UnusedElaboratable=no
"""Weight-stationary systolic array: inputs move right, partial sums move down."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from rtl_gen.units.cells import equals
from rtl_gen.units.unit import Unit, named

from .config import SystolicConfig
from .multiply import (
    add_rows,
    booth_rows,
    compress_to,
    cuts_suffix,
    digit_bits,
    recode,
    register_bits,
    rows_bias,
)

__all__ = ["ProcessingElement", "SystolicArray"]


class ProcessingElement(Unit):
    """One weight: its product with the passing input is added to the passing sum.

    The weight is kept recoded, so that no recoder is needed and rows of zero digits stand still.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    step : In(1)
        Inputs and sums move.
    load : In(1)
        Weights move down.
    x : In(input_bits), x_next : Out(input_bits)
        Input, from the left and to the right.
    digits : In(3 * ceil(weight_bits / 2)), digits_next : Out
        Weight, from above and to below, see `recode`.
    sum : In(acc_bits), sum_next : Out(acc_bits)
        Partial sum, from above and to below.

    Timing
    ------
    One step from `x` to `x_next`; 1 + stages steps from `x`, and one from `sum`, to `sum_next`.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        c = config
        digits = digit_bits(c.weight_bits)
        super().__init__(
            {
                "step": In(1),
                "load": In(1),
                "x": In(c.input_bits),
                "x_next": Out(c.input_bits),
                "digits": In(digits),
                "digits_next": Out(digits),
                "sum": In(c.accumulator_bits),
                "sum_next": Out(c.accumulator_bits),
            },
            module_name=f"halut_processing_element_x{c.input_bits}_w{c.weight_bits}"
            f"_acc{c.accumulator_bits}{cuts_suffix(c.cuts)}",
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        x = Signal(c.input_bits, name="x_register", reset_less=True)
        digits = Signal(len(self.digits), name="digits_register", reset_less=True)
        total = Signal(c.accumulator_bits, name="sum_register", reset_less=True)
        m.d.comb += [self.x_next.eq(x), self.digits_next.eq(digits), self.sum_next.eq(total)]
        with m.If(self.load):
            m.d.sync += digits.eq(self.digits)
        columns: list[list[Value]] = booth_rows(m, "product", x, digits)
        columns = columns[: c.accumulator_bits]
        columns += [[] for _ in range(c.accumulator_bits - len(columns))]
        for stage, cut in enumerate(c.cuts):
            columns = compress_to(m, platform, f"stage{stage}", columns, cut)
            columns = register_bits(m, f"stage{stage}_bits", columns, self.step)
        for column, bit in zip(columns, self.sum, strict=True):
            column.append(bit)
        with m.If(self.step):
            m.d.sync += [
                x.eq(self.x),
                total.eq(add_rows(compress_to(m, platform, "last", columns, 2))),
            ]


class SystolicArray(Unit):
    """Exact products of input rows with a matrix that stands still.

    The array moves one step per input transfer, and once it is full a transfer in is a transfer
    out; the last rows are pushed out by further transfers.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(input_bits), rows)))
        Skewed: element r of transfer t belongs to input row t - r.
    program : In(stream.Signature(ArrayLayout(signed(weight_bits), columns)))
        One row of the matrix; `rows` of them, the last row first. Always accepted; sums that are
        on their way then are not defined.
    o : Out(stream.Signature(ArrayLayout(signed(acc_bits), columns)))
        Skewed: what input transfer t pushes out holds in element c the sum of input row
        ``t - latency_cycles - c + 1``.

    Timing
    ------
    An output transfer one cycle after every input transfer but the first `filling_transfers`
    after a reset. One transfer per cycle.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(c.input_bits), c.rows))),
                "program": In(stream.Signature(data.ArrayLayout(signed(c.weight_bits), c.columns))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(c.accumulator_bits), c.columns))),
            },
            module_name=c.top,
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        step = Signal(name="step")
        advance = Signal(name="advance")
        load = Signal(name="load")
        valid = Signal(name="sums_valid")
        running = self.running(platform)
        m.d.comb += [
            advance.eq(~valid | self.o.ready),
            self.i.ready.eq(running & advance),
            step.eq(self.i.valid & self.i.ready),
            load.eq(self.program.valid & self.program.ready),
            self.program.ready.eq(running),
            self.o.valid.eq(running & valid),
        ]
        n_filling = c.filling_transfers
        filled = Signal(range(n_filling + 1))
        is_full = named(m, "is_full", equals(filled, n_filling))
        with m.If(step & ~is_full):
            m.d.sync += filled.eq(filled + 1)
        with m.If(advance):
            m.d.sync += valid.eq(self.i.valid & is_full)
        bias = c.rows * rows_bias(c.input_bits, c.weight_bits)
        xs: list[Value] = [Value.cast(self.i.payload[r]) for r in range(c.rows)]
        for column in range(c.columns):
            total: Value = Const(-bias % (1 << c.accumulator_bits), c.accumulator_bits)
            digits: Value = recode(Value.cast(self.program.payload[column]))
            for row in range(c.rows):
                element = ProcessingElement(c)
                self.add(m, f"element_{row}_{column}", element, platform)
                m.d.comb += [
                    element.step.eq(step),
                    element.load.eq(load),
                    element.x.eq(xs[row]),
                    element.digits.eq(digits),
                    element.sum.eq(total),
                ]
                xs[row] = element.x_next
                digits, total = element.digits_next, element.sum_next
            m.d.comb += self.o.payload[column].eq(total)
