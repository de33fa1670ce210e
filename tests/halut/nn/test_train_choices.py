"""Training: what validation inputs choose, parts of batches, precision, code that files name."""

from __future__ import annotations

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.network import load_data, load_network  # noqa: E402
from halut.nn.recipe import (  # noqa: E402
    Augmentation,
    Distillation,
    Stage,
    Temperature,
    Validation,
)
from halut.nn.train import train  # noqa: E402
from tests.halut.nn.training import SMALL, Stop, assert_equal_states, state, stop_after  # noqa: E402

CHOOSING = dataclasses.replace(
    SMALL,
    validation=Validation(n_inputs=16, keep="best", patience=1),
    base=Stage(epochs=6, lr=0.05),
    layer_settings={"layer2.*": {"lut_bits": 4}},
)


def test_validation_chooses_and_ends_stages(tmp_path):
    """The best epoch's network is kept; the test images are looked at once per stage."""
    summary = train(CHOOSING, tmp_path)
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert history and all("test_accuracy" not in entry for entry in history)
    assert summary["n_validation"] == 16 and summary["n_train"] == 48
    ended = 0
    for stage in summary["stages"]:
        mine = [entry for entry in history if entry["stage"] == stage["name"]]
        best = max(mine, key=lambda e: (e["validation_accuracy"], -e["validation_loss"]))
        assert stage["best_epoch"] == best["epoch"]
        assert stage["epochs"] == len(mine) <= best["epoch"] + 1
        ended += len(mine) < (6 if stage["name"] == "base" else 2)
    assert ended  # at least one ended early
    assert next(entry["step"] for entry in history if entry["stage"] == "fine-tune") == 1 + 10
    base, header = load_network(tmp_path / "base.pt")
    data = load_data(header)
    with torch.no_grad():
        right = (base(data.test_x).argmax(dim=1) == data.test_y).double().mean().item()
    assert right == pytest.approx(summary["base_accuracy"])
    model, _ = load_network(tmp_path / "network.pt")
    assert [layer.config.lut_bits for layer in layers_of(model).values()] == [4, 8]


def test_an_interrupted_choice_goes_on_to_the_same(tmp_path):
    train(CHOOSING, tmp_path / "whole")
    with pytest.raises(Stop):
        train(CHOOSING, tmp_path / "parts", on_epoch=stop_after(2))
    train(CHOOSING, tmp_path / "parts", resume=True)
    assert_equal_states(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_parts_of_a_batch_add_up(tmp_path):
    """Without batch norm in between, gradients of parts are those of the batch."""
    recipe = dataclasses.replace(
        SMALL, base=Stage(epochs=1), replace=Stage(epochs=0), fine_tune=Stage(epochs=0),
        augmentation=Augmentation(), model={"import": f"{__name__}:plain_network"},
        model_options={}, layers=["2"], distillation=Distillation(weight=0),
    )  # fmt: skip
    states = []
    for parts in (1, 4):
        train(dataclasses.replace(recipe, accumulate=parts), tmp_path / str(parts))
        imports = [f"{__name__}:plain_network"]
        states.append(load_network(tmp_path / str(parts) / "base.pt", imports=imports)[0])
    for one, other in zip(states[0].parameters(), states[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def plain_network(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 4), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.Flatten(),
        nn.Linear(36, n_classes),
    )  # fmt: skip


def signals():
    x = torch.randn(64, 2, 12, generator=torch.Generator().manual_seed(1))
    return {"train_x": x, "train_y": torch.arange(64) % 3}


class OneDimension(nn.Sequential):
    def __init__(self, n_classes):
        super().__init__(
            nn.Conv1d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(80, n_classes),
        )  # fmt: skip


class Words(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.embed = nn.Embedding(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, n_classes)

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)).mean(dim=1))


def words():
    tokens = torch.randint(0, 8, (64, 5), generator=torch.Generator().manual_seed(1))
    return {"train_x": tokens, "train_y": tokens[:, 0] % 2}


@pytest.mark.parametrize(
    ("data", "model", "layers"),
    [
        ("signals", "OneDimension", ["0.layer", "2.layer", "5"]),
        (
            "words",
            "Words",
            [
                *(f"block.self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
                "block.linear1",
                "block.linear2",
                "head",
            ],
        ),
    ],
)
def test_other_inputs_than_images(tmp_path, data, model, layers):
    """Layers that stand inside others have the recipe's settings, and their runs are resumed."""
    as_is = {"as_is": True} if data == "signals" else {}
    recipe = dataclasses.replace(
        SMALL, n_train=None, n_test=None, data={"import": f"{__name__}:{data}"} | as_is,
        model={"import": f"{__name__}:{model}"}, model_options={}, layers="all",
        augmentation=Augmentation(), lut_bits_from="fine_tune",
        temperature=Temperature(schedule="cosine", start=0.4, end=0.1, unit="spread"),
        layer=dataclasses.replace(SMALL.layer, lut_bits=6),
        layer_settings={"*": {"codebook_width": 2}},
    )  # fmt: skip
    train(recipe, tmp_path / "whole")
    imports = [f"{__name__}:{model}", f"{__name__}:{data}"]
    found, header = load_network(tmp_path / "whole" / "network.pt", imports=imports)
    assert list(layers_of(found)) == layers
    assert {layer.config.lut_bits for layer in layers_of(found).values()} == {6}
    assert all(
        layer.temperature.item() != pytest.approx(0.1) for layer in layers_of(found).values()
    )
    assert torch.isfinite(found(load_data(header, imports=imports).test_x)).all()
    for epochs in (3, 5):
        with pytest.raises(Stop):
            train(recipe, tmp_path / "part", resume=epochs > 3, on_epoch=stop_after(epochs - 2))
    train(recipe, tmp_path / "part", resume=True)
    for name in ("whole", "part"):
        load_network(tmp_path / name / "network.pt", imports=imports)
    assert_equal_states(
        *(
            load_network(tmp_path / name / "network.pt", imports=imports)[0].state_dict()
            for name in ("whole", "part")
        )
    )


def few(in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 3, 16), nn.Flatten(), nn.LazyLinear(4))


def maps(in_channels):
    return nn.Conv2d(in_channels, 10, 3)


@pytest.mark.parametrize(("model", "shape"), [("few", r"\(1, 4\)"), ("maps", r"\(1, 10, 30, 30\)")])
def test_networks_that_are_no_classifiers_of_the_data(tmp_path, model, shape):
    recipe = dataclasses.replace(SMALL, model={"import": f"{__name__}:{model}"}, model_options={})
    message = rf"model must return logits of shape \(1, at least \d+\), not Tensor of shape {shape}"
    with pytest.raises(HalutError, match=message):
        train(recipe, tmp_path / "run")


def test_layers_that_cannot_be_converted_are_named(tmp_path):
    recipe = dataclasses.replace(
        SMALL, base=Stage(epochs=0), model={"import": f"{__name__}:OwnForward"}, model_options={},
        layers="all", mode="simultaneous",
    )  # fmt: skip
    with pytest.raises(HalutError, match=r"layers must be ones .*, not 0 \(its class Own has a "):
        train(recipe, tmp_path)


class Own(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnForward(nn.Sequential):
    def __init__(self, in_channels, n_classes):
        super().__init__(Own(in_channels, 4, 3, 4), nn.Flatten(), nn.Linear(256, n_classes))


def test_code_that_a_file_names_must_be_permitted(tmp_path):
    recipe = dataclasses.replace(
        SMALL, base=Stage(epochs=0), replace=Stage(epochs=0), fine_tune=Stage(epochs=0),
        model={"import": f"{__name__}:plain_network"}, model_options={}, layers=["2"],
    )  # fmt: skip
    train(recipe, tmp_path)
    with pytest.raises(HalutError, match=r"plain_network must be permitted .*--import"):
        load_network(tmp_path / "network.pt")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision(tmp_path, precision):
    recipe = dataclasses.replace(SMALL, precision=precision, gradient_clip=0.5)
    summary = train(recipe, tmp_path)
    assert 0 <= summary["final_accuracy"] <= 1
    model, _ = load_network(tmp_path / "network.pt")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not torch.equal(*(load_network(tmp_path / name)[0].state_dict()["prep.0.weight"]
                             for name in ("network.pt", "base.pt")))  # fmt: skip


def test_gradients_are_clipped(tmp_path, monkeypatch):
    seen = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *args: seen.append(args[1]) or clip(*args)
    )
    train(dataclasses.replace(SMALL, gradient_clip=0.25), tmp_path)
    assert seen == [0.25] * 16
