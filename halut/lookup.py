"""The online path in floats: gather what the trees look at, walk, look up, add.

Rows are taken a few at a time, so that what is gathered of them stays in the cache, and values lie
level by level, so that every step is one vectorised operation over many rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import native
from halut.arrays import matrix
from halut.errors import HalutError
from halut.native import learning
from halut.ridge import Fit, Gram, count_meetings, entries_of, table_sums
from halut.trees import fill_empty_leaves, walk

__all__ = [
    "LookUpProduct",
    "centred_product",
    "chunks",
    "gather",
    "look_up",
    "mean_row",
    "product_basis",
    "walk_rows",
]

_ROWS_AT_ONCE = 1024

_ROWS_CENTRED = 256
"""Rows that are centred in the cache."""

_ROWS_SUMMED = 16384
"""Rows whose product is there at a time."""


def chunks(n_rows: int) -> Iterator[slice]:
    """Cut rows into pieces that stay in the cache."""
    for begin in range(0, n_rows, _ROWS_AT_ONCE):
        yield slice(begin, min(begin + _ROWS_AT_ONCE, n_rows))


def mean_row(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of rows (n_rows, n_features), added up in float64."""
    means = learning.column_means(rows)
    if means is None:
        means = rows.mean(axis=0, dtype=np.float64)
    return means.astype(np.float32)


def centred_product(
    rows: NDArray[np.float32], centre: NDArray[np.float32], basis: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return ``(rows - centre) @ basis``, made a few rows at a time."""
    product = np.empty((len(rows), basis.shape[1]), dtype=np.float32)
    centred = np.empty((min(_ROWS_CENTRED, len(rows)), rows.shape[1]), dtype=np.float32)
    for begin in range(0, len(rows), _ROWS_CENTRED):
        some = rows[begin : begin + _ROWS_CENTRED]
        here = np.subtract(some, centre, out=centred[: len(some)])
        np.matmul(here, basis, out=product[begin : begin + len(some)])
    return product


def gather(
    rows: NDArray[Any],
    part: slice,
    split_dims: NDArray[np.int32],
    signs: NDArray[np.int8] | None = None,
) -> NDArray[np.float32]:
    """Collect the values that trees look at.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), any real dtype
    part : slice
        The n rows that are wanted.
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth), or (…, terms)
        Or (n_codebooks, n_prototypes - 1), of nodes; so is then what is returned.
    signs : int8 ndarray of shape (n_codebooks, tree_depth, terms), range [-1, 1], optional
        When given, a value is the sum of its terms' columns, each times its sign, added up in
        float32 in their order.

    Returns
    -------
    float32 ndarray of shape (n_codebooks, tree_depth, n), contiguous
    """
    if signs is not None:
        total = np.zeros((*signs.shape[:2], len(rows[part])), dtype=np.float32)
        for term in range(signs.shape[2]):
            values = gather(rows, part, split_dims[:, :, term])
            sign = signs[:, :, term, None]
            with np.errstate(over="ignore", invalid="ignore"):  # of infinite values
                np.add(total, sign * values, out=total, where=sign != 0)
        return total
    dims = split_dims.ravel()
    if rows.flags.f_contiguous and not rows.flags.c_contiguous:
        values = rows.T[dims, part]
    else:
        values = np.take(rows[part], dims, axis=1).T
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    return values.reshape(*split_dims.shape, -1)


def walk_rows(
    rows: NDArray[Any],
    split_dims: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    signs: NDArray[np.int8] | None = None,
) -> NDArray[np.uint8]:
    """Walk rows (n_rows, n_features) through all trees: codes (n_codebooks, n_rows)."""
    if signs is None:
        found = native.encode_floats(rows, split_dims, thresholds)
        if found is not None:
            return np.ascontiguousarray(found.T)
    codes = np.empty((len(split_dims), len(rows)), dtype=np.uint8)
    for part in chunks(len(rows)):
        walk(gather(rows, part, split_dims, signs), thresholds, codes[:, part])
    return codes


def look_up(tables: NDArray[np.float32], codes: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Add up table entries.

    Parameters
    ----------
    tables : float32 ndarray of shape (n_codebooks, n_prototypes, n_outputs)
    codes : integer ndarray of shape (n_codebooks, n_rows), range [0, n_prototypes)
    out : float32 ndarray of shape (n_rows, n_outputs), contiguous
        Written.
    """
    index = codes.astype(np.intp)
    entries = np.empty_like(out)
    np.take(tables[0], index[0], axis=0, out=out, mode="clip")
    for table, places in zip(tables[1:], index[1:], strict=True):
        np.take(table, places, axis=0, out=entries, mode="clip")
        out += entries


def product_basis(
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return B, or something smaller that spans the same products with the same lengths.

    Parameters
    ----------
    weights : float32 ndarray of shape (n_features, n_outputs)
        B.

    Returns
    -------
    basis : float32 ndarray of shape (n_features, min(n_features, n_outputs))
    back : float32 ndarray of shape (min(n_features, n_outputs), n_outputs), or None
        ``B = basis @ back``, with orthonormal rows; None when the basis is B itself.
    """
    if weights.shape[1] <= weights.shape[0]:
        return weights, None
    left, size, back = np.linalg.svd(weights, full_matrices=False)
    return left * size, back


def _power_of_ten(entries: NDArray[Any], offset: NDArray[Any], exponent: int) -> str:
    """Return the order of magnitude of the largest product, which floats may not hold."""
    largest = max(np.abs(entries).max(), np.abs(offset).max())
    return f"about 1e{round(float(np.log10(largest)) + exponent * float(np.log10(2))):+03d}"


class LookUpProduct(ABC):
    """What every product by table look-ups shares, however it comes to its codes.

    Attributes
    ----------
    lut_ : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
        Table entries.
    offset_ : float32 ndarray of shape (n_outputs,)
        What is added to each sum of entries.
    n_features_ : int
        D.
    """

    C: int
    K: int
    lut_: NDArray[np.float32]
    offset_: NDArray[np.float32]
    n_features_: int

    def _check_learned(self, method: str) -> None:
        if not hasattr(self, "lut_"):
            raise HalutError(f"learn_offline must be called before {method}")

    def _rows(self, A: ArrayLike) -> NDArray[Any]:
        rows = matrix("A", A)
        if rows.shape[1] != self.n_features_:
            raise HalutError(f"A must have shape (any, {self.n_features_}), not {rows.shape}")
        return rows

    def _tables(self) -> NDArray[np.float32]:
        """Return tables (C, K, M) with the offset inside the first one."""
        tables = self.lut_.transpose(1, 2, 0).copy()  # with one output, nothing else would copy
        tables[0] += self.offset_
        return tables

    def _learn_tables(
        self,
        rows: NDArray[np.float32],
        weights: NDArray[np.float32],
        centre: NDArray[np.float32],
        codes: NDArray[np.uint8],
        fit: Fit,
        means: NDArray[np.float64] | None,
        exponent: int,
    ) -> NDArray[np.int64]:
        """Solve for the tables of all rows' codes (C, n_rows); return how often each is used.

        The product of what was given is ``2**exponent`` times that of `rows` and `weights`.
        """
        basis, back = product_basis(weights)
        entries: NDArray[Any]
        if np.isinf(fit.strength):
            assert means is not None
            entries = means
        else:
            entries = self._regress(rows, basis, centre, codes, fit, means)
        entries = entries.reshape(self.C, self.K, -1)
        counts = np.stack([np.bincount(row, minlength=self.K) for row in codes])
        entries = fill_empty_leaves(entries, counts)
        if back is not None:
            entries = entries @ back
        offset = centre.astype(np.float64) @ weights
        largest = float(np.ldexp(float(max(np.abs(entries).max(), np.abs(offset).max())), exponent))
        high, low = (float(getattr(np.finfo(np.float32), name)) for name in ("max", "tiny"))
        if not largest <= high or 0 < largest < low:
            raise HalutError(
                f"A @ B must be in the range of float32, {low:.3g} to {high:.3g}, "
                f"not reach {_power_of_ten(entries, offset, exponent)} at most"
            )
        entries = np.ldexp(entries.transpose(2, 0, 1), exponent)
        self.lut_ = np.ascontiguousarray(entries, dtype=np.float32)
        self.offset_ = np.ldexp(offset, exponent).astype(np.float32)
        self.n_features_ = rows.shape[1]
        return counts

    def _regress(
        self,
        rows: NDArray[np.float32],
        basis: NDArray[np.float32],
        centre: NDArray[np.float32],
        codes: NDArray[np.uint8],
        fit: Fit,
        means: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """Solve for tables (C*K, n_targets) of the product with `basis`, by ridge regression."""
        gram = Gram(
            meetings=count_meetings(codes, self.K),
            sums=np.zeros((self.C * self.K, basis.shape[1])),
            energy=np.nan,  # nobody asks for it
        )
        for begin in range(0, len(rows), _ROWS_SUMMED):
            part = slice(begin, begin + _ROWS_SUMMED)
            targets = centred_product(rows[part], centre, basis)
            gram.sums[:] += table_sums(np.ascontiguousarray(codes[:, part]), targets, self.K)
        return entries_of(fit, gram, means)

    @abstractmethod
    def encode(self, A: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes (n_rows, n_codebooks) of rows (n_rows, n_features)."""

    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Add up the table entries that codes select.

        Parameters
        ----------
        codes : integer array-like of shape (n_rows, n_codebooks), range [0, n_prototypes)

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
            The approximate product.
        """
        self._check_learned("decode")
        array = np.asarray(codes)
        if array.ndim != 2 or array.shape[1] != self.C:
            raise HalutError(f"codes must have shape (any, {self.C}), not {array.shape}")
        if array.dtype.kind not in "iu":
            raise HalutError(f"codes must be integers, not {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= self.K):
            raise HalutError(f"codes must be in [0, {self.K}), not {array.min()} to {array.max()}")
        product = native.decode_floats(array, self.lut_, self.offset_)
        if product is not None:
            return product
        out = np.empty((len(array), len(self.lut_)), dtype=np.float32)
        tables = self._tables()
        for part in chunks(len(array)):
            look_up(tables, array[part].T, out[part])
        return out

    def matmul_online(self, A: ArrayLike) -> NDArray[np.float32]:
        """Multiply rows with B, approximately: ``decode(encode(A))``.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
        """
        return self.decode(self.encode(A))
