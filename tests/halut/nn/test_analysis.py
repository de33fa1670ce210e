"""The single-layer study measures what it says, and goes on where it was interrupted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import Tensor, nn  # noqa: E402

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.files import locked  # noqa: E402
from halut.nn import HalutConv2d, LayerConfig, analysis  # noqa: E402
from halut.nn.analysis import POINTS, analyse  # noqa: E402
from halut.nn.models import build  # noqa: E402

CONFIG = LayerConfig(refine_passes=0, ridge=1.0)
GRID = {"num_c": (1.0, 2), "num_k": (4, 8), "config": CONFIG}


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip
    model.eval()
    train, test = torch.randn(40, 2, 6, 6), torch.randn(100, 2, 6, 6)
    with torch.no_grad():
        labels = model(test).argmax(dim=1)
    return model, train, test, labels


def test_points(network: tuple[nn.Module, Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    model, train, test, labels = network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = analyse(model, train, test, labels, tmp_path, **GRID)
    assert result.base_accuracy == 1.0 and result.n_images == 100
    # The 1 x 1 convolution has 1 codebook of 4 features as a rule, 2 when asked for; the linear
    # layer has 8 and 2; 40 rows are enough for 8 prototypes.
    counts = [(point.layer, point.n_codebooks, point.n_prototypes) for point in result.points]
    assert counts == [
        ("0", 2, 4), ("0", 2, 8),
        ("3", 1, 4), ("3", 1, 8), ("3", 2, 4), ("3", 2, 8),
        ("5", 2, 4), ("5", 2, 8), ("5", 8, 4), ("5", 8, 8),
    ]  # fmt: skip
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(isinstance(part, HalutConv2d) for part in model.modules())

    # One point, measured by hand.
    point = result.points[3]
    config = LayerConfig(refine_passes=0, ridge=1.0, codebook_width=4, n_prototypes=8)
    with torch.no_grad():
        layer = HalutConv2d.from_module(model[3], model[:3](train), config)
        exact, looked_up = (part(model[:3](test)).double() for part in (model[3], layer))
        classes = model[4:](looked_up.float()).argmax(dim=1)
    spread = (exact - exact.mean(dim=(0, 2, 3), keepdim=True)).square().sum()
    assert point.error == pytest.approx(float((exact - looked_up).square().sum() / spread))
    assert point.accuracy == int((classes == labels).sum()) / 100
    assert point.accuracy < 1.0 and point.table_bytes == 4 * 8
    rows = list(csv.DictReader(io.StringIO(result.csv())))
    assert float(rows[3]["accuracy_change"]) == pytest.approx(point.accuracy - 1.0)
    assert len(rows) == 10 and json.dumps(result.to_dict())
    assert len(str(result).splitlines()) == 12


def test_interrupted(
    network: tuple[nn.Module, Tensor, Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, train, test, labels = network
    whole = analyse(model, train, test, labels, tmp_path / "whole", **GRID)
    measure, calls = analysis._measure, []

    def counted(
        model: nn.Module, module: nn.Module, point: analysis.Point, *rest: object
    ) -> object:
        calls.append(point.key)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(model, module, point, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(analysis, "_measure", counted)
    with pytest.raises(KeyboardInterrupt):
        analyse(model, train, test, labels, tmp_path, **GRID)
    file = tmp_path / POINTS
    # A line that was being written when the machine went down.
    file.write_text(file.read_text() + '{"layer": "3", "ki')
    again = analyse(model, train, test, labels, tmp_path, **GRID)
    assert len(calls) == 3 + 1 + 7
    assert [(p.key, p.error, p.accuracy) for p in again.points] == [
        (p.key, p.error, p.accuracy) for p in whole.points
    ]
    # A larger grid of the same study computes what is new only.
    calls.clear()
    calls.extend([("", 0, 0)] * 10)
    analyse(model, train, test, labels, tmp_path, num_c=(1.0,), num_k=(4, 2), config=CONFIG)
    assert calls[10:] == [("0", 2, 2), ("3", 1, 2), ("5", 8, 2)]
    with pytest.raises(HalutError, match="not of another study"):
        analyse(model, train, test[:50], labels[:50], tmp_path, **GRID)
    file.write_text("{}\n")
    with pytest.raises(HalutError, match="not of another study"):
        analyse(model, train, test, labels, tmp_path, **GRID)


def test_points_that_cannot_be(
    network: tuple[nn.Module, Tensor, Tensor, Tensor], tmp_path: Path
) -> None:
    model, train, test, labels = network
    result = analyse(model, train, test, labels, tmp_path, num_k=(16,), layers=["5"])
    assert result.points[0].accuracy is None
    assert "at least 64 rows (4 x 16 prototypes), not 40" in str(result)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_k": (12,)}, "n_prototypes must be a power of two"),
        ({"num_c": (0,)}, "num_c must be greater than 0, not 0"),
        ({"num_c": ()}, "at least one value"),
        ({"num_c": ("x",)}, "num_c must be greater than 0, not 'x'"),
        ({"layers": ["2"]}, "layer must be one of the network's, not '2'"),
        ({"layers": []}, "layers must name at least one layer, not none"),
    ],
)
def test_wrong_settings(
    network: tuple[nn.Module, Tensor, Tensor, Tensor],
    tmp_path: Path,
    changes: dict[str, object],
    message: str,
) -> None:
    model, train, test, labels = network
    with pytest.raises(HalutError, match=message):
        analyse(model, train, test, labels, tmp_path, **(GRID | changes))
    assert not list(tmp_path.iterdir())


def test_empty_parts(network: tuple[nn.Module, Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    model, train, test, labels = network
    for images, seen, classes, message in (
        (train[:0], test, labels, "calibration must have at least one image, not 0"),
        (train, test[:0], labels[:0], "test_x must have at least one image, not 0"),
        (train, test, labels[:9], "test_y must have 100 classes, not 9"),
        (train[:, :1], test, labels, "model must take the inputs that it is given"),
    ):
        with pytest.raises(HalutError, match=message):
            analyse(model, images, seen, classes, tmp_path, **GRID)
    assert not list(tmp_path.iterdir())


def test_two_studies_in_one_folder_do_not_mix(
    network: tuple[nn.Module, Tensor, Tensor, Tensor], tmp_path: Path
) -> None:
    model, train, test, labels = network
    with (
        locked(tmp_path),
        pytest.raises(HalutError, match=r"must not be used by another run, but one works in it"),
    ):
        analyse(model, train, test, labels, tmp_path, **GRID)
    assert not list(tmp_path.iterdir())


def test_a_model_in_training_mode_is_not_changed(tmp_path: Path) -> None:
    """Batch norm would learn from every image that goes by."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(40, 2, 6, 6)
    analyse(model, x, x, torch.zeros(40), tmp_path, num_c=(1,), num_k=(4,), config=CONFIG)
    assert model.training and model[1].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_converted_network(tmp_path: Path) -> None:
    model = nn.Sequential(HalutConv2d(2, 2, 3))
    with pytest.raises(HalutError, match="before it is converted"):
        analyse(model, torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), torch.zeros(2), tmp_path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install -e .[demo])")
    from halut.nn.network import save_network

    torch.manual_seed(1)
    kwargs = {"in_channels": 1, "width": 2, "image_size": 8}
    model = build("resnet9", **kwargs)
    file, out = tmp_path / "base.pt", tmp_path / "study"
    save_network(file, model, {"name": "resnet9", "kwargs": kwargs}, {"name": "digits", "seed": 0})
    arguments = ["analyse", str(file), "-o", str(out), "--num-c", "2,x1", "--num-k", "4,8",
                 "--layers", "layer1.0,classifier", "--calibration", "64",
                 "--images", "20"]  # fmt: skip
    assert run(main, arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("exact network: accuracy")
    assert printed[-1] == f"wrote {out}/analysis.json, {out}/analysis.csv, {out}/analysis.png"
    facts = json.loads((out / "analysis.json").read_text())
    assert {point["layer"] for point in facts["points"]} == {"layer1.0", "classifier"}
    assert (out / "analysis.png").read_bytes().startswith(b"\x89PNG")
    assert run(main, [*arguments, "--num-k", "4;8"]) == 2
    assert "--num-k must be numbers, with commas, not '4;8'" in capsys.readouterr().err
