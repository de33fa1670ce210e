"""Programs that compare sums of words: their fields, their file, what they compute."""

import dataclasses

import numpy as np
import pytest

from halut import HalutMatmul, golden, native
from halut.__main__ import main
from halut.cli import run
from halut.encoding import float_thresholds
from halut.errors import HalutError
from halut.problems import relative_error
from halut.program import Program
from halut.quantised import QuantisedMatmul
from halut.quantize import sum_thresholds
from halut.tiles import select, tile, widen
from tests.halut.support import mixtures

pytestmark = pytest.mark.usefixtures("judged_by_one_share_of_the_rows")


def small(**changes):
    """One codebook of two leaves: goes right when word 1 - word 0 - 1 is greater than 5."""
    fields = {
        "n_features": 2, "input_format": "int8", "split_dims": [[[1, 0]]], "signs": [[[1, -1]]],
        "thresholds": [[5]], "lut": [[[-3, 7]]], "lut_scale": [1.0], "lut_offset": [0.0],
    }  # fmt: skip
    return Program(**fields | changes)


def test_by_hand():
    program = small()
    assert (program.terms, program.n_values, program.threshold_bits) == (2, 2, 9)
    words = program.input_words([[0.0, 6.0], [0.0, 7.0], [-128.0, -128.0], [-128.0, 127.0]])
    assert words.tolist() == [[[6, 0]], [[7, 0]], [[-128, -128]], [[127, -128]]]
    # 6 - 0 - 1, 7 - 0 - 1, -128 + 128 - 1, 127 + 128 - 1
    assert golden.encode(program, words).ravel().tolist() == [0, 1, 0, 1]
    assert golden.matmul(program, words).ravel().tolist() == [-3, 7, -3, 7]


def test_sums_reach_both_ends():
    low, high = small(signs=[[[1, 1]]], thresholds=[[-256]]), small(thresholds=[[253]])
    assert golden.encode(low, np.full((1, 1, 2), -128, np.int16)) == 0  # -256 is not greater
    assert golden.encode(low, np.array([[[-128, -127]]], np.int16)) == 1
    assert golden.encode(high, np.array([[[127, -128]]], np.int16)) == 1  # 254


def test_no_column_is_the_word_zero():
    program = small(split_dims=[[[1, -1]]], input_offset=[[3.0]])
    assert program.input_words([[99.0, 10.0]]).tolist() == [[[7, 0]]]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"signs": [[[1, 0]]]}, "signs must be -1 or 1"),
        ({"signs": [[1, -1]]}, "signs must have"),
        ({"split_dims": [[[-2, 0]]]}, "split_dims must be in [-1, 2), not -2 to 0"),
        ({"split_dims": [[[2, 0]]]}, "split_dims must be in [-1, 2), not 0 to 2"),
        ({"thresholds": [[256]]}, "thresholds must be in [-256, 255], not 256 to 256"),
        ({"input_format": "int16"}, '"int2" to "int15" for sums of 2 terms, not "int16"'),
        ({"input_format": "fp16", "thresholds": np.float16([[5]])}, 'not "fp16"'),
        ({"split_dims": [[[0]]], "signs": [[[1]]]}, "terms must be in [2, 16], not 1"),
    ],
)
def test_bad_fields(changes, message):
    with pytest.raises(HalutError) as error:
        small(**changes)
    assert message in str(error.value)


def test_file(tmp_path):
    program = small()
    path = program.save(tmp_path / "p.npz")
    assert Program.load(path) == program
    assert dataclasses.replace(program, signs=[[[1, 1]]]) != program
    with np.load(path) as archive:
        content = dict(archive)
    assert content["format_version"] == 3
    del content["signs"]
    np.savez(path, **content)
    with pytest.raises(HalutError, match="signs is missing"):
        Program.load(path)


def test_programs_without_sums_keep_their_version(tmp_path):
    program = golden.random_program(np.random.default_rng(0), 2, 4, 3)
    with np.load(program.save(tmp_path / "p.npz")) as archive:
        assert archive["format_version"] == 2 and "signs" not in archive


@pytest.mark.parametrize("input_format, terms", [("int8", 2), ("int8", 4), ("int6", 3)])
def test_quantised_product_is_near_the_floats(input_format, terms):
    A, B = mixtures()
    learned = HalutMatmul(C=6, encoder="sums", terms=terms, effort=1).learn_offline(A[:1200], B)
    program = learned.program(input_format)
    assert program.terms == terms and program.provenance["encoder"] == f"sums of {terms}"
    rows, exact = A[1200:], A[1200:] @ B
    floats = relative_error(learned.matmul_online(rows), exact)
    quantised = QuantisedMatmul(program)
    assert relative_error(quantised.matmul_online(rows), exact) < 1.1 * floats
    codes = golden.encode(program, program.input_words(rows))
    assert (codes == learned.encode(rows)).mean() > (0.95 if input_format == "int8" else 0.8)
    assert np.array_equal(quantised.encode(rows), codes)


@pytest.mark.parametrize("granularity", ["codebook", "dimension", "all"])
def test_every_granularity_of_grids(granularity):
    A, B = mixtures()
    learned = HalutMatmul(C=4, encoder="sums").learn_offline(A, B)
    program = learned.program(input_granularity=granularity)
    n_grids = {"codebook": 4, "dimension": 16, "all": 1}[granularity]
    grids = np.stack([program.input_scale, program.input_offset], axis=2).reshape(-1, 2)
    assert 1 <= len(np.unique(grids, axis=0)) <= n_grids
    codes = golden.encode(program, program.input_words(A))
    assert (codes == learned.encode(A)).mean() > 0.93


def test_thresholds_of_sums_by_hand():
    """x0 - x1 > 1, both from 0 to 254: words are values less 127, and the complement costs one."""
    thresholds, signs = np.array([[1.0]], np.float32), np.array([[[1, -1]]], np.int8)
    low, high = np.zeros((1, 1, 2)), np.full((1, 1, 2), 254.0)
    words, scale, offset = sum_thresholds(thresholds, signs, low, high, 8)
    assert scale.tolist() == [[1.0]] and offset.tolist() == [[127.0]]
    assert words.tolist() == [[-1]] or words.tolist() == [[0]]
    program = small(split_dims=[[[0, 1]]], thresholds=words, input_scale=scale, input_offset=offset)
    assert golden.encode(program, program.input_words([[9.0, 9.0], [11.0, 9.0]])).tolist() == [
        [0],
        [1],
    ]


def test_native_gives_the_same_bits():
    rng = np.random.default_rng(3)
    for terms in (2, 3, 16):
        program = golden.random_program(rng, 3, 16, 5, "int8", terms=terms, corner=True)
        words = golden.random_words(rng, program, 200, corner=True)
        assert np.array_equal(native.results(program, words), golden.results(program, words))


def test_corner_words_meet_thresholds():
    """Sums equal the threshold, and are one more and one less."""
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 2, 2, 1, "int8", terms=3, corner=True)
    program = dataclasses.replace(program, thresholds=[[4], [-9]])
    words = golden.random_words(rng, program, 400, corner=True).astype(int)
    signs = program.signs[:, 0]
    sums = np.where(signs < 0, -1 - words, words).sum(axis=2)
    for away in (-1, 0, 1):
        assert (sums - [4, -9] == away).any()


def test_tiles_of_sums():
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, 6, 8, 5, "int8", terms=2)
    A = rng.uniform(-99, 99, (20, program.n_features))
    tiling = tile(program, 4, 3)
    parts = [golden.matmul(part, part.input_words(A)) for part in tiling.tiles]
    whole = golden.matmul(program, program.input_words(A))
    assert np.array_equal(tiling.join(parts), whole)
    assert np.array_equal(select(program, np.array([4]), slice(0, 1)).signs, program.signs[[4]])


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_widening_changes_no_accumulator(terms):
    rng = np.random.default_rng(terms)
    narrow = golden.random_program(
        rng, 5, 8, 3, "int6", terms=terms, n_features=9, corner=terms > 1
    )
    wide = widen(narrow, n_prototypes=32, lut_bits=12, terms=5)
    assert (wide.n_prototypes, wide.lut_bits, wide.terms) == (32, 12, 5)
    A = np.rint(rng.uniform(-40, 40, (1000, 9)))  # beyond the format's ends, too
    sums = [golden.matmul(part, part.input_words(A)) for part in (narrow, wide)]
    assert np.array_equal(*sums)
    assert len(np.unique(golden.encode(narrow, narrow.input_words(A)))) == 8


def test_what_is_not_supported_is_refused():
    program = small()
    with pytest.raises(HalutError, match="input_format must be the accelerator's int9, not int8"):
        widen(program, input_format="int9")
    with pytest.raises(HalutError, match=r"program.terms must be at most .* 1, not 2"):
        widen(program, terms=1)
    with pytest.raises(HalutError, match="must not compare sums for thresholds of single values"):
        float_thresholds(program)


def test_learning_refuses_floats_before_it_begins(tmp_path, capsys):
    A, B = mixtures(200)
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    files = ["--a", str(tmp_path / "a.npy"), "--b", str(tmp_path / "b.npy")]
    sums = ["--num-c", "4", "--encoder", "sums", "--terms", "3", "-o", str(tmp_path / "p.npz")]
    assert run(main, ["learn", *files, *sums, "--input", "fp16"]) == 2
    assert '"int2" to "int14" for sums of 3 terms, not "fp16"' in capsys.readouterr().err
    assert run(main, ["learn", *files, *sums, "--effort", "1"]) == 0
    assert Program.load(tmp_path / "p.npz").terms == 3
    capsys.readouterr()
    assert run(main, ["info", str(tmp_path / "p.npz")]) == 0
    said = capsys.readouterr().out
    assert "terms                3" in said and "sums of 3" in said
