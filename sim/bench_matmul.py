"""Testbench of the top module: every stream, every stall pattern, against the bit-exact model.

The environment names the job: ``HALUT_CONFIG`` is the configuration as JSON (`to_dict`),
``HALUT_ROWS`` how many rows each test sends (default 48). Run it with `sim.runner.run`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from halut import golden
from halut.program import Program
from rtl_gen import reference
from rtl_gen.image import program_image
from rtl_gen.tiled_config import AnyConfig, config_from_dict
from sim.accelerator import (
    describe_beat,
    expected_beats,
    input_transfers,
    output_fields,
    port_widths,
)
from sim.scoreboard import Mismatch, Scoreboard
from sim.streams import STALL_PATTERNS, StreamDriver, StreamMonitor, stalls

CLOCK_NS = 2
_DRAIN_MARGIN = 8  # cycles watched after the last expected transfer: nothing may follow


class TB:
    """The accelerator with a driver or monitor on every stream and a scoreboard.

    Parameters
    ----------
    dut : cocotb handle
        The module `halut_matmul` or `halut_tiled`.
    config : AcceleratorConfig or TiledConfig, optional
        What it was generated from; by default the environment's ``HALUT_CONFIG``.

    Attributes
    ----------
    board : Scoreboard
        Announce what must come out here.
    beat_cycles, transfer_cycles : list of int
        Clock cycle of every output transfer, and of every input transfer that `on_transfer` saw.
    mismatches : int
        Wrong transfers so far; raises at the first unless `tolerant` was set.
    """

    def __init__(self, dut: Any, config: AnyConfig | None = None) -> None:
        self.dut = dut
        if config is None:
            config = config_from_dict(json.loads(os.environ["HALUT_CONFIG"]))
        self.config = config
        for name, width in port_widths(config).items():
            have = len(getattr(dut, name))
            assert have == width, f"{name} must have {width} bits, not {have}"
        self.board = Scoreboard(
            "o",
            lambda k, want, got: describe_beat(config, k, want, got),  # type: ignore[arg-type]
        )
        self.edge = RisingEdge(dut.clk_i)
        self.rows = StreamDriver(dut, "i", dut.clk_i)
        self.words = StreamDriver(dut, "program", dut.clk_i, fields=("address", "data"))
        self.results = StreamMonitor(
            dut, "o", dut.clk_i, receive=self._receive, fields=output_fields(config)
        )
        self.beats: list[int] = []
        self.beat_cycles: list[int] = []
        self.transfer_cycles: list[int] = []
        self.tolerant = False
        self.mismatches = 0

    def _receive(self, item: tuple[int, ...]) -> None:
        self.beats.append(item[0])
        self.beat_cycles.append(self.cycle)
        try:
            self.board.receive(item)
        except Mismatch:
            self.mismatches += 1
            if not self.tolerant:
                raise

    def on_transfer(self) -> None:
        """Note the clock edge of an input transfer (pass it as `on_sent`)."""
        self.transfer_cycles.append(self.cycle)

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

    async def reset(self, cycles: int = 3) -> None:
        """Hold ``rst_ni`` at 0 for some cycles; what is due is forgotten."""
        self.dut.rst_ni.value = 0
        self.rows.idle()
        self.words.idle()
        self.results.in_reset = True
        self.board.forget()
        for _ in range(cycles):
            await self.edge
        self.dut.rst_ni.value = 1
        self.results.in_reset = False

    async def load(self, program: Program, pause: Iterator[bool] | None = None) -> None:
        """Write a program; return at the edge at which its last word was taken."""
        await self.words.send(program_image(self.config, program), pause)

    async def drain(self) -> None:
        """Wait for everything that is due, watch that nothing follows, and check the count."""
        while not self.board.done:
            await self.edge
        for _ in range(_DRAIN_MARGIN + self.config.latency_cycles):
            await self.edge
        self.board.finish()

    def random_program(self, seed: int, corner: bool = False) -> Program:
        """Return a random program that fits the configuration."""
        return reference.random_program(self.config, np.random.default_rng([seed, 1]), corner)

    def random_words(self, program: Program, seed: int, corner: bool = False) -> Any:
        """Return input words of ``HALUT_ROWS`` rows, rounded up to whole row groups."""
        n_rows = int(os.environ.get("HALUT_ROWS", "48"))
        n_rows = max(3, -(-n_rows // self.config.rows)) * self.config.rows
        return golden.random_words(np.random.default_rng([seed, 2]), program, n_rows, corner)


def _test(**options: Any) -> Any:
    # A stuck device ends here and not at the runner's limit. 2 ns a cycle: a million cycles.
    return cocotb.test(timeout_time=2, timeout_unit="ms", **options)


@_test()
@cocotb.parametrize(pattern=STALL_PATTERNS, corner=[False, True])
async def rows_under_stalls(dut: Any, pattern: str, corner: bool) -> None:
    """Random and corner programs and rows come out exactly, whoever pauses."""
    seed = cocotb.RANDOM_SEED + 10 * corner
    tb = TB(dut)
    await tb.start(stalls(pattern, "sink", seed), valid_first=pattern in ("backpressure", "both"))
    program = tb.random_program(seed, corner)
    await tb.load(program, stalls(pattern, "source", seed + 1))
    words = tb.random_words(program, seed, corner)
    tb.board.expect(expected_beats(tb.config, program, words))
    await tb.rows.send(input_transfers(tb.config, words), stalls(pattern, "source", seed))
    await tb.drain()


@_test()
async def latency_and_interval(dut: Any) -> None:
    """Without stalls, results come `latency_cycles` after and every `interval_cycles`."""
    tb = TB(dut)
    c = tb.config
    await tb.start()
    program = tb.random_program(cocotb.RANDOM_SEED)
    await tb.load(program)
    words = tb.random_words(program, cocotb.RANDOM_SEED)
    tb.board.expect(expected_beats(c, program, words))
    await tb.rows.send(input_transfers(c, words), on_sent=tb.on_transfer)
    await tb.drain()
    latency = tb.beat_cycles[0] - tb.transfer_cycles[c.n_groups - 1]
    assert latency == c.latency_cycles, f"latency must be {c.latency_cycles} cycles, not {latency}"
    firsts = tb.beat_cycles[:: c.n_beats]
    intervals = set(np.diff(firsts).tolist())
    assert intervals == {c.interval_cycles}, (
        f"row groups must come every {c.interval_cycles} cycles, not {sorted(intervals)}"
    )
    assert tb.results.stall_cycles == 0


@_test()
@cocotb.parametrize(pattern=("none", "both"))
async def reload_while_computing(dut: Any, pattern: str) -> None:
    """A program offered amid a stream of rows: each row group sees one whole program."""
    seed = cocotb.RANDOM_SEED + 20
    tb = TB(dut)
    c = tb.config
    programs = [tb.random_program(seed + k, corner=k == 2) for k in range(3)]
    words = tb.random_words(programs[0], seed)
    await tb.start(stalls(pattern, "sink", seed))
    await tb.load(programs[0])
    n_row_groups = len(words) // c.rows
    n_words = len(program_image(c, programs[0]))
    sent = loaded = begun = 0

    def on_word() -> None:
        nonlocal loaded
        loaded += 1

    def on_transfer() -> None:
        """At a row group's first transfer: which program is in the memory now?"""
        nonlocal sent, begun
        if sent % c.n_groups == 0:
            current, partly = divmod(loaded, n_words)
            assert partly == 0, f"row group {begun} began with {partly} of {n_words} words written"
            group = words[begun * c.rows : (begun + 1) * c.rows]
            tb.board.expect(expected_beats(c, programs[current], group))
            seen.append(current)
            begun += 1
        sent += 1

    async def reload() -> None:
        for k in (1, 2):
            # Offered in the middle of a row group and kept on offer, so that no row group begins
            # between two words.
            while begun < k * n_row_groups // 3:
                await tb.edge
            await tb.words.send(program_image(c, programs[k]), on_sent=on_word)

    seen: list[int] = []
    reloading = cocotb.start_soon(reload())
    pause = stalls(pattern, "source", seed)
    await tb.rows.send(input_transfers(c, words), pause, on_sent=on_transfer)
    await reloading
    await tb.drain()
    assert set(seen) == {0, 1, 2}, f"every program must have been used, not only {set(seen)}"


@_test()
async def reset_amid_work(dut: Any) -> None:
    """After a reset nothing old comes out, and the program is still there."""
    seed = cocotb.RANDOM_SEED + 30
    tb = TB(dut)
    c = tb.config
    await tb.start(stalls("both", "sink", seed))
    program = tb.random_program(seed)
    await tb.load(program)
    words = tb.random_words(program, seed)
    transfers = input_transfers(c, words)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        tb.board.expect(expected_beats(c, program, words))
        sending = cocotb.start_soon(tb.rows.send(transfers, stalls("both", "source", seed)))
        for _ in range(int(rng.integers(1, 2 * c.n_groups + c.latency_cycles + 8))):
            await tb.edge
        sending.cancel()
        await tb.reset()
    tb.board.expect(expected_beats(c, program, words))
    await tb.rows.send(transfers)
    await tb.drain()


@_test()
async def a_wrong_table_bit_is_caught(dut: Any) -> None:
    """The bench can fail: one flipped bit of one table entry that a row selects."""
    seed = cocotb.RANDOM_SEED + 40
    tb = TB(dut)
    c = tb.config
    program = tb.random_program(seed)
    words = tb.random_words(program, seed)
    rng = np.random.default_rng(seed)
    codebook, output = int(rng.integers(c.n_codebooks)), int(rng.integers(c.n_outputs))
    code = int(golden.encode(program, words)[-1, codebook])
    lut = program.lut.copy()
    if c.lut_format == "fp16":  # the lowest bits may be lost in a sum's rounding
        lut.view(np.uint16)[output, codebook, code] ^= 1 << 14
    else:
        lut[output, codebook, code] ^= 1 << int(rng.integers(c.lut_bits - 1))
    await tb.start()
    await tb.load(dataclasses.replace(program, lut=lut))
    tb.tolerant = True
    tb.board.expect(expected_beats(c, program, words))
    await tb.rows.send(input_transfers(c, words))
    while not tb.board.done:
        await tb.edge
    assert tb.mismatches > 0, "a flipped table bit must be noticed"
