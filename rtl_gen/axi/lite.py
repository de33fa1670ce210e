# amaranth: UnusedElaboratable=no
"""The registers' bus: an AXI4-Lite slave, or a Wishbone slave."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named
from .register_file import ADDRESS_BITS, register_port

__all__ = ["AxiLiteSlave", "WishboneSlave", "axi_lite_members", "wishbone_members"]

OKAY, SLVERR = 0, 2


def axi_lite_members() -> dict[str, Any]:
    """Members of an AXI4-Lite slave, by the names of the specification."""
    return {
        "awaddr": In(ADDRESS_BITS),
        "awprot": In(3),
        "awvalid": In(1),
        "awready": Out(1),
        "wdata": In(32),
        "wstrb": In(4),
        "wvalid": In(1),
        "wready": Out(1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(ADDRESS_BITS),
        "arprot": In(3),
        "arvalid": In(1),
        "arready": Out(1),
        "rdata": Out(32),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }


def wishbone_members() -> dict[str, Any]:
    """Members of a Wishbone B4 slave of 32 bits; addresses count words."""
    return {
        "adr": In(ADDRESS_BITS - 2),
        "dat_w": In(32),
        "dat_r": Out(32),
        "sel": In(4),
        "cyc": In(1),
        "stb": In(1),
        "we": In(1),
        "ack": Out(1),
        "err": Out(1),
    }


def _port_out() -> dict[str, Any]:
    """The port of `register_port` from its other side."""
    return {name: member.flip() for name, member in register_port().items()}


class AxiLiteSlave(Unit):
    """Turns transfers of AXI4-Lite into accesses of registers.

    Members
    -------
    Those of `axi_lite_members`, and those of `register_port` with the opposite direction.

    Timing
    ------
    An access is done in the cycle after both the address and the data of a write, or the address
    of a read, were taken; its answer is offered in the cycle after that. Reads and writes take
    turns when both wait. Every access gets an answer.
    """

    def __init__(self) -> None:
        super().__init__(
            {**axi_lite_members(), **_port_out()}, module_name="halut_axi_lite", has_reset=True
        )

    def build(self, m: Module, platform: object) -> None:
        running = self.running(platform)
        has_aw, has_w, has_ar = Signal(), Signal(), Signal()
        write_address = Signal(ADDRESS_BITS, reset_less=True)
        read_address = Signal(ADDRESS_BITS, reset_less=True)
        read_next = Signal()
        can_write = named(m, "can_write", has_aw & has_w & (~self.bvalid | self.bready))
        can_read = named(m, "can_read", has_ar & (~self.rvalid | self.rready))
        does_read = named(m, "does_read", can_read & (read_next | ~can_write))
        does_write = named(m, "does_write", can_write & ~does_read)
        b_open, r_open = Signal(), Signal()
        m.d.comb += [
            self.awready.eq(running & ~has_aw),
            self.wready.eq(running & ~has_w),
            self.arready.eq(running & ~has_ar),
            self.bvalid.eq(b_open & running),
            self.rvalid.eq(r_open & running),
            self.select.eq(running & (does_read | does_write)),
            self.write.eq(does_write),
            self.address.eq(Mux(does_write, write_address, read_address)),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [has_aw.eq(1), write_address.eq(self.awaddr)]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [has_w.eq(1), self.data.eq(self.wdata), self.strobe.eq(self.wstrb)]
        with m.If(self.arvalid & self.arready):
            m.d.sync += [has_ar.eq(1), read_address.eq(self.araddr)]
        with m.If(self.bready):
            m.d.sync += b_open.eq(0)
        with m.If(self.rready):
            m.d.sync += r_open.eq(0)
        answer = Mux(self.error, SLVERR, OKAY)
        with m.If(does_write):
            m.d.sync += [
                has_aw.eq(0), has_w.eq(0), b_open.eq(1), self.bresp.eq(answer), read_next.eq(1),
            ]  # fmt: skip
        with m.If(does_read):
            m.d.sync += [
                has_ar.eq(0), r_open.eq(1), self.rresp.eq(answer),
                self.rdata.eq(self.read_data), read_next.eq(0),
            ]  # fmt: skip


class WishboneSlave(Unit):
    """Turns cycles of Wishbone into accesses of registers.

    Members
    -------
    Those of `wishbone_members`, and those of `register_port` with the opposite direction.

    Timing
    ------
    `ack`, or `err` where the register refuses, is 1 in the cycle after the access; an access takes
    two cycles.
    """

    def __init__(self) -> None:
        super().__init__(
            {**wishbone_members(), **_port_out()}, module_name="halut_wishbone", has_reset=True
        )

    def build(self, m: Module, platform: object) -> None:
        running = self.running(platform)
        answered, failed = Signal(), Signal()
        m.d.comb += [
            self.select.eq(running & self.cyc & self.stb & ~answered),
            self.write.eq(self.we),
            self.address.eq(self.adr << 2),
            self.data.eq(self.dat_w),
            self.strobe.eq(self.sel),
            self.ack.eq(running & answered & ~failed),
            self.err.eq(running & answered & failed),
        ]
        m.d.sync += [answered.eq(self.select), failed.eq(self.error)]
        with m.If(self.select):
            m.d.sync += self.dat_r.eq(self.read_data)
