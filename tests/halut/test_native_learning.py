"""Counts and sums of learning in C: those of NumPy."""

import numpy as np
import pytest

from halut import native, ridge
from halut.native import learning
from halut.trees import Bins, SortedColumns, learn_tree
from tests.halut.variants import VARIANTS


@pytest.fixture(params=VARIANTS)
def forced(request, monkeypatch):
    if request.param not in native.variants():
        pytest.skip(f"{request.param} does not run here: {native.status()[1]}")
    monkeypatch.setenv(native.VARIABLE, request.param)
    return monkeypatch


def _codes(rng, n_codebooks, n_prototypes, n_rows):
    return rng.integers(0, n_prototypes, (n_codebooks, n_rows)).astype(np.uint8)


@pytest.mark.parametrize(("n_prototypes", "n_rows"), [(2, 777), (16, 777), (16, 4099), (256, 777)])
@pytest.mark.parametrize("n_codebooks", [1, 2, 3, 4, 5, 9])
def test_meetings(forced, n_codebooks, n_prototypes, n_rows):
    codes = _codes(np.random.default_rng(1), n_codebooks, n_prototypes, n_rows)
    found = learning.count_meetings(codes, n_prototypes)
    forced.setenv(native.VARIABLE, "off")
    assert learning.count_meetings(codes, n_prototypes) is None
    assert np.array_equal(found, ridge.count_meetings(codes, n_prototypes))
    assert found.sum() == n_rows * n_codebooks**2


@pytest.mark.parametrize("n_prototypes", [2, 64])
@pytest.mark.parametrize(
    ("n_rows", "n_targets"), [(0, 3), (1, 1), (129, 17), (500, 32), (260, 64), (130, 100)]
)
def test_table_sums(forced, n_prototypes, n_rows, n_targets):
    rng = np.random.default_rng(2)
    codes = _codes(rng, 3, n_prototypes, n_rows)
    targets = rng.standard_normal((n_rows, n_targets)).astype(np.float32)
    found = learning.table_sums(codes, targets, n_prototypes)
    want = np.zeros((3, n_prototypes, n_targets))
    for codebook in range(3):
        np.add.at(want[codebook], codes[codebook], targets)
    assert np.allclose(found, want.reshape(-1, n_targets), rtol=1e-6, atol=1e-5)
    forced.setenv(native.VARIABLE, "portable")
    assert np.array_equal(learning.table_sums(codes, targets, n_prototypes), found)
    forced.setenv(native.VARIABLE, "off")
    if n_rows:
        other = ridge.table_sums(codes, targets, n_prototypes)
        assert np.allclose(other, found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [0.0, 3.5])
@pytest.mark.parametrize(("n_rows", "n_targets"), [(1, 1), (40, 3), (900, 2)])
def test_learned_trees(forced, n_rows, n_targets, shrinkage):
    rng = np.random.default_rng(3)
    columns = rng.standard_normal((7, n_rows)).astype(np.float32)
    columns[3] = np.round(columns[3])  # few values: empty nodes, equal rows
    columns[4] = 1.5
    targets = rng.standard_normal((n_targets, n_rows))
    targets -= targets.mean(axis=1, keepdims=True)
    for chosen in (columns, columns[3:5]):
        found = learn_tree(chosen, targets, 6, 4, shrinkage)
        with forced.context() as context:
            context.setenv(native.VARIABLE, "off")
            want = learn_tree(chosen, targets, 6, 4, shrinkage)
        for one, other in zip(found, want, strict=True):
            assert np.array_equal(one, other)


def test_the_columns_that_explain_most_are_split(forced):
    rng = np.random.default_rng(5)
    columns = rng.standard_normal((9, 5000)).astype(np.float32) + 3000
    columns[2], columns[5] = 7, columns[5].round()
    targets = rng.standard_normal((3, 5000)) + 2 * columns[4] - 4 * columns[6]
    targets -= targets.mean(axis=1, keepdims=True)
    for n_candidates in (1, 2):
        found = learn_tree(columns, targets, 5, n_candidates)
        assert set(found[0].tolist()) == {4, 6}
        with forced.context() as context:
            context.setenv(native.VARIABLE, "off")
            want = learn_tree(columns, targets, 5, n_candidates)
        for one, other in zip(found, want, strict=True):
            assert np.array_equal(one, other)


def test_columns_are_sorted_once_into_the_bins_of_numpy(forced):
    del forced
    rng = np.random.default_rng(7)
    columns = rng.standard_normal((6, 3000)).astype(np.float32)
    columns[1] = columns[1].round()
    columns[2, ::2], columns[2, 1::2] = 0.0, -0.0
    columns[3] *= np.float32(1e-42)  # also zeros
    columns[4] = rng.integers(0, 520, 3000)  # more values than bins
    kept = SortedColumns()
    found = learn_tree(columns, columns[:2].astype(np.float64), 3, 6, 0.0, kept)
    native_bins = kept.native
    assert native_bins is not None
    for place, column in enumerate(columns):
        want, n_bins = Bins.of(column), int(native_bins.n_bins[place])
        assert n_bins == len(want.low)
        assert np.array_equal(native_bins.index[place], want.index)
        assert np.array_equal(native_bins.low[place, :n_bins], want.low)
        assert np.array_equal(native_bins.high[place, :n_bins], want.high)
    native_bins.low[:], native_bins.high[:] = 9, 9  # is used again
    again = learn_tree(columns, columns[:2].astype(np.float64), 3, 6, 0.0, kept)
    assert again[0][0] == found[0][0]
    assert set(again[1].tolist()) == {9.0}


def test_column_sums(forced):
    del forced
    rng = np.random.default_rng(6)
    codes = _codes(rng, 1, 16, 333)[0]
    columns, centre = rng.standard_normal((5, 333)).astype(np.float32), np.float32([1, 2, 3, 4, 5])
    found = learning.column_sums(codes, 16, columns, centre)
    want = [np.bincount(codes, column, minlength=16) for column in columns - centre[:, None]]
    assert np.array_equal(found, np.stack(want, axis=1))


@pytest.mark.parametrize("sign", [-1, 1])
def test_entries_are_added_in_place(forced, sign):
    del forced
    rng = np.random.default_rng(4)
    codes = _codes(rng, 1, 16, 61)[0]
    table, rows = (rng.standard_normal((n, 13)).astype(np.float32) for n in (16, 61))
    want = rows + np.float32(sign) * table[codes]
    assert learning.add_entries(codes, table, rows, sign)
    assert np.array_equal(rows, want)


@pytest.mark.parametrize(("n_rows", "n_targets"), [(1, 3), (300, 32), (129, 13)])
def test_entries_are_exchanged_in_place(forced, n_rows, n_targets):
    rng = np.random.default_rng(8)
    tables = rng.standard_normal((2, 16, n_targets)).astype(np.float32)
    codes = _codes(rng, 2, 16, n_rows)
    rows = rng.standard_normal((n_rows, n_targets)).astype(np.float32)
    between = rows - tables[0][codes[0]]
    want = between + tables[1][codes[1]]
    wanted_sums = learning.table_sums(codes[1:], between, 16)
    pairs = list(zip(tables, codes, strict=True))
    sums = learning.exchange_entries(*pairs, rows)
    assert np.array_equal(rows, want)
    assert np.array_equal(sums, wanted_sums)
    forced.setenv(native.VARIABLE, "off")
    assert learning.exchange_entries(*pairs, rows) is None
    assert np.array_equal(rows, want)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 3), (5, 1), (70, 33), (256, 48)])
def test_rows_become_columns(forced, n_rows, n_columns):
    rows = np.random.default_rng(9).standard_normal((n_rows, n_columns)).astype(np.float32)
    for begin, more in ((5, 7), (16, 48)):
        columns = learning.empty_columns(n_columns, n_rows + more)
        assert columns.ctypes.data % 64 == 0
        columns[:] = 0
        assert learning.write_columns(rows, columns, begin)
        padded = ((0, 0), (begin, more - begin))
        assert np.array_equal(columns, np.pad(rows.T, padded))
    forced.setenv(native.VARIABLE, "off")
    assert not learning.write_columns(rows, columns, 0)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 3), (7, 33), (258, 48)])
def test_means_of_columns(forced, n_rows, n_columns):
    rows = np.random.default_rng(10).standard_normal((n_rows, n_columns)).astype(np.float32)
    found = learning.column_means(rows)
    assert np.array_equal(found, rows.mean(axis=0, dtype=np.float64))
    forced.setenv(native.VARIABLE, "off")
    assert learning.column_means(rows) is None


@pytest.mark.parametrize("n", [1, 31, 32, 33, 96, 167])
@pytest.mark.parametrize("n_sides", [1, 5, 40])
def test_systems_are_solved(forced, n, n_sides):
    rng = np.random.default_rng(12)
    half = rng.integers(-3, 4, (n, n)).astype(float)
    matrix, sides = half @ half.T, rng.integers(-9, 10, (n, n_sides)).astype(float)
    found = learning.solve(matrix, 2.5, sides)
    assert (found is None) == (native.status()[0] not in ("avx2", "avx512", "vnni"))
    if found is not None:
        want = np.linalg.solve(matrix + 2.5 * np.eye(n), sides)
        assert np.allclose(found, want, rtol=1e-9, atol=1e-9)
    assert learning.solve(matrix, -1e9, sides) is None  # not positive definite
    forced.setenv(native.VARIABLE, "off")
    assert learning.solve(matrix, 2.5, sides) is None


@pytest.mark.usefixtures("forced")
def test_what_lies_otherwise_in_memory_goes_to_numpy():
    codes = np.zeros((2, 8), dtype=np.uint8)
    targets = np.zeros((8, 4), dtype=np.float32)
    assert learning.count_meetings(codes[:, ::2], 2) is None
    assert learning.table_sums(codes, targets.astype(np.float64), 2) is None
    assert learning.table_sums(codes, np.asfortranarray(targets), 2) is None
    assert not learning.add_entries(codes[0], targets[:2], np.asfortranarray(targets), 1)
