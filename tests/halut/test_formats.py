"""Floating input formats, against values worked out by hand and against brute force."""

import numpy as np
import pytest

from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, input_format_bits

NAMES = sorted(FLOAT_FORMATS)


def every_word(name):
    floating = FLOAT_FORMATS[name]
    return np.arange(1 << floating.bits).astype(floating.dtype)


@pytest.mark.parametrize(
    "name, word, value",
    [
        ("fp8_e4m3", 0x00, 0.0),
        ("fp8_e4m3", 0x80, -0.0),
        ("fp8_e4m3", 0x01, 2.0**-9),
        ("fp8_e4m3", 0x07, 7 * 2.0**-9),
        ("fp8_e4m3", 0x08, 2.0**-6),
        ("fp8_e4m3", 0x38, 1.0),
        ("fp8_e4m3", 0xB9, -1.125),
        ("fp8_e4m3", 0x78, 256.0),
        ("fp8_e4m3", 0x7E, 448.0),
        ("fp8_e4m3", 0xFE, -448.0),
        ("fp8_e4m3", 0x7F, np.nan),
        ("fp8_e4m3", 0xFF, np.nan),
        ("fp8_e5m2", 0x01, 2.0**-16),
        ("fp8_e5m2", 0x04, 2.0**-14),
        ("fp8_e5m2", 0x3C, 1.0),
        ("fp8_e5m2", 0x7B, 57344.0),
        ("fp8_e5m2", 0x7C, np.inf),
        ("fp8_e5m2", 0xFC, -np.inf),
        ("fp8_e5m2", 0x7D, np.nan),
        ("bf16", 0x3F80, 1.0),
        ("bf16", 0x4049, 3.140625),
        ("bf16", 0x0001, 2.0**-133),
        ("bf16", 0x7F7F, (2 - 2.0**-7) * 2.0**127),
        ("bf16", 0xFF80, -np.inf),
        ("bf16", 0x7FC0, np.nan),
        ("fp16", 0x0001, 2.0**-24),
        ("fp16", 0x7BFF, 65504.0),
    ],
)
def test_values_by_hand(name, word, value):
    floating = FLOAT_FORMATS[name]
    found = floating.values(np.array(word))
    assert found.dtype == np.float32
    assert np.array_equal(found, np.float32(value), equal_nan=True)
    assert np.isnan(value) or np.signbit(found) == np.signbit(value)
    assert np.isnan(value) or floating.words(value) == word


def test_values_are_those_of_numpy():
    half = every_word("fp16")
    assert np.array_equal(
        FLOAT_FORMATS["fp16"].values(half), half.view(np.float16).astype(np.float32), equal_nan=True
    )
    brain = every_word("bf16")  # the upper half of a float32
    single = (brain.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(FLOAT_FORMATS["bf16"].values(brain), single, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_words_come_back(name):
    floating = FLOAT_FORMATS[name]
    words = every_word(name)
    values = floating.values(words)
    known = ~np.isnan(values)
    assert np.array_equal(floating.words(values[known]), words[known])
    assert np.isnan(floating.values(floating.words([np.nan, -np.nan]))).all()


def nearest_word(floating, words, exact):
    """The word whose value is nearest, the even one of two, by looking at all."""
    values = floating.values(words).astype(np.float64)
    finite = np.isfinite(values)
    words, values = words[finite], values[finite]
    distance = np.abs(values[:, None] - exact)
    near = distance == distance.min(axis=0)
    even = words & 1 == 0
    sign = np.signbit(values)[:, None] == np.signbit(exact)
    best = np.argmax(near * (1 + even[:, None] + 2.0 * sign), axis=0)
    return words[best]


@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_to_the_nearest_even(name):
    floating = FLOAT_FORMATS[name]
    words = every_word(name)
    rng = np.random.default_rng(1)
    finite = floating.values(words)
    finite = np.unique(finite[np.isfinite(finite)].astype(np.float64))
    middle = rng.choice((finite[1:] + finite[:-1]) / 2, 100)
    exact = np.concatenate([middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf),
                            rng.choice(finite, 100) * rng.uniform(0.9, 1.1, 100)])  # fmt: skip
    exact = np.clip(exact, -floating.largest_finite, floating.largest_finite)
    assert np.array_equal(floating.words(exact), nearest_word(floating, words, exact))


def test_beyond_the_range():
    """Halfway to the next power of two rounds up, to infinity where there is one."""
    e4m3, e5m2 = FLOAT_FORMATS["fp8_e4m3"], FLOAT_FORMATS["fp8_e5m2"]
    assert e4m3.words([464, 479, 480, 1e9, np.inf]).tolist() == [0x7E] * 5
    assert e4m3.words([-465, -np.inf]).tolist() == [0xFE] * 2
    assert e5m2.words([61439, 61440, np.inf, -1e9]).tolist() == [0x7B, 0x7C, 0x7C, 0xFC]
    largest = FLOAT_FORMATS["bf16"].largest_finite
    assert FLOAT_FORMATS["bf16"].words([largest * (1 + 2.0**-9), 3.4e39]).tolist() == [
        0x7F7F, 0x7F80
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_keys_compare_as_values_do(name):
    floating = FLOAT_FORMATS[name]
    words = every_word(name)
    keys, values = floating.keys(words), floating.values(words)
    nan = np.isnan(values)
    assert keys.dtype == np.int32
    assert (keys[nan] == -(1 << (floating.bits - 1))).all() and nan.any()
    assert keys[~nan].min() > -(1 << (floating.bits - 1))
    order = np.argsort(values[~nan], kind="stable")
    steps = np.diff(keys[~nan][order])
    assert (steps >= 0).all()
    # Infinities are not a difference of values, so compare instead of subtracting.
    ordered = values[~nan][order]
    assert np.array_equal(ordered[1:] > ordered[:-1], steps > 0)


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_decide_nearest(name):
    """No word decides closer to the threshold than the one that was chosen."""
    floating = FLOAT_FORMATS[name]
    rng = np.random.default_rng(0)
    edge = min(floating.largest_finite, 1e30)
    exact = np.concatenate([rng.standard_normal(200) * 10.0**e for e in range(-8, 5)])
    exact = np.concatenate([exact, [0.0, 1.0, -1.0, edge, -edge, 2.0**-24]])
    exact = exact[np.abs(exact) <= edge]
    chosen = floating.thresholds(exact)
    assert chosen.dtype == floating.dtype
    values = floating.values(every_word(name)).astype(np.float64)
    finite = np.unique(values[np.isfinite(values)])
    places = (finite[:-1] + finite[1:]) / 2  # where "greater than the lower one" begins
    nearest = np.abs(places - exact[:, None]).min(axis=1) if len(places) < 1e4 else None
    if nearest is None:
        index = np.searchsorted(places, exact).clip(1, len(places) - 1)
        nearest = np.minimum(np.abs(places[index] - exact), np.abs(places[index - 1] - exact))
    found = floating.values(chosen).astype(np.float64)
    assert not np.isnan(found).any()
    lower = np.searchsorted(finite, found)
    inside = np.isfinite(found) & (lower < len(places)) & (np.abs(exact) < 0.9 * edge)
    distance = np.abs(places[lower[inside]] - exact[inside])
    np.testing.assert_allclose(distance, nearest[inside], rtol=1e-9, atol=0)
    assert inside.sum() > 1500


@pytest.mark.parametrize(
    "name, above, below",
    [("fp16", 65504.0, -np.inf), ("fp8_e4m3", 448.0, -448.0), ("fp8_e5m2", 57344.0, -np.inf)],
)
def test_thresholds_beyond_the_range(name, above, below):
    """Only infinity is greater; all but minus infinity. E4M3 has its ends instead."""
    floating = FLOAT_FORMATS[name]
    assert floating.values(floating.thresholds([1e9, -1e9])).tolist() == [above, below]


@pytest.mark.parametrize("bits", range(2, 17))
def test_integer_bits(bits):
    assert input_format_bits(f"int{bits}") == bits


def test_float_bits():
    bits = {name: input_format_bits(name) for name in FLOAT_FORMATS}
    assert bits == {"fp16": 16, "bf16": 16, "fp8_e4m3": 8, "fp8_e5m2": 8}


@pytest.mark.parametrize(
    "bad", ["int1", "int17", "int", "int-8", "int8 ", "fp32", "fp8", "", None, 8]
)
def test_refused(bad):
    with pytest.raises(HalutError, match='input_format must be "fp16", "bf16", "fp8_e4m3", '
                       '"fp8_e5m2" or "int2" to "int16", not'):  # fmt: skip
        input_format_bits(bad)
