"""Testbench of `halut_axi` with streams: packets of commands in, packets of results out.

See `sim.benches.axi_host` for what it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from rtl_gen.axi.descriptor import descriptor
from rtl_gen.axi.image import loads, run_descriptor, switch_descriptor
from rtl_gen.axi.registers import ERRORS
from sim.benches.axi_host import LIMIT_CYCLES, Host, parts
from sim.fail_fast import fail_fast
from sim.stalls import STALL_PATTERNS, stalls


class TB(Host):
    """The block, a source of packets and a sink."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        reset = {"reset": dut.rst_ni, "reset_active_level": False}
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk_i, **reset)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk_i, **reset)

    def stall(self, pattern: str) -> None:
        """Let the source pause with "gaps", the sink with "backpressure"."""
        self.source.set_pause_generator(stalls(pattern, "source", cocotb.RANDOM_SEED))
        self.sink.set_pause_generator(stalls(pattern, "sink", cocotb.RANDOM_SEED))

    def loads(self, bank: int = 0) -> Iterator[bytes]:
        """Packets of a program."""
        for load in loads(self.config, self.program, bank):
            yield load.descriptor(self.config, 0) + load.data

    def run(self, items: slice, **more: int) -> bytes:
        """The packet of a run."""
        data = self.input_bytes(items)
        count = len(data) // self.config.item_bytes
        return run_descriptor(self.config, 0, 0, count, **more) + data

    async def results(self, items: slice) -> int:
        """Take a packet of results and compare it."""
        start = self.cycle
        while self.sink.empty():
            await RisingEdge(self.dut.clk_i)
            assert self.cycle - start < LIMIT_CYCLES, "results must come"
        return self.compare(items, bytes(self.sink.recv_nowait().tdata))


@cocotb.test(timeout_time=1, timeout_unit="ms")
@fail_fast
async def registers_are_as_described(dut: Any) -> None:
    """Every register: reset value and access, and errors elsewhere."""
    tb = await TB.ready(dut)
    await tb.check_registers()


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(pattern=STALL_PATTERNS)
@fail_fast
async def runs_under_stalls(dut: Any, pattern: str) -> None:
    """Runs of 1, 2, 3, … items; each run's results are one packet."""
    tb = await TB.ready(dut)
    tb.stall(pattern)
    sent = 0
    for packet in tb.loads():
        await tb.source.send(packet)
        sent += 1
    pieces = list(parts(tb.n_items, 3))
    for k, items in enumerate(pieces):
        await tb.source.send(tb.run(items, tag=k))
        sent += 1
    # Once more, right behind rows that are on their way.
    for packet in [*tb.loads(), tb.run(slice(0, 1), tag=99)]:
        await tb.source.send(packet)
        sent += 1
    compared = sum([await tb.results(items) for items in pieces])
    assert compared == tb.expected.size > 0
    assert await tb.results(slice(0, 1)) > 0
    await tb.wait_done(sent)
    assert await tb.read("ITEMS") == (tb.n_items + 1) * tb.config.item_groups
    assert await tb.read("ERROR") == 0 and await tb.read("TAG") == 99
    assert tb.sink.empty()


@cocotb.test(timeout_time=3, timeout_unit="ms")
@fail_fast
async def banks(dut: Any) -> None:
    """Two programs: one is loaded while the other computes, and commands switch."""
    tb = await TB.ready(dut)
    if not tb.config.double_buffer:
        return
    pieces = list(parts(tb.n_items, 3))
    packets = list(tb.loads(0))
    for k, items in enumerate(pieces):
        packets.append(tb.run(items))
        if k < 2:
            bank = (k + 1) % 2
            packets += [*tb.loads(bank), switch_descriptor(tb.config, bank)]
    for packet in packets:
        await tb.source.send(packet)
    assert sum([await tb.results(items) for items in pieces]) == tb.expected.size
    await tb.wait_done(len(packets))


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def results_wait(dut: Any) -> None:
    """Results that nobody takes hold the rows up; none is lost, and no run is done before."""
    tb = await TB.ready(dut)
    copies, items = 20, slice(0, tb.n_items)
    packets = list(tb.loads())
    data = tb.input_bytes(items) * copies
    packets += [
        tb.run(slice(0, 1)),
        run_descriptor(tb.config, 0, 0, copies * tb.n_items, interrupt=1) + data,
    ]
    await tb.command("IRQ_ENABLE", 1)
    for packet in packets[:-1]:
        await tb.source.send(packet)
    assert await tb.results(slice(0, 1)) > 0
    await tb.wait_done(len(packets) - 1)
    tb.sink.pause = True
    packets.append(tb.run(slice(0, 1)))
    await tb.source.send(packets[-1])
    await ClockCycles(dut.clk_i, 300)
    assert await tb.read("COMPLETED") == len(packets) - 2, "its results have not left"
    tb.sink.pause = False
    assert await tb.results(slice(0, 1)) > 0
    await tb.wait_done(len(packets) - 1)
    tb.sink.pause = True
    await tb.source.send(packets[-2])
    await ClockCycles(dut.clk_i, 1000)
    assert await tb.read("COMPLETED") == len(packets) - 1 and int(dut.irq_o.value) == 0
    tb.sink.pause = False
    while tb.sink.empty():
        await RisingEdge(dut.clk_i)
    received = bytes(tb.sink.recv_nowait().tdata)
    size = len(received) // copies
    for k in range(copies):
        assert tb.compare(items, received[k * size : (k + 1) * size]) > 0
    await tb.wait_done(len(packets))
    assert int(dut.irq_o.value) == 1
    await tb.command("IRQ_STATUS", 1)
    assert int(dut.irq_o.value) == 0


async def _recovers(tb: TB) -> None:
    await tb.command("CONTROL", 1)
    start = tb.cycle
    while await tb.read("STATUS"):
        assert tb.cycle - start < LIMIT_CYCLES, "it must come to rest"
    assert await tb.read("ERROR") == 0 and await tb.read("COMPLETED") == 0
    while not tb.sink.empty():
        tb.sink.recv_nowait()  # what was on its way; it may be cut
    items = slice(0, min(2, tb.n_items))
    packets = [*tb.loads(), tb.run(items)]
    for packet in packets:
        await tb.source.send(packet)
    assert await tb.results(items) > 0
    await tb.wait_done(len(packets))


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def bad_packets(dut: Any) -> None:
    """Packets that are too short, too long or have holes, and bad descriptors."""
    tb = await TB.ready(dut)
    tb.stall("both")
    n = tb.config.word_bytes
    good = tb.run(slice(0, 1))
    holes = AxiStreamFrame(good, tkeep=[0, *[1] * (len(good) - 1)])
    other = int(tb.config.core_hash[:8], 16) ^ 1
    packets: list[tuple[str, Any]] = [
        ("bad_packet", good + bytes(n)),
        ("bad_packet", good[:32]),
        ("bad_packet", good[:n]),
        ("bad_packet", good[: 32 + tb.config.item_bytes // 2]),
        ("bad_packet", holes),
        ("bad_descriptor", bytes(8) + good[8:12] + bytes(20)),
        ("wrong_configuration", descriptor("run", configuration=other, count=1) + good[32:]),
    ]
    for error, packet in packets:
        for k in range(2):  # a good one before, then none
            for each in [*tb.loads(), tb.run(slice(0, 1))][k * 9 :]:
                await tb.source.send(each)
            await tb.source.send(packet)
            await tb.wait_halted()
            bits = await tb.read("ERROR")
            assert bits == 1 << list(ERRORS).index(error), f"{error}, not {bits:#x}"
            await tb.source.wait() if error != "bad_packet" else None
            await _recovers(tb)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def watchdog(dut: Any) -> None:
    """Results that nobody takes are an error, and no hang."""
    tb = await TB.ready(dut)
    await tb.command("WATCHDOG", 300)
    tb.sink.pause = True
    for packet in [*tb.loads(), tb.run(slice(0, tb.n_items))]:
        await tb.source.send(packet)
    start = tb.cycle
    while not (await tb.read("STATUS")) & 6:
        assert tb.cycle - start < LIMIT_CYCLES, "the watchdog must bite"
    assert await tb.read("ERROR") == 1 << list(ERRORS).index("watchdog")
    tb.sink.pause = False
    await tb.wait_halted()
    await _recovers(tb)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@fail_fast
async def reset_in_flight(dut: Any) -> None:
    """Reset by the register at any time; what runs afterwards is right."""
    tb = await TB.ready(dut)
    tb.stall("both")
    for _ in range(6):
        for packet in [*tb.loads(), tb.run(slice(0, tb.n_items))]:
            await tb.source.send(packet)
        await ClockCycles(dut.clk_i, tb.random.randrange(1, 300))
        await tb.command("CONTROL", 1)
        # Packets behind the one that was dropped are good again.
        start = tb.cycle
        while not tb.source.idle() or await tb.read("STATUS") & 1:
            assert tb.cycle - start < LIMIT_CYCLES, "it must come to rest"
            await RisingEdge(dut.clk_i)
            while not tb.sink.empty():
                tb.sink.recv_nowait()
        await _recovers(tb)
