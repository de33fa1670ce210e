"""Trained networks on 100 images, digits and Fashion-MNIST: C, on every processor, and PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402
from halut.nn.c_export.export import export_c  # noqa: E402
from halut.nn.data import Dataset, load  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from tests.halut.nn.c_export.builds import passed  # noqa: E402

N_IMAGES = 100


def _trained(data: Dataset, epochs: int, width: int = 8) -> nn.Module:
    """Train a network of three convolutions and a classifier for a while."""
    torch.manual_seed(7)
    size = data.image_size // 4
    model = nn.Sequential(
        nn.Conv2d(data.n_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * width * size * size, data.n_classes),
    )  # fmt: skip
    _train(model, data, epochs)
    return model


def _train(model: nn.Module, data: Dataset, epochs: int, most: int = 6000) -> None:
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for part in torch.randperm(len(data.train_x))[:most].split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(data.train_x[part]), data.train_y[part]).backward()
            optimiser.step()
    model.eval()


def _share_right(model: nn.Module, data: Dataset) -> float:
    with torch.no_grad():
        return float((model(data.test_x).argmax(1) == data.test_y).float().mean())


def _check(data: Dataset, model: nn.Module, folder: Path, targets: tuple[str, ...]) -> None:
    """Look up every product; with and without floats between layers."""
    convert_(model, LayerConfig(input_format="int8"), data.train_x[:512])
    _train(model, data, epochs=1, most=1297)
    assert _share_right(model, data) > 0.5
    images = data.test_x[:N_IMAGES]
    for name in ("floats", "folded"):
        if name == "folded":
            assert fold_(model, images[:2]).integer_share == 1
        done = export_c(model, folder / name, images, measure_code=False)
        assert done.identical == done.inputs == N_IMAGES and done.looked_up == 4
        for target in targets:
            assert f"passed: {10 * N_IMAGES} outputs of {N_IMAGES} inputs equal" in passed(
                folder / name, target
            )


@pytest.mark.needs("cc", "make")
def test_100_digits_have_the_bits_of_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    data = load("digits")
    _check(data, _trained(data, epochs=2), tmp_path, ("test",))


@pytest.mark.slow
@pytest.mark.needs("cc", "make", "riscv64-unknown-elf-gcc", "qemu-system-riscv32",
                   "arm-none-eabi-gcc", "qemu-system-arm", "fashion-mnist")  # fmt: skip
@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_100_images_have_the_bits_of_pytorch_on_every_processor(name: str, tmp_path: Path) -> None:
    data = load(name, n_train=1297 if name == "digits" else 6000, n_test=500)
    _check(data, _trained(data, epochs=3), tmp_path, ("sanitise", "rv32", "cortex-m"))


@pytest.mark.slow
@pytest.mark.needs("cc", "make", "riscv64-unknown-elf-gcc", "qemu-system-riscv32")
def test_looking_up_takes_fewer_instructions_than_multiplying(tmp_path: Path) -> None:
    """Of the same network in 8-bit words: all layers exact, and interior ones looked up."""
    data = load("digits")
    model = _trained(data, epochs=3, width=16)
    counts, sizes = {}, {}
    for name in ("exact", "looked up"):
        if name == "looked up":
            convert_(
                model, LayerConfig(input_format="int8"), data.train_x[:512],
                lambda name, _: name in ("4", "8"),
            )  # fmt: skip
        done = export_c(
            model, tmp_path / name.replace(" ", "_"), data.test_x[:N_IMAGES], exact="int8",
            calibration=data.train_x[:512], measure_code=False,
        )  # fmt: skip
        assert done.same_class >= 95
        counts[name] = int(passed(tmp_path / name.replace(" ", "_"), "rv32").split()[0])
        sizes[name] = done.workspace_bytes
    assert counts["looked up"] < 0.5 * counts["exact"]
    assert max(sizes.values()) < 8192


def test_a_network_without_its_data_needs_inputs() -> None:
    from halut.nn.c_export.inputs import test_inputs as inputs

    with pytest.raises(HalutError, match="must name its data set, or --inputs be given"):
        inputs({"data": {"input_shape": [1, 8, 8]}})
