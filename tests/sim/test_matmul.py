"""The whole accelerator as Verilog equals the model: benches, `simulate`, the command line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import rtl_gen
import sim
from halut import golden
from halut.errors import CheckFailed, HalutError
from halut.program import Program
from rtl_gen import AcceleratorConfig, TiledConfig
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.__main__ import main
from sim.accelerator import expected_beats, input_transfers, port_widths, results
from sim.simulation import build_accelerator

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = CONFIGS / "small.yaml"
# Takes Verilator long, or says what another one says: `make test-slow`.
SLOW = {"paper", "dense_lut4", "dense_p4_m2", "dense_p4_m8", "row_parallel", "four_units",
        "stella_nera_c32", "photo", "digits_network", "tiled_odd", "tiled_bytes", "tiled_double",
        "tiled_paper"}  # fmt: skip
ODD = {
    # No number a power of two, and every derived width different.
    "odd": {"n_codebooks": 12, "n_prototypes": 8, "n_outputs": 5, "rows": 3,
            "parallel_codebooks": 3, "input_format": "int11", "lut_bits": 4,
            "memory": "lutram", "outputs_per_cycle": 5},
    "least": {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "input_format": "int2",
              "lut_bits": 2, "memory": "ff", "encoder": "pipelined"},
    "slow_output": {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 6, "rows": 2,
                    "parallel_codebooks": 2, "outputs_per_cycle": 1, "acc_bits": 32,
                    "lut_bits": 16, "write_word_bits": 16},
    "sums": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 3, "rows": 2, "terms": 4,
             "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8"},
    "window": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 3, "rows": 2, "window": 9,
               "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8"},
    "node": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2, "window": 5, "splits": "node"},
    "double": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
               "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8",
               "double_buffer": True},
    # As an FPGA wants it: a register behind every look-up, every adder and every tree level.
    "for_fpga": {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                 "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
                 "memory": "lutram", "look_up_adder_levels": 0, "adder_levels_per_stage": 1},
    # Tables in SRAM, three groups of two codebooks, two words for the columns.
    "sram": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 4, "rows": 2,
             "parallel_codebooks": 2, "input_format": "int8", "memory": "sram",
             "write_word_bits": 16},
    "sram_double": {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "parallel_codebooks": 3,
                    "encoder": "pipelined", "memory": "sram", "double_buffer": True},
    "skid": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 4, "rows": 2, "skid_buffer": True,
             "parallel_codebooks": 2, "encoder": "addressed", "input_format": "int8",
             "memory": "sram", "output_format": "fp16"},
    "wide_tree": {"n_codebooks": 3, "n_prototypes": 32, "n_outputs": 2, "memory": "ff",
                  "encoder": "interleaved"},
}  # fmt: skip
TILED = {
    # Nothing a power of two; the units send several beats.
    "tiled_odd": (
        {"output_tiles": 3, "codebook_tiles": 3},
        {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2, "parallel_codebooks": 2,
         "input_format": "int5", "lut_bits": 4, "outputs_per_cycle": 1, "memory": "ff"},
    ),
    "tiled_bytes": (
        {"row_tiles": 2, "output_tiles": 2},
        {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "output_format": "int8",
         "skid_buffer": True},
    ),
    "tiled_floats": (
        {"output_tiles": 2, "codebook_tiles": 3},
        {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 2, "rows": 2, "lut_format": "fp16",
         "lut_bits": 16, "output_format": "fp16", "relu": True},
    ),
    "tiled_double": (
        {"output_tiles": 2, "codebook_tiles": 2},
        {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "double_buffer": True,
         "parallel_codebooks": 2, "output_format": "fp16", "memory": "latch"},
    ),
    "tiled_paper": (  # four units of the paper's kind, smaller
        {"row_tiles": 2, "codebook_tiles": 2},
        {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 4, "write_word_bits": 32},
    ),
}  # fmt: skip


def _config(name: str) -> AnyConfig:
    if name in TILED:
        tiles, unit = TILED[name]
        return TiledConfig(unit=AcceleratorConfig(name=name, **unit), **tiles)
    if name in ODD:
        return AcceleratorConfig(name=name, **ODD[name])
    return rtl_gen.load_config(CONFIGS / f"{name}.yaml")


def _cases() -> list:
    shipped = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
    cases = [(name, "verilator") for name in [*shipped, "odd", *TILED]]
    # The small ones in Icarus, which interprets: it builds them in a moment.
    cases += [(name, "icarus") for name in ("small", *ODD)]
    return [
        pytest.param(
            name,
            simulator,
            marks=[pytest.mark.slow] if name in SLOW and simulator == "verilator" else [],
        )
        for name, simulator in dict.fromkeys(cases)
    ]


@pytest.mark.sim
@pytest.mark.parametrize(("name", "simulator"), _cases())
def test_verilog_equals_model(name: str, simulator: str) -> None:
    try:
        runner.pick_simulator(simulator)
    except HalutError as error:
        pytest.skip(str(error))
    config = _config(name)
    built = build_accelerator(config, simulator=simulator)
    env = {"HALUT_CONFIG": json.dumps(config.to_dict())}
    result = runner.run(built, "sim.benches.matmul", env=env)
    # 4 stall patterns x 2 kinds of data, latency, 4 x single words, reset, 2 corruptions
    assert len(result.tests) == 16


@pytest.mark.parametrize("name", ["small", "stella_nera", "dense", *ODD, *TILED])
def test_manifest_agrees_with_the_interface(name: str) -> None:
    config = _config(name)
    manifest = rtl_gen.generate(config).manifest
    assert {port["name"]: port["bits"] for port in manifest["ports"]} == port_widths(config)


def test_transfers_by_hand() -> None:
    """Two rows, two lanes, two groups: where every word goes, counted by hand."""
    config = AcceleratorConfig(
        n_codebooks=4, n_prototypes=4, n_outputs=1, rows=2, parallel_codebooks=2,
        input_format="int4", write_word_bits=8,
    )  # fmt: skip
    words = np.arange(2 * 4 * 2, dtype=np.int16).reshape(2, 4, 2) % 8
    # Nibbles from the highest down: row 1 (lane 1: level 1, 0; lane 0), then row 0.
    assert [f"{word:08x}" for word in input_transfers(config, words)] == ["32103210", "76547654"]
    # A third row opens a row group that zeros complete.
    three = np.concatenate([words, words[:1]])
    assert [f"{word:08x}" for word in input_transfers(config, three)][2:] == [
        "00003210",
        "00007654",
    ]


def test_beats_and_results_are_inverse() -> None:
    config = AcceleratorConfig(n_codebooks=2, n_outputs=6, rows=2, outputs_per_cycle=3)
    program = golden.random_program(np.random.default_rng(1), 2, 16, 6)
    words = golden.random_words(np.random.default_rng(2), program, 4)
    beats = expected_beats(config, program, words)
    assert [beat[1:] for beat in beats] == [(0, 0), (1, 0), (2, 0), (3, 1)] * 2
    sums = golden.matmul(program, words)
    assert np.array_equal(results(config, [beat[0] for beat in beats], 4), sums)
    assert np.array_equal(results(config, [beat[0] for beat in beats], 3), sums[:3])


@pytest.fixture
def job() -> tuple[AcceleratorConfig, Program, np.ndarray]:
    config = AcceleratorConfig.from_yaml(SMALL)
    rng = np.random.default_rng(3)
    program = golden.random_program(
        rng, config.n_codebooks, config.n_prototypes, config.n_outputs, config.input_format
    )
    return config, program, rng.uniform(-150, 150, (37, program.n_features)).astype(np.float32)


@pytest.mark.sim
@pytest.mark.parametrize("stall_pattern", ["none", "both"])
def test_simulate(job: tuple, stall_pattern: str) -> None:
    config, program, A = job
    result = sim.simulate(config, program, A, stall_pattern=stall_pattern)
    expected = golden.matmul(program, program.input_words(A))
    assert np.array_equal(result.outputs, expected)
    assert result.outputs.dtype == expected.dtype
    steady = (len(A) - 1) * config.interval_cycles + config.n_groups + config.latency_cycles
    steady += config.n_beats - 1
    if stall_pattern == "none":
        assert result.cycles == steady
        assert result.input_stall_cycles == result.output_stall_cycles == 0
        assert result.load_cycles >= config.n_codebooks * config.n_prototypes
    else:
        assert result.cycles > steady
        assert result.output_stall_cycles > 0


@pytest.mark.sim
def test_simulate_several_units() -> None:
    config = _config("tiled_paper")
    rng = np.random.default_rng(6)
    program = golden.random_program(rng, config.n_codebooks, 16, config.n_outputs)
    A = rng.standard_normal((7, program.n_features)).astype(np.float32)  # 3 row groups and a half
    result = sim.simulate(config, program, A)
    assert np.array_equal(result.outputs, golden.matmul(program, program.input_words(A)))
    steady = 3 * config.interval_cycles + config.n_groups + config.latency_cycles
    assert result.cycles == steady + config.n_beats - 1


@pytest.mark.sim
def test_simulate_all(job: tuple) -> None:
    """Programs loaded over one another, matrices of different lengths, in one simulation."""
    config, program, A = job
    other = golden.random_program(
        np.random.default_rng(4), config.n_codebooks, config.n_prototypes, config.n_outputs,
        config.input_format, n_features=5,
    )  # fmt: skip
    B = np.random.default_rng(5).uniform(-150, 150, (9, 5))
    jobs = [(program, A), (other, B), (program, A[:3])]
    for stall_pattern in ("none", "both"):
        done = sim.simulate_all(config, jobs, stall_pattern=stall_pattern)
        assert len(done) == 3
        for (loaded, matrix), result in zip(jobs, done, strict=True):
            assert np.array_equal(result.outputs, golden.matmul(loaded, loaded.input_words(matrix)))
        for count in ("input_stall_cycles", "output_stall_cycles"):
            stalled = [getattr(result, count) for result in done]
            assert (sum(stalled) > 0) == (stall_pattern == "both")
        assert done[0].cycles > done[1].cycles > done[2].cycles
    with pytest.raises(HalutError, match="jobs must be at least one, not 0"):
        sim.simulate_all(config, [])


@pytest.mark.sim
def test_simulate_records_waves(job: tuple) -> None:
    config, program, A = job
    result = sim.simulate(config, program, A[:3], waves=True)
    assert result.waves is not None
    recorded = (result.waves / "dump.vcd").read_text()
    assert "halut_matmul" in recorded and "i_valid" in recorded


@pytest.mark.sim
def test_edited_verilog_is_caught(job: tuple, tmp_path: Path) -> None:
    """A bug in the Verilog that a user simulates, seen only where a value meets a threshold."""
    config, program, A = job
    text = rtl_gen.generate(config).verilog
    path = rtl_gen.write(config, tmp_path / "good.v")
    assert np.array_equal(
        sim.simulate(config, program, A, verilog=path).outputs,
        golden.matmul(program, program.input_words(A)),
    )
    # The comparison of a tree node, made not strict.
    wrong, count = re.subn(r"(\$signed\([^)]*\)) > (\$signed)", r"\1 >= \2", text)
    assert count, "the comparator must be found in the Verilog"
    bad = tmp_path / "bad.v"
    bad.write_text(wrong)
    equal = program.input_words(A)
    thresholds = program.thresholds.copy()
    thresholds[:, 0] = equal[0, :, 0]  # the first row meets every root's threshold exactly
    meets = dataclasses.replace(program, thresholds=thresholds)
    sim.simulate(config, meets, A, verilog=path)
    with pytest.raises(CheckFailed, match="outputs must equal the model: row 0, output"):
        sim.simulate(config, meets, A, verilog=bad)


# What each bench must find, by the text that it is found in: (configuration, pattern in the
# Verilog, what takes its place, message).
_FAULTS = {
    "a word that is half taken in reset": (
        "small",
        r"assign program_ready = ([^;]+);",
        r"assign program_ready = (\1) | ~rst_ni;",
        "program_ready must be 0",
    ),
    "rows that begin while latches settle": (
        "small",
        r"else settling <= [^;]+;",
        "else settling <= 1'h0;",
        "must not begin in the cycle after a word",
    ),
    "a device that is stuck": (
        "small",
        r"else if \(advance\) sums_valid <= \w+;",
        "",
        "an item must move within .* cycles",
    ),
    "words for the other bank that wait": (
        "double",
        r"assign program_aside = [^;]+;",
        "assign program_aside = 1'h0;",
        "words? for the other bank must",
    ),
    "a bank that is never switched": (
        "double",
        r"if \(\w+\) active_bank <= program_bank;",
        "if (1'h0) active_bank <= 1'h0;",
        "must not be taken within a row group|must be .*, not|must not begin in the cycle after",
    ),
}


@pytest.mark.sim
@pytest.mark.parametrize("name", _FAULTS)
def test_faults_are_found(name: str, tmp_path: Path) -> None:
    """What the benches did not find once: one fault of each kind in the Verilog."""
    if "icarus" not in runner.available_simulators():
        pytest.skip("icarus must be installed (apt install iverilog)")
    which, pattern, instead, message = _FAULTS[name]
    config = _config(which)
    wrong, count = re.subn(pattern, instead, rtl_gen.generate(config).verilog)
    assert count == 1, f"the Verilog must have one place for the fault, not {count}"
    bad = tmp_path / "bad.v"
    bad.write_text(wrong)
    built = build_accelerator(config, verilog=bad, simulator="icarus")
    env = {"HALUT_CONFIG": json.dumps(config.to_dict()), "HALUT_FAIL_FAST": "1"}
    with pytest.raises(runner.SimulationFailed, match=message):
        runner.run(built, "sim.benches.matmul", env=env, timeout_s=60)


@pytest.mark.sim
def test_simulate_uses_both_banks(tmp_path: Path) -> None:
    """One matrix passes through both; a device that never switches is caught."""
    simulator = "icarus" if "icarus" in runner.available_simulators() else None
    config = _config("double")
    rng = np.random.default_rng(8)
    jobs = [
        (golden.random_program(rng, 6, 4, 2, "int8", n_features=7), rng.uniform(-90, 90, (n, 7)))
        for n in (9, 4, 6)
    ]
    for pattern in ("none", "both"):
        done = sim.simulate_all(config, jobs, stall_pattern=pattern, simulator=simulator)
        for (program, A), result in zip(jobs, done, strict=True):
            assert np.array_equal(result.outputs, golden.matmul(program, program.input_words(A)))
        if pattern == "none":  # loading the next program holds up nothing
            groups = [5, 2, 3]
            steady = config.n_groups + config.latency_cycles + config.n_beats - 1
            cycles = [(n - 1) * config.interval_cycles + steady for n in groups]
            assert [result.cycles for result in done] == cycles
    text, count = re.subn(
        r"if \((\w+)\) active_bank <= program_bank;", r"if (1'h0) active_bank <= \1;",
        rtl_gen.generate(config).verilog,
    )  # fmt: skip
    assert count == 1
    bad = tmp_path / "bad.v"
    bad.write_text(text)
    with pytest.raises(CheckFailed, match="both banks must give the same"):
        sim.simulate(config, *jobs[0], verilog=bad, simulator=simulator)


def _arguments(job: tuple, folder: Path) -> list[str]:
    _, program, A = job
    program.save(folder / "p.npz")
    np.save(folder / "a.npy", A)
    return ["--config", str(SMALL), "--program", str(folder / "p.npz"),
            "--input", str(folder / "a.npy"), "--output", str(folder / "y.npy")]  # fmt: skip


@pytest.mark.sim
def test_command_line(job: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, program, A = job
    arguments = _arguments(job, tmp_path)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    expected = golden.matmul(program, program.input_words(A))
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
    assert printed.splitlines()[-1] == f"wrote {tmp_path / 'y.npy'}"
    assert f"{expected.size}, all equal to the model" in printed
    verilog = rtl_gen.write(config, tmp_path / "x.v")
    assert main([*arguments, "--verilog", str(verilog), "--dequantize"]) == 0
    product = np.load(tmp_path / "y.npy")
    assert np.array_equal(product, golden.dequantize(program, expected))
