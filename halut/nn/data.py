"""Images to train on: scikit-learn's digits, Fashion-MNIST and CIFAR-10 from local copies, shapes.

Everything is one tensor per part, normalised with the mean and deviation of the training part.
"""

from __future__ import annotations

import gzip
import logging
import os
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halut.checks import integer_at_least, one_of
from halut.errors import HalutError

__all__ = ["DATASETS", "SHAPES", "Dataset", "Shifts", "load"]

_log = logging.getLogger(__name__)

_TRAINING_DIGITS = 1297
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR_TEST = "test_batch"
_CIFAR_BYTES = 3 * 32 * 32
_FASHION_ROOT = "/usr/share/datasets/fashion-mnist"  # of Debian's dataset-fashion-mnist

SHAPES = ("disc", "square", "triangle", "cross", "ring")
"""Classes of the generated shapes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images in two parts.

    Attributes
    ----------
    name : str
    n_classes : int
    train_x, test_x : float32 Tensor of shape (n_images, n_channels, height, width)
        Zero mean and unit deviation per channel over the training part.
    train_y, test_y : int64 Tensor of shape (n_images,), range [0, n_classes)
    mean, deviation : float32 Tensor of shape (n_channels,)
        Of the training part's pixels in [0, 1].
    """

    name: str
    n_classes: int
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: Tensor
    deviation: Tensor

    @property
    def n_channels(self) -> int:
        """Channels of an image."""
        return self.train_x.shape[1]

    @property
    def image_size(self) -> int:
        """Height, and width, of an image in pixels."""
        return self.train_x.shape[2]

    @property
    def black(self) -> Tensor:
        """What a pixel of 0 became: float32 of shape (n_channels,)."""
        return -self.mean / self.deviation

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same images on a device."""
        tensors = {
            field: value.to(device)
            for field, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return Dataset(name=self.name, n_classes=self.n_classes, **tensors)


_Part = tuple[NDArray[np.float32], NDArray[Any]]  # images with pixels in [0, 1], labels


def _dataset(name: str, n_classes: int, train: _Part, test: _Part) -> Dataset:
    mean = train[0].mean(axis=(0, 2, 3), dtype=np.float64)
    deviation = train[0].std(axis=(0, 2, 3), dtype=np.float64)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def normalised(images: NDArray[np.float32]) -> Tensor:
        shape = (1, -1, 1, 1)
        values = (images - mean.reshape(shape)) / deviation.reshape(shape)
        return torch.from_numpy(values.astype(np.float32))

    return Dataset(
        name=name,
        n_classes=n_classes,
        train_x=normalised(train[0]),
        train_y=torch.from_numpy(train[1].astype(np.int64)),
        test_x=normalised(test[0]),
        test_y=torch.from_numpy(test[1].astype(np.int64)),
        mean=torch.from_numpy(mean.astype(np.float32)),
        deviation=torch.from_numpy(deviation.astype(np.float32)),
    )


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Augmentation: images move by whole pixels, what comes in is black; and are mirrored.

    Parameters
    ----------
    pixels : int, default 0
        Largest shift in each direction.
    flip : bool, default False
        Mirror every second image, at random, left to right.

    Examples
    --------
    >>> images = torch.ones(2, 1, 4, 4)
    >>> moved = Shifts(pixels=1)(images, torch.Generator().manual_seed(0), torch.zeros(1))
    >>> moved.shape
    torch.Size([2, 1, 4, 4])
    """

    pixels: int = 0
    flip: bool = False

    def __call__(
        self, images: Tensor, generator: torch.Generator, black: Tensor, part: slice = slice(None)
    ) -> Tensor:
        """Return changed copies of ``images[part]``.

        The random numbers are those of the whole batch, so that processes that share a batch draw
        alike.

        Parameters
        ----------
        images : Tensor of shape (n_images, n_channels, height, width)
        generator : torch.Generator
            On the processor; drawn from even when nothing is changed.
        black : Tensor of shape (n_channels,)
            What comes in.
        part : slice
            Images to return.
        """
        n_images, _, height, width = images.shape
        numbers = torch.randint(0, 2 * self.pixels + 1, (2, n_images, 1), generator=generator)
        mirrored = torch.randint(0, 2, (n_images, 1), generator=generator).bool()
        images = images[part]
        if not self.pixels and not self.flip:
            return images
        device = images.device
        down, right = (number[part].to(device) for number in numbers)
        columns = torch.arange(width, device=device).expand(len(images), width)
        if self.flip:
            columns = torch.where(mirrored[part].to(device), width - 1 - columns, columns)
        pad = self.pixels
        size = (*images.shape[:2], height + 2 * pad, width + 2 * pad)
        padded = black.to(images).view(1, -1, 1, 1).expand(size).contiguous()
        padded[:, :, pad : pad + height, pad : pad + width] = images
        rows = torch.arange(height, device=device) + down  # (n_images, height)
        columns = columns + right  # (n_images, width)
        first = torch.arange(len(images), device=device).view(-1, 1, 1)
        # Indices around the slice put the channels last: (n_images, height, width, n_channels).
        moved = padded[first, :, rows.unsqueeze(2), columns.unsqueeze(1)]
        return moved.permute(0, 3, 1, 2).contiguous()


def _digits() -> tuple[int, _Part, _Part]:
    """Split 1797 images of 8x8 pixels at random, always the same way, as the demo does."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise HalutError(
            'data must be available, not "digits" without scikit-learn '
            "(pip install halut-stack[demo])"
        ) from None
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(4421).permutation(len(images))
    images = (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = labels[order]
    train, test = slice(None, _TRAINING_DIGITS), slice(_TRAINING_DIGITS, None)
    return 10, (images[train], labels[train]), (images[test], labels[test])


def _idx(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """Read an array of bytes from a file of MNIST's format, compressed or not."""
    place = path if path.exists() else path.with_name(f"{path.name}.gz")
    try:
        content = place.read_bytes()
        content = gzip.decompress(content) if place.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HalutError(f"data must be readable: {reason} ({place})") from None
    head = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:head].ljust(4 * n_axes, b"\0"), dtype=">u4").astype(int)
    if content[:4] != bytes((0, 0, 8, n_axes)) or len(content) - head != np.prod(shape):
        raise HalutError(f"data must be bytes in MNIST's format, {n_axes} axes ({place})")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape)


def _fashion(root: Path) -> tuple[int, _Part, _Part]:
    parts = []
    for part in ("train", "t10k"):
        images = _idx(root / f"{part}-images-idx3-ubyte", 3)
        labels = _idx(root / f"{part}-labels-idx1-ubyte", 1)
        if len(images) != len(labels) or images.shape[1:] != (28, 28):
            raise HalutError(f"data must be as many labels as images of 28x28 pixels ({root})")
        parts.append((images[:, None].astype(np.float32) / np.float32(255), labels))
    return 10, parts[0], parts[1]


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for the ``_codecs.encode`` by which old pickles spell bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries, lists, strings, numbers and NumPy arrays, and nothing else."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the four functions that arrays need."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return self._RECONSTRUCT
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"{module}.{name}")


def _cifar_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except OSError as error:
        raise HalutError(f"data must be readable: {error.strerror} ({path})") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise HalutError(
            f"data must be a CIFAR-10 batch in the python format, not something else: "
            f"{type(error).__name__} {error} ({path})"
        ) from None
    images = content.get(b"data") if isinstance(content, dict) else None
    labels = content.get(b"labels") if isinstance(content, dict) else None
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.ndim != 2
        or images.shape[1] != _CIFAR_BYTES
        or not isinstance(labels, list)
        or len(labels) != len(images)
        or not all(isinstance(label, int) and 0 <= label < 10 for label in labels)
    ):
        raise HalutError(
            f"data must hold uint8 images (any, {_CIFAR_BYTES}) and as many labels in [0, 10) "
            f"({path})"
        )
    return images, np.array(labels, np.int64)


def _cifar10(folder: Path) -> tuple[int, _Part, _Part]:
    if (folder / _CIFAR_FOLDER).is_dir():
        folder = folder / _CIFAR_FOLDER
    files = (*_CIFAR_TRAIN, _CIFAR_TEST)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise HalutError(
            f"data must be a folder with {', '.join(files)}, the unpacked python version of "
            f'CIFAR-10 ("CIFAR-10 and CIFAR-100 datasets", University of Toronto, '
            f"cifar-10-python.tar.gz); {missing[0]} is missing ({folder})"
        )
    batches = [_cifar_batch(folder / name) for name in files]
    images, labels = (np.concatenate([batch[part] for batch in batches[:-1]]) for part in (0, 1))
    return 10, (_pixels(images), labels), (_pixels(batches[-1][0]), batches[-1][1])


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)


def _shape(rng: np.random.Generator, label: int) -> NDArray[np.float32]:
    """Draw a shape of `SHAPES` in a random colour, place and size on a noisy ground."""
    radius = rng.uniform(6, 11)
    centre = rng.uniform(radius, 31 - radius, size=2)
    y, x = np.mgrid[:32, :32] - centre.reshape(2, 1, 1)
    inside = {
        "disc": x**2 + y**2 <= radius**2,
        "square": np.maximum(abs(x), abs(y)) <= 0.8 * radius,
        "triangle": (y <= 0.7 * radius) & (y >= 2 * abs(x) - radius),
        "cross": (np.minimum(abs(x), abs(y)) <= 0.25 * radius)
        & (np.maximum(abs(x), abs(y)) <= radius),
        "ring": abs(np.hypot(x, y) - 0.8 * radius) <= 0.2 * radius,
    }[SHAPES[label]]
    ground, colour = rng.uniform(0, 0.4, size=3), rng.uniform(0.6, 1, size=3)
    image = np.where(inside, colour.reshape(3, 1, 1), ground.reshape(3, 1, 1))
    image = image + rng.normal(0, 0.05, size=image.shape)
    return np.clip(image, 0, 1).astype(np.float32)


def _shapes(seed: int, *counts: int) -> tuple[int, _Part, _Part]:
    parts = []
    for index, count in enumerate(counts):
        rng = np.random.default_rng((seed, index))
        labels = np.arange(count) % len(SHAPES)
        parts.append((np.stack([_shape(rng, int(label)) for label in labels]), labels))
    return len(SHAPES), parts[0], parts[1]


DATASETS = ("cifar10", "digits", "fashion_mnist", "shapes")
"""Names that `load` and recipes know."""


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Return a data set.

    Parameters
    ----------
    name : {"digits", "fashion_mnist", "cifar10", "shapes"}
        scikit-learn's handwritten digits (1x8x8, 1297 and 500 images, always the same split);
        Fashion-MNIST (1x28x28, 60000 and 10000); CIFAR-10 (3x32x32); generated colour
        images of five shapes (3x32x32, 2000 and 500).
    root : path-like, optional
        "cifar10": the folder with the batches of the python version, or the one above it;
        ``build/data`` when absent. "fashion_mnist": the folder with the four files, as they are or
        compressed; that of Debian's package dataset-fashion-mnist when absent.
    seed : int, default 0
        "shapes": what is drawn.
    n_train, n_test : int, optional
        Only so many images of each part, the first; "shapes": how many are drawn.

    Returns
    -------
    Dataset

    Raises
    ------
    HalutError
        When there is no such data set, or its files are missing or damaged.

    Examples
    --------
    >>> shapes = load("shapes", n_train=10, n_test=5)
    >>> shapes.train_x.shape, shapes.test_y.tolist()
    (torch.Size([10, 3, 32, 32]), [0, 1, 2, 3, 4])
    """
    one_of("data", name, DATASETS)
    integer_at_least("seed", seed, 0)
    for field, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None:
            integer_at_least(field, count, 1)
    if name == "digits":
        n_classes, train, test = _digits()
    elif name == "fashion_mnist":
        n_classes, train, test = _fashion(Path(_FASHION_ROOT if root is None else root))
    elif name == "cifar10":
        n_classes, train, test = _cifar10(Path("build/data" if root is None else root))
    else:
        n_classes, train, test = _shapes(seed, n_train or 2000, n_test or 500)
    found = _dataset(
        name,
        n_classes,
        (train[0][:n_train], train[1][:n_train]),
        (test[0][:n_test], test[1][:n_test]),
    )
    _log.info(
        "%s: %d images to train on, %d to test, %d classes",
        name,
        len(found.train_x),
        len(found.test_x),
        found.n_classes,
    )
    return found
