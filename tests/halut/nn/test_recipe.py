"""Recipes: each rule is an error with its words; files round-trip; schedules have known values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.recipe import Recipe, Stage, Temperature

RECIPES = sorted(Path("configs/networks").glob("*.yaml"))
SMALL = {"version": 1, "name": "a", "data": "digits", "model": "resnet9"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a b"}, r"name must be letters, digits, _ and -, not 'a b'"),
        ({"seed": -1}, r"seed must be an integer in \[0, 2147483647\], not -1"),
        ({"batch_size": 1}, r"batch_size must be an integer in \[2, 1000000\], not 1"),
        ({"batchsize": 8}, r"not 'batchsize' \(did you mean \"batch_size\"\?\)"),
        ({"n_train": 0}, r"n_train must be an integer"),
        ({"label_smoothing": 2}, r"label_smoothing must be in \[0, 1\], not 2"),
        ({"thresholds_lr": -1}, r"thresholds_lr must be at least 0, not -1"),
        ({"thresholds_lr": float("nan")}, r"thresholds_lr must be at least 0, not nan"),
        ({"mode": "sequental"}, r"mode must be .* \(did you mean \"sequential\"\?\)"),
        ({"layers": "interiors"}, r"layers must be .* \(did you mean \"interior\"\?\)"),
        ({"layers": [1]}, r"layers must be a list of names or patterns, not \[1\]"),
        ({"exclude": "prep.0"}, r"exclude must be a list of names or patterns, not 'prep.0'"),
        ({"base": 3}, r"base must be a mapping, not 3"),
        ({"base": {"lr": 0.1}}, r"base.epochs must be given"),
        ({"base": {"epochs": 1, "lr": "1e-3"}}, r"base.lr must be a number, .*write 1.0e-3"),
        ({"base": {"epochs": 1, "lr": 0}}, r"base.lr must be at least 1e-12, not 0"),
        ({"base": {"epochs": 1.5}}, r"base.epochs must be an integer"),
        ({"base": {"epochs": 1, "warm_up_epochs": 2}}, r"base.warm_up_epochs must be in \[0, 1\]"),
        ({"base": {"epochs": 1, "optimizer": "adamw"}}, r"base.optimizer must be .*\"adam\""),
        ({"fine_tune": {"epochs": 1, "learning": 1}}, r"a field of fine_tune must be one of"),
        ({"augmentation": {"flip": 1}}, r"augmentation.flip must be true or false, not 1"),
        ({"augmentation": {"pixels": 65}}, r"augmentation.pixels must be an integer in \[0, 64\]"),
        ({"distillation": {"weight": 1.1}}, r"distillation.weight must be in \[0, 1\], not 1.1"),
        ({"temperature": {"schedule": "cos"}}, r"temperature.schedule must be"),
        ({"temperature": {"end": 0}}, r"temperature.end must be at least 0.001, not 0"),
        ({"temperature": {"unit": "std"}}, r"temperature.unit must be"),
        ({"temperature": {"over": "epoch"}}, r"temperature.over must be"),
        ({"tables_lr": -1}, r"tables_lr must be at least 0, not -1"),
        ({"channels_last": 1}, r"channels_last must be true or false, not 1"),
        ({"reconstruct": 3}, r"reconstruct must be a mapping, not 3"),
        ({"reconstruct": {"rate": 0}}, r"reconstruct.rate must be greater than 0"),
        ({"layer": {"n_prototypes": 12}}, r"layer.n_prototypes must be"),
        ({"layer": {"lut_bit": 8}}, r"not 'lut_bit' \(did you mean \"lut_bits\"\?\)"),
        ({"lut_bits_from": "start"}, r"lut_bits_from must be"),
        ({"model_options": [1]}, r"model_options must be a mapping, not \[1\]"),
        ({"version": 2}, r"version must be 1, not 2"),
    ],
)
def test_rules(values, message):
    with pytest.raises(HalutError, match=message):
        Recipe.from_dict(SMALL | values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nname: a\ndata: digits\n", r"model must be given \(.*a\.yaml\)"),
        ("name: a\n", r"version must be 1, not None \(.*a\.yaml\)"),
        ("- 1\n", r"a recipe must be a mapping, not list \(.*a\.yaml\)"),
        ("a: [\n", r"must be valid YAML \(.*a\.yaml, line"),
    ],
)
def test_yaml_errors_name_the_file(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(HalutError, match=message):
        Recipe.from_yaml(path)
    with pytest.raises(HalutError, match=r"readable file, not .*missing\.yaml \(No such file"):
        Recipe.from_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_files_are_recipes_and_round_trip(path, tmp_path):
    recipe = Recipe.from_yaml(path)
    assert recipe.name == path.stem
    copy = tmp_path / "copy.yaml"
    copy.write_text(recipe.to_yaml())
    assert Recipe.from_yaml(copy) == recipe
    assert Recipe.from_yaml(copy).hash == recipe.hash
    assert dataclasses.replace(recipe, seed=recipe.seed + 1).hash != recipe.hash
    # A file says only what differs from the defaults of its kind, or names a field on purpose.
    assert set(yaml.safe_load(path.read_text())) <= set(recipe.to_dict())


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {
        "cifar10_resnet9", "digits_resnet9", "digits_resnet9_int8", "shapes_smoke"
    }  # fmt: skip


def test_parts_are_objects():
    with pytest.raises(HalutError, match="base must be a Stage, not 3"):
        Recipe(name="a", data="shapes", model="resnet9", base=3)
    with pytest.raises(HalutError, match=r"layer must be a LayerConfig, not \{\}"):
        Recipe(name="a", data="shapes", model="resnet9", layer={})


def test_cifar10_follows_the_paper():
    recipe = Recipe.from_yaml("configs/networks/cifar10_resnet9.yaml")
    assert (recipe.mode, recipe.layers, recipe.thresholds_lr) == ("sequential", "interior", 0.5)
    assert recipe.layer == LayerConfig(n_prototypes=16, lut_bits=8, input_format="fp16")
    assert recipe.model_options == {}  # 64 channels


def test_learning_rate():
    stage = Stage(epochs=4, lr=2.0, warm_up_epochs=1)
    rates = [stage.lr_at(step, 3) for step in range(12)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.1
    assert Stage(epochs=2, lr=1.0).lr_at(2, 2) == pytest.approx(0.5)


def test_temperature():
    linear = Temperature(schedule="linear", start=1.0, end=0.2)
    assert [linear.at(done) for done in (0, 0.5, 1)] == pytest.approx([1.0, 0.6, 0.2])
    cosine = Temperature(schedule="cosine", start=1.0, end=0.2)
    assert [cosine.at(done) for done in (0, 0.5, 1)] == pytest.approx([1.0, 0.6, 0.2])
    assert cosine.at(0.25) > linear.at(0.25)
    assert Temperature(start=0.5, end=0.1).at(1) == Temperature(schedule="trained", start=0.5).at(1)
