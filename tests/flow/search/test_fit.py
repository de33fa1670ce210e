"""Budgets and the ranking of candidates; the whole of it on NanGate45 when that is there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flow.__main__ import main
from flow.search.fit import Budget, broken, candidates, given_data, rank
from flow.search.model import Estimate
from flow.search.points import Row
from flow.search.quantities import AREA, RATE, TIME
from flow.search.space import Data, SpacePoint
from halut.cli import run
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig

AREA_LIMIT = Budget(name="area", limit=100.0, quantity=AREA)
CLOCK = Budget(name="clock", limit=2.0, quantity=TIME)
RATE_LIMIT = Budget(name="throughput", limit=10.0, quantity=RATE)


def test_excess():
    assert AREA_LIMIT.excess(150) == pytest.approx(0.5)
    assert AREA_LIMIT.excess(50) < 0
    assert RATE_LIMIT.excess(5) == pytest.approx(1.0)
    assert RATE_LIMIT.excess(20) < 0
    assert broken([AREA_LIMIT, CLOCK], {"area": 100.0}) == {"clock": float("inf")}


def _row(index: int, area: float, energy: float, period: float = 1.0) -> Row:
    point = SpacePoint(index=index, values={}, config=AcceleratorConfig(), platform="nangate45",
                       corner=None, clock_ns=2.0, target_ns=2.0)  # fmt: skip
    estimate = Estimate(area_um2=area, energy_pj_per_cycle=energy, period_ns=period,
                        area_um2_per_mac_per_cycle=area, energy_pj_per_mac=energy)  # fmt: skip
    return Row(point=point, estimate=estimate)


def test_rank():
    rows = [_row(0, 90, 1), _row(1, 80, 2), _row(2, 120, 0), _row(3, 10, 0, period=4)]
    unknown = _row(4, 1, 1)
    unknown.estimate = None

    def order(goal):
        return [r.point.index for r in rank([*rows, unknown], [AREA_LIMIT, CLOCK], goal)]

    # Within the budgets first; then by how far the worst one is broken.
    assert order("area") == [1, 0, 2, 3]
    assert order("energy") == [0, 1, 2, 3]


def test_candidates():
    rows = np.ones((9, 12), np.float32)
    space = candidates(Data(name="d", train=rows, test=rows, B=rows.T))
    assert list(space.axes["n_codebooks"]) == [2, 3, 4, 6, 12]
    assert max(space.axes["parallel_codebooks"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--area 1mm2", "--clock"),
        ("--clock 2", "--clock must be a positive number with a unit of ps, ns, us, MHz, GHz"),
        ("--clock 2ns --area 2", "--area must be a positive number with a unit of um2, mm2"),
        ("--clock 2ns --platform generic", "--platform must have a fitted model, unlike generic"),
        ("--clock 2ns --verify 0", "--verify must be an integer in [1, 1000], not 0"),
        ("--clock 2ns --goal speed", "--goal must be area, energy, error or throughput"),
    ],
)
def test_what_is_refused(arguments, message, capsys):
    assert run(main, ["fit", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "data must be given"),
        ({"data": "digits", "a": "a.npy"}, "--data must not be given with --a"),
        ({"a": "a.npy"}, "--a and --b must be given together"),
        ({"data": "digits", "test": "t.npy"}, "--test only with them"),
    ],
)
def test_data_is_given_once(given, message):
    arguments = {"data": None, "a": None, "b": None, "test": None} | given
    with pytest.raises(HalutError, match=message):
        given_data(SimpleNamespace(**arguments), None)


@pytest.mark.flow
@pytest.mark.needs("pyosys", "sim", "nangate45")
@pytest.mark.slow
def test_from_budgets_to_measured_configurations(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[dev])")
    places = ["--data", "digit_classes", "--build", str(tmp_path / "b"), "-o", str(tmp_path / "o")]
    common = ["fit", "--clock", "2ns", *places, "--verify", "1"]
    assert run(main, [*common, "--error", "0.5", "--area", "0.02mm2"]) == 0
    assert "1 of 1 fit" in capsys.readouterr().out
    config = AcceleratorConfig.from_yaml(Path(tmp_path / "o" / "fit_1.yaml"))
    assert config.n_outputs == 10 and 64 % config.n_codebooks == 0
    # Nothing is that small: exit status 1, and by how much.
    assert run(main, [*common, "--error", "0.5", "--area", "10um2"]) == 1
    captured = capsys.readouterr()
    assert "area" in captured.err and "instead of 10 um2" in captured.err
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["fit_1.yaml"]
