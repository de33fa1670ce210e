"""The front end of a 3x3 convolution: alone, and in front of an accelerator."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from amaranth.sim import Simulator

from halut import golden
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.front_end import FrontEnd, FrontEndConfig, HalutConvolution, gather_image
from rtl_gen.image import program_image
from rtl_gen.tiled_config import TiledConfig, result_order
from rtl_gen.verilog import unit_verilog
from tests.rtl_gen.support import STALLS, lint, pause, transfers

COMMON = {"n_prototypes": 4, "n_outputs": 2, "encoder": "pipelined", "input_format": "int8"}
CONFIGS = {
    "one-row": ({"n_codebooks": 3}, {"height": 4, "width": 5, "channels": 3}),
    "rows": ({"n_codebooks": 2, "rows": 4, "parallel_codebooks": 2},
             {"height": 3, "width": 4, "channels": 2}),
    "any": ({"n_codebooks": 4, "rows": 3, "parallel_codebooks": 2},
            {"height": 3, "width": 3, "channels": 2, "gather": "any"}),
    "fp16": ({"n_codebooks": 2, "input_format": "fp16", "n_prototypes": 8},
             {"height": 2, "width": 3, "channels": 2}),
    "pixel": ({"n_codebooks": 1}, {"height": 1, "width": 1, "channels": 1}),
    "line": ({"n_codebooks": 2, "rows": 2}, {"height": 1, "width": 6, "channels": 2}),
    "tiled": ({"n_codebooks": 1}, {"height": 2, "width": 4, "channels": 2}),
    "window": ({"n_codebooks": 4, "rows": 2, "parallel_codebooks": 2, "window": 9},
               {"height": 3, "width": 4, "channels": 4}),
    "node": ({"n_codebooks": 3, "n_prototypes": 8, "window": 9, "splits": "node"},
             {"height": 4, "width": 5, "channels": 3}),
}  # fmt: skip


def _config(name: str) -> FrontEndConfig:
    unit, image = CONFIGS[name]
    accelerator: object = AcceleratorConfig(**{**COMMON, **unit})
    if name == "tiled":
        accelerator = TiledConfig(unit=accelerator, row_tiles=2, codebook_tiles=2)
    return FrontEndConfig(accelerator=accelerator, **image)


def _case(config: FrontEndConfig, n_images: int, seed: int = 1):
    """A program whose split dimensions fit, and images as words (images, H, W, channels)."""
    a = config.accelerator
    rng = np.random.default_rng(seed)
    program = golden.random_program(
        rng, a.n_codebooks, a.n_prototypes, a.n_outputs, a.input_format, a.lut_bits,
        n_features=9 * config.channels, window=a.window, splits=a.splits,
    )  # fmt: skip
    if a.window:
        columns = np.arange(9 * config.channels).reshape(-1, 9)
        program = golden.Program(**{**vars(program), "split_dims": columns})
    elif config.gather == "channel":
        dims = program.split_dims % 9 + 9 * np.arange(a.n_codebooks)[:, None]
        program = golden.Program(**{**vars(program), "split_dims": dims})
    shape = (n_images, config.height, config.width, config.channels)
    if a.input_format == "fp16":
        return program, rng.standard_normal(shape).astype(np.float16).view(np.uint16)
    return program, rng.integers(-128, 128, shape, dtype=np.int16)


def _words(program, images: np.ndarray) -> np.ndarray:
    """im2col and gather, one pixel and feature at a time: (pixels, C, T or 9)."""
    n, height, width, channels = images.shape
    rows = np.zeros((n * height * width, channels * 9), dtype=images.dtype)
    for row, (image, y, x) in enumerate(np.ndindex(n, height, width)):
        for channel, ky, kx in np.ndindex(channels, 3, 3):
            v, u = y + ky - 1, x + kx - 1
            if 0 <= v < height and 0 <= u < width:
                rows[row, channel * 9 + ky * 3 + kx] = images[image, v, u, channel]
    return rows[:, program.split_dims]


def _pixels(config: FrontEndConfig, images: np.ndarray, shape):
    bits = config.accelerator.input_bits
    values = images.reshape(-1, config.channels).astype(np.int64) & ((1 << bits) - 1)
    return [
        shape.from_bits(sum(int(v) << (k * bits) for k, v in enumerate(pixel))) for pixel in values
    ]


def _loads(config: FrontEndConfig, program) -> list[dict[str, int]]:
    return [{"address": a, "data": d} for a, d in gather_image(config, program)]


def _run_unit(unit, sends, n_received, out_pause, cycles=None):
    """Send each (stream, payloads, pause) in turn; return what comes out and when."""
    received = []
    clock = [0]

    async def count(ctx):
        while True:
            await ctx.tick()
            clock[0] += 1

    async def send(ctx):
        for target, payloads, idle in sends:
            for payload in payloads:
                while idle():
                    await ctx.tick()
                ctx.set(target.valid, 1)
                ctx.set(target.payload, payload)
                while not (await ctx.tick().sample(target.ready))[2]:
                    pass
                ctx.set(target.valid, 0)

    async def receive(ctx):
        while len(received) < n_received:
            stalled = out_pause()
            ctx.set(unit.o.ready, not stalled)
            _, _, valid, payload = await ctx.tick().sample(unit.o.valid, unit.o.payload)
            if valid and not stalled:
                received.append(payload)
                if cycles is not None:
                    cycles.append(clock[0])
        ctx.set(unit.o.ready, 1)
        for _ in range(20):
            _, _, valid = await ctx.tick().sample(unit.o.valid)
            assert not valid

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_process(count)
    simulator.add_testbench(send)
    simulator.add_testbench(receive)
    simulator.run()
    return received


def _as_int(payload) -> int:
    return payload.as_bits()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", STALLS)
def test_alone(name, stall):
    """Two images and then, with another program, a third."""
    config = _config(name)
    unit = FrontEnd(config)
    rng = random.Random(3)
    idle, waits = (pause(rng, stall in (side, "both")) for side in ("gaps", "backpressure"))
    programs = [_case(config, 1, seed)[0] for seed in (1, 2)]
    images = _case(config, 3)[1]
    shape = unit.i.payload.shape()
    sends = []
    for program, part in zip(programs, (images[:2], images[2:]), strict=True):
        if config.gathers:
            sends.append((unit.program, _loads(config, program), idle))
        sends.append((unit.i, _pixels(config, part, shape), idle))
    expected = []
    for program, part in zip(programs, (images[:2], images[2:]), strict=True):
        expected += transfers(config.accelerator, _words(program, part))
    received = _run_unit(unit, sends, len(expected), waits)
    assert [_as_int(payload) for payload in received] == expected
    # A wrong tap is noticed.
    dims = programs[0].split_dims.copy()
    dims[0, 0] = dims[0, 0] // 9 * 9 + (dims[0, 0] + 1) % 9
    assert (dims != programs[0].split_dims).sum() == 1
    wrong = golden.Program(**{**vars(programs[0]), "split_dims": dims})
    if name != "pixel":
        assert transfers(config.accelerator, _words(wrong, images[:2])) != expected


@pytest.mark.parametrize("name", ["one-row", "node"])
def test_image_cycles_are_as_stated(name):
    config = _config(name)
    unit = FrontEnd(config)
    program, images = _case(config, 4)

    def never():
        return False

    sends = [(unit.program, _loads(config, program), never)] if config.gathers else []
    sends += [(unit.i, _pixels(config, images, unit.i.payload.shape()), never)]
    cycles: list[int] = []
    n_transfers = 4 * 4 * 5 * config.accelerator.n_groups
    _run_unit(unit, sends, n_transfers, never, cycles)
    firsts = cycles[:: n_transfers // 4]
    assert set(np.diff(firsts)) == {config.image_cycles}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stall", ["none", "both"])
def test_in_front_of_the_accelerator(name, stall):
    config = _config(name)
    a = config.accelerator
    unit = HalutConvolution(config)
    rng = random.Random(5)
    idle, waits = (pause(rng, stall == "both") for _ in range(2))
    program, images = _case(config, 2)
    tables = [{"address": a, "data": d} for a, d in program_image(config.accelerator, program)]
    sends = [(unit.gather, _loads(config, program), idle)] if config.gathers else []
    sends += [(unit.program, tables, idle),
              (unit.i, _pixels(config, images, unit.i.payload.shape()), idle)]  # fmt: skip
    expected = golden.matmul(program, _words(program, images))
    n_groups = len(expected) // a.rows
    received = _run_unit(unit, sends, n_groups * a.n_beats, waits)
    order = result_order(a).ravel()
    sums = np.empty((n_groups, len(order)), dtype=np.int64)
    sums[:, order] = np.array(
        [[payload.data[j] for j in range(a.output_width)] for payload in received]
    ).reshape(n_groups, -1)
    np.testing.assert_array_equal(sums.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_verilog_is_clean(name, tmp_path):
    text = unit_verilog(HalutConvolution(_config(name)))
    path = tmp_path / "a.v"
    path.write_text(text)
    for top in ("halut_convolution", "halut_front_end"):
        assert lint(path, top, "-Wno-MULTITOP") == (0, "")
    assert text == unit_verilog(HalutConvolution(_config(name)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, r"height must be an integer in \[1, 1024\], not 0"),
        ({"channels": 2.0}, r"channels must be an integer in \[1, 1024\], not 2.0"),
        ({"gather": "all"}, "gather must be one of channel, any, not 'all'"),
        ({"height": 5}, r"height \* width must be a multiple of the accelerator's 2 rows, not 15"),
        (
            {"accelerator": AcceleratorConfig(n_codebooks=2, window=8)},
            "window must be 0 or 9 behind a front end, not 8",
        ),
        (
            {"accelerator": AcceleratorConfig(n_codebooks=2, window=9), "gather": "any"},
            'gather must be "channel" for windows, not "any"',
        ),
        ({"channels": 3}, 'channels must be the accelerator\'s 2 codebooks for gather "channel"'),
    ],
)
def test_rules(change, message):
    accelerator = AcceleratorConfig(n_codebooks=2, rows=2)
    values = {"accelerator": accelerator, "height": 4, "width": 3, "channels": 2, **change}
    with pytest.raises(HalutError, match=message):
        FrontEndConfig(**values)


def test_command_line(tmp_path):
    target = tmp_path / "a.v"
    done = subprocess.run(
        [sys.executable, "-m", "rtl_gen", "front-end", "--config", "configs/small.yaml",
         "--height", "6", "--width", "4", "--channels", "4", "-o", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    others = f"{target.with_suffix('.json')} and {target.with_suffix('.sdc')}"
    assert done.stdout.splitlines()[-1] == f"wrote {target}, {others}"
    assert "module halut_convolution(" in target.read_text()


def test_programs_that_do_not_fit():
    config = _config("one-row")
    program, _ = _case(config, 1)
    fields = vars(program)
    cases = {
        r"n_features must be 9 \* 3 channels, not 30": {"n_features": 30},
        "input_scale must be the same everywhere": {
            "input_scale": np.arange(1, 7, dtype=np.float32).reshape(3, 2)
        },
        "must have word 0 for the value 0": {"input_offset": np.full((3, 2), 9.0)},
        "of codebook 1 must be in its own channel, not in channel 0": {
            "split_dims": [[0, 1], [8, 9], [20, 21]]
        },
    }
    for message, change in cases.items():
        with pytest.raises(HalutError, match=message):
            gather_image(config, golden.Program(**{**fields, **change}))


def test_windows_that_are_not_the_channels_are_refused():
    config = _config("window")
    program, _ = _case(config, 1)
    dims = program.split_dims[:, ::-1]
    with pytest.raises(HalutError, match="split_dims must be each codebook's own channel, in ord"):
        gather_image(config, golden.Program(**{**vars(program), "split_dims": dims}))
    plain, _ = _case(_config("one-row"), 1)
    with pytest.raises(HalutError, match=r"program\.window must be the accelerator.s 9, not 0"):
        gather_image(config, plain)
