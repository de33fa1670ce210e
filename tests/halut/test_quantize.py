"""Quantising: tables, half floats and integer grids."""

import numpy as np
import pytest

from halut.errors import HalutError
from halut.quantize import half_lut, integer_thresholds, quantize_lut


def tables(seed=0, shape=(5, 6, 16)):
    rng = np.random.default_rng(seed)
    lut = rng.standard_normal(shape) * rng.uniform(0.1, 10, (shape[0], 1, 1))
    lut += 20 * rng.standard_normal(shape[:2])[:, :, None]  # every codebook has its own offset
    offset = rng.standard_normal(shape[0]).astype(np.float32)
    counts = rng.integers(0, 50, shape[1:])
    return lut.astype(np.float32), offset, counts


@pytest.mark.parametrize("granularity", ["column", "table"])
@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_lut_error(granularity, bits):
    """Every entry is off by half a step at most (unless clipped), offsets cost nothing."""
    lut, offset, counts = tables()
    entries, scale, constant = quantize_lut(lut, offset, counts, bits, granularity)
    assert entries.dtype == (np.int8 if bits <= 8 else np.int16)
    assert entries.min() >= -(2 ** (bits - 1)) and entries.max() < 2 ** (bits - 1)
    assert scale.dtype == constant.dtype == np.float32
    assert (scale > 0).all()
    assert (len(np.unique(scale)) == 1) == (granularity == "table")
    # The offset of each codebook went into the constant, so compare sums, leaf by leaf.
    rng = np.random.default_rng(1)
    share = counts / counts.sum(axis=1, keepdims=True)
    codes = np.stack([rng.choice(16, 4000, p=p) for p in share])  # (C, N)
    book = np.arange(6)[:, None]
    exact = lut[:, book, codes].sum(axis=1) + offset[:, None]
    rounded = entries[:, book, codes].astype(int).sum(axis=1) * scale[:, None] + constant[:, None]
    span = lut.max(axis=2) - lut.min(axis=2)
    span = span.max() if granularity == "table" else span.max(axis=1)[:, None]
    step = span / (2**bits - 1)
    rms = np.sqrt(np.square(rounded - exact).mean(axis=1, keepdims=True))
    assert (rms <= 1.2 * step * np.sqrt(6 / 12)).all()


def test_lut_range_is_used_in_full():
    lut, offset, counts = tables()
    entries, _, _ = quantize_lut(lut, offset, counts, 16)
    assert (entries.min(axis=(1, 2)) == -(2**15)).all()
    assert (entries.max(axis=(1, 2)) == 2**15 - 1).all()


def test_rounding_bias_is_folded_into_the_offset():
    lut, offset, counts = tables(seed=3)
    entries, scale, constant = quantize_lut(lut, offset, counts, 3)
    share = counts / counts.sum(axis=1, keepdims=True)
    exact = np.einsum("mck,ck->m", lut, share) + offset
    rounded = np.einsum("mck,ck->m", entries.astype(float), share) * scale + constant
    np.testing.assert_allclose(rounded, exact, rtol=1e-5)


def test_constant_tables():
    lut = np.zeros((2, 3, 4), dtype=np.float32)
    lut[1] = 5.0
    counts = np.ones((3, 4), dtype=int)
    entries, scale, constant = quantize_lut(lut, np.zeros(2, np.float32), counts)
    product = entries[:, :, 0].astype(int).sum(axis=1) * scale + constant
    np.testing.assert_allclose(product, [0, 15], atol=1e-6)


def test_unused_counts_do_no_harm():
    lut, offset, _ = tables()
    entries, scale, constant = quantize_lut(lut, offset, np.zeros((6, 16), dtype=int))
    assert np.isfinite(scale).all() and np.isfinite(constant).all() and entries.any()


def test_clipping_pays_where_bits_are_few():
    rng = np.random.default_rng(0)
    lut = rng.standard_t(2, (4, 8, 256)).astype(np.float32)  # heavy tails
    counts = np.ones((8, 256), dtype=int)
    entries, scale, _ = quantize_lut(lut, np.zeros(4, np.float32), counts, 4)
    span = (lut.max(axis=2) - lut.min(axis=2)).max(axis=1)
    assert (scale < 0.8 * span / 15).any()
    assert entries.min() == -8 and entries.max() == 7


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1,), r"lut_bits must be in \[2, 16\], not 1"),
        ((17,), r"lut_bits must be in \[2, 16\], not 17"),
        ((8.0,), r"lut_bits must be an integer, not 8\.0"),
        ((8, "colum"), r'lut_granularity must be .*, not \'colum\' \(did you mean "column"\?\)'),
    ],
)
def test_lut_refused(arguments, message):
    with pytest.raises(HalutError, match=message):
        quantize_lut(*tables(), *arguments)


@pytest.mark.parametrize("granularity", ["codebook", "dimension", "all"])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_integer_thresholds(granularity, bits):
    """The place of decision is within half a step of the threshold, in a grid of full width."""
    rng = np.random.default_rng(0)
    exact = (rng.standard_normal((6, 15)) + 1000).astype(np.float32)
    words, scale, offset = integer_thresholds(exact, bits, granularity)
    half = 2 ** (bits - 1)
    assert words.dtype == np.int16 and words.min() >= -half and words.max() <= half - 2
    assert scale.shape == offset.shape == (6, 4)
    level = np.repeat(np.arange(4), 2 ** np.arange(4))
    step, origin = scale.astype(float)[:, level], offset.astype(float)[:, level]
    decides = (words + 0.5) * step + origin
    slack = 1e-4  # of float32 at 1000
    assert (np.abs(decides - exact) <= step / 2 + slack).all()
    assert (np.abs(decides - exact)[:, 0] <= step[:, 0] / 2 + slack).all()
    span = exact.max() - exact.min()
    finest = 1010 * 2.0**-23  # what float32 can still tell apart at 1000
    largest_step = max(1.01 * span / (2**bits - 2), finest)
    assert (step[:, 1:] <= largest_step).all()
    assert granularity == "dimension" or (step <= largest_step).all()
    if granularity == "all":
        assert len(np.unique(scale)) == len(np.unique(offset)) == 1
        if bits < 16:
            assert words.min() == -half and words.max() == half - 2
    if granularity == "codebook":
        assert (scale == scale[:, :1]).all() and len(np.unique(scale)) == 6


def test_one_threshold_decides_at_its_own_place():
    for value in (0.0, 3.7, -1e5, 1e-20):
        exact = np.full((1, 3), value, dtype=np.float32)
        words, scale, offset = integer_thresholds(exact, 8, "codebook")
        decides = (words.astype(float) + 0.5) * scale[0, 0] + offset[0, 0]
        np.testing.assert_allclose(decides, value, rtol=1e-5, atol=1e-30)


def test_input_granularity_refused():
    with pytest.raises(HalutError, match="input_granularity must be"):
        integer_thresholds(np.zeros((1, 1), np.float32), 8, "tables")


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e9])
def test_half_float_tables(size):
    rng = np.random.default_rng(4)
    lut = (size * rng.standard_normal((3, 5, 16))).astype(np.float32)
    offset = (size * rng.standard_normal(3)).astype(np.float32)
    counts = rng.integers(1, 50, (5, 16))
    entries, scale, constant = half_lut(lut, offset, counts)
    assert entries.dtype == np.float16 and np.isfinite(entries).all()
    assert np.array_equal(np.log2(scale), np.rint(np.log2(scale)))
    codes = rng.integers(0, 16, (200, 5))
    exact = lut[:, np.arange(5), codes].astype(np.float64).sum(axis=2) + offset[:, None]
    found = entries[:, np.arange(5), codes].astype(np.float64).sum(axis=2) * scale[:, None]
    error = found + constant[:, None] - exact
    assert np.abs(error).max() < 5 * 2.0**-11 * np.abs(lut).max() * 2
    share = counts / counts.sum(axis=1, keepdims=True)
    middle = (lut.min(axis=2) + lut.max(axis=2)).astype(np.float64) / 2
    rounding = entries * scale[:, None, None] + middle[:, :, None] - lut
    bias = (rounding * share).sum(axis=(1, 2)) + constant - offset - middle.sum(axis=1)
    np.testing.assert_allclose(bias, 0, atol=1e-6 * size)
