"""``halut convert``, ``evaluate`` and ``reconstruct``: any network on any data, from the shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.__main__ import main  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.network import load_network  # noqa: E402

MODULE = """
import torch
from torch import nn

def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
                         nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data, a program of torch.export and a module, under a name of its own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (300, 4, 4), dtype=np.uint8)
    y = np.digitize(x.mean(axis=(1, 2)), (110, 140))
    np.savez("own.npz", train_x=x[:240], train_y=y[:240], test_x=x[240:], test_y=y[240:])
    name = f"users_network_{tmp_path.name}".replace("-", "_")
    Path(f"{name}.py").write_text(MODULE)
    scope: dict = {}
    exec(MODULE, scope)
    example = (torch.zeros(2, 1, 4, 4),)
    program = torch.export.export(
        scope["network"]().eval(), example, dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, "net.pt2")
    yield f"{name}:network"
    sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


BOTH = """
class Both(nn.Flatten):
    def forward(self, x):
        return super().forward(x), x

def both():
    return Both()
"""
CONVERT = ["--data", "own.npz", "--images", "160", "--held-out", "40", "--num-k", "4"]


@pytest.mark.usefixtures("place")
def test_from_a_file_to_a_report(capsys) -> None:
    arguments = [*CONVERT, "--exclude", "0", "--lut-bits", "6", "--report", "r.json"]
    assert main(["convert", "net.pt2", *arguments, "-o", "n.safetensors"]) == 0
    assert "layers               2 of 3 converted" in capsys.readouterr().out
    rows = json.loads(Path("r.json").read_text())
    assert [row["name"] for row in rows if row["converted"]] == ["2", "5"]
    assert all(row["output_error"] > 0 for row in rows if row["converted"])
    model, _ = load_network("n.safetensors")
    assert [layer.config.lut_bits for layer in layers_of(model).values()] == [6, 6]

    assert main(["evaluate", "n.safetensors", "--exact", "net.pt2", "-o", "e.json"]) == 0
    facts = json.loads(Path("e.json").read_text())
    assert facts["images"] == 60 and 0 < facts["agreement"] <= 1
    assert f"agreement            {100 * facts['agreement']:.2f} %" in capsys.readouterr().out
    assert main(["evaluate", "net.pt2", "--exact", "net.pt2", "--data", "own.npz",
                 "--images", "20"]) == 0  # fmt: skip
    assert "agreement            100.00 %" in capsys.readouterr().out

    assert "arithmetic" not in facts
    steps = ["--block-steps", "3", "--distill-steps", "0", "--images", "96", "--held-out", "32"]
    command = ["reconstruct", "n.safetensors", "--exact", "net.pt2", *steps, "-o", "r.pt"]
    assert main(command) == 0
    assert "network after the blocks" in capsys.readouterr().out
    changed, _ = load_network("r.pt")
    assert any(
        not torch.equal(one, changed.state_dict()[name]) for name, one in model.state_dict().items()
    )


@pytest.mark.usefixtures("place")
def test_a_report_is_a_page_or_json() -> None:
    assert main(["convert", "net.pt2", *CONVERT, "-o", "n.pt", "--report", "r.html"]) == 0
    page = Path("r.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")
    with pytest.raises(HalutError, match=r"--report must end with \.json or \.html, not 'r\.txt'"):
        main(["convert", "net.pt2", *CONVERT, "-o", "m.pt", "--report", "r.txt"])
    assert not Path("m.pt").exists()


@pytest.mark.usefixtures("place")
def test_a_file_that_is_another_one_now_is_refused() -> None:
    assert main(["convert", "net.pt2", *CONVERT, "-o", "n.pt"]) == 0
    content = bytearray(Path("net.pt2").read_bytes())
    Path("net.pt2").write_bytes(content + b" ")
    with pytest.raises(HalutError, match="file must be the one that was converted"):
        load_network("n.pt")


@pytest.mark.usefixtures("place")
def test_export_as_onnx(capsys) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (pip install -e .[onnx])")
    assert main(["convert", "net.pt2", *CONVERT, "-o", "n.pt"]) == 0
    assert main(["export", "n.pt", "--onnx", "-o", "n.onnx"]) == 0
    assert "functions            3 layers looked up" in capsys.readouterr().out
    assert Path("n.onnx").stat().st_size > 1000
    with pytest.raises(HalutError, match="--onnx must not be given with --c"):
        main(["export", "n.pt", "--onnx", "--c", "-o", "n.onnx"])


def test_a_function_is_run_where_it_is_named(place, capsys) -> None:
    assert main(["convert", place, *CONVERT, "-o", "n.pt"]) == 0
    with pytest.raises(HalutError, match="network must be permitted before it is run"):
        main(["evaluate", "n.pt"])
    assert main(["evaluate", "n.pt", "--import", place]) == 0
    words = ["--int8", "--images", "9", "-o", "w.json"]
    assert main(["evaluate", "n.pt", "--import", place, *words]) == 0
    assert "8-bit words between layers" in capsys.readouterr().out
    facts = json.loads(Path("w.json").read_text())
    assert facts["arithmetic"] == "8-bit words" and facts["images"] == 9
    assert 0 <= facts["accuracy"] <= 1


@pytest.mark.usefixtures("place")
def test_inputs_without_labels(capsys) -> None:
    with np.load("own.npz") as file:
        np.save("inputs.npy", file["train_x"])
    arguments = ["--data", "inputs.npy", "--images", "120", "--held-out", "40", "--num-k", "4"]
    assert main(["convert", "net.pt2", *arguments, "-o", "n.pt"]) == 0
    assert main(["evaluate", "n.pt", "--exact", "net.pt2", "-o", "facts.json"]) == 0
    printed, facts = capsys.readouterr().out, json.loads(Path("facts.json").read_text())
    assert "agreement" in printed and "accuracy" not in printed
    assert facts["images"] == 48 and facts["accuracy"] is None and 0 <= facts["agreement"] <= 1
    with pytest.raises(HalutError, match="data must have labels, not only inputs"):
        main(["evaluate", "n.pt"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "model must take the inputs that it is given: "),
        (["--data", "digits", "--int8"], "model must take the inputs that it is given: "),
        (["--data", "own.npz", "--exact", "{}:both"], r"model must return logits of shape \(60, at "
         "least 1\\), not tuple"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_their_data(place, arguments, message) -> None:
    module = Path(f"{place.partition(':')[0]}.py")
    module.write_text(MODULE + BOTH)
    arguments = [one.format(module.stem) for one in arguments]
    with pytest.raises(HalutError, match=message):
        main(["evaluate", "net.pt2", *arguments])


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.pt2"], "--data must be given: the network does not name its data set"),
        (["none.onnx", "--data", "own.npz"], "network must be readable"),
        (["net.pt2", "--size", "4"], "--size must be given with --data"),
        (["net.pt2", "--data", "digits", "--size", "4"], "--size must be given for your own data"),
        (["net.pt2", "--data", "own.npz", "--mean", "a"], "--mean must be numbers and commas"),
        (["net.pt2", "--data", "own.npz", "--mean", "0,1"], "mean must have 1 numbers, one per"),
        (["net.pt2", "--as-is"], "--as-is must be given with --data"),
        (["net.pt2", "--data", "digits", "--as-is"], "--as-is must be given for your own data"),
        (["net.pt2", "--data", ".", "--as-is"], "--as-is must be given for arrays only"),
        (["net.pt2", "--data", "own.npz", "--as-is"], "to be taken as they are, not"),
        (["net.pt2", "--data", "own.npz", "--std", "0"], "std must be greater than 0"),
        (["net.pt2", "--data", "own.npz", "--images", "240"], "must be at most the 240 training"),
        (["net.pt2", "--data", "own.npz", "--images", "20", "--held-out", "20", "--layers", "z*"],
         "--layers must match a module of the network"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(arguments, message) -> None:
    with pytest.raises(HalutError, match=message):
        main(["convert", *arguments, "-o", "n.pt"])
    assert not Path("n.pt").exists()


@pytest.mark.usefixtures("place")
def test_given_statistics_are_those_that_are_used() -> None:
    from halut.nn.data import load

    data = load({"npz": "own.npz", "mean": [0.5], "std": [0.25]})
    pixels = np.load("own.npz")["test_x"][:, None] / np.float32(255)
    assert torch.allclose(data.test_x, torch.from_numpy((pixels - 0.5) / 0.25), atol=1e-6)
