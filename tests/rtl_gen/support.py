"""Streams and runs for units in Amaranth's own simulator."""

from __future__ import annotations

import random
import subprocess
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from halut import golden
from halut.errors import HalutError
from halut.program import Program
from rtl_gen import reference
from rtl_gen.direct import EngineConfig, StoredMatrixConfig
from rtl_gen.direct.generate import engine_unit
from rtl_gen.image import program_image
from rtl_gen.tiled import HalutTiled
from rtl_gen.tiled_config import AnyConfig, TiledConfig, result_order
from rtl_gen.top import HalutMatmul
from sim import simulators
from sim.direct import Item, Job

STALLS = ("none", "gaps", "backpressure", "both")


def simulate(unit, *processes, clocked=True):
    """Run testbench coroutines on a unit until all of them return."""
    m = Module()
    m.submodules.unit = unit
    if clocked:
        m.domains.sync = ClockDomain()
    simulator = Simulator(m)
    if clocked:
        simulator.add_clock(1e-6)
    for process in processes:
        simulator.add_testbench(process)
    simulator.run()


def pause(rng: random.Random, stalled: bool) -> Callable[[], bool]:
    """A generator of idle cycles: never, or in a bit less than half of the cycles."""
    return lambda: stalled and rng.random() < 0.4


def transfers(config: AnyConfig, words: np.ndarray) -> list[int]:
    """Pack words (N, C, T) to input transfers; N must be a multiple of the rows."""
    n, c, t = words.shape
    q, p = config.parallel_codebooks, config.rows
    mask = (1 << config.input_bits) - 1
    grouped = words.astype(np.int64).reshape(n // p, p, c // q, q, t).transpose(0, 2, 1, 3, 4)
    result = []
    for transfer in grouped.reshape(-1, p * q * t):
        values = [(int(v) & mask) << (i * config.input_bits) for i, v in enumerate(transfer)]
        result.append(sum(values))
    return result


class TopBench:
    """Drives the whole accelerator and keeps what comes out and when."""

    def __init__(self, config: AnyConfig, stall: str = "none", seed: int = 1):
        self.config = config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_tiled = isinstance(config, TiledConfig)
            self.top = HalutTiled(config) if is_tiled else HalutMatmul(config)
        self.rng = random.Random(seed)
        self.stall(stall)
        self.input_cycles: list[int] = []
        self.output_cycles: list[int] = []
        self.results: list[int] = []
        self.cycle = 0

    async def count(self, ctx):
        while True:
            await ctx.tick()
            self.cycle += 1

    async def send(self, ctx, stream, payloads, cycles=None, idle=lambda: False):
        """Send payloads; each takes effect at the clock edge at which valid and ready are high."""
        for payload in payloads:
            while idle():
                await ctx.tick()
            ctx.set(stream.valid, 1)
            ctx.set(stream.payload, payload)
            while True:
                _, _, ready = await ctx.tick().sample(stream.ready)
                if ready:
                    break
            if cycles is not None:
                cycles.append(self.cycle)
            ctx.set(stream.valid, 0)

    async def receive(self, ctx, n_transfers):
        """Take output transfers and check index and last of each."""
        stream, c = self.top.o, self.config
        for number in range(n_transfers):
            while self.output_pause():
                ctx.set(stream.ready, 0)
                await ctx.tick()
            ctx.set(stream.ready, 1)
            while True:
                _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
                if valid:
                    break
            self.output_cycles.append(self.cycle)
            beat = number % c.n_beats
            assert payload.last == (beat == c.n_beats - 1)
            if c.n_beats > 1:
                assert payload.index == beat
            self.results += [payload.data[j] for j in range(c.output_width)]
        ctx.set(stream.ready, 0)

    def payloads(self, words):
        """Input payloads of words (N, C, T)."""
        shape = self.top.i.payload.shape()
        return [shape.from_bits(value) for value in transfers(self.config, words)]

    def image(self, program: Program):
        """Program payloads."""
        return [{"address": a, "data": d} for a, d in program_image(self.config, program)]

    def run(self, *processes):
        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_process(self.count)
        for process in processes:
            simulator.add_testbench(process)
        simulator.run()

    def stall(self, pattern: str) -> None:
        """Pause inputs, or outputs, or both, from now on."""
        self.input_pause = pause(self.rng, pattern in ("gaps", "both"))
        self.output_pause = pause(self.rng, pattern in ("backpressure", "both"))

    def matmul(self, program: Program, words: np.ndarray) -> np.ndarray:
        """Load a program, send words (N, C, T), return results (N, M) as integers."""
        [results] = self.matmuls([(program, words)])
        return results

    def matmuls(
        self, cases: Sequence[tuple[Program, np.ndarray]], stalls: Sequence[str] = ()
    ) -> list[np.ndarray]:
        """Do the same for one case after the other, each with its pattern of stalls."""
        n_beats = [len(words) // self.config.rows * self.config.n_beats for _, words in cases]
        n_finished = 0

        async def stimulus(ctx):
            for number, (program, words) in enumerate(cases):
                while n_finished < number:
                    await ctx.tick()
                if stalls:
                    self.stall(stalls[number])
                await self.send(ctx, self.top.program, self.image(program))
                payloads = self.payloads(words)
                await self.send(ctx, self.top.i, payloads, self.input_cycles, self.input_pause)

        async def response(ctx):
            nonlocal n_finished
            for n in n_beats:
                await self.receive(ctx, n)
                n_finished += 1

        self.run(stimulus, response)
        order = result_order(self.config).ravel()
        found = np.array(self.results).reshape(-1, len(order))
        sums = np.empty_like(found)
        sums[:, order] = found
        ends = np.cumsum([len(words) for _, words in cases])[:-1]
        return np.split(sums.reshape(-1, self.config.n_outputs), ends)


class EngineBench:
    """Drives a direct engine and keeps when transfers were made.

    Attributes
    ----------
    cycles : list of dict
        Per job the cycles of all transfers of ``program``, ``i`` and ``o``.
    """

    def __init__(self, config: EngineConfig, stall: str = "none"):
        self.unit = engine_unit(config)
        rng = random.Random(7)
        self.input_pause = pause(rng, stall in ("gaps", "both"))
        self.output_pause = pause(rng, stall in ("backpressure", "both"))
        self.cycle = 0
        self.cycles: list[dict[str, list[int]]] = []

    async def _count(self, ctx):
        while True:
            await ctx.tick()
            self.cycle += 1

    async def _send(self, ctx, stream, fields, items, cycles, idle=lambda: False):
        for item in items:
            while idle():
                await ctx.tick()
            ctx.set(stream.valid, 1)
            for name, value in zip(fields, item, strict=True):
                part = getattr(stream.payload, name) if len(fields) > 1 else stream.payload
                ctx.set(part.as_value() if hasattr(part, "as_value") else part, value)
            while True:
                _, _, ready = await ctx.tick().sample(stream.ready)
                if ready:
                    break
            cycles.append(self.cycle)
            ctx.set(stream.valid, 0)

    def run(self, work: Job) -> list[int]:
        """Results of a job after a reset, as `packed_items` has them."""
        [results] = self.run_all([work], [len(work.outputs) - work.n_filling])
        return results

    def run_all(self, jobs: Sequence[Job], n_results: Sequence[int]) -> list[list[int]]:
        """Results of jobs, each begun when `n_results` transfers of the one before have come."""
        results: list[list[int]] = [[] for _ in jobs]
        self.cycles = [{"program": [], "i": [], "o": []} for _ in jobs]
        n_done = 0

        async def stimulus(ctx):
            for number, work in enumerate(jobs):
                while n_done < number:
                    await ctx.tick()
                cycles = self.cycles[number]
                for name, value in work.fixed.items():
                    ctx.set(getattr(self.unit, name).as_value(), value)
                if work.program:
                    program, fields = self.unit.program, work.program_fields
                    await self._send(ctx, program, fields, work.program, cycles["program"])
                inputs, fields = self.unit.i, work.input_fields
                await self._send(
                    ctx, inputs, fields, work.inputs, cycles["i"], self.input_pause
                )  # fmt: skip

        async def response(ctx):
            nonlocal n_done
            stream = self.unit.o
            for number, count in enumerate(n_results):
                for _ in range(count):
                    while self.output_pause():
                        ctx.set(stream.ready, 0)
                        await ctx.tick()
                    ctx.set(stream.ready, 1)
                    while True:
                        _, _, valid, payload = await ctx.tick().sample(
                            stream.valid, stream.payload.as_value()
                        )
                        if valid:
                            break
                    self.cycles[number]["o"].append(self.cycle)
                    results[number].append(payload)
                n_done += 1

        simulator = Simulator(self.unit)
        simulator.add_clock(1e-6)
        simulator.add_process(self._count)
        simulator.add_testbench(stimulus)
        simulator.add_testbench(response)
        simulator.run()
        return results


def packed_items(config: EngineConfig, items: Sequence[Item]) -> list[int]:
    """Items of a direct engine's output stream as whole payloads."""
    width = config.sums_per_transfer * config.accumulator_bits
    n_beats = config.output.n_beats if isinstance(config, StoredMatrixConfig) else 1
    index_bits = (n_beats - 1).bit_length()
    packed = []
    for item in items:
        value = item[0]
        if len(item) == 2:
            value |= item[1] << width
        if len(item) == 3:
            value |= item[1] << width | item[2] << (width + index_bits)
        packed.append(value)
    return packed


def random_case(config: AnyConfig, n_rows: int, seed: int = 1, corner: bool = False):
    """A random program that fits and random words for it."""
    rng = np.random.default_rng(seed)
    program = reference.random_program(config, rng, corner)
    return program, golden.random_words(rng, program, n_rows, corner=corner)


def check_sums_latency_and_rate(config: AnyConfig) -> None:
    """Random and corner programs with every pattern of stalls give the reference's results.

    Without stalls, the first case's come after the stated latency and at the stated interval.
    """
    n_groups = 6
    stalls = [stall for stall in STALLS for _ in range(2)]
    cases = [
        random_case(config, n_groups * config.rows, seed=1 + number, corner=bool(number % 2))
        for number in range(len(stalls))
    ]
    bench = TopBench(config)
    found = bench.matmuls(cases, stalls)
    assert len(found) == len(cases)
    for (program, words), results in zip(cases, found, strict=True):
        expected = reference.result_words(reference.results(config, program, words))
        np.testing.assert_array_equal(results, expected)
    sent = bench.input_cycles[config.n_groups - 1 :: config.n_groups][:n_groups]
    received = bench.output_cycles[:: config.n_beats][:n_groups]
    assert len(sent) == len(received) == n_groups
    assert received[0] - sent[0] == config.latency_cycles
    assert set(np.diff(received[2:])) == {config.interval_cycles}


def lint(path, top, *flags):
    """Exit status and messages of Verilator's lint, every warning on; skipped without Verilator."""
    try:
        verilator = simulators.find("verilator")
    except HalutError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [verilator.program(), "--lint-only", "-Wall", *flags, "--top", top, str(path)],
        env=verilator.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
