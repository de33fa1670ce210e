"""The demo's two matrix products: a classifier of digits, and a filter bank on photographs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import LogisticRegression

__all__ = ["FILTERS", "PHOTO_NAMES", "Photograph", "Problem", "digits", "photographs"]

_TRAINING_DIGITS = 1297
_TRAINING_SHARE = 0.6  # of a photograph's columns, from the left
_TRAINING_PATCHES = 60_000
_LUMINANCE = np.array([0.299, 0.587, 0.114])

PHOTO_NAMES = ("china", "flower")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A matrix product ``A @ B`` on images.

    Attributes
    ----------
    name, title : str
    train, test : float32 ndarray of shape (n_rows, n_features)
        Rows to learn from, and held-out rows for the accelerator.
    weights : float32 ndarray of shape (n_features, n_outputs)
        B.
    labels : int ndarray of shape (n_rows,), optional
        Classes of `test`, for a classifier.
    bias : float32 ndarray of shape (n_outputs,), optional
        Added to the product before the largest is taken, for a classifier.
    n_images : int
        Images that `test` was cut from.
    sweep : tuple of int
        Numbers of codebooks for the picture of error by C.
    photographs : tuple of Photograph
    output_scales : float32 ndarray of shape (n_outputs,)
        What the columns of B were divided by.
    """

    name: str
    title: str
    train: NDArray[np.float32]
    test: NDArray[np.float32]
    weights: NDArray[np.float32]
    n_images: int
    sweep: tuple[int, ...]
    labels: NDArray[Any] | None = None
    bias: NDArray[np.float32] | None = None
    photographs: tuple[Photograph, ...] = ()
    output_scales: NDArray[np.float32] = field(default_factory=lambda: np.ones(1, np.float32))

    def quality(self, product: NDArray[Any]) -> float:
        """Return the accuracy of a classifier, else the mean squared error over the variance."""
        if self.labels is not None and self.bias is not None:
            return float(((product + self.bias).argmax(axis=1) == self.labels).mean())
        return self.error(product)

    def error(self, product: NDArray[Any]) -> float:
        """Return the mean over outputs of the mean squared error over the output's variance."""
        exact = self.test @ self.weights
        return float((np.square(product - exact).mean(axis=0) / exact.var(axis=0)).mean())


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """The held-out part of a photograph.

    Attributes
    ----------
    name : str
    pixels : float32 ndarray of shape (height, width, 3), range [0, 1]
        What the windows' centres show.
    rows : slice
        Its rows in `Problem.test`.
    """

    name: str
    pixels: NDArray[np.float32]
    rows: slice


def digits(n_test: int | None = None) -> Problem:
    """Return the classification of scikit-learn's 8x8 handwritten digits.

    The exact classifier is a logistic regression; its matrix of weights is what is approximated.

    Parameters
    ----------
    n_test : int, optional
        Held-out images; all 500 by default.
    """
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(4421).permutation(len(images))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    train, test = images[:_TRAINING_DIGITS], images[_TRAINING_DIGITS:][:n_test]
    classifier = LogisticRegression(max_iter=2000).fit(train, labels[:_TRAINING_DIGITS])
    return Problem(
        name="digits",
        title="Handwritten digits",
        train=train,
        test=test,
        weights=classifier.coef_.T.astype(np.float32),
        bias=classifier.intercept_.astype(np.float32),
        labels=labels[_TRAINING_DIGITS:][:n_test],
        n_images=len(test),
        sweep=(4, 8, 16, 32, 64),
    )


_BLUR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
_SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
_SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
_LAPLACE = np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]) / 8
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])

FILTERS = ("blur R", "blur G", "blur B", "sharpen", "Sobel x", "Sobel y", "Laplace", "emboss")
"""Names of the filter bank's outputs."""


def _filter_bank() -> NDArray[np.float64]:
    """Return the filters, (27, 8): the 3x3 windows of red, green and blue, each row by row."""
    kernels = [np.multiply.outer(channel, _BLUR) for channel in np.eye(3)]
    kernels += [
        np.multiply.outer(_LUMINANCE, kernel)
        for kernel in (_SHARPEN, _SOBEL, _SOBEL.T, _LAPLACE, _EMBOSS)
    ]
    return np.stack([kernel.reshape(-1) for kernel in kernels], axis=1)


def _patches(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every 3x3 window, (n_windows, 27), in the order of `_filter_bank`."""
    windows = sliding_window_view(pixels, (3, 3), axis=(0, 1))  # (H-2, W-2, channel, 3, 3)
    return windows.reshape(-1, 27)


def photographs(n_test: int | None = None) -> Problem:
    """Return the filtering of scikit-learn's two photographs with eight 3x3 colour filters.

    The left 60 % of both photographs teach, the right 40 % are held out. Each filter is scaled to
    unit variance of its output, so that all eight count alike.

    Parameters
    ----------
    n_test : int, optional
        Held-out windows per photograph, as whole lines from the top; all by default.
    """
    train, test, kept = [], [], []
    start = 0
    for name, image in zip(PHOTO_NAMES, load_sample_images().images, strict=True):
        pixels = image.astype(np.float32) / 255
        border = int(pixels.shape[1] * _TRAINING_SHARE)
        train.append(_patches(pixels[:, :border]))
        right = pixels[:, border:]
        if n_test is not None:
            right = right[: max(3, n_test // (right.shape[1] - 2) + 2)]
        test.append(_patches(right))
        rows = slice(start, start + len(test[-1]))
        start = rows.stop
        kept.append(Photograph(name=name, pixels=right[1:-1, 1:-1], rows=rows))
    every = np.concatenate(train)
    some = np.random.default_rng(0).permutation(len(every))[:_TRAINING_PATCHES]
    chosen = every[some]
    bank = _filter_bank()
    scales = (chosen @ bank).std(axis=0)
    bank /= scales
    return Problem(
        name="photo",
        title="Photographs",
        train=chosen,
        test=np.concatenate(test),
        weights=bank.astype(np.float32),
        n_images=len(kept),
        sweep=(3, 9, 27),
        photographs=tuple(kept),
        output_scales=scales.astype(np.float32),
    )
