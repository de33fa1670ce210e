"""Testbench of register_slice.v: the streams of sim/ on a device small enough to read."""

from __future__ import annotations

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.scoreboard import Scoreboard
from sim.stalls import STALL_PATTERNS, stalls
from sim.streams import StreamDriver, StreamMonitor

N_ITEMS = 200


@cocotb.test(timeout_time=20, timeout_unit="us")
@cocotb.parametrize(pattern=STALL_PATTERNS)
async def items_come_through(dut, pattern):
    """200 items through the slice; HALUT_BUG picks a bug, WIDTH is what the parameter must be."""
    seed = cocotb.RANDOM_SEED
    dut.bug_i.value = int(os.environ["HALUT_BUG"])
    width = len(dut.i_data)
    assert width == int(os.environ["WIDTH"]), "the parameter must reach the device"
    items = [(k * 0x9E3779B97F4A7C15 + seed) & ((1 << (width - 1)) - 1) for k in range(N_ITEMS)]
    board = Scoreboard("o")
    board.expect(items)
    driver = StreamDriver(dut, "i", dut.clk_i)
    monitor = StreamMonitor(
        dut,
        "o",
        dut.clk_i,
        receive=board.receive,
        wait=stalls(pattern, "sink", seed),
        valid_first=pattern != "none",
    )
    Clock(dut.clk_i, 2, unit="ns").start()
    edge = RisingEdge(dut.clk_i)
    dut.rst_ni.value = 0
    await edge
    await edge
    dut.rst_ni.value = 1
    cocotb.start_soon(monitor.run())
    await driver.send(items, stalls(pattern, "source", seed))
    while not board.done:
        await edge
    for _ in range(5):  # nothing may follow
        await edge
    board.finish()
    if pattern == "none":
        assert driver.stall_cycles == monitor.stall_cycles == 0
    if pattern in ("backpressure", "both"):
        assert monitor.stall_cycles > N_ITEMS // 10
