"""What users hand in as matrices, checked once and in one place."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.checks import located
from halut.errors import HalutError

__all__ = [
    "checked_array",
    "load_array",
    "load_matrix",
    "matrix",
    "to_scale",
    "training_matrix",
    "training_pair",
]

_USUAL_EXPONENT = 20


def checked_array(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Copy `value` as a read-only array of `dtype`; `None` in `shape` is any size from 1.

    Raises
    ------
    HalutError
        When the shape is another, or a value does not fit the dtype: integers and float16 hold
        what is given exactly, other floats round.
    """
    try:
        given = np.asarray(value)
    except (TypeError, ValueError):
        raise HalutError(f"{name} must be an array, not {type(value).__name__}") from None
    wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
    if given.ndim != len(shape) or any(
        have < 1 if want is None else have != want
        for have, want in zip(given.shape, shape, strict=True)
    ):
        raise HalutError(f"{name} must have shape {wanted}, not {given.shape}")
    if given.dtype.kind not in "iuf":
        raise HalutError(f"{name} must be numeric, not {given.dtype}")
    target = np.dtype(dtype)
    with np.errstate(all="ignore"):
        array = given.astype(target)
    if target.kind in "iu" and not np.array_equal(array, given):
        raise HalutError(f"{name} must hold integers that fit {target}")
    if target == np.float16 and not np.array_equal(array, given, equal_nan=True):
        raise HalutError(f"{name} must hold values that float16 can hold exactly")
    array.setflags(write=False)
    return array


def matrix(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return `value` as a real matrix with at least one column, as it is.

    Parameters
    ----------
    name : str
        How error messages call it.
    value : array-like of shape (any, at least 1), any real dtype

    Returns
    -------
    ndarray of shape (any, at least 1)

    Raises
    ------
    HalutError
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise HalutError(f"{name} must be a matrix, not a ragged sequence") from None
    if array.dtype.kind not in "biuf":
        raise HalutError(f"{name} must hold real numbers, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0:
        raise HalutError(f"{name} must be a matrix with columns, not of shape {array.shape}")
    return array


def training_matrix(name: str, value: ArrayLike) -> NDArray[np.float32]:
    """Return `value` as a finite float32 matrix with at least one row.

    Parameters
    ----------
    name : str
        How error messages call it.
    value : array-like of shape (at least 1, at least 1), any real dtype

    Returns
    -------
    float32 ndarray of the shape of `value`

    Raises
    ------
    HalutError
        Also when a value is NaN, infinite, or too large for float32; the message says where.
    """
    given = matrix(name, value)
    if not len(given):
        raise HalutError(f"{name} must have at least one row, not 0")
    with np.errstate(over="ignore"):
        array = given.astype(np.float32, copy=False)
    for begin in range(0, len(array), 1 << 14):
        finite = np.isfinite(array[begin : begin + (1 << 14)])
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise HalutError(
                f"{name} must be finite in float32, not {given[begin + row, column]} "
                f"(row {begin + row}, column {column})"
            )
    if given.dtype == np.float64 and not array.any() and given.any():
        raise HalutError(
            f"{name} must have a value of at least {np.finfo(np.float32).tiny:.3g} or be all "
            f"zero, not reach {np.abs(given).max():.3g} at most: float32 does not hold it"
        )
    return array


def to_scale(name: str, array: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Bring a matrix of very large or very small values near 1, by a power of two.

    Sums of squares then stay in the range of float32. What lies within 2**-20 to 2**20 is
    returned as it is.

    Parameters
    ----------
    name : str
        How error messages call it.
    array : float32 ndarray, finite

    Returns
    -------
    scaled : float32 ndarray of the shape of `array`
    exponent : int
        ``array = scaled * 2**exponent``.

    Raises
    ------
    HalutError
        When all values are so small that float32 loses digits of them.
    """
    largest = max(float(array.max()), -float(array.min()))
    if 0 < largest < np.finfo(np.float32).tiny:
        raise HalutError(
            f"{name} must have a value of at least {np.finfo(np.float32).tiny:.3g} or be all "
            f"zero, not reach {largest:.3g} at most: float32 does not hold it"
        )
    exponent = int(np.frexp(largest)[1]) - 1 if largest else 0
    if abs(exponent) <= _USUAL_EXPONENT:
        return array, 0
    return np.ldexp(array, -exponent), exponent


def training_pair(
    A: ArrayLike, B: ArrayLike, n_codebooks: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return A and B as `training_matrix` does, when they can be multiplied.

    Parameters
    ----------
    A : array-like of shape (n_rows, n_features)
    B : array-like of shape (n_features, n_outputs)
    n_codebooks : int
        C; every codebook needs a column of A.

    Returns
    -------
    A, B : float32 ndarray

    Raises
    ------
    HalutError
    """
    rows, weights = training_matrix("A", A), training_matrix("B", B)
    n_features = rows.shape[1]
    if len(weights) != n_features:
        raise HalutError(
            f"B must have as many rows as A has columns, {n_features}, not {len(weights)}"
        )
    if n_features < n_codebooks:
        raise HalutError(f"C must be at most the columns of A, {n_features}, not {n_codebooks}")
    return rows, weights


def load_matrix(name: str, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a matrix from an ``.npy`` file; see `load_array`.

    Returns
    -------
    ndarray of shape (any, at least 1), real
    """
    array = load_array(name, path)
    with located(path):
        return matrix(name, array)


def load_array(name: str, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an array from an ``.npy`` file.

    Parameters
    ----------
    name : str
        How error messages call it.
    path : path-like

    Returns
    -------
    ndarray

    Raises
    ------
    HalutError
        When the file cannot be read or holds anything else; the message names it.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "not a whole file"
        raise HalutError(f"{name} must be readable: {reason} ({path})") from None
    except (ValueError, EOFError, MemoryError, SyntaxError, zipfile.BadZipFile):
        raise HalutError(f"{name} must be an .npy file of numbers ({path})") from None
    if not isinstance(array, np.ndarray):
        raise HalutError(f"{name} must be one matrix (.npy), not an archive ({path})")
    return array
