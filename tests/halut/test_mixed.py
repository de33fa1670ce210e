"""Tables that are not all alike: widths, exponents and depths, each by hand and by its budget."""

import numpy as np
import pytest

from halut import HalutMatmul
from halut.commands.bench import _tables_report
from halut.mixed import (
    entry_bits,
    measure,
    mixed_depths,
    mixed_widths,
    shared_exponents,
    shortened,
)
from halut.ridge import Gram, solve
from tests.halut.test_problem_set import absent, small


def learned(n_rows=600):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n_rows, 12)) * np.repeat([1, 0.2, 0.05, 0.02], 3)
    return HalutMatmul(C=4, K=8).learn_offline(A, rng.standard_normal((12, 5))), A


def test_entry_bits_by_hand():
    lut = np.array([[[0, 1], [5, 5], [-4, 4]], [[0, 0], [2, 0], [0, 15]]])
    assert entry_bits(lut).tolist() == [1, 2, 4]


@pytest.mark.parametrize("mean_bits", [2, 3, 4.5, 8])
def test_widths_keep_the_budget(mean_bits):
    multiplier, A = learned()
    counts = multiplier.stats_.code_counts
    tables = mixed_widths(multiplier.lut_, multiplier.offset_, counts, mean_bits)
    assert tables.widths.mean() <= mean_bits and len(set(tables.widths)) > 1
    for codebook, width in enumerate(tables.widths):
        for output in tables.lut[:, codebook]:
            assert len(np.unique(output)) <= 2**width
    codes = multiplier.encode(A)
    mean = (tables.product(codes) - multiplier.decode(codes)).mean(axis=0)
    assert np.abs(mean).max() < 1e-4  # rounding is made up for on average


def test_exponents_make_small_entries_finer():
    lut = np.zeros((1, 3, 2), np.float32)
    lut[0, :, 1] = 15, 4, 0.25  # shifts 0, 1 (15 / 4 >= 2), and 3 at most
    tables = shared_exponents(lut, np.zeros(1, np.float32), np.ones((3, 2), int), 4)
    steps = np.array([1, 0.5, 0.125])
    positions = tables.lut[0] / steps[:, None] - 0.5
    assert np.allclose(positions, np.rint(positions)) and tables.widths.tolist() == [4, 4, 4]
    multiplier, A = learned()
    given = multiplier.lut_, multiplier.offset_, multiplier.stats_.code_counts
    codes, exact = multiplier.encode(A), multiplier.matmul_online(A)
    errors = [
        np.square(tables.product(codes) - exact).sum()
        for tables in (shared_exponents(*given, 3), mixed_widths(*given, 3))
    ]
    assert errors[0] < errors[1]


def test_shortened_grams_are_those_of_shorter_codes():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 8, (3, 400)).astype(np.uint8)
    targets = rng.standard_normal((400, 2)).astype(np.float32)
    whole = Gram.of(codes, targets, 8)
    for depth in (3, 2, 1):
        part = shortened(whole, 3, np.full(3, depth))
        wanted = Gram.of(codes >> (3 - depth), targets, 2**depth)
        assert np.array_equal(part.meetings, wanted.meetings)
        assert np.allclose(part.sums, wanted.sums, atol=1e-4) and part.energy == wanted.energy
    mixed = shortened(whole, 3, np.array([3, 1, 2]))
    assert len(mixed.meetings) == 8 + 2 + 4
    assert mixed.meetings.sum() == whole.meetings.sum()
    assert mixed.squared_error(solve(mixed, 1)) >= whole.squared_error(solve(whole, 1))


def test_entries_go_where_they_are_needed():
    """Only the first codebook's finest decisions matter."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 32, (4, 2000)).astype(np.uint8)
    targets = (codes[0].astype(np.float32) - 15.5)[:, None]
    train, held_out = (Gram.of(codes[:, rows], targets[rows], 32)
                       for rows in (slice(1500), slice(1500, None)))  # fmt: skip
    depths = mixed_depths(train, held_out, 5, 4 * 16, 1.0)
    assert depths[0] == 5 and (2**depths).sum() <= 64


def test_measured_and_reported():
    rows = measure(((absent, (2,)), (small, (2,))))
    assert len(rows) == 1 and sum(rows[0]["levels"].values()) == 2
    for way in ("uniform", "mixed", "exponents"):
        errors = list(rows[0][way].values())
        assert errors == sorted(errors, reverse=True) and errors[-1] > rows[0]["float"]
    conditions = {"machine": "m", "threads": 1, "python": "p", "numpy": "n", "blas": "b",
                  "kernels": "k", "vectors": []}  # fmt: skip
    lines = _tables_report({"rows": rows, "conditions": conditions})
    assert lines[-1].startswith("| small | 2 | ") and lines[-1].count("|") == lines[-3].count("|")
