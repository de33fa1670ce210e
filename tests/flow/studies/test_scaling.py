"""Technology scaling: published factors, labels, and the comparison table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.__main__ import main
from flow.figures.metrics import Metrics, read_metrics
from flow.studies.comparison import PUBLISHED, measured_row
from flow.studies.scaling import NODES, Factors, factors, markdown, scale, scaled_row
from halut.errors import HalutError

# DeepScaleTool's own column for power, relative to 65 nm: not used, but it must follow.
POWER = {
    130: 1.28, 90: 1.15, 65: 1.0, 45: 0.78, 40: 0.73, 32: 0.63, 28: 0.56, 22: 0.48, 14: 0.32,
    10: 0.26, 7: 0.21,
}  # fmt: skip


def measured() -> Metrics:
    metrics = Metrics()
    metrics.provenance = {
        "design": "dense", "slug": "c16", "platform": "nangate45", "voltage": 1.1,
    }  # fmt: skip
    metrics.values |= {
        "synth__design__instance__area__stdcell": 500_000.0,
        "synth__timing__clock__period": 2.0,
        "halut__timing__shortest_period": 1.0,
        "halut__design__macs_per_cycle": 1000,
        "halut__energy__per_mac": 0.05,
        "halut__energy__per_cycle": 50.0,
        "synth__power__total": 25.0,
        "synth__power__leakage__total": 5.0,
    }
    return metrics


@pytest.mark.parametrize("node", POWER)
def test_energy_over_delay_is_the_published_power(node: int) -> None:
    assert factors(65, node).power == pytest.approx(POWER[node], rel=0.02)


def test_factors_by_hand() -> None:
    found = factors(45, 14)
    assert (found.area, found.delay, found.energy) == (0.08, 0.60 / 0.81, 0.19 / 0.63)
    assert factors(7, 14).area == pytest.approx(0.08 / 0.011)
    # Beyond 7 nm: 45 to 7, then N5 and N3 at equal speed.
    found = factors(45, 3)
    assert found.area == pytest.approx(0.011 / 1.84 / 1.7)
    assert found.energy == pytest.approx(0.11 / 0.63 * 0.70 * 0.75)
    assert found.delay == factors(45, 7).delay
    assert factors(5, 3) == Factors(area=1 / 1.7, delay=1.0, energy=0.75)
    assert factors(7, 5) == Factors(area=1 / 1.84, delay=1.0, energy=0.70)
    for node in NODES[:-2]:
        assert factors(node, node) == Factors(area=1.0, delay=1.0, energy=1.0)
        back = factors(node, 45).after(factors(45, node))
        assert (back.area, back.delay, back.energy) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(("source", "target"), [(3, 14), (5, 7), (45, 12), (20, 14)])
def test_unknown_nodes(source: int, target: int) -> None:
    with pytest.raises(HalutError, match=r"(source node|--to) must be"):
        factors(source, target)


def test_scaled_metrics_are_labelled_and_no_metrics(tmp_path: Path) -> None:
    scaled = scale(measured(), 14)
    assert (scaled["label"], scaled["from_nm"], scaled["to_nm"]) == ("scaled", 45, 14)
    values = scaled["metrics"]
    assert values["synth__design__instance__area__stdcell"] == pytest.approx(40_000)
    assert values["halut__energy__per_mac"] == pytest.approx(0.05 * 0.19 / 0.63)
    assert values["synth__power__total"] == pytest.approx(25 * 0.19 / 0.63 * 0.81 / 0.60)
    assert values["halut__design__macs_per_cycle"] == 1000
    # Energy and power stay of one piece: energy per cycle is power times the period.
    assert values["halut__energy__per_cycle"] == pytest.approx(
        values["synth__power__total"] * values["synth__timing__clock__period"]
    )
    assert "synth__power__leakage__total" not in values  # no factor for it was published
    assert scaled["measured"]["halut__energy__per_mac"] == 0.05
    assert len(scaled["sources"]) == 1 and "DeepScaleTool" in scaled["sources"][0]
    path = tmp_path / "scaled.json"
    path.write_text(json.dumps(scaled))
    with pytest.raises(HalutError, match=r"metrics must be a metrics.json of this flow"):
        read_metrics(path)


def test_sources_name_what_was_used() -> None:
    assert [s[:4] for s in scale(measured(), 3)["sources"]] == ["S. S", "TSMC"]
    assert [s[:4] for s in scale(measured(), 5, source=7)["sources"]] == ["TSMC"]
    assert scale(measured(), 45)["sources"] == []


def test_comparison_rows() -> None:
    row = measured_row(measured())
    assert (row.label, row.technology) == ("measured", "nangate45, 1.1 V")
    assert row.tops == pytest.approx(1.0)  # 1000 MACs in 2 ns
    assert row.tops_per_mm2 == pytest.approx(2.0)
    assert row.tops_per_w == pytest.approx(40.0) == 1000 * row.tops / row.power_mw
    assert (row.area_mm2, row.frequency_mhz) == (0.5, 500)
    other = scaled_row(scale(measured(), 14))
    assert (other.label, other.technology) == ("scaled", "nangate45 to 14 nm")
    assert other.tops_per_w == pytest.approx(40 * 0.63 / 0.19)
    text = markdown([row, other, *PUBLISHED])
    assert "| dense | nangate45 to 14 nm | scaled |" in text
    assert "| published | 43.1 | 5.1 | – | – | 624 | – |" in text
    assert "ISCAS 2021" in text and "TSMC" in text


def test_platform_without_a_node() -> None:
    metrics = measured()
    metrics.provenance["platform"] = "mine"
    with pytest.raises(HalutError, match="--from must be given"):
        scale(metrics, 14)
    assert scale(metrics, 14, source=28)["from_nm"] == 28


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    measured().write(path)
    assert main(["scale", str(path), "--to", "14nm,3", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "nangate45 to 3 nm" in printed and printed.count("published") == len(PUBLISHED)
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [
        "c16-nangate45-to-14nm.json", "c16-nangate45-to-3nm.json", "comparison.md",
    ]  # fmt: skip
