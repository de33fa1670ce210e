"""One cycle of reset: nothing moves in it, nothing is left of what was on its way."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct.config import DotProductConfig, StoredMatrixConfig, SystolicConfig
from rtl_gen.direct.generate import engine_unit
from rtl_gen.front_end import FrontEndConfig, HalutConvolution
from rtl_gen.reference import results
from rtl_gen.tiled_config import TiledConfig, result_order
from tests.rtl_gen.support import TopBench, random_case

UNIT = {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2}
CONFIGS = {
    "interleaved": AcceleratorConfig(**UNIT),
    "beats": AcceleratorConfig(n_codebooks=2, n_prototypes=4, n_outputs=6, rows=2,
                               parallel_codebooks=2, outputs_per_cycle=2, encoder="pipelined"),
    "to-int8": AcceleratorConfig(**UNIT, output_format="int8", encoder="pipelined"),
    "tiled": TiledConfig(unit=AcceleratorConfig(**UNIT, parallel_codebooks=2), codebook_tiles=2),
    "double": AcceleratorConfig(**UNIT, double_buffer=True),
}  # fmt: skip


def _simulate(top, *processes):
    """Simulate with a reset of our own: what `processes` get beside the context."""
    m = Module()
    m.submodules.top = top
    m.domains.sync = domain = ClockDomain()
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    for process in processes:
        simulator.add_testbench(partial(process, reset=domain.rst))
    simulator.run()


async def _one_cycle(ctx, reset, top, outputs):
    """Reset for one cycle with everything offered; every handshake of the accelerator is 0."""
    ctx.set(reset, 1)
    offered = [getattr(top, name) for name in ("i", "program", "gather") if hasattr(top, name)]
    for stream in offered:
        ctx.set(stream.valid, 1)
    for stream in outputs:
        ctx.set(stream.ready, 1)
    handshakes = [*(stream.ready for stream in offered), *(stream.valid for stream in outputs)]
    assert [ctx.get(bit) for bit in handshakes] == [0] * len(handshakes)
    await ctx.tick()
    ctx.set(reset, 0)
    for stream in offered:
        ctx.set(stream.valid, 0)
    for stream in outputs:
        ctx.set(stream.ready, 0)


@pytest.mark.parametrize("moment", ["words", "rows", "results"])
@pytest.mark.parametrize("name", CONFIGS)
def test_reset_for_one_cycle(name, moment):
    """In the middle of words, of a row group, and of results; then all is as from the start."""
    config = CONFIGS[name]
    bench = TopBench(config)
    program, words = random_case(config, 3 * config.rows)
    image, payloads = bench.image(program), bench.payloads(words)
    before = {
        "words": (image[: len(image) // 2], [], 0),
        # Some rows are inside, and of the last row group all but one transfer.
        "rows": (image, payloads[: max(1, 2 * config.n_groups - 1)], 0),
        "results": (image, payloads[: 2 * config.n_groups], 1),
    }[moment]
    n_results = len(payloads) // config.n_groups * config.n_beats

    async def stimulus(ctx, reset):
        top = bench.top
        await bench.send(ctx, top.program, before[0])
        if before[1]:
            await bench.send(ctx, top.i, before[1])
        if before[2]:
            while not ctx.get(top.o.valid):
                await ctx.tick()
        await _one_cycle(ctx, reset, top, [top.o])
        assert ctx.get(top.o.valid) == 0
        # A row group may begin at once; the rest of the program first, where there is any.
        if moment == "words":
            await bench.send(ctx, top.program, image[len(image) // 2 :])
        await bench.send(ctx, top.i, payloads)

    async def response(ctx, reset):
        while not ctx.get(reset):
            await ctx.tick()
        await ctx.tick()
        await bench.receive(ctx, n_results)

    _simulate(bench.top, stimulus, response)
    assert len(bench.results) == len(words) * config.n_outputs > 0
    got = np.empty((len(words) // config.rows, config.rows * config.n_outputs), dtype=np.int64)
    got[:, result_order(config).ravel()] = np.array(bench.results).reshape(len(got), -1)
    expected = results(config, program, words).astype(np.int64)
    if config.output_format == "int8":  # the stream's bytes are signed
        expected = expected.astype(np.int8).astype(np.int64)
    assert np.array_equal(got.reshape(expected.shape), expected)


def test_latency_is_not_changed_by_a_reset():
    config = CONFIGS["interleaved"]
    bench = TopBench(config)
    program, words = random_case(config, 1)
    payloads = bench.payloads(words)
    seen = []

    async def stimulus(ctx, reset):
        await bench.send(ctx, bench.top.program, bench.image(program))
        await _one_cycle(ctx, reset, bench.top, [bench.top.o])
        ctx.set(bench.top.o.ready, 1)
        for payload in payloads:
            ctx.set(bench.top.i.valid, 1)
            ctx.set(bench.top.i.payload, payload)
            assert ctx.get(bench.top.i.ready) == 1  # in the first cycle after it, too
            await ctx.tick()
        ctx.set(bench.top.i.valid, 0)
        cycles = 1
        while not ctx.get(bench.top.o.valid):
            await ctx.tick()
            cycles += 1
        seen.append(cycles)

    _simulate(bench.top, stimulus)
    assert seen == [config.latency_cycles]


def _tops():
    accelerator = AcceleratorConfig(**UNIT, rows=2, input_format="int8")
    yield HalutConvolution(FrontEndConfig(accelerator=accelerator, height=4, width=4, channels=4))
    yield engine_unit(DotProductConfig(length=4, columns=3, weights="latch"))
    yield engine_unit(DotProductConfig(length=4, columns=3))
    yield engine_unit(SystolicConfig(rows=3, columns=2))
    yield engine_unit(StoredMatrixConfig(n_groups=3, group_features=3, n_outputs=4))


@pytest.mark.parametrize("top", list(_tops()), ids=lambda top: type(top).__name__)
def test_nothing_moves_in_reset(top):
    """Front ends and direct engines: at the start, and while transfers are on their way."""

    async def process(ctx, reset):
        await _one_cycle(ctx, reset, top, [top.o])
        assert ctx.get(top.i.ready) == 1
        ctx.set(top.i.valid, 1)
        for _ in range(14):
            await ctx.tick()
        await _one_cycle(ctx, reset, top, [top.o])
        assert (ctx.get(top.i.ready), ctx.get(top.o.valid)) == (1, 0)

    _simulate(top, process)
