"""Testbench of the direct engines: every stream, every stall pattern, against exact products.

The environment's ``HALUT_ENGINE`` is the configuration as JSON (`EngineConfig.to_dict`), and
``HALUT_EVERY_PAIR=1`` asks for all products of two factors as well. Run it with `sim.runner.run`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from rtl_gen.direct import DotProductConfig, EngineConfig, SystolicConfig
from sim.direct import Job, describe, job, make_job
from sim.scoreboard import Scoreboard
from sim.stalls import STALL_PATTERNS, stalls
from sim.streams import StreamDriver, StreamMonitor
from sim.testbench import StreamTestbench

_N_SUMS = 24


class TB(StreamTestbench):
    """An engine with a driver or monitor on every stream and a scoreboard."""

    def __init__(self, dut: Any, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig.from_dict(json.loads(os.environ["HALUT_ENGINE"]))
        shape = job(self.config, np.random.default_rng(0), 1)
        super().__init__(dut, Scoreboard("o", self._describe), self.config.latency_cycles)
        self.items = StreamDriver(dut, "i", dut.clk_i, fields=shape.input_fields)
        self.words: StreamDriver | None = None
        if shape.program:
            self.words = StreamDriver(dut, "program", dut.clk_i, fields=shape.program_fields)
        self.results = StreamMonitor(
            dut, "o", dut.clk_i, receive=self.receive, fields=shape.output_fields
        )
        self.drivers = [self.items, *([self.words] if self.words else [])]
        self.just_reset = True

    def _describe(self, index: int, expected: Any, received: Any) -> str:
        return describe(self.config, index, expected, received)

    def receive(self, item: Any) -> None:
        super().receive(item if isinstance(item, tuple) else (item,))

    async def reset(self) -> None:
        await super().reset()
        self.just_reset = True

    async def load(self, work: Job, pause: Iterator[bool] | None = None) -> None:
        """Write the weights, or hold them at their ports."""
        for name, value in work.fixed.items():
            getattr(self.dut, name).value = value
        if self.words:
            words: list[Any] = [item if len(item) > 1 else item[0] for item in work.program]
            await self.words.send(words, pause)

    async def send(
        self, work: Job, pause: Iterator[bool] | None = None, on_sent: Any = None
    ) -> None:
        """Send the inputs and announce what must come out."""
        self.board.expect(work.outputs[work.n_filling if self.just_reset else 0 :])
        self.just_reset = False
        items: list[Any] = [item if len(item) > 1 else item[0] for item in work.inputs]
        await self.items.send(items, pause, on_sent=on_sent)

    def job(self, seed: int, corner: bool = False) -> Job:
        """A random job."""
        return job(self.config, np.random.default_rng(seed), _N_SUMS, corner=corner)


def _test(**options: Any) -> Any:
    # A stuck device ends here and not at the runner's limit. 2 ns a cycle: a million cycles.
    return cocotb.test(timeout_time=2, timeout_unit="ms", **options)


@_test()
@cocotb.parametrize(pattern=STALL_PATTERNS, corner=[False, True])
async def products_under_stalls(dut: Any, pattern: str, corner: bool) -> None:
    """Random and extreme factors, and a second matrix, whoever pauses."""
    seed = cocotb.RANDOM_SEED + 10 * corner
    tb = TB(dut)
    await tb.start(stalls(pattern, "sink", seed), valid_first=pattern in ("backpressure", "both"))
    for turn in range(2):
        work = tb.job(seed + turn, corner)
        await tb.load(work, stalls(pattern, "source", seed + 2))
        await tb.send(work, stalls(pattern, "source", seed + turn))
        await tb.drain()


@_test()
async def latency_and_rate(dut: Any) -> None:
    """Without stalls a sum comes `latency_cycles` after the input that completes it."""
    tb = TB(dut)
    c = tb.config
    work = tb.job(cocotb.RANDOM_SEED)
    await tb.start()
    await tb.load(work)
    sent: list[int] = []
    await tb.send(work, on_sent=lambda: sent.append(tb.cycle))
    await tb.drain()
    assert set(np.diff(sent)) == {1}, "an input must be taken in every cycle"
    if isinstance(c, DotProductConfig):
        ends = [cycle for cycle, item in zip(sent, work.inputs, strict=True) if item[-1]]
        assert [cycle - c.latency_cycles for cycle in tb.output_cycles] == ends
    elif isinstance(c, SystolicConfig):
        assert [cycle - 1 for cycle in tb.output_cycles] == sent[c.filling_transfers :]
    else:
        interval = c.n_groups  # type: ignore[attr-defined]
        n_beats = c.output.n_beats  # type: ignore[attr-defined]
        first = tb.output_cycles[::n_beats]
        assert [cycle - c.latency_cycles for cycle in first] == sent[interval - 1 :: interval]


@_test()
async def reset_amid_work(dut: Any) -> None:
    """After a reset nothing old comes out, and stored weights are still there."""
    tb = TB(dut)
    seed = cocotb.RANDOM_SEED + 30
    work = tb.job(seed)
    await tb.start(stalls("both", "sink", seed))
    await tb.load(work)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        sending = cocotb.start_soon(tb.send(work, stalls("both", "source", seed)))
        for _ in range(int(rng.integers(1, 2 * len(work.inputs)))):
            await tb.edge
        sending.cancel()
        await tb.reset()
    await tb.send(work)
    await tb.drain()


@_test()
async def a_wrong_weight_is_caught(dut: Any) -> None:
    """The bench can fail: one bit of one weight is flipped."""
    tb = TB(dut)
    rng = np.random.default_rng(cocotb.RANDOM_SEED + 40)
    work = tb.job(cocotb.RANDOM_SEED + 40)
    words = [list(item) for item in work.program]
    bit = 1 << int(rng.integers(tb.config.weight_bits))
    fixed = {name: value ^ bit for name, value in work.fixed.items()}
    if words:
        words[int(rng.integers(len(words)))][-1] ^= bit
    wrong = dataclasses.replace(work, program=[tuple(word) for word in words], fixed=fixed)
    await tb.start()
    await tb.load(wrong)
    tb.board.tolerant = True
    await tb.send(work)
    while not tb.board.done:
        await tb.edge
    assert tb.board.n_wrong > 0, "a flipped weight bit must be noticed"


@_test(skip=os.environ.get("HALUT_EVERY_PAIR") != "1")
async def every_pair_of_factors(dut: Any) -> None:
    """All products of two factors, for a dot-product array."""
    tb = TB(dut)
    c = tb.config
    assert isinstance(c, DotProductConfig)
    low, high = -(1 << (c.input_bits - 1)), 1 << (c.input_bits - 1)
    inputs = np.zeros((high - low, c.length), np.int64)
    inputs[:, 0] = np.arange(low, high)
    low, high = -(1 << (c.weight_bits - 1)), 1 << (c.weight_bits - 1)
    await tb.start()
    every = np.arange(low, high)
    for start in range(0, len(every), c.columns):
        weights = np.zeros((c.columns, c.length), np.int64)
        part = every[start : start + c.columns]
        weights[: len(part), 0] = part
        work = make_job(c, inputs, weights)
        await tb.load(work)
        await tb.send(work)
        await tb.drain()
