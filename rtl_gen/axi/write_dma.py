# amaranth: UnusedElaboratable=no
"""Writes words to memory in bursts, from any byte on."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named
from .config import AxiConfig
from .fifo import Fifo
from .transfer import burst_beats, transfer_command, word_payload, words_of

__all__ = ["WriteDma", "write_members"]


def write_members(config: AxiConfig) -> dict[str, Any]:
    """Members of the write channels of an AXI4 master."""
    return {
        "awaddr": Out(config.address_bits),
        "awlen": Out(8),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(config.data_bits),
        "wstrb": Out(config.word_bytes),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
    }


class WriteDma(Unit):
    """Writes words to memory in bursts, from any byte on.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    command : In(stream.Signature(transfer_command(config)))
        Where, and how many bytes: as many as come at `i` up to its last word.
    i : In(stream.Signature(word_payload(config)))
    awaddr ... bready
        See `write_members`.
    abort : In(1)
        Begins no burst; those that began are finished.
    clear : In(1)
        Forget the command and the words; while `abort` and `idle`.
    idle : Out(1)
        No transfer is open.
    done : Out(1)
        In this cycle the last burst of a command was answered, and well.
    failed : Out(1)
        In this cycle the bus answered with an error to the burst at `failed_address`.
    failed_address : Out(address_bits)

    Timing
    ------
    A burst begins when all of its words are there, so that the bus never waits for the
    accelerator. Bursts end at multiples of their longest size.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "command": In(stream.Signature(transfer_command(c))),
                "i": In(stream.Signature(word_payload(c))),
                **write_members(c),
                "abort": In(1),
                "clear": In(1),
                "idle": Out(1),
                "done": Out(1),
                "failed": Out(1),
                "failed_address": Out(c.address_bits),
            },
            module_name=f"halut_write_dma_d{c.data_bits}_a{c.address_bits}_b{c.burst_beats}"
            f"_o{c.outstanding}",
            has_reset=True,
        )
        self.depth = 2 * c.burst_beats
        self.shift = c.word_bytes.bit_length() - 1

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        words = Fifo(width=c.data_bits + c.word_bytes, depth=self.depth)
        bursts = Fifo(width=c.address_bits + 1, depth=max(2, c.outstanding))
        self.add(m, "words", words, platform)
        self.add(m, "bursts", bursts, platform)
        m.d.comb += [words.clear.eq(self.clear), bursts.clear.eq(self.clear)]
        running = self.running(platform)
        active = Signal()
        taken = named(m, "command_taken", self.command.valid & self.command.ready)
        offset = Signal(self.shift, reset_less=True)
        m.d.comb += self.command.ready.eq(running & ~active & ~self.abort)
        with m.If(taken):
            m.d.sync += [active.eq(1), offset.eq(self.command.payload.address[: self.shift])]
        with m.If(self.clear):
            m.d.sync += active.eq(0)
        self._align(m, words, active & running, taken, offset)
        self._write(m, platform, words, bursts, active, taken)
        m.d.comb += [
            self.bready.eq(running),
            bursts.o.ready.eq(self.bvalid & self.bready),
            self.failed.eq(bursts.o.ready & self.bresp[1]),
            self.failed_address.eq(bursts.o.payload[1:]),
            self.done.eq(bursts.o.ready & ~self.bresp[1] & bursts.o.payload[0]),
        ]

    def _align(self, m: Module, words: Fifo, active: Value, taken: Signal, offset: Signal) -> None:
        """Shift words to their place in those of the bus; strobes say which bytes are there."""
        c = self.config
        n = c.word_bytes
        ended, tail = Signal(), Signal()
        carry = Signal(c.data_bits, reset_less=True)
        carry_strobe = Signal(n)
        given = self.i.payload
        strobe = Signal(n, name="given_strobe")
        m.d.comb += strobe.eq(Cat(given.bytes > k for k in range(n)))
        data = named(
            m, "shifted", Cat(given.data, Const(0, c.data_bits)) << Cat(Const(0, 3), offset)
        )
        strobes = named(m, "shifted_strobe", Cat(strobe, Const(0, n)) << offset)
        low, high = data[: c.data_bits], data[c.data_bits : 2 * c.data_bits]
        m.d.comb += [
            self.i.ready.eq(active & ~ended & words.i.ready & ~self.abort),
            words.i.valid.eq((self.i.valid & self.i.ready) | tail),
            words.i.payload.eq(
                Mux(tail, Cat(carry, carry_strobe), Cat(low | carry, strobes[:n] | carry_strobe))
            ),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [carry.eq(high), carry_strobe.eq(strobes[n : 2 * n])]
            with m.If(given.last):
                m.d.sync += [ended.eq(1), tail.eq(strobes[n : 2 * n].any())]
        with m.If(tail & words.i.ready):
            m.d.sync += tail.eq(0)
        with m.If(taken):
            m.d.sync += [ended.eq(0), carry.eq(0), carry_strobe.eq(0)]
        with m.If(self.clear):
            m.d.sync += tail.eq(0)

    def _write(
        self,
        m: Module,
        platform: object,
        words: Fifo,
        bursts: Fifo,
        active: Signal,
        taken: Signal,
    ) -> None:
        """Send bursts of the words that are there."""
        c = self.config
        running = self.running(platform)
        asking = Signal()
        place = Signal(c.address_bits - self.shift, name="next_word", reset_less=True)
        left = Signal(33 - self.shift, name="words_left", reset_less=True)
        open_words = Signal(range(c.burst_beats + 1))
        beats = Signal(range(c.burst_beats + 1))
        sent = named(m, "word_sent", self.wvalid & self.wready)
        ends = named(m, "burst_ends", (open_words == 1) & sent)
        there: Value = words.level >= beats
        begin = named(
            m,
            "burst_begins",
            active & left.any() & ~self.abort & ~asking & bursts.i.ready
            & Mux(ends, words.level > beats, ~open_words.any() & there),
        )  # fmt: skip
        address = self.command.payload.address
        burst_address = Cat(Const(0, self.shift), place)
        m.d.comb += [
            beats.eq(burst_beats(c, place, left)),
            self.awvalid.eq(asking & running),
            self.wvalid.eq(open_words.any() & running),
            self.wlast.eq(open_words == 1),
            Cat(self.wdata, self.wstrb).eq(words.o.payload),
            words.o.ready.eq(sent),
            bursts.i.valid.eq(begin),
            bursts.i.payload.eq(Cat(left == beats, burst_address)),
            self.idle.eq(~asking & ~open_words.any() & ~bursts.o.valid),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += asking.eq(0)
        with m.If(taken):
            m.d.sync += [
                place.eq(address[self.shift :]),
                left.eq(words_of(c, self.command.payload)),
            ]
        m.d.sync += open_words.eq(open_words - sent + Mux(begin, beats, 0))
        with m.If(begin):
            m.d.sync += [
                asking.eq(1),
                self.awaddr.eq(burst_address),
                self.awlen.eq(beats - 1),
                place.eq(place + beats),
                left.eq(left - beats),
            ]
            with m.If(left == beats):
                m.d.sync += active.eq(0)
