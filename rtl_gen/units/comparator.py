"""Comparisons of a tree walk, on integers whatever the number format.

A float compares like the integer made of its bits once negative values are complemented:
{sign, magnitude ^ sign}. That key is one below for negative values (-0 becomes -1), which changes
no strict comparison with a threshold as long as no threshold is stored as -0. A NaN is given the
sign bit, which puts it below minus infinity: it never exceeds a threshold.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from halut.formats import FLOAT_FORMATS

from .unit import Unit

__all__ = ["Comparator", "comparison_key"]


def comparison_key(m: Module, name: str, word: Value, input_format: str) -> Value:
    """Map an input word to the signed integer, of the same width, that it compares as."""
    floating = FLOAT_FORMATS.get(input_format)
    if floating is None:
        return word.as_signed()
    bits = floating.bits - 1
    magnitude = word[:bits]
    negative = Signal(name=f"{name}_negative")
    m.d.comb += negative.eq(word[bits] | (magnitude > floating.largest))
    return Cat(magnitude ^ negative.replicate(bits), negative).as_signed()


class Comparator(Unit):
    """Signed comparison value > threshold.

    Parameters
    ----------
    width : int
        Bits of both operands.

    Members
    -------
    value, threshold : In(signed(width))
    greater : Out(1)
        High when value > threshold, strictly.

    Timing
    ------
    Combinational.
    """

    def __init__(self, *, width: int) -> None:
        self.width = width
        super().__init__(
            {"value": In(signed(width)), "threshold": In(signed(width)), "greater": Out(1)},
            module_name=f"halut_comparator_{width}",
            has_clock=False,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        m.d.comb += self.greater.eq(self.value > self.threshold)
