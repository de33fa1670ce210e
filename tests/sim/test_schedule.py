"""Schedules on the Verilog: bit-exact, in exactly the cycles that they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from halut import HalutMatmul, golden
from halut.errors import CheckFailed, HalutError
from halut.schedule import schedule
from rtl_gen import AcceleratorConfig, TiledConfig, load_config, program_image
from rtl_gen.machine import machine
from rtl_gen.tiled_config import AnyConfig
from sim.schedule import simulate_schedule
from tests.sim.support import QUICK

ROOT = Path(__file__).parents[2]
# The builds of `small` and `tiled` are those of test_matmul.py, too.
SMALL = AcceleratorConfig.from_yaml(ROOT / "configs" / "small.yaml")
OUTPUT_BOUND = AcceleratorConfig(
    n_codebooks=2, n_prototypes=4, n_outputs=6, parallel_codebooks=2, outputs_per_cycle=2,
    write_word_bits=128, encoder="pipelined", input_format="int4", lut_bits=4,
)  # fmt: skip
TILED = TiledConfig(
    unit=AcceleratorConfig(
        name="tiled_paper", n_codebooks=4, n_prototypes=16, n_outputs=4, write_word_bits=32
    ),
    row_tiles=2,
    codebook_tiles=2,
)
DOUBLE = AcceleratorConfig(
    n_codebooks=6, n_prototypes=4, n_outputs=2, rows=2, parallel_codebooks=2, encoder="pipelined",
    input_format="int8", double_buffer=True,
)  # fmt: skip
CONFIGS = {"small": SMALL, "output-bound": OUTPUT_BOUND, "tiled": TILED, "double": DOUBLE}
CONVERTED = {
    "bytes": dataclasses.replace(SMALL, name="bytes", output_format="int8"),
    "double-bytes": dataclasses.replace(SMALL, output_format="int8", double_buffer=True, rows=2),
    "double-join": TiledConfig(
        unit=dataclasses.replace(
            SMALL, output_format="fp16", double_buffer=True, outputs_per_cycle=1
        ),
        codebook_tiles=2,
    ),
    "floats": TiledConfig(
        unit=dataclasses.replace(SMALL, lut_format="fp16", lut_bits=16, acc_bits=None),
        codebook_tiles=2,
    ),
}


def _case(config: AnyConfig, size: tuple[int, int, int], seed: int = 1) -> tuple:
    rng = np.random.default_rng(seed)
    program = golden.random_program(
        rng, size[1], config.n_prototypes, size[2], config.input_format, config.lut_bits,
        n_features=11, output_format=config.output_format, relu=config.relu,
        lut_format=config.lut_format,
    )  # fmt: skip
    return program, rng.uniform(-100, 100, (size[0], 11))


@pytest.mark.sim
@pytest.mark.parametrize(
    "name",
    # Several units add up in `test_other_results_on_verilog`, too.
    [pytest.param(name, marks=[pytest.mark.slow] if name == "tiled" else []) for name in CONFIGS],
)
def test_schedule_on_verilog(name: str) -> None:
    """`check` compares every output and the number of cycles."""
    config = CONFIGS[name]
    size = (13, 2 * config.n_codebooks + 1, config.n_outputs + 1)
    program, A = _case(config, size)
    expected = golden.matmul(program, program.input_words(A))
    plan = schedule(*size, machine(config), order="rows", row_block=6)
    assert plan.grid == (3, 2)
    result = simulate_schedule(config, plan, program, A, simulator=QUICK)
    assert np.array_equal(result.outputs, expected)
    assert result.cycles == plan.cycles
    stalled = simulate_schedule(config, plan, program, A, simulator=QUICK, stall_pattern="both")
    assert np.array_equal(stalled.outputs, expected)
    assert stalled.cycles > plan.cycles


@pytest.mark.sim
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.endswith("bytes") else [])
        for name in CONVERTED
    ],
)
def test_other_results_on_verilog(name: str) -> None:
    """Constants are loaded with the tables; half floats are added up in the order of the steps."""
    config = CONVERTED[name]
    along_codebooks = 3 if config.output_format == "raw" else 1
    size = (13, along_codebooks * config.n_codebooks, 2 * config.n_outputs + 1)
    program, A = _case(config, size)
    plan = schedule(*size, machine(config), order="rows", row_block=6)
    assert plan.grid == (along_codebooks, 3)
    result = simulate_schedule(config, plan, program, A, simulator=QUICK)
    assert (result.cycles, result.outputs.shape) == (plan.cycles, (13, size[2]))
    stalled = simulate_schedule(config, plan, program, A, simulator=QUICK, stall_pattern="both")
    assert np.array_equal(stalled.outputs, result.outputs)


@pytest.mark.sim
def test_two_banks_hide_loading() -> None:
    """The next tile's words move while rows do; only switching costs cycles."""
    size = (200, 24, 2)
    program, A = _case(DOUBLE, size)
    plan = schedule(*size, machine(DOUBLE))
    assert simulate_schedule(DOUBLE, plan, program, A, simulator=QUICK).cycles == plan.cycles
    alone = dataclasses.replace(DOUBLE, double_buffer=False)
    words = machine(DOUBLE).program_words
    single = schedule(*size, machine(alone))
    assert single.n_loads == plan.n_loads == 4
    # Three of the four programs are hidden; a switch is a word itself.
    assert single.cycles - plan.cycles == 3 * words - 4
    # Programs that go to the wrong bank are noticed: the other one is as it was, or unknown.
    steps = [dataclasses.replace(s, bank=0) if s.kind == "load" else s for s in plan.steps]
    with pytest.raises(CheckFailed, match=r"outputs must equal|o_data must be known"):
        wrong = dataclasses.replace(plan, steps=tuple(steps))
        simulate_schedule(DOUBLE, wrong, program, A, simulator=QUICK)


@pytest.mark.sim
def test_wrong_schedules_are_caught() -> None:
    program, A = _case(SMALL, (4, 8, 2))
    plan = schedule(4, 8, 2, machine(SMALL))
    with pytest.raises(HalutError, match="schedule must be for configuration"):
        simulate_schedule(OUTPUT_BOUND, plan, program, A)
    with pytest.raises(HalutError, match="A must have the schedule's 4 rows, not 3"):
        simulate_schedule(SMALL, plan, program, A[:3])
    # The second tile is loaded too late: its rows see the first one's tables.
    late = dataclasses.replace(plan, steps=(*plan.steps[:2], plan.steps[3], plan.steps[2]))
    with pytest.raises(CheckFailed, match="outputs must equal the model"):
        simulate_schedule(SMALL, late, program, A, simulator=QUICK)
    slow = dataclasses.replace(plan, steps=(plan.steps[0], *plan.steps))
    faked = dataclasses.replace(slow)
    object.__setattr__(faked, "cycles", plan.cycles)
    with pytest.raises(CheckFailed, match=f"cycles must be the schedule's {plan.cycles}, not"):
        simulate_schedule(SMALL, faked, program, A, simulator=QUICK)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("double_buffer", [False, True])
def test_resnet9_convolution_on_four_units(double_buffer: bool) -> None:
    """All tiles of a 3x3 convolution, 128 to 128 channels, of a 16x16 image."""
    config = load_config(ROOT / "configs" / "four_units.yaml")
    assert isinstance(config, TiledConfig)
    unit = dataclasses.replace(config.unit, double_buffer=double_buffer)
    config = dataclasses.replace(config, unit=unit)
    rng = np.random.default_rng(9)
    padded = np.zeros((3, 128, 18, 18), dtype=np.float32)
    pixels = rng.standard_normal((3, 128, 16, 16)).cumsum(axis=3).cumsum(axis=2) / 8
    padded[:, :, 1:-1, 1:-1] = np.maximum(pixels, 0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(3, 256, 128 * 9)  # feature c*9 + y*3 + x
    kernels = rng.standard_normal((128 * 9, 128)).astype(np.float32) / 34
    learned = HalutMatmul(C=128, K=16)
    learned.learn_offline(rows[:2].reshape(512, -1), kernels)
    program = learned.program(input_format="int8", calibration=rows[:2].reshape(512, -1))
    plan = schedule(256, 128, 128, machine(config))
    assert plan.grid == (8, 4)
    result = simulate_schedule(config, plan, program, rows[2], timeout_s=1800)
    assert result.outputs.shape == (256, 128)
    assert np.array_equal(result.outputs, golden.matmul(program, program.input_words(rows[2])))
    assert result.cycles == plan.cycles


@pytest.mark.parametrize("name", [*CONFIGS, *CONVERTED])
def test_machine_counts_the_program_words(name: str) -> None:
    config = {**CONFIGS, **CONVERTED}[name]
    program, _ = _case(config, (1, config.n_codebooks, config.n_outputs))
    assert machine(config).program_words == len(program_image(config, program))
