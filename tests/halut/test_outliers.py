"""What is reported is what is written: outliers, quantised errors, values of any finite size."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from halut import HalutMatmul, golden
from halut.__main__ import main
from halut.baseline import ProductQuantization
from halut.cli import run
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.memory import available_bytes, check_learning, learning_bytes
from halut.outliers import ordinary_rows
from halut.problems import relative_error
from halut.program import Program

RNG = np.random.default_rng(0)
B = RNG.standard_normal((8, 3))
PLAIN = RNG.standard_normal((600, 8))
FRESH = RNG.standard_normal((2000, 8))


def with_outlier(row: int, size: float) -> np.ndarray:
    rows = PLAIN.copy()
    rows[row, 0] = size
    return rows


def error_of(program: Program, rows: np.ndarray) -> float:
    words = program.input_words(rows, quiet=True)
    return relative_error(golden.dequantize(program, golden.matmul(program, words)), rows @ B)


def learn(folder, A, matrix, *more: str) -> tuple[int, Program | None]:
    np.save(folder / "a.npy", A)
    np.save(folder / "b.npy", matrix)
    output = folder / "p.npz"
    files = ["--a", str(folder / "a.npy"), "--b", str(folder / "b.npy"), "-o", str(output)]
    status = run(main, ["learn", *files, "--num-c", "4", *more])
    return status, Program.load(output) if output.exists() else None


@pytest.mark.parametrize("granularity", ["codebook", "dimension", "all"])
@pytest.mark.parametrize("size", [1e4, 1e6, -1e6])
@pytest.mark.parametrize("lut_format", ["int", "fp16"])
def test_one_outlier_does_not_spoil_the_other_rows(granularity, size, lut_format):
    learned = HalutMatmul(C=4).learn_offline(with_outlier(0, size), B)
    floats = relative_error(learned.matmul_online(FRESH), FRESH @ B)
    program = learned.program("int8", input_granularity=granularity, lut_format=lut_format)
    assert error_of(program, FRESH) < 1.1 * floats


def test_one_outlier_with_calibration():
    rows = with_outlier(0, 1e6)
    learned = HalutMatmul(C=4).learn_offline(rows, B)
    floats = relative_error(learned.matmul_online(FRESH), FRESH @ B)
    assert error_of(learned.program("int8", calibration=rows), FRESH) < 1.1 * floats


def test_ordinary_rows_are_left_alone():
    assert ordinary_rows(PLAIN.astype(np.float32), B.astype(np.float32)).all()
    far = with_outlier(7, 1e6).astype(np.float32)
    found = ordinary_rows(far, B.astype(np.float32))
    assert np.flatnonzero(~found).tolist() == [7]
    sparse = np.zeros((600, 8), np.float32)
    sparse[3] = 1
    assert ordinary_rows(sparse, B.astype(np.float32)).all()  # nothing to compare with
    learned = HalutMatmul(C=4).learn_offline(PLAIN, B)
    for granularity in ("codebook", "dimension", "all"):
        assert learned.thresholds_for(8, granularity) is learned.thresholds_
    assert learned.tables_for(8)[0] is learned.lut_


@pytest.mark.parametrize("name", ["int8", "int3", "fp16", "fp8_e5m2"])
@pytest.mark.parametrize("lut_bits", [8, 4])
def test_reported_error_is_that_of_the_program(name, lut_bits):
    learned = HalutMatmul(C=4).learn_offline(PLAIN, B)
    program = learned.program(name, lut_bits)
    reported = float(program.provenance["held_out_error"])
    assert reported == pytest.approx(error_of(program, FRESH), rel=0.25)
    floats = float(program.provenance["held_out_error_float"])
    assert floats == pytest.approx(learned.stats_.held_out_error, rel=1e-5)
    # The difference is measured: another program of the same product has another error.
    spoilt = learned.program(name, 2)
    assert learned.quantisation_error(spoilt).added > learned.quantisation_error(program).added


def test_the_one_to_blame():
    learned = HalutMatmul(C=4).learn_offline(PLAIN, B)
    fine = learned.quantisation_error(learned.program("int8"))
    assert not fine.notable and fine.held_out
    # Where tables are right, rounding is all of the error, and nothing to warn of.
    right = dataclasses.replace(fine, float_error=0.0, added=5e-15)
    assert not right.notable and dataclasses.replace(right, added=0.01).notable
    program = learned.program("int16", 16)
    fields = {name: getattr(program, name) for name in (
        "n_features", "input_format", "lut_bits", "split_dims", "lut_scale", "lut_offset",
        "input_scale", "input_offset")}  # fmt: skip
    thresholds, lut = program.thresholds.copy(), program.lut.copy()
    thresholds[2] = 0
    lut[1] = 0
    inputs = learned.quantisation_error(Program(**fields, thresholds=thresholds, lut=program.lut))
    assert inputs.notable and (inputs.codebook, inputs.output) == (2, None)
    assert "the inputs of codebook 2" in str(inputs)
    tables = learned.quantisation_error(Program(**fields, thresholds=program.thresholds, lut=lut))
    assert tables.notable and (tables.codebook, tables.output) == (None, 1)
    assert "output column 1" in str(tables)


@pytest.mark.parametrize("output", ["raw", "fp16", "int8"])
@pytest.mark.parametrize("relu", [False, True])
def test_error_of_an_output_stage(output, relu):
    learned = HalutMatmul(C=4).learn_offline(PLAIN, B)
    plain = learned.program("int8", 16)
    grid = {"scale": 3.0, "offset": 0.0} if output == "int8" else {}
    program = plain.with_output(output, relu=relu, **grid)
    results = golden.results(program, program.input_words(FRESH)).astype(np.float64)
    if output == "raw":
        results = golden.dequantize(plain, golden.matmul(plain, plain.input_words(FRESH)))
    results = results * 3 if output == "int8" else results
    floats, exact = learned.matmul_online(FRESH), FRESH @ B
    if relu:
        results, floats, exact = (np.maximum(each, 0) for each in (results, floats, exact))
    wanted = np.square(results - exact).sum() - np.square(floats - exact).sum()
    added = learned.quantisation_error(program, **grid).added
    assert added == pytest.approx(wanted / np.square(FRESH @ B).sum(), rel=0.3, abs=2e-3)
    if output == "int8":
        assert added > 0.02  # steps of 3 are coarse
        with pytest.raises(HalutError, match="scale and offset must be given"):
            learned.quantisation_error(program)


def test_learn_prints_stores_and_warns(tmp_path, capsys, caplog):
    status, program = learn(tmp_path, PLAIN, B, "--lut-bits", "2")
    out = capsys.readouterr().out
    assert status == 0 and program is not None
    printed = float(re.search(r"held-out error\s+(\S+)", out)[1])
    assert printed == pytest.approx(float(program.provenance["held_out_error"]), rel=1e-3)
    assert printed == pytest.approx(error_of(program, FRESH), rel=0.25)
    assert [r.getMessage() for r in caplog.records if "quantisation raises" in r.getMessage()]
    caplog.clear()
    learn(tmp_path, PLAIN, B)
    assert not caplog.records


def test_values_beyond_a_format_are_counted(tmp_path, caplog, capsys):
    rows = PLAIN.copy()
    rows[:300] *= 1e6
    beyond = int((np.abs(rows) >= 65520).sum())
    learn(tmp_path, rows, B, "--input", "fp16")
    said = [record.getMessage() for record in caplog.records]
    assert any(f"{beyond} of 4800 values of --a are beyond fp16" in line for line in said)
    assert any("thresholds are beyond fp16" in line for line in said)
    caplog.clear()
    files = ["--program", str(tmp_path / "p.npz"), "--input", str(tmp_path / "a.npy")]
    assert run(main, ["multiply", *files, "--output", str(tmp_path / "y.npy")]) == 0
    assert "input values are beyond fp16" in caplog.records[0].getMessage()
    assert capsys.readouterr()


@pytest.mark.parametrize("name", list(FLOAT_FORMATS))
def test_overflows_are_what_words_cannot_hold(name):
    floating = FLOAT_FORMATS[name]
    edge = floating.largest_finite
    step = edge - float(floating.values(floating.words(edge) - floating.dtype(1)))
    for value in (edge, edge + 0.49 * step, edge + 0.51 * step, 4 * edge):
        word = floating.values(floating.words([value]))[0]
        beyond = np.isinf(word) if floating.has_infinity else value > edge + step / 2
        assert floating.overflows([value, -value, 1, np.nan, np.inf]) == 2 * beyond


@pytest.mark.parametrize("scale", [1e-30, 2.0**-100, 1e19, 1e30, 3e37])
@pytest.mark.parametrize("kind", [HalutMatmul, ProductQuantization])
def test_any_size_is_learned(scale, kind):
    usual = kind(C=4).learn_offline(PLAIN, B)
    wanted = usual.encode(FRESH)
    scale = 2.0 ** round(np.log2(scale))
    learned = kind(C=4).learn_offline(PLAIN * scale, B)
    np.testing.assert_array_equal(learned.lut_, usual.lut_ * np.float32(scale))
    np.testing.assert_array_equal(learned.encode(FRESH * scale), wanted)
    if kind is HalutMatmul:
        program = learned.program("int8")
        np.testing.assert_array_equal(program.thresholds, usual.program("int8").thresholds)
        assert error_of(program, FRESH * scale) < 0.2


@pytest.mark.parametrize(
    ("A", "matrix", "said"),
    [
        (PLAIN * 1e307, B, r"A must be finite in float32, not .* \(row 0, column 0\)"),
        (PLAIN, B * 1e307, r"B must be finite in float32"),
        (PLAIN * 1e-300, B, "A must have a value of at least 1.18e-38"),
        (PLAIN * 1e-40, B, "A must have a value of at least 1.18e-38"),
        (PLAIN * 1e30, B * 1e30, r"A @ B must be in the range of float32, .* about 1e\+6"),
        (PLAIN * 1e-30, B * 1e-30, r"A @ B must be in the range of float32, .* about 1e-"),
        (PLAIN[:0], B, "A must have at least one row, not 0"),
        (PLAIN[:, :0], B[:0], "must be a matrix with columns"),
        (PLAIN, B[:, :0], "must be a matrix with columns"),
        (np.where(PLAIN[5, 1] == PLAIN, np.nan, PLAIN), B, r"not nan \(row 5, column 1\)"),
        (np.where(PLAIN[5, 1] == PLAIN, -np.inf, PLAIN), B, r"not -inf \(row 5, column 1\)"),
    ],
)
def test_what_cannot_be_learned_is_one_line(tmp_path, capsys, recwarn, A, matrix, said):
    status, program = learn(tmp_path, A, matrix)
    error = capsys.readouterr().err
    assert status == 2 and program is None
    assert error.count("\n") == 1 and re.search(said, error)
    assert not recwarn.list


@pytest.mark.parametrize(
    "rows",
    [PLAIN[:1], PLAIN[:3], np.full((300, 8), 5.0), np.zeros((300, 8))],
)
def test_degenerate_rows_are_learned(tmp_path, capsys, rows):
    status, program = learn(tmp_path, rows, B)
    assert status == 0 and program is not None and "error" in capsys.readouterr().out
    assert golden.matmul(program, program.input_words(rows)).shape == (len(rows), 3)


def test_no_rows_give_no_results():
    learned = HalutMatmul(C=4).learn_offline(PLAIN, B)
    assert learned.encode(PLAIN[:0]).shape == (0, 4)
    assert learned.matmul_online(PLAIN[:0]).shape == (0, 3)
    program = learned.program("fp16")
    assert golden.matmul(program, program.input_words(PLAIN[:0])).shape == (0, 3)


def test_memory_is_estimated_before_learning(tmp_path):
    available = available_bytes()
    if available is None:
        pytest.skip("the system does not say how much memory is available")
    # A sparse file of the right header: nothing of it is read.
    shape = (available // 4 // 64, 64)
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=shape)
    np.save(tmp_path / "b.npy", np.zeros((64, 4)))
    with pytest.raises(HalutError, match=r"learning must fit the memory that is available, .* GB"):
        check_learning(tmp_path / "a.npy", tmp_path / "b.npy", 16, 16)
    assert learning_bytes(1000, 64, 4, 16, 16) < 10**8
    check_learning(tmp_path / "b.npy", tmp_path / "b.npy", 16, 16)


def test_multiplying_changes_nothing():
    for n_outputs in (1, 3):
        learned = HalutMatmul(C=4).learn_offline(PLAIN + 1, B[:, :n_outputs])
        lut = learned.lut_.copy()
        first = learned.matmul_online(FRESH)
        np.testing.assert_array_equal(learned.matmul_online(FRESH), first)
        np.testing.assert_array_equal(learned.lut_, lut)
