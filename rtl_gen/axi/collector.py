# amaranth: UnusedElaboratable=no
"""Results of the accelerator become words of the bus."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.serializer import output_payload
from ..units.unit import Unit, named
from .config import AxiConfig
from .fifo import Fifo
from .gearbox import Gearbox
from .transfer import word_payload

__all__ = ["MOST_JOBS", "Collector"]

MOST_JOBS = 4
"""Runs whose rows were sent and whose results are awaited."""


class Collector(Unit):
    """Results of the accelerator become words of the bus, run by run.

    Parameters
    ----------
    config : AxiConfig
    tag : str
        Ends the module's name; another for another configuration.

    Members
    -------
    job : In(stream.Signature(32))
        Row groups of a run. Give it before the run's rows can be done.
    i : In(stream.Signature(output_payload(accelerator)))
        Every result becomes 1, 2 or 4 bytes; the sign fills what it leaves.
    o : Out(stream.Signature(word_payload(config)))
        `last` ends a run: the next run's results begin a new word.
    group : Out(1)
        In this cycle a row group's last transfer is taken.
    waiting : Out(1)
        A run is not finished.
    clear : In(1)
    """

    def __init__(self, config: AxiConfig, tag: str) -> None:
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(32)),
                "i": In(stream.Signature(output_payload(config.accelerator))),
                "o": Out(stream.Signature(word_payload(config))),
                "group": Out(1),
                "waiting": Out(1),
                "clear": In(1),
            },
            module_name=f"halut_collector_{tag}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c, a = self.config, self.config.accelerator
        jobs = Fifo(width=32, depth=MOST_JOBS)
        box = Gearbox(in_bytes=c.beat_bytes, out_bytes=c.word_bytes)
        self.add(m, "jobs", jobs, platform)
        self.add(m, "results", box, platform)
        active, flushing = Signal(), Signal()
        left = Signal(32, name="groups_left", reset_less=True)
        payload = self.i.payload
        element = 8 * c.result_element_bytes
        fields = []
        for k in range(a.output_width):
            wide = Signal(element, name=f"result{k}")
            m.d.comb += wide.eq(payload.data[k])
            fields.append(wide)
        there = [box.o.payload.bytes > k for k in range(c.word_bytes)]
        mask = named(m, "given_bytes", Cat(bit.replicate(8) for bit in there))
        moved = named(m, "beat_moved", self.i.valid & self.i.ready)
        m.d.comb += [
            jobs.i.payload.eq(self.job.payload),
            jobs.i.valid.eq(self.job.valid),
            self.job.ready.eq(jobs.i.ready),
            jobs.o.ready.eq(~active),
            jobs.clear.eq(self.clear),
            box.clear.eq(self.clear),
            box.i.payload.data.eq(Cat(fields)),
            box.i.payload.bytes.eq(c.beat_bytes),
            box.i.valid.eq(self.i.valid & active & ~flushing),
            self.i.ready.eq(box.i.ready & active & ~flushing),
            box.flush.eq(flushing),
            # Bytes that are not given are 0, not what was there before.
            self.o.payload.data.eq(box.o.payload.data & mask),
            self.o.payload.bytes.eq(box.o.payload.bytes),
            # `flushing` rises with the level that holds the last result.
            self.o.payload.last.eq(flushing & box.ends),
            self.o.valid.eq(box.o.valid),
            box.o.ready.eq(self.o.ready),
            self.group.eq(moved & payload.last),
            self.waiting.eq(active | jobs.o.valid),
        ]
        with m.If(jobs.o.valid & jobs.o.ready):
            m.d.sync += [active.eq(1), left.eq(jobs.o.payload)]
        with m.If(self.group):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += flushing.eq(1)
        with m.If(self.o.valid & self.o.ready & self.o.payload.last):
            m.d.sync += [flushing.eq(0), active.eq(0)]
        with m.If(self.clear):
            m.d.sync += [flushing.eq(0), active.eq(0)]
