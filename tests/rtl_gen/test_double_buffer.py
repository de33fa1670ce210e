"""Two programs in one accelerator: one is loaded while the other one computes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from halut.errors import HalutError
from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig
from rtl_gen.generate import generate, write
from rtl_gen.image import program_image, switch_word
from rtl_gen.program_port import describe_program_port
from rtl_gen.tiled_config import TiledConfig, result_order
from tests.rtl_gen.support import TopBench, lint, random_case

COMMON = {"n_prototypes": 4, "n_outputs": 2, "input_format": "int8", "double_buffer": True}
TILES = {"codebook_tiles": 2, "output_tiles": 2}
CONFIGS = {
    "interleaved": {"n_codebooks": 4},
    "threes": {"n_codebooks": 6, "rows": 2, "parallel_codebooks": 2, "encoder": "pipelined"},
    "unrolled": {"n_codebooks": 3, "rows": 2, "parallel_codebooks": 3, "encoder": "pipelined",
                 "tree_levels_per_stage": 2},
    "one-codebook": {"n_codebooks": 1, "encoder": "pipelined"},
    "lutram": {"n_codebooks": 6, "parallel_codebooks": 2, "rows": 2, "memory": "lutram"},
    "lutram-unrolled": {"n_codebooks": 3, "parallel_codebooks": 3, "memory": "lutram"},
    "sram": {"n_codebooks": 6, "parallel_codebooks": 2, "rows": 2, "memory": "sram"},
    "sram-unrolled": {"n_codebooks": 3, "parallel_codebooks": 3, "memory": "sram",
                      "output_format": "int8"},
    "to-int8": {"n_codebooks": 4, "output_format": "int8", "relu": True},
    "to-fp16": {"n_codebooks": 2, "parallel_codebooks": 2, "encoder": "pipelined", "rows": 2,
                "output_format": "fp16", "outputs_per_cycle": 1, "memory": "lutram"},
    "one-output": {"n_codebooks": 2, "output_format": "fp16", "n_outputs": 1},
    "tiled": {"n_codebooks": 2, "outputs_per_cycle": 1},
    "tiled-to-int8": {"n_codebooks": 2, "output_format": "int8"},
}  # fmt: skip


def _config(name):
    unit = AcceleratorConfig(**{**COMMON, **CONFIGS[name]})
    return TiledConfig(unit=unit, **TILES) if name.startswith("tiled") else unit


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", ["none", "both"])
def test_loads_under_load(name, stall):
    """Programs 1 and 2 are written while rows of the one before stream, without a gap."""
    config = _config(name)
    unit = config.unit if isinstance(config, TiledConfig) else config
    programs = [random_case(config, 1, seed=seed, corner=seed == 2)[0] for seed in range(3)]
    n_words = len(program_image(config, programs[0]))
    n_groups = 12 + n_words // config.interval_cycles
    words = random_case(config, n_groups * config.rows)[1]
    bench = TopBench(config, stall)
    loaded: list[int] = []
    state = {"switched": -1, "sent": -1}

    def image(k):
        return [{"address": a, "data": d} for a, d in program_image(config, programs[k], k % 2)]

    async def load(ctx):
        for k in range(3):
            await bench.send(ctx, bench.top.program, image(k), loaded if k else None)
            while state["sent"] < k - 1:
                await ctx.tick()
            address, data = switch_word(config, k % 2)
            await bench.send(ctx, bench.top.program, [{"address": address, "data": data}])
            state["switched"] = k

    async def send(ctx):
        payloads = bench.payloads(words)
        for k in range(3):
            while state["switched"] < k:
                await ctx.tick()
            cycles = bench.input_cycles
            await bench.send(ctx, bench.top.i, payloads, cycles, bench.input_pause)
            state["sent"] = k

    async def receive(ctx):
        await bench.receive(ctx, 3 * n_groups * config.n_beats)

    bench.run(load, send, receive)
    order = result_order(config).ravel()
    sums = np.empty((3 * n_groups, len(order)), dtype=np.int64)
    sums[:, order] = np.array(bench.results).reshape(3 * n_groups, -1)
    results = [reference.results(config, program, words) for program in programs]
    expected = reference.result_words(np.concatenate(results))
    np.testing.assert_array_equal(sums.reshape(expected.shape), expected)
    # The words were taken while rows moved, one in every cycle.
    sent = np.array(bench.input_cycles).reshape(3, -1)
    for k, cycles in enumerate(np.array(loaded).reshape(2, -1)):
        assert cycles[0] < sent[k, config.n_groups] and cycles[-1] < sent[k, -1]
        assert set(np.diff(cycles)) == {1}
    if stall == "none":
        starts = sent[:, :: config.n_groups]
        # The pipeline fills at the start, until the output holds it up.
        assert set(np.diff(starts[:, 6:], axis=1).ravel()) == {config.interval_cycles}
        last = sent[:-1, -1]
        # A switch waits for the pipeline to be empty, and settles for a cycle.
        if config.n_beats == 1 and config.output_constants:
            assert set(sent[1:, 0] - last) == {config.latency_cycles + 3}
        elif config.n_beats == 1:
            assert set(sent[1:, 0] - last) == {unit.pipeline_stages + 2}


@pytest.mark.parametrize("name", CONFIGS)
def test_verilog_is_clean(name, tmp_path):
    config = _config(name)
    path = write(config, tmp_path / "a.v")
    top = "halut_tiled" if name.startswith("tiled") else "halut_matmul"
    assert lint(path, top) == (0, "")


@pytest.mark.parametrize("name", ["threes", "to-int8", "one-output", "tiled-to-int8"])
def test_addresses_of_both_banks_are_distinct(name):
    config = _config(name)
    program, _ = random_case(config, 2)
    addresses = [a for bank in (0, 1) for a, _ in program_image(config, program, bank)]
    addresses += [switch_word(config, bank)[0] for bank in (0, 1)]
    assert len(set(addresses)) == len(addresses)
    assert max(addresses) < 1 << config.program_address_bits
    switch = describe_program_port(config)["commands"]["switch"]
    assert (set(switch["fixed"]), set(switch["fields"])) == ({"command"}, {"bank"})


def test_a_single_bank_is_what_it_was():
    """No trace in configuration, Verilog or addresses."""
    single = dataclasses.replace(_config("threes"), double_buffer=False)
    assert "double_buffer" not in single.to_dict()
    assert AcceleratorConfig.from_dict(single.to_dict()) == single
    assert _config("threes").to_dict()["double_buffer"] is True
    assert "switch" not in single.address_fields
    assert "bank" not in generate(single).verilog


def test_errors():
    with pytest.raises(HalutError, match="double_buffer must be true or false, not 1"):
        AcceleratorConfig(double_buffer=1)
    single = AcceleratorConfig(n_codebooks=2)
    program, _ = random_case(single, 1)
    with pytest.raises(HalutError, match=r"bank must be in \[0, 1\), not 1"):
        program_image(single, program, 1)
    with pytest.raises(HalutError, match="double_buffer must be set to switch"):
        switch_word(single, 1)
    with pytest.raises(HalutError, match=r"bank must be in \[0, 2\), not 2"):
        switch_word(_config("threes"), 2)
