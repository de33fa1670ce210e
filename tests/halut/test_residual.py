"""Trees that choose among all columns, and levels that compare sums of columns."""

import numpy as np
import pytest

from halut import HalutMatmul
from halut.errors import HalutError
from halut.lookup import gather
from halut.problems import relative_error
from halut.sums import greedy_sum, products, second_moments, sum_of

pytestmark = pytest.mark.usefixtures("judged_by_one_share_of_the_rows")


def mixtures(n_rows=1500, n_sources=4, n_features=24, n_outputs=6, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_sources, n_features))
    A = rng.standard_normal((n_rows, n_sources)) @ mixing
    return A + 0.1 * rng.standard_normal(A.shape), rng.standard_normal((n_features, n_outputs))


@pytest.mark.parametrize("encoder", ["tree", "sums"])
@pytest.mark.parametrize("seed", range(3))
def test_refitting_never_raises_the_held_out_error(encoder, seed):
    A, B = mixtures(seed=seed)
    least = HalutMatmul(C=4).learn_offline(A, B).stats_.held_out_error
    for effort in (1, 2):
        learned = HalutMatmul(C=4, encoder=encoder, effort=effort).learn_offline(A, B)
        assert learned.stats_.held_out_error <= least
        least = learned.stats_.held_out_error


def test_noise_keeps_the_trees_that_it_had():
    """Where nothing is gained, the result is bit by bit that without effort."""
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((60, 8)), rng.standard_normal((8, 2))
    plain = HalutMatmul(C=8, K=2).learn_offline(A, B)
    found = HalutMatmul(C=8, K=2, effort=1).learn_offline(A, B)
    if found.stats_.refine_passes == plain.stats_.refine_passes:
        assert np.array_equal(found.lut_, plain.lut_)
        assert np.array_equal(found.split_dims_, plain.split_dims_)
    else:
        assert found.stats_.held_out_error < plain.stats_.held_out_error


def test_learning_is_deterministic():
    A, B = mixtures()
    settings = {"encoder": "sums", "terms": 3, "effort": 1}
    first, second = (HalutMatmul(C=4, **settings).learn_offline(A, B) for _ in range(2))
    for name in ("split_dims_", "signs_", "thresholds_", "lut_"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_trees_look_at_columns_of_other_codebooks():
    """All of the product is in the first two of eight columns."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2000, 8)), np.zeros((8, 2))
    B[:2] = np.eye(2)
    plain = HalutMatmul(C=4).learn_offline(A[:1500], B)
    found = HalutMatmul(C=4, effort=1).learn_offline(A[:1500], B)
    exact = A[1500:] @ B
    errors = [relative_error(some.matmul_online(A[1500:]), exact) for some in (plain, found)]
    assert errors[1] < 0.2 * errors[0]
    assert set(found.split_dims_.ravel()) == {0, 1}


def test_sums_find_a_difference():
    """One output, x3 - x5, and one codebook: sixteen levels of exactly that difference."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2000, 6)), np.zeros((6, 1))
    B[3], B[5] = 1, -1
    learned = HalutMatmul(C=1, encoder="sums").learn_offline(A[:1500], B)
    assert (learned.split_dims_ == [[[3, 5]] * 4]).all() or (
        learned.split_dims_ == [[[5, 3]] * 4]
    ).all()
    assert (learned.signs_.prod(axis=2) == -1).all()
    exact = A[1500:] @ B
    assert relative_error(learned.matmul_online(A[1500:]), exact) < 0.02  # a Gaussian: 0.0095
    plain = HalutMatmul(C=1, effort=1).learn_offline(A[:1500], B)
    assert relative_error(plain.matmul_online(A[1500:]), exact) > 0.1


def test_encode_by_hand():
    """Codes of sums, decision by decision."""
    A, B = mixtures()
    learned = HalutMatmul(C=3, K=4, encoder="sums", terms=3).learn_offline(A, B)
    dims, signs, nodes = learned.split_dims_, learned.signs_, learned.thresholds_
    assert dims.shape == signs.shape == (3, 2, 3)
    assert (signs != 0).sum() > dims.shape[0] * dims.shape[1]  # sums, not columns
    rows = A[:50].astype(np.float32)
    for row, codes in zip(rows, learned.encode(rows), strict=True):
        for codebook, code in enumerate(codes):
            node = 0
            for level in range(2):
                value = np.float32(0)
                for dim, sign in zip(dims[codebook, level], signs[codebook, level], strict=True):
                    value += np.float32(sign) * row[dim]
                node = 2 * node + 1 + int(value > nodes[codebook, node])
            assert code == node - 3
    assert np.array_equal(learned.matmul_online(rows), learned.decode(learned.encode(rows)))


def test_gather_adds_in_the_order_of_the_terms():
    rows = np.array([[1e8, 1.0, -1e8]], dtype=np.float32)
    dims = np.array([[[0, 1, 2], [0, 2, 1]]], dtype=np.int32)
    signs = np.ones((1, 2, 3), dtype=np.int8)
    assert gather(rows, slice(None), dims, signs).ravel().tolist() == [0.0, 1.0]
    assert sum_of(rows.T, dims[0, 1], signs[0, 1]).tolist() == [1.0]
    signs[0, 1] = [0, 0, -1]
    assert gather(rows, slice(None), dims, signs).ravel().tolist() == [0.0, -1.0]


def test_a_term_without_sign_is_not_looked_at():
    dims, signs = np.array([[[0, 1]]], dtype=np.int32), np.array([[[1, 0]]], dtype=np.int8)
    for other in (np.nan, np.inf):
        rows = np.array([[1.0, other]], dtype=np.float32)
        with np.errstate(all="raise"):
            assert gather(rows, slice(None), dims, signs).ravel().tolist() == [1.0]


def test_greedy_sum_stops_where_nothing_is_gained():
    moments, shared = np.eye(3), np.array([[1.0], [0.0], [0.1]])
    dims, signs = greedy_sum(moments, shared, 3)
    assert dims.tolist() == [0] and signs.tolist() == [1]


def test_greedy_sum_passes_over_columns_that_do_not_vary():
    moments = np.diag([0.0, 1.0])
    dims, _ = greedy_sum(moments, np.array([[0.0], [0.5]]), 2)
    assert dims.tolist() == [1]
    assert greedy_sum(np.zeros((2, 2)), np.zeros((2, 1)), 2)[0].tolist() == [0]


def test_products_of_centred_columns():
    columns = np.arange(390, dtype=np.float32).reshape(130, 3) % 7
    centre = columns.mean(axis=1)
    centred = (columns - centre[:, None]).astype(np.float64)
    assert np.allclose(second_moments(columns, centre), centred @ centred.T)
    others = np.ones((3, 2), dtype=np.float32)
    assert np.allclose(products(columns, centre, others), centred @ others, atol=1e-5)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"encoder": "forest"}, '"window" or "node" or "best", not \'forest\''),
        ({"terms": 2}, 'terms must be absent for encoder "tree", not 2'),
        ({"encoder": "sums", "terms": 1}, "terms must be in [2, 16], not 1"),
        ({"encoder": "sums", "terms": 17}, "terms must be in [2, 16], not 17"),
        ({"encoder": "sums", "terms": 2.5}, "terms must be an integer"),
        ({"effort": 4}, "effort must be in [0, 3], not 4"),
        ({"effort": -1}, "effort must be in [0, 3], not -1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(HalutError) as error:
        HalutMatmul(**settings)
    assert message in str(error.value)
