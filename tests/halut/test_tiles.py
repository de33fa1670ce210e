"""Tiles of a program: the sums of their accumulators are the whole's, bit by bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.program import Program
from halut.tiles import tile, widen


def _parts(tiling, words_of):
    return [golden.matmul(part, words_of(part)) for part in tiling.tiles]


@pytest.mark.parametrize(
    ("codebooks", "outputs", "size"),
    [
        (8, 6, (4, 3)),  # divides
        (7, 5, (4, 3)),  # neither divides
        (9, 2, (4, 8)),  # fewer outputs than one tile
        (3, 9, (16, 4)),  # fewer codebooks than one tile
        (4, 3, (4, 3)),  # exactly one tile
        (5, 4, (1, 1)),
    ],
)
@pytest.mark.parametrize("input_format", ["fp16", "int8", "int5"])
def test_join_equals_the_whole(codebooks, outputs, size, input_format):
    rng = np.random.default_rng([codebooks, outputs])
    whole = golden.random_program(
        rng, codebooks, 8, outputs, input_format, 6, n_features=11, corner=True
    )
    if input_format != "fp16":
        scale = rng.uniform(0.1, 2, (codebooks, 3))
        whole = dataclasses.replace(whole, input_scale=scale, input_offset=scale - 1)
    A = rng.uniform(-20, 20, (33, 11))
    tiling = tile(whole, *size)
    assert len(tiling.tiles) == tiling.grid[0] * tiling.grid[1]
    for part in tiling.tiles:
        assert (part.n_codebooks, part.n_outputs) == size
        assert (part.n_prototypes, part.n_features) == (8, 11)
        assert (part.input_format, part.lut_bits) == (input_format, 6)
    expected = golden.matmul(whole, whole.input_words(A))
    joined = tiling.join(_parts(tiling, lambda part: part.input_words(A)))
    assert joined.dtype == expected.dtype
    assert np.array_equal(joined, expected)
    # An entry of the last codebook and output matters: the tiles hold all of the program.
    lut = whole.lut.copy()
    lut[-1, -1] = np.where(lut[-1, -1] > 0, lut[-1, -1] - 1, lut[-1, -1] + 1)
    other = tile(dataclasses.replace(whole, lut=lut), *size)
    changed = other.join(_parts(other, lambda part: part.input_words(A)))
    assert (changed[:, -1] != expected[:, -1]).all()
    assert np.array_equal(changed[:, :-1], expected[:, :-1])


def test_by_hand():
    """Three codebooks of two leaves, two outputs, in tiles of two by one."""
    whole = Program(
        n_features=3, input_format="int8", split_dims=[[0], [1], [2]],
        thresholds=[[0], [0], [0]],
        lut=[[[1, 2], [10, 20], [100, 127]], [[-1, -2], [-10, -20], [-100, -128]]],
        lut_scale=[1, 2], lut_offset=[3, 4],
    )  # fmt: skip
    tiling = tile(whole, 2, 1)
    assert tiling.grid == (2, 2)
    assert [part.lut.tolist() for part in tiling.tiles] == [
        [[[1, 2], [10, 20]]],
        [[[-1, -2], [-10, -20]]],
        [[[100, 127], [0, 0]]],
        [[[-100, -128], [0, 0]]],
    ]
    A = [[-1, 1, 1], [1, -1, -1]]
    parts = _parts(tiling, lambda part: part.input_words(A))
    assert [part.ravel().tolist() for part in parts] == [
        [21, 12], [-21, -12], [127, 100], [-128, -100],
    ]  # fmt: skip
    assert tiling.join(parts).tolist() == [[148, -149], [112, -112]]
    products = [golden.dequantize(t, p) for t, p in zip(tiling.tiles, parts, strict=True)]
    assert (products[0] + products[2]).ravel().tolist() == [151, 115]


def test_the_whole_may_need_wider_accumulators_than_a_tile():
    """Every sum at its extreme: beyond 16 bits for the whole, within them for each tile."""
    lut = np.full((2, 512, 2), -128)
    lut[1] = 127
    whole = Program(
        n_features=1, input_format="int8", split_dims=np.zeros((512, 1)),
        thresholds=np.zeros((512, 1)), lut=lut, lut_scale=[1, 1], lut_offset=[0, 0],
    )  # fmt: skip
    tiling = tile(whole, 100, 2)
    assert whole.accumulator_bits == 17 and tiling.tiles[0].accumulator_bits == 15
    parts = _parts(tiling, lambda part: part.input_words([[0]]))
    narrow = [part.astype(np.int16) for part in parts]
    assert tiling.join(narrow).tolist() == [[-128 * 512, 127 * 512]]


def test_nan_counts_only_where_a_tree_looks():
    """A NaN in a column without a tree is no error for the whole, so it is none for a tile."""
    whole = golden.random_program(np.random.default_rng(1), 3, 4, 2, "int8", n_features=8)
    free = next(k for k in range(8) if k not in whole.split_dims)
    A = np.ones((4, 8))
    A[:, free] = np.nan
    expected = golden.matmul(whole, whole.input_words(A))
    tiling = tile(whole, 2, 2)
    assert np.array_equal(tiling.join(_parts(tiling, lambda t: t.input_words(A))), expected)


def test_errors():
    whole = golden.random_program(np.random.default_rng(1), 3, 4, 2)
    for size in (0, -1, 2.0, True, "4"):
        with pytest.raises(HalutError, match="n_codebooks of a tile must be an integer of at"):
            tile(whole, size, 2)
        with pytest.raises(HalutError, match="n_outputs of a tile must be"):
            tile(whole, 2, size)
    tiling = tile(whole, 2, 2)
    good = np.zeros((5, 2), dtype=np.int32)
    assert tiling.join([good, good]).shape == (5, 2)
    with pytest.raises(HalutError, match="must be those of 2 tiles, not 1"):
        tiling.join([good])
    for wrong in (good[:4], good[:, :1], good.astype(np.float32), np.int32(1)):
        with pytest.raises(HalutError, match="results of a tile must be integers of shape"):
            tiling.join([good, wrong])


@pytest.mark.parametrize(
    ("program", "wide"),
    [
        ((4, "int8", 8), {"n_prototypes": 4, "input_format": "int8", "lut_bits": 8}),
        ((4, "int8", 8), {"n_prototypes": 32}),
        ((16, "int5", 8), {"input_format": "int8"}),
        ((16, "int2", 3), {"input_format": "int16", "lut_bits": 16}),
        ((2, "int7", 2), {"n_prototypes": 256, "input_format": "int8", "lut_bits": 8}),
        ((8, "fp16", 6), {"n_prototypes": 16, "lut_bits": 8}),
    ],
)
def test_widening_changes_no_accumulator(program, wide):
    n_prototypes, input_format, lut_bits = program
    rng = np.random.default_rng(n_prototypes)
    narrow = golden.random_program(
        rng, 5, n_prototypes, 3, input_format, lut_bits, n_features=9, corner=True
    )
    if input_format != "fp16":
        scale = rng.uniform(0.1, 2, (5, narrow.tree_depth))
        narrow = dataclasses.replace(narrow, input_scale=scale)
    wider = widen(narrow, **wide)
    for name, value in wide.items():
        assert getattr(wider, name) == value
    # Beyond the narrow format's ends and, by the thresholds themselves, at them.
    limit = 2.0**narrow.input_bits if input_format != "fp16" else 2.0
    A = rng.uniform(-limit, limit, (3000, 9))
    A[:500] = np.rint(A[:500])
    A[500:600] *= 1e5
    A[600:620] = np.inf
    if input_format == "fp16":
        A[620:700] = np.nan
    sums = [golden.matmul(part, part.input_words(A)) for part in (narrow, wider)]
    assert np.array_equal(*sums)
    codes = golden.encode(narrow, narrow.input_words(A))
    assert sum(len(np.unique(column)) for column in codes.T) > narrow.n_codebooks


def test_widening_refuses():
    narrow = golden.random_program(np.random.default_rng(1), 3, 8, 2, "int8", 6)
    assert widen(narrow) is narrow
    with pytest.raises(HalutError, match=r"program.n_prototypes must be at most .* 4, not 8"):
        widen(narrow, n_prototypes=4)
    with pytest.raises(HalutError, match="n_prototypes must be a power of two, not 12"):
        widen(narrow, n_prototypes=12)
    with pytest.raises(HalutError, match=r"program.lut_bits must be at most .* 4, not 6"):
        widen(narrow, lut_bits=4)
    with pytest.raises(HalutError, match="accelerator's int7 or a narrower integer, not int8"):
        widen(narrow, input_format="int7")
    with pytest.raises(HalutError, match="must be the accelerator's fp16, not int8"):
        widen(narrow, input_format="fp16")
    half = golden.random_program(np.random.default_rng(1), 3, 8, 2, "fp16")
    with pytest.raises(HalutError, match="accelerator's int16 or a narrower integer, not fp16"):
        widen(half, input_format="int16")


def test_converted_results_are_tiled_along_the_outputs_only():
    rng = np.random.default_rng(4)
    for kind in ({"output_format": "int8", "relu": True}, {"output_format": "fp16"},
                 {"output_format": "fp16", "lut_format": "fp16", "lut_bits": 16}):  # fmt: skip
        whole = golden.random_program(rng, 4, 4, 5, "int8", corner=True, **kind)
        A = rng.uniform(-130, 130, (30, whole.n_features))
        tiling = tile(whole, 6, 2)
        assert tiling.grid == (1, 3)
        assert all(part.output_format == whole.output_format for part in tiling.tiles)
        expected = golden.results(whole, whole.input_words(A))
        found = tiling.join([golden.results(t, t.input_words(A)) for t in tiling.tiles])
        assert found.dtype == expected.dtype
        assert np.array_equal(found.view(f"i{found.itemsize}"), expected.view(f"i{found.itemsize}"))
        with pytest.raises(HalutError, match=r"n_codebooks of a tile must be at least .* 4 for"):
            tile(whole, 3, 2)
    with pytest.raises(HalutError, match="for output_format raw with relu, not 2"):
        tile(golden.random_program(rng, 4, 4, 5, relu=True), 2, 5)


def test_half_float_tiles_by_hand():
    """Three codebooks in tiles of one: (big + small) - big is nothing in single precision."""
    big, small = 2048.0, 2.0**-14
    whole = Program(
        n_features=1, input_format="int8", split_dims=np.zeros((3, 1)),
        thresholds=np.zeros((3, 1)), lut=np.array([[[big, 0], [small, 0], [-big, np.inf]]]),
        lut_scale=[1], lut_offset=[0], lut_bits=16, lut_format="fp16",
    )  # fmt: skip
    tiling = tile(whole, 1, 1)
    parts = _parts(tiling, lambda part: part.input_words([[-1], [1]]))
    assert tiling.join(parts).tolist() == [[0.0], [np.inf]]
    assert tiling.join(parts).dtype == np.float32
    parts[0][1] = -np.inf
    assert tiling.join(parts).view(np.uint32)[1, 0] == 0x7FC00000
    with pytest.raises(HalutError, match=r"results of a tile must be float32 of shape \(2, 1\)"):
        tiling.join([part.astype(np.float64) for part in parts])


@pytest.mark.parametrize("formats", [
    {"lut_format": "fp16", "lut_bits": 16},
    {"lut_format": "fp16", "lut_bits": 16, "relu": True},
    {"relu": True},
    {"output_format": "fp16"},
    {"output_format": "int8", "relu": True},
])  # fmt: skip
def test_results_that_do_not_add_up_are_cut_along_the_outputs(formats):
    """Codebooks that fill up an accelerator of Q lanes change no bit, zeros' signs included."""
    for seed, codebooks in enumerate((1, 3, 5, 8)):
        rng = np.random.default_rng(seed)
        program = golden.random_program(rng, codebooks, 4, 5, corner=True, **formats)
        words = golden.random_words(rng, program, 400, corner=True)
        wanted = golden.results(program, words, parallel_codebooks=codebooks)
        tiling = tile(program, 8, 2)
        assert tiling.grid == (1, 3)
        padded = np.concatenate([words, np.repeat(words[:, -1:], 8 - codebooks, axis=1)], axis=1)
        parts = [golden.results(part, padded, parallel_codebooks=8) for part in tiling.tiles]
        joined = tiling.join(parts)
        assert joined.dtype == wanted.dtype
        assert joined.tobytes() == wanted.tobytes()
    if formats != {"lut_format": "fp16", "lut_bits": 16}:
        match = "n_codebooks of a tile must be at least the program's 8"
        with pytest.raises(HalutError, match=match):
            tile(program, 4, 2)
    with pytest.raises(HalutError, match=r"results of a tile must be .* of shape"):
        tiling.join([np.zeros(part.shape, np.uint8) for part in parts])


@pytest.mark.parametrize("input_format", FLOAT_FORMATS)
def test_wider_trees_of_floats(input_format):
    rng = np.random.default_rng(3)
    program = golden.random_program(rng, 3, 4, 2, input_format, 16, lut_format="fp16", corner=True)
    wide = widen(program, n_prototypes=16)
    assert (wide.n_prototypes, wide.input_format, wide.lut_format) == (16, input_format, "fp16")
    words = golden.random_words(rng, wide, 300, corner=True)
    narrow = golden.encode(program, words[:, :, :2])
    assert np.array_equal(golden.encode(wide, words), 4 * narrow)
    assert np.array_equal(wide.lut[:, :, ::4].view(np.uint16), program.lut.view(np.uint16))
    with pytest.raises(HalutError, match="input_format must be the accelerator's int8"):
        widen(program, input_format="int8")
