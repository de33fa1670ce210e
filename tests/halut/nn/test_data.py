"""Data sets: known splits, the python format of CIFAR-10 read safely, shapes, augmentation."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.errors import HalutError  # noqa: E402
from halut.nn.data import SHAPES, Shifts, load  # noqa: E402

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write_cifar(folder, n_images=6):
    """Write batches as the published ones are, with random pixels."""
    rng = np.random.default_rng(0)
    written = {}
    for name in BATCHES:
        images = rng.integers(0, 256, (n_images, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, n_images).tolist()
        written[name] = images, labels
        content = {
            b"batch_label": b"batch",
            b"labels": labels,
            b"data": images,
            b"filenames": [b"a"],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return written


def test_digits_are_the_demos():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    from sim.demo.problems import digits

    data, problem = load("digits"), digits()
    assert data.train_x.shape == (1297, 1, 8, 8) and data.test_x.shape == (500, 1, 8, 8)
    assert (data.n_classes, data.n_channels, data.image_size) == (10, 1, 8)
    pixels = data.test_x.flatten(1) * data.deviation + data.mean
    assert torch.allclose(pixels, torch.from_numpy(problem.test), atol=1e-6)
    assert np.array_equal(data.test_y.numpy(), problem.labels)


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_normalised_with_the_training_part(name):
    if name == "digits":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    data = load(name)
    assert torch.allclose(data.train_x.mean(dim=(0, 2, 3)), torch.zeros(data.n_channels), atol=1e-4)
    assert torch.allclose(data.train_x.std(dim=(0, 2, 3)), torch.ones(data.n_channels), atol=1e-3)
    assert not torch.allclose(data.test_x.mean(), torch.zeros(()), atol=1e-6)


def test_cifar10_reads_the_python_format(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    written = write_cifar(folder)
    data = load("cifar10", tmp_path)
    assert data.train_x.shape == (30, 3, 32, 32) and data.test_x.shape == (6, 3, 32, 32)
    assert data.train_y.tolist() == [label for name in BATCHES[:5] for label in written[name][1]]
    assert data.test_y.tolist() == written["test_batch"][1]
    shape = (1, 3, 1, 1)
    pixels = data.test_x * data.deviation.view(shape) + data.mean.view(shape)
    images = written["test_batch"][0].reshape(6, 3, 32, 32)
    assert np.array_equal(np.rint(pixels.numpy() * 255), images)
    assert torch.equal(load("cifar10", folder).train_x, data.train_x)
    assert len(load("cifar10", folder, n_train=7, n_test=2).train_x) == 7


def test_cifar10_says_what_is_missing(tmp_path):
    with pytest.raises(HalutError, match=r"cifar-10-python.tar.gz.*data_batch_1 is missing"):
        load("cifar10", tmp_path)
    write_cifar(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(HalutError, match=r"test_batch is missing"):
        load("cifar10", tmp_path)


class Harmful:
    """A pickle that would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_cifar10_runs_nothing_from_the_file(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(Harmful(tmp_path / "made"), protocol=2))
    with pytest.raises(HalutError, match=r"python format.*mkdir.*data_batch_3"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), object), b"labels": [0, 1]}, protocol=2),
    ],
)
def test_cifar10_rejects_other_files(tmp_path, content):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(HalutError, match=r"data must .*data_batch_2\)"):
        load("cifar10", tmp_path)


def test_shapes_depend_on_the_seed_only():
    first, again, other = (load("shapes", seed=seed, n_train=20, n_test=10) for seed in (1, 1, 2))
    assert torch.equal(first.train_x, again.train_x)
    assert not torch.equal(first.train_x, other.train_x)
    assert not torch.equal(first.train_x[:10], first.test_x)
    assert first.train_y.bincount().tolist() == [4] * len(SHAPES)


def test_shifts_move_whole_pixels_and_fill_with_black():
    images = torch.randn(40, 2, 5, 6)
    black = torch.tensor([-1.0, -2.0])
    moved = Shifts(pixels=2, flip=True)(images, torch.Generator().manual_seed(0), black)
    seen = set()
    for before, after in zip(images, moved, strict=True):
        found = []
        for mirrored in (False, True):
            source = before.flip(2) if mirrored else before
            padded = black.view(2, 1, 1).expand(2, 9, 10).clone()
            padded[:, 2:7, 2:8] = source
            for down in range(5):
                for right in range(5):
                    if torch.equal(padded[:, down : down + 5, right : right + 6], after):
                        found.append((mirrored, down, right))
        assert len(found) == 1
        seen |= set(found)
    assert {one[0] for one in seen} == {False, True}
    assert {one[1] for one in seen} == {one[2] for one in seen} == set(range(5))


def test_processes_that_share_a_batch_draw_alike():
    images, black = torch.randn(12, 1, 8, 8), torch.zeros(1)
    shifts = Shifts(pixels=1, flip=True)
    whole = shifts(images, torch.Generator().manual_seed(3), black)
    for rank in range(3):
        generator = torch.Generator().manual_seed(3)
        part = shifts(images, generator, black, slice(rank, None, 3))
        assert torch.equal(part, whole[rank::3])
    same = torch.Generator().manual_seed(3)
    assert torch.equal(Shifts()(images, same, black), images)
    assert same.get_state().equal(generator.get_state())


def test_rules():
    with pytest.raises(HalutError, match=r"not 'digit' \(did you mean \"digits\"\?\)"):
        load("digit")
    with pytest.raises(HalutError, match=r"n_train must be at least 1, not 0"):
        load("shapes", n_train=0)
    with pytest.raises(HalutError, match=r"n_test must be an integer, not 1.5"):
        load("digits", n_test=1.5)
    with pytest.raises(HalutError, match=r"seed must be at least 0, not -1"):
        load("shapes", seed=-1)
