"""``python -m halut export --c``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")

from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.nn import HalutConv2d  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.network import save_network  # noqa: E402
from halut.nn.replace import replace_module  # noqa: E402
from tests.halut.nn.c_export.builds import passed  # noqa: E402
from tests.halut.nn.c_export.networks import config  # noqa: E402

KWARGS = {"in_channels": 1, "width": 2, "image_size": 8}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(8)
    model = build("resnet9", **KWARGS)
    for name in ("layer1.0", "layer2.0"):
        exact = model.get_submodule(name)
        layer = HalutConv2d(
            exact.in_channels, exact.out_channels, 3, padding=1, bias=False, config=config()
        )
        replace_module(model, name, layer)
    path = tmp_path_factory.mktemp("network") / "network.pt"
    save_network(path, model, {"name": "resnet9", "kwargs": KWARGS}, {"name": "digits"})
    return path


@pytest.mark.needs("cc", "make")
@pytest.mark.parametrize("exact", ["float", "int8"])
def test_a_network_file_becomes_a_folder_that_tests_itself(
    exact: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "c"
    command = ["export", "--c", str(network), "-o", str(folder), "--images", "5", "--exact", exact]
    assert run(main, command) == 0
    printed = capsys.readouterr().out
    assert "2 looked up, 7 exact\n" in printed
    for words in (
        "constants, bytes",
        "buffers, bytes",
        "at the peak",
        "code, bytes          host ",
    ):
        assert words in printed
    assert "of 5 inputs give the bits of PyTorch, 5 its class" in printed
    assert printed.endswith(f"wrote {folder}/network.json\n")
    manifest = json.loads((folder / "network.json").read_text())
    assert manifest["kind"] == "halut-c-network" and manifest["exact"] == exact
    assert "passed: 50 outputs of 5 inputs equal" in passed(folder)
    assert run(main, ["export", str(network), "-o", str(folder)]) == 2  # but not by the other kind
    assert "must be a folder of an earlier export" in capsys.readouterr().err


@pytest.mark.needs("cc", "make")
def test_inputs_may_be_given(network: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.random.default_rng(1).normal(size=(3, 1, 8, 8)))
    command = ["export", "--c", str(network), "-o", str(tmp_path / "c")]
    assert run(main, [*command, "--inputs", str(tmp_path / "inputs.npy")]) == 0
    assert "passed: 30 outputs of 3 inputs equal" in passed(tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0", "--c"], "images must be an integer of at least 1, not 0"),
        (["--images", "3"], "--images must be given with --c only"),
        (["--exact", "int8"], "--exact must be given with --c only"),
        (["--c", "--exact", "int4"], "--exact must be float or int8, not 'int4'"),
        (["--c", "--inputs", "none.npy"], "inputs must be readable: No such file"),
        (["--c", "--inputs", "{flat}"], "inputs must be numbers of shape"),
        (["--c", "--inputs", "{large}"], "model must take the inputs that it is given"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, shape in (("flat", (3,)), ("large", (2, 3, 8, 8))):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape))
    given = [
        one.format(flat=tmp_path / "flat.npy", large=tmp_path / "large.npy") for one in arguments
    ]
    assert run(main, ["export", str(network), "-o", str(tmp_path / "c"), *given]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "c").exists()
