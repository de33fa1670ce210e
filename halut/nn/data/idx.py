"""MNIST, Fashion-MNIST and whatever else is written as they are: IDX files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.nn.data.dataset import Part, pixels

__all__ = ["FASHION_MNIST", "idx", "read_idx"]

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts it."""

_PARTS = ("train", "t10k")
_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes, compressed by gzip or not.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, the
    dimensions as big-endian 32-bit integers, the values.

    Raises
    ------
    HalutError
        When the file cannot be read or holds something else.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except OSError as error:
        raise HalutError(f"data must be readable: {error.strerror or error} ({path})") from None
    except (EOFError, zlib.error) as error:
        raise HalutError(f"data must be a whole gzip file: {error} ({path})") from None
    n_dims = content[3] if len(content) > 3 else 0
    begin = 4 + 4 * n_dims
    if content[:3] != b"\x00\x00\x08" or not n_dims or len(content) < begin:
        raise HalutError(f"data must be an IDX file of unsigned bytes, not something else ({path})")
    shape = tuple(int(size) for size in np.frombuffer(content[4:begin], ">u4"))
    wanted = int(np.prod(shape, dtype=object))
    if len(content) - begin != wanted:
        raise HalutError(
            f"data must hold {wanted} bytes for shape {shape}, not {len(content) - begin} ({path})"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def idx(folder: Path, where_from: str) -> tuple[int, Part, Part]:
    """Read ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``, with ``.gz`` or without.

    Parameters
    ----------
    folder : pathlib.Path
    where_from : str
        Where the files can be had, for the message when they are missing.
    """
    parts: list[Part] = []
    for part in _PARTS:
        images, labels = (read_idx(_file(folder, f"{part}-{kind}", where_from)) for kind in _KINDS)
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            raise HalutError(
                f"data must be as many images as labels, not {images.shape} and {labels.shape} "
                f"({folder}, {part})"
            )
        parts.append((pixels(images[:, None]), labels))
    n_classes = 1 + max(int(labels.max()) for _, labels in parts)
    return n_classes, parts[0], parts[1]


def _file(folder: Path, name: str, where_from: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise HalutError(f"data must be a folder with {name}(.gz), {where_from}, not {folder}")
