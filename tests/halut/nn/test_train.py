"""Training: what a run writes, resuming to the same bits, several processes, and bad input."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.errors import CheckFailed, HalutError  # noqa: E402
from halut.files import locked  # noqa: E402
from halut.nn import HalutLayer  # noqa: E402
from halut.nn.network import load_data, load_network  # noqa: E402
from halut.nn.recipe import (  # noqa: E402
    Distillation,
    Recipe,
    Stage,
    Temperature,
    Validation,
)
from halut.nn.train import train  # noqa: E402
from tests.halut.nn.training import (  # noqa: E402
    SMALL,
    Stop,
    assert_equal_states,
    state,
    stop_after,
    watched_rates,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(SMALL, folder)


def test_a_run_leaves_its_files(whole):
    folder, summary = whole
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert Recipe.from_yaml(folder / "recipe.yaml") == SMALL
    assert summary["recipe_hash"] == SMALL.hash
    names = ["base", "replace layer2.0", "replace residual2.body.1.0", "fine-tune"]
    assert [stage["name"] for stage in summary["stages"]] == names
    assert summary["layers"] == ["layer2.0", "residual2.body.1.0"]
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [(entry["stage"], entry["epoch"]) for entry in history] == [
        (name, epoch) for name in names for epoch in (1, 2)
    ]
    assert [entry["step"] for entry in history] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert summary["final_accuracy"] == history[-1]["test_accuracy"]
    assert summary["base_accuracy"] == history[1]["test_accuracy"]
    assert summary["seconds"] >= history[-1]["seconds"] > 0
    assert not list(folder.glob(".*"))  # no temporary file


def test_the_network_file_has_the_summarys_accuracy(whole):
    folder, summary = whole
    model, header = load_network(folder / "network.pt")
    layers = [name for name, one in model.named_modules() if isinstance(one, HalutLayer)]
    assert layers == summary["layers"]
    assert all(model.get_submodule(name).exact for name in layers)
    data = load_data(header)
    with torch.no_grad():
        right = (model(data.test_x).argmax(dim=1) == data.test_y).double().mean().item()
    assert right == pytest.approx(summary["final_accuracy"], abs=1e-9)
    base, _ = load_network(folder / "base.pt")
    assert not any(isinstance(one, HalutLayer) for one in base.modules())
    assert sum(isinstance(one, nn.Conv2d) for one in base.modules()) == 8


def test_scalars_are_written(whole):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (pip install -e .[torch])",
    )
    events = accumulator.EventAccumulator(str(whole[0] / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "lr", "test_accuracy", "train_accuracy"}
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize("epochs", [(1,), (2,), (3,), (4, 2), (7,)])
def test_an_interrupted_run_ends_with_the_same_bits(whole, tmp_path, epochs):
    for n_epochs in epochs:
        with pytest.raises(Stop):
            train(SMALL, tmp_path, on_epoch=stop_after(n_epochs))
        assert not (tmp_path / "network.pt").exists()
    summary = train(SMALL, tmp_path, resume=True)
    assert_equal_states(state(tmp_path), state(whole[0]))
    assert_equal_states(state(tmp_path, "base.pt"), state(whole[0], "base.pt"))

    def timeless(folder):
        lines = (folder / "history.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert timeless(tmp_path) == timeless(whole[0])
    assert summary["stages"] == whole[1]["stages"]


def test_a_finished_run_is_not_repeated(whole):
    folder, summary = whole
    before = (folder / "checkpoint.pt").stat().st_mtime_ns
    assert train(SMALL, folder) == summary
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == before


def test_another_seed_gives_another_network(whole, tmp_path):
    quick = dataclasses.replace(SMALL, seed=1)
    with pytest.raises(Stop):
        train(quick, tmp_path, on_epoch=stop_after(1))
    first = json.loads((tmp_path / "history.jsonl").read_text())
    assert (
        first["loss"]
        != json.loads((whole[0] / "history.jsonl").read_text().splitlines()[0])["loss"]
    )


def start(folder, *more, env=None):
    recipe = folder / "r.yaml"
    if not recipe.exists():
        recipe.write_text(SMALL.to_yaml())
    command = [sys.executable, *more, "-m", "halut", "train", str(recipe), "-o", str(folder / "o")]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def await_history(folder, n_epochs, process):
    history = folder / "o" / "history.jsonl"
    deadline = time.monotonic() + 100
    while not history.exists() or len(history.read_text().splitlines()) < n_epochs:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_9_leaves_a_usable_checkpoint(whole, tmp_path):
    process = start(tmp_path)
    await_history(tmp_path, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    train(SMALL, tmp_path / "o", resume=True)
    assert_equal_states(state(tmp_path / "o"), state(whole[0]))


def test_a_full_disk_leaves_the_previous_checkpoint(whole, tmp_path, monkeypatch):
    with pytest.raises(Stop):
        train(SMALL, tmp_path, on_epoch=stop_after(2))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    write = Path.write_bytes

    def full(path, content):
        write(path, bytes(content)[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HalutError, match=r"output must be writable: No space left on device"):
        train(SMALL, tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    train(SMALL, tmp_path)
    assert_equal_states(state(tmp_path), state(whole[0]))


def start_two(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        start(folder, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def finish_two(folder):
    both = start_two(folder)
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return said


def test_two_processes_train_together(tmp_path):
    said = finish_two(tmp_path)
    assert ["wrote" in one for one in said] == [True, False]
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert summary["processes"] == 2
    assert len((tmp_path / "o" / "history.jsonl").read_text().splitlines()) == 8
    model, header = load_network(tmp_path / "o" / "network.pt")
    data = load_data(header)
    with torch.no_grad():
        logits = model(data.test_x)
    loss = nn.functional.cross_entropy(logits, data.test_y).item()
    right = (logits.argmax(dim=1) == data.test_y).double().mean().item()
    # Each process tested its share with the network that is in the file.
    assert summary["stages"][-1]["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert right == pytest.approx(summary["final_accuracy"], abs=1e-9)


@pytest.mark.slow
def test_two_interrupted_processes_end_with_the_same_bits(tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    finish_two(tmp_path / "whole")
    both = start_two(tmp_path / "cut")
    await_history(tmp_path / "cut", 3, both[0])
    for process in both:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish_two(tmp_path / "cut")
    assert_equal_states(state(tmp_path / "cut" / "o"), state(tmp_path / "whole" / "o"))


def test_simultaneous_without_distillation(tmp_path):
    recipe = dataclasses.replace(
        SMALL,
        mode="simultaneous",
        distillation=Distillation(weight=0),
        base=Stage(epochs=1, optimizer="sgd", lr=0.05, warm_up_epochs=0.5),
        replace=Stage(epochs=1),
        fine_tune=Stage(epochs=0),
    )
    summary = train(recipe, tmp_path)
    assert [stage["name"] for stage in summary["stages"]] == ["base", "replace", "fine-tune"]
    assert set(summary["stages"][1]["layer_errors"]) == {"layer2.0", "residual2.body.1.0"}


@pytest.mark.parametrize(
    ("moments", "replaced", "tuned", "final"),
    [
        (("replace", "replace"), (8, "int8"), (8, "int8"), (8, "int8")),
        (("replace", "fine_tune"), (8, None), (8, "int8"), (8, "int8")),
        (("fine_tune", "end"), (None, None), (8, None), (8, "int8")),
    ],
)
def test_formats_begin_when_the_recipe_says(tmp_path, moments, replaced, tuned, final):
    recipe = dataclasses.replace(
        SMALL,
        layers=("residual2.body.1.*",),
        lut_bits_from=moments[0],
        input_format_from=moments[1],
        base=Stage(epochs=0),
        replace=Stage(epochs=1),
        fine_tune=Stage(epochs=1),
    )
    seen = []

    def look(_):
        content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        (entry,) = content["layers"].values()
        seen.append((entry["config"]["lut_bits"], entry["config"]["input_format"]))

    train(recipe, tmp_path, on_epoch=look)
    assert seen == [replaced, tuned]
    model, _ = load_network(tmp_path / "network.pt")
    (layer,) = (one for one in model.modules() if isinstance(one, HalutLayer))
    assert (layer.config.lut_bits, layer.config.input_format) == final


def test_rates_and_temperatures(tmp_path, monkeypatch):
    """Thresholds learn at half the rate; a trained temperature moves, a scheduled one arrives."""
    groups = watched_rates(monkeypatch)
    recipe = dataclasses.replace(
        SMALL,
        base=Stage(epochs=1),
        replace=Stage(epochs=1, lr=0.01),
        fine_tune=Stage(epochs=0),
        layers=("layer2.*",),
        temperature=Temperature(schedule="trained", start=0.7, lr=3.0),
    )
    train(recipe, tmp_path / "trained")
    assert groups[2] == [
        (0.01, 8),  # seven convolutions and the classifier
        (0.01, 8 * 2 + 1 + 2),  # batch norms, the classifier's bias, tables and their bias
        (0.005, 1),
        (pytest.approx(0.03), 1),
    ]
    (moved,) = (one for name, one in state(tmp_path / "trained").items() if "temperature" in name)
    assert moved != 0.7 and abs(moved - 0.7) < 0.2
    scheduled = dataclasses.replace(
        recipe, temperature=Temperature(schedule="linear", start=0.7, end=0.2)
    )
    train(scheduled, tmp_path / "linear")
    (last,) = (one for name, one in state(tmp_path / "linear").items() if "temperature" in name)
    assert last == pytest.approx(0.2)


BUSY = "output must not be used by another run, but one works in it"


def test_two_runs_in_one_folder_do_not_mix(whole, tmp_path):
    refused = []

    def second(_):
        with pytest.raises(HalutError, match=BUSY) as caught:
            train(SMALL, tmp_path)
        refused.append(str(caught.value))

    train(SMALL, tmp_path, on_epoch=second)
    assert refused == [f"{BUSY} ({tmp_path})"] * 8
    assert_equal_states(state(tmp_path), state(whole[0]))
    train(SMALL, tmp_path)  # the folder is free again


def test_a_second_run_of_two_processes_is_refused(tmp_path):
    (tmp_path / "o").mkdir()
    with locked(tmp_path / "o"):
        both = start_two(tmp_path)
        said = both[0].communicate(timeout=100)[0]
        both[1].kill()  # as torchrun does
        both[1].communicate()
    assert both[0].returncode == 2
    assert said.splitlines()[-1] == f"error: {BUSY} ({tmp_path / 'o'})"
    assert not list((tmp_path / "o").iterdir())


# Bad input


def test_a_foreign_checkpoint_ends_the_run(tmp_path):
    (tmp_path / "checkpoint.pt").write_text("hello")
    with pytest.raises(HalutError, match="file must be an undamaged checkpoint of a training run"):
        train(SMALL, tmp_path)


def test_a_checkpoint_without_a_recipe_is_that_of_another(tmp_path):
    torch.save({"kind": "halut-training", "version": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(HalutError, match="output must be a folder without a run of another recipe"):
        train(SMALL, tmp_path)


def test_folder_of_another_recipe(whole):
    with pytest.raises(HalutError, match=r"output must be a folder without a run of another recip"):
        train(dataclasses.replace(SMALL, seed=5), whole[0])


def test_nothing_to_resume(tmp_path):
    with pytest.raises(HalutError, match=r"--resume must be given a folder with checkpoint.pt"):
        train(SMALL, tmp_path / "o", resume=True)
    assert not (tmp_path / "o").exists()


def test_a_loss_that_is_not_finite_names_the_layer(tmp_path, monkeypatch):
    forward = nn.Conv2d.forward

    def broken(self, x):
        y = forward(self, x)
        return y * math.nan if self.training and self.out_channels == 8 else y

    monkeypatch.setattr(nn.Conv2d, "forward", broken)
    with pytest.raises(
        CheckFailed, match=r"loss must be finite, not nan \(base, epoch 1, step 1; .*layer2\.0\)"
    ):
        train(SMALL, tmp_path)


def test_activations_that_are_not_finite_name_the_layer(tmp_path, monkeypatch):
    """A tree takes NaN for an answer: the loss alone would not show it."""
    forward = nn.BatchNorm2d.forward

    def broken(self, x):
        y = forward(self, x)
        return y * math.inf if not self.training and self.num_features == 4 else y

    monkeypatch.setattr(nn.BatchNorm2d, "forward", broken)
    with pytest.raises(CheckFailed, match=r"activations must be finite, .*\(layer layer1\.1\)"):
        train(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 65}, r"batch_size must be at most the 64 training images, not 65"),
        ({"layers": ("layer9.*",)}, r"layers must match layers of the model \(prep.0, .*layer9"),
        ({"exclude": ("x",)}, r"exclude must match layers of the model \(prep.0, .*not 'x'"),
        ({"exclude": ("*",)}, r"layers must leave at least one layer to replace, not none"),
        ({"model": "resnet8"}, r"model must be one of .* \(did you mean \"resnet9\"\?\)"),
        ({"data": "shape"}, r"data must be one of .* \(did you mean \"shapes\"\?\)"),
        ({"model_options": {"width": 0}}, r"width must be an integer"),
        (
            {"model_options": {"in_channels": 1}},
            r"model must take the inputs that it is given: .*channels",
        ),
        ({"data": "cifar10"}, r"data must be a folder with data_batch_1"),
        ({"accumulate": 20}, "accumulate must leave at least 2 inputs per part"),
        ({"layer_settings": {"layer9.*": {"lut_bits": 4}}}, "layer_settings must match layers"),
        ({"validation": Validation(n_inputs=64)}, "validation inputs must be 1 to 63"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, changes, message):
    with pytest.raises(HalutError, match=message):
        train(dataclasses.replace(SMALL, **changes), tmp_path / "o", root=tmp_path)
    assert not (tmp_path / "o").exists()


def test_devices(tmp_path):
    with pytest.raises(HalutError, match=r"device must be one that torch can use here, not 'gpu'"):
        train(SMALL, tmp_path, device="gpu")


def test_command_line(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    quick = dataclasses.replace(
        SMALL,
        layers=("layer2.*",),
        base=Stage(epochs=1),
        replace=Stage(epochs=1),
        fine_tune=Stage(epochs=1),
    )
    recipe.write_text(quick.to_yaml())
    arguments = ["train", str(recipe), "-o", str(tmp_path / "o")]
    assert run(main, [*arguments, "--resume"]) == 2
    assert "--resume must be given" in capsys.readouterr().err
    assert run(main, [*arguments, "--seed", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("replace layer2.0     1 epochs  test accuracy")
    assert said[-1] == f"wrote {tmp_path / 'o' / 'network.pt'}"
    assert Recipe.from_yaml(tmp_path / "o" / "recipe.yaml").seed == 3
    assert run(main, [*arguments, "--seed", "4"]) == 2
    assert "run of another recipe" in capsys.readouterr().err


def test_cifar10_recipe_takes_its_first_steps(tmp_path):
    """On generated files in CIFAR-10's format; epochs and batches cut."""
    import pickle

    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        images = rng.integers(0, 256, (32, 3072), dtype=np.uint8)
        content = {b"labels": rng.integers(0, 10, 32).tolist(), b"data": images}
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    recipe = Recipe.from_yaml("configs/networks/cifar10_resnet9.yaml")
    one = {
        name: dataclasses.replace(getattr(recipe, name), epochs=1, warm_up_epochs=0)
        for name in ("base", "replace", "fine_tune")
    }
    # One of the seven layers and small batches, so that it stays short.
    recipe = dataclasses.replace(
        recipe,
        **one,
        layers=("layer1.0",),
        calibration_images=8,
        n_test=16,
        n_train=32,
        batch_size=16,
    )
    layer = dataclasses.replace(recipe.layer, max_rows=256, refine_passes=0, ridge=1.0)
    summary = train(dataclasses.replace(recipe, layer=layer), tmp_path / "o", root=tmp_path)
    assert summary["layers"] == ["layer1.0"]
    assert summary["n_train"] == 32
    model, _ = load_network(tmp_path / "o" / "network.pt")
    layer = model.get_submodule("layer1.0")
    assert (layer.n_codebooks, layer.n_prototypes, layer.input_format) == (64, 16, "fp16")


def result(name, folder):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    begin = time.process_time()  # of all threads, and whatever else the machine does
    summary = train(Recipe.from_yaml(f"configs/networks/{name}.yaml"), folder)
    assert time.process_time() - begin < 15 * 60
    return summary


@pytest.mark.slow
def test_digits_within_1_2_points_of_the_exact_network(tmp_path):
    summary = result("digits_resnet9", tmp_path)
    assert len(summary["layers"]) == 7
    assert summary["base_accuracy"] > 0.98
    assert summary["final_accuracy"] >= summary["base_accuracy"] - 0.012


@pytest.mark.slow
def test_digits_with_int8_inputs_within_2_points(tmp_path):
    summary = result("digits_resnet9_int8", tmp_path)
    assert len(summary["layers"]) == 7
    assert summary["base_accuracy"] > 0.98
    assert summary["final_accuracy"] >= summary["base_accuracy"] - 0.02
    model, _ = load_network(tmp_path / "network.pt")
    layers = [one for one in model.modules() if isinstance(one, HalutLayer)]
    assert all(layer.exact for layer in layers)
    assert all(layer.n_codebooks == layer.in_channels for layer in layers)
