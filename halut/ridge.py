"""Ridge regression on one-hot codes, without ever building the one-hot matrix.

With G (n_rows x C*K) holding a one for each code of a row, MADDNESS (arXiv 2106.10860, section
4.3) takes as prototypes ``P = (G'G + lambda I)^-1 G'A``, with lambda 1, and as tables ``P B``.
The solution is linear in its targets, so solving for the product ``A B`` itself gives the same
tables. ``G'G`` only counts how often two codes meet, and a prediction's squared error follows
from ``G'G`` and ``G'Y`` alone; both are sums over rows, so that training and held-out rows can be
told apart by subtraction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut import native
from halut.errors import HalutError
from halut.native import learning

__all__ = ["MEANS", "Fit", "Gram", "HeldOut", "best_strength", "check_means", "count_meetings",
           "entries_of", "solve", "table_sums"]  # fmt: skip

_CHUNK = 1 << 16

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
"""The strengths that are tried."""

MEANS = "means"
"""In place of a strength: no regression, tables of the means of rows that share a code."""


def check_means(encoder: str, refine_passes: int, effort: int) -> None:
    """Refuse what learns from a regression's tables, where there is none (`MEANS`)."""
    if encoder not in ("tree", "window"):
        raise HalutError(f'encoder must be tree or window with ridge "means", not "{encoder}"')
    for name, value in (("refine_passes", refine_passes), ("effort", effort)):
        if value:
            raise HalutError(f'{name} must be 0 with ridge "means", not {value!r}')


@dataclass(frozen=True, kw_only=True)
class Gram:
    """What ridge regression needs to know of a set of rows.

    Parameters
    ----------
    meetings : float64 ndarray of shape (C*K, C*K)
        ``G'G``.
    sums : float64 ndarray of shape (C*K, n_targets)
        ``G'Y``.
    energy : float
        The sum of squares of Y.
    """

    meetings: NDArray[np.float64]
    sums: NDArray[np.float64]
    energy: float

    @classmethod
    def of(cls, codes: NDArray[np.uint8], targets: NDArray[Any], n_prototypes: int) -> Gram:
        """Build it from codes and targets.

        Parameters
        ----------
        codes : uint8 ndarray of shape (n_codebooks, n_rows), range [0, n_prototypes)
        targets : float32 ndarray of shape (n_rows, n_targets)
            Y, centred.
        n_prototypes : int
            K.

        Returns
        -------
        Gram
        """
        return cls(
            meetings=count_meetings(codes, n_prototypes),
            sums=table_sums(codes, targets, n_prototypes),
            energy=float(np.einsum("ij,ij->", targets, targets, dtype=np.float64)),
        )

    def squared_error(self, entries: NDArray[np.float64]) -> float:
        """Return the squared error of tables on these rows.

        Parameters
        ----------
        entries : float64 ndarray of shape (C*K, n_targets)

        Returns
        -------
        float
            ``|Y - G entries|**2``.
        """
        fitted = self.meetings @ entries
        fitted -= 2 * self.sums
        return self.energy + float(np.einsum("ij,ij->", entries, fitted))


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Rows that tables are judged by: few, so that looking up is quicker than with a `Gram`.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_codebooks, n_rows), range [0, n_prototypes)
    targets : float32 ndarray of shape (n_rows, n_targets)
        Centred.
    n_prototypes : int
        K.
    """

    codes: NDArray[np.uint8]
    targets: NDArray[np.float32]
    n_prototypes: int

    def squared_error(self, entries: NDArray[np.float64]) -> float:
        """Return the squared error of tables (C*K, n_targets), as float32, on these rows."""
        n_codebooks, n_targets = len(self.codes), entries.shape[1]
        tables = np.ascontiguousarray(entries.T, dtype=np.float32)
        tables = tables.reshape(n_targets, n_codebooks, self.n_prototypes)
        offset = np.zeros(n_targets, dtype=np.float32)
        fitted = native.decode_floats(np.ascontiguousarray(self.codes.T), tables, offset)
        if fitted is None:
            fitted = np.zeros_like(self.targets)
            for codebook, codes in enumerate(self.codes):
                fitted += tables[:, codebook].T.take(codes, axis=0)
        rest = np.subtract(self.targets, fitted, out=fitted)
        return float(np.einsum("ij,ij->i", rest, rest).sum(dtype=np.float64))


def count_meetings(codes: NDArray[np.uint8], n_prototypes: int) -> NDArray[np.float64]:
    """Count how often each pair of codes meets in a row: ``G'G``.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_codebooks, n_rows), range [0, n_prototypes)
    n_prototypes : int

    Returns
    -------
    float64 ndarray of shape (n_codebooks * n_prototypes, n_codebooks * n_prototypes)
    """
    counted = learning.count_meetings(codes, n_prototypes)
    if counted is not None:
        return counted
    n_codebooks, n_rows = codes.shape
    K = n_prototypes
    counts = np.zeros((n_codebooks, K, n_codebooks, K))
    for begin in range(0, n_rows, _CHUNK):
        wide = codes[:, begin : begin + _CHUNK].astype(np.intp)
        pair = np.empty(wide.shape[1], dtype=np.intp)
        for i in range(n_codebooks):
            counts[i, :, i, :] += np.diag(np.bincount(wide[i], minlength=K))
            first = wide[i] * K
            for j in range(i + 1, n_codebooks):
                np.add(first, wide[j], out=pair)
                counts[i, :, j, :] += np.bincount(pair, minlength=K * K).reshape(K, K)
    matrix = counts.reshape(n_codebooks * K, n_codebooks * K)
    # Only the upper blocks were counted; the diagonal blocks are diagonal.
    upper = np.triu(matrix, 1)
    matrix += upper.T
    return matrix


def table_sums(
    codes: NDArray[np.uint8], targets: NDArray[Any], n_prototypes: int
) -> NDArray[np.float64]:
    """Add up the targets of the rows that share a code: ``G'Y``.

    Parameters
    ----------
    codes : uint8 ndarray of shape (n_codebooks, n_rows), range [0, n_prototypes)
    targets : floating ndarray of shape (n_rows, n_targets)
    n_prototypes : int

    Returns
    -------
    float64 ndarray of shape (n_codebooks * n_prototypes, n_targets)
        A few rows are added up in float32, these sums in float64; how many rows, and in what
        order, depends on what computes.
    """
    added = learning.table_sums(codes, targets, n_prototypes)
    if added is not None:
        return added
    n_codebooks, n_rows = codes.shape
    K = n_prototypes
    sums = np.zeros((n_codebooks * K, targets.shape[1]))
    if K > 32:  # a product with one-hot codes costs K per row, counting costs much the same always
        columns = np.ascontiguousarray(targets.T, dtype=np.float64)
        for codebook in range(n_codebooks):
            wide = codes[codebook].astype(np.intp)
            for target, column in enumerate(columns):
                total = np.bincount(wide, column, minlength=K)
                sums[codebook * K : (codebook + 1) * K, target] = total
        return sums
    size = n_codebooks * K
    chunk = min(n_rows, max(64, (1 << 20) // size))
    leaf = np.eye(K, dtype=np.float32)
    onehot = np.empty((chunk, n_codebooks, K), dtype=np.float32)
    for begin in range(0, n_rows, chunk):
        part = codes[:, begin : begin + chunk].T
        some = onehot[: len(part)]
        np.take(leaf, part, axis=0, out=some, mode="clip")
        sums += some.reshape(-1, size).T @ targets[begin : begin + chunk]
    return sums


def _solve(
    meetings: NDArray[np.float64], strength: float, sides: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve ``(meetings + strength * I) tables = sides``; column-major `sides` are read fastest."""
    solved = learning.solve(meetings, strength, sides)
    if solved is not None:
        return solved
    shrunk = meetings.copy()
    shrunk.ravel()[:: len(shrunk) + 1] += strength
    # The matrix is symmetric; its transpose lies as LAPACK wants it.
    return np.linalg.solve(shrunk.T, sides).astype(np.float64, copy=False)


def solve(
    gram: Gram, strength: float, around: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Solve for tables.

    Parameters
    ----------
    gram : Gram
        Of the rows to learn from.
    strength : float
        Lambda, greater than 0.
    around : float64 ndarray of shape (C*K, n_targets), optional
        What the tables are shrunk towards; zero when absent.

    Returns
    -------
    float64 ndarray of shape (C*K, n_targets)
    """
    sums = gram.sums if around is None else gram.sums + strength * around
    return _solve(gram.meetings, strength, np.asfortranarray(sums))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A choice of ridge regression, and how well it did on held-out rows.

    Parameters
    ----------
    strength : float
        Lambda; infinite where tables are the means themselves.
    around_means : bool
        Whether tables are shrunk towards the means of each codebook alone, or towards zero.
    error : float
        Squared error on held-out rows.
    entries : float64 ndarray of shape (C*K, n_targets), optional
        The tables that it was measured with.
    """

    strength: float
    around_means: bool
    error: float
    entries: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)


def best_strength(
    train: Gram,
    held_out: Gram | HeldOut,
    means: NDArray[np.float64] | None = None,
    start: float = 10.0,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Fit:
    """Choose the strength with the smallest squared error on held-out rows.

    The error is taken to have one minimum over the strengths, so that the search can walk
    downhill from `start` and solve for a few of them only.

    Parameters
    ----------
    train : Gram
        Of the rows to learn from.
    held_out : Gram or HeldOut
        Of the rows to judge by.
    means : float64 ndarray of shape (C*K, n_targets), optional
        When given, shrinking towards it is tried beside shrinking towards zero.
    start : float, default 10
        Where the search begins.
    strengths : tuple of float
        Ascending.

    Returns
    -------
    Fit
    """
    n_targets = train.sums.shape[1]
    sides = train.sums
    if means is not None:
        sides = np.concatenate([sides, sides - train.meetings @ means], axis=1)
    sides = np.asfortranarray(sides)
    solved: dict[int, NDArray[np.float64]] = {}
    fits: dict[tuple[int, bool], Fit] = {}

    def fit(index: int, around_means: bool) -> Fit:
        if (index, around_means) not in fits:
            if index not in solved:
                solved[index] = _solve(train.meetings, strengths[index], sides)
            entries = solved[index][:, :n_targets]
            if means is not None and around_means:
                entries = means + solved[index][:, n_targets:]
            fits[index, around_means] = Fit(
                strength=strengths[index],
                around_means=around_means,
                error=held_out.squared_error(entries),
                entries=entries,
            )
        return fits[index, around_means]

    def downhill(index: int, around_means: bool) -> int:
        for step in (-1, 1):
            moved = False
            while (
                0 <= index + step < len(strengths)
                and fit(index + step, around_means).error < fit(index, around_means).error
            ):
                index += step
                moved = True
            if moved:
                break
        return index

    begin = int(np.abs(np.log(np.array(strengths) / start)).argmin())
    zero = downhill(begin, False)
    if means is None:
        return fit(zero, False)
    mean = downhill(zero, True)
    return min(fit(zero, False), fit(mean, True), key=lambda one: one.error)


def entries_of(fit: Fit, gram: Gram, means: NDArray[Any] | None) -> NDArray[np.float64]:
    """Solve for tables as a fit says.

    Parameters
    ----------
    fit : Fit
    gram : Gram
        Of the rows to learn from.
    means : float64 ndarray of shape (C*K, n_targets) or None
        Needed when ``fit.around_means``.

    Returns
    -------
    float64 ndarray of shape (C*K, n_targets)
    """
    return solve(gram, fit.strength, means if fit.around_means else None)
