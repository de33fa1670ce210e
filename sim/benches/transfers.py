"""Moves items through the top module as ``sim/pump.cpp`` does: the inside of `sim.transfers`.

The environment's ``HALUT_TRANSFERS`` is a folder; ``sim/pump.cpp`` says which files are read and
written there. ``config.json`` is the configuration.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Event

from rtl_gen.tiled_config import config_from_dict
from sim.benches.matmul import TB
from sim.streams import StreamDriver
from sim.transfers import STREAMS, read_plan


class _Mover:
    """Both sources and the sink, and what they count."""

    def __init__(self, tb: TB, plan: dict[str, Any]) -> None:
        self.tb = tb
        self.plan = plan
        self.drivers: dict[str, StreamDriver] = {"program": tb.words, "input": tb.rows}
        self.origin = tb.cycle
        self.changed = Event()
        self.done = dict.fromkeys(STREAMS, 0)
        self.reports: dict[str, list[tuple[int, ...]]] = {stream: [] for stream in STREAMS}
        self.data: list[int] = []
        self.marks: list[tuple[int, ...]] = []
        self.stalled = 0
        self.n_moved = 0

    @property
    def cycle(self) -> int:
        return self.tb.cycle - self.origin

    def receive(self, item: tuple[int, ...]) -> None:
        index = item[1] if len(item) == 3 else 0
        stalls = self.tb.results.stall_cycles
        self.data.append(item[0])
        self.marks.append((self.cycle, stalls - self.stalled, index, item[-1]))
        self.stalled = stalls
        self.n_moved += 1
        self.changed.set()

    async def send(self, stream: str) -> None:
        """Send a stream's segments."""
        driver, items = self.drivers[stream], self.plan["items"][stream]
        other = STREAMS[1 - STREAMS.index(stream)]
        sent: list[int] = []

        def on_sent() -> None:
            sent.append(self.cycle)
            self.n_moved += 1

        for n_items, after_segments, after_results, wait_cycles in self.plan["segments"][stream]:
            while self.done[other] < after_segments or len(self.data) < after_results:
                self.changed.clear()
                await self.changed.wait()
            for _ in range(wait_cycles):
                await self.tb.edge
            start, stalls = self.cycle, driver.stall_cycles
            part = [item if len(item) > 1 else item[0] for item in items[:n_items]]
            del items[:n_items]
            sent.clear()
            await driver.send(part, self.plan["pauses"][stream], on_sent)
            self.reports[stream].append((start, sent[0], sent[-1], driver.stall_cycles - stalls))
            self.done[stream] += 1
            self.changed.set()


@cocotb.test()
async def transfers(dut: Any) -> None:
    """Every segment when it may; every result until no more is due, and none after that."""
    folder = Path(os.environ["HALUT_TRANSFERS"])
    tb = TB(dut, config_from_dict(json.loads((folder / "config.json").read_text())))
    plan = read_plan(folder)
    await tb.start(plan["pauses"]["output"])
    mover = _Mover(tb, plan)
    tb.results.receive = mover.receive
    sending = [cocotb.start_soon(mover.send(stream)) for stream in STREAMS]
    n_due, stuck = plan["n_due"], plan["stuck_cycles"]
    seen, idle = -1, 0
    while len(mover.data) < n_due or not all(task.done() for task in sending):
        await tb.edge
        idle = 0 if mover.n_moved != seen else idle + 1
        seen = mover.n_moved
        assert idle <= stuck, (
            f"{n_due} results must come out, but after {len(mover.data)} nothing moved "
            f"for {idle} cycles"
        )
    for _ in range(plan["drain_cycles"]):
        await tb.edge
    size = (len(dut.o_data) + 7) // 8
    (folder / "output.bin").write_bytes(b"".join(x.to_bytes(size, "little") for x in mover.data))
    np.array(mover.marks, dtype=np.int64).tofile(folder / "marks.bin")
    reports = [report for stream in STREAMS for report in mover.reports[stream]]
    np.array(reports, dtype=np.int64).tofile(folder / "segments.bin")
