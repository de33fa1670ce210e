"""Testbench of `halut_axi` with a master: memory, a processor's accesses, results exactly.

See `sim.benches.axi_host` for what it is given.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiSlave

from rtl_gen.axi.descriptor import descriptor
from rtl_gen.axi.image import loads, run_descriptor, switch_descriptor
from rtl_gen.axi.registers import ERRORS
from sim.axi_rules import AxiRules
from sim.benches.axi_host import LIMIT_CYCLES, BusMemory, Host, parts
from sim.fail_fast import fail_fast
from sim.stalls import STALL_PATTERNS, stalls

MEMORY_BYTES = 1 << 18


class TB(Host):
    """The block, its memory, and a processor."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.memory = BusMemory(MEMORY_BYTES)
        # Memory that nobody wrote is not zero.
        self.memory.mem[:] = self.random.randbytes(MEMORY_BYTES)
        self.rules = AxiRules(dut, self.config)
        # What is placed first crosses a boundary of 4 kB.
        self.free = 4096 - self.random.randrange(16, 512)
        self.slave = AxiSlave(
            AxiBus.from_prefix(dut, "m_axi"), dut.clk_i, dut.rst_ni, target=self.memory,
            reset_active_level=False,
        )  # fmt: skip

    async def start(self) -> None:
        cocotb.start_soon(self.rules.run())
        await super().start()

    # Memory

    def place(self, data: bytes, align: int = 1) -> int:
        """Put bytes at the next free address of the alignment; returns it."""
        address = -(-self.free // align) * align
        if align == 1:
            address += self.random.randrange(0, 2 * self.config.word_bytes)
        self.memory.mem[address : address + len(data)] = data
        self.free = address + len(data)
        assert self.free < MEMORY_BYTES - 64, "memory must hold everything"
        return address

    def chain(self, descriptors: list[dict[str, Any]]) -> list[int]:
        """Put descriptors in memory, each a function of `next` and `end`; returns addresses."""
        addresses = [self.place(bytes(32)) for _ in descriptors]
        followers = [*addresses[1:], 0]
        for k, (make, address) in enumerate(zip(descriptors, addresses, strict=True)):
            last = int(k == len(descriptors) - 1)
            raw = make["make"](next=followers[k], end=last, **make.get("more", {}))
            self.memory.mem[address : address + 32] = raw
        return addresses

    def load_steps(self, bank: int = 0) -> list[dict[str, Any]]:
        steps = []
        for load in loads(self.config, self.program, bank):
            source = self.place(load.data)

            def make(load: Any = load, source: int = source, **more: int) -> bytes:
                return load.descriptor(self.config, source, **more)

            steps.append({"make": make})
        return steps

    def run_step(self, items: slice, **more: int) -> tuple[dict[str, Any], int, int]:
        """A run of some items; returns it, where its results come, and their bytes."""
        c = self.config
        data = self.input_bytes(items)
        count = items.stop - items.start
        source = self.place(data)
        n_bytes = count * c.result_bytes
        guard = 2 * c.word_bytes
        target = self.place(b"\xa5" * (n_bytes + 2 * guard)) + guard

        def make(**others: int) -> bytes:
            return run_descriptor(c, source, target, count, **others)

        return {"make": make, "more": more}, target, n_bytes

    def check(self, items: slice, target: int, n_bytes: int) -> int:
        """Compare the results of items with the model; returns how many were compared."""
        size = self.compare(items, bytes(self.memory.mem[target : target + n_bytes]))
        guard = 2 * self.config.word_bytes
        for edge in (target - guard, target + n_bytes):
            around = bytes(self.memory.mem[edge : edge + guard])
            assert around == b"\xa5" * guard, "nothing beside the results may be written"
        return size

    def stall(self, pattern: str) -> None:
        """Let channels pause: "gaps" what the block waits for, "backpressure" what it offers."""
        seed = cocotb.RANDOM_SEED
        gaps = (self.slave.read_if.r_channel, self.slave.write_if.b_channel)
        waits = (
            self.slave.read_if.ar_channel, self.slave.write_if.aw_channel,
            self.slave.write_if.w_channel,
        )  # fmt: skip
        for k, channel in enumerate(gaps):
            channel.set_pause_generator(stalls(pattern, "source", seed + k))
        for k, channel in enumerate(waits):
            channel.set_pause_generator(stalls(pattern, "sink", seed + k))
        self.stall_control(pattern)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@fail_fast
async def registers_are_as_described(dut: Any) -> None:
    """Every register, by the header's addresses: reset value, access, and errors elsewhere."""
    tb = await TB.ready(dut)
    await tb.check_registers()
    assert tb.rules.moved["ar"] == 0


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(pattern=STALL_PATTERNS)
@fail_fast
async def runs_under_stalls(dut: Any, pattern: str) -> None:
    """A program and runs of 1, 2, 3, … items in one chain, at addresses of any alignment."""
    tb = await TB.ready(dut)
    tb.stall(pattern)
    steps = tb.load_steps()
    jobs = []
    for items in parts(tb.n_items, 3):
        step, target, n_bytes = tb.run_step(items)
        steps.append(step)
        jobs.append((items, target, n_bytes))
    # Once more, right behind rows that are on their way.
    steps += tb.load_steps()
    again, *job = tb.run_step(slice(0, 1))
    steps.append(again)
    addresses = tb.chain(steps)
    await tb.command("DOORBELL", addresses[0])
    await tb.wait_done(len(steps))
    compared = sum(tb.check(*job) for job in jobs)
    assert compared == tb.expected.size > 0
    assert tb.check(slice(0, 1), *job) > 0
    assert await tb.read("ITEMS") == (tb.n_items + 1) * tb.config.item_groups
    assert await tb.read("ERROR") == 0
    assert tb.rules.moved["r"] > 0 and tb.rules.moved["b"] > 0


@cocotb.test(timeout_time=3, timeout_unit="ms")
@fail_fast
async def doorbells_and_interrupts(dut: Any) -> None:
    """Chains queue up; a full queue refuses; tags and interrupts come with the right one."""
    tb = await TB.ready(dut)
    steps = tb.load_steps()
    await tb.command("DOORBELL", tb.chain(steps)[0])
    await tb.wait_done(len(steps))
    assert int(dut.irq_o.value) == 0
    await tb.command("IRQ_ENABLE", 1)
    jobs, first = [], []
    for k in range(9):
        items = slice(k % tb.n_items, k % tb.n_items + 1)
        step, target, n_bytes = tb.run_step(items, tag=k + 1, interrupt=int(k == 8))
        jobs.append((items, target, n_bytes))
        first.append(tb.chain([step])[0])
    tb.slave.read_if.r_channel.pause = True
    rung = 0
    for address in first:
        if await tb.write("DOORBELL", address):
            rung += 1
    # One is executed, four wait.
    assert rung == 5, f"five chains must be taken, not {rung}"
    assert await tb.read("STATUS") & 8
    tb.slave.read_if.r_channel.pause = False
    await tb.wait_done(len(steps) + rung)
    assert int(dut.irq_o.value) == 0
    for address in first[rung:]:
        await tb.command("DOORBELL", address)
    await tb.wait_done(len(steps) + len(first))
    assert int(dut.irq_o.value) == 1 and await tb.read("TAG") == 9
    await tb.command("IRQ_STATUS", 1)
    assert int(dut.irq_o.value) == 0
    assert sum(tb.check(*job) for job in jobs) > 0
    # A run is done when its results are written, not before.
    done = len(steps) + len(first)
    tb.slave.write_if.b_channel.pause = True
    await tb.command("DOORBELL", first[0])
    await ClockCycles(dut.clk_i, 300)
    assert await tb.read("COMPLETED") == done and await tb.read("STATUS") & 1
    tb.slave.write_if.b_channel.pause = False
    await tb.wait_done(done + 1)


async def _recovers(tb: TB) -> None:
    """Reset by the register; then a program and a run are right again."""
    await tb.command("CONTROL", 1)
    start = tb.cycle
    while await tb.read("STATUS"):
        assert tb.cycle - start < LIMIT_CYCLES, "it must come to rest"
    assert await tb.read("ERROR") == 0 and await tb.read("COMPLETED") == 0
    assert await tb.read("ITEMS") == 0
    steps = tb.load_steps()
    items = slice(0, min(2, tb.n_items))
    step, target, n_bytes = tb.run_step(items)
    await tb.command("DOORBELL", tb.chain([*steps, step])[0])
    await tb.wait_done(len(steps) + 1)
    assert tb.check(items, target, n_bytes) > 0


async def _fails(tb: TB, address: int, error: str, where: int, mask: int = -1) -> None:
    """A chain must end with one error at an address."""
    await tb.command("IRQ_STATUS", 3)
    await tb.command("IRQ_ENABLE", 2)
    await tb.command("DOORBELL", address)
    await tb.wait_halted()
    bits, at = await tb.read("ERROR"), await tb.read("ERROR_ADDRESS")
    assert bits == 1 << list(ERRORS).index(error), f"{error} must be set, not {bits:#x}"
    assert at == where & mask, f"{error} must be at {where & mask:#x}, not {at:#x}"
    assert int(tb.dut.irq_o.value) == 1
    assert not await tb.write("DOORBELL", address)
    # It stays until it is cleared.
    await ClockCycles(tb.dut.clk_i, 200)
    assert await tb.read("ERROR") == bits and await tb.read("ERROR_ADDRESS") == at


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def bus_errors(dut: Any) -> None:
    """Errors of reads of data and of descriptors, and of writes; each at its address."""
    tb = await TB.ready(dut)
    tb.stall("both")
    word = -tb.config.word_bytes
    steps = tb.load_steps()
    items = slice(0, tb.n_items)
    step, target, n_bytes = tb.run_step(items)
    chain = tb.chain([*steps, step])
    burst = -tb.config.word_bytes * tb.config.burst_beats
    source = int.from_bytes(tb.memory.mem[chain[-1] + 12 : chain[-1] + 16], "little")
    middle = tb.config.item_bytes * tb.n_items // 2
    last = target + n_bytes - 1
    for bad, error, where, mask in (
        (source + middle, "read_error", source + middle, word),
        (source, "read_error", source, word),
        (chain[1], "read_error", chain[1], word),
        (last, "write_error", max(target & word, last & burst), word),
        (target, "write_error", target, word),
    ):
        tb.memory.bad = {bad}
        await _fails(tb, chain[0], error, where, mask)
        tb.memory.bad = set()
        await _recovers(tb)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def bad_descriptors(dut: Any) -> None:
    """Every rule of a descriptor, broken alone."""
    tb = await TB.ready(dut)
    config = tb.config
    digest = int(config.core_hash[:8], 16)
    good: dict[str, Any] = {"configuration": digest, "source": 64, "destination": 64, "count": 1}
    load = {**good, "inner": 1}
    broken: list[tuple[str, bytes]] = [
        ("bad_descriptor", bytes(8) + digest.to_bytes(4, "little") + bytes(20)),
        ("wrong_configuration", bytes(32)),
        ("bad_descriptor", descriptor("run", **{**good, "count": 0})),
        ("bad_descriptor", descriptor("run", **{**good, "reserved": 1})),
        ("bad_descriptor", descriptor("run", **{**good, "count": (1 << 32) - 1})),
        ("bad_descriptor", descriptor("load", **{**load, "inner": 0})),
        ("bad_descriptor", descriptor("load", **{**load, "count": 0})),
        ("bad_descriptor", descriptor("load", **{**load, "program_address": 1 << 31})),
        ("wrong_configuration", descriptor("run", **{**good, "configuration": digest ^ 1})),
    ]
    if not config.double_buffer:
        broken.append(("bad_descriptor", descriptor("switch", configuration=digest)))
    if not config.gathers:
        broken.append(("bad_descriptor", descriptor("gather", **load)))
    for error, raw in broken:
        address = tb.place(raw)
        await _fails(tb, address, error, address)
        await tb.command("CONTROL", 1)
    await _recovers(tb)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def watchdog(dut: Any) -> None:
    """A bus that does not answer is an error, and no hang; when it answers, all goes on."""
    tb = await TB.ready(dut)
    await tb.command("WATCHDOG", 300)
    steps = tb.load_steps()
    items = slice(0, tb.n_items)
    step, _, _ = tb.run_step(items)
    chain = tb.chain([*steps, step])
    for channel in (tb.slave.read_if.r_channel, tb.slave.write_if.aw_channel):
        channel.pause = True
        await tb.command("DOORBELL", chain[0])
        start = tb.cycle
        while not (status := await tb.read("STATUS")) & 6:
            assert tb.cycle - start < LIMIT_CYCLES, "the watchdog must bite"
        assert await tb.read("ERROR") == 1 << list(ERRORS).index("watchdog")
        assert await tb.read("ERROR_ADDRESS") in chain
        # It waits for the bus, and says so.
        assert status & 4 and status & 1
        channel.pause = False
        await tb.wait_halted()
        await _recovers(tb)
        await tb.command("WATCHDOG", 300)
    # A bus that is slow, but moves, is no error.
    answers = tb.slave.read_if.r_channel
    await tb.command("WATCHDOG", 100)
    answers.pause = True
    await tb.command("DOORBELL", chain[0])
    for _ in range(4):
        await ClockCycles(dut.clk_i, 60)
        answers.pause = False
        await ClockCycles(dut.clk_i, 2)
        answers.pause = True
    # Without a limit nothing is.
    await tb.command("WATCHDOG", 0)
    await ClockCycles(dut.clk_i, 300)
    assert await tb.read("ERROR") == 0
    answers.pause = False
    start = tb.cycle
    while await tb.read("STATUS"):
        assert tb.cycle - start < LIMIT_CYCLES, "it must go on"
    assert await tb.read("ERROR") == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def reset_in_flight(dut: Any) -> None:
    """Reset by the register or by the pin, at any time; what runs afterwards is right."""
    tb = await TB.ready(dut)
    tb.stall("both")
    steps = tb.load_steps()
    step, _, _ = tb.run_step(slice(0, tb.n_items))
    chain = tb.chain([*steps, step])
    for k in range(8):
        await tb.command("DOORBELL", chain[0])
        await ClockCycles(dut.clk_i, tb.random.randrange(1, 400))
        if k % 2:
            await tb.reset()
        await _recovers(tb)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def banks(dut: Any) -> None:
    """Two programs: one is loaded while the other computes, and commands switch."""
    tb = await TB.ready(dut)
    if not tb.config.double_buffer:
        return
    jobs = []
    steps = tb.load_steps(0)
    pieces = list(parts(tb.n_items, 3))
    for k, items in enumerate(pieces):
        step, target, n_bytes = tb.run_step(items)
        steps.append(step)
        jobs.append((items, target, n_bytes))
        if k < 2:
            bank = (k + 1) % 2

            def switch(bank: int = bank, **more: int) -> bytes:
                return switch_descriptor(tb.config, bank, **more)

            steps += [*tb.load_steps(bank), {"make": switch}]
    await tb.command("DOORBELL", tb.chain(steps)[0])
    await tb.wait_done(len(steps))
    assert sum(tb.check(*job) for job in jobs) == tb.expected.size > 0


@cocotb.test(timeout_time=8, timeout_unit="ms")
@fail_fast
async def results_wait(dut: Any) -> None:
    """Results that memory does not take hold the rows up; none is lost."""
    tb = await TB.ready(dut)
    c, copies = tb.config, 20
    steps = tb.load_steps()
    items = slice(0, tb.n_items)
    source = tb.place(tb.input_bytes(items) * copies)
    size = tb.n_items * c.result_bytes
    target = tb.place(bytes(size * copies))
    count = tb.n_items * copies

    def make(**more: int) -> bytes:
        return run_descriptor(c, source, target, count, **more)

    tb.slave.write_if.aw_channel.pause = True
    tb.slave.write_if.w_channel.pause = True
    await tb.command("DOORBELL", tb.chain([*steps, {"make": make}])[0])
    await ClockCycles(dut.clk_i, 1500)
    room = 4 * c.burst_beats * c.word_bytes + 4 * c.result_bytes
    done = await tb.read("ITEMS")
    assert done * c.result_bytes <= (room + c.result_bytes) * c.item_groups, "nothing may be lost"
    tb.slave.write_if.aw_channel.pause = False
    tb.slave.write_if.w_channel.pause = False
    await tb.wait_done(len(steps) + 1)
    for k in range(copies):
        begin = target + k * size
        assert tb.compare(items, bytes(tb.memory.mem[begin : begin + size])) > 0
    assert await tb.read("ITEMS") == count * c.item_groups


@cocotb.test(timeout_time=8, timeout_unit="ms")
@fail_fast
async def speed(dut: Any) -> None:
    """Cycles per item with the master, beside the accelerator's own; ``speed.json`` has them."""
    tb = await TB.ready(dut)
    c = tb.config
    steps = tb.load_steps()
    await tb.command("DOORBELL", tb.chain(steps)[0])
    await tb.wait_done(len(steps))
    room = (MEMORY_BYTES - tb.free - 1024) // (c.item_bytes + c.result_bytes)
    count = max(1, min(room, 256))
    source = (tb.free + 63) & -64
    target = (source + count * c.item_bytes + 63) & -64
    raw = run_descriptor(c, source, target, count, end=1, interrupt=1)
    address = tb.place(raw, 32)
    tb.memory.mem[address : address + 32] = raw
    await tb.command("IRQ_ENABLE", 1)
    idle = await tb.read("BUSY_CYCLES")
    assert idle == await tb.read("BUSY_CYCLES"), "cycles count while busy only"
    before = tb.cycle
    await tb.command("DOORBELL", address)
    rung = tb.cycle - before
    while not int(dut.irq_o.value):
        await RisingEdge(dut.clk_i)
    total = tb.cycle - before
    busy = await tb.read("BUSY_CYCLES") - idle
    assert total - rung - 8 < busy <= total, f"{busy} cycles must be counted of {total}"
    words = max(c.item_bytes, c.result_bytes) / c.word_bytes
    bound = max(c.core_cycles, words)
    report = {
        "items": count, "cycles": total, "core_cycles_per_item": c.core_cycles,
        "bus_words_per_item": words, "doorbell_cycles": rung,
    }  # fmt: skip
    (Path(os.environ["HALUT_JOB"]) / "speed.json").write_text(json.dumps(report))
    if c.burst_beats * c.outstanding < 8:
        return  # fewer words on their way than memory takes cycles to answer
    assert total < 1.2 * bound * count + 120, f"{total} cycles for {count} items of {bound}"
    assert rung < 100
