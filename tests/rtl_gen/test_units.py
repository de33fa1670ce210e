"""Each unit alone in Amaranth's simulator against the bit-exact model."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal

from halut import golden, stimuli
from halut.formats import FLOAT_FORMATS
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.image import program_image
from rtl_gen.units.cells import equals, one_hot, one_hot_select
from rtl_gen.units.comparator import Comparator, comparison_key
from rtl_gen.units.decoder import Decoder
from rtl_gen.units.encoder import encoder_unit
from rtl_gen.units.lut_memory import LutMemory
from rtl_gen.units.serializer import OutputSerializer
from rtl_gen.units.threshold_memory import ThresholdMemory
from tests.rtl_gen.support import random_case, simulate

SPECIAL_HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF,
                  0x7C00, 0xFC00, 0x7C01, 0xFC01, 0x7E00, 0xFE00, 0x7FFF, 0xFFFF]  # fmt: skip


def _halves(bits):
    return np.array(bits, dtype=np.uint16)


@pytest.mark.parametrize("n_lines", [1, 2, 3, 4, 5, 8, 13, 16, 40])
def test_one_hot_and_select(n_lines):
    index = Signal(ceil_log2(n_lines))
    enable, lines, hit = Signal(), Signal(n_lines), Signal(n_lines)
    words = [Signal(7, init=(37 * i + 5) % 128) for i in range(n_lines)]
    selected = Signal(7)

    class Decode(Elaboratable):
        def elaborate(self, _platform):
            m = Module()
            decoded = one_hot(m, "lines", index, n_lines, enable=enable)
            m.d.comb += [lines.eq(decoded), selected.eq(one_hot_select(decoded, words))]
            for i in range(n_lines):
                m.d.comb += hit[i].eq(equals(index, i))
            return m

    async def bench(ctx):
        for i in range(n_lines):
            ctx.set(index, i)
            for on in (0, 1):
                ctx.set(enable, on)
                await ctx.delay(1e-9)
                assert ctx.get(lines) == on << i
                assert ctx.get(selected) == on * ((37 * i + 5) % 128)
                assert ctx.get(hit) == 1 << i

    simulate(Decode(), bench, clocked=False)


@pytest.mark.parametrize("input_format", FLOAT_FORMATS)
def test_keys_compare_as_floats(input_format):
    """key(value) > key(threshold) wherever value > threshold, NaN never."""
    floating = FLOAT_FORMATS[input_format]
    word, key = Signal(floating.bits), Signal(floating.bits)
    words = list(range(1 << floating.bits))
    if floating.bits > 8:
        corners = stimuli.corner_words(input_format).tolist()
        words = [*corners, *random.Random(1).sample(words, 500)]
    found = []

    class Key(Elaboratable):
        def elaborate(self, _platform):
            m = Module()
            m.d.comb += key.eq(comparison_key(m, "word", word, input_format))
            return m

    async def bench(ctx):
        for bits in words:
            ctx.set(word, bits)
            await ctx.delay(1e-9)
            found.append(ctx.get(key))

    simulate(Key(), bench, clocked=False)
    keys = np.array(found)
    keys = np.where(keys >> (floating.bits - 1), keys - (1 << floating.bits), keys)
    values = floating.values(np.array(words))
    for i in np.flatnonzero(~np.isnan(values) & (values != 0)):
        np.testing.assert_array_equal(keys > keys[i], values > values[i])
    np.testing.assert_array_equal(keys > 0, values > 0)  # zero thresholds are stored as +0


@pytest.mark.parametrize("width", [2, 8, 16])
def test_comparator(width):
    unit = Comparator(width=width)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    rng = random.Random(width)
    corners = [low, low + 1, -1, 0, 1, high - 1, high]
    pairs = [(a, b) for a in corners for b in corners]
    pairs += [(rng.randint(low, high), rng.randint(low, high)) for _ in range(300)]

    async def bench(ctx):
        for value, threshold in pairs:
            ctx.set(unit.value, value)
            ctx.set(unit.threshold, threshold)
            await ctx.delay(1e-9)
            assert ctx.get(unit.greater) == (value > threshold)

    simulate(unit, bench, clocked=False)


@pytest.mark.parametrize("memory", ["latch", "ff", "lutram"])
@pytest.mark.parametrize(("n_groups", "rows"), [(1, 1), (1, 3), (3, 1), (3, 2), (4, 4)])
def test_lut_memory(memory, n_groups, rows):
    k, width = 4, 6
    unit = LutMemory(n_groups=n_groups, n_prototypes=k, width=width, rows=rows, memory=memory)
    rng = random.Random(7)
    content = [rng.randrange(1 << width) for _ in range(n_groups * k)]

    def select(group, codes):
        """The read address of every row's code in one group, as {port: value}."""
        bits = len(unit.select) // rows
        if memory == "lutram":
            lines = [group * k + code for code in codes]
        elif "group" in unit.select_ports:
            lines = [1 << code for code in codes]
        else:
            lines = [1 << (group * k + code) for code in codes]
        ports = {"select": sum(line << (i * bits) for i, line in enumerate(lines))}
        if "group" in unit.select_ports:
            ports["group"] = 1 << group
        return ports

    async def bench(ctx):
        for i, word in enumerate(content):
            ctx.set(unit.write_data, word)
            if memory == "lutram":
                ctx.set(unit.write_index, i)
                ctx.set(unit.write_enable, 1)
            else:
                ctx.set(unit.write_strobe, 1 << i)
            await ctx.tick()
        ctx.set(unit.write_enable if memory == "lutram" else unit.write_strobe, 0)
        ctx.set(unit.write_data, 0)
        for _ in range(60):
            group, codes = rng.randrange(n_groups), [rng.randrange(k) for _ in range(rows)]
            for name, value in select(group, codes).items():
                ctx.set(getattr(unit, name), value)
            await ctx.tick()
            for row, code in enumerate(codes):
                assert ctx.get(unit.value[row]) == content[group * k + code]

    simulate(unit, bench)


def _write_thresholds(unit, config, program, lane):
    """Coroutine that writes a lane's threshold words to an encoder or threshold memory."""
    n_words = config.n_codebooks * config.threshold_words
    image = program_image(config, program)[:n_words]

    async def write(ctx):
        for index, (_, word) in enumerate(image):
            codebook, position = divmod(index, config.threshold_words)
            group, q = divmod(codebook, config.parallel_codebooks)
            if q != lane:
                continue
            ctx.set(unit.write_enable, 1)
            ctx.set(unit.write_data, word & ((1 << len(unit.write_data)) - 1))
            if config.n_groups > 1:
                ctx.set(unit.write_group, group)
            if config.threshold_words > 1:
                ctx.set(unit.write_word, position)
            await ctx.tick()
        ctx.set(unit.write_enable, 0)

    return write


@pytest.mark.parametrize("memory", ["latch", "lutram"])
@pytest.mark.parametrize("n_groups", [1, 3])
def test_threshold_memory(memory, n_groups):
    config = AcceleratorConfig(
        n_codebooks=n_groups,
        n_prototypes=8,
        n_outputs=1,
        encoder="pipelined",
        input_format="int8",
        memory=memory,
        write_word_bits=24,
    )
    program, _ = random_case(config, 1)
    unit = ThresholdMemory(config)
    write = _write_thresholds(unit, config, program, lane=0)

    async def bench(ctx):
        await write(ctx)
        for group in [*range(n_groups), 0]:
            for level in range(config.tree_depth if n_groups > 1 else 0):
                ctx.set(unit.group[level], group)
                ctx.set(unit.enable, (1 << config.tree_depth) - 1)
            await ctx.tick()
            read = [ctx.get(unit.thresholds[node]) for node in range(7)]
            assert read == [int(t) & 0xFF for t in program.thresholds[group]]

    simulate(unit, bench)


@pytest.mark.parametrize(
    ("encoder", "memory"),
    [
        *itertools.product(["interleaved", "pipelined"], ["latch", "lutram"]),
        ("addressed", "lutram"),
    ],
)
@pytest.mark.parametrize(
    ("n_codebooks", "parallel_codebooks", "n_prototypes", "rows", "input_format"),
    [(1, 1, 16, 2, "fp16"), (3, 1, 16, 1, "fp16"), (4, 2, 8, 2, "int8"), (2, 1, 2, 3, "int5"),
     (2, 2, 64, 1, "int16")],
)  # fmt: skip
def test_encoder(
    encoder, memory, n_codebooks, parallel_codebooks, n_prototypes, rows, input_format
):
    """Codes of the last lane, with pipeline stalls in between, equal the model's."""
    config = AcceleratorConfig(
        n_codebooks=n_codebooks,
        parallel_codebooks=parallel_codebooks,
        n_prototypes=n_prototypes,
        n_outputs=1,
        rows=rows,
        input_format=input_format,
        encoder=encoder,
        memory=memory,
    )
    n_row_groups = 12
    program, words = random_case(config, n_row_groups * rows, corner=True)
    codes = golden.encode(program, words)
    lane = parallel_codebooks - 1
    unit = encoder_unit(config)
    write = _write_thresholds(unit, config, program, lane)
    rng = random.Random(3)
    # Per step: the words and the expected codes of the P rows.
    steps = []
    for first in range(0, len(words), rows):
        for group in range(config.n_groups):
            codebook = group * parallel_codebooks + lane
            steps.append(
                (
                    group,
                    words[first : first + rows, codebook],
                    codes[first : first + rows, codebook],
                )
            )
    mask = (1 << config.input_bits) - 1

    async def bench(ctx):
        await write(ctx)
        stages: list[int | None] = [None] * config.encoder_cycles
        received, following, phase = 0, 0, 0
        while received < len(steps):
            advance = rng.random() < 0.7
            offer = following < len(steps) and rng.random() < 0.7
            stages[0] = following if offer and advance else None
            if stages[0] is not None:
                values = steps[following][1]
                ctx.set(unit.words, [[int(v) & mask for v in row] for row in values])
                following += 1
            enable = sum(
                (advance and step is not None) << stage for stage, step in enumerate(stages)
            )
            ctx.set(unit.enable, enable)
            if encoder == "interleaved":
                ctx.set(unit.phase, 1 << phase)
            if config.n_groups > 1:
                for level in range(config.tree_depth):
                    step = stages[config.threshold_stage(level)]
                    ctx.set(unit.group[level], steps[step][0] if step is not None else 0)
            await ctx.tick()
            if not advance:
                continue
            phase = (phase + 1) % config.tree_depth
            finished = stages[-1]
            stages = [None, *stages[:-1]]
            if finished is not None:
                assert finished == received
                for row, code in enumerate(steps[finished][2]):
                    expected = int(code) if memory == "lutram" else 1 << int(code)
                    assert ctx.get(unit.codes[row]) == expected
                received += 1
        assert received == len(steps) > 0

    simulate(unit, bench)


@pytest.mark.parametrize(
    ("n_codebooks", "parallel_codebooks", "rows", "lut_bits", "adder_levels"),
    [(1, 1, 1, 8, 3), (5, 1, 2, 8, 3), (16, 16, 2, 8, 3), (12, 6, 2, 4, 1), (7, 7, 1, 16, 2)],
)
@pytest.mark.parametrize("corner", [False, True])
def test_decoder(n_codebooks, parallel_codebooks, rows, lut_bits, adder_levels, corner):
    """Sums of one column over random and extreme tables equal the model's."""
    config = AcceleratorConfig(
        n_codebooks=n_codebooks,
        parallel_codebooks=parallel_codebooks,
        n_prototypes=4,
        n_outputs=1,
        rows=rows,
        lut_bits=lut_bits,
        adder_levels_per_stage=adder_levels,
    )
    k, groups = config.n_prototypes, config.n_groups
    program, words = random_case(config, 8 * rows, corner=corner)
    codes = golden.encode(program, words)
    expected = golden.accumulate(program, codes)
    unit = Decoder(config)
    offset = 1 << (lut_bits - 1)

    def select(group, row_codes):
        lines, bit = 0, 0
        for q in range(parallel_codebooks):
            for code in row_codes[:, group * parallel_codebooks + q]:
                flat = rows == 1 and groups > 1
                lines |= 1 << (bit + (group * k if flat else 0) + int(code))
                bit += k * (groups if flat else 1)
        assert bit == len(unit.select)
        return lines

    async def bench(ctx):
        for codebook in range(n_codebooks):
            for prototype in range(k):
                ctx.set(unit.write_strobe, 1 << (codebook * k + prototype))
                ctx.set(unit.write_data, int(program.lut[0, codebook, prototype]) + offset)
                await ctx.tick()
        ctx.set(unit.write_strobe, 0)
        checked = 0
        for first in range(0, len(codes), rows):
            for group in range(groups):
                ctx.set(unit.select, select(group, codes[first : first + rows]))
                if groups > 1:
                    ctx.set(unit.first, group == 0)
                    if "group" in dict(unit.signature.members):
                        ctx.set(unit.group, 1 << group)
                for stage in range(1 + config.sum_stages):
                    ctx.set(unit.enable, 1 << stage)
                    await ctx.tick()
            for row in range(rows):
                assert ctx.get(unit.sums[row]) == expected[first + row, 0]
                checked += 1
        assert checked == len(codes) > 0

    simulate(unit, bench)


@pytest.mark.parametrize(
    ("n_outputs", "outputs_per_cycle"), [(1, 1), (1, 2), (6, 1), (6, 2), (6, 6), (6, 12)]
)
def test_output_serializer(n_outputs, outputs_per_cycle):
    rows = 2
    config = AcceleratorConfig(n_outputs=n_outputs, rows=rows, outputs_per_cycle=outputs_per_cycle)
    unit = OutputSerializer(config)
    rng = random.Random(5)
    groups = [[rng.randint(-2048, 2047) for _ in range(rows * n_outputs)] for _ in range(20)]
    received = []

    async def send(ctx):
        for sums in groups:
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(unit.i.valid, 1)
            ctx.set(unit.i.payload, sums)
            await ctx.tick().until(unit.i.ready)
            ctx.set(unit.i.valid, 0)

    async def receive(ctx):
        for beat in range(len(groups) * config.n_beats):
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(unit.o_ready, 1)
            data, last = await ctx.tick().sample(unit.o_data, unit.o_last).until(unit.o_valid)
            received.extend(data[j] for j in range(outputs_per_cycle))
            assert last == (beat % config.n_beats == config.n_beats - 1)
            ctx.set(unit.o_ready, 0)

    simulate(unit, send, receive)
    assert received == [value for sums in groups for value in sums]
