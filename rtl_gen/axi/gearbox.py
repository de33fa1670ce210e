# amaranth: UnusedElaboratable=no
"""Words of one width become words of another."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..units.cells import equals, one_hot, one_hot_select
from ..units.unit import Unit, named

__all__ = ["Gearbox"]


class Gearbox(Unit):
    """Takes words of one number of bytes, gives words of another, without gaps.

    Parameters
    ----------
    in_bytes, out_bytes : int

    Members
    -------
    i : In(stream.Signature(StructLayout(data, bytes)))
        `bytes` of the data, from the lowest, count; a multiple of the greatest common divisor of
        `in_bytes` and `out_bytes`.
    o : Out(stream.Signature(StructLayout(data, bytes)))
        `out_bytes` of them, fewer when flushed.
    flush : In(1)
        What is inside leaves, although it fills no word. `i` takes nothing.
    empty : Out(1)
        Less than a word is inside; while flushed, nothing.
    ends : Out(1)
        Nothing is behind the word at `o`.
    clear : In(1)

    Timing
    ------
    A word is at `o` in the cycle after its last byte was taken. Whichever of both words is shorter
    moves once per cycle.
    """

    def __init__(self, *, in_bytes: int, out_bytes: int) -> None:
        self.in_bytes = in_bytes
        self.out_bytes = out_bytes
        self.unit_bytes = math.gcd(in_bytes, out_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(_payload(in_bytes))),
                "o": Out(stream.Signature(_payload(out_bytes))),
                "flush": In(1),
                "empty": Out(1),
                "ends": Out(1),
                "clear": In(1),
            },
            module_name=f"halut_gearbox_i{in_bytes}_o{out_bytes}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        bits = 8 * self.unit_bytes
        n_in, n_out = self.in_bytes // self.unit_bytes, self.out_bytes // self.unit_bytes
        capacity = n_out - 1 + n_in
        shift = self.unit_bytes.bit_length() - 1
        level = Signal(range(capacity + 1), name="level")
        units = [Signal(bits, name=f"unit{k}", reset_less=True) for k in range(capacity)]
        full = named(m, "full", level >= n_out)
        push = named(m, "push", self.i.valid & self.i.ready)
        pop = named(m, "pop", self.o.valid & self.o.ready)
        # What is left when a word has gone; new units go behind it.
        rest = Signal(range(capacity + 1), name="rest")
        m.d.comb += rest.eq(Mux(pop, Mux(full, level - n_out, 0), level))
        if self.unit_bytes == 1 << shift:
            taken: Value = self.i.payload.bytes >> shift
            given: Value = Mux(full, n_out, level) << shift
        else:
            taken = _scaled(self.i.payload.bytes, n_in, self.unit_bytes)
            given = Mux(full, n_out, level) * self.unit_bytes
        m.d.comb += [
            self.empty.eq(Mux(self.flush, ~level.any(), ~full)),
            self.ends.eq(level <= n_out if capacity > n_out else 1),
            self.o.valid.eq(full | (self.flush & level.any())),
            self.o.payload.data.eq(Cat(units[:n_out])),
            self.o.payload.bytes.eq(given),
            self.i.ready.eq(~self.flush & (~full | (self.o.ready & (rest < n_out)))),
        ]
        m.d.sync += level.eq(rest + Mux(push, taken, 0))
        places = one_hot(m, "place", rest[: max(1, (n_out - 1).bit_length())], n_out)
        for k, unit in enumerate(units):
            sources = [(k - j, j) for j in range(n_in) if 0 <= k - j < n_out]
            lines = Cat(places[place] for place, _ in sources)
            words = [self.i.payload.data[j * bits : (j + 1) * bits] for _, j in sources]
            with m.If(push & lines.any()):
                m.d.sync += unit.eq(one_hot_select(lines, words))
            if k + n_out < capacity:
                with m.Elif(pop):
                    m.d.sync += unit.eq(units[k + n_out])
        with m.If(self.clear):
            m.d.sync += level.eq(0)


def _payload(n_bytes: int) -> data.StructLayout:
    return data.StructLayout({"data": 8 * n_bytes, "bytes": range(n_bytes + 1)})


def _scaled(n_bytes: Value, most: int, unit_bytes: int) -> Value:
    """Units in a number of bytes that is a multiple of a unit's."""
    lines = Cat(equals(n_bytes, k * unit_bytes) for k in range(1, most + 1))
    words = [Const(k, most.bit_length()) for k in range(1, most + 1)]
    return one_hot_select(lines, words)
