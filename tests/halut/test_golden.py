"""The bit-exact model, against vectors worked out by hand and against plain Python."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from halut import golden
from halut.accumulation import Accumulation
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.program import Program
from halut.tiles import add_partial, select, tile

DEPTHS = [1, 2, 4, 8]


def how(*fields):
    """`Accumulation` of its fields in their order."""
    names = [field.name for field in dataclasses.fields(Accumulation)]
    return Accumulation(**dict(zip(names, fields, strict=False)))


def test_hand_computed_int8():
    """Two codebooks of four prototypes, on paper.

    Codebook 0: root 10, then 0 (left) or 20 (right); codebook 1: root -1, then -5 or 5.
    """
    program = Program(
        n_features=4,
        input_format="int8",
        split_dims=[[0, 1], [2, 3]],
        thresholds=[[10, 0, 20], [-1, -5, 5]],
        lut=[[[1, 2, 3, 4], [10, 20, 30, 40]], [[-128, -1, 0, 127], [-128, -2, 1, 127]]],
        lut_scale=[0.5, 2.0],
        lut_offset=[0.25, -1.0],
    )
    words = np.array(
        [
            [[10, 0], [-1, -5]],  # all equal: left, left
            [[11, 20], [0, 5]],  # right, left
            [[11, 21], [0, 6]],  # right, right
            [[10, 1], [-128, 127]],  # left, right
        ],
        dtype=np.int16,
    )
    codes = golden.encode(program, words)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0, 0], [2, 2], [3, 3], [1, 1]]
    sums = golden.matmul(program, words)
    assert sums.dtype == np.int32
    assert sums.tolist() == [[11, -256], [33, 1], [44, 254], [22, -3]]
    product = golden.dequantize(program, sums)
    assert product.dtype == np.float32
    assert product.tolist() == [[5.75, -513.0], [16.75, 1.0], [22.25, 507.0], [11.25, -7.0]]


def test_hand_computed_fp16():
    infinity, nan = np.inf, np.nan
    program = Program(
        n_features=1,
        input_format="fp16",
        split_dims=[[0]] * 5,
        thresholds=[[0.0], [-0.0], [infinity], [-infinity], [2.0**-24]],
        lut=np.zeros((1, 5, 2)),
        lut_scale=[1.0],
        lut_offset=[0.0],
    )
    values = [-infinity, -1.0, -(2.0**-24), -0.0, 0.0, 2.0**-24, 2.0**-23, infinity, nan, -nan]
    codes = golden.encode(program, program.input_words(np.array(values)[:, None]))
    assert codes.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
        [1, 1, 0, 1, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_all_half_floats_compare_as_their_values_do():
    words = np.arange(2**16, dtype=np.uint16)
    keys = golden.comparison_keys(words, "fp16")
    assert keys.dtype == np.int32
    values = words.view(np.float16).astype(np.float64)
    nan = np.isnan(values)
    assert (keys[nan] == -(2**15)).all()
    assert keys[~nan].min() > -(2**15)
    order = np.argsort(values[~nan], kind="stable")
    assert np.array_equal(np.diff(values[~nan][order]) > 0, np.diff(keys[~nan][order]) > 0)
    assert (np.diff(keys[~nan][order]) >= 0).all()


def test_integer_keys_are_the_words():
    words = np.arange(-8, 8, dtype=np.int16)
    assert np.array_equal(golden.comparison_keys(words, "int4"), words)


def reference(program, words):
    """The same in plain Python floats and integers, one value at a time."""
    codes = np.zeros(words.shape[:2], dtype=int)
    sums = np.zeros((len(words), program.n_outputs), dtype=object)
    floating = FLOAT_FORMATS.get(program.input_format)
    values = floating.values(words) if floating else words
    for row, codebook in itertools.product(*map(range, codes.shape)):
        node = 0
        for level in range(program.tree_depth):
            greater = float(values[row, codebook, level]) > float(
                program.threshold_values[codebook, node]
            )
            node = 2 * node + (2 if greater else 1)
        codes[row, codebook] = node - (program.n_prototypes - 1)
        for output in range(program.n_outputs):
            sums[row, output] += int(program.lut[output, codebook, codes[row, codebook]])
    return codes, sums


@pytest.mark.parametrize("input_format", [*FLOAT_FORMATS, "int2", "int8", "int16"])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("corner", [False, True])
def test_against_plain_python(input_format, depth, corner):
    rng = np.random.default_rng([depth, corner, len(input_format)])
    program = golden.random_program(rng, 3, 2**depth, 2, input_format, corner=corner)
    words = golden.random_words(rng, program, 60, corner=corner)
    codes, sums = reference(program, words)
    assert np.array_equal(golden.encode(program, words), codes)
    assert np.array_equal(golden.accumulate(program, codes), sums)
    assert np.array_equal(golden.matmul(program, words), sums)


def test_a_changed_table_bit_changes_the_result():
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 4, 16, 2)
    words = golden.random_words(rng, program, 200)
    lut = program.lut.copy()
    code = golden.encode(program, words)[0, 0]
    lut[1, 0, code] ^= 1
    changed = Program(**{**vars(program), "lut": lut})
    differs = golden.matmul(changed, words) != golden.matmul(program, words)
    assert differs[0].tolist() == [False, True]


@pytest.mark.parametrize("lut_bits", [2, 4, 8, 16])
@pytest.mark.parametrize("codebooks", [1, 5, 16])
def test_extreme_sums_fit_the_stated_width(lut_bits, codebooks):
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, codebooks, 4, 3, "int8", lut_bits, corner=True)
    sums = golden.matmul(program, golden.random_words(rng, program, 4, corner=True))
    half = 2 ** (program.accumulator_bits - 1)
    assert (sums[:, 0] == -codebooks * 2 ** (lut_bits - 1)).all()
    assert (sums[:, 2] == codebooks * (2 ** (lut_bits - 1) - 1)).all()
    assert sums.min() >= -half and sums.max() < half
    assert math.log2(-sums.min()) > program.accumulator_bits - 2  # and one bit less would not do


def test_accumulator_width():
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, 16, 16, 3)
    codes = golden.encode(program, golden.random_words(rng, program, 10))
    derived = golden.accumulate(program, codes)
    assert np.array_equal(golden.accumulate(program, codes, acc_bits=12), derived)
    assert np.array_equal(golden.accumulate(program, codes, acc_bits=24), derived)
    wide = golden.accumulate(program, codes, acc_bits=33)
    assert wide.dtype == np.int64 and np.array_equal(wide, derived)
    with pytest.raises(HalutError, match=r"acc_bits must be in \[12, 64\], not 11"):
        golden.accumulate(program, codes, acc_bits=11)
    with pytest.raises(HalutError, match=r"acc_bits must be an integer, not 12\.0"):
        golden.accumulate(program, codes, acc_bits=12.0)


def test_narrow_accumulators_by_hand():
    """Four codebooks of entries 5, 6, -7, -8 and, in the second output, their opposites."""
    entries = np.array([[5, 6, -7, -8], [-5, -6, 7, 7]])
    program = Program(
        n_features=1, input_format="int8", split_dims=[[0]] * 4, thresholds=[[0]] * 4,
        lut=np.repeat(entries[:, :, None], 2, axis=2), lut_scale=[1, 1], lut_offset=[0, 0],
        lut_bits=4,
    )  # fmt: skip
    codes = np.zeros((1, 4), dtype=int)

    def sums(*arguments):
        return golden.accumulate(program, codes, how(*arguments))[0].tolist()

    assert sums() == [-4, 3]
    assert sums(4, "wrap") == [-4, 3] == sums(4, "wrap", 2)
    assert sums(4, "saturate") == [-8, 6]  # 5, 7, 0, -8; -5, -8, -1, 6
    assert sums(4, "saturate", 2) == [-8, 6]  # 11 -> 7, 7 - 15 -> -8; -11 -> -8, -8 + 14
    assert sums(5, "saturate") == [-4, 3]
    assert sums(4, "saturate", 4) == [-4, 3] == sums(4, "saturate", 9)
    assert sums(4, "saturate", 3) == [-4, 3]  # 4, 4 - 8; the last step lacks two codebooks
    positive = dataclasses.replace(program, lut=program.lut.clip(1, 7))
    for parallel in (1, 2, 3, 4, 9):
        found = golden.accumulate(positive, codes, how(4, "saturate", parallel))
        assert found[0].tolist() == [7, 7]
    for arguments, message in (
        ((4, None), r"acc_bits must be in \[6, 64\], not 4"),
        ((3, "wrap"), r"acc_bits must be in \[4, 5\], not 3"),
        ((6, "saturate"), r"acc_bits must be in \[4, 5\], not 6"),
        ((4, "round"), "overflow must be one of saturate, wrap, not 'round'"),
        ((6, None, 0), "parallel_codebooks must be at least 1, not 0"),
        ((6, None, 4, 3), "codebook_tiles must divide parallel_codebooks = 4, not be 3"),
        ((4, "wrap", 4, 2), "overflow must be absent with codebook_tiles, not wrap"),
        ((4, "wrap", 2, 1, 2), "overflow must be absent with codebooks_per_load, not wrap"),
        ((6, None, 2, 1, 3), "must be a multiple of parallel_codebooks = 2, not 3"),
    ):
        with pytest.raises(HalutError, match=message):
            golden.accumulate(program, codes, how(*arguments))


def half_program(columns):
    entries = np.array(columns, dtype=np.float16)
    n_codebooks = entries.shape[1]
    return Program(
        n_features=1, input_format="int8", split_dims=[[0]] * n_codebooks,
        thresholds=[[0]] * n_codebooks, lut=np.repeat(entries[:, :, None], 2, axis=2),
        lut_scale=np.ones(len(entries)), lut_offset=np.zeros(len(entries)), lut_bits=16,
        lut_format="fp16",
    )  # fmt: skip


def test_half_float_tables_by_hand():
    """The order of additions decides: 2**-24 is lost beside 2 and above, not beside another."""
    tiny = 2.0**-24
    program = half_program([[1, tiny, tiny, tiny], [2048, -2048, tiny, -0.0], [-0.0] * 4])
    codes = np.zeros((1, 4), dtype=int)
    one_by_one = golden.accumulate(program, codes)
    assert one_by_one.dtype == np.float32
    assert one_by_one[0].tolist() == [1.0, tiny, 0.0]
    assert np.signbit(one_by_one[0]).tolist() == [False, False, True]
    # (1 + tiny) + (tiny + tiny): 1, and then 2 * tiny, the last place of a number from 1 on.
    in_pairs = golden.accumulate(program, codes, parallel_codebooks=4)
    assert in_pairs[0].tolist() == [1.0 + 2 * tiny, tiny, 0.0]
    assert program.accumulator_bits == 32
    assert golden.dequantize(program, in_pairs)[0].tolist() == in_pairs[0].tolist()
    infinity = half_program([[np.inf, -np.inf], [np.nan, 1], [65504, np.inf]])
    sums = golden.accumulate(infinity, codes[:, :2])
    assert sums.view(np.uint32)[0].tolist() == [0x7FC00000, 0x7FC00000, 0x7F800000]


@pytest.mark.parametrize("parallel", [1, 2, 3, 6])
def test_half_float_tables_against_plain_python(parallel):
    """Additions one by one in double precision, rounded to single after each: the same."""
    rng = np.random.default_rng(parallel)
    program = golden.random_program(rng, 6, 4, 3, lut_bits=16, lut_format="fp16")
    codes = golden.encode(program, golden.random_words(rng, program, 50))
    found = golden.accumulate(program, codes, parallel_codebooks=parallel)

    def add(a, b):
        return float(np.float32(a + b))  # a sum of two singles is rounded rightly by way of double

    for row, output in itertools.product(range(50), range(3)):
        entries = [float(program.lut[output, c, codes[row, c]]) for c in range(6)]
        total = None
        for first in range(0, 6, parallel):
            step = entries[first : first + parallel]
            while len(step) > 1:
                step = [
                    add(*step[k : k + 2]) if k + 1 < len(step) else step[k]
                    for k in range(0, len(step), 2)
                ]
            total = step[0] if total is None else add(total, step[0])
        assert total == found[row, output]
    if parallel > 1:
        assert (found != golden.accumulate(program, codes)).any()  # the order does matter


@pytest.mark.parametrize("codebooks", [1, 3, 5, 8, 13])
@pytest.mark.parametrize(("parallel", "tiles", "load"), [
    (4, 1, None), (4, 2, None), (6, 2, None), (3, 3, None), (4, 1, 8), (6, 2, 6), (2, 2, 4),
])  # fmt: skip
def test_missing_codebooks_of_half_floats_are_nothing(codebooks, parallel, tiles, load):
    """As if all steps, and loads, were filled up with tables of -0."""
    rng = np.random.default_rng(codebooks)
    program = golden.random_program(
        rng, codebooks, 4, 3, lut_bits=16, lut_format="fp16", corner=True
    )
    codes = golden.encode(program, golden.random_words(rng, program, 200, corner=True))
    found = golden.accumulate(program, codes, how(None, None, parallel, tiles, load))
    size = load or -(-codebooks // parallel) * parallel
    total = None
    for first in range(0, codebooks, size):
        chosen = np.arange(first, min(first + size, codebooks))
        missing = size - len(chosen)
        part = tile(select(program, chosen, slice(None)), size, 3).tiles[0]
        part_codes = np.pad(codes[:, chosen], ((0, 0), (0, missing)))
        sums = golden.accumulate(part, part_codes, how(None, None, parallel, tiles))
        if total is None:
            total = sums
        else:
            add_partial(total, sums, is_first=False)
    assert found.tobytes() == total.tobytes()


def test_no_rows():
    program = golden.random_program(np.random.default_rng(1), 4, 16, 3)
    words = program.input_words(np.zeros((0, program.n_features)))
    assert golden.matmul(program, words).shape == (0, 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: golden.encode(p, np.zeros((2, 4, 3), np.uint16)), r"words must have shape"),
        (lambda p: golden.encode(p, np.zeros((2, 4, 4), np.int16)), "words must be uint16 for"),
        (lambda p: golden.encode(p, np.zeros((2, 4, 4))), "words must be uint16 for"),
        (lambda p: golden.accumulate(p, np.zeros((2, 3), int)), r"codes must have shape \(any, 4"),
        (lambda p: golden.accumulate(p, np.zeros((2, 4))), "codes must be integers"),
        (lambda p: golden.accumulate(p, np.full((2, 4), 16)), r"codes must be in \[0, 16\)"),
        (lambda p: golden.accumulate(p, np.full((2, 4), -1)), r"codes must be in \[0, 16\)"),
        (lambda p: golden.dequantize(p, np.zeros((2, 4), int)), "accumulators must have shape"),
        (lambda p: golden.dequantize(p, np.zeros((2, 3))), "accumulators must be integers"),
    ],
)
def test_refused(call, message):
    program = golden.random_program(np.random.default_rng(1), 4, 16, 3)
    with pytest.raises(HalutError, match=message):
        call(program)


def test_integer_words_out_of_range_are_refused():
    program = golden.random_program(np.random.default_rng(1), 1, 2, 1, "int4")
    with pytest.raises(HalutError, match=r"words must be in \[-8, 7\], not 8 to 8"):
        golden.encode(program, np.full((1, 1, 1), 8, dtype=np.int16))


@pytest.mark.parametrize("bad", [0, 1, 3, 12, 512])
def test_random_program_refuses(bad):
    with pytest.raises(HalutError, match=r"n_prototypes must be a power of two in \[2, 256\]"):
        golden.random_program(np.random.default_rng(1), 1, bad, 1)
    with pytest.raises(HalutError, match="n_outputs must be at least 1, not 0"):
        golden.random_program(np.random.default_rng(1), 1, 2, 0)


def test_random_is_seeded():
    def draw(seed):
        rng = np.random.default_rng(seed)
        program = golden.random_program(rng, 4, 16, 3, corner=True)
        return program, golden.random_words(rng, program, 10, corner=True)

    (first, first_words), (again, again_words), (other, _) = draw(1), draw(1), draw(2)
    assert first == again and np.array_equal(first_words, again_words)
    assert first != other


@pytest.mark.parametrize("input_format", FLOAT_FORMATS)
def test_corner_words_hit_what_they_are_for(input_format):
    rng = np.random.default_rng(1)
    floating = FLOAT_FORMATS[input_format]
    program = golden.random_program(rng, 4, 16, 3, input_format, corner=True)
    values = floating.values(golden.random_words(rng, program, 500, corner=True))
    assert np.isnan(values).any() and np.isinf(values).any() == floating.has_infinity
    assert (np.abs(values) == floating.largest_finite).any()
    assert (np.signbit(values) & (values == 0)).any()
    smallest_normal = floating.values(np.array(1 << floating.mantissa_bits))
    assert ((values != 0) & (np.abs(values) < smallest_normal)).any()
    root = program.threshold_values[:, 0]
    assert (values[:, :, 0] == root).any(axis=0).all()
