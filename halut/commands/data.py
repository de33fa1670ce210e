"""Flags that say what a network is run on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halut.errors import HalutError

if TYPE_CHECKING:
    from torch import Tensor

    from halut.nn.data import Dataset

__all__ = ["add_data", "given_data", "parts_of"]

_BATCH = 32


def add_data(add: Any) -> None:
    """Add the data set, and how images become inputs."""
    add("--data", metavar="SOURCE",
        help="a built-in data set, a folder of images, an .npz or .npy file, a folder of IDX "
        "files, or module:function (default: what the network was trained on)")  # fmt: skip
    add("--root", metavar="DIR", help="folder of a built-in data set (default: where it is found)")
    add("--size", type=int, metavar="N",
        help="with --data of images: pixels of the square to scale to "
        "(default: as they are)")  # fmt: skip
    add("--mean", metavar="X,Y,Z",
        help="with --data of images: what is subtracted from each channel of pixels in [0, 1] "
        "(default: the training part's mean)")  # fmt: skip
    add("--std", metavar="X,Y,Z",
        help="with --data of images: what each channel is divided by then (default: the training "
        "part's deviation)")  # fmt: skip
    add("--as-is", action="store_true",
        help="with --data of an .npz or .npy file or a function: numbers are the network's inputs "
        "already, of any shape, and not images to normalise")  # fmt: skip


def given_data(
    options: argparse.Namespace, trained_on: Mapping[str, Any]
) -> tuple[Dataset, dict[str, Any]]:
    """Return the data set of the flags, or what a network was trained on; and how to load it."""
    from halut.nn.data import load
    from halut.nn.network import load_data

    if options.data is None:
        for name in ("size", "mean", "std", "as_is"):
            if getattr(options, name):
                raise HalutError(f"--{name.replace('_', '-')} must be given with --data")
        if not trained_on.get("name"):
            raise HalutError("--data must be given: the network does not name its data set")
        data = load_data({"data": trained_on}, options.root, options.imports)
        moved = {} if options.root is None else {"root": str(Path(options.root).absolute())}
        return data, {**trained_on, **moved}
    source = _source(options)
    root = None if options.root is None else str(Path(options.root).absolute())
    data = load(source, root)
    shape = list(data.test_x.shape[1:])
    return data, {"name": source, "root": root, "input_shape": shape}


def _source(options: argparse.Namespace) -> str | dict[str, Any]:
    from halut.nn.data import DATASETS

    text = options.data
    path = Path(text)
    if text in DATASETS:
        for name in ("size", "mean", "std", "as_is"):
            if getattr(options, name):
                raise HalutError(
                    f"--{name.replace('_', '-')} must be given for your own data only, not {text}"
                )
        return str(text)
    source: dict[str, Any]
    if ":" in text and not path.exists():
        source = {"import": text}
    elif path.suffix in (".npz", ".npy"):
        source = {"npz": str(path.absolute())}
    elif list(path.glob("train-images-idx3-ubyte*")):
        source = {"idx": str(path.absolute())}
    else:
        source = {"folder": str(path.absolute())}
    if options.size is not None:
        source["size"] = options.size
    for name in ("mean", "std"):
        given = getattr(options, name)
        if given is not None:
            source[name] = _numbers(name, given)
    if options.as_is:
        if source.keys() & {"idx", "folder"}:
            raise HalutError(f"--as-is must be given for arrays only, not {text}")
        source["as_is"] = True
    return source


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise HalutError(f"--{name} must be numbers and commas, not {text!r}") from None


def parts_of(images: Tensor, n_learn: int, n_held_out: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return batches to learn from, and others, drawn from training images, always the same."""
    import torch

    if len(images) < n_learn + n_held_out:
        raise HalutError(
            f"--images and --held-out must be at most the {len(images)} training images together, "
            f"not {n_learn + n_held_out}"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    learned, held_out = order[:n_learn], order[n_learn : n_learn + n_held_out]
    return list(images[learned].split(_BATCH)), list(images[held_out].split(_BATCH))
