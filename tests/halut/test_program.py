"""The program file: what it takes, what it refuses, and that it comes back as it went."""

import dataclasses
import io
import os
import zipfile

import numpy as np
import pytest

from halut import golden
from halut.errors import CheckFailed, HalutError, closest
from halut.files import atomic_write
from halut.golden import random_program
from halut.output import OutputStage
from halut.program import Program


def example(**changes):
    fields = {
        "n_features": 8,
        "input_format": "int8",
        "split_dims": [[0, 1], [6, 7]],
        "thresholds": [[0, -5, 5], [-128, 127, 1]],
        "lut": np.arange(24).reshape(3, 2, 4) - 12,
        "lut_scale": [0.5, 1.0, 2.0],
        "lut_offset": [0.0, -1.0, 1.0],
        "provenance": {"source": "test"},
    }
    return Program(**(fields | changes))


def test_properties():
    program = example()
    assert (program.n_codebooks, program.n_prototypes, program.tree_depth) == (2, 4, 2)
    assert (program.n_outputs, program.input_bits, program.accumulator_bits) == (3, 8, 9)
    assert program.lut.dtype == np.int8
    assert program.thresholds.dtype == np.int16
    assert program.split_dims.dtype == np.int32
    assert program.input_scale.dtype == program.lut_scale.dtype == np.float32
    assert example(lut_bits=9).lut.dtype == np.int16


@pytest.mark.parametrize("codebooks, extra", [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6)])
def test_accumulator_bits(codebooks, extra):
    program = random_program(np.random.default_rng(0), codebooks, 4, 1)
    assert program.accumulator_bits == 8 + extra


def test_arrays_are_copied_and_frozen():
    lut = np.zeros((3, 2, 4), dtype=np.int8)
    program = example(lut=lut)
    lut[:] = 1
    assert not program.lut.any()
    with pytest.raises(ValueError, match="read-only"):
        program.lut[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        program.lut_bits = 4


def test_equality_is_by_content():
    assert example() == example()
    assert hash(example()) == hash(example())
    assert example() != example(provenance={})
    assert example() != example(lut_scale=[0.5, 1.0, 2.5])
    assert example() != "a program"
    minus_zero = example(input_offset=-np.zeros((2, 2)))
    assert example() != minus_zero  # bits, not values


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_features": 0}, r"n_features must be in \[1, \d+\], not 0"),
        ({"n_features": 7}, r"split_dims must be in \[0, 7\), not 0 to 7"),
        ({"n_features": 2.5}, "n_features must be an integer, not 2.5"),
        ({"input_format": "fp9"}, 'input_format must be "fp16", .* or "int2" to "int16", not'),
        ({"input_format": "int08"}, "input_format must be"),
        ({"input_format": 8}, "input_format must be"),
        ({"lut_bits": 1}, r"lut_bits must be in \[2, 16\], not 1"),
        ({"lut_bits": 17}, r"lut_bits must be in \[2, 16\], not 17"),
        ({"lut_bits": True}, "lut_bits must be an integer, not True"),
        ({"lut_bits": 4}, r"lut must be in \[-8, 7\], not -12 to 11"),
        ({"split_dims": [[0, -1], [6, 7]]}, r"split_dims must be in \[0, 8\), not -1 to 7"),
        ({"split_dims": [0, 1]}, r"split_dims must have shape \(any, any\), not \(2,\)"),
        ({"split_dims": [[0.5, 1], [6, 7]]}, "split_dims must hold integers that fit int32"),
        ({"split_dims": np.zeros((2, 9), int)}, "split_dims must have 1 to 8 levels, not 9"),
        ({"split_dims": np.zeros((2, 0), int)}, r"split_dims must have shape"),
        ({"lut_format": "fp8"}, "lut_format must be int or fp16, not 'fp8'"),
        ({"lut_format": "fp16"}, "lut_bits must be 16 for lut_format fp16, not 8"),
        (
            {"lut_format": "fp16", "lut_bits": 16, "lut": np.full((3, 2, 4), 0.1)},
            "lut must hold values that float16 can hold exactly",
        ),
        (
            {
                "lut_format": "fp16",
                "lut_bits": 16,
                "output": OutputStage(format="fp16", scale=[1] * 3, offset=[1] * 3),
            },
            "scale and offset must be absent for output_format fp16 of lut_format fp16",
        ),
        (
            {"output": OutputStage(format="fp16")},
            "scale and offset must be given for output_format fp16 of lut_format int",
        ),
        (
            {
                "lut_format": "fp16",
                "lut_bits": 16,
                "output": OutputStage(
                    format="int8", multiplier=[1] * 3, shift=[1] * 3, addend=[1] * 3, zero=[1] * 3
                ),
            },
            "output_format must be raw or fp16 for lut_format fp16, not int8",
        ),
        ({"thresholds": [[0, 1, 2]]}, r"thresholds must have shape \(2, 3\), not \(1, 3\)"),
        ({"thresholds": [[0, 1, 128]] * 2}, r"thresholds must be in \[-128, 127\], not 0 to 128"),
        ({"thresholds": [[0, 1, 0.5]] * 2}, "thresholds must hold integers that fit int16"),
        ({"thresholds": [[0, 1, np.nan]] * 2}, "thresholds must hold integers"),
        ({"thresholds": [["a", "b", "c"]] * 2}, "thresholds must be numeric"),
        (
            {"thresholds": [[0, 1, np.nan]] * 2, "input_format": "fp16"},
            "thresholds must not be NaN",
        ),
        (
            {"thresholds": [[0, 1, 0.1]] * 2, "input_format": "fp16"},
            "thresholds must hold values that float16 can hold exactly",
        ),
        (
            {"thresholds": [[0, 1, 0x7F]] * 2, "input_format": "fp8_e4m3"},
            "thresholds must not be NaN",
        ),
        (
            {"thresholds": [[0, 1, 256]] * 2, "input_format": "fp8_e5m2"},
            "thresholds must hold integers that fit uint8",
        ),
        (
            {"thresholds": [[0, 1, -1]] * 2, "input_format": "bf16"},
            "thresholds must hold integers that fit uint16",
        ),
        ({"lut": np.zeros((3, 2, 3))}, r"lut must have shape \(any, 2, 4\), not \(3, 2, 3\)"),
        ({"lut": np.full((3, 2, 4), 128)}, "lut must hold integers that fit int8"),
        ({"lut_scale": [1, 1]}, r"lut_scale must have shape \(3\), not \(2,\)"),
        ({"lut_scale": [1, 1, 0]}, "lut_scale must be greater than 0, not 0.0"),
        ({"lut_scale": [1, 1, np.inf]}, "lut_scale must be finite"),
        ({"lut_offset": [1, 1, np.nan]}, "lut_offset must be finite"),
        ({"lut_offset": None}, "lut_offset must have shape"),
        ({"input_scale": [[1, 1], [1, -1]]}, "input_scale must be greater than 0, not -1.0"),
        ({"input_offset": np.zeros(2)}, r"input_offset must have shape \(2, 2\), not \(2,\)"),
        (
            {"input_format": "fp16", "input_scale": np.full((2, 2), 2)},
            'input_scale must be 1 everywhere for input_format "fp16"',
        ),
        ({"provenance": {"a": 1}}, "provenance must map str to str"),
        ({"provenance": "a"}, "provenance must map str to str"),
    ],
)
def test_bad_field(changes, message):
    with pytest.raises(HalutError, match=message):
        example(**changes)


def test_input_words_integer():
    scale = np.array([[0.5, 2.0], [1.0, 1.0]])
    offset = np.array([[1.0, 0.0], [0.0, 100.0]])
    program = example(input_scale=scale, input_offset=offset)
    A = np.zeros((3, 8), dtype=np.float32)
    A[0, [0, 1, 6, 7]] = [2.0, 5.0, -2.5, 100.0]
    A[1, [0, 1, 6, 7]] = [1e30, -np.inf, 126.5, 127.5]
    words = program.input_words(A)
    assert words.dtype == np.int16
    assert words[0].tolist() == [[2, 2], [-2, 0]]  # ties to even: 2.5 -> 2, -2.5 -> -2
    assert words[1].tolist() == [[127, -128], [126, 28]]
    assert words[2].tolist() == [[-2, 0], [0, -100]]
    A[2, 6] = np.nan
    with pytest.raises(HalutError, match='A must not hold NaN for input_format "int8"'):
        program.input_words(A)
    A[2, 6], A[2, 3] = 0, np.nan  # a column that no tree looks at
    assert program.input_words(A).shape == (3, 2, 2)


def test_input_words_half():
    program = example(input_format="fp16", thresholds=np.zeros((2, 3)))
    A = np.zeros((1, 8))
    A[0, [0, 1, 6, 7]] = [1.0, -0.0, 1e6, np.nan]
    words = program.input_words(A)
    assert words.dtype == np.uint16
    assert words[0, 0].tolist() == [0x3C00, 0x8000]
    assert words[0, 1, 0] == 0x7C00
    assert np.isnan(words.view(np.float16)[0, 1, 1])
    tie = np.full((1, 8), 2049.0)
    assert program.input_words(tie).view(np.float16)[0, 0, 0] == 2048


@pytest.mark.parametrize(
    "input_format, words",
    [
        ("bf16", [0x3F80, 0x8000, 0x4974, 0x7FC0]),
        ("fp8_e4m3", [0x38, 0x80, 0x7E, 0x7F]),
        ("fp8_e5m2", [0x3C, 0x80, 0x7C, 0x7E]),
    ],
)
def test_input_words_float(input_format, words):
    program = example(input_format=input_format, thresholds=np.zeros((2, 3)))
    A = np.zeros((1, 8))
    A[0, [0, 1, 6, 7]] = [1.0, -0.0, 1e6, np.nan]
    found = program.input_words(A)
    assert found.dtype == program.threshold_words.dtype
    assert found.ravel().tolist() == words
    assert golden.encode(program, found).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    "A, message",
    [
        (np.zeros((2, 7)), r"A must have shape \(any, 8\), not \(2, 7\)"),
        (np.zeros(8), r"A must have shape \(any, 8\), not \(8,\)"),
        (np.zeros((2, 8), complex), "A must hold real numbers, not complex128"),
        (np.full((2, 8), "a"), "A must hold real numbers"),
    ],
)
def test_input_words_refused(A, message):
    with pytest.raises(HalutError, match=message):
        example().input_words(A)


@pytest.mark.parametrize(
    "input_format", ["fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int2", "int8", "int16"]
)
@pytest.mark.parametrize("lut_bits", [2, 8, 12])
@pytest.mark.parametrize("corner", [False, True])
def test_round_trip(tmp_path, input_format, lut_bits, corner):
    rng = np.random.default_rng([lut_bits, corner])
    program = random_program(rng, 3, 8, 5, input_format, lut_bits, n_features=11, corner=corner)
    path = tmp_path / "p.npz"
    assert program.save(path) == path
    assert Program.load(path) == program
    assert os.listdir(tmp_path) == ["p.npz"]


@pytest.mark.parametrize("corner", [False, True])
def test_round_trip_of_half_float_tables(tmp_path, corner):
    rng = np.random.default_rng(7)
    program = random_program(rng, 3, 8, 5, lut_bits=16, lut_format="fp16", corner=corner)
    assert program.lut.dtype == np.float16
    loaded = Program.load(program.save(tmp_path / "p.npz"))
    assert loaded == program and loaded.lut_format == "fp16"
    assert np.isnan(program.lut).any() == corner


def test_same_content_same_bytes(tmp_path, monkeypatch):
    example(provenance={"a": "1", "b": "2"}).save(tmp_path / "one.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    example(provenance={"b": "2", "a": "1"}).save(tmp_path / "two")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as archive:  # plain NumPy reads it
        assert archive["lut"].dtype == np.int8
        assert str(archive["kind"]) == "halut-program"


def rewritten(path, **changes):
    with np.load(path) as archive:
        content = dict(archive)
    content.update(changes)
    np.savez(path, **{name: value for name, value in content.items() if value is not None})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": np.array("something")}, 'kind must be "halut-program"'),
        ({"kind": None}, 'kind must be "halut-program"'),
        ({"kind": np.zeros(3)}, "kind must be a single value"),
        ({"format_version": np.array(5)}, "format_version must be 1, 2, 3 or 4, not 5"),
        ({"format_version": None}, "format_version must be present"),
        ({"lut": None}, "fields must be complete, but lut is missing"),
        ({"extra": np.zeros(1)}, "fields must be known, but extra is not"),
        ({"lut": np.full((3, 2, 4), np.nan)}, "lut must hold integers that fit int8"),
        ({"lut_scale": np.zeros(3)}, "lut_scale must be greater than 0"),
        ({"provenance": np.array("{")}, "provenance must be JSON"),
        ({"provenance": np.array("[]")}, "provenance must map str to str"),
        ({"n_features": np.zeros(2, int)}, "n_features must be a single value"),
        ({"lut": np.array([object()])}, "program must be undamaged"),
    ],
)
def test_bad_file_content(tmp_path, changes, message):
    path = tmp_path / "p.npz"
    example().save(path)
    rewritten(path, **changes)
    with pytest.raises(HalutError, match=message) as caught:
        Program.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_version_1_is_read(tmp_path):
    path = tmp_path / "p.npz"
    example().save(path)
    rewritten(path, format_version=np.array(1), output_format=None, relu=None,
              lut_format=None)  # fmt: skip
    assert Program.load(path) == example()


def test_foreign_files(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(HalutError, match="program must be readable: No such file"):
        Program.load(path)
    with pytest.raises(HalutError, match="program must be readable: Is a directory"):
        Program.load(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(HalutError, match="file must be a program"):
        Program.load(path)
    np.save(path.open("wb"), np.zeros(3))
    with pytest.raises(HalutError, match="file must be a program"):
        Program.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(HalutError, match="kind must be"):
        Program.load(path)


def test_damaged_files(tmp_path):
    """Cut or corrupt a file anywhere: one clear error, or (in padding) the same program."""
    path = tmp_path / "p.npz"
    program = example()
    program.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for length in rng.integers(0, len(whole), 100):
        path.write_bytes(whole[:length])
        with pytest.raises(HalutError, match=r"p\.npz"):
            Program.load(path)
    for place, change in zip(
        rng.integers(0, len(whole), 400), rng.integers(1, 256, 400), strict=True
    ):
        damaged = bytearray(whole)
        damaged[place] ^= change
        path.write_bytes(damaged)
        try:
            assert Program.load(path) == program
        except HalutError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_unwritable(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("kept")
    with pytest.raises(HalutError, match="output must be writable: "):
        example().save(blocker / "p.npz")
    with pytest.raises(HalutError, match="output must be a file, not a folder"):
        example().save(tmp_path)
    assert blocker.read_text() == "kept"
    example().save("/dev/null")
    with pytest.raises(HalutError, match=r"output must be writable: .*\(/dev/full\)"):
        example().save("/dev/full")


def test_atomic_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
        assert temporary.suffix == ".txt"
        assert not path.exists()

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["x.txt"]
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    with atomic_write(link) as temporary:
        temporary.write_text("second")
    assert link.is_symlink() and path.read_text() == "second"


def test_errors():
    assert issubclass(CheckFailed, HalutError) and issubclass(HalutError, ValueError)
    assert (HalutError.exit_code, CheckFailed.exit_code) == (2, 1)
    assert closest("lut_bit", ["lut_bits", "rows"]) == ' (did you mean "lut_bits"?)'
    assert closest("qqq", ["lut_bits", "rows"]) == ""


def test_no_pickle(tmp_path):
    """A file that hides a pickle is refused without running it."""

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = tmp_path / "p.npz"
    example().save(path)
    rewritten(path, lut=np.array([Bomb()], dtype=object))
    with pytest.raises(HalutError, match="program must be undamaged"):
        Program.load(path)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    assert not (tmp_path / "exploded").exists()
