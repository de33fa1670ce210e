"""The whole accelerator in Amaranth's simulator: sums, latency, rate, program changes."""

from __future__ import annotations

import numpy as np
import pytest

from halut import golden
from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig
from tests.rtl_gen.support import TopBench, check_sums_latency_and_rate, random_case

CONFIGS = {
    "interleaved": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2},
    "interleaved-deep": {"n_codebooks": 2, "n_prototypes": 32, "n_outputs": 1},
    "interleaved-parallel": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                             "parallel_codebooks": 4, "input_format": "int8"},
    "pipelined": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 3, "encoder": "pipelined"},
    "row-parallel": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "rows": 4,
                     "encoder": "pipelined", "input_format": "int6", "lut_bits": 4},
    "unrolled": {"n_codebooks": 5, "n_prototypes": 4, "n_outputs": 2, "parallel_codebooks": 5,
                 "encoder": "pipelined", "input_format": "int8"},
    "dense": {"n_codebooks": 8, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
              "parallel_codebooks": 8, "encoder": "pipelined", "adder_levels_per_stage": 1},
    "groups-of-three": {"n_codebooks": 9, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                        "parallel_codebooks": 3, "encoder": "pipelined"},
    "lutram": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
               "parallel_codebooks": 2, "memory": "lutram"},
    "sram": {"n_codebooks": 9, "n_prototypes": 4, "n_outputs": 4, "rows": 2,
             "parallel_codebooks": 3, "memory": "sram", "write_word_bits": 16},
    "sram-unrolled": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 3, "rows": 2,
                      "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
                      "memory": "sram", "look_up_adder_levels": 0, "adder_levels_per_stage": 1},
    "sram-to-int8": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "memory": "sram",
                     "parallel_codebooks": 2, "output_format": "int8"},
    "sram-lut-fp16": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "lut_format": "fp16",
                      "lut_bits": 16, "parallel_codebooks": 2, "memory": "sram"},
    "sram-smallest": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "encoder": "pipelined",
                      "memory": "sram"},
    "addressed": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 2, "rows": 3,
                  "parallel_codebooks": 4, "encoder": "addressed", "input_format": "int8",
                  "memory": "lutram", "look_up_adder_levels": 0, "adder_levels_per_stage": 1},
    "addressed-groups": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 2, "rows": 2,
                         "parallel_codebooks": 2, "encoder": "addressed", "memory": "lutram"},
    "addressed-double": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2,
                         "encoder": "addressed", "input_format": "int5", "memory": "lutram",
                         "double_buffer": True},
    "addressed-sram": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 4, "rows": 2,
                       "parallel_codebooks": 2, "encoder": "addressed", "input_format": "int8",
                       "memory": "sram", "output_format": "int8"},
    "addressed-smallest": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1,
                           "encoder": "addressed", "memory": "lutram"},
    "flash": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 2, "rows": 2,
              "parallel_codebooks": 4, "encoder": "pipelined", "tree_levels_per_stage": 4,
              "look_up_adder_levels": 2, "input_format": "int8"},
    "two-levels": {"n_codebooks": 6, "n_prototypes": 32, "n_outputs": 2, "rows": 2,
                   "parallel_codebooks": 2, "encoder": "pipelined", "tree_levels_per_stage": 2,
                   "look_up_adder_levels": 0},
    "fp8_e4m3": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 2, "rows": 2,
                 "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "fp8_e4m3"},
    "to-fp16": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 6, "output_format": "fp16",
                "outputs_per_cycle": 2},
    "to-fp16-relu": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                     "parallel_codebooks": 4, "output_format": "fp16", "relu": True,
                     "write_word_bits": 16, "acc_bits": 24, "memory": "lutram"},
    "to-int8": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 6, "rows": 2,
                "outputs_per_cycle": 3, "output_format": "int8", "write_word_bits": 32},
    "lut-fp16": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "lut_format": "fp16",
                 "lut_bits": 16, "parallel_codebooks": 2},
    "lut-fp16-tree": {"n_codebooks": 5, "n_prototypes": 4, "n_outputs": 1, "rows": 2,
                      "parallel_codebooks": 5, "lut_format": "fp16", "lut_bits": 16, "relu": True,
                      "adder_levels_per_stage": 1, "look_up_adder_levels": 0},
    "lut-to-fp16": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 4, "parallel_codebooks": 2,
                    "lut_format": "fp16", "lut_bits": 16, "output_format": "fp16"},
    "lut-to-fp16-relu": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                         "parallel_codebooks": 3, "lut_format": "fp16", "lut_bits": 16,
                         "output_format": "fp16", "relu": True, "outputs_per_cycle": 1},
    "saturate": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 3, "parallel_codebooks": 2,
                 "acc_bits": 9, "overflow": "saturate"},
    "saturate-once": {"n_codebooks": 5, "n_prototypes": 4, "n_outputs": 3,
                      "parallel_codebooks": 5, "acc_bits": 8, "overflow": "saturate"},
    "wrap": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 3, "rows": 2,
             "parallel_codebooks": 3, "acc_bits": 8, "overflow": "wrap"},
    "sums": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 2, "rows": 2,
             "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8", "terms": 2,
             "tree_levels_per_stage": 2},
    "sums-interleaved": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2, "terms": 4,
                         "input_format": "int8"},
    "sums-in-groups": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                       "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int5",
                       "terms": 5, "write_word_bits": 16, "memory": "ff"},
    "sums-lutram": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 2, "terms": 3,
                    "parallel_codebooks": 2, "input_format": "int12", "memory": "lutram"},
    "sums-smallest": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "terms": 16,
                      "input_format": "int2", "encoder": "pipelined"},
    "sums-double": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "terms": 2,
                    "parallel_codebooks": 3, "encoder": "pipelined", "input_format": "int8",
                    "double_buffer": True},
    "window": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 2, "rows": 2,
               "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
               "window": 9},
    "window-interleaved": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2, "window": 5},
    "window-in-groups": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                         "parallel_codebooks": 2, "encoder": "pipelined", "window": 4,
                         "input_format": "int4", "write_word_bits": 16, "memory": "ff",
                         "tree_levels_per_stage": 2},
    "window-lutram": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 2, "window": 2,
                      "parallel_codebooks": 2, "input_format": "fp8_e4m3", "memory": "lutram"},
    "window-double": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "window": 17,
                      "parallel_codebooks": 3, "encoder": "pipelined", "input_format": "int8",
                      "double_buffer": True},
    "node": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 2, "rows": 2,
             "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
             "window": 9, "splits": "node", "tree_levels_per_stage": 2},
    "node-interleaved": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2, "window": 6,
                         "splits": "node", "write_word_bits": 24},
    "node-in-groups": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 2, "rows": 2,
                       "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int5",
                       "window": 3, "splits": "node", "memory": "ff"},
    "node-lutram": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "window": 4,
                    "splits": "node", "parallel_codebooks": 2, "memory": "lutram"},
    "skid": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
             "parallel_codebooks": 2, "skid_buffer": True},
    "skid-addressed": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                       "parallel_codebooks": 4, "encoder": "addressed", "input_format": "int8",
                       "memory": "sram", "skid_buffer": True},
    "skid-beats": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 6, "parallel_codebooks": 3,
                   "outputs_per_cycle": 2, "output_format": "fp16", "skid_buffer": True},
    "skid-double": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "encoder": "pipelined",
                    "double_buffer": True, "output_format": "int8", "skid_buffer": True},
    "code-stages": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                    "parallel_codebooks": 2, "code_stages": 2, "double_buffer": True},
    "decoded": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 4, "rows": 2,
                "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
                "write_word_bits": 16, "code_stages": 1, "decode_in_blocks": True},
    "decoded-groups": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 3, "rows": 2,
                       "parallel_codebooks": 2, "write_word_bits": 16, "code_stages": 2,
                       "decode_in_blocks": True, "double_buffer": True},
    "decoded-row": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "memory": "ff",
                    "code_stages": 3, "decode_in_blocks": True, "skid_buffer": True},
    "code-stage-addressed": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                             "parallel_codebooks": 2, "encoder": "addressed", "memory": "sram",
                             "input_format": "int8", "code_stages": 1, "skid_buffer": True},
    "addressed-one-level": {"n_codebooks": 3, "n_prototypes": 2, "n_outputs": 2, "memory": "sram",
                            "parallel_codebooks": 3, "encoder": "addressed",
                            "input_format": "int8"},
    "code-stages-lutram": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2,
                           "parallel_codebooks": 4, "memory": "lutram", "code_stages": 4},
    "smallest": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "encoder": "pipelined"},
    "smallest-interleaved": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1},
    "output-bound": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 6, "outputs_per_cycle": 2,
                     "write_word_bits": 32},
    "wide-output": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 2, "rows": 4,
                    "outputs_per_cycle": 4, "acc_bits": 24},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_sums_latency_and_rate(name):
    """Random and corner programs, with every pattern of stalls; without them in time."""
    config = AcceleratorConfig(**CONFIGS[name])
    check_sums_latency_and_rate(config)


@pytest.mark.parametrize(
    "name",
    [
        "interleaved",
        "dense",
        "groups-of-three",
        "lutram",
        "sram",
        "to-fp16",
        "to-int8",
        "skid-beats",
        "addressed-one-level",
        "code-stage-addressed",
    ],
)
@pytest.mark.parametrize("stall", ["none", "both"])
def test_a_row_group_sees_one_program(name, stall):
    """A second program arrives while the first one's rows are still on their way."""
    config = AcceleratorConfig(**CONFIGS[name])
    first, words = random_case(config, 5 * config.rows, seed=2)
    second, _ = random_case(config, config.rows, seed=3)
    bench = TopBench(config, stall)

    async def send(ctx):
        await bench.send(ctx, bench.top.program, bench.image(first))
        await bench.send(ctx, bench.top.i, bench.payloads(words), idle=bench.input_pause)
        await bench.send(ctx, bench.top.program, bench.image(second))
        await bench.send(ctx, bench.top.i, bench.payloads(words), idle=bench.input_pause)

    async def receive(ctx):
        await bench.receive(ctx, 10 * config.n_beats)

    bench.run(send, receive)
    sums = np.array(bench.results).reshape(-1, config.n_outputs)
    for program, found in ((first, sums[: len(words)]), (second, sums[len(words) :])):
        expected = reference.result_words(reference.results(config, program, words))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name", ["interleaved", "dense", "lutram", "sram", "addressed-one-level", "code-stages"]
)
def test_loading_and_computing_overlap(name):
    """Rows and program words are offered all the time; every row group sees a whole number of
    words of the second program, in order, and the last ones all of it."""
    config = AcceleratorConfig(**CONFIGS[name])
    first, words = random_case(config, 20 * config.rows, seed=4)
    second, _ = random_case(config, config.rows, seed=5)
    bench = TopBench(config)
    image = bench.image(second)
    written: list[int] = []
    sent: list[int] = []

    async def load(ctx):
        await bench.send(ctx, bench.top.program, bench.image(first))
        for word in image:
            for _ in range(7):
                await ctx.tick()
            await bench.send(ctx, bench.top.program, [word], written)

    async def send(ctx):
        for _ in range(len(image) + 2):
            await ctx.tick()
        await bench.send(ctx, bench.top.i, bench.payloads(words), sent)

    async def receive(ctx):
        await bench.receive(ctx, 20 * config.n_beats)

    bench.run(load, send, receive)
    sums = np.array(bench.results).reshape(-1, config.n_outputs)
    starts = sent[:: config.n_groups]
    seen = [int(np.searchsorted(written, start)) for start in starts]
    assert seen[0] < seen[-1]
    for group, n_words in enumerate(seen):
        rows = slice(group * config.rows, (group + 1) * config.rows)
        mixed = _mixed_program(config, first, second, n_words)
        np.testing.assert_array_equal(sums[rows], golden.matmul(mixed, words[rows]))


def _mixed_program(config, first, second, n_words):
    """The first program with the second one's first `n_words` image words."""
    from dataclasses import replace

    per_word, per_codebook = config.thresholds_per_word, config.threshold_words
    thresholds, lut = first.thresholds.copy(), first.lut.copy()
    n_threshold_words = config.n_codebooks * per_codebook
    for index in range(min(n_words, n_threshold_words)):
        codebook, word = divmod(index, per_codebook)
        nodes = slice(word * per_word, (word + 1) * per_word)
        thresholds[codebook, nodes] = second.thresholds[codebook, nodes]
    for index in range(max(n_words - n_threshold_words, 0)):
        rest, block = divmod(index, config.n_blocks)
        codebook, prototype = divmod(rest, config.n_prototypes)
        u = config.decoders_per_word
        columns = slice(block * u, (block + 1) * u)
        lut[columns, codebook, prototype] = second.lut[columns, codebook, prototype]
    return replace(first, thresholds=thresholds, lut=lut)


def test_one_flipped_lut_bit_is_seen():
    """The comparison that the tests above rely on must be able to fail."""
    config = AcceleratorConfig(**CONFIGS["dense"])
    program, words = random_case(config, 16 * config.rows)
    codes = golden.encode(program, words)
    lut = program.lut.copy()
    lut[0, 0, codes[0, 0]] ^= 1
    from dataclasses import replace

    sums = TopBench(config).matmul(replace(program, lut=lut), words)
    assert (sums != golden.matmul(program, words)).any()
