"""Binary32 arithmetic for tables of half floats: exact widening, addition, rounding to half."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from .normalise import normalise
from .unit import Unit, named

__all__ = ["FloatAdder", "HalfToSingle", "SingleToHalf"]

_NAN = 0x7FC00000
_INFINITY = 0x7F800000


class HalfToSingle(Unit):
    """Widen a half float to binary32, exactly; every NaN becomes 0x7fc00000.

    Members
    -------
    half : In(16)
    result : Out(32)

    Timing
    ------
    Combinational.
    """

    def __init__(self) -> None:
        super().__init__(
            {"half": In(16), "result": Out(32)}, module_name="halut_half_to_single", has_clock=False
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        mantissa, exponent, sign = self.half[:10], self.half[10:15], self.half[15]
        # A subnormal is normal in binary32.
        lead, places = normalise(m, "subnormal", mantissa)
        magnitude = Signal(31)
        wide = Signal(8)
        with m.If(exponent.all()):
            m.d.comb += magnitude.eq(Mux(mantissa.any(), _NAN, _INFINITY))
        with m.Elif(exponent.any()):
            m.d.comb += [
                wide.eq(exponent + 112),
                magnitude.eq(Cat(Const(0, 13), mantissa, wide)),
            ]
        with m.Elif(mantissa.any()):
            m.d.comb += [
                wide.eq(112 - places),
                magnitude.eq(Cat(Const(0, 14), lead[:9], wide)),
            ]
        m.d.comb += self.result.eq(Cat(magnitude, sign & ~(exponent.all() & mantissa.any())))


class FloatAdder(Unit):
    """IEEE 754 binary32 addition: round to nearest, ties to even.

    Subnormals, infinities and zeros of both signs as the standard says; every NaN is 0x7fc00000.

    Members
    -------
    a, b : In(32)
    result : Out(32)

    Timing
    ------
    Combinational, so that a sum is accumulated in one cycle.
    """

    def __init__(self) -> None:
        super().__init__(
            {"a": In(32), "b": In(32), "result": Out(32)},
            module_name="halut_float_adder",
            has_clock=False,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        swap = Signal()
        larger = Signal(32)
        smaller = Signal(32)
        m.d.comb += [
            swap.eq(self.b[:31] > self.a[:31]),
            larger.eq(Mux(swap, self.b, self.a)),
            smaller.eq(Mux(swap, self.a, self.b)),
        ]
        opposite = named(m, "opposite", larger[31] ^ smaller[31])
        exponents, mantissas = [], []
        for name, word in (("larger", larger), ("smaller", smaller)):
            is_normal = Signal(name=f"{name}_is_normal")
            exponent = Signal(8, name=f"{name}_exponent")
            m.d.comb += [
                is_normal.eq(word[23:31].any()),
                exponent.eq(Cat(word[23] | ~is_normal, word[24:31])),
            ]
            exponents.append(exponent)
            mantissas.append(Cat(word[:23], is_normal))

        # Three bits below the mantissa, the last one sticky: when more than one bit cancels, the
        # exponents differ by one at most and all bits are there.
        distance = Signal(8)
        shift = Signal(5)
        moved = Signal(54)
        aligned = Signal(27)
        total = Signal(28)
        m.d.comb += [
            distance.eq(exponents[0] - exponents[1]),
            shift.eq(Mux(distance > 27, 27, distance)),
            moved.eq(Cat(Const(0, 30), mantissas[1]) >> shift),
            aligned.eq(Cat(moved[:28].any(), moved[28:])),
            total.eq(
                Mux(
                    opposite,
                    Cat(Const(0, 3), mantissas[0]) - aligned,
                    Cat(Const(0, 3), mantissas[0]) + aligned,
                )
            ),
        ]
        # A mark stops the search for the leading one where the result becomes subnormal.
        marked = Signal(28)
        m.d.comb += marked.eq(total | (Const(1 << 27, 28) >> exponents[0]))
        _, places = normalise(m, "total", marked)
        shifted = Signal(28)
        magnitude = Signal(32)
        up = named(m, "round_up", shifted[3] & (shifted[:3].any() | shifted[4]))
        # The leading one adds one to the exponent, and so does a carry out of the mantissa.
        exponent = Signal(8)
        m.d.comb += [
            shifted.eq(total << places),
            exponent.eq(exponents[0] - places),
            magnitude.eq(Cat(Const(0, 23), exponent) + shifted[4:] + up),
        ]
        large_ones = named(m, "larger_ones", larger[23:31].all())
        small_ones = named(m, "smaller_ones", smaller[23:31].all())
        is_nan = named(m, "is_nan", large_ones & (larger[:23].any() | (small_ones & opposite)))
        with m.If(is_nan):
            m.d.comb += self.result.eq(_NAN)
        with m.Elif(~(large_ones | total.any())):
            m.d.comb += self.result.eq(Cat(Const(0, 31), larger[31] & smaller[31]))
        with m.Elif(large_ones | (magnitude >= _INFINITY)):
            m.d.comb += self.result.eq(Cat(Const(_INFINITY, 31), larger[31]))
        with m.Else():
            m.d.comb += self.result.eq(Cat(magnitude[:31], larger[31]))


class SingleToHalf(Unit):
    """Round a binary32 to the nearest half float, ties to even.

    Subnormals as they are, overflow is infinity; every NaN becomes 0x7e00.

    Parameters
    ----------
    relu : bool
        Results with a sign become +0.

    Members
    -------
    value : In(signed(32))
        Bits of a binary32.
    enable : In(1)
        The register loads.
    result : Out(16)

    Timing
    ------
    One clock edge, one result per cycle.
    """

    def __init__(self, *, relu: bool) -> None:
        self.relu = relu
        super().__init__(
            {"value": In(signed(32)), "enable": In(1), "result": Out(16)},
            module_name="halut_single_to_half" + ("_relu" if relu else ""),
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        mantissa, exponent, sign = self.value[:23], self.value[23:31], self.value[31]
        # With exponents below 113 the result is subnormal; below 102 it is zero.
        shift = Signal(4)
        moved = Signal(36)  # eleven bits are kept, the next one rounds, the others are sticky
        rounded = Signal(12)
        code = Signal(16)
        magnitude = Signal(15)
        m.d.comb += [
            moved.eq(Cat(Const(0, 12), mantissa, exponent.any()) >> shift),
            rounded.eq(moved[25:] + (moved[24] & (moved[25] | moved[:24].any()))),
            code.eq(rounded),
        ]
        with m.If(exponent < 113):
            m.d.comb += shift.eq(Mux(exponent < 102, 12, 113 - exponent))
        with m.Else():  # the leading one adds one to the exponent
            m.d.comb += code.eq(rounded + ((exponent - 113)[:5] << 10))
        is_nan = named(m, "is_nan", exponent.all() & mantissa.any())
        negative = named(m, "negative", sign & ~is_nan)
        m.d.comb += magnitude.eq(Mux(is_nan, 0x7E00, Mux(exponent > 142, 0x7C00, code)))
        with m.If(self.enable):
            if self.relu:
                m.d.sync += self.result.eq(Mux(negative, 0, magnitude))
            else:
                m.d.sync += self.result.eq(Cat(magnitude, negative))
