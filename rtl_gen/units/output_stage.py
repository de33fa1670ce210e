# amaranth: UnusedElaboratable=no
"""The output stage: sums become half floats or bytes, or lose what is below zero.

One converter for each of the W results of a transfer, with the constants of the result's output.
This is the one place with multipliers: W of them, each used once per C look-ups. Binary32 sums are
rounded to half floats as they are, without constants.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from halut.output import ADDEND_BITS, MULTIPLIER_BITS

from ..config import AcceleratorConfig, ceil_log2
from .cells import clock_gate, equals, one_hot, one_hot_select, storage_kind, store_word
from .float32 import SingleToHalf
from .normalise import normalise
from .unit import Unit, named

__all__ = ["ByteConverter", "HalfConverter", "OutputStage", "is_region"]

_MANTISSA = 24  # bits of a float32's mantissa, the leading one included
_GUARD = _MANTISSA + 2  # bits below the product that the offset may have without being sticky


class HalfConverter(Unit):
    """``value * scale + offset``, rounded once to the nearest half float, ties to even.

    Parameters
    ----------
    width : int
        Bits of the value, 2 to 32.
    relu : bool
        Results with a sign become +0.

    Members
    -------
    value : In(signed(width))
    scale, offset : In(32)
        Bits of float32s, finite; the sign of `scale` is taken for +.
    enable : In(3)
        Bit s: the registers of stage s load.
    result : Out(16)
        Bits of a half float: subnormals as they are, overflow is infinity.

    Timing
    ------
    Three clock edges (multiply; align and add; normalise and round), one result per cycle.
    """

    latency_cycles = 3

    def __init__(self, *, width: int, relu: bool) -> None:
        self.width = width
        self.relu = relu
        super().__init__(
            {
                "value": In(signed(width)),
                "scale": In(32),
                "offset": In(32),
                "enable": In(3),
                "result": Out(16),
            },
            module_name=f"halut_half_converter_{width}" + ("_relu" if relu else ""),
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        # The product's last place has the weight 2**(scale_exponent - 150), the offset's likewise.
        product_bits = self.width + _MANTISSA
        highest = product_bits + _GUARD + 2  # the offset above all of the product
        total_bits = highest + _MANTISSA + 1
        mantissas, exponents = {}, {}
        for name in ("scale", "offset"):
            word = getattr(self, name)
            is_normal = Signal(name=f"{name}_is_normal")
            exponent = Signal(8, name=f"arriving_{name}_exponent")
            m.d.comb += [
                is_normal.eq(word[23:31].any()),
                exponent.eq(Cat(word[23] | ~is_normal, word[24:31])),
            ]
            mantissas[name] = Cat(word[:23], is_normal)
            exponents[name] = exponent

        negative = self.value[-1]
        size = Signal(self.width)
        m.d.comb += size.eq(Mux(negative, -self.value, self.value))
        product = Signal(product_bits, reset_less=True)
        product_negative = Signal(reset_less=True)
        scale_exponent = Signal(8, reset_less=True)
        addend = Signal(_MANTISSA, reset_less=True)
        addend_negative = Signal(reset_less=True)
        addend_exponent = Signal(8, reset_less=True)
        with m.If(self.enable[0]):
            m.d.sync += [
                product.eq(size * mantissas["scale"]),
                product_negative.eq(negative),
                scale_exponent.eq(exponents["scale"]),
                addend.eq(mantissas["offset"]),
                addend_negative.eq(self.offset[31]),
                addend_exponent.eq(exponents["offset"]),
            ]

        # Bit 0 of the total weighs 2**(base - _GUARD - 150). An offset below that only says that
        # there is something; a product far below the offset may come closer for the same reason.
        distance = Signal(signed(9))
        place = Signal(range(highest + 1))
        base = Signal(signed(10))
        below = Signal()
        m.d.comb += [
            distance.eq(addend_exponent - scale_exponent),
            base.eq(scale_exponent),
            place.eq(distance + _GUARD),
        ]
        with m.If(~product.any()):
            m.d.comb += [base.eq(addend_exponent), place.eq(_GUARD)]
        with m.Elif(~addend.any()):
            m.d.comb += place.eq(0)
        with m.Elif(distance < -_GUARD):
            m.d.comb += [place.eq(0), below.eq(1)]
        with m.Elif(distance > highest - _GUARD):
            m.d.comb += [place.eq(highest), base.eq(addend_exponent - (highest - _GUARD))]
        aligned = Signal(total_bits)
        difference = Signal(signed(total_bits + 1))
        placed = Signal(total_bits)
        opposite = named(m, "opposite", product_negative ^ addend_negative)
        m.d.comb += [
            aligned.eq(Mux(below, 1, addend << place)),
            placed.eq(product << _GUARD),
            difference.eq(placed - aligned),
        ]
        total = Signal(total_bits, reset_less=True)
        total_negative = Signal(reset_less=True)
        both_negative = Signal(reset_less=True)  # the sign of a sum of zeros
        total_base = Signal(signed(10), reset_less=True)
        turned = difference[-1]
        with m.If(self.enable[1]):
            with m.If(opposite):
                m.d.sync += [
                    total.eq(Mux(turned, -difference, difference)),
                    total_negative.eq(Mux(turned, addend_negative, product_negative)),
                ]
            with m.Else():
                m.d.sync += [
                    total.eq(placed + aligned),
                    total_negative.eq(product_negative),
                ]
            m.d.sync += [
                total_base.eq(base),
                both_negative.eq(product_negative & addend_negative),
            ]
        self._round(m, total, total_negative, both_negative, total_base)

    def _round(
        self, m: Module, total: Signal, negative: Signal, zero_negative: Signal, base: Signal
    ) -> None:
        """Round ``total * 2**(base - _GUARD - 150)``."""
        lead, places = normalise(m, "lead", total)
        # Exponent of the leading one, less that of the smallest normal half float.
        above = Signal(signed(12))
        m.d.comb += above.eq(base - places + (len(total) - 1 - _GUARD - 150 + 14))
        kept = Signal(13)  # eleven bits, the next, and whether there is anything below
        shift = Signal(4)
        m.d.comb += kept.eq(Cat(lead[:-12].any(), lead[-12:]))
        with m.If(above < 0):
            m.d.comb += shift.eq(Mux(above < -13, 13, -above))
        moved = Signal(26)
        rounded = Signal(12)
        m.d.comb += [
            moved.eq(Cat(Const(0, 13), kept) >> shift),
            rounded.eq(moved[15:] + (moved[14] & (moved[15] | moved[:14].any()))),
        ]
        magnitude = Signal(15)
        code = Signal(17)
        sign = named(m, "sign", Mux(lead[-1], negative, zero_negative))
        with m.If(~lead[-1]):
            m.d.comb += magnitude.eq(0)
        with m.Elif(above > 30):
            m.d.comb += magnitude.eq(0x7C00)
        with m.Else():
            m.d.comb += [
                code.eq(rounded + (Mux(above < 0, 0, above[:5]) << 10)),
                magnitude.eq(Mux(code > 0x7C00, 0x7C00, code)),
            ]
        with m.If(self.enable[2]):
            if self.relu:
                m.d.sync += self.result.eq(Mux(sign, 0, magnitude))
            else:
                m.d.sync += self.result.eq(Cat(magnitude, sign))


class ByteConverter(Unit):
    """``(value * multiplier + addend) >> shift``, saturated to 8 bits.

    Parameters
    ----------
    width : int
        Bits of the value, 2 to 32.
    relu : bool
        Saturate from `zero` up instead of from -128.

    Members
    -------
    value : In(signed(width))
    multiplier : In(16)
        With the value. The following are taken a cycle later.
    addend : In(signed(48)), shift : In(6)
    zero : In(signed(8))
        With `relu` only.
    enable : In(2)
        Bit s: the registers of stage s load.
    result : Out(signed(8))

    Timing
    ------
    Two clock edges (multiply; add, shift and saturate), one result per cycle.
    """

    latency_cycles = 2

    def __init__(self, *, width: int, relu: bool) -> None:
        self.width = width
        self.relu = relu
        members = {
            "value": In(signed(width)),
            "multiplier": In(MULTIPLIER_BITS),
            "addend": In(signed(ADDEND_BITS)),
            "shift": In(ceil_log2(ADDEND_BITS)),
            "enable": In(2),
            "result": Out(signed(8)),
        }
        if relu:
            members["zero"] = In(signed(8))
        super().__init__(
            members, module_name=f"halut_byte_converter_{width}" + ("_relu" if relu else "")
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        product = Signal(signed(self.width + MULTIPLIER_BITS), reset_less=True)
        with m.If(self.enable[0]):
            m.d.sync += product.eq(self.value * self.multiplier)
        total = Signal(signed(ADDEND_BITS + 1))
        shifted = Signal(signed(ADDEND_BITS + 1))
        low = Signal(signed(8))
        m.d.comb += [
            total.eq(product + self.addend),
            shifted.eq(total >> self.shift),
            low.eq(self.zero if self.relu else -128),
        ]
        with m.If(self.enable[1]):
            m.d.sync += self.result.eq(
                Mux(shifted < low, low, Mux(shifted > 127, 127, shifted[:8].as_signed()))
            )


class OutputStage(Unit):
    """Converts the W results of every output transfer, and holds the constants of all outputs.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i_valid, i_data, i_last : In; i_index : In, several beats only; i_ready : Out
        As `OutputSerializer` sends them.
    o_valid, o_data, o_last : Out; o_index : Out, several beats only; o_ready : In
        See `output_payload`.
    write_enable, write_column, write_word, write_data : In
        Constants, where there are any: word `write_word` of an output's constants, see
        `AcceleratorConfig.output_constants`. `write_column` counts the outputs of both banks;
        it and `write_word` are absent when there is one only.
    bank : In(1)
        Constants and `double_buffer` only: whose constants are used.
    busy : Out(1)
        Where there are constants: a transfer is inside, or at the input.

    Timing
    ------
    `AcceleratorConfig.output_stages` clock edges, one transfer per cycle; stands still as a whole
    while its last result is not taken.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        members = {
            "i_valid": In(1),
            "i_ready": Out(1),
            "i_data": In(data.ArrayLayout(signed(c.accumulator_bits), c.output_width)),
            "i_last": In(1),
            "o_valid": Out(1),
            "o_ready": In(1),
            "o_data": Out(data.ArrayLayout(unsigned(c.result_bits), c.output_width)),
            "o_last": Out(1),
        }
        if c.n_beats > 1:
            members |= {"i_index": In(ceil_log2(c.n_beats)), "o_index": Out(ceil_log2(c.n_beats))}
        if c.output_constants:
            members |= {
                "write_enable": In(1),
                "write_data": In(min(c.program_data_bits, c.output_constant_bits)),
                "busy": Out(1),
            }
            if c.stored_columns > 1:
                members["write_column"] = In(ceil_log2(c.stored_columns))
            if c.double_buffer:
                members["bank"] = In(1)
            if c.output_constant_words > 1:
                members["write_word"] = In(ceil_log2(c.output_constant_words))
        name = f"halut_output_stage_{c.output_format}{'_relu' if c.relu else ''}_p{c.rows}"
        name += f"_m{c.n_outputs}_w{c.output_width}_acc{c.accumulator_bits}"
        if c.output_format == c.lut_format == "fp16":
            name += "_single"
        if c.output_constants:
            name += f"_word{c.program_data_bits}_{c.memory}{'_double' * c.double_buffer}"
        super().__init__(
            members,
            module_name=name,
            has_clock=bool(c.output_stages),
            has_reset=bool(c.output_stages),
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        if not c.output_stages:
            m.d.comb += [
                self.o_valid.eq(self.i_valid),
                self.i_ready.eq(self.o_ready),
                self.o_last.eq(self.i_last),
                *(
                    self.o_data[j].eq(Mux(value[-1], 0, value))
                    for j, value in enumerate(self._values())
                ),
            ]
            if c.n_beats > 1:
                m.d.comb += self.o_index.eq(self.i_index)
            return
        stages = c.output_stages
        valid = Signal(stages)
        advance = Signal()
        enable = Signal(stages)
        m.d.comb += [
            advance.eq(~valid[-1] | self.o_ready),
            enable.eq(Cat(self.i_valid, valid[:-1]) & advance.replicate(stages)),
            self.i_ready.eq(advance),
            self.o_valid.eq(valid[-1]),
        ]
        if c.output_constants:
            m.d.comb += self.busy.eq(self.i_valid | valid.any())
        with m.If(advance):
            m.d.sync += valid.eq(Cat(self.i_valid, valid))
        last: Value = self.i_last
        indices: list[Value] = [self.i_index] if c.n_beats > 1 else []
        for stage in range(stages):
            moved = Signal(name=f"stage{stage}_last", reset_less=True)
            with m.If(enable[stage]):
                m.d.sync += moved.eq(last)
            last = moved
            if c.n_beats > 1:
                index = Signal(ceil_log2(c.n_beats), name=f"stage{stage}_index", reset_less=True)
                with m.If(enable[stage]):
                    m.d.sync += index.eq(indices[-1])
                indices.append(index)
        m.d.comb += self.o_last.eq(last)
        if c.n_beats > 1:
            m.d.comb += self.o_index.eq(indices[-1])
        stored = self._store(m, platform) if c.output_constants else []
        self._convert(m, platform, enable, stored, indices)

    def _values(self) -> list[Value]:
        return [self.i_data[j] for j in range(self.config.output_width)]

    def _store(self, m: Module, platform: object) -> list[Value]:
        """The constants in use of every output, side by side as `output_constants` says."""
        c = self.config
        kind = storage_kind(c.constants_memory, platform)
        kind = "ff" if kind == "lutram" else kind
        column = self.write_column if c.stored_columns > 1 else Signal(0)
        columns = one_hot(m, "columns", column, c.stored_columns, enable=self.write_enable)
        n_words = c.output_constant_words
        words = one_hot(m, "words", self.write_word if n_words > 1 else Signal(0), n_words)
        stored: list[Value] = []
        for output in range(c.stored_columns):
            parts = []
            for w in range(n_words):
                name = f"output{output}_word{w}"
                strobe: Value = named(m, f"{name}_enable", columns[output] & words[w])
                if kind == "latch":
                    strobe = clock_gate(m, f"{name}_gate", clock=self.clk_i, enable=strobe)
                bits = min(c.program_data_bits, c.output_constant_bits - w * c.program_data_bits)
                parts.append(store_word(m, name, kind, strobe=strobe, data=self.write_data[:bits]))
            whole = Signal(c.output_constant_bits, name=f"output{output}_constants")
            m.d.comb += whole.eq(Cat(parts))
            stored.append(whole)
        if not c.double_buffer:
            return stored
        banks = zip(stored[: c.n_outputs], stored[c.n_outputs :], strict=True)
        return [Mux(self.bank, second, first) for first, second in banks]

    def _convert(
        self,
        m: Module,
        platform: object,
        enable: Signal,
        stored: list[Value],
        indices: list[Value],
    ) -> None:
        c = self.config
        if c.lut_format == "fp16":
            for j, value in enumerate(self._values()):
                rounder = SingleToHalf(relu=c.relu)
                self.add(m, f"lane{j}", rounder, platform)
                m.d.comb += [
                    rounder.value.eq(value),
                    rounder.enable.eq(enable),
                    self.o_data[j].eq(rounder.result),
                ]
            return
        # With W < M a lane serves every W-th output, in turns of `n_turns` beats.
        n_turns = max(1, c.n_outputs // c.output_width)
        turns = []
        for stage, index in enumerate(indices[:2] if n_turns > 1 else []):
            beats = one_hot(m, f"stage{stage}_beats", index, c.n_beats)
            turn = Signal(n_turns, name=f"stage{stage}_turn")
            m.d.comb += turn.eq(Cat(Cat(beats[t::n_turns]).any() for t in range(n_turns)))
            turns.append(turn)
        converter = HalfConverter if c.output_format == "fp16" else ByteConverter
        # Only a multiplier's operands are taken at once; the rest of a byte's a cycle later.
        late = () if c.output_format == "fp16" else ("addend", "shift", "zero")
        for j, value in enumerate(self._values()):
            lane = converter(width=c.accumulator_bits, relu=c.relu)
            self.add(m, f"lane{j}", lane, platform)
            m.d.comb += [
                lane.value.eq(value),
                lane.enable.eq(enable),
                self.o_data[j].eq(lane.result),
            ]
            for name, (low, width) in c.output_constants.items():
                choices = [
                    stored[(turn * c.output_width + j) % c.n_outputs][low : low + width]
                    for turn in range(n_turns)
                ]
                chosen = choices[0]
                if n_turns > 1:
                    chosen = one_hot_select(turns[int(name in late)], choices)
                m.d.comb += getattr(lane, name).eq(chosen)


def is_region(field: Value, region: int) -> Value:
    """Whether the region field of a program address says `region`."""
    if len(field) == 1:
        return field if region else ~field
    return equals(field, region)
