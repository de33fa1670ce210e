"""``python -m halut``: every verb end to end, and one clear line for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from halut import bench, golden
from halut.__main__ import main
from halut.cli import run
from halut.errors import HalutError
from halut.program import Program


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((600, 4)) @ rng.standard_normal((4, 24))
    np.save(tmp_path / "a.npy", A[:500])
    np.save(tmp_path / "t.npy", A[500:])
    np.save(tmp_path / "b.npy", rng.standard_normal((24, 5)))
    return tmp_path


def learn(files, *more):
    output = files / "p.npz"
    matrices = ["--a", str(files / "a.npy"), "--b", str(files / "b.npy")]
    return run(main, ["learn", *matrices, "-o", str(output), "--num-c", "6", *more])


def test_learn_info_multiply(files, capsys):
    assert learn(files, "--test", str(files / "t.npy"), "--input", "fp16") == 0
    said = capsys.readouterr().out
    assert "held-out error" in said and "test error, program" in said
    assert said.splitlines()[-1] == f"wrote {files / 'p.npz'}"
    program = Program.load(files / "p.npz")
    assert (program.n_codebooks, program.input_format) == (6, "fp16")

    assert run(main, ["info", str(files / "p.npz")]) == 0
    said = capsys.readouterr().out
    assert "accumulator_bits     11" in said and "source               halut.HalutMatmul" in said
    assert run(main, ["info", "--json", str(files / "p.npz")]) == 0
    assert json.loads(capsys.readouterr().out)["n_outputs"] == 5

    words = program.input_words(np.load(files / "t.npy"))
    flags = ["--program", str(files / "p.npz"), "--input", str(files / "t.npy")]
    assert run(main, ["multiply", *flags, "--output", str(files / "y.npy")]) == 0
    accumulators = np.load(files / "y.npy")
    assert np.array_equal(accumulators, golden.matmul(program, words))
    assert run(main, ["multiply", *flags, "--output", str(files / "y.npy"), "--dequantize"]) == 0
    product = np.load(files / "y.npy")
    assert np.array_equal(product, golden.dequantize(program, accumulators))


def test_same_input_same_bytes(files):
    assert learn(files) == 0
    first = (files / "p.npz").read_bytes()
    assert learn(files) == 0
    assert (files / "p.npz").read_bytes() == first


def test_every_flag_is_used(files):
    """Each flag changes the program, or its provenance."""
    assert learn(files) == 0
    plain = Program.load(files / "p.npz")
    for flags in (
        ["--num-k", "8"],
        ["--input", "int4"],
        ["--lut-bits", "4"],
        ["--lut-format", "fp16"],
        ["--output-format", "fp16"],
        ["--output-format", "int8"],
        ["--relu"],
        ["--lut-granularity", "table"],
        ["--input-granularity", "dimension"],
        ["--loss", "features", "--refine-passes", "0"],
        ["--ridge", "50"],
        ["--ridge", "means", "--refine-passes", "0"],
        ["--calibrate"],
        ["--seed", "3"],
    ):
        assert learn(files, *flags) == 0
        assert Program.load(files / "p.npz") != plain, flags


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--num-c", "0"], "C must be at least 1, not 0"),
        (["--num-c", "25"], "C must be at most the columns of A, 24, not 25"),
        (["--num-k", "12"], "K must be a power of two in [2, 256], not 12"),
        (["--num-k", "x"], "argument --num-k: invalid int value: 'x'"),
        (["--input", "int17"], 'or "int2" to "int16", not \'int17\''),
        (["--lut-bits", "20"], "lut_bits must be in [2, 16], not 20"),
        (["--ridge", "-1"], "ridge must be greater than 0 and finite, not -1.0"),
        (["--ridge", "x"], 'argument --ridge: must be "auto", "means" or a number, not \'x\''),
        (["--los", "features"], '--los\' (did you mean "--loss"?)'),
        (["--loss", "feature"], "not 'feature' (did you mean \"features\"?)"),
        (["--test", "missing.npy"], "--test must be readable: No such file"),
        (["--a", "missing.npy"], "--a must be readable: No such file or directory (missing.npy)"),
        (["--refine-passes", "-1"], "refine_passes must be at least 0, not -1"),
        (["--seed", "-1"], "random_state must be at least 0, not -1"),
    ],
)
def test_bad_flags(files, capsys, arguments, message):
    assert learn(files, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(path.name for path in files.iterdir()) == ["a.npy", "b.npy", "t.npy"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"no matrix", "--a must be an .npy file of numbers"),
        (b"", "--a must be an .npy file of numbers"),
        (np.zeros(3), "--a must be a matrix with columns, not of shape (3,)"),
        (np.full((9, 24), np.nan), "A must be finite in float32, not nan (row 0, column 0)"),
        (np.zeros((9, 23)), "B must have as many rows as A has columns, 23, not 24"),
        (np.array([[None]]), "--a must be an .npy file of numbers"),
    ],
)
def test_bad_matrix(files, capsys, content, message):
    path = files / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    assert learn(files) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (files / "p.npz").exists()


def test_the_middle_of_a_long_error_is_left_out(capsys):
    def refuse(_: object) -> int:
        raise HalutError(f"name must be short, not {'x' * 100_000} (file.yaml)")

    assert run(refuse, []) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: name must be short, not xxx") and "x … x" in error
    assert error.endswith("x (file.yaml)\n") and len(error) < 2100


def test_bad_places(files, capsys):
    matrices = ["--a", str(files / "a.npy"), "--b", str(files / "b.npy")]
    assert run(main, ["learn", *matrices, "-o", str(files)]) == 2
    assert "output must be a file, not a folder" in capsys.readouterr().err
    assert run(main, ["learn", *matrices, "-o", str(files / "a.npy" / "p.npz")]) == 2
    assert "output must be writable" in capsys.readouterr().err
    assert run(main, ["info", str(files / "a.npy")]) == 2
    assert "file must be a program (.npz)" in capsys.readouterr().err
    assert run(main, ["inf"]) == 2
    assert '(did you mean "info"?)' in capsys.readouterr().err
    assert run(main, ["bench", "speed"]) == 2
    said = capsys.readouterr().err
    names = "accuracy, problems, tables, formats, learn, online, kernels, layers, forward, networks"
    assert f"WHAT must be {names}, not 'speed'" in said
    assert run(main, ["bench", "--threads", "0"]) == 2
    assert "--threads must be in [1, 1024], not 0" in capsys.readouterr().err
    assert run(main, []) == 2


def test_bench(tmp_path, capsys):
    output = tmp_path / "bench.json"
    assert run(main, ["bench", "online", "-o", str(output)]) == 0
    said = capsys.readouterr().out
    assert "A @ B" in said and "ratio" in said and "1 thread(s)" in said
    assert json.loads(output.read_text())["online"]["ratio"] > 0


def test_bench_prints_rows_of_tables(monkeypatch, capsys):
    """The fastest side of each kind, beside the fastest in float32."""
    sides = [("float32, NCHW", 10.0, 1.0), ("looked up, NCHW", 2.0, 0.2), ("INT8 x86", 3.0, 0.3),
             ("INT8 fbgemm", 4.0, 0.4), ("INT8 x86, INT8 in and out", 1.0, 0.1),
             ("float32, channels last", 5.0, 0.5)]  # fmt: skip
    rows = [dict(zip(("side", "ms", "ratio"), side, strict=True), case="one") for side in sides]
    torch = {"torch": "2", "torch_threads": 1, "torch_instructions": "AVX512", "instructions": []}
    conditions = bench.conditions() | torch
    kernels = [
        {"n_codebooks": 16, "tables": "int8", "input": "int8 rows", "variant": name,
         "exact_ms": 9.0, "online_ms": 3.0, "faster": faster}
        for name, faster in (("numpy", 0.5), ("vnni", 3.0))
    ]  # fmt: skip
    results = {
        "forward": {"conditions": conditions, "repeats": 3, "rows": rows},
        "kernels": {"conditions": conditions, "repeats": 3, "rows": kernels, "n_rows": 1,
                    "n_features": 2, "n_outputs": 3},
    }  # fmt: skip
    monkeypatch.setattr(bench, "measured_alone", lambda name, *_: results[name])
    assert run(main, ["bench", "forward", "kernels"]) == 0
    said = capsys.readouterr().out
    assert "| one | 5.0 ms | 0.40 × | 0.60 × | 0.20 × |" in said
    assert "| 16 | int8 | int8 rows | 0.50 × | 3.00 × | 3.00 | 9.00 |" in said


def test_bench_formats(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert run(main, ["bench", "formats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {tuple(line.split()[:2]): line.split()[3:] for line in lines[4:-2]}
    assert [line.split()[2] for line in lines[-2:]] == ["fp16", "int8"]
    errors = {name: float(values[0]) for name, values in found.items()}
    assert errors["float", "float"] < errors["fp8_e5m2", "int8"] < errors["int2", "int8"]
    assert errors["int8", "int16"] < errors["int8", "int4"] < errors["int8", "int2"]
    assert abs(errors["int8", "fp16"] / errors["int8", "int16"] - 1) < 0.01
    assert float(found["int8", "int8"][1].rstrip("%")) > 85


@pytest.mark.parametrize("verb", [[], ["learn"], ["info"], ["multiply"], ["bench"]])
def test_help(verb):
    done = subprocess.run(
        [sys.executable, "-m", "halut", *verb, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: python -m halut")
