"""Inputs of the test vector, and images that ranges are learned from."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from halut.checks import integer_from
from halut.errors import HalutError
from halut.nn.network import load_data, load_inputs

__all__ = ["CALIBRATION_IMAGES", "calibration_inputs", "test_inputs"]

DEFAULT_IMAGES = 10
CALIBRATION_IMAGES = 512


def test_inputs(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    n_images: int | None = None,
    imports: Collection[str] = (),
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
    imports : collection of str, default none
        See `halut.nn.network.load_network`.

    Returns
    -------
    float32 Tensor of shape (n, ...)
    """
    if n_images is not None:
        integer_from("images", n_images, 1)
    if path is not None:
        return load_inputs(path, header)[:n_images]
    if not (header.get("data") or {}).get("name"):
        raise HalutError("network file must name its data set, or --inputs be given")
    return load_data(header, root, imports).test_x[: n_images or DEFAULT_IMAGES]


def calibration_inputs(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    imports: Collection[str] = (),
) -> Tensor:
    """Return training images of the network's data set, or all inputs of a file."""
    if path is not None:
        return load_inputs(path, header)
    return load_data(header, root, imports).train_x[:CALIBRATION_IMAGES]
