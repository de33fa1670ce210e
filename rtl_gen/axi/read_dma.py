# amaranth: UnusedElaboratable=no
"""Reads memory in bursts and gives it as aligned words."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named
from .config import AxiConfig
from .fifo import Fifo
from .transfer import burst_beats, transfer_command, word_payload, words_of

__all__ = ["ReadDma", "read_members"]


def read_members(config: AxiConfig) -> dict[str, Any]:
    """Members of the read channels of an AXI4 master."""
    return {
        "araddr": Out(config.address_bits),
        "arlen": Out(8),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(config.data_bits),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


class ReadDma(Unit):
    """Reads memory in bursts and gives what was asked for, from the first byte, word by word.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    command : In(stream.Signature(transfer_command(config)))
        The next one is taken while data of those before are on their way.
    o : Out(stream.Signature(word_payload(config)))
    araddr ... rready
        See `read_members`.
    abort : In(1)
        Asks for nothing more; what arrives is dropped.
    clear : In(1)
        Forget the commands; while `abort` and `idle`.
    idle : Out(1)
        No transfer is open.
    failed : Out(1)
        The bus answered with an error: in this cycle, at `failed_address`.
    failed_address : Out(address_bits)

    Timing
    ------
    A burst is asked for only when there is room for all of it, so `rready` is always 1. Bursts end
    at multiples of their longest size: none crosses a boundary of 4 kB. One word per cycle, and
    one cycle more for each command; one again where the first byte does not begin a word.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "command": In(stream.Signature(transfer_command(c))),
                "o": Out(stream.Signature(word_payload(c))),
                **read_members(c),
                "abort": In(1),
                "clear": In(1),
                "idle": Out(1),
                "failed": Out(1),
                "failed_address": Out(c.address_bits),
            },
            module_name=f"halut_read_dma_d{c.data_bits}_a{c.address_bits}_b{c.burst_beats}"
            f"_o{c.outstanding}",
            has_reset=True,
        )
        self.depth = max(2, c.burst_beats * c.outstanding)
        self.shift = c.word_bytes.bit_length() - 1

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        words = Fifo(width=c.data_bits + 1, depth=self.depth)
        jobs = Fifo(width=c.address_bits + 32, depth=2)
        self.add(m, "words", words, platform)
        self.add(m, "jobs", jobs, platform)
        m.d.comb += [
            words.i.payload.eq(Cat(self.rdata, self.rresp[1])),
            words.i.valid.eq(self.rvalid),
            self.rready.eq(self.running(platform)),
            words.clear.eq(self.clear),
            jobs.clear.eq(self.clear),
        ]
        self._ask(m, platform, words, jobs)
        self._give(m, words, jobs)

    def _ask(self, m: Module, platform: object, words: Fifo, jobs: Fifo) -> None:
        """Split commands into bursts."""
        c = self.config
        running = self.running(platform)
        active, asking = Signal(), Signal()
        place = Signal(c.address_bits - self.shift, name="next_word", reset_less=True)
        left = Signal(33 - self.shift, name="words_left", reset_less=True)
        room = Signal(range(self.depth + 1), init=self.depth)
        bursts = Signal(range(c.outstanding + 1))
        beats = Signal(range(c.burst_beats + 1))
        m.d.comb += beats.eq(burst_beats(c, place, left))
        may_ask = named(
            m,
            "may_ask",
            active & ~self.abort & (~asking | self.arready) & (room >= beats)
            & (bursts != c.outstanding),
        )  # fmt: skip
        taken = named(m, "command_taken", self.command.valid & self.command.ready)
        address = self.command.payload.address
        m.d.comb += [
            self.command.ready.eq(running & ~active & jobs.i.ready & ~self.abort),
            jobs.i.valid.eq(taken),
            jobs.i.payload.eq(Cat(address, self.command.payload.bytes)),
            self.arvalid.eq(asking & running),
        ]
        with m.If(self.arready):
            m.d.sync += asking.eq(0)
        with m.If(taken):
            m.d.sync += [
                active.eq(1),
                place.eq(address[self.shift :]),
                left.eq(words_of(c, self.command.payload)),
            ]
        with m.If(may_ask):
            m.d.sync += [
                asking.eq(1),
                self.araddr.eq(Cat(Const(0, self.shift), place)),
                self.arlen.eq(beats - 1),
                place.eq(place + beats),
                left.eq(left - beats),
                active.eq(left != beats),
            ]
        with m.If(self.clear):
            m.d.sync += active.eq(0)
        popped = words.o.valid & words.o.ready
        ended = self.rvalid & self.rready & self.rlast
        m.d.sync += [
            room.eq(room - Mux(may_ask, beats, 0) + popped),
            bursts.eq(bursts + may_ask - ended),
        ]
        m.d.comb += self.idle.eq((room == self.depth) & ~asking)

    def _give(self, m: Module, words: Fifo, jobs: Fifo) -> None:
        """Shift words to where the first byte is the lowest."""
        c = self.config
        n, shift = c.word_bytes, self.shift
        active, primed = Signal(name="giving"), Signal()
        offset = Signal(shift, reset_less=True)
        left = Signal(32, name="bytes_left", reset_less=True)
        before = Signal(c.data_bits, reset_less=True)
        place = Signal(c.address_bits - shift, name="word_place", reset_less=True)
        word, wrong = words.o.payload[:-1], words.o.payload[-1]
        aligned = named(m, "aligned", ~offset.any())
        # Bytes of the word before that were not given.
        kept = named(m, "kept_bytes", n - offset)
        needs = named(m, "needs_word", aligned | (left > kept))
        last = named(m, "last_word", left <= n)
        ready = named(m, "word_there", active & (aligned | primed) & (~needs | words.o.valid))
        bad = named(m, "bad_word", words.o.valid & wrong)
        move = named(m, "moved", self.o.valid & self.o.ready)
        both = Cat(before, word)
        shifted: Value = both >> Cat(Const(0, 3), offset)
        m.d.comb += [
            self.o.valid.eq(ready & ~self.abort & ~(needs & bad)),
            self.o.payload.data.eq(Mux(aligned, word, shifted)),
            self.o.payload.bytes.eq(Mux(last, left, n)),
            self.o.payload.last.eq(last),
            words.o.ready.eq(self.abort | (active & ~aligned & ~primed) | (move & needs)),
            jobs.o.ready.eq(~active & ~self.abort),
            self.failed.eq(active & bad & ~self.abort),
            self.failed_address.eq(Cat(Const(0, shift), place)),
        ]
        with m.If(jobs.o.valid & jobs.o.ready):
            m.d.sync += [
                active.eq(1),
                primed.eq(0),
                offset.eq(jobs.o.payload[:shift]),
                place.eq(jobs.o.payload[shift : c.address_bits]),
                left.eq(jobs.o.payload[c.address_bits :]),
            ]
        with m.If(words.o.valid & words.o.ready):
            m.d.sync += [before.eq(word), place.eq(place + 1), primed.eq(1)]
        with m.If(move):
            m.d.sync += left.eq(left - n)
            with m.If(last):
                m.d.sync += active.eq(0)
        with m.If(self.clear):
            m.d.sync += active.eq(0)
