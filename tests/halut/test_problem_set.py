"""The problems made here, and what is measured on them."""

import logging

import numpy as np
import pytest

from halut import problem_set
from halut.errors import HalutError
from halut.problem_set import METHODS, PLAIN, geometric_means, measure
from halut.problems import PUBLISHED, Problem

SHAPES = {
    "filter_bank": (10000, 2000, 75, 9),
    "other_photograph": (10000, 2000, 75, 9),
    "image_blocks": (10000, 2000, 64, 32),
    "convolution": (10000, 2000, 144, 32),
    "last_layer": (1297, 500, 128, 10),
    "hidden_layer": (1297, 500, 128, 64),
}


pytestmark = pytest.mark.usefixtures("judged_by_one_share_of_the_rows")


@pytest.mark.parametrize("name", SHAPES)
def test_problems_are_reproducible(name):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    first, second = (getattr(problem_set, name)() for _ in range(2))
    assert first.name == name.replace("_", " ")
    shape = (len(first.train), len(first.test), *first.B.shape)
    assert shape == SHAPES[name]
    for part in ("train", "test", "B"):
        assert np.array_equal(getattr(first, part), getattr(second, part))


def test_every_problem_is_in_the_set():
    names = {make.__name__ for make, _ in problem_set.PROBLEM_SET}
    assert names == set(SHAPES) | {"uniform", "low_rank", "digits"}


def small():
    draw = np.random.RandomState(0)
    A = draw.randn(600, 3) @ draw.randn(3, 12)
    return Problem(name="small", train=A[:500], test=A[500:], B=draw.randn(12, 4))


def absent():
    raise HalutError("photographs must be installed")


def test_measure_leaves_out_what_is_not_installed(caplog):
    with caplog.at_level(logging.WARNING):
        rows = measure(((absent, (2,)), (small, (2, 3))))
    assert "left out absent: photographs must be installed" in caplog.text
    assert [row["n_codebooks"] for row in rows] == [2, 3]
    for row in rows:
        assert set(row["errors"]) == set(row["seconds"]) == set(METHODS)
        assert row["others"] == row["plain"] and not row["published"]
        assert 0 < row["bound"] < min(row["errors"].values())
    means = geometric_means(rows)
    by_hand = np.sqrt(np.prod([row["errors"]["tree"] / row["plain"] for row in rows]))
    assert means["tree"] == pytest.approx(by_hand)
    assert means["sums of 4"] < means["tree"]


@pytest.mark.parametrize("n_codebooks", [8, 16])
def test_the_plain_method_is_as_good_as_the_reference(n_codebooks):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from halut import HalutMatmul
    from halut.problems import digits, relative_error

    problem = digits()
    plain = HalutMatmul(C=n_codebooks, **PLAIN).learn_offline(problem.train, problem.B)
    error = relative_error(plain.matmul_online(problem.test), problem.test @ problem.B)
    assert error == pytest.approx(PUBLISHED["digits", n_codebooks][0], rel=0.02)
