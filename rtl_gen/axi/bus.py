# amaranth: UnusedElaboratable=no
"""How descriptors, data and results move: by a master, or as packets of streams."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.unit import Unit, named
from .collector import MOST_JOBS
from .config import AxiConfig
from .fifo import Fifo
from .read_dma import ReadDma, read_members
from .streams import StreamSink, StreamSource, stream_members
from .transfer import transfer_command, word_payload
from .wires import connect_members, connect_stream, prefixed
from .write_dma import WriteDma, write_members

__all__ = ["MasterBus", "StreamBus", "bus_unit"]

_BURST_INCREMENTS = 1
_CACHE = 0b0011  # normal memory, not cached, may be buffered


def _inner_members(config: AxiConfig) -> dict[str, Any]:
    """Members towards the block; see `MasterBus`."""
    command = stream.Signature(transfer_command(config))
    words = stream.Signature(word_payload(config))
    bits = config.address_bits
    return {
        "read": In(command),
        "data": In(1),
        "write": In(command),
        "word": Out(words),
        "result": In(words),
        "stop": In(1),
        "clear": In(1),
        "quiet": Out(1),
        "moved": Out(1),
        "written": Out(1),
        "waiting": Out(1),
        "ended": Out(1),
        "failed": Out(3),
        "failed_read": Out(bits),
        "failed_write": Out(bits),
    }


def _fixed(config: AxiConfig) -> dict[str, tuple[int, int]]:
    """Width and value of what is the same in every burst."""
    size = config.word_bytes.bit_length() - 1
    return {
        "id": (1, 0), "size": (3, size), "burst": (2, _BURST_INCREMENTS), "lock": (1, 0),
        "cache": (4, _CACHE), "prot": (3, 0), "qos": (4, 0),
    }  # fmt: skip


def _master_members(config: AxiConfig) -> dict[str, Any]:
    """Members of an AXI4 master, by the names of the specification."""
    members: dict[str, Any] = {}
    for channel in ("aw", "ar"):
        members |= {f"{channel}{k}": Out(bits) for k, (bits, _) in _fixed(config).items()}
    return members | {"bid": In(1), "rid": In(1)} | write_members(config) | read_members(config)


class MasterBus(Unit):
    """An AXI4 master: reads what is asked for, writes results.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    m_axi_*
        The master.
    read, write : In(stream.Signature(transfer_command(config)))
        What to read next; where the next results go.
    data : In(1)
        What `read` asks for is data, not a descriptor.
    word : Out(stream.Signature(word_payload(config)))
        What was read.
    result : In(stream.Signature(word_payload(config)))
        What is written, for each `write` up to a last word.
    stop, clear : In(1)
        `stop`: begin nothing more. `clear`, while `stop` and `quiet`: forget what was asked for.
    quiet : Out(1)
        No transfer is open.
    moved : Out(1)
        Something moves in this cycle.
    written : Out(1)
        In this cycle the results of one `write` are all written.
    waiting, ended : Out(1)
        Of streams, see `StreamSource`.
    failed : Out(3)
        In this cycle: a read is answered with an error, a write is, a packet is broken.
    failed_read, failed_write : Out(address_bits)
        Where.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        super().__init__(
            {**prefixed("m_axi", _master_members(config)), **_inner_members(config)},
            module_name=f"halut_master_d{config.data_bits}_a{config.address_bits}"
            f"_b{config.burst_beats}_o{config.outstanding}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        reads, writes = ReadDma(c), WriteDma(c)
        places = Fifo(width=c.address_bits + 32, depth=MOST_JOBS)
        for name, unit in (("reads", reads), ("writes", writes), ("places", places)):
            self.add(m, name, unit, platform)
            m.d.comb += unit.clear.eq(self.clear)
        connect_members(m, self, "m_axi", reads, read_members(c))
        connect_members(m, self, "m_axi", writes, write_members(c))
        for channel in ("aw", "ar"):
            for name, (_, value) in _fixed(c).items():
                m.d.comb += getattr(self, f"m_axi_{channel}{name}").eq(value)
        connect_stream(m, self.read, reads.command)
        connect_stream(m, self.write, places.i)
        connect_stream(m, places.o, writes.command)
        connect_stream(m, reads.o, self.word)
        connect_stream(m, self.result, writes.i)
        moves = Cat(
            getattr(unit, f"{channel}valid") & getattr(unit, f"{channel}ready")
            for channel, unit in (
                ("ar", reads), ("r", reads), ("aw", writes), ("w", writes), ("b", writes),
            )
        )  # fmt: skip
        m.d.comb += [
            reads.abort.eq(self.stop),
            writes.abort.eq(self.stop),
            self.quiet.eq(reads.idle & writes.idle),
            self.moved.eq(named(m, "moves", moves).any()),
            self.written.eq(writes.done),
            self.waiting.eq(0),
            self.ended.eq(0),
            self.failed.eq(Cat(reads.failed, writes.failed)),
            self.failed_read.eq(reads.failed_address),
            self.failed_write.eq(writes.failed_address),
        ]


class StreamBus(Unit):
    """Two AXI4-Streams in place of the master.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    s_axis_*
        Packets: a descriptor and its data.
    m_axis_*
        A packet for the results of each run.
    read, ..., failed_write
        See `MasterBus`; addresses do not matter.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        sides: dict[str, Any] = {}
        for prefix in ("s_axis", "m_axis"):
            sides |= prefixed(prefix, stream_members(config, prefix))
        super().__init__(
            {**sides, **_inner_members(config)},
            module_name=f"halut_streams_d{config.data_bits}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        source, sink = StreamSource(c), StreamSink(c)
        self.add(m, "source", source, platform)
        self.add(m, "sink", sink, platform)
        connect_members(m, self, "s_axis", source, stream_members(c, "s_axis"))
        connect_members(m, self, "m_axis", sink, stream_members(c, "m_axis"))
        connect_stream(m, self.read, source.command)
        connect_stream(m, source.o, self.word)
        connect_stream(m, self.result, sink.i)
        moves = Cat(source.tvalid & source.tready, sink.tvalid & sink.tready)
        m.d.comb += [
            source.data.eq(self.data),
            source.clear.eq(self.clear),
            source.abort.eq(self.stop),
            sink.abort.eq(self.stop),
            # The results say by themselves where they end.
            self.write.ready.eq(1),
            self.quiet.eq(source.idle & sink.idle),
            self.moved.eq(moves.any()),
            self.written.eq(sink.done),
            self.waiting.eq(source.waiting),
            self.ended.eq(source.ended),
            self.failed.eq(Cat(0, 0, source.failed)),
            self.failed_read.eq(0),
            self.failed_write.eq(0),
        ]


def bus_unit(config: AxiConfig) -> MasterBus | StreamBus:
    """The bus of a configuration."""
    return StreamBus(config) if config.bus == "stream" else MasterBus(config)
