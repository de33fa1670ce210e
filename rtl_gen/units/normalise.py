"""Shift a number until its top bit is set."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from ..config import ceil_log2

__all__ = ["normalise"]


def normalise(m: Module, name: str, value: Value) -> tuple[Value, Value]:
    """Shift `value` left until its top bit is set; returns it and the number of places.

    A zero stays zero.
    """
    width = len(value)
    places: list[Value] = []
    for step in reversed([1 << i for i in range(ceil_log2(width))]):
        empty = Signal(name=f"{name}_empty{step}")
        shifted = Signal(width, name=f"{name}_shifted{step}")
        m.d.comb += [
            empty.eq(~value[width - step :].any()),
            shifted.eq(Mux(empty, Cat(Const(0, step), value[: width - step]), value)),
        ]
        places.insert(0, empty)
        value = shifted
    return value, Cat(places)
