"""What testbenches of a module with one stream out share: clock, reset, start and end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from sim.scoreboard import Scoreboard
from sim.streams import StreamDriver, StreamMonitor

__all__ = ["CLOCK_NS", "StreamTestbench"]

CLOCK_NS = 2
_DRAIN_MARGIN = 8  # cycles watched after the last expected transfer: nothing may follow


class StreamTestbench:
    """A module with drivers of its streams in, a monitor of the one out, and a scoreboard.

    Parameters
    ----------
    dut : cocotb handle
        With ``clk_i`` and ``rst_ni``.
    board : Scoreboard
        Announce what must come out here.
    latency_cycles : int, default 0
        Watched after the last expected transfer, besides a margin.

    Attributes
    ----------
    drivers : sequence of StreamDriver
    results : StreamMonitor
        Both are set by the class for a module.
    output_cycles : list of int
        Clock cycle of every transfer that came out.
    """

    drivers: Sequence[StreamDriver]
    results: StreamMonitor

    def __init__(self, dut: Any, board: Scoreboard, latency_cycles: int = 0) -> None:
        self.dut = dut
        self.board = board
        self.latency_cycles = latency_cycles
        self.edge = RisingEdge(dut.clk_i)
        self.output_cycles: list[int] = []

    def receive(self, item: Any) -> None:
        """Take what the monitor saw."""
        self.output_cycles.append(self.cycle)
        self.board.receive(item)

    @property
    def cycle(self) -> int:
        """Number of the present clock cycle, counted from the start of the simulation."""
        return int(get_sim_time("ns")) // CLOCK_NS

    async def start(self, wait: Iterator[bool] | None = None, *, valid_first: bool = False) -> None:
        """Start the clock, reset, and begin to take results, pausing as `wait` says."""
        Clock(self.dut.clk_i, CLOCK_NS, unit="ns").start()
        await self.reset()
        if wait is not None:
            self.results.wait = wait
        self.results.valid_first = valid_first
        cocotb.start_soon(self.results.run())

    async def reset(self) -> None:
        """Hold ``rst_ni`` at 0 for some cycles; what is due is forgotten."""
        self.dut.rst_ni.value = 0
        for driver in self.drivers:
            driver.idle()
        self.results.in_reset = True
        self.board.forget()
        for _ in range(3):
            await self.edge
        self.dut.rst_ni.value = 1
        self.results.in_reset = False

    async def drain(self) -> None:
        """Wait for everything that is due, watch that nothing follows, and check the count."""
        while not self.board.done:
            await self.edge
        for _ in range(_DRAIN_MARGIN + self.latency_cycles):
            await self.edge
        self.board.finish()
