"""Ridge regression on codes, against the dense one-hot matrix."""

import numpy as np
import pytest

from halut import native
from halut.ridge import STRENGTHS, Fit, Gram, HeldOut, best_strength, entries_of, solve


def example(n_rows, n_codebooks, n_prototypes, n_targets=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_prototypes, (n_codebooks, n_rows)).astype(np.uint8)
    targets = rng.standard_normal((n_rows, n_targets)).astype(np.float32)
    onehot = np.zeros((n_rows, n_codebooks * n_prototypes))
    for codebook, row in enumerate(codes):
        onehot[np.arange(n_rows), codebook * n_prototypes + row] = 1
    return codes, targets, onehot


@pytest.mark.parametrize("n_rows", [1, 7, 500])
@pytest.mark.parametrize("n_codebooks, n_prototypes", [(1, 2), (5, 16), (3, 64)])
def test_gram_is_that_of_the_onehot_matrix(n_rows, n_codebooks, n_prototypes):
    codes, targets, onehot = example(n_rows, n_codebooks, n_prototypes)
    gram = Gram.of(codes, targets, n_prototypes)
    assert np.array_equal(gram.meetings, onehot.T @ onehot)
    np.testing.assert_allclose(gram.sums, onehot.T @ targets, atol=1e-4)
    assert gram.energy == pytest.approx(float(np.square(targets).sum()), rel=1e-5)


def test_gram_in_several_chunks(monkeypatch):
    codes, targets, onehot = example(1000, 3, 4)
    monkeypatch.setattr("halut.ridge._CHUNK", 64)
    gram = Gram.of(codes, targets, 4)
    assert np.array_equal(gram.meetings, onehot.T @ onehot)


@pytest.mark.parametrize("variant", ["off", *native.variants()])
@pytest.mark.parametrize("size", [1, 31, 64, 100])
def test_solution_by_every_variant(size, variant, monkeypatch):
    monkeypatch.setenv("HALUT_NATIVE", variant)
    rng = np.random.default_rng(6)
    root = rng.standard_normal((size, size + 3))
    gram = Gram(meetings=root @ root.T, sums=rng.standard_normal((size, 7)), energy=1.0)
    found = solve(gram, 0.5)
    left = (gram.meetings + 0.5 * np.eye(size)) @ found - gram.sums
    assert np.abs(left).max() < 1e-12 * size * np.abs(gram.meetings).max()
    # What is not positive definite is left to LAPACK.
    least = np.linalg.eigvalsh(gram.meetings)[0]
    odd = Gram(meetings=gram.meetings - (least + 1) * np.eye(size), sums=gram.sums, energy=1.0)
    left = (odd.meetings + 0.5 * np.eye(size)) @ solve(odd, 0.5) - odd.sums
    assert np.abs(left).max() < 1e-8


@pytest.mark.parametrize("around", [False, True])
def test_solution(around):
    codes, targets, onehot = example(300, 4, 8)
    centre = np.random.default_rng(1).standard_normal((32, 3)) if around else np.zeros((32, 3))
    entries = solve(Gram.of(codes, targets, 8), 2.5, centre if around else None)
    # Rows that pull the entries towards the centre do the same to plain least squares.
    padded = np.concatenate([onehot, np.sqrt(2.5) * np.eye(32)])
    wanted = np.concatenate([targets, np.sqrt(2.5) * centre])
    expected = np.linalg.lstsq(padded, wanted, rcond=None)[0]
    np.testing.assert_allclose(entries, expected, atol=1e-5)


def test_squared_error(monkeypatch):
    codes, targets, onehot = example(300, 4, 8)
    entries = np.random.default_rng(1).standard_normal((32, 3))
    wanted = float(np.square(targets - onehot @ entries).sum())
    error = Gram.of(codes, targets, 8).squared_error(entries)
    assert error == pytest.approx(wanted, rel=1e-5)
    for variant in ("", "off"):
        monkeypatch.setenv("HALUT_NATIVE", variant)
        judge = HeldOut(codes=codes, targets=targets, n_prototypes=8)
        assert judge.squared_error(entries) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("start", [0.01, 10.0, 1e5])
def test_strength_is_the_best_of_all(noise, start):
    rng = np.random.default_rng(5)
    codes, _, onehot = example(600, 4, 8)
    truth = rng.standard_normal((32, 3))
    targets = (onehot @ truth + noise * rng.standard_normal((600, 3))).astype(np.float32)
    train = Gram.of(codes[:, :400], targets[:400], 8)
    held_out = Gram.of(codes[:, 400:], targets[400:], 8)
    means = truth + 0.1 * rng.standard_normal(truth.shape)
    fit = best_strength(train, held_out, means, start)
    tried = {
        (strength, centred): held_out.squared_error(
            solve(train, strength, means if centred else None)
        )
        for strength in STRENGTHS
        for centred in (False, True)
    }
    assert fit.error == pytest.approx(min(tried.values()), rel=1e-9)
    assert tried[fit.strength, fit.around_means] == pytest.approx(fit.error, rel=1e-9)
    assert fit.around_means  # they are close to the truth
    assert (fit.strength <= 1) == (noise < 1)
    alone = best_strength(train, held_out, None, start)
    assert not alone.around_means
    assert alone.error == pytest.approx(min(tried[s, False] for s in STRENGTHS), rel=1e-9)
    entries = entries_of(fit, train, means)
    assert held_out.squared_error(entries) == pytest.approx(fit.error, rel=1e-9)


def test_a_given_strength_is_kept():
    codes, targets, _ = example(300, 4, 8)
    gram = Gram.of(codes, targets, 8)
    fit = best_strength(gram, gram, None, 0.3, (0.3,))
    assert (fit.strength, fit.around_means) == (0.3, False)
    assert isinstance(fit, Fit)
