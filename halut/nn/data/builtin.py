"""Images that need no file: scikit-learn's digits, and shapes that are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.nn.data.dataset import Part

__all__ = ["SHAPES", "digits", "shapes"]

_TRAINING_DIGITS = 1297

SHAPES = ("disc", "square", "triangle", "cross", "ring")
"""Classes of the generated shapes."""


def digits() -> tuple[int, Part, Part]:
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


def shapes(seed: int, *counts: int) -> tuple[int, Part, Part]:
    parts = []
    for index, count in enumerate(counts):
        rng = np.random.default_rng((seed, index))
        labels = np.arange(count) % len(SHAPES)
        parts.append((np.stack([_shape(rng, int(label)) for label in labels]), labels))
    return len(SHAPES), parts[0], parts[1]
