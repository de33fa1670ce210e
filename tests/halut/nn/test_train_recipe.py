"""Training: the exact twin, a base that another run trained, temperatures, rates, memory format."""

from __future__ import annotations

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.__main__ import main  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn.deviation import Comparison  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.network import load_data, load_network  # noqa: E402
from halut.nn.recipe import Recipe, Stage, Temperature  # noqa: E402
from halut.nn.reconstruct import Reconstruction  # noqa: E402
from halut.nn.train import train  # noqa: E402
from tests.halut.nn.training import (  # noqa: E402
    SMALL,
    Stop,
    assert_equal_states,
    state,
    stop_after,
    watched_rates,
)

QUICK = dataclasses.replace(
    SMALL, base=Stage(epochs=1, lr=0.01), replace=Stage(epochs=1), fine_tune=Stage(epochs=1)
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    train(QUICK, folder)
    return folder


def test_the_exact_network_is_trained_for_as_many_epochs(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.to_yaml())
    output = str(tmp_path / "run")
    assert main(["train", str(path), "--exact", "-o", output]) == 0
    assert "base     8 epochs" in capsys.readouterr().out
    recipe = Recipe.from_yaml(tmp_path / "run" / "recipe.yaml")
    assert (recipe.name, recipe.layers, recipe.base) == (
        "small_exact", "none", dataclasses.replace(SMALL.base, epochs=2 + 2 * 2 + 2)
    )  # fmt: skip
    history = [json.loads(line) for line in (tmp_path / "run/history.jsonl").open()]
    assert [entry["stage"] for entry in history] == ["base"] * 8
    rates = [entry["lr"] for entry in history]
    assert rates == sorted(rates, reverse=True)  # one schedule
    assert not layers_of(load_network(tmp_path / "run" / "network.pt")[0])
    with pytest.raises(HalutError, match="without a run of another recipe"):
        train(SMALL, output)


def test_a_base_is_taken_as_if_the_run_had_trained_it(quick, tmp_path):
    four = dataclasses.replace(QUICK, layer=dataclasses.replace(QUICK.layer, lut_bits=4))
    train(four, tmp_path / "whole")
    with pytest.raises(Stop):
        train(four, tmp_path / "taken", base=quick, on_epoch=stop_after(1))
    summary = train(four, tmp_path / "taken", base=quick)
    assert [stage["epochs"] for stage in summary["stages"]] == [1, 1, 1, 1]
    for name in ("base.pt", "network.pt"):
        assert_equal_states(state(tmp_path / "whole", name), state(tmp_path / "taken", name))
    train(dataclasses.replace(four, name="again"), tmp_path / "again", base=tmp_path / "taken")
    assert_equal_states(state(tmp_path / "whole"), state(tmp_path / "again"))


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"base": Stage(epochs=2, lr=0.01)}, {"batch_size": 16}, {"channels_last": True}],
)
def test_a_base_of_other_settings_is_refused(quick, tmp_path, changes):
    with pytest.raises(HalutError, match="exact network is trained by the same settings"):
        train(dataclasses.replace(QUICK, **changes), tmp_path, base=quick)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_base_must_be_there(tmp_path):
    with pytest.raises(HalutError, match=r"base must be the folder of a run with after-base\.pt"):
        train(QUICK, tmp_path / "run", base=tmp_path / "nothing")


def test_temperatures_follow_the_spread_and_begin_anew_in_every_stage(tmp_path, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        seen.append([float(layer.temperature) for layer in layers_of(model[0]).values()])
        return step(self, *args, **kwargs)

    model = []
    monkeypatch.setattr(
        "halut.nn.train.set_temperatures",
        lambda *args: model.append(args[0]) or _set_temperatures(*args),
    )
    from halut.nn.optimise import set_temperatures as _set_temperatures

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    schedule = Temperature(schedule="linear", start=1.0, end=0.25, unit="spread", over="stage")
    recipe = dataclasses.replace(QUICK, replace=Stage(epochs=2), temperature=schedule)
    with pytest.raises(Stop):
        train(recipe, tmp_path / "parts", on_epoch=stop_after(3))
    train(recipe, tmp_path / "parts")
    seen.clear()
    model.clear()
    train(recipe, tmp_path / "whole")
    assert_equal_states(state(tmp_path / "whole"), state(tmp_path / "parts"))
    per_stage = [seen[2:6], seen[6:10], seen[10:12]]  # of 2 steps per epoch
    for stage in per_stage:
        first, last = stage[0], stage[-1]
        assert [a / b for a, b in zip(first, last, strict=True)] == pytest.approx([4.0] * len(last))
    units = per_stage[2][0]
    assert all(unit > 0 for unit in units) and len(set(units)) == 2


def test_rates_of_tables_and_norms(tmp_path, monkeypatch):
    groups = watched_rates(monkeypatch)
    recipe = dataclasses.replace(
        QUICK, replace=Stage(epochs=1, lr=0.01), fine_tune=Stage(epochs=0), layers=("layer2.*",),
        tables_lr=3.0, norms_lr=0.1,
    )  # fmt: skip
    train(recipe, tmp_path)
    assert groups[0] == [(0.01, 9), (0.01, 8 * 2 + 1)]  # the base
    assert groups[2] == [
        (0.01, 8),
        (pytest.approx(0.001), 8 * 2 + 1 + 1),
        (pytest.approx(0.03), 1),
        (0.005, 1),
    ]


def test_channels_last(quick, tmp_path):
    recipe = dataclasses.replace(QUICK, channels_last=True)
    with pytest.raises(Stop):
        train(recipe, tmp_path / "parts", on_epoch=stop_after(2))
    train(recipe, tmp_path / "parts")
    train(recipe, tmp_path / "whole")
    assert_equal_states(state(tmp_path / "whole"), state(tmp_path / "parts"))
    for name, value in state(quick, "base.pt").items():
        assert torch.allclose(value, state(tmp_path / "whole", "base.pt")[name], atol=1e-3), name


def test_reconstruction_brings_new_layers_near_the_exact_network(tmp_path):
    untrained = dataclasses.replace(
        QUICK, replace=Stage(epochs=0), fine_tune=Stage(epochs=0), mode="simultaneous"
    )
    errors = []
    for settings in (None, Reconstruction(block_steps=20, distill_steps=20, batch_size=8)):
        folder = tmp_path / str(len(errors))
        recipe = dataclasses.replace(untrained, reconstruct=settings)
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        train(recipe, folder)
        base, header = load_network(folder / "base.pt")
        model, _ = load_network(folder / "network.pt")
        found = Comparison(base.eval(), [load_data(header).train_x]).of(model.eval())
        errors.append(found.output_error)
        assert {float(layer.temperature) for layer in layers_of(model).values()} == {1.0}
    assert errors[1] < errors[0]
