"""Trees: every split against a search through all thresholds."""

import itertools

import numpy as np
import pytest

from halut.trees import _BINS, Bins, fill_empty_leaves, learn_tree, walk


def squared_error(targets, codes):
    """The summed squared error around the means of the groups, the slow and plain way."""
    return sum(
        float(np.square(group - group.mean(axis=1, keepdims=True)).sum())
        for code in np.unique(codes)
        for group in [targets[:, codes == code]]
    )


def best_level(columns, targets, codes):
    """Try every threshold of every column in every node."""
    best = None
    for column in columns:
        total = 0.0
        for code in np.unique(codes):
            rows = codes == code
            values, some = column[rows], targets[:, rows]
            total += min(squared_error(some, values > threshold) for threshold in np.unique(values))
        best = total if best is None else min(best, total)
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounded", [False, True])
def test_levels_are_optimal(seed, rounded):
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((3, 60)).astype(np.float32)
    if rounded:
        columns = np.round(columns * 2) / 2  # many equal values
    targets = rng.standard_normal((2, 60)) + columns[:2] ** 2
    targets -= targets.mean(axis=1, keepdims=True)
    _, _, codes = learn_tree(columns, targets, 3, n_candidates=3)
    for level in range(3):
        above, here = codes >> (3 - level), codes >> (2 - level)
        assert squared_error(targets, here) == pytest.approx(best_level(columns, targets, above))


def test_a_step_is_found_between_its_sides():
    columns = np.array([[5.0, 1.0, 2.0, 6.0], [0.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    targets = np.array([[1.0, -1.0, -1.0, 1.0]])
    split_dims, thresholds, codes = learn_tree(columns, targets, 1)
    assert split_dims.tolist() == [0]
    assert thresholds.tolist() == [3.5]
    assert codes.tolist() == [1, 0, 0, 1]


def test_neighbouring_floats_are_told_apart():
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    columns = np.array([[low, high]])
    _, thresholds, codes = learn_tree(columns, np.array([[-1.0, 1.0]]), 1)
    assert codes.tolist() == [0, 1]
    assert low <= thresholds[0] < high


@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 300])
def test_shapes_and_codes(depth, n_rows):
    rng = np.random.default_rng(depth)
    columns = rng.standard_normal((4, n_rows)).astype(np.float32)
    columns[1] = 7.0  # constant
    columns[3] = columns[2]  # duplicate
    targets = rng.standard_normal((2, n_rows))
    targets -= targets.mean(axis=1, keepdims=True)
    split_dims, thresholds, codes = learn_tree(columns, targets, depth, n_candidates=2)
    assert split_dims.shape == (depth,) and split_dims.dtype == np.int32
    assert thresholds.shape == (2**depth - 1,) and np.isfinite(thresholds).all()
    # Unused nodes, too, stay in the column's range: a stray value would stretch integer grids.
    for level, column in enumerate(split_dims):
        nodes = thresholds[2**level - 1 : 2 ** (level + 1) - 1]
        assert nodes.min() >= columns[column].min() and nodes.max() <= columns[column].max()
    out = np.zeros((1, n_rows), dtype=np.uint8)
    walk(columns[split_dims][None], thresholds[None], out)
    assert np.array_equal(out[0], codes)


def test_constant_columns_send_all_rows_left():
    columns = np.full((3, 20), 4.0, dtype=np.float32)
    _, thresholds, codes = learn_tree(columns, np.zeros((1, 20)), 4)
    assert not codes.any()
    assert (thresholds == 4.0).all()


def test_constant_targets_do_no_harm():
    columns = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    _, thresholds, codes = learn_tree(columns, np.zeros((2, 20)), 4)
    assert not codes.any() and np.isfinite(thresholds).all()


def test_ranking_finds_the_column_that_matters():
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((40, 9000)).astype(np.float32)
    columns *= np.linspace(10, 1, 40, dtype=np.float32)[:, None]  # the useful one varies least
    targets = np.sign(columns[39:]).astype(np.float64)
    split_dims, thresholds, _ = learn_tree(columns, targets, 1, n_candidates=1)
    assert split_dims.tolist() == [39]
    assert abs(thresholds[0]) < 0.02


def test_shrinkage_prefers_large_leaves():
    values = np.arange(100, dtype=np.float32)[None]
    targets = np.where(values < 1, 8.0, 0.0) + np.where(values >= 50, 1.0, 0.0)
    targets = (targets - targets.mean()).astype(np.float64)
    assert learn_tree(values, targets, 1)[1].tolist() == [0.5]  # one row, far off
    assert learn_tree(values, targets, 1, shrinkage=20.0)[1].tolist() == [49.5]


def test_bins_keep_equal_values_together():
    rng = np.random.default_rng(1)
    for column in (
        rng.standard_normal(5000),
        rng.integers(0, 7, 5000),
        np.concatenate([np.zeros(4000), rng.standard_normal(1000)]),
    ):
        values = column.astype(np.float32)
        bins = Bins.of(values)
        assert 1 <= len(bins.low) <= _BINS
        assert (bins.low <= bins.high).all() and (bins.high[:-1] < bins.low[1:]).all()
        assert (bins.low[bins.index] <= values).all() and (values <= bins.high[bins.index]).all()
    assert len(Bins.of(rng.integers(0, 7, 5000).astype(np.float32)).low) == 7


def test_walk_against_plain_python():
    rng = np.random.default_rng(2)
    values = np.round(rng.standard_normal((3, 4, 50)), 1).astype(np.float32)
    thresholds = np.round(rng.standard_normal((3, 15)), 1).astype(np.float32)
    values[0, 0, 0], values[1, 2, 1] = np.nan, np.inf
    out = np.zeros((3, 50), dtype=np.uint8)
    walk(values, thresholds, out)
    for codebook, row in itertools.product(range(3), range(50)):
        code = 0
        for level in range(4):
            threshold = thresholds[codebook, 2**level - 1 + code]
            code = 2 * code + int(values[codebook, level, row] > threshold)
        assert out[codebook, row] == code


def test_empty_leaves_take_after_their_relatives():
    entries = np.array([[[1.0], [0.0], [0.0], [0.0], [6.0], [0.0], [9.0], [0.0]]])
    counts = np.array([[1, 0, 0, 0, 2, 0, 1, 0]])
    filled = fill_empty_leaves(entries, counts)
    assert filled[0, :, 0].tolist() == [1, 1, 1, 1, 6, 6, 9, 9]
    assert entries[0, 1, 0] == 0  # a copy
    counts = np.array([[0, 0, 0, 0, 2, 0, 1, 0]])
    assert fill_empty_leaves(entries, counts)[0, 0, 0] == pytest.approx((2 * 6 + 9) / 3)
