"""Testbench of the top module: every stream, every stall pattern, against the bit-exact model.

The environment names the job: ``HALUT_CONFIG`` is the configuration as JSON (`to_dict`),
``HALUT_ROWS`` how many rows each test sends (default 48). With ``HALUT_FAIL_FAST=1`` no test runs
after one that failed. Run it with `sim.runner.run`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ReadWrite

from halut import golden
from halut.errors import HalutError
from halut.program import Program
from rtl_gen import reference
from rtl_gen.contents import Place, ProgramContents
from rtl_gen.image import program_image, switch_word
from rtl_gen.tiled_config import AnyConfig, TiledConfig, config_from_dict
from sim.accelerator import (
    describe_beat,
    expected_beats,
    input_transfers,
    output_fields,
    port_widths,
)
from sim.fail_fast import fail_fast
from sim.scoreboard import Scoreboard
from sim.stalls import STALL_PATTERNS, idle_limit, stalls
from sim.streams import StreamDriver, StreamMonitor, watch
from sim.testbench import CLOCK_NS, StreamTestbench


class TB(StreamTestbench):
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
    contents : ProgramContents
        What the words that were accepted so far have made of the memories.
    output_cycles, transfer_cycles : list of int
        Clock cycle of every output transfer, and of every input transfer of `send`.
    """

    def __init__(self, dut: Any, config: AnyConfig | None = None) -> None:
        if config is None:
            config = config_from_dict(json.loads(os.environ["HALUT_CONFIG"]))
        self.config = config
        for name, width in port_widths(config).items():
            have = len(getattr(dut, name))
            assert have == width, f"{name} must have {width} bits, not {have}"
        board = Scoreboard(
            "o",
            lambda k, want, got: describe_beat(config, k, want, got),  # type: ignore[arg-type]
        )
        super().__init__(dut, board, config.latency_cycles)
        self.rows = StreamDriver(dut, "i", dut.clk_i)
        self.words = StreamDriver(dut, "program", dut.clk_i, fields=("address", "data"))
        self.results = StreamMonitor(
            dut, "o", dut.clk_i, receive=self.receive, fields=output_fields(config)
        )
        self.beats: list[int] = []
        self.transfer_cycles: list[int] = []
        self.contents = ProgramContents(config)
        self.rng = np.random.default_rng([cocotb.RANDOM_SEED, 3])
        self.n_resets = 0
        self._transfers = 0  # since the last reset
        self._written = -2  # the cycle of the last word for the program in use
        self._sending = 0

    def receive(self, item: tuple[int, ...]) -> None:
        self.beats.append(item[0])
        super().receive(item)

    async def start(self, wait: Iterator[bool] | None = None, *, valid_first: bool = False) -> None:
        """Start the clock, reset, and begin to take results, pausing as `wait` says."""
        # Low at first, so that the reset is there before the first edge.
        Clock(self.dut.clk_i, CLOCK_NS, unit="ns").start(start_high=False)
        await self.reset()
        if wait is not None:
            self.results.wait = wait
        self.results.valid_first = valid_first
        cocotb.start_soon(self.results.run())
        self.watch(lambda: not self.board.done or self._sending > 0)

    def watch(self, due: Callable[[], bool]) -> Any:
        """Fail when nothing moves on any stream although something is due; return the task."""
        idle = idle_limit(self.config)
        streams = (self.rows, self.words, self.results)
        return cocotb.start_soon(watch(streams, due, idle, CLOCK_NS))

    async def reset(self, cycles: int = 1, *, keep_words: bool = False) -> None:
        """Hold ``rst_ni`` at 0 for some cycles; what is due is forgotten.

        Nothing may be ready meanwhile: an item on offer is not taken. With `keep_words` the task
        that writes words goes on offering them.
        """
        self.dut.rst_ni.value = 0
        self.rows.idle()
        if not keep_words:
            self.words.idle()
        self.results.in_reset = True
        self.board.forget()
        for _ in range(cycles):
            await self.edge
            for stream in (self.rows, self.words):
                assert not stream.bit(stream.ready), f"{stream.name}_ready must be 0 in reset"
        self.n_resets += 1
        self.contents.reset()
        self._transfers = 0
        self.dut.rst_ni.value = 1
        await ReadWrite()  # whoever waited for the last edge in reset has seen it as such
        self.results.in_reset = False

    async def write(
        self, words: Sequence[tuple[int, int]], pause: Iterator[bool] | None = None
    ) -> None:
        """Write program words; return at the edge at which the last one was taken."""
        due = iter(words)
        c = self.config

        def taken() -> None:
            place = self.contents.write(*next(due))
            if place is None or self.is_aside(place):
                return
            assert self._transfers % c.n_groups == 0, (
                f"a word for the program in use must not be taken within a row group ({place})"
            )
            self._written = self.cycle

        self._sending += 1
        await self.words.send(words, pause, on_sent=taken)
        self._sending -= 1

    def is_aside(self, place: Place) -> bool:
        """Whether a word is for the bank that is not in use."""
        return place.region != "switch" and place.bank != self.contents.active_bank

    async def load(
        self, program: Program, pause: Iterator[bool] | None = None, bank: int = 0
    ) -> None:
        """Write a program's words in a random order; see `write`."""
        image = program_image(self.config, program, bank)
        await self.write([image[k] for k in self.rng.permutation(len(image))], pause)

    async def send(
        self,
        words: Any,
        pause: Iterator[bool] | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        """Send rows of input words; return at the edge at which the last transfer moved.

        Parameters
        ----------
        words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        pause : iterator of bool, optional
            See `StreamDriver.send`.
        on_begin : callable, optional
            Called at the first transfer of every row group.
        """

        def moved() -> None:
            self.transfer_cycles.append(self.cycle)
            if self._transfers % self.config.n_groups == 0:
                assert self.cycle > self._written + 1, (
                    "a row group must not begin in the cycle after a word for its program"
                )
                if on_begin:
                    on_begin()
            self._transfers += 1

        self._sending += 1
        try:
            await self.rows.send(input_transfers(self.config, words), pause, on_sent=moved)
        finally:
            self._sending -= 1

    def random_program(self, seed: int, corner: bool = False) -> Program:
        """Return a random program that fits the configuration."""
        return reference.random_program(self.config, np.random.default_rng([seed, 1]), corner)

    def random_words(
        self, program: Program, seed: int, corner: bool = False, at_least: int = 3
    ) -> Any:
        """Return input words of ``HALUT_ROWS`` rows, rounded up to whole row groups."""
        n_rows = int(os.environ.get("HALUT_ROWS", "48"))
        n_rows = max(at_least, -(-n_rows // self.config.rows)) * self.config.rows
        return golden.random_words(np.random.default_rng([seed, 2]), program, n_rows, corner)


def _test(**options: Any) -> Any:
    # A stuck device is found by `TB.watch`; this ends what moves for ever. 2 ns a cycle.
    return cocotb.test(timeout_time=2, timeout_unit="ms", **options)


@_test()
@cocotb.parametrize(pattern=STALL_PATTERNS, corner=[False, True])
@fail_fast
async def rows_under_stalls(dut: Any, pattern: str, corner: bool) -> None:
    """Random and corner programs and rows come out exactly, whoever pauses."""
    seed = cocotb.RANDOM_SEED + 10 * corner
    tb = TB(dut)
    await tb.start(stalls(pattern, "sink", seed), valid_first=pattern in ("backpressure", "both"))
    program = tb.random_program(seed, corner)
    await tb.load(program, stalls(pattern, "source", seed + 1))
    words = tb.random_words(program, seed, corner)
    tb.board.expect(expected_beats(tb.config, program, words))
    await tb.send(words, stalls(pattern, "source", seed))
    await tb.drain()


@_test()
@fail_fast
async def latency_and_interval(dut: Any) -> None:
    """Without stalls, results come `latency_cycles` after and every `interval_cycles`.

    Words for the other bank, where there is one, change nothing of that.
    """
    tb = TB(dut)
    c = tb.config
    await tb.start()
    program = tb.random_program(cocotb.RANDOM_SEED)
    await tb.load(program)
    words = tb.random_words(program, cocotb.RANDOM_SEED)
    tb.board.expect(expected_beats(c, program, words))
    sending = cocotb.start_soon(tb.send(words))
    for bank in range(1, _banks(c)):
        await tb.load(tb.random_program(cocotb.RANDOM_SEED + 1), bank=bank)
        assert tb.words.stall_cycles == 0, "words for the other bank must be taken in any cycle"
    await sending
    await tb.drain()
    latency = tb.output_cycles[0] - tb.transfer_cycles[c.n_groups - 1]
    assert latency == c.latency_cycles, f"latency must be {c.latency_cycles} cycles, not {latency}"
    firsts = tb.output_cycles[:: c.n_beats]
    intervals = set(np.diff(firsts).tolist())
    assert intervals == {c.interval_cycles}, (
        f"row groups must come every {c.interval_cycles} cycles, not {sorted(intervals)}"
    )
    assert tb.results.stall_cycles == 0


def _banks(config: AnyConfig) -> int:
    return (config.unit if isinstance(config, TiledConfig) else config).n_banks


def _passage_cycles(config: AnyConfig) -> int:
    """Longest time between two single words: a row group has gone through meanwhile."""
    return 2 * config.n_groups + config.latency_cycles + 4


class _Writer:
    """Offers single program words at any cycle, all kinds of them, until it is asked to stop.

    Parameters
    ----------
    tb : TB
    programs : sequence of Program
        The words are theirs, in any bank.
    rows : callable () -> ndarray of shape (P, n_codebooks, tree_depth)
        The rows that come next: many words are for entries that these select.

    Attributes
    ----------
    counts : dict of str to int
        Words so far by region; ``"nothing"`` is that of addresses that stand for nothing.
    """

    def __init__(self, tb: TB, programs: Sequence[Program], rows: Callable[[], Any]) -> None:
        self.tb = tb
        self.rows = rows
        self.stop = False
        self.counts: dict[str, int] = {}
        self._pool: dict[str, list[tuple[int, int]]] = {}
        self._tables: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        self._n_banks = _banks(tb.config)
        for program in programs:
            for bank in range(self._n_banks):
                for word in program_image(tb.config, program, bank):
                    place = tb.contents.place(word[0])
                    assert place is not None, f"address {word[0]:#x} must stand for something"
                    self._pool.setdefault(place.region, []).append(word)
                    if place.region == "lut":
                        key = (bank, place.codebook, place.prototype)
                        self._tables.setdefault(key, []).append(word)

    async def run(self) -> None:
        """Write words; the time between two is anything from no cycle to a row group's passage."""
        tb, rng = self.tb, self.tb.rng
        longest = _passage_cycles(tb.config)
        while not self.stop:
            for _ in range(int(rng.integers(0, int(rng.choice([1, 4, longest])) + 1))):
                await tb.edge
            word = self._word()
            if word is None or self.stop:
                await tb.edge
                continue
            place = tb.contents.place(word[0])
            before = (tb.words.stall_cycles, tb.n_resets)
            aside = place is not None and tb.is_aside(place)
            await tb.write([word])
            region = place.region if place else "nothing"
            self.counts[region] = self.counts.get(region, 0) + 1
            if aside and tb.n_resets == before[1]:
                stalled = tb.words.stall_cycles - before[0]
                assert not stalled, f"a word for the other bank must not wait {stalled} cycles"

    def _word(self) -> tuple[int, int] | None:
        tb, rng = self.tb, self.tb.rng
        missing = [region for region in self._pool if region not in self.counts]
        kind = 1.0 if missing else rng.random()  # one word of every region at first
        if kind < 0.1:
            if self._n_banks > 1:
                return switch_word(tb.config, int(rng.integers(2)))
            kind = 1.0
        if kind < 0.2:
            address = int(rng.integers(1 << tb.config.program_address_bits))
            data = int.from_bytes(rng.bytes(tb.config.program_data_bits // 8 + 1), "little")
            data &= (1 << tb.config.program_data_bits) - 1
            return (address, data) if tb.contents.place(address) is None else None
        if kind < 0.6:
            program = tb.contents.program()
            codes = golden.encode(program, self.rows())
            codebook = int(rng.integers(codes.shape[1]))
            code = int(codes[rng.integers(len(codes)), codebook])
            choice = self._tables[tb.contents.active_bank, codebook, code]
            return choice[rng.integers(len(choice))]
        regions = missing or list(self._pool)
        region = regions[rng.integers(len(regions))]
        word = self._pool[region][rng.integers(len(self._pool[region]))]
        if region == "output":  # parts of the constants of two programs may be none
            trial = copy.deepcopy(tb.contents)
            place = trial.write(*word)
            try:
                trial.program(place.bank if place else None)
            except HalutError:
                return None
        return word


async def _words_amid_rows(dut: Any, pattern: str, seed: int, *, resets: bool, lag: int) -> TB:
    """Send rows while single words are written; with `lag` 1 the model hears of words late."""
    tb = TB(dut)
    c = tb.config
    await tb.start(stalls(pattern, "sink", seed))
    programs = [tb.random_program(seed + k, corner=k == 2) for k in range(3)]
    for bank in range(_banks(c)):
        await tb.load(programs[bank], bank=bank)
    # As many row groups as there is time for some 16 words between.
    n_groups = max(16, 8 * _passage_cycles(c) // c.interval_cycles)
    words = tb.random_words(programs[0], seed, at_least=n_groups)
    begun = 0
    history = [tb.contents.program()] * (lag + 1)
    seen: set[int] = set()

    def group(index: int) -> Any:
        first = min(index * c.rows, len(words) - c.rows)
        return words[first : first + c.rows]

    def on_begin() -> None:
        nonlocal begun
        history.append(tb.contents.program())
        seen.add(tb.contents.active_bank)
        tb.board.expect(expected_beats(c, history[-1 - lag], group(begun)))
        begun += 1

    writer = _Writer(tb, programs, lambda: group(begun))
    writing = cocotb.start_soon(writer.run())
    pause = stalls(pattern, "source", seed)
    tb.board.tolerant = lag > 0
    while resets and begun < len(words) // c.rows // 2:
        sending = cocotb.start_soon(tb.send(words[begun * c.rows :], pause, on_begin))
        for _ in range(int(tb.rng.integers(1, 4 * c.n_groups + 2 * c.latency_cycles + 16))):
            await tb.edge
        sending.cancel()
        await tb.reset(int(tb.rng.choice([1, 1, 2, 5])), keep_words=True)
    await tb.send(words[begun * c.rows :], pause, on_begin)
    writer.stop = True
    await writing
    if lag == 0:
        await tb.drain()
        assert {"lut", "thresholds"} <= set(writer.counts), f"too few words: {writer.counts}"
    else:
        while not tb.board.done:
            await tb.edge
    return tb


@_test()
@cocotb.parametrize(pattern=("none", "both"), resets=[False, True])
@fail_fast
async def words_amid_rows(dut: Any, pattern: str, resets: bool) -> None:
    """Single words at any time: each row group sees exactly those accepted before it began."""
    await _words_amid_rows(dut, pattern, cocotb.RANDOM_SEED + 20, resets=resets, lag=0)


@_test()
@fail_fast
async def a_late_model_is_caught(dut: Any) -> None:
    """The bench can fail: a model that hears of every word one row group late."""
    tb = await _words_amid_rows(dut, "none", cocotb.RANDOM_SEED + 50, resets=False, lag=1)
    assert tb.board.n_wrong > 0, "a word that came too late must be noticed"


@_test()
@fail_fast
async def reset_amid_work(dut: Any) -> None:
    """After a reset of one cycle or more nothing old comes out, and the program is still there."""
    seed = cocotb.RANDOM_SEED + 30
    tb = TB(dut)
    c = tb.config
    await tb.start(stalls("both", "sink", seed))
    program = tb.random_program(seed)
    await tb.load(program)
    words = tb.random_words(program, seed)
    rng = np.random.default_rng(seed)
    for turn in range(8):
        tb.board.expect(expected_beats(c, program, words))
        pause = stalls("both", "source", seed) if turn % 2 else None
        sending = cocotb.start_soon(tb.send(words, pause))
        for _ in range(int(rng.integers(1, 2 * c.n_groups + c.latency_cycles + 8))):
            await tb.edge
        sending.cancel()
        await tb.reset(1 + turn % 3)
    tb.board.expect(expected_beats(c, program, words))
    await tb.send(words)
    await tb.drain()


def _with_a_flipped_bit(
    config: AnyConfig, program: Program, words: Any, rng: np.random.Generator
) -> Program:
    """Flip one bit of an entry that the last row selects."""
    codebook, output = int(rng.integers(config.n_codebooks)), int(rng.integers(config.n_outputs))
    code = int(golden.encode(program, words)[-1, codebook])
    lut = program.lut.copy()
    if config.lut_format == "fp16":
        lut.view(np.uint16)[output, codebook, code] ^= 1 << 14  # of the exponent
    else:
        lut[output, codebook, code] ^= 1 << int(rng.integers(config.lut_bits - 1))
    return dataclasses.replace(program, lut=lut)


@_test()
@fail_fast
async def a_wrong_table_bit_is_caught(dut: Any) -> None:
    """The bench can fail: one flipped bit of one table entry, which changes results."""
    seed = cocotb.RANDOM_SEED + 40
    tb = TB(dut)
    c = tb.config
    program = tb.random_program(seed)
    words = tb.random_words(program, seed)
    expected = expected_beats(c, program, words)
    rng = np.random.default_rng(seed)
    for _ in range(100):  # rounding, limits and ReLU hide some flips
        wrong = _with_a_flipped_bit(c, program, words, rng)
        if expected_beats(c, wrong, words) != expected:
            break
    else:
        raise AssertionError("one flipped bit of 100 must change a result")
    await tb.start()
    await tb.load(wrong)
    tb.board.tolerant = True
    tb.board.expect(expected)
    await tb.send(words)
    while not tb.board.done:
        await tb.edge
    assert tb.board.n_wrong > 0, "a flipped table bit must be noticed"
