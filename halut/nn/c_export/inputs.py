"""Inputs of the test vector, and images that ranges are learned from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halut.arrays import load_array
from halut.checks import integer_from
from halut.errors import HalutError
from halut.nn.network import load_data

__all__ = ["calibration_inputs", "test_inputs"]

DEFAULT_IMAGES = 10
CALIBRATION_IMAGES = 512


def test_inputs(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    n_images: int | None = None,
) -> Tensor:
    """Return inputs for a network's test vector.

    Parameters
    ----------
    header : mapping
        Of the network file, see `halut.nn.network.load_network`.
    root : path-like, optional
        The folder of the network's data set.
    path : path-like, optional
        An ``.npy`` file of inputs in place of the data set's test images.
    n_images : int, optional
        How many, at least 1; 10 by default, or all of the file.

    Returns
    -------
    float32 Tensor of shape (n, ...)
    """
    if n_images is not None:
        integer_from("images", n_images, 1)
    if path is not None:
        return _read(path)[:n_images]
    if not (header.get("data") or {}).get("name"):
        raise HalutError("network file must name its data set, or --inputs be given")
    return load_data(header, root).test_x[: n_images or DEFAULT_IMAGES]


def calibration_inputs(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Tensor:
    """Return training images of the network's data set, or all inputs of a file."""
    if path is not None:
        return _read(path)
    return load_data(header, root).train_x[:CALIBRATION_IMAGES]


def _read(path: str | os.PathLike[str]) -> Tensor:
    array = load_array("inputs", path)
    if array.ndim not in (2, 4) or not array.size or array.dtype.kind not in "iuf":
        raise HalutError(
            f"inputs must be real numbers of shape (n, features) or (n, channels, height, width), "
            f"not {array.dtype} of {array.shape} ({path})"
        )
    return torch.from_numpy(array.astype(np.float32))
