"""The direct engines: digits by hand, references, Amaranth's simulator, Verilog under cocotb."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig
from rtl_gen.direct.generate import generate, write
from rtl_gen.direct.multiply import (
    DotProduct,
    booth_digits,
    dadda_heights,
    digit_lines,
    product_sum_bits,
    rows_bias,
)
from sim import runner
from sim.direct import job, make_job
from tests.rtl_gen.support import EngineBench, packed_items, simulate
from tests.sim.support import QUICK

ENGINES = {
    "dot-product": DotProductConfig(length=3, columns=2),
    "dot-product-flat": DotProductConfig(length=1, columns=5, cuts=(), max_vectors=1),
    "dot-product-latch": DotProductConfig(length=5, columns=3, cuts=(6, 2), weights="latch"),
    "dot-product-weights": DotProductConfig(length=2, columns=1, cuts=(3,), weights="ff",
                                            recode="weights", input_bits=5, weight_bits=7),
    "dot-product-digits": DotProductConfig(length=2, columns=3, recode="weights"),
    "dot-product-operators": DotProductConfig(length=3, columns=2, cuts=(), recode="synthesis"),
    "systolic": SystolicConfig(rows=3, columns=2),
    "systolic-cut": SystolicConfig(rows=2, columns=4, cuts=(3, 2), weight_bits=4, acc_bits=24),
    "stored": StoredMatrixConfig(n_groups=3, group_features=2, n_outputs=2),
    "stored-rows": StoredMatrixConfig(n_groups=2, group_features=2, n_outputs=6, rows=2,
                                      write_word_bits=16, cuts=()),
    "stored-one-group": StoredMatrixConfig(n_groups=1, group_features=4, n_outputs=3,
                                           memory="ff", write_word_bits=8),
}  # fmt: skip


def test_booth_digits_by_hand():
    assert booth_digits(0, 8) == [0, 0, 0, 0]
    assert booth_digits(-1, 8) == [-1, 0, 0, 0]
    assert booth_digits(-128, 8) == [0, 0, 0, -2]
    assert booth_digits(127, 8) == [-1, 0, 0, 2]
    assert booth_digits(0b0110_1011 - 256 * 0, 8) == [-1, -1, -1, 2]
    assert booth_digits(-3, 3) == [1, -1]
    # Per digit negative, one, two, from the lowest bit: 127 = 2 * 64 - 1.
    assert digit_lines(127, 8) == 0b100_000_000_011


@pytest.mark.parametrize("bits", [2, 3, 7, 8])
def test_booth_digits_make_the_value(bits):
    for value in range(-1 << (bits - 1), 1 << (bits - 1)):
        digits = booth_digits(value, bits)
        assert all(-2 <= digit <= 2 for digit in digits)
        assert sum(digit * 4**j for j, digit in enumerate(digits)) == value


def test_heights_and_widths_by_hand():
    assert dadda_heights(2) == []
    assert dadda_heights(3) == [2]
    assert dadda_heights(80) == [63, 42, 28, 19, 13, 9, 6, 4, 3, 2]
    # (-128)**2 is 2**14, which a signed number of 15 bits does not hold.
    assert product_sum_bits(8, 8, 1) == 16
    assert product_sum_bits(8, 8, 256) == 24
    assert rows_bias(8, 8) == 256 + 1024 + 4096 + 16384


@pytest.mark.parametrize(
    ("length", "cuts"), [(1, ()), (1, (2,)), (3, (4,)), (4, (6, 2)), (16, (9, 4))]
)
def test_dot_product_of_booth_rows(length, cuts):
    unit = DotProduct(length=length, multiplicand_bits=8, multiplier_bits=8, acc_bits=24, cuts=cuts)
    rng = np.random.default_rng(length)
    x = rng.integers(-128, 128, size=(40, length))
    y = rng.integers(-128, 128, size=(40, length))
    x[:2], y[0], y[1] = -128, -128, 127
    expected = np.cumsum((x * y).sum(axis=1))
    got = []

    async def run(ctx):
        ctx.set(unit.enable, (1 << unit.stages) - 1)
        for step in range(40 + unit.stages - 1):
            k = min(step, 39)
            ctx.set(unit.multiplicands, [int(v) & 255 for v in x[k]])
            ctx.set(unit.digits, [digit_lines(int(v), 8) for v in y[k]])
            ctx.set(unit.first, int(step == unit.stages - 1))
            await ctx.tick()
            got.append(ctx.get(unit.sum))

    simulate(unit, run)
    sums = np.array(got[unit.stages - 1 :])
    np.testing.assert_array_equal(sums, expected % (1 << 24))


@pytest.mark.parametrize("name", ENGINES)
def test_sums_equal_reference(name):
    config = ENGINES[name]
    for corner, stall in ((False, "none"), (True, "both")):
        work = job(config, np.random.default_rng(3), 6, corner=corner)
        expected = packed_items(config, work.outputs[work.n_filling :])
        assert expected
        assert EngineBench(config, stall).run(work) == expected


def test_a_wrong_weight_is_seen():
    config = ENGINES["stored"]
    rng = np.random.default_rng(5)
    inputs = rng.integers(-128, 128, size=(6, config.n_features))
    weights = rng.integers(-128, 128, size=(config.n_features, config.n_outputs))
    expected = packed_items(config, make_job(config, inputs, weights).outputs)
    weights[0, 0] ^= 1
    assert EngineBench(config, "none").run(make_job(config, inputs, weights)) != expected


def test_references_are_matrix_products():
    rng = np.random.default_rng(1)
    stored, systolic = StoredMatrixConfig(), SystolicConfig(rows=4, columns=3)
    a, b = rng.integers(-128, 128, size=(5, 144)), rng.integers(-128, 128, size=(144, 8))
    np.testing.assert_array_equal(stored.reference(a, b), a @ b)
    np.testing.assert_array_equal(systolic.reference(a[:, :4], b[:4, :3]), a[:, :4] @ b[:4, :3])
    dot = DotProductConfig(length=2, columns=1, max_vectors=3)
    sums = dot.reference([[1, 2], [3, 4], [5, -6]], [[10, 100]], [1, 0, 1])
    np.testing.assert_array_equal(sums, [[210], [640], [-550]])
    corner = np.full((1, 144), -128)
    np.testing.assert_array_equal(stored.reference(corner, np.full((144, 8), -128)), 144 << 14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DotProductConfig(length=0), r"length must be an integer in \[1, 256\], not 0"),
        (lambda: DotProductConfig(weights="sram"), "weights must be one of ports, latch, ff"),
        (lambda: DotProductConfig(recode="input"), 'did you mean "inputs"'),
        (lambda: DotProductConfig(cuts=(2, 4)), "cuts must be at most 5 decreasing integers"),
        (lambda: DotProductConfig(cuts=(1,)), "cuts must be"),
        (lambda: DotProductConfig(cuts=3), "cuts must be"),
        (lambda: DotProductConfig(recode="synthesis"), "cuts must be none"),
        (lambda: DotProductConfig(acc_bits=23), r"acc_bits must be an integer in \[24, 32\]"),
        (lambda: DotProductConfig(input_bits=16, weight_bits=16), "must need at most 32 bits"),
        (lambda: SystolicConfig(rows=True), "rows must be an integer"),
        (lambda: SystolicConfig(name="a b"), "name must be letters"),
        (lambda: StoredMatrixConfig(memory="lutram"), "memory must be one of latch, ff"),
        (lambda: StoredMatrixConfig(outputs_per_cycle=3), "outputs_per_cycle must divide"),
        (lambda: StoredMatrixConfig(write_word_bits=7), "write_word_bits must be"),
        (lambda: EngineConfig.from_dict({"engine": "systolc"}), 'did you mean "systolic"'),
        (
            lambda: EngineConfig.from_dict({"engine": "systolic", "colums": 3}),
            'did you mean "columns"',
        ),
        (lambda: SystolicConfig().reference([[1.5]], [[1]]), "inputs must be integers"),
        (
            lambda: SystolicConfig(rows=1, columns=1).reference([[128]], [[1]]),
            r"inputs must be in \[-128, 127\]",
        ),
        (
            lambda: SystolicConfig(rows=1, columns=1).reference([[1]], [[1, 2]]),
            r"weights must have shape \(1, 1\)",
        ),
    ],
)
def test_bad_configurations_are_refused(make, message):
    with pytest.raises(HalutError, match=message):
        make()


@pytest.mark.parametrize("name", ENGINES)
def test_configurations_survive_a_dictionary(name):
    config = ENGINES[name]
    assert EngineConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_stored_matrix_has_the_accelerators_job():
    for fields in ({}, {"rows": 4}, {"parallel_codebooks": 16}, {"n_outputs": 64}):
        accelerator = AcceleratorConfig(**fields)
        config = StoredMatrixConfig.of(accelerator)
        assert config.n_features == accelerator.n_codebooks * accelerator.codebook_width
        assert config.macs_per_cycle == accelerator.macs_per_cycle
        assert config.output.output_width == accelerator.output_width
        assert config.output.n_beats == accelerator.n_beats


@pytest.mark.parametrize("name", ENGINES)
def test_same_configuration_same_bytes(name, tmp_path):
    config = ENGINES[name]
    first = generate(config)
    path = write(config, tmp_path / "engine.v")
    assert path.read_text() == first.verilog
    assert path.with_suffix(".json").read_text() == first.manifest_text
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["module"] == config.top
    assert EngineConfig.from_dict(manifest["configuration"]) == config
    for port in manifest["ports"]:
        span = f"[{port['bits'] - 1}:0] " if port["bits"] > 1 else ""
        assert f"  {port['direction']} {span}{port['name']};" in first.verilog
    low, high = -1 << (config.accumulator_bits - 1), (1 << (config.accumulator_bits - 1)) - 1
    largest = config.products_per_sum << (config.input_bits + config.weight_bits - 2)
    assert low <= -largest and largest <= high


# Their Verilog says what the others' does: `make test-slow`.
_SLOW = ("dot-product-digits", "dot-product-operators", "dot-product-latch", "dot-product-flat",
         "systolic-cut", "stored-one-group", "stored-rows")  # fmt: skip


@pytest.mark.sim
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in _SLOW else []) for n in ENGINES],
)
def test_verilog_equals_reference(name):
    _check_verilog(ENGINES[name], QUICK)


@pytest.mark.sim
@pytest.mark.needs("verilator")
@pytest.mark.parametrize(
    "name",
    [
        "stored",
        pytest.param("dot-product-latch", marks=pytest.mark.slow),
        pytest.param("systolic", marks=pytest.mark.slow),
    ],
)
def test_verilog_equals_reference_in_verilator(name):
    _check_verilog(ENGINES[name], "verilator")


def _check_verilog(config: EngineConfig, simulator: str | None) -> None:
    built = runner.build(generate(config).verilog, config.top, simulator=simulator)
    result = runner.run(built, "sim.benches.direct", env=_environment(config))
    assert len(result.tests) == 11 + isinstance(config, DotProductConfig)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        DotProductConfig(),
        DotProductConfig(weights="latch"),
        SystolicConfig(),
        StoredMatrixConfig.of(AcceleratorConfig()),
    ],
    ids=lambda config: config.slug,
)
def test_verilog_of_full_size_equals_reference(config):
    built = runner.build(generate(config).verilog, config.top)
    runner.run(built, "sim.benches.direct", env=_environment(config))


@pytest.mark.sim
def test_a_wrong_adder_is_caught():
    config = ENGINES["dot-product"]
    verilog = generate(config).verilog
    start = verilog.index("module halut_full_adder")
    right, adder = verilog[:start], verilog[start:]
    end = adder.index("endmodule")
    broken = (
        right
        + (
            "module halut_full_adder(a, b, c, carry, sum);\n"
            "  input a, b, c;\n  output carry, sum;\n"
            "  assign sum = a ^ b ^ c;\n  assign carry = (a & b) | (a & c);\n"
        )
        + adder[end:]
    )
    built = runner.build(broken, config.top, simulator=QUICK)
    with pytest.raises(runner.SimulationFailed, match=r"sum \d+ of item"):
        runner.run(built, "sim.benches.direct", env=_environment(config))


def _environment(config):
    every_pair = str(int(isinstance(config, DotProductConfig)))
    return {"HALUT_ENGINE": json.dumps(config.to_dict()), "HALUT_EVERY_PAIR": every_pair}


def _command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rtl_gen", "direct", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_line(tmp_path):
    path = tmp_path / "engine.v"
    done = _command("--engine", "stored-matrix", "--like", "configs/stella_nera.yaml",
                    "--cuts", "none", "-o", str(path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "72 MACs per cycle" in done.stdout
    assert "module halut_stored_matrix(" in path.read_text()
    assert "--engine" in _command("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "dot-prodct"], 'did you mean "dot-product"'),
        (["--engine", "systolic", "--length", "3"], "--length must be given for dot-product only"),
        (["--engine", "systolic", "--like", "configs/small.yaml"], "--like must be given for"),
        (["--engine", "systolic", "--cuts", "3,x"], "must be none or integers"),
        (["--engine", "systolic", "--rows", "0"], "rows must be an integer"),
        ([], "--engine"),
        (["--engine", "systolic", "-o", "/proc/x/y.v"], "must be"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message):
    done = _command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
