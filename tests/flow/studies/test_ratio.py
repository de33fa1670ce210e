"""A looked-up network beside an exact one: sums by hand, accuracies, conditions, the command."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from flow.__main__ import main
from flow.figures.metrics import NOT_COUNTED, Metrics
from flow.studies.equal_accuracy import Accuracy, beside, read_accuracy
from flow.studies.network_cost import system
from flow.studies.ratio import summary
from halut.errors import HalutError
from halut.workloads import Layer
from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct import DotProductConfig

SMALL = Path(__file__).parents[3] / "configs" / "small.yaml"
CONFIG = AcceleratorConfig.from_yaml(SMALL)  # C = 4, K = 4, M = 2, P = Q = W = 1
DOT = DotProductConfig(name="dot", length=4, columns=2, max_vectors=1, weights="latch")
FIRST = Layer(name="first", kind="linear", rows=10, n_features=8, n_outputs=2, exact="first layer")
LAYER = Layer(name="a", kind="linear", rows=37, n_features=48, n_outputs=5, n_codebooks=6)
NARROW = Layer(name="n", kind="linear", rows=37, n_features=6, n_outputs=3)


def measured(
    config: Any, per_cycle: float, per_word: float, leakage: float, area: float
) -> Metrics:
    metrics = Metrics()
    metrics.provenance = {
        "slug": config.slug, "design": config.name, "configuration": config.to_dict(),
        "platform": "nangate45", "corner": "typ", "clock_ns": 2.0, "io_share": 0.2,
    }  # fmt: skip
    metrics.values |= {
        "synth__timing__clock__period": 2.0,
        "halut__energy__per_cycle": per_cycle,
        "halut__energy__per_program_word": per_word,
        "synth__power__leakage__total": leakage,
        "synth__design__instance__area__stdcell": area,
    }
    if config is CONFIG:
        metrics.values["halut__design__look_ups_per_cycle"] = 2.0
    return metrics


def ours(**values: Any) -> Metrics:
    metrics = measured(CONFIG, 3.0, 7.0, 0.25, 3e5)
    metrics.values |= values
    return metrics


def direct() -> Metrics:
    return measured(DOT, 5.0, 11.0, 0.125, 1e5)


def figures(**options: Any) -> dict[str, Any]:
    given = {"metrics": ours(), "direct": direct()} | options
    return beside(("n", [FIRST, LAYER]), ("m", [FIRST, NARROW]), CONFIG, **given)


def test_figures_by_hand() -> None:
    """Exact layers, loading and leakage of the engine that waits are in the sums of both sides."""
    found = figures()
    first, looked_up = found["looked_up"]["layers"]
    assert (first["engine"], looked_up["engine"]) == ("direct", "look-up")
    # 2 tiles of 4 features; the look-up engine leaks 0.25 mW for 2 ns in every cycle.
    cycles = 2 * (2 + 1 + 10 + 3)
    assert first["cycles"]["total"] == cycles
    assert first["energy_pj"]["waiting_engine"] == cycles * 0.5
    assert first["energy_pj"]["total"] == 2 * (10 * 5.0 + 2 * 11.0 + 4 * 0.25) + cycles * 0.5
    alone = system("n", [LAYER], CONFIG, metrics=ours())["layers"][0]
    assert looked_up["cycles"] == alone["cycles"]
    waiting = alone["cycles"]["total"] * 0.25
    assert looked_up["energy_pj"]["total"] == pytest.approx(alone["energy_pj"]["total"] + waiting)
    assert looked_up["partial_sums"] == (alone["grid"][0] - 1) * 37 * 5

    exact = found["exact"]["layers"]
    assert [row["energy_pj"]["waiting_engine"] for row in exact] == [0, 0]
    assert exact[1]["tiles"] == 4 and exact[1]["share_of_made"] == 37 * 18 / (4 * 37 * 8)
    rows = 4 * 37 * 5.0
    assert exact[1]["energy_pj"]["total"] == rows + 4 * (2 * 11.0 + 4 * 0.25)
    saved = rows * (1 - exact[1]["share_of_made"])
    assert exact[1]["energy_pj"]["without_padding"] == exact[1]["energy_pj"]["total"] - saved

    mine, theirs = (found[side]["per_inference"] for side in ("looked_up", "exact"))
    assert mine["area_mm2"] == pytest.approx(0.4)  # 3e5 + 1e5 um2
    assert theirs["area_mm2"] == pytest.approx(0.1)
    total = first["energy_pj"]["total"] + looked_up["energy_pj"]["total"]
    assert mine["energy_uj"] == pytest.approx(total * 1e-6)
    assert mine["energy_area"] == pytest.approx(0.4 * total * 1e-6)
    assert mine["time_us"] == pytest.approx((cycles + alone["cycles"]["total"]) * 2e-3)
    assert mine["macs_computed"] == 160 and mine["look_ups"] == 37 * 6 * 5
    assert theirs["macs_computed"] == 160 + 37 * 18 and theirs["look_ups"] == 0
    ratios = found["exact_over_looked_up"]
    assert ratios["area_mm2"] == pytest.approx(0.25)
    assert ratios["energy_uj"] == pytest.approx(theirs["energy_uj"] / mine["energy_uj"])
    text = summary(found)
    assert "no wires; areas are those of the cells" in text
    assert "accuracies were not given for both: this is no comparison at equal accuracy" in text


def test_a_batch_shares_loading_on_both_sides() -> None:
    one, ten = (figures(batch=batch) for batch in (1, 10))
    for side in ("looked_up", "exact"):
        before, after = (found[side]["per_inference"] for found in (one, ten))
        assert after["program_words"] == pytest.approx(before["program_words"] / 10)
        assert after["energy_pj"]["load"] == pytest.approx(before["energy_pj"]["load"] / 10)
        assert after["macs_computed"] == before["macs_computed"]
        assert after["time_us"] < before["time_us"]


def test_engines_side_by_side_count_with_their_area() -> None:
    one, four = figures(), figures(direct_units=4)
    assert four["exact"]["per_inference"]["area_mm2"] == pytest.approx(0.4)
    assert four["looked_up"] == one["looked_up"]
    assert four["exact"]["per_inference"]["time_us"] < one["exact"]["per_inference"]["time_us"]
    # A network without an exact layer needs no direct engine.
    alone = beside(("n", [LAYER]), ("m", [NARROW]), CONFIG, metrics=ours(), direct=direct())
    assert alone["looked_up"]["per_inference"]["area_mm2"] == pytest.approx(0.3)
    assert alone["looked_up"]["layers"][0]["energy_pj"]["waiting_engine"] == 0


def test_layouts_are_set_beside_layouts_only() -> None:
    def routed(metrics: Metrics) -> Metrics:
        metrics.values |= {
            "halut__routed__energy_per_cycle": 30.0, "halut__routed__energy_per_program_word": 70.0,
            "finish__power__leakage__total": 2.5, "finish__design__die__area": 1e6,
        }  # fmt: skip
        return metrics

    with pytest.raises(HalutError, match="must be of a layout, as --metrics are, not of a synth"):
        figures(metrics=routed(ours()))
    found = figures(metrics=routed(ours()), direct=routed(direct()))
    assert found["measured_on"] == "layout"
    assert found["looked_up"]["per_inference"]["area_mm2"] == 2.0
    assert "routed layouts; areas are those of the dies" in summary(found)


@pytest.mark.parametrize(
    ("mine", "theirs", "text"),
    [
        (0.93, 0.93, "accuracies are equal"),
        (0.93, 0.9301, "accuracies differ: the exact network is 0.01 points better (standard"),
        (0.94, 0.92, "accuracies differ: the looked-up network is 2.00 points better (standard"),
    ],
)
def test_accuracies_are_equal_only_when_they_are(mine: float, theirs: float, text: str) -> None:
    both = [Accuracy(share=share, images=10_000, arithmetic="floats") for share in (mine, theirs)]
    found = figures(accuracies=tuple(both))
    assert found["accuracy"]["equal"] == (mine == theirs)
    assert found["accuracy"]["exact_minus_looked_up"] == pytest.approx(theirs - mine)
    assert found["accuracy"]["standard_error"] == pytest.approx(0.0036, abs=3e-4)
    assert text in summary(found) and "arithmetic" not in summary(found)
    fewer = dataclasses.replace(both[1], images=5000, arithmetic="8-bit words")
    found = figures(accuracies=(both[0], fewer))
    assert not found["accuracy"]["equal"]
    assert "they were not measured in the same arithmetic" in summary(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": {"platform": "asap7"}}, "platform of --direct-metrics must be that of"),
        ({"provenance": {"corner": "slow"}}, "corner of --direct-metrics must be that of --met"),
        ({"provenance": {"clock_ns": 6.0}}, "clock_ns of --direct-metrics must be that of --met"),
        ({"provenance": {"io_share": 0.1}}, "io_share of --direct-metrics must be that of --met"),
        ({"notes": {"glitches": NOT_COUNTED}}, "glitches must be counted in both metrics, or in"),
        ({"values": {"halut__energy__per_program_word": None}},
         "--direct-metrics must have an energy per program word, not null: not in the file"),
        ({"values": {"synth__design__instance__area__stdcell": None}},
         "--direct-metrics must have an area, not null"),
        ({"values": {"synth__power__leakage__total": None}}, "must have leakage, not null"),
        ({"provenance": {"configuration": None}}, "must name the engine's configuration"),
    ],
)  # fmt: skip
def test_engines_must_be_measured_alike(change: dict[str, Any], message: str) -> None:
    metrics = direct()
    for part, values in change.items():
        getattr(metrics, part).update(values)
    with pytest.raises(HalutError, match=re.escape(message)):
        figures(direct=metrics)


def test_metrics_must_be_of_the_engines() -> None:
    with pytest.raises(HalutError, match="--metrics must have an energy per cycle, not null"):
        figures(metrics=ours(halut__energy__per_cycle=None))
    with pytest.raises(HalutError, match=r"--direct-metrics must .* not"):
        figures(direct=ours())
    with pytest.raises(HalutError, match="--metrics must be of c4_"):
        figures(metrics=measured(dataclasses.replace(CONFIG, rows=2), 1, 1, 1, 1))
    # Of before the share of the period outside was written down.
    old = ours()
    del old.provenance["io_share"]
    assert figures(metrics=old)["exact"] == figures()["exact"]


def _file(folder: Path, data: Any) -> str:
    path = folder / "accuracy.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_accuracies_are_read_from_trainings_and_evaluations(tmp_path: Path) -> None:
    trained = {"final_accuracy": 0.9303, "base_accuracy": 0.9426, "n_test": 10_000}
    path = _file(tmp_path, {**trained, "layers": ["a"]})
    found = read_accuracy("--accuracy", path, looked_up=True)
    assert found == Accuracy(share=0.9303, images=10_000, arithmetic="as trained")
    path = _file(tmp_path, {**trained, "layers": []})
    assert read_accuracy("--beside-accuracy", path, looked_up=False).arithmetic == "floats"
    evaluated = {"accuracy": 1, "images": 5, "arithmetic": "8-bit words"}
    found = read_accuracy("--accuracy", _file(tmp_path, evaluated), looked_up=True)
    assert found == Accuracy(share=1.0, images=5, arithmetic="8-bit words")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], "--accuracy must be summary.json of `python -m halut train`, or what"),
        ({"accuracy": 0.9}, "--accuracy must be summary.json"),
        ({"accuracy": 93.0, "images": 10}, "accuracy must be in [0, 1], not 93.0"),
        ({"accuracy": True, "images": 10}, "accuracy must be in [0, 1], not True"),
        ({"final_accuracy": 0.9, "n_test": 0}, "n_test must be an integer of at least 1, not 0"),
        ({"final_accuracy": 0.9, "n_test": 9, "layers": []},
         "--accuracy must be of a network with looked-up layers, not of one with 0"),
    ],
)  # fmt: skip
def test_what_is_no_accuracy_is_refused(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=re.escape(message)) as error:
        read_accuracy("--accuracy", _file(tmp_path, data), looked_up=True)
    assert str(error.value).endswith("accuracy.json)")


def test_an_exact_networks_accuracy_is_not_that_of_a_looked_up_one(tmp_path: Path) -> None:
    path = _file(tmp_path, {"final_accuracy": 0.9, "n_test": 9, "layers": ["a", "b"]})
    with pytest.raises(HalutError, match="must be of an exact network, not of one with 2 looked"):
        read_accuracy("--beside-accuracy", path, looked_up=False)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours().write(tmp_path / "ours.json")
    direct().write(tmp_path / "direct.json")
    command = [
        "ratio", "--network", "resnet9", "--config", str(SMALL), "--beside", "resnet9:width=8",
        "--metrics", str(tmp_path / "ours.json"), "-o", str(tmp_path),
        "--direct-metrics", str(tmp_path / "direct.json"),
    ]  # fmt: skip
    assert main([*command, "--batch", "4"]) == 0
    place = tmp_path / "resnet9-small-beside-resnet9_width_8-batch4.json"
    data = json.loads(place.read_text())
    assert data["kind"] == "halut-ratio" and data["batch"] == 4
    assert data["exact"]["per_inference"]["macs_computed"] < 379_261_952 / 50
    assert capsys.readouterr().out.endswith(f"wrote {place}\n")
    with pytest.raises(HalutError, match=r"--batch must be an integer in \[1, 1048576\], not 0"):
        main([*command, "--batch", "0"])
    with pytest.raises(HalutError, match=r"--metrics must be of c4_.*not dot_product"):
        main([*command, "--metrics", str(tmp_path / "direct.json")])
