"""The output stage, against values worked out by hand and against exact fractions."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.output import OutputStage, byte_grid
from halut.program import Program


def half(scale, offset, sums, relu=False):
    stage = OutputStage(format="fp16", relu=relu, scale=[scale], offset=[offset])
    found = stage.apply(np.array([[value] for value in sums]))
    assert found.dtype == np.float16
    return found[:, 0].tolist()


def test_half_floats_by_hand():
    assert half(0.5, 1.0, [-4, 0, 3]) == [-1.0, 1.0, 2.5]
    assert half(0.5, 1.0, [-4, 0, 3], relu=True) == [0.0, 1.0, 2.5]
    # 2048 + 1 lies halfway between two half floats, and the even one is below; a bit more is not.
    assert half(1.0, 0.0, [2049, 2051]) == [2048.0, 2052.0]
    assert half(1.0, 2.0**-20, [2049]) == [2050.0]
    assert half(1.0, -(2.0**-20), [2051]) == [2050.0]
    # Rounded once: in float32, 2049 + 2**-20 is 2049, and then 2048.
    assert half(32.0, 0.0, [2047, 2048]) == [65504.0, np.inf]
    assert half(1.0, 0.0, [65519, 65520, -65520]) == [65504.0, np.inf, -np.inf]
    assert half(2.0**-25, 0.0, [1, 2, 3]) == [0.0, 2.0**-24, 2.0**-23]  # ties among subnormals
    assert half(1.0, -7.0, [7]) == [0.0]


def test_signs_of_zero():
    found = np.array(half(1e-30, 0.0, [-1, 0, 1]))
    assert np.signbit(found).tolist() == [True, False, False]
    assert np.signbit(half(1.0, -0.0, [0])).tolist() == [False]
    assert np.signbit(half(1e-30, 0.0, [-1], relu=True)).tolist() == [False]


def test_half_floats_are_rounded_once():
    """Exact fractions between all half floats, ties included."""
    rng = np.random.default_rng(1)
    floating = FLOAT_FORMATS["fp16"]
    n = 3000
    sums = rng.integers(-(2**25), 2**25, n)
    scale = (2.0 ** rng.integers(-40, -12, n) * rng.uniform(1, 2, n)).astype(np.float32)
    tie = floating.values(rng.integers(0, 0x7BFF, n)).astype(np.float64)
    tie += 2.0 ** (np.floor(np.log2(np.maximum(tie, 2.0**-14))) - 11)
    offset = np.where(rng.random(n) < 0.7, tie - sums * scale.astype(np.float64), tie)
    offset = offset.astype(np.float32)
    found = OutputStage(format="fp16", scale=scale, offset=offset).apply(sums[None])[0]
    finite = [Fraction(float(value)) for value in floating.values(np.arange(0x7C00))]
    finite.append(Fraction(65536))
    for value, s, o, result in zip(sums, scale, offset, found, strict=True):
        exact = int(value) * Fraction(float(s)) + Fraction(float(o))
        size = abs(exact)
        low, high = 0, len(finite) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if finite[middle] <= size else (low, middle)
        below, above = size - finite[low], finite[high] - size
        word = low if below < above or (below == above and low % 2 == 0) else high
        assert int(np.abs(result).view(np.uint16)) == word
        assert exact == 0 or bool(np.signbit(result)) == (exact < 0)


def test_bytes_by_hand():
    stage = OutputStage(
        format="int8", multiplier=[3, 3, 1], shift=[1, 1, 0], addend=[1, -20, 0], zero=[0, 5, 5]
    )
    sums = np.array([[1, 1, 300], [-1, -1, -300], [2, 100, 6]])
    # (3 + 1) >> 1; (3 - 20) >> 1 rounds down; saturation.
    assert stage.apply(sums).tolist() == [[2, -9, 127], [-1, -12, -128], [3, 127, 6]]
    rectified = dataclasses.replace(stage, relu=True).apply(sums)
    assert rectified.tolist() == [[2, 5, 127], [0, 5, 5], [3, 127, 6]]
    assert rectified.dtype == np.int8


def test_raw():
    sums = np.array([[-5, 0, 7]], dtype=np.int32)
    assert OutputStage().apply(sums).tolist() == [[-5, 0, 7]]
    assert OutputStage(relu=True).apply(sums).tolist() == [[0, 0, 7]]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("offset", [0.0, -13.3, 1e4])
def test_requantising_is_the_grid(relu, offset):
    """The integers give the words that the product itself would give, but at close ties."""
    rng = np.random.default_rng(2)
    program = golden.random_program(rng, 12, 16, 5, "int8", 8)
    lut_offset = program.lut_offset + np.float32(offset)
    program = dataclasses.replace(program, lut_offset=lut_offset)
    words = golden.random_words(rng, program, 2000)
    sums = golden.matmul(program, words)
    product = sums * program.lut_scale.astype(np.float64) + program.lut_offset
    scale, origin = byte_grid(product, relu)
    converting = program.with_output("int8", scale=scale, offset=origin, relu=relu)
    found = golden.results(converting, words)
    wanted = np.clip(np.rint((product - origin) / scale), -128, 127)
    if relu:
        wanted = np.maximum(wanted, np.clip(np.rint(-origin / scale), -128, 127))
    assert (found == wanted).mean() > 0.995
    assert np.abs(found - wanted).max() <= 1
    assert len(np.unique(wanted)) > (3 if relu and offset > 0 else 100)


def test_default_constants_are_the_programs():
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 4, 16, 3, "int8")
    words = golden.random_words(rng, program, 50)
    halves = golden.results(program.with_output("fp16"), words)
    product = golden.dequantize(program, golden.matmul(program, words))
    np.testing.assert_allclose(halves.astype(np.float64), product, rtol=2.0**-10)
    one = program.with_output("fp16", scale=2.0, offset=[0.0, 1.0, 2.0])
    assert golden.results(one, words)[0].tolist() == [
        2.0 * value + k for k, value in enumerate(golden.matmul(program, words)[0])
    ]


@pytest.mark.parametrize("output_format", ["raw", "fp16", "int8"])
@pytest.mark.parametrize("relu", [False, True])
def test_program_file(tmp_path, output_format, relu):
    rng = np.random.default_rng(4)
    program = golden.random_program(
        rng, 3, 4, 5, "int8", corner=True, output_format=output_format, relu=relu
    )
    assert (program.output_format, program.relu) == (output_format, relu)
    loaded = Program.load(program.save(tmp_path / "p.npz"))
    assert loaded == program
    assert (loaded.output_format, loaded.relu) == (output_format, relu)
    plain = dataclasses.replace(program, output=OutputStage())
    assert (plain == program) == (output_format == "raw" and not relu)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"format": "int9"}, r"output_format must be one of raw, fp16, int8, not 'int9'"),
        ({"relu": 1}, "relu must be true or false, not 1"),
        ({"format": "fp16", "scale": [1]}, r"offset must have shape \(1\)"),
        ({"format": "fp16", "scale": [1], "offset": [1, 2]}, r"offset must have shape \(1\)"),
        ({"format": "fp16", "scale": [-1], "offset": [1]}, "scale must be at least 0, not -1"),
        ({"format": "fp16", "scale": [1], "offset": [np.inf]}, "offset must be finite"),
        ({"scale": [1]}, 'scale must be absent for output_format "raw"'),
        (
            {"format": "int8", "multiplier": [2**16], "shift": [0], "addend": [0], "zero": [0]},
            r"multiplier must be in \[0, 65535\], not 65536",
        ),
        (
            {"format": "int8", "multiplier": [1], "shift": [48], "addend": [0], "zero": [0]},
            r"shift must be in \[0, 47\], not 48",
        ),
        (
            {"format": "int8", "multiplier": [1], "shift": [1], "addend": [2**47], "zero": [0]},
            r"addend must be in",
        ),
    ],
)
def test_refused(fields, message):
    with pytest.raises(HalutError, match=message):
        OutputStage(**fields)


def test_programs_refuse():
    program = golden.random_program(np.random.default_rng(1), 4, 16, 3)
    stage = OutputStage(format="fp16", scale=[1.0], offset=[1.0])
    with pytest.raises(HalutError, match=r"scale must have shape \(3,\), not \(1,\)"):
        dataclasses.replace(program, output=stage)
    with pytest.raises(HalutError, match="output must be an OutputStage, not str"):
        dataclasses.replace(program, output="fp16")
    with pytest.raises(HalutError, match='scale and offset must be given for output_format "int8"'):
        program.with_output("int8", scale=1.0)
    with pytest.raises(HalutError, match="scale must be greater than 0"):
        program.with_output("int8", scale=0.0, offset=0.0)
    with pytest.raises(HalutError, match=r"scale must be at most 2\*\*16 times smaller"):
        program.with_output("int8", scale=1e-9, offset=0.0)
    with pytest.raises(HalutError, match="scale and offset must be absent"):
        program.with_output("raw", scale=1.0)
    with pytest.raises(HalutError, match="output_format must be one of"):
        program.with_output("int4")
    with pytest.raises(HalutError, match=r'must be in .* for output_format "fp16"'):
        stage.apply(np.array([[2**29]]))


def test_single_floats_to_half_by_hand():
    """Sums of half floats are rounded as they are: ties to even, subnormals, overflow, NaN."""
    cases = {
        2049.0: 2048.0, 2051.0: 2052.0, 65519.99: 65504.0, 65520.0: np.inf, -65520.0: -np.inf,
        2.0**-25: 0.0, 3 * 2.0**-25: 2.0**-23, 2.0**-25 * (1 + 2.0**-20): 2.0**-24, -1e-30: -0.0,
    }  # fmt: skip
    sums = np.array([list(cases)], dtype=np.float32)
    found = OutputStage(format="fp16").apply(sums)
    wanted = np.array([list(cases.values())], dtype=np.float16)
    assert found.view(np.uint16).tolist() == wanted.view(np.uint16).tolist()
    rectified = OutputStage(format="fp16", relu=True).apply(np.append(sums, np.nan)[None])
    wanted = np.append(np.where(np.signbit(wanted), 0, wanted), np.float16(np.nan))
    assert np.array_equal(rectified[0].view(np.uint16), wanted.astype(np.float16).view(np.uint16))
    with pytest.raises(HalutError, match="accumulators must be float32 without scale and offset"):
        OutputStage(format="fp16").apply(np.array([[1]]))
    program = golden.random_program(
        np.random.default_rng(5), 4, 16, 3, "int8", 16, lut_format="fp16", corner=True
    )
    words = golden.random_words(np.random.default_rng(6), program, 200)
    converting = program.with_output("fp16", relu=True)
    with np.errstate(over="ignore"):
        wanted = golden.matmul(program, words).astype(np.float16)
    wanted = np.where(np.signbit(wanted), np.float16(0), wanted)
    found = golden.results(converting, words)
    assert np.array_equal(found.view(np.uint16), wanted.view(np.uint16))
    with pytest.raises(HalutError, match="scale and offset must be absent for output_format fp16"):
        program.with_output("fp16", scale=1.0)


def test_half_float_tables_with_half_float_results_in_a_file(tmp_path):
    program = golden.random_program(
        np.random.default_rng(5), 4, 4, 3, "int8", 16, lut_format="fp16", output_format="fp16"
    )
    assert program.output.constants == {}
    assert Program.load(program.save(tmp_path / "p.npz")) == program
