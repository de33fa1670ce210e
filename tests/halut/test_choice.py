"""Choosing between ways of learning, and between encoders within a limit of area."""

import json

import numpy as np
import pytest

from halut import HalutMatmul
from halut.__main__ import main
from halut.choice import cross_validated, is_better, least_error
from halut.cli import run
from halut.costs import DENSE, EncoderArea, affordable, read_areas
from halut.errors import HalutError
from halut.matmul import PLAIN
from halut.problems import relative_error
from halut.program import Program
from tests.halut.test_residual import mixtures


def test_better_by_more_than_chance():
    rng = np.random.default_rng(0)
    before = rng.uniform(1, 2, 400)
    noise = rng.standard_normal(400)
    noise -= noise.mean()
    error = noise.std(ddof=1) / 20
    assert is_better(before, before - noise - 1.1 * error)
    assert not is_better(before, before - noise - 0.9 * error)
    assert not is_better(before, before)
    assert least_error([before, before - noise - 0.9 * error, before - 1]) == 2
    assert least_error([before, before + 1]) == 0


def test_every_row_is_judged_by_what_did_not_see_it():
    class Learned:
        def __init__(self, rows):
            self.seen = {tuple(row) for row in rows}

        def matmul_online(self, rows):
            assert not self.seen & {tuple(row) for row in rows}
            return np.zeros((len(rows), 1))

    rows = np.arange(22, dtype=np.float32).reshape(11, 2)
    learn = lambda A, _: Learned(A)  # noqa: E731
    (errors,) = cross_validated([learn], rows, np.ones((2, 1), np.float32), 1)
    assert np.array_equal(errors, rows.sum(axis=1) ** 2)


def test_nothing_is_worse_than_the_plain_method():
    """Few rows of noise: what is refitted there is refitted to noise."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        A, B = rng.standard_normal((200, 16)), rng.standard_normal((16, 3))
        test = rng.standard_normal((3000, 16))
        plain, found = (
            HalutMatmul(C=4, K=4, **settings).learn_offline(A, B).matmul_online(test)
            for settings in (PLAIN, {"effort": 1})
        )
        exact = test @ B
        assert relative_error(found, exact) <= 1.01 * relative_error(plain, exact)


@pytest.mark.parametrize("few_rows", [4096, 100])
def test_best_encoder(few_rows, monkeypatch):
    """By cross-validation, and by the rows that all ways hold out."""
    monkeypatch.setattr("halut.matmul.FEW_ROWS", few_rows)
    A, B = mixtures(2000, n_outputs=2)
    rows, test = A[:1000], A[1000:]
    trees = HalutMatmul(C=2, encoder="best", most_area=1).learn_offline(rows, B)
    assert repr(trees) == "HalutMatmul(C=2, K=16, loss='product', ridge='auto', encoder='best')"
    sums = HalutMatmul(C=2, encoder="best", most_area=2).learn_offline(rows, B)
    assert trees.chosen_["encoder"] == "tree" and trees.signs_ is None
    assert sums.chosen_["encoder"] == "sums" and sums.signs_.shape[2] == sums.chosen_["terms"]
    errors = [relative_error(one.matmul_online(test), test @ B) for one in (trees, sums)]
    assert errors[1] < errors[0]
    terms = sums.chosen_["terms"]
    assert sums.program().provenance["encoder"] == f"sums of {terms}"
    own = HalutMatmul(C=2, encoder="sums", terms=terms).learn_offline(rows, B)
    assert np.array_equal(own.lut_, sums.lut_)  # learned as when asked for


def test_trees_that_are_as_good_are_sums_of_one_column():
    """Whoever asks for sums gets a program for an accelerator with sums."""
    A, B = np.random.default_rng(0).standard_normal((200, 4)), np.eye(4)
    found = HalutMatmul(C=4, K=2, encoder="sums", terms=3, effort=1).learn_offline(A, B)
    assert found.chosen_["encoder"] == "tree"
    assert found.program().terms == 3 and (found.signs_ == [1, 0, 0]).all()
    settings = found.chosen_ | {"effort": 0}
    trees = HalutMatmul(C=4, K=2, **settings).learn_offline(A, B)
    assert np.array_equal(trees.lut_, found.lut_)
    assert np.array_equal(trees.encode(A), found.encode(A))
    assert np.array_equal(trees.matmul_online(A), found.matmul_online(A))


def test_limit_of_area():
    def words(most_area):
        return [(one.encoder, one.terms) for one in affordable(DENSE, most_area)]

    assert words(1) == [("tree", None)]
    assert words(1.11) == [("tree", None), ("sums", 2)]
    assert words(1.24) == [("tree", None), ("sums", 2), ("node", None), ("sums", 4)]
    with pytest.raises(HalutError, match=r"most_area must be at least 1, not 0\.9"):
        HalutMatmul(encoder="best", most_area=0.9)
    with pytest.raises(HalutError, match=r'areas must have one of encoder "tree" .* not 0'):
        affordable([EncoderArea(encoder="sums", terms=2, area=1)], 2)
    with pytest.raises(HalutError, match='terms must be absent for encoder "best", not 2'):
        HalutMatmul(encoder="best", terms=2)


def metrics(path, area, **configuration):
    content = {
        "kind": "halut-metrics", "version": 1,
        "metrics": {"synth__design__instance__area__stdcell": area},
        "provenance": {"configuration": configuration},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return str(path)


def test_areas_of_metrics_files(tmp_path, capsys):
    files = [
        metrics(tmp_path / "a.json", 100.0),
        metrics(tmp_path / "b.json", 150.0, unit={"terms": 3}),
        metrics(tmp_path / "c.json", 190.0, terms=4),
    ]
    assert [one.settings for one in read_areas(files)] == [
        {"encoder": "tree"}, {"encoder": "sums", "terms": 3}, {"encoder": "sums", "terms": 4},
    ]  # fmt: skip
    with pytest.raises(HalutError, match=r"metrics must have .* greater than 0, not None"):
        read_areas([metrics(tmp_path / "d.json", None)])
    (tmp_path / "e.json").write_text("[]")
    with pytest.raises(HalutError, match=r"metrics must be a metrics.json of an accelerator"):
        read_areas([tmp_path / "e.json"])

    A, B = mixtures(600)
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    a, b, program = (str(tmp_path / name) for name in ("a.npy", "b.npy", "p.npz"))
    flags = ["learn", "--a", a, "--b", b, "--num-c", "2", "-o", program,
             "--encoder", "best", "--most-area", "1.6"]  # fmt: skip
    for file in files:
        flags += ["--metrics", file]
    assert run(main, flags) == 0
    assert "chosen               sums of 3, effort 0, loss product" in capsys.readouterr().out
    assert Program.load(program).terms == 3
    assert run(main, [*flags, "--input", "fp16"]) == 2
    assert "for sums of 3 terms" in capsys.readouterr().err
