"""What learning found, and what quantising costs beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOTABLE_COST", "Judge", "QuantisationError", "Statistics"]

NOTABLE_COST = 0.05
"""A quantised program whose error is higher by more than this share deserves a warning."""
_NEGLIGIBLE = 1e-6
"""Unless the error is no more than this: where tables are right, rounding is all of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What learning found.

    Parameters
    ----------
    n_rows : int
        Training rows.
    n_tree_rows : int
        Training rows that the trees were learned from.
    ridge : float
        Strength of the ridge regression.
    ridge_around_means : bool
        Whether it shrinks towards each codebook's own means, or towards zero.
    refine_passes : int
        How often the trees were learned again.
    held_out_error : float
        ``|AB - Y|**2 / |AB|**2`` on the held-out rows, with float tables; NaN without held-out
        rows. Of a quantised program see `HalutMatmul.quantisation_error`.
    codebook_error : float64 ndarray of shape (n_codebooks,), range [0, 1]
        What each codebook alone leaves of its part of the centred product when every leaf stands
        for its mean: ``|A_c B_c - means|**2 / |A_c B_c|**2``; 0 where there is nothing to explain.
    code_counts : int64 ndarray of shape (n_codebooks, n_prototypes)
        Histogram of the codes of all training rows.
    code_entropy : float64 ndarray of shape (n_codebooks,), range [0, tree_depth]
        Entropy of the codes in bits; tree_depth when every leaf is used alike.
    lut_range : float32 ndarray of shape (n_outputs, 2)
        Smallest and largest table entry of every output.
    seconds : float
        Wall-clock time of learning.
    """

    n_rows: int
    n_tree_rows: int
    ridge: float
    ridge_around_means: bool
    refine_passes: int
    held_out_error: float
    codebook_error: NDArray[np.float64]
    code_counts: NDArray[np.int64]
    code_entropy: NDArray[np.float64]
    lut_range: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class QuantisationError:
    """What quantising costs a program.

    Parameters
    ----------
    float_error : float
        ``|AB - Y|**2 / |AB|**2`` of the float tables on held-out rows, which they were not learned
        from; on the training rows when there were too few to hold any out.
    held_out : bool
        Whether there were enough.
    added : float
        What the program, computed in integers by `halut.golden` and dequantised, adds on those
        rows; less than 0 where rounding happens to help.
    codebook : int or None
        The codebook whose input grid, or format, adds most, when inputs add more than tables.
    output : int or None
        Otherwise, the output column whose error grows most.
    energy : float
        ``|AB|**2`` of those rows.
    """

    float_error: float
    held_out: bool
    added: float
    codebook: int | None
    output: int | None
    energy: float

    @property
    def error(self) -> float:
        """The program's error: float tables' plus what is added."""
        return self.float_error + self.added

    @property
    def notable(self) -> bool:
        """Whether the error counts, and is more than 5 % above that of the float tables."""
        if self.error <= _NEGLIGIBLE:
            return False
        return self.added > NOTABLE_COST * self.float_error or not np.isfinite(self.added)

    def __str__(self) -> str:
        """Return one line for the user."""
        blame = f"output column {self.output}" if self.codebook is None else (
            f"the inputs of codebook {self.codebook}"
        )  # fmt: skip
        return (
            f"quantisation raises the {'held-out' if self.held_out else 'training'} error from "
            f"{self.float_error:.4g} to {self.error:.4g}, most of it by {blame}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """Rows that quantisation is judged on.

    Parameters
    ----------
    rows : float32 ndarray of shape (n, n_features)
    exact : float64 ndarray of shape (n, n_outputs)
        Their product.
    energy : float
        Of the product.
    ordinary : bool ndarray of shape (n,)
        See `ordinary_rows`; choices are made for these.
    """

    rows: NDArray[np.float32]
    exact: NDArray[np.float64]
    energy: float
    ordinary: NDArray[np.bool_]
