"""More products on which accuracy is measured, made here: photographs, networks, filters.

Those of `halut.problems` have published results of others; these have none. All are reproducible
from their seeds. Photographs and digits come with scikit-learn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.baseline import ProductQuantization
from halut.bound import rate_distortion_bound
from halut.errors import HalutError
from halut.matmul import PLAIN, HalutMatmul
from halut.problems import PROBLEMS, PUBLISHED, Problem, relative_error, shuffled_digits

__all__ = ["METHODS", "PLAIN", "PROBLEM_SET", "convolution", "filter_bank", "geometric_means",
           "hidden_layer", "image_blocks", "installed", "last_layer", "measure",
           "other_photograph"]  # fmt: skip

_log = logging.getLogger(__name__)

_TRAIN, _TEST = 10000, 2000


def _photographs() -> list[NDArray[np.float64]]:
    """Return scikit-learn's two photographs, each 427 x 640 x 3, in [0, 1]."""
    try:
        from sklearn.datasets import load_sample_images

        images = load_sample_images().images
    except ImportError:
        raise HalutError(
            "scikit-learn and Pillow must be installed for the photographs "
            "(pip install scikit-learn pillow)"
        ) from None
    return [image.astype(np.float64) / 255 for image in images]


def _patches(
    draw: np.random.RandomState, image: NDArray[np.float64], n_patches: int, size: int
) -> NDArray[np.float64]:
    """Cut square patches from random places: (n_patches, size * size * channels)."""
    rows = draw.randint(0, image.shape[0] - size, n_patches)
    columns = draw.randint(0, image.shape[1] - size, n_patches)
    return np.stack(
        [
            image[row : row + size, column : column + size].ravel()
            for row, column in zip(rows, columns, strict=True)
        ]
    )


def _mixed_patches(
    draw: np.random.RandomState, images: list[NDArray[np.float64]], size: int
) -> NDArray[np.float64]:
    """Cut patches from all images alike, in random order."""
    share = (_TRAIN + _TEST) // len(images)
    patches = np.concatenate([_patches(draw, image, share, size) for image in images])
    return patches[draw.permutation(len(patches))]


def _gaussian_filters() -> NDArray[np.float64]:
    """Nine 5x5 Gaussian filters of the mean of three channels, of deviations 0.5 to 3: (75, 9)."""
    away = np.square(np.arange(-2, 3))
    distance = away[:, None] + away
    filters = []
    for deviation in np.linspace(0.5, 3, 9):
        weights = np.exp(-distance / (2 * deviation**2))
        filters.append(np.repeat(weights / weights.sum() / 3, 3))
    return np.stack(filters, axis=1)


def _split(name: str, A: NDArray[np.float64], B: NDArray[np.float64]) -> Problem:
    return Problem(name=name, train=A[:_TRAIN], test=A[_TRAIN:], B=B)


def filter_bank() -> Problem:
    """75x9: Gaussian filters on 5x5 patches of two colour photographs."""
    A = _mixed_patches(np.random.RandomState(4422), _photographs(), 5)
    return _split("filter bank", A, _gaussian_filters())


def other_photograph() -> Problem:
    """The same filters; learned from one photograph, judged by the other."""
    draw = np.random.RandomState(4423)
    first, second = _photographs()
    return Problem(
        name="other photograph",
        train=_patches(draw, first, _TRAIN, 5),
        test=_patches(draw, second, _TEST, 5),
        B=_gaussian_filters(),
    )


def image_blocks() -> Problem:
    """64x32: random filters on 8x8 grey blocks, less the mean of each block."""
    draw = np.random.RandomState(4424)
    A = _mixed_patches(draw, [image.mean(axis=2) for image in _photographs()], 8)
    A -= A.mean(axis=1, keepdims=True)
    return _split("image blocks", A, draw.randn(64, 32) / 8)


def convolution() -> Problem:
    """144x32: a 3x3 convolution of 16 channels, which random 3x3 filters and a ReLU made."""
    draw = np.random.RandomState(4425)
    patches = _mixed_patches(draw, _photographs(), 5).reshape(-1, 5, 5, 3) - 0.5
    filters = draw.randn(27, 16) / np.sqrt(27)
    pixels = [
        np.maximum(patches[:, y : y + 3, x : x + 3].reshape(len(patches), 27) @ filters, 0)
        for y in range(3)
        for x in range(3)
    ]
    A = np.stack(pixels, axis=2).reshape(len(patches), -1)  # channel by channel, as nn.Conv2d
    return _split("convolution", A, draw.randn(144, 32) / 12)


def _trained_network(
    draw: np.random.RandomState, sizes: tuple[int, ...]
) -> tuple[list[NDArray[np.float64]], list[NDArray[Any]]]:
    """Train a network on digits: its layers' matrices, and the inputs of each (1797 rows).

    Stochastic gradient descent with momentum 0.9, rate 0.1, 64 rows a step, 60 epochs.
    """
    images, labels = shuffled_digits(draw)
    images = images - images[:1297].mean(axis=0)
    weights = [draw.randn(a, b) * np.sqrt(2 / a) for a, b in pairwise(sizes)]
    momenta = [np.zeros_like(matrix) for matrix in weights]

    def forward(rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        inputs = [rows]
        for matrix in weights[:-1]:
            inputs.append(np.maximum(inputs[-1] @ matrix, 0))
        return inputs

    for _ in range(60):
        for begin in range(0, 1297, 64):
            batch = slice(begin, min(begin + 64, 1297))
            inputs = forward(images[batch])
            logits = inputs[-1] @ weights[-1]
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            gradient = exponents / exponents.sum(axis=1, keepdims=True)
            gradient -= labels[batch, None] == np.arange(10)
            gradient /= len(gradient)
            steps = []
            for layer in reversed(range(len(weights))):
                steps.append(inputs[layer].T @ gradient)
                gradient = (gradient @ weights[layer].T) * (inputs[layer] > 0)
            for matrix, momentum, step in zip(weights, momenta, reversed(steps), strict=True):
                momentum *= 0.9
                momentum += step
                matrix -= 0.1 * momentum
    return weights, forward(images)


def _layer(name: str, seed: int, sizes: tuple[int, ...], layer: int) -> Problem:
    weights, inputs = _trained_network(np.random.RandomState(seed), sizes)
    rows = inputs[layer]
    return Problem(name=name, train=rows[:1297], test=rows[1297:], B=weights[layer])


def last_layer() -> Problem:
    """128x10: the last layer of a network of two layers, trained on digits."""
    return _layer("last layer", 4426, (64, 128, 10), 1)


def hidden_layer() -> Problem:
    """128x64: the second of three layers of a network trained on digits."""
    return _layer("hidden layer", 4427, (64, 128, 64, 10), 1)


PROBLEM_SET: tuple[tuple[Callable[[], Problem], tuple[int, ...]], ...] = (
    *PROBLEMS,
    (filter_bank, (2, 4)),
    (other_photograph, (2,)),
    (image_blocks, (8, 16)),
    (convolution, (16,)),
    (last_layer, (8, 16)),
    (hidden_layer, (16,)),
)
"""Each problem with the numbers of codebooks that it is measured at: a problem of its own each."""

METHODS: dict[str, dict[str, Any]] = {
    "tree": {},
    "tree, effort 1": {"effort": 1},
    "window": {"encoder": "window", "effort": 1},
    "node": {"encoder": "node", "effort": 1},
    "sums of 2": {"encoder": "sums", "terms": 2, "effort": 1},
    "sums of 4": {"encoder": "sums", "terms": 4, "effort": 1},
    "best within 15 %": {"encoder": "best", "most_area": 1.15, "effort": 1},
}
"""What is compared: a name, and settings of `halut.HalutMatmul`."""


def installed(
    problems: tuple[tuple[Callable[[], Problem], tuple[int, ...]], ...],
) -> Iterator[tuple[Problem, tuple[int, ...]]]:
    """Make problems one after the other; leave out, with a warning, those without their data.

    Parameters
    ----------
    problems : tuple of (maker, numbers of codebooks)
    """
    for make, sizes in problems:
        try:
            problem = make()
        except HalutError as error:
            _log.warning("warning: left out %s: %s", make.__name__.replace("_", " "), error)
            continue
        yield problem, sizes


def measure(
    problems: tuple[tuple[Callable[[], Problem], tuple[int, ...]], ...] = PROBLEM_SET,
) -> list[dict[str, Any]]:
    """Measure every method on every problem, K = 16, float tables, on rows learning did not see.

    Parameters
    ----------
    problems : tuple of (maker, numbers of codebooks)
        See `installed`.

    Returns
    -------
    list of dict
        One per problem and C: ``problem``, ``n_codebooks``; ``errors`` and ``seconds``, each by
        method; ``plain`` and ``k_means``, the errors of `PLAIN` and of nearest centroids;
        ``bound``, see `rate_distortion_bound`; ``others``, the better of the reference and bolt
        where they were measured, else ``plain``; ``published``, whether they were.
    """
    found = []
    for problem, sizes in installed(problems):
        exact = problem.test @ problem.B
        for n_codebooks in sizes:
            errors, seconds = {}, {}
            for name, settings in METHODS.items():
                begin = time.perf_counter()
                learner = HalutMatmul(C=n_codebooks, **settings)
                learner.learn_offline(problem.train, problem.B)
                seconds[name] = time.perf_counter() - begin
                errors[name] = relative_error(learner.matmul_online(problem.test), exact)
            plain = HalutMatmul(C=n_codebooks, **PLAIN).learn_offline(problem.train, problem.B)
            nearest = ProductQuantization(C=n_codebooks).learn_offline(problem.train, problem.B)
            row: dict[str, Any] = {
                "problem": problem.name,
                "n_codebooks": n_codebooks,
                "errors": errors,
                "seconds": seconds,
                "plain": relative_error(plain.matmul_online(problem.test), exact),
                "k_means": relative_error(nearest.matmul_online(problem.test), exact),
                "bound": rate_distortion_bound(exact, 4 * n_codebooks),
            }
            published = PUBLISHED.get((problem.name, n_codebooks))
            row["published"] = published is not None
            row["others"] = min(published[:2]) if published else row["plain"]
            found.append(row)
    return found


def geometric_means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return each method's error relative to the others', as the geometric mean over rows.

    Parameters
    ----------
    rows : list of dict
        As `measure` returns them, at least one.

    Returns
    -------
    dict of str to float
        Also of ``"k-means"``.
    """
    beside = np.array([row["others"] for row in rows])
    errors = {name: [row["errors"][name] for row in rows] for name in METHODS}
    errors["k-means"] = [row["k_means"] for row in rows]
    return {
        name: float(np.exp(np.log(np.array(each) / beside).mean())) for name, each in errors.items()
    }
