"""Labelled inputs in two parts, to train on and to test, and a third to choose by."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halut.errors import HalutError

__all__ = ["Dataset", "Part", "first", "make", "norm_values", "pixels"]

Part = tuple[NDArray[Any], NDArray[Any]]
"""Inputs and labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Inputs in two parts, with labels or without.

    Attributes
    ----------
    name : str
    n_classes : int
        0 where there are no labels.
    train_x, test_x : float32 Tensor of shape (n_images, n_channels, height, width)
        Zero mean and unit deviation per channel over the training part, if not taken as they are.
        Other inputs than images have other shapes; int64 inputs (tokens) are as they were given.
    train_y, test_y : int64 Tensor of shape (n_images,), range [0, n_classes)
        All -1 where there are no labels.
    mean, deviation : float32 Tensor of shape (n_channels,)
        Of the training part before; 0 and 1 for what is not normalised.
    validation_x, validation_y : Tensor or None
        A part of the training inputs that is not trained on, see `hold_out`.
    """

    name: str
    n_classes: int
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: Tensor
    deviation: Tensor
    validation_x: Tensor | None = None
    validation_y: Tensor | None = None

    @property
    def images(self) -> bool:
        """Whether inputs are images: float32, with channels, height and width."""
        return self.train_x.ndim == 4 and self.train_x.is_floating_point()

    @property
    def n_channels(self) -> int:
        """Channels of an image, or size of the first dimension of another input."""
        return self.train_x.shape[1]

    @property
    def image_size(self) -> int:
        """Height, and width, of an image in pixels."""
        return self.train_x.shape[2]

    @property
    def black(self) -> Tensor:
        """What a pixel of 0 became: float32 of shape (n_channels,)."""
        return -self.mean / self.deviation

    def labelled(self) -> Dataset:
        """Return the same; it must have labels."""
        if not self.n_classes:
            raise HalutError(f"data must have labels, not only inputs ({self.name})")
        return self

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same inputs on a device."""
        tensors: dict[str, Any] = {
            field: value.to(device)
            for field, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **tensors)

    def hold_out(self, n_inputs: int, seed: int = 0) -> Dataset:
        """Return the data set with training inputs, drawn at random, put aside for validation.

        Parameters
        ----------
        n_inputs : int
            Fewer than there are training inputs.
        seed : int, default 0
            Of the draw.

        Examples
        --------
        >>> from halut.nn.data import load
        >>> data = load("shapes", n_train=20, n_test=5).hold_out(4)
        >>> len(data.train_x), len(data.validation_x)
        (16, 4)
        """
        n_train = len(self.train_x)
        if not 1 <= n_inputs < n_train:
            raise HalutError(
                f"validation inputs must be 1 to {n_train - 1} of the training inputs, "
                f"not {n_inputs}"
            )
        order = torch.randperm(n_train, generator=torch.Generator().manual_seed(seed))
        aside, kept = order[:n_inputs].sort().values, order[n_inputs:].sort().values
        return dataclasses.replace(
            self,
            train_x=self.train_x[kept],
            train_y=self.train_y[kept],
            validation_x=self.train_x[aside],
            validation_y=self.train_y[aside],
        )


def first(part: Part, n_inputs: int | None) -> Part:
    """Return the first inputs of a part; all when there is no number."""
    return part[0][:n_inputs], part[1][:n_inputs]


def pixels(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 8-bit pixels in [0, 1]."""
    return values.astype(np.float32) / np.float32(255)


def norm_values(name: str, values: object) -> list[float]:
    """Check one number per channel; deviations must be above zero."""
    if not isinstance(values, list) or not values or not all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one)
        for one in values
    ):  # fmt: skip
        raise HalutError(f"{name} must be a list of numbers, one per channel, not {values!r}")
    if name.endswith("std") and min(values) <= 0:
        raise HalutError(f"{name} must be greater than 0, not {min(values)}")
    return values


def make(
    name: str,
    n_classes: int,
    train: Part,
    test: Part,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    as_is: bool = False,
) -> Dataset:
    """Return a data set of two parts; images are normalised.

    Parameters
    ----------
    name : str
    n_classes : int
        0 where there are no labels.
    train, test : Part
        Images have shape (n, n_channels, height, width) and a floating dtype.
    mean, std : list of float, optional
        Per channel, of pixels in [0, 1]; the training part's when absent.
    as_is : bool
        Images are not normalised.
    """
    images = train[0].ndim == 4 and train[0].dtype.kind == "f"
    n_channels = train[0].shape[1] if images else 1
    centre, deviation = np.zeros(n_channels), np.ones(n_channels)
    if images and not as_is:
        axes = (0, 2, 3)
        centre = np.array(mean) if mean else train[0].mean(axis=axes, dtype=np.float64)
        deviation = np.array(std) if std else train[0].std(axis=axes, dtype=np.float64)
        deviation = np.where(deviation > 0, deviation, 1.0)
        for what, values in (("mean", centre), ("std", deviation)):
            if len(values) != train[0].shape[1]:
                raise HalutError(
                    f"{what} must have {train[0].shape[1]} numbers, one per channel, "
                    f"not {len(values)} ({name})"
                )
    elif mean or std:
        raise HalutError(f"mean and std must be given for images only ({name})")

    def normalised(values: NDArray[Any]) -> Tensor:
        if images:
            shape = (1, -1, 1, 1)
            values = (values - centre.reshape(shape)) / deviation.reshape(shape)
        dtype = np.float32 if values.dtype.kind == "f" else np.int64
        return torch.from_numpy(values.astype(dtype))

    return Dataset(
        name=name,
        n_classes=n_classes,
        train_x=normalised(train[0]),
        train_y=torch.from_numpy(train[1].astype(np.int64)),
        test_x=normalised(test[0]),
        test_y=torch.from_numpy(test[1].astype(np.int64)),
        mean=torch.from_numpy(centre.astype(np.float32)),
        deviation=torch.from_numpy(deviation.astype(np.float32)),
    )
