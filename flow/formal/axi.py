# amaranth: UnusedElaboratable=no
"""The bus of `halut_axi` under its checkers."""

from __future__ import annotations

from functools import partial

from flow.formal.prove import Check, Property
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.lite import AxiLiteSlave
from rtl_gen.axi.read_dma import ReadDma
from rtl_gen.axi.streams import StreamSink
from rtl_gen.axi.write_dma import WriteDma
from rtl_gen.config import AcceleratorConfig

__all__ = ["lite_check", "read_check", "sink_check", "write_check"]


def lite_check() -> Check:
    """The slave of the registers, without bound."""
    return Check(
        name="axi_lite",
        unit=AxiLiteSlave,
        checker="axi_lite.v",
        properties=(
            Property("b_stable", "a write's answer stays until taken, and is the register's", 1),
            Property("r_stable", "a read's answer stays until taken, and is the register's", 2),
            Property("b_asked", "no write is answered that was not done", 3),
            Property("r_asked", "no read is answered that was not done", 4),
            Property("once", "an access is done once, when all of its request is there", 5),
            Property("write", "with the address, the data and the strobes that were sent", 6),
            Property("read", "with the address that was sent", 7),
            Property("hang", "a request is answered within four cycles", 8),
            Property("reset", "nothing is taken or answered in a cycle of reset", 9),
        ),
    )


def _config(beats: int, outstanding: int) -> AxiConfig:
    core = AcceleratorConfig(n_codebooks=2, n_prototypes=2, n_outputs=1, input_format="int2")
    return AxiConfig(core=core, data_bits=32, burst_beats=beats, outstanding=outstanding)


def read_check(beats: int, outstanding: int) -> Check:
    """The master's reads, without bound."""
    config = _config(beats, outstanding)
    return Check(
        name=f"axi_read_{beats}_beats_{outstanding}_open",
        unit=partial(ReadDma, config),
        checker="axi_read.v",
        parameters={"BEATS": beats, "ROOM": max(2, beats * outstanding)},
        properties=(
            Property("stable", "an offer stays as it is until taken", 1),
            Property("boundary", "no burst crosses a multiple of its longest size", 2),
            Property("length", "no burst is longer than allowed", 3),
            Property("aligned", "bursts begin at whole words", 4),
            Property("room", "no more words are on their way than there is room for", 5),
            Property("ready", "every word is taken when it comes", 6),
            Property("abort", "nothing is asked for while aborted", 7),
            Property("reset", "nothing is offered or taken in a cycle of reset", 8),
        ),
    )


def write_check(beats: int, outstanding: int) -> Check:
    """The master's writes, without bound."""
    config = _config(beats, outstanding)
    return Check(
        name=f"axi_write_{beats}_beats_{outstanding}_open",
        unit=partial(WriteDma, config),
        checker="axi_write.v",
        parameters={"BEATS": beats},
        properties=(
            Property("aw_stable", "an address stays as it is until taken", 1),
            Property("w_stable", "a word stays as it is until taken", 2),
            Property("boundary", "no burst crosses a multiple of its longest size", 3),
            Property("length", "no burst is longer than allowed", 4),
            Property("aligned", "bursts begin at whole words", 5),
            Property("order", "no word is offered before the address of its burst", 6),
            Property("last", "the last word of a burst, and no other, is marked", 7),
            Property("waits", "once a burst began all of its words are there", 8),
            Property("abort", "no burst begins while aborted", 9),
            Property("reset", "nothing is offered or taken in a cycle of reset", 10),
        ),
    )


def sink_check() -> Check:
    """The stream of results, without bound."""
    config = _config(2, 1)
    return Check(
        name="axi_stream_sink",
        unit=partial(StreamSink, config),
        checker="axi_stream.v",
        parameters={"DATA": config.data_bits, "N": config.word_bytes, "BITS": 3},
        properties=(
            Property("stable", "an offer stays as it is until taken", 1),
            Property("order", "every word leaves once, in order, with its bytes and its last", 2),
            Property("added", "a word without bytes ends a packet that was cut, and none else", 3),
            Property("open", "while idle, every packet that began has ended", 4),
            Property("taken", "nothing is taken while aborted", 5),
            Property("reset", "nothing is offered or taken in a cycle of reset", 6),
        ),
    )
