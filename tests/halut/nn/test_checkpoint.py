"""Checkpoints: what they hold, the state that comes back from one, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, LayerConfig  # noqa: E402
from halut.nn.checkpoint import State, read  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.plan import stages  # noqa: E402
from halut.nn.recipe import Distillation, Recipe, Stage  # noqa: E402
from halut.nn.replace import replace_module  # noqa: E402

LAYER = "layer2.0"
RECIPE = Recipe(
    name="small",
    data="shapes",
    model="resnet9",
    model_options={"width": 2},
    base=Stage(epochs=1),
    layers=(LAYER,),
    layer=LayerConfig(n_prototypes=4, input_format="int8"),
    distillation=Distillation(weight=0.0, temperature=2.0),
)


def fresh(seed: int) -> State:
    torch.manual_seed(seed)
    kwargs = {"width": 2}
    return State(RECIPE, stages(RECIPE, [LAYER]), build("resnet9", **kwargs), kwargs)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, State]:
    """A run within its second stage: a layer is replaced, and something was learned."""
    state = fresh(0)
    state.set_teacher(build("resnet9", width=2))
    exact = state.model.get_submodule(LAYER)
    replace_module(
        state.model,
        LAYER,
        HalutConv2d(exact.in_channels, exact.out_channels, 3, padding=1, bias=False,
                    config=RECIPE.layer),
    )  # fmt: skip
    state.progress.stage, state.progress.prepared, state.errors = 1, True, {LAYER: 0.5}
    state.begin_stage()
    state.model(torch.randn(4, 3, 32, 32)).sum().backward()
    state.optimizer.step()
    torch.rand(3, generator=state.generator)
    path = tmp_path / "checkpoint.pt"
    state.save(path, 1)
    return path, state


def test_the_state_comes_back(written: tuple[Path, State]) -> None:
    path, state = written
    drawn = torch.rand(3)
    other = fresh(1)
    assert other.restore(read(path), path) == 1
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(other.generator.get_state(), state.generator.get_state())
    assert (other.progress, other.errors) == (state.progress, state.errors)
    pairs = [(state.model, other.model), (state.teacher, other.teacher)]
    for one, two in pairs:
        assert isinstance(two, nn.Module)
        wanted, found = one.state_dict(), two.state_dict()
        assert list(wanted) == list(found)
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    steps = [each.optimizer.state_dict()["state"] for each in (state, other)]
    assert steps[0] and str(steps[0]) == str(steps[1])


def test_files_of_earlier_versions_fit(written: tuple[Path, State]) -> None:
    """What a checkpoint holds; a run must go on from files that were written so."""
    content = torch.load(written[0], weights_only=True)
    assert (content["kind"], content["version"]) == ("halut-training", 1)
    assert list(content) == [
        "kind", "version", "recipe", "processes", "progress", "errors", "handled", "identities",
        "attentions", "layers", "model", "teacher", "optimizer", "generator", "random",
    ]  # fmt: skip
    assert list(content["progress"]) == [
        "stage", "prepared", "epoch", "step", "seconds", "history", "stages",
    ]  # fmt: skip
    wanted = "c5c6dbd86a2b40464b53dbdaacfe033335ba5b16f7dc906dc4cf9dc2b003c885"
    assert content["recipe"] == wanted
    assert list(content["layers"]) == [LAYER]
    assert list(content["layers"][LAYER]) == ["geometry", "config", "input_bits", "raw_output"]
    for name in ("handled", "identities", "attentions"):  # earlier files lack these
        del content[name]
    for name in ("input_bits", "raw_output"):
        del content["layers"][LAYER][name]
    earlier = fresh(1)
    earlier.restore(content, written[0])
    for name, value in written[1].model.state_dict().items():
        assert torch.equal(value, earlier.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stage", 5, r"stage 5 of 3"),
        ("optimizer", {}, r""),
        ("processes", "one", r"invalid literal"),
        ("progress", None, r""),
        ("layers", {"nowhere": {}}, r"geometry and config of a layer must be whole"),
        ("model", {}, r".*Missing key"),
    ],
)
def test_odd_content(written: tuple[Path, State], key: str, value: Any, message: str) -> None:
    path = written[0]
    content = read(path)
    (content["progress"] if key == "stage" else content)[key] = value
    with pytest.raises(HalutError, match=rf"checkpoint must fit its recipe: {message}.*point\.pt"):
        fresh(1).restore(content, path)
    with pytest.raises(HalutError, match=r"checkpoint must fit its recipe: 'progress' \(.*\.pt\)"):
        fresh(1).restore({}, path)


def foreign(path, kind):
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "mapping":
        torch.save({"model": {}}, path)
    elif kind == "code":
        torch.save({"kind": "halut-training", "call": print}, path)
    elif kind == "version":
        torch.save({"kind": "halut-training", "version": 99}, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", r"file must be an undamaged checkpoint of a training run"),
        ("empty", r"file must be an undamaged checkpoint of a training run"),
        ("tensor", r"file must be a checkpoint of a training run of kind"),
        ("mapping", r"file must be a checkpoint of a training run of kind"),
        ("code", r"file must be an undamaged checkpoint of a training run"),
        ("version", r"version of a checkpoint of a training run must be 1, not 99"),
    ],
)
def test_foreign_checkpoints(tmp_path, kind, message):
    foreign(tmp_path / "checkpoint.pt", kind)
    with pytest.raises(HalutError, match=message + r".*checkpoint\.pt\)"):
        read(tmp_path / "checkpoint.pt")


def test_damaged_files(written: tuple[Path, State]) -> None:
    path = written[0]
    content = path.read_bytes()
    weight = max(written[1].model.parameters(), key=torch.numel).detach().numpy().tobytes()
    place = content.index(weight) + len(weight) // 2
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for damaged in (content[:place], flipped):
        path.write_bytes(damaged)
        with pytest.raises(HalutError, match=r"file must be an undamaged checkpoint"):
            read(path)
