import json

import pytest

from flow.figures.metrics import METRICS, Metrics, check_rules, compare, read_metrics
from flow.report.terminal import comparison, summary
from halut.errors import HalutError

AREA = "synth__design__instance__area__stdcell"
SLACK = "synth__timing__setup__ws"
POWER = "synth__power__total"


def _metrics(area=100.0, slack=0.1, power=None) -> Metrics:
    metrics = Metrics()
    metrics.set(AREA, area)
    metrics.set(SLACK, slack)
    metrics.set(POWER, power, "no simulator")
    metrics.provenance = {
        "design": "d", "platform": "p", "corner": None, "clock_ns": 6.0, "target_ns": 6.0,
    }  # fmt: skip
    return metrics


def test_every_missing_metric_has_a_reason_and_every_name_a_unit(tmp_path):
    metrics = _metrics()
    metrics.set("synth__timing__fmax", float("nan"))
    metrics.write(tmp_path / "metrics.json")
    data = json.loads((tmp_path / "metrics.json").read_text())
    assert set(data["metrics"]) == set(METRICS) == set(data["units"])
    for name, value in data["metrics"].items():
        assert (value is None) == (name in data["reasons"]), name
    assert data["reasons"][POWER] == "no simulator"
    assert data["reasons"]["synth__timing__fmax"] == "not a finite number"
    again = read_metrics(tmp_path / "metrics.json")
    assert again.values == metrics.values and again.provenance == metrics.provenance


def test_comparison_knows_what_is_better():
    rows = {row[0]: row[1:] for row in compare(_metrics(), _metrics(90.0, 0.05, 2.0))}
    assert rows[AREA] == (100.0, 90.0, pytest.approx(-0.1), 1)
    assert rows[SLACK][2:] == (pytest.approx(-0.5), -1)
    assert rows[POWER] == (None, 2.0, None, 0)
    text = comparison(_metrics(), _metrics(90.0), "before")
    assert text.startswith("against before:") and "-10.00% better" in text
    assert comparison(_metrics(), _metrics(), "before") == "same numbers as before"


def test_the_summary_names_reasons():
    text = summary(_metrics())
    assert "d on p, clock 6 ns" in text and "not measured: no simulator" in text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "halut-metrics", "version": 2, "metrics": {}}']
)
def test_other_files_are_not_metrics(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(HalutError, match=r"metrics .*must be.*m\.json"):
        read_metrics(tmp_path / "m.json")


def test_rules(tmp_path):
    rules = {AREA: {"value": 95, "compare": "<="}, SLACK: {"value": 0, "compare": ">="}}
    assert check_rules(_metrics(90.0), rules, tmp_path) == []
    assert check_rules(_metrics(100.0), rules, tmp_path) == [f"{AREA} must be <= 95, not 100.0"]
    assert check_rules(_metrics(), {POWER: {"value": 1, "compare": "<="}}, tmp_path) == [
        f"{POWER} must be <= 1, not None"
    ]
    for bad, message in (
        ([], "mapping"),
        ({"area": {"value": 1, "compare": "<="}}, "known metrics, not area"),
        ({AREA: {"value": 1, "compare": "<"}}, "must have a value and compare"),
        ({AREA: 3}, "must have a value and compare"),
    ):
        with pytest.raises(HalutError, match=message):
            check_rules(_metrics(), bad, tmp_path)
