"""Testbench of `halut_axi`: cycles of a layer with a memory of a given rate and latency.

See `sim.axi_timing`, which writes ``timing.json`` and reads ``cycles.json``.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from rtl_gen.axi.image import loads, run_descriptor
from sim.benches.axi_host import Host

_GUARD_CYCLES = 2_000_000
_LINE = 64


class TimedMemory:
    """Memory behind an AXI4 master, with a rate and a latency.

    Attributes
    ----------
    data : bytearray
    moved : dict of str to int
        Bytes read and written, whole words.
    """

    def __init__(self, dut: Any, word_bytes: int, rate: float, latency: int, shared: bool) -> None:
        self.dut, self.word, self.latency, self.shared = dut, word_bytes, latency, shared
        self.rate = min(rate, word_bytes)
        self.data = bytearray()
        self.moved = {"read": 0, "write": 0}
        self.reads: deque[list[int]] = deque()  # address, words left, cycle of the first word
        self.writes: deque[list[int]] = deque()
        self.answers: deque[int] = deque()
        self.credit = {"read": float(word_bytes), "write": float(word_bytes)}
        self.free_from, self.was_read = 0, False
        for name in ("arready", "awready", "wready", "rvalid", "bvalid", "rlast", "rresp", "bresp"):
            self.port(name).value = 0

    def port(self, name: str) -> Any:
        return getattr(self.dut, f"m_axi_{name}")

    def is_one(self, name: str) -> bool:
        return bool(int(self.port(name).value))

    async def run(self) -> None:
        """Answer, cycle by cycle; after a reset."""
        now = 0
        while True:
            await RisingEdge(self.dut.clk_i)
            self._take(now)
            self._offer(now)
            now += 1

    def _take(self, now: int) -> None:
        """What moved at this edge."""
        for name, queue in (("ar", self.reads), ("aw", self.writes)):
            if self.is_one(f"{name}ready") and self.is_one(f"{name}valid"):
                address = int(self.port(f"{name}addr").value)
                # A shared bus showed it one cycle before.
                wait = self.latency - 1 if self.shared else self.latency
                due = now + (wait if self.shared or name == "ar" else 1)
                queue.append([address, int(self.port(f"{name}len").value) + 1, due])
        if self.is_one("rvalid"):
            assert self.is_one("rready"), "the master always takes what is read"
            self._moved("read", self.reads, now)
        if self.is_one("wready") and self.is_one("wvalid"):
            address, data = self.writes[0][0], int(self.port("wdata").value)
            strobes = int(self.port("wstrb").value)
            for k in range(self.word):
                if strobes >> k & 1:
                    self.data[address + k] = data >> 8 * k & 255
            if self._moved("write", self.writes, now):
                self.answers.append(now + (1 if self.shared else self.latency))
        if self.is_one("bvalid") and self.is_one("bready"):
            self.answers.popleft()
            self.free_from = now + 1

    def _moved(self, kind: str, queue: deque[list[int]], now: int) -> bool:
        """Count a word; returns whether it was its burst's last."""
        self.moved[kind] += self.word
        self.credit[kind] -= self.word
        queue[0][0] += self.word
        queue[0][1] -= 1
        if queue[0][1]:
            return False
        queue.popleft()
        self.free_from = now + 1
        return True

    def _offer(self, now: int) -> None:
        """What is shown at the next edge."""
        for kind in self.credit:
            self.credit[kind] = min(self.credit[kind] + self.rate, self.word)
        ready = {"ar": True, "aw": True}
        if self.shared:
            busy = self.reads or self.writes or self.answers or now < self.free_from
            busy = busy or self.is_one("arready") or self.is_one("awready")
            wanted = {name: not busy and self.is_one(f"{name}valid") for name in ready}
            ready["ar"] = wanted["ar"] and not (self.was_read and wanted["aw"])
            ready["aw"] = wanted["aw"] and not ready["ar"]
            if any(ready.values()):
                self.was_read = ready["ar"]
        for name, value in ready.items():
            self.port(f"{name}ready").value = int(value)
        read = self._due(self.reads, "read", now)
        self.port("rvalid").value = int(read)
        if read:
            address, left, _ = self.reads[0]
            raw = self.data[address : address + self.word]
            self.port("rdata").value = int.from_bytes(raw, "little")
            self.port("rlast").value = int(left == 1)
        self.port("wready").value = int(self._due(self.writes, "write", now))
        self.port("bvalid").value = int(bool(self.answers) and self.answers[0] <= now + 1)

    def _due(self, queue: deque[list[int]], kind: str, now: int) -> bool:
        return bool(queue) and queue[0][2] <= now + 1 and self.credit[kind] >= self.word


@cocotb.test()
async def layer(dut: Any) -> None:
    """A chain of tiles: every result equals the model's; cycles are counted."""
    folder = Path(os.environ["HALUT_JOB"])
    job = json.loads((folder / "timing.json").read_text())
    tb = Host(dut)
    c = tb.config
    memory = TimedMemory(
        dut, c.word_bytes, job["bytes_per_cycle"], job["latency_cycles"], job["shared"]
    )
    if job["wrong_bit"]:
        tb.expected.view(f"u{tb.expected.itemsize}").flat[-1] ^= 1

    def place(data: bytes) -> int:
        memory.data += bytes(-len(memory.data) % _LINE)
        address = len(memory.data)
        memory.data += data
        return address

    place(bytes(_LINE))
    parts = loads(c, tb.program)
    tables = [place(load.data) for load in parts]
    items = slice(0, tb.n_items)
    rows = place(tb.input_bytes(items))
    n_bytes = tb.n_items * c.result_bytes
    targets = [place(bytes(n_bytes)) for _ in range(job["tiles"])]
    count = job["tiles"] * (len(parts) + 1)
    first = place(bytes(32 * count))
    k = 0
    for target in targets:
        for load, source in [*zip(parts, tables, strict=True), (None, rows)]:
            at = first + 32 * k
            more = {"next": at + 32, "end": int(k == count - 1)}
            if load is None:
                raw = run_descriptor(c, source, target, tb.n_items, **more)
            else:
                raw = load.descriptor(c, source, **more)
            memory.data[at : at + 32] = raw
            k += 1
    memory.data += bytes(_LINE)
    await tb.start()
    cocotb.start_soon(memory.run())
    before = await tb.read("BUSY_CYCLES")
    await tb.command("DOORBELL", first)
    start = tb.cycle
    while await tb.read("COMPLETED") != count:
        assert tb.cycle - start < _GUARD_CYCLES, "the chain must end"
    assert await tb.read("ERROR") == 0
    cycles = await tb.read("BUSY_CYCLES") - before
    compared = sum(
        tb.compare(items, bytes(memory.data[target : target + n_bytes])) for target in targets
    )
    assert compared == job["tiles"] * tb.expected.size > 0
    found = {"cycles": cycles, **{f"{kind}_bytes": n for kind, n in memory.moved.items()}}
    (folder / "cycles.json").write_text(json.dumps(found))
