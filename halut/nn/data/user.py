"""The user's own data: arrays in a file, images in folders, or a function of theirs."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.nn.data.dataset import Dataset, Part, first, make, pixels
from halut.nn.imported import imported

__all__ = ["arrays", "from_function", "images_in", "of_arrays"]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_TEST_SHARE = 5  # one input of so many is one to test with, where data have no parts
_NO_LABEL = -1
_FEWEST_CLASSES = 2


def arrays(path: Path, as_is: bool = False) -> tuple[int, Part, Part]:
    """Read an .npz file of what `of_arrays` takes, or an .npy file of inputs without labels."""
    try:
        if path.suffix == ".npy":
            values = {"train_x": np.load(path, allow_pickle=False)}
        else:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
    except OSError as error:
        raise HalutError(f"data must be readable: {error.strerror or error} ({path})") from None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise HalutError(
            f"data must be an {path.suffix} file of arrays: {error} ({path})"
        ) from None
    return of_arrays(values, str(path), as_is)


def of_arrays(values: Mapping[str, Any], where: str, as_is: bool = False) -> tuple[int, Part, Part]:
    """Return the parts of a data set given as arrays.

    Parameters
    ----------
    values : mapping
        ``train_x``, ``train_y``, ``test_x`` and ``test_y``, or ``x_train`` and so on. Images are
        (n, height, width), (n, n_channels, height, width) or (n, height, width, 1, 3 or 4);
        8-bit ones become numbers in [0, 1]. Labels are integers from 0. All labels may be absent,
        and the inputs to test with: every fifth input is one then.
    where : str
        Named in errors.
    as_is : bool
        Inputs are floating-point numbers and keep their shape: (n, n_channels, length) or any
        other.
    """
    names = {"train_x", "train_y", "test_x", "test_y"}
    given = {name: _entry(values, name) for name in names}
    present = {name for name in names if given[name] is not None}
    if present not in (names, {"train_x", "train_y"}, {"train_x", "test_x"}, {"train_x"}):
        lacking = min(names - present, key=("train_x", "test_x", "train_y", "test_y").index)
        raise HalutError(
            f"data must have {lacking}, not only {', '.join(sorted(values))} ({where})"
        )
    parts: list[Part] = []
    for part in ("train", "test"):
        if f"{part}_x" in present:
            x = _inputs(np.asarray(given[f"{part}_x"]), f"{part}_x", where, as_is)
            y = np.full(len(x), _NO_LABEL)
            if f"{part}_y" in present:
                y = _labels(np.asarray(given[f"{part}_y"]), len(x), f"{part}_y", where)
            parts.append((x, y))
    train, test = parts if len(parts) == 2 else _split(parts[0], where)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise HalutError(
            f"test_x must have the shape of train_x, {train[0].shape[1:]}, "
            f"not {test[0].shape[1:]} ({where})"
        )
    return 1 + max(int(train[1].max()), int(test[1].max())), train, test


def _entry(values: Mapping[str, Any], name: str) -> Any:
    return values.get(name, values.get("_".join(reversed(name.split("_")))))


def _split(part: Part, where: str) -> tuple[Part, Part]:
    """Take every fifth input to test with."""
    if len(part[0]) < _TEST_SHARE:
        raise HalutError(
            f"data must be at least {_TEST_SHARE} inputs, not {len(part[0])} ({where})"
        )
    tests = np.arange(len(part[0])) % _TEST_SHARE == _TEST_SHARE - 1
    return (part[0][~tests], part[1][~tests]), (part[0][tests], part[1][tests])


def _inputs(x: NDArray[Any], name: str, where: str, as_is: bool) -> NDArray[Any]:
    if x.ndim < 2 or not x.size or x.dtype.kind not in "fiu":
        raise HalutError(
            f"{name} must be numbers of shape (any, ...), not {x.dtype} of shape {x.shape} "
            f"({where})"
        )
    if as_is and x.dtype.kind != "f":
        raise HalutError(
            f"{name} must be floating-point numbers to be taken as they are, not {x.dtype} "
            f"({where})"
        )
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = pixels(x)
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise HalutError(f"{name} must be finite, not NaN or infinite ({where})")
        if as_is:
            return x
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 3, 4):
            x = np.moveaxis(x, 3, 1)
    return x


def _labels(y: NDArray[Any], n_inputs: int, name: str, where: str) -> NDArray[np.int64]:
    if y.shape == (n_inputs, 1):
        y = y[:, 0]
    if y.shape != (n_inputs,) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 65535:
        raise HalutError(
            f"{name} must be {n_inputs} integers in [0, 65535], not {y.dtype} of shape {y.shape} "
            f"({where})"
        )
    return y.astype(np.int64)


def images_in(folder: Path, size: int | None = None) -> tuple[int, Part, Part]:
    """Read images from a folder per class, or from one folder, without labels.

    Parameters
    ----------
    folder : pathlib.Path
        With folders ``train`` and ``test`` (or ``val``) of one folder per class each; or the
        classes' folders themselves, of which every fifth image is one to test with; or images and
        at most one other folder, of which that is so, too.
    size : int, optional
        Images are scaled until the shorter side has so many pixels, and cut to a square. Without
        it, all must be of one size.
    """
    train = folder / "train"
    test = next((folder / name for name in _TEST_FOLDERS if (folder / name).is_dir()), None)
    if train.is_dir() and test is not None:
        classes = _classes(train)
        parts = [_read(_files(one, classes), size) for one in (train, test)]
        return len(classes), parts[0], parts[1]
    names, images = _folders(folder), _images_among(folder.glob("*"))
    if images and len(names) < _FEWEST_CLASSES:
        part = _read([(path, _NO_LABEL) for path in images], size)
        return 0, *_split(part, str(folder))
    classes = _classes(folder)
    return len(classes), *_split(_read(_files(folder, classes), size), str(folder))


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise HalutError(f"data must be readable: {error.strerror} ({folder})") from None


def _classes(folder: Path) -> list[str]:
    names = _folders(folder)
    if len(names) < _FEWEST_CLASSES:
        raise HalutError(
            f"data must be a folder of images, or with a folder of images per class, at least "
            f"{_FEWEST_CLASSES}, not {len(names)} ({folder})"
        )
    return names


def _files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in _images_among((folder / name).glob("**/*"))
    ]
    if not found:
        raise HalutError(f"data must be images ({', '.join(_IMAGES)}), not none ({folder})")
    return found


def _images_among(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in _IMAGES)


def _read(files: list[tuple[Path, int]], size: int | None) -> Part:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise HalutError(
            "data must be arrays without Pillow, not images (pip install halut-stack[demo])"
        ) from None
    images: list[NDArray[np.uint8]] = []
    for path, _ in files:
        try:
            with Image.open(path) as image:
                grey = image.mode in ("1", "L", "I;16", "I")
                square = image.convert("L" if grey else "RGB")
                if size is not None:
                    square = ImageOps.fit(square, (size, size), Image.Resampling.BILINEAR)
                images.append(np.atleast_3d(np.asarray(square)))
        except (OSError, ValueError, SyntaxError) as error:
            raise HalutError(f"data must be images that can be read: {error} ({path})") from None
    channels = max(image.shape[2] for image in images)
    shapes = {image.shape[:2]: path for image, (path, _) in zip(images, files, strict=True)}
    if len(shapes) > 1:
        (height, width), other = list(shapes)[:2]
        raise HalutError(
            f"images must be of one size, {width}x{height}, or data be given a size, "
            f"not {other[1]}x{other[0]} ({shapes[other]})"
        )
    same = [np.repeat(image, channels, axis=2) if image.shape[2] < channels else image
            for image in images]  # fmt: skip
    x = np.stack(same).transpose(0, 3, 1, 2)
    return pixels(x), np.array([label for _, label in files], dtype=np.int64)


def from_function(
    name: str,
    options: Mapping[str, Any],
    n_train: int | None = None,
    n_test: int | None = None,
    as_is: bool = False,
) -> Dataset:
    """Return what a function ``package.module:function`` returns, or the first inputs of it.

    It returns a `Dataset`, or a mapping of arrays or tensors as `of_arrays` takes, which `as_is` is
    about.
    """
    made = imported(name, "data", options)
    if isinstance(made, Dataset):
        return dataclasses.replace(
            made,
            train_x=made.train_x[:n_train],
            train_y=made.train_y[:n_train],
            test_x=made.test_x[:n_test],
            test_y=made.test_y[:n_test],
        )
    if not isinstance(made, Mapping):
        raise HalutError(
            f"data must be a Dataset or a mapping of arrays, not {type(made).__name__} ({name})"
        )
    n_classes, train, test = of_arrays(made, name, as_is)
    return make(name, n_classes, first(train, n_train), first(test, n_test), as_is=as_is)
