"""A skid buffer: whether it takes an item is known from a register."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from .unit import Unit, named

__all__ = ["SkidBuffer"]


class SkidBuffer(Unit):
    """Keeps the item that was not taken, so that `i.ready` comes from a register.

    Parameters
    ----------
    width : int
        Bits of an item.

    Members
    -------
    i : In(stream.Signature(width)), o : Out(stream.Signature(width))
        `i.ready` is high while nothing is kept.
    full_next : Out(1)
        `i.ready` will be low in the next cycle, unless that is one of reset.

    Timing
    ------
    Combinational from `i` to `o` while nothing is kept; no cycle is lost after a stall. Nothing of
    `o.ready` reaches `i.ready` before the next clock edge.
    """

    def __init__(self, *, width: int) -> None:
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(width)),
                "o": Out(stream.Signature(width)),
                "full_next": Out(1),
            },
            module_name=f"halut_skid_buffer_w{width}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        kept = Signal()
        item = Signal(self.width, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(~kept),
            self.o.valid.eq(self.i.valid | kept),
            self.o.payload.eq(Mux(kept, item, self.i.payload)),
            self.full_next.eq(self.o.valid & ~self.o.ready),
        ]
        m.d.sync += kept.eq(self.full_next)
        with m.If(named(m, "item_offered", self.i.valid & ~kept)):
            m.d.sync += item.eq(self.i.payload)
