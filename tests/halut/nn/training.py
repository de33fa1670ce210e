"""A training run of seconds, and what its tests share."""

from __future__ import annotations

import torch

from halut.nn import LayerConfig
from halut.nn.network import load_network
from halut.nn.recipe import Augmentation, Distillation, Recipe, Stage, Temperature

SMALL = Recipe(
    name="small",
    data="shapes",
    n_train=64,
    n_test=20,
    model="resnet9",
    model_options={"width": 2},
    batch_size=32,
    augmentation=Augmentation(pixels=1, flip=True),
    base=Stage(epochs=2, lr=0.01, weight_decay=0.01),
    replace=Stage(epochs=2, lr=0.002),
    fine_tune=Stage(epochs=2, lr=0.002),
    layers=("layer2.*", "residual2.body.1.*"),
    layer=LayerConfig(
        n_prototypes=4, max_rows=512, refine_passes=0, ridge=1.0, input_format="int8"
    ),
    calibration_images=32,
    distillation=Distillation(weight=0.5, temperature=2),
    temperature=Temperature(schedule="cosine", start=1.0, end=0.5),
)


class Stop(Exception):
    """Raised in the middle of a run."""


def stop_after(n_epochs):
    def stop(entry, seen=[]):  # noqa: B006
        seen.append(entry)
        if len(seen) == n_epochs:
            raise Stop

    return stop


def state(folder, name="network.pt"):
    model, _ = load_network(folder / name)
    return model.state_dict()


def assert_equal_states(first, second):
    assert list(first) == list(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


def watched_rates(monkeypatch) -> list[list[tuple[float, int]]]:
    """Rate and number of parameters of every group, at every step that AdamW takes from now on."""
    groups: list[list[tuple[float, int]]] = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        groups.append([(group["lr"], len(group["params"])) for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    return groups
