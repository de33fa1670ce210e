# amaranth: UnusedElaboratable=no
"""AXI4-Streams in place of the bus master: packets of commands, packets of results."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named
from .config import AxiConfig
from .transfer import transfer_command, word_payload

__all__ = ["StreamSink", "StreamSource", "stream_members"]


def stream_members(config: AxiConfig, prefix: str) -> dict[str, Any]:
    """Members of an AXI4-Stream that comes in (``s_axis``) or leaves (``m_axis``)."""
    there = In if prefix == "s_axis" else Out
    back = Out if prefix == "s_axis" else In
    return {
        "tdata": there(config.data_bits),
        "tkeep": there(config.word_bytes),
        "tlast": there(1),
        "tvalid": there(1),
        "tready": back(1),
    }


class StreamSource(Unit):
    """Takes packets apart: of a descriptor, and of the data that it asks for.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    tdata, tkeep, tlast, tvalid, tready
        A packet: 32 bytes of a descriptor, then its data, without a gap.
    command : In(stream.Signature(transfer_command(config)))
        How many bytes come next; the address does not matter.
    data : In(1)
        With the command: it is data, with which the packet must end; else it is a descriptor.
    o : Out(stream.Signature(word_payload(config)))
    waiting : Out(1)
        A packet is there.
    ended : Out(1)
        The packet ended with the last word that was taken.
    abort : In(1)
        Takes what is left of the packet and drops it.
    clear : In(1)
        Forget the command.
    idle : Out(1)
        No packet has begun.
    failed : Out(1)
        In this cycle a word comes that is not the packet's last and should be, or the other way
        round, or bytes are missing.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        super().__init__(
            {
                **stream_members(config, "s_axis"),
                "command": In(stream.Signature(transfer_command(config))),
                "data": In(1),
                "o": Out(stream.Signature(word_payload(config))),
                "waiting": Out(1),
                "ended": Out(1),
                "abort": In(1),
                "clear": In(1),
                "idle": Out(1),
                "failed": Out(1),
            },
            module_name=f"halut_stream_source_d{config.data_bits}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        n = self.config.word_bytes
        running = self.running(platform)
        active, is_data, inside, failed = Signal(), Signal(), Signal(), Signal(name="had_failed")
        left = Signal(32, name="bytes_left", reset_less=True)
        last = named(m, "last_word", left <= n)
        expected = named(
            m, "expected_keep", Mux(last, Cat(left > k for k in range(n)), (1 << n) - 1)
        )
        # The last word of a descriptor may end the packet, as there may be no data.
        wrong_end = named(m, "wrong_end", Mux(last, is_data & ~self.tlast, self.tlast))
        bad = named(m, "bad_word", active & self.tvalid & (wrong_end | (self.tkeep != expected)))
        drops = named(m, "drops", self.abort & inside)
        taken = named(m, "word_taken", self.tvalid & self.tready)
        gives = named(m, "gives", active & ~self.abort & ~failed)
        m.d.comb += [
            self.command.ready.eq(running & ~active & ~self.abort),
            self.tready.eq(running & (drops | (gives & (self.o.ready | bad)))),
            self.o.valid.eq(gives & self.tvalid & ~bad),
            self.o.payload.data.eq(self.tdata),
            self.o.payload.bytes.eq(Mux(last, left, n)),
            self.o.payload.last.eq(last),
            self.failed.eq(gives & bad),
            self.waiting.eq(self.tvalid),
            self.ended.eq(~inside),
            self.idle.eq(~inside),
        ]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                active.eq(1), left.eq(self.command.payload.bytes), is_data.eq(self.data),
            ]  # fmt: skip
        with m.If(taken):
            m.d.sync += inside.eq(~self.tlast)
            with m.If(gives):
                m.d.sync += [left.eq(left - n), active.eq(~last), failed.eq(bad)]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), failed.eq(0)]


class StreamSink(Unit):
    """Sends the results of each run as a packet.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    i : In(stream.Signature(word_payload(config)))
    tdata, tkeep, tlast, tvalid, tready
        `tkeep` is that of whole words but in the last one.
    abort : In(1)
        Takes nothing more. A packet that began is ended by a word without bytes.
    idle : Out(1)
        No packet has begun.
    done : Out(1)
        In this cycle a packet's last word moves, and nothing is missing.

    Timing
    ------
    A word moves in the cycle after it was taken, at one per cycle.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(word_payload(config))),
                **stream_members(config, "m_axis"),
                "abort": In(1),
                "idle": Out(1),
                "done": Out(1),
            },
            module_name=f"halut_stream_sink_d{config.data_bits}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        n = self.config.word_bytes
        running = self.running(platform)
        full, inside = Signal(), Signal()
        free = named(m, "free", ~full | self.tready)
        ends = named(m, "ends_early", self.abort & inside & ~full)
        m.d.comb += [
            self.tvalid.eq(full & running),
            self.i.ready.eq(running & free & ~self.abort),
            self.idle.eq(~full & ~inside),
            self.done.eq(self.tvalid & self.tready & self.tlast & self.tkeep.any()),
        ]
        with m.If(self.tready):
            m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                full.eq(1),
                inside.eq(~self.i.payload.last),
                self.tdata.eq(self.i.payload.data),
                self.tkeep.eq(Cat(self.i.payload.bytes > k for k in range(n))),
                self.tlast.eq(self.i.payload.last),
            ]
        with m.If(ends):
            m.d.sync += [full.eq(1), inside.eq(0), self.tkeep.eq(0), self.tlast.eq(1)]
