"""All trees together: what refining them does for the product."""

import numpy as np
import pytest

from halut.forest import Forest
from halut.lookup import walk_rows
from halut.ridge import solve


def grown(loss="product", n_rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n_rows, 6)) @ rng.standard_normal((6, 32)) + 5
    A = (A + 0.1 * rng.standard_normal(A.shape)).astype(np.float32)
    B = rng.standard_normal((32, 4)).astype(np.float32)
    chosen = np.arange(0, n_rows, 2)
    forest = Forest(
        A,
        chosen,
        A.mean(axis=0),
        B,
        n_codebooks=8,
        n_prototypes=16,
        loss=loss,
        n_candidates=4,
    )
    forest.start()
    return forest, A, B, chosen


def fitted_error(forest):
    gram = forest.gram()
    entries = solve(gram, 1.0)
    return entries, gram.squared_error(entries) / gram.energy


@pytest.mark.parametrize("loss", ["product", "features"])
def test_codes_belong_to_the_trees(loss):
    forest, A, B, chosen = grown(loss)
    for _ in range(2):
        codes = walk_rows(A[chosen], forest.split_dims, forest.thresholds)
        assert np.array_equal(codes, forest.codes)
        forest.refine(solve(forest.gram(), 1.0), 1.0)
    exact = (A[chosen].astype(float) - A.mean(axis=0)) @ B
    np.testing.assert_allclose(forest.targets, exact, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_refining_halves_the_error(seed):
    forest, *_ = grown(seed=seed)
    entries, before = fitted_error(forest)
    for _ in range(3):
        forest.refine(entries, 1.0)
        entries, after = fitted_error(forest)
    assert after < 0.5 * before


def test_trees_are_restored():
    forest, *_ = grown()
    kept = forest.trees()
    forest.refine(solve(forest.gram(), 1.0), 1.0)
    assert not np.array_equal(forest.thresholds, kept[1])
    forest.restore(kept)
    codes = forest.trees()[2]
    assert np.array_equal(codes, kept[2])


def test_means_are_those_of_the_rows():
    forest, A, B, chosen = grown()
    means = forest.means().reshape(8, 16, 4)
    part = (A[chosen].astype(float) - A.mean(axis=0))[:, forest.groups[3]] @ B[forest.groups[3]]
    for leaf in np.unique(forest.codes[3]):
        expected = part[forest.codes[3] == leaf].mean(axis=0)
        np.testing.assert_allclose(means[3, leaf], expected, atol=1e-3)
    errors = forest.codebook_errors(forest.means())
    centred = part - part.mean(axis=0)
    left = part - means[3, forest.codes[3]]
    assert errors[3] == pytest.approx(np.square(left).sum() / np.square(centred).sum(), rel=1e-3)
