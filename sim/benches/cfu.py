"""Testbench of the custom function unit: whole layers, under stalls, against the exact model.

The environment's ``HALUT_CFU`` is the configuration as JSON (`CfuConfig.to_dict`). Run it with
`sim.runner.run`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np

from rtl_gen.cfu.config import ADD, THRESHOLDS, CfuConfig
from sim.cfu import Exchange, job
from sim.scoreboard import Scoreboard
from sim.stalls import STALL_PATTERNS, stalls
from sim.streams import StreamDriver, StreamMonitor
from sim.testbench import StreamTestbench


class TB(StreamTestbench):
    """The unit with a driver, a monitor and a scoreboard."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, Scoreboard("answers"))
        self.config = CfuConfig.from_dict(json.loads(os.environ["HALUT_CFU"]))
        self.commands = StreamDriver(
            dut, "cmd", dut.clk_i, fields=("function_id", "inputs_0", "inputs_1")
        )
        self.results = StreamMonitor(dut, "rsp", dut.clk_i, receive=self.receive)
        self.drivers = [self.commands]

    async def send(
        self, exchanges: Sequence[Exchange], pause: Any = None, sent: Any = None
    ) -> None:
        """Give commands and announce their answers."""
        self.board.expect([answer for _, answer in exchanges])
        await self.commands.send([command for command, _ in exchanges], pause, on_sent=sent)

    def layer(self, seed: int, *, corner: bool = False) -> list[Exchange]:
        """A random layer; its outputs do not fill the sums evenly."""
        rng = np.random.default_rng(seed)
        return job(self.config, rng, n_outputs=self.config.n_sums + 3, corner=corner).exchanges


def _test(**options: Any) -> Any:
    # A stuck device ends here and not at the runner's limit. 2 ns a cycle: a million cycles.
    return cocotb.test(timeout_time=2, timeout_unit="ms", **options)


@_test()
@cocotb.parametrize(pattern=STALL_PATTERNS, corner=[False, True])
async def layers_under_stalls(dut: Any, pattern: str, corner: bool) -> None:
    """Two random layers, one after the other, whoever pauses."""
    seed = cocotb.RANDOM_SEED + 10 * corner
    tb = TB(dut)
    await tb.start(stalls(pattern, "sink", seed), valid_first=pattern in ("backpressure", "both"))
    for turn in range(2):
        exchanges = tb.layer(seed + turn, corner=corner)
        await tb.send(exchanges, stalls(pattern, "source", seed + turn))
        await tb.drain()


@_test()
async def latency_and_rate(dut: Any) -> None:
    """A command is taken in every cycle, and answered `latency_cycles` later."""
    tb = TB(dut)
    await tb.start()
    sent: list[int] = []
    exchanges = tb.layer(cocotb.RANDOM_SEED)
    await tb.send(exchanges, sent=lambda: sent.append(tb.cycle))
    await tb.drain()
    assert set(np.diff(sent)) == {1}, "a command must be taken in every cycle"
    assert [cycle - tb.config.latency_cycles for cycle in tb.output_cycles] == sent


@_test()
async def extremes(dut: Any) -> None:
    """Thresholds of 9 bits, the largest sums of both signs, and functions that there are not."""
    tb = TB(dut)
    c = tb.config
    await tb.start()
    exchanges: list[Exchange] = []
    last = c.n_prototypes - 1
    # Every value goes right of -129, and left of 127; higher bits of operands do not count.
    for threshold, code in ((-129, last), (127, 0), (-1, last), (0, 0)):
        values = [-128, 127] if abs(threshold) > 1 else [0, 0]
        steps = c.set_thresholds([threshold] * last)
        exchanges += [(command, 0) for command in steps]
        for value in values:
            for high in (0, 0x5A00):
                steps = c.walk([(value & 0xFF) | high] * c.tree_depth)
                exchanges += [
                    (command, code >> (c.tree_depth - min(2 * k + 2, c.tree_depth)))
                    for k, command in enumerate(steps)
                ]
    low = -(1 << (c.lut_bits - 1))
    n_added = min(c.most_codebooks, 16)
    for entry in (low, -low - 1):
        for turn in range(n_added):
            steps = c.add([entry] * c.n_sums, start=turn == 0)
            exchanges += [(command, 0) for command in steps]
        exchanges += [(c.command(5 + k, k), 0) for k in range(3)]
        total = n_added * entry & 0xFFFFFFFF
        exchanges += [(c.read(index), total) for index in reversed(range(c.n_sums))]
        exchanges += [(c.read(index), total) for index in range(c.n_sums)]
    await tb.send(exchanges)
    await tb.drain()


@_test()
async def reset_amid_work(dut: Any) -> None:
    """After a reset nothing old comes out."""
    tb = TB(dut)
    seed = cocotb.RANDOM_SEED + 30
    rng = np.random.default_rng(seed)
    await tb.start(stalls("both", "sink", seed))
    exchanges = tb.layer(seed)
    for _ in range(4):
        sending = cocotb.start_soon(tb.send(exchanges, stalls("both", "source", seed)))
        for _ in range(int(rng.integers(1, 2 * len(exchanges)))):
            await tb.edge
        sending.cancel()
        await tb.reset()
    await tb.send(exchanges)
    await tb.drain()


@_test()
@cocotb.parametrize(what=["threshold", "entry"])
async def a_wrong_bit_is_caught(dut: Any, what: str) -> None:
    """The bench can fail: one bit of a threshold or of an entry is flipped."""
    tb = TB(dut)
    c = tb.config
    await tb.start()
    exchanges = tb.layer(cocotb.RANDOM_SEED + 40)
    funct3, bit = {"threshold": (THRESHOLDS, c.threshold_bits - 1), "entry": (ADD, 0)}[what]
    position = next(k for k, (command, _) in enumerate(exchanges) if command[0] & 7 == funct3)
    (function, first, second), answer = exchanges[position]
    exchanges[position] = (function, first ^ 1 << bit, second), answer
    tb.board.tolerant = True
    await tb.send(exchanges)
    while not tb.board.done:
        await tb.edge
    assert tb.board.n_wrong > 0, f"a flipped bit of a {what} must be noticed"
