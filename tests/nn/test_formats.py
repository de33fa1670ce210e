"""``python -m halut formats`` on a small network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402
from halut.nn.data import load  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.network import load_network, save_network  # noqa: E402


def network(path: Path, encoder: str = "tree") -> nn.Module:
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "width": 2, "image_size": 8}
    model = build("resnet9", **arguments).eval()
    images = load("digits").train_x[:64]
    convert_(model, {"layer2.0": LayerConfig(encoder=encoder)}, images)
    save_network(path, model, {"name": "resnet9", "kwargs": arguments}, {"name": "digits"})
    return model


def test_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "network.pt"
    network(path)
    assert run(main, ["formats", str(path), "-o", str(tmp_path / "f.json")]) == 0
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    assert [row["what"] for row in rows[:3]] == [
        "as trained", "input_format fp16", "input_format bf16"
    ]  # fmt: skip
    assert rows[-1]["what"] == "lut_bits 4"
    assert "all 1 replaced layers" in capsys.readouterr().out
    # Each is the accuracy of the network with those formats.
    model, _ = load_network(path)
    data = load("digits")
    model.get_submodule("layer2.0").set_formats(lut_bits=4)
    with torch.no_grad():
        right = (model(data.test_x).argmax(dim=1) == data.test_y).double().mean()
    assert rows[-1]["accuracy"] == pytest.approx(float(right), abs=1e-9)


def test_centroids_have_no_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(tmp_path / "network.pt", encoder="centroid")
    assert run(main, ["formats", str(tmp_path / "network.pt")]) == 2
    assert "layer layer2.0" in capsys.readouterr().err
