"""CIFAR-10 from its python version, read without running what a pickle may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.nn.data.dataset import Part, pixels

__all__ = ["cifar10"]

_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_BYTES = 3 * 32 * 32


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
        or images.shape[1] != _BYTES
        or not isinstance(labels, list)
        or len(labels) != len(images)
        or not all(isinstance(label, int) and 0 <= label < 10 for label in labels)
    ):
        raise HalutError(
            f"data must hold uint8 images (any, {_BYTES}) and as many labels in [0, 10) ({path})"
        )
    return images, np.array(labels, np.int64)


def cifar10(folder: Path) -> tuple[int, Part, Part]:
    if (folder / _FOLDER).is_dir():
        folder = folder / _FOLDER
    files = (*_TRAIN, _TEST)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise HalutError(
            f"data must be a folder with {', '.join(files)}, the unpacked python version of "
            f'CIFAR-10 ("CIFAR-10 and CIFAR-100 datasets", University of Toronto, '
            f"cifar-10-python.tar.gz); {missing[0]} is missing ({folder})"
        )
    batches = [_cifar_batch(folder / name) for name in files]
    images, labels = (np.concatenate([batch[part] for batch in batches[:-1]]) for part in (0, 1))
    return 10, (_images(images), labels), (_images(batches[-1][0]), batches[-1][1])


def _images(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels(images.reshape(-1, 3, 32, 32))
