"""Spaces: what they hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from flow.search.space import Data, Space
from halut.errors import HalutError

SPACES = Path(__file__).parents[3] / "configs" / "spaces"
GOOD = {
    "version": 1,
    "name": "s",
    "base": {"encoder": "pipelined", "input_format": "int8", "n_outputs": 2, "clock_ns": 3},
    "axes": {"n_codebooks": [2, 4], "parallel_codebooks": [1, 4]},
}


def _read(tmp_path, values):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(values))
    return Space.from_yaml(path)


def _data():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((30, 12)).astype(np.float32)
    return Data(name="d", train=rows[:20], test=rows[20:], B=rows[:12, :5])


def test_points_are_the_combinations_in_order(tmp_path):
    points = _read(tmp_path, GOOD).points(None)
    assert [p.index for p in points] == [0, 1, 2, 3]
    assert [(p.values["n_codebooks"], p.values["parallel_codebooks"]) for p in points] == [
        (2, 1), (2, 4), (4, 1), (4, 4),
    ]  # fmt: skip
    assert points[1].config is None
    assert points[1].skipped == "parallel_codebooks must be an integer in [1, 2], not 4"
    assert points[3].config is not None and points[3].config.encoder == "pipelined"
    assert {(p.platform, p.corner, p.clock_ns, p.target_ns) for p in points} == {
        ("generic", None, 3.0, 3.0)
    }


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces(path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[dev])")
    space = Space.from_yaml(path)
    points = space.points(space.load_data())
    assert space.name == path.stem
    assert sum(point.config is not None for point in points) >= 60


def test_data_decides_outputs_and_width(tmp_path):
    base = {k: v for k, v in GOOD["base"].items() if k != "n_outputs"}
    values = GOOD | {"base": base, "data": {"builtin": "digits"}}
    values["axes"] = {"n_codebooks": [4, 5]}
    points = _read(tmp_path, values).points(_data())
    assert points[0].config is not None
    assert (points[0].config.n_outputs, points[0].config.codebook_width) == (5, 3)
    assert points[1].skipped.startswith("n_codebooks must divide the columns of A, 12, ")
    values["base"] = base | {"codebook_width": 2}
    config = _read(tmp_path, values).points(_data())[1].config
    assert config is not None and config.codebook_width == 2


def test_files_hold_out_the_last_fifth(tmp_path):
    data = _data()
    np.save(tmp_path / "a.npy", data.train)
    np.save(tmp_path / "b.npy", data.B)
    found = Data.from_files(tmp_path / "a.npy", tmp_path / "b.npy")
    assert np.array_equal(found.train, data.train[:16])
    assert np.array_equal(found.test, data.train[16:])
    np.save(tmp_path / "t.npy", data.test)
    given = Data.from_files(tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "t.npy")
    assert np.array_equal(given.test, data.test)
    assert given.digest == data.digest != found.digest
    # Files are looked for beside the space.
    base = {k: v for k, v in GOOD["base"].items() if k != "n_outputs"}
    space = _read(tmp_path, GOOD | {"base": base, "data": {"a": "a.npy", "b": "b.npy"}})
    loaded = space.load_data()
    assert loaded is not None and loaded.digest == found.digest


BAD = {
    r"version must be 1, not 2": {"version": 2},
    r'a space must have known keys only .*, not \'axis\' \(did you mean "axes"\?\)': {"axis": {}},
    r"axes must be given": {"axes": None},
    r"name must be letters": {"name": "a/b"},
    r'axes must be among .* \(did you mean "n_codebooks"\?\)': {"axes": {"n_codebook": [1]}},
    r'base must be among .* \(did you mean "clock_ns"\?\)': {"base": {"clok_ns": 1}},
    r"axes.rows must be a list with values, not 4": {"axes": {"rows": 4}},
    r"axes.rows must be a list with values, not \[\]": {"axes": {"rows": []}},
    r"axes.rows must not have a value twice": {"axes": {"rows": [1, 1]}},
    r"clock_ns must be in axes or in base, not in both": {"axes": {"clock_ns": [1]}},
    r"target_ns must be a positive number of ns, not 0": {"axes": {"target_ns": [0]}},
    r'layout must be among none, placed, routed, not \'route\' \(did you mean "routed"\?\)': {
        "axes": {"layout": ["none", "route"]}
    },
    r"platform must be text": {"axes": {"platform": [1]}},
    r"axes must span at most 100,000 points, not 131,072": {
        "axes": {
            "rows": list(range(256)), "n_codebooks": list(range(256)), "lut_bits": [1, 2],
        }
    },
    r'data must be among builtin, a, b, test, not \'built\'': {"data": {"built": "x"}},
    r"data must have either builtin, or a and b": {"data": {"a": "x.npy"}},
    r"n_outputs must be absent with data": {"data": {"builtin": "digits"}},
    r"prune.margin must be mean or largest or a number": {"prune": {"margin": "some"}},
    r"prune.margin must be .*, not 1": {"prune": {"margin": 1}},
    r'prune must have known keys only .*did you mean "margin"': {"prune": {"margins": 1}},
    r'prune.objectives must be among .* \(did you mean "error"\?\)': {
        "prune": {"objectives": ["eror"]}
    },
    r"learning must be among loss, ": {"learning": {"C": 3}},
    r"refine_passes must be at least 0": {"learning": {"refine_passes": -1}},
    r"seed must be an integer of at least 0, not -1": {"seed": -1},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_what_is_refused(tmp_path, message):
    values = {k: v for k, v in (GOOD | BAD[message]).items() if v is not None}
    with pytest.raises(HalutError, match=message) as error:
        _read(tmp_path, values)
    assert str(error.value).endswith("space.yaml)")


def test_what_data_is_refused(tmp_path):
    with pytest.raises(HalutError, match=r'did you mean "digits"'):
        Data.builtin("digit")
    np.save(tmp_path / "a.npy", np.ones((4, 3)))
    np.save(tmp_path / "b.npy", np.ones((3, 2)))
    with pytest.raises(HalutError, match=r"a must have at least 5 rows to hold some out, not 4"):
        Data.from_files(tmp_path / "a.npy", tmp_path / "b.npy")
    np.save(tmp_path / "zero.npy", np.zeros((9, 3)))
    with pytest.raises(HalutError, match=r"test rows must not be all zero"):
        Data.from_files(tmp_path / "zero.npy", tmp_path / "b.npy")
