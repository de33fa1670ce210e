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
    found = {row["what"]: row["accuracy"] for row in rows}
    assert list(found)[-3:] == ["lut_format fp16", "output_format fp16", "output_format int8"]
    assert "all 1 replaced layers" in capsys.readouterr().out
    # Each is the accuracy of the network with those formats.
    model, _ = load_network(path)
    data = load("digits")
    model.get_submodule("layer2.0").set_formats(lut_bits=4)
    with torch.no_grad():
        right = (model(data.test_x).argmax(dim=1) == data.test_y).double().mean()
    assert found["lut_bits 4"] == pytest.approx(float(right), abs=1e-9)


def test_formats_of_flags_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, saved = tmp_path / "network.pt", tmp_path / "saved.pt"
    network(path)
    flags = ["--input", "int8", "--output-format", "int8", "--relu", "layer2.0", "--acc-bits", "9",
             "--overflow", "saturate", "--parallel-codebooks", "2", "--save", str(saved),
             "-o", str(tmp_path / "f.json")]  # fmt: skip
    assert run(main, ["formats", str(path), *flags]) == 0
    text = capsys.readouterr().out
    assert f"wrote {saved} and {tmp_path}/f.json" in text
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    assert len(rows) == 2 and rows[1]["what"].endswith("overflow saturate, relu layer2.0")
    model, _ = load_network(saved)
    layer = model.get_submodule("layer2.0")
    config = layer.config
    assert (config.input_format, config.output_format, config.relu) == ("int8", "int8", True)
    assert (config.acc_bits, config.overflow, config.parallel_codebooks) == (9, "saturate", 2)
    assert layer.output_range.isfinite().all()
    data = load("digits")
    with torch.no_grad():
        right = (model.eval()(data.test_x).argmax(dim=1) == data.test_y).double().mean()
    assert rows[1]["accuracy"] == pytest.approx(float(right), abs=1e-9)

    # Sums that fit stay as they are; half floats are 16 bits wide.
    wide = ["--acc-bits", "20", "--overflow", "wrap", "--save", str(saved)]
    assert run(main, ["formats", str(path), *wide]) == 0
    assert load_network(saved)[0].get_submodule("layer2.0").config.acc_bits is None
    assert run(main, ["formats", str(path), "--lut-format", "fp16", "--save", str(saved)]) == 0
    config = load_network(saved)[0].get_submodule("layer2.0").config
    assert (config.lut_format, config.lut_bits) == ("fp16", 16)


@pytest.mark.parametrize(("flags", "message"), [
    (["--acc-bits", "9"], "--acc-bits and --overflow must come together"),
    (["--save", "x.pt"], "--save must come with a format"),
    (["--relu", "layer2"], "--relu must be among layer2.0, not 'layer2'"),
    (["--lut-format", "fp16", "--lut-bits", "8"], "(layer layer2.0)"),
])  # fmt: skip
def test_flags_that_do_not_fit(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network(tmp_path / "network.pt")
    assert run(main, ["formats", str(tmp_path / "network.pt"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_centroids_have_no_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(tmp_path / "network.pt", encoder="centroid")
    assert run(main, ["formats", str(tmp_path / "network.pt")]) == 2
    assert "layer layer2.0" in capsys.readouterr().err
