"""The user's own data and networks: IDX files, .npz, folders of images, functions of theirs."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.errors import HalutError  # noqa: E402
from halut.nn.data import FASHION_MNIST, load  # noqa: E402
from halut.nn.models import arguments, build  # noqa: E402

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 12).astype(np.uint8)

MODULE = """
import torch
from torch import nn
from halut.nn import data

def arrays(count=12):
    return {"train_x": torch.rand(count, 6), "train_y": torch.arange(count) % 2,
            "test_x": torch.rand(4, 6), "test_y": torch.arange(4) % 2}

def tokens():
    return {"train_x": torch.ones(4, 9, dtype=torch.int64), "train_y": [0, 1, 0, 1],
            "test_x": torch.ones(2, 9, dtype=torch.int64), "test_y": [0, 1]}

def dataset():
    return data.load("shapes", n_train=10, n_test=5)

def number():
    return 3

class Small(nn.Sequential):
    def __init__(self, in_channels, n_classes, width=4):
        super().__init__(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Flatten(),
                         nn.LazyLinear(n_classes))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current folder, under a name that no other test has."""
    name = f"users_own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def write_idx(folder: Path, compress: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (low, high) in {"train": (0, 8), "t10k": (8, 12)}.items():
        for kind, values in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            some = values[low:high]
            head = struct.pack(f">HBB{some.ndim}I", 0, 8, some.ndim, *some.shape)
            name, content = f"{part}-{kind}-ubyte", head + some.tobytes()
            if compress:
                name, content = f"{name}.gz", gzip.compress(content)
            (folder / name).write_bytes(content)


def pixels(data, part: str) -> np.ndarray:
    x = getattr(data, f"{part}_x") * data.deviation.view(1, -1, 1, 1)
    x = x + data.mean.view(1, -1, 1, 1)
    return np.rint(255 * x.numpy()).astype(np.uint8)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "idx"])
def test_idx_files(tmp_path, name, compress) -> None:
    write_idx(tmp_path, compress)
    data = load({"idx": str(tmp_path)}) if name == "idx" else load(name, root=tmp_path)
    assert np.array_equal(pixels(data, "train")[:, 0], IMAGES[:8])
    assert np.array_equal(pixels(data, "test")[:, 0], IMAGES[8:])
    assert np.array_equal(data.train_y, LABELS[:8]) and np.array_equal(data.test_y, LABELS[8:])


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason=f"no {FASHION_MNIST} (apt install "
                    "dataset-fashion-mnist)")  # fmt: skip
def test_debians_fashion_mnist() -> None:
    data = load("fashion_mnist", n_train=1000)
    assert data.train_x.shape == (1000, 1, 28, 28) and data.test_x.shape == (10000, 1, 28, 28)
    assert data.n_classes == 10 and torch.bincount(data.test_y).tolist() == [1000] * 10


def break_file(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", None, "data must be a folder with t10k-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", b"\x1f\x8bnothing", "data must be"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\1\0\0\0\0", "must be an IDX file of unsigned"),
        ("train-images-idx3-ubyte", b"\0\0\x08\1\0\0\0\2a", "must hold 2 bytes for shape"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\1\0\0\0\1a", "as many images as labels"),
        ("train-labels-idx1-ubyte", b"", "must be an IDX file"),
    ],
)
def test_damaged_idx_files(tmp_path, name, content, message) -> None:
    write_idx(tmp_path)
    break_file(tmp_path, name, content)
    with pytest.raises(HalutError, match=message):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("shape", [(10, 3, 8), (10, 2, 4, 4), (10, 4, 4, 3), (10, 5)])
def test_arrays_as_they_are(tmp_path, shape) -> None:
    """Signals and images that need nothing done keep their shapes and values."""
    inputs = RNG.normal(3, 2, shape)
    np.save(tmp_path / "own.npy", inputs)
    data = load({"npz": "own.npy", "as_is": True}, root=tmp_path)
    assert np.array_equal(data.test_x, inputs[4::5].astype(np.float32))
    assert data.train_x.dtype == torch.float32 and len(data.train_x) == 8
    assert not data.mean.any() and (data.deviation == 1).all()
    np.save(tmp_path / "own.npy", inputs.astype(np.uint8))
    with pytest.raises(HalutError, match=r"must be floating-point numbers to be taken .* uint8"):
        load({"npz": "own.npy", "as_is": True}, root=tmp_path)


@pytest.mark.parametrize("names", ["{}_x {}_y", "x_{} y_{}"])
def test_arrays_in_a_file(tmp_path, names) -> None:
    values = {}
    for part, some in (("train", slice(0, 8)), ("test", slice(8, 12))):
        x, y = names.replace("{}", part).split()
        values |= {x: IMAGES[some], y: LABELS[some, None]}
    np.savez(tmp_path / "own.npz", **values)
    data = load({"npz": "own.npz"}, root=tmp_path)
    assert np.array_equal(pixels(data, "train")[:, 0], IMAGES[:8])
    assert np.array_equal(data.test_y, LABELS[8:])
    assert load({"npz": "own.npz"}, root=tmp_path, n_train=3).train_x.shape == (3, 1, 5, 4)


def test_arrays_without_labels(tmp_path) -> None:
    np.save(tmp_path / "own.npy", IMAGES)
    np.savez(tmp_path / "own.npz", x_train=IMAGES)
    for name in ("own.npy", "own.npz"):
        data = load({"npz": name}, root=tmp_path)
        assert np.array_equal(pixels(data, "test")[:, 0], IMAGES[4::5])
        assert len(data.train_x) == 10 and data.n_classes == 0
        assert set(data.train_y.tolist() + data.test_y.tolist()) == {-1}
        with pytest.raises(HalutError, match="data must have labels, not only inputs"):
            data.labelled()
    np.savez(tmp_path / "own.npz", train_x=IMAGES[:8], test_x=IMAGES[8:])
    data = load({"npz": "own.npz"}, root=tmp_path)
    assert np.array_equal(pixels(data, "test")[:, 0], IMAGES[8:]) and data.n_classes == 0
    np.save(tmp_path / "own.npy", IMAGES[:4])
    with pytest.raises(HalutError, match=r"data must be at least 5 inputs, not 4 .*own\.npy"):
        load({"npz": "own.npy"}, root=tmp_path)
    (tmp_path / "own.npy").write_bytes(b"no array")
    with pytest.raises(HalutError, match=r"data must be an \.npy file of arrays"):
        load({"npz": "own.npy"}, root=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_y": None}, "data must have test_y, not only test_x, train_x, train_y"),
        ({"train_x": None}, "data must have train_x, not only test_x, test_y, train_y"),
        ({"train_y": LABELS[:3]}, "train_y must be 8 integers in"),
        ({"test_y": -np.ones(4, int)}, "test_y must be 4 integers in"),
        ({"test_x": np.ones((4, 6, 6), np.uint8)}, "test_x must have the shape of train_x"),
        ({"train_x": np.full((8, 5, 4), np.nan)}, "train_x must be finite"),
        ({"train_x": np.array(["a"] * 8)}, "train_x must be numbers"),
    ],
)
def test_wrong_arrays(tmp_path, change, message) -> None:
    values = {"train_x": IMAGES[:8], "train_y": LABELS[:8], "test_x": IMAGES[8:],
              "test_y": LABELS[8:]} | change  # fmt: skip
    np.savez(tmp_path / "own.npz", **{k: v for k, v in values.items() if v is not None})
    with pytest.raises(HalutError, match=message):
        load({"npz": str(tmp_path / "own.npz")})


def write_images(folder: Path, images: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for k, values in enumerate(images):
        place = folder / ("cat", "dog", "eel")[k % 3]
        place.mkdir(parents=True, exist_ok=True)
        image.fromarray(values).save(place / f"{k:02}.png")


def test_folders_of_images(tmp_path) -> None:
    write_images(tmp_path / "train", IMAGES[:8])
    write_images(tmp_path / "val", IMAGES[8:])
    data = load({"folder": str(tmp_path)})
    assert data.n_classes == 3 and data.train_x.shape == (8, 1, 5, 4)
    order = [k for label in range(3) for k in range(8) if k % 3 == label]
    assert np.array_equal(pixels(data, "train")[:, 0], IMAGES[order])
    assert data.train_y.tolist() == [k % 3 for k in order]
    assert load({"folder": str(tmp_path), "size": 3}).test_x.shape == (4, 1, 3, 3)


def test_folders_without_parts(tmp_path) -> None:
    write_images(tmp_path, IMAGES)
    data = load({"folder": str(tmp_path)})
    assert (len(data.train_x), len(data.test_x)) == (10, 2)


def test_a_folder_of_images_without_labels(tmp_path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for k, values in enumerate(IMAGES):
        image.fromarray(values).save(tmp_path / f"{k:02}.png")
    data = load({"folder": str(tmp_path)})
    assert np.array_equal(pixels(data, "test")[:, 0], IMAGES[4::5])
    assert len(data.train_x) == 10 and data.n_classes == 0
    write_images(tmp_path, IMAGES)  # classes beside them, which count
    assert load({"folder": str(tmp_path)}).n_classes == 3


def test_wrong_folders(tmp_path) -> None:
    with pytest.raises(HalutError, match="data must be readable"):
        load({"folder": str(tmp_path / "none")})
    (tmp_path / "one").mkdir()
    with pytest.raises(HalutError, match="a folder of images per class, at least 2, not 1"):
        load({"folder": str(tmp_path)})
    (tmp_path / "two").mkdir()
    with pytest.raises(HalutError, match=r"data must be images .* not none"):
        load({"folder": str(tmp_path)})
    for k in range(5):
        (tmp_path / "two" / f"{k}-bad.png").write_text("no image")
    with pytest.raises(HalutError, match=r"images that can be read.*bad\.png"):
        load({"folder": str(tmp_path)})
    write_images(tmp_path, IMAGES[:6])
    for path in (tmp_path / "two").iterdir():
        path.unlink()
    write_images(tmp_path, RNG.integers(0, 256, (1, 6, 6), dtype=np.uint8))
    with pytest.raises(HalutError, match="images must be of one size"):
        load({"folder": str(tmp_path)})


def test_functions_of_the_user(module) -> None:
    data = load({"import": f"{module}:arrays", "options": {"count": 20}})
    assert data.train_x.shape == (20, 6) and not data.images
    assert load({"import": f"{module}:dataset"}, n_train=4).train_x.shape == (4, 3, 32, 32)
    tokens = load({"import": f"{module}:tokens"}).train_x
    assert tokens.dtype == torch.int64 and (tokens == 1).all()
    assert arguments({"import": f"{module}:Small"}) == ["in_channels", "n_classes", "width"]
    model = build({"import": f"{module}:Small"}, in_channels=2, n_classes=3)
    assert model(torch.zeros(1, 2, 4, 4)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}.arrays", "must be imported as package.module:function"),
        ("no_such_module:f", "must be importable, but ModuleNotFoundError"),
        ("{}:missing", "must be in .*, not 'missing'"),
        ("{}:MODULE", "must be in"),
        ("{}:number", "must be a Dataset or a mapping of arrays, not int"),
    ],
)
def test_wrong_functions(module, name, message) -> None:
    with pytest.raises(HalutError, match=message):
        load({"import": name.format(module)})


def test_options_that_a_function_does_not_take(module) -> None:
    with pytest.raises(HalutError, match=r"data must take its options: .*unexpected.*wrong"):
        load({"import": f"{module}:arrays", "options": {"wrong": 1}})
    with pytest.raises(HalutError, match=r"model must be an nn.Module, not int"):
        build({"import": f"{module}:number"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "data must be one of cifar10"),
        ("fashon-mnist", 'did you mean "fashion_mnist"'),
        ({"npz": "a", "idx": "b"}, "a mapping with one of import"),
        ({"npz": "a", "size": 3}, "size"),
        ({"npz": 3}, "data.npz must be text"),
        ({"npz": "a", "as_is": 1}, "data.as_is must be true or false, not 1"),
        ({"npz": "a", "as_is": True, "std": [2.0]}, "data.std must be absent beside data.as_is"),
        ({"idx": "a", "as_is": True}, "as_is"),
        ({"folder": "a", "size": 0}, r"data.size must be an integer in \[1, 4096\]"),
        ({"import": "a:b", "options": 3}, "data.options must be a mapping"),
    ],
)
def test_wrong_sources(source, message) -> None:
    with pytest.raises(HalutError, match=message):
        load(source)


def test_held_out_inputs_are_no_others() -> None:
    data = load("shapes", n_train=30, n_test=5)
    held = data.hold_out(10, seed=3)
    assert len(held.train_x) == 20 and len(held.validation_x) == 10
    together = torch.cat([held.train_x, held.validation_x]).flatten(1)
    assert torch.equal(together.unique(dim=0), data.train_x.flatten(1).unique(dim=0))
    assert torch.equal(held.validation_x, data.hold_out(10, seed=3).validation_x)
    assert not torch.equal(held.validation_x, data.hold_out(10, seed=4).validation_x)
    with pytest.raises(HalutError, match="validation inputs must be 1 to 29"):
        data.hold_out(30)
