"""Conversion within a budget: plans, what is kept, files to go on from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import Budget, LayerConfig, Reconstruction, convert_  # noqa: E402
from halut.nn import search as search_module  # noqa: E402
from halut.nn.budget import Option, cheaper_plans, last_within, wider_plans  # noqa: E402
from halut.nn.deviation import Comparison  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.macs import count_macs  # noqa: E402

CONFIG = LayerConfig(n_prototypes=8, refine_passes=0, ridge=1.0, max_rows=1000)
CHOICES = ({}, {"codebook_width": 2})


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(200, 12), nn.ReLU(), nn.Linear(12, 4),
    ).eval()  # fmt: skip


def images(seed: int, n: int = 150) -> torch.Tensor:
    return torch.randn(n, 2, 5, 5, generator=torch.Generator().manual_seed(seed))


def drop_of(model: nn.Module, exact: nn.Module) -> float:
    return 1 - Comparison(exact, [images(2)]).of(model).agreement


def option(layer: str, choice: int, loss: float, macs: int, table_bytes: int) -> Option:
    return Option(
        layer=layer, choice=choice, sensitivity=loss, agreement=1 - loss, macs=macs,
        look_ups=macs // 4, table_bytes=table_bytes,
    )  # fmt: skip


def test_plans_go_from_what_saves_most_for_its_loss_to_the_cheapest() -> None:
    options = [
        option("a", 0, 0.30, 100, 10), option("a", 1, 0.05, 100, 30),
        option("b", 0, 0.01, 50, 5), option("b", 1, 0.10, 50, 20),  # dearer and worse: never
        option("c", 0, 0.50, 80, 9),
    ]  # fmt: skip
    found = [{name: one.choice for name, one in plan.items()} for plan in wider_plans(options)]
    assert found == [{}, {"b": 0}, {"b": 0, "a": 1}, {"b": 0, "a": 1, "c": 0}]
    widest = wider_plans(options)[-1]
    smaller = cheaper_plans(widest, options, lambda one: one.table_bytes)
    assert [{n: one.choice for n, one in plan.items()} for plan in smaller] == [
        {"b": 0, "a": 1, "c": 0}, {"b": 0, "a": 0, "c": 0},
    ]  # fmt: skip
    energy = cheaper_plans({}, options, lambda one: 2.0 * one.look_ups, lambda _: 30.0)
    assert {n: one.choice for n, one in energy[-1].items()} == {"b": 0}  # 24 of 30


def test_bisection_finds_the_last_that_keeps() -> None:
    plans: list[Any] = [{}, *({"n": n} for n in range(1, 40))]
    for last in (0, 1, 17, 39):
        tried: list[int] = []

        def keeps(plan: Any, last: int = last, tried: list[int] = tried) -> bool:
            tried.append(plan["n"])
            return plan["n"] <= last

        assert last_within(plans, keeps) == last
        assert len(tried) <= 6


def converted(**budget: Any) -> tuple[Any, nn.Module, nn.Module]:
    model = network()
    exact = copy.deepcopy(model)
    settings = {"inputs": images(2), "choices": CHOICES} | budget
    report = convert_(model, CONFIG, images(1), budget=Budget(**settings))
    return report, model, exact


def test_the_drop_is_kept_and_more_is_converted_with_a_larger_one() -> None:
    shares, tables = [], []
    for drop in (0.05, 0.25, 0.9):
        report, model, exact = converted(drop=drop)
        assert drop_of(model, exact) <= drop
        assert sorted(report.converted) == sorted(layers_of(model))
        for row in report.rows:
            assert row.converted or "the budget leaves it exact (alone, it keeps" in row.reason
            assert row.macs == count_macs(exact, images(1))[row.name]
        shares.append(report.share_of_macs)
        tables.append(sum(row.table_bytes for row in report.rows))
    assert 0 < shares[0] <= shares[1] <= shares[2] == 1
    assert shares[0] < 1
    # With a large drop every layer has its smallest tables.
    only = [
        convert_(network(), LayerConfig.from_dict(CONFIG.to_dict() | choice), images(1)).rows
        for choice in CHOICES
    ]
    assert tables[2] == sum(
        min(one.table_bytes for one in rows) for rows in zip(*only, strict=True)
    )


def test_layers_learned_from_the_exact_network_are_learned_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from halut.nn import layer

    learned: list[str] = []
    learn = layer.HalutLayer.learn

    def counted(self: Any, *args: Any) -> None:
        learned.append(self.kind)
        learn(self, *args)

    monkeypatch.setattr(layer.HalutLayer, "learn", counted)
    model = network()
    budget = Budget(drop=0.3, inputs=images(2), choices=CHOICES)
    report = convert_(model, CONFIG, images(1), sequential=False, budget=budget)
    assert len(learned) == 4 * len(CHOICES)
    exact = network()
    by_hand = {
        row.name: LayerConfig.from_dict(CONFIG.to_dict() | choice)
        for row in report.rows if row.converted
        for choice in CHOICES
        if convert_(network(), {row.name: LayerConfig.from_dict(CONFIG.to_dict() | choice)},
                    images(1)).rows[[r.name for r in report.rows].index(row.name)].n_codebooks
        == row.n_codebooks
    }  # fmt: skip
    convert_(exact, by_hand, images(1), sequential=False)
    for name, value in exact.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_energy_from_metrics_files(tmp_path: Path) -> None:
    files = {}
    for name, metric, value in (
        ("metrics", "look_up", 0.1), ("exact_metrics", "mac", 1.0), ("dear", "look_up", 100.0),
    ):  # fmt: skip
        files[name] = tmp_path / f"{name}.json"
        content = {"kind": "halut-metrics", "metrics": {f"halut__energy__per_{metric}": value}}
        files[name].write_text(json.dumps(content))
    given: dict[str, Any] = {"least": "energy", "exact_metrics": files["exact_metrics"]}
    report, model, exact = converted(drop=0.5, metrics=files["metrics"], **given)
    assert report.converted and drop_of(model, exact) <= 0.5
    with pytest.raises(HalutError, match="drop must allow at least one layer"):
        converted(drop=0.5, metrics=files["dear"], **given)  # no layer saves energy
    for path, message in (
        (tmp_path / "none.json", "metrics must be readable"),
        (files["exact_metrics"], "metrics must have halut__energy__per_look_up"),
    ):
        with pytest.raises(HalutError, match=message):
            Budget(drop=0.1, inputs=images(2), metrics=path, **given)


def test_accuracy_reconstruction_and_held_out_inputs() -> None:
    exact = network()
    with torch.no_grad():
        labels = exact(images(2)).argmax(dim=1)
    labels[:30] = (labels[:30] + 1) % 4  # accuracy 80 %, and more when these are got "right"
    model = copy.deepcopy(exact)
    settings = Reconstruction(block_steps=0, distill_steps=0)
    report = convert_(
        model, CONFIG, images(1), held_out=images(3, 40),
        budget=Budget(
            drop=0.2, inputs=images(2), labels=labels, choices=CHOICES, reconstruction=settings
        ),
    )  # fmt: skip
    with torch.no_grad():
        accuracy = float((model(images(2)).argmax(dim=1) == labels).double().mean())
    assert 0.8 - accuracy <= 0.2
    assert all(row.output_error is not None for row in report.rows if row.converted)


def test_it_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected, _ = converted(drop=0.25)
    add = search_module.Study.add
    for results in (3, 9):
        left = iter(range(results))

        def interrupted(self: Any, result: Any, left: Any = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            add(self, result)

        monkeypatch.setattr(search_module.Study, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(drop=0.25, folder=tmp_path)
    monkeypatch.setattr(search_module.Study, "add", add)
    written = (tmp_path / "budget.jsonl").read_text()
    for _ in range(2):  # the second time nothing is measured
        _, model, _ = converted(drop=0.25, folder=tmp_path)
        assert (tmp_path / "budget.jsonl").read_text().startswith(written)
        written = (tmp_path / "budget.jsonl").read_text()
        for name, value in expected.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(HalutError, match="not of another study"):
        converted(drop=0.25, folder=tmp_path, inputs=images(4))


@pytest.mark.parametrize(("given", "message"), [
    ({"drop": 1.0}, r"drop must be in \[0, 1\), not 1.0"),
    ({"drop": "5 %"}, "drop must be a number"),
    ({"drop": 0.1, "choices": []}, "choices must be at least one mapping"),
    ({"drop": 0.1, "least": "power"}, 'least must be "table_bytes" or "energy"'),
    ({"drop": 0.1, "least": "energy"}, "metrics and exact_metrics must be given"),
    ({"drop": 0.1, "labels": 3}, "labels must be a tensor"),
    ({"drop": 0.1, "labels": torch.zeros(3)}, "labels must be 150"),
    ({"drop": 0.1, "labels": torch.zeros(150)}, "labels must be integers, not torch.float32"),
    ({"drop": 0.1, "labels": torch.full((150,), 4)}, r"a label must be in \[0, 3\], not 4"),
    ({"drop": 0.1, "labels": torch.full((150,), -100)}, r"a label must be in \[0, 3\], not -100"),
    ({"drop": 0.1, "inputs": images(2) / 0}, r"must give finite outputs .*\(batch 0\)"),
    ({"drop": 0.1, "choices": [{"widt": 3}]}, "layer configuration must have known keys"),
])  # fmt: skip
def test_bad_budgets(given: dict[str, Any], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        converted(**given)


def test_the_model_stays_exact_when_nothing_fits() -> None:
    model = network()
    before = list(model.modules())
    labels = network()(images(2)).argmax(dim=1)
    poor = LayerConfig(n_prototypes=2, codebook_width=200, refine_passes=0, ridge=1.0)
    with pytest.raises(HalutError, match="drop must allow at least one layer"):
        convert_(model, poor, images(1), budget=Budget(
            drop=0.0, inputs=images(2), labels=labels, choices=({},)))  # fmt: skip
    assert list(model.modules()) == before


def test_macs_of_every_kind() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({
        "conv": nn.Conv2d(4, 6, 3, padding=1, groups=2), "up": nn.ConvTranspose1d(3, 5, 4),
        "linear": nn.Linear(8, 3), "attention": nn.MultiheadAttention(8, 2),
    })  # fmt: skip

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: torch.Tensor) -> Any:
            y = torch.zeros(7, 2, 8)
            return (
                self.parts["conv"](x), self.parts["up"](torch.zeros(2, 3, 10)),
                self.parts["linear"](y), self.parts["attention"](y, y, y),
            )  # fmt: skip

    assert count_macs(All(), torch.zeros(2, 4, 5, 5)) == {
        "parts.conv": 2 * 25 * 6 * 2 * 9,
        "parts.up": 2 * 10 * 3 * 5 * 4,
        "parts.linear": 14 * 8 * 3,
        "parts.attention": 4 * 14 * 8 * 8,
    }
