# amaranth: UnusedElaboratable=no
"""A queue of words."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named

__all__ = ["Fifo"]


class Fifo(Unit):
    """A queue of words.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words, a power of two from 2.

    Members
    -------
    i : In(stream.Signature(width)), o : Out(stream.Signature(width))
    level : Out(range(depth + 1))
        Words inside.
    clear : In(1)
        Drops all words at the next edge.

    Timing
    ------
    A word is at `o` in the cycle after it was taken; one word per cycle.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(width)),
                "o": Out(stream.Signature(width)),
                "level": Out(range(depth + 1)),
                "clear": In(1),
            },
            module_name=f"halut_fifo_w{width}_d{depth}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        m.submodules.storage = memory = Memory(shape=self.width, depth=self.depth, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        first, last = Signal(range(self.depth)), Signal(range(self.depth))
        push = named(m, "push", self.i.valid & self.i.ready)
        pop = named(m, "pop", self.o.valid & self.o.ready)
        m.d.comb += [
            self.i.ready.eq(~self.level[-1]),
            self.o.valid.eq(self.level.any()),
            read.addr.eq(first),
            self.o.payload.eq(read.data),
            write.addr.eq(last),
            write.data.eq(self.i.payload),
            write.en.eq(push),
        ]
        m.d.sync += [
            first.eq(first + pop),
            last.eq(last + push),
            self.level.eq(self.level + push - pop),
        ]
        with m.If(self.clear):
            m.d.sync += [first.eq(0), last.eq(0), self.level.eq(0)]
