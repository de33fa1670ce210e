"""A program as a product of rows: what the accelerator computes, on this processor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import native
from halut.arrays import matrix
from halut.errors import HalutError
from halut.golden import dequantize
from halut.lookup import chunks
from halut.program import Program

__all__ = ["QuantisedMatmul"]


class QuantisedMatmul:
    """A matrix product with a program's quantised inputs and tables, and float32 results.

    Bit by bit what `halut.golden` makes of ``program.input_words(A)``, then `golden.dequantize`;
    but nothing is gathered, and tables are laid out once, so that it is the fastest way from rows
    to products. Rows that are float32 or int8, in row-major or column-major order, are taken as
    they are.

    Parameters
    ----------
    program : Program
        Its output stage, if any, is not applied.

    Attributes
    ----------
    program : Program

    Examples
    --------
    >>> import numpy as np
    >>> from halut import HalutMatmul
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((2000, 4)) @ rng.standard_normal((4, 32))
    >>> multiplier = HalutMatmul(C=8).learn_offline(A, rng.standard_normal((32, 5)))
    >>> quantised = multiplier.quantised(lut_bits=8)
    >>> Y = quantised.matmul_online(A)
    >>> Y.shape, Y.dtype.name
    ((2000, 5), 'float32')
    >>> floats = multiplier.matmul_online(A)
    >>> bool(np.square(Y - floats).sum() < 0.01 * np.square(floats).sum())
    True
    """

    def __init__(self, program: Program) -> None:
        if not isinstance(program, Program):
            raise HalutError(f"program must be a Program, not {type(program).__name__}")
        self.program = program
        self._native = native.QuantisedProduct(program)

    def __repr__(self) -> str:
        return f"QuantisedMatmul({self.program!r})"

    def _rows(self, A: ArrayLike) -> NDArray[Any]:
        rows = matrix("A", A)
        if rows.shape[1] != self.program.n_features:
            raise HalutError(
                f"A must have shape (any, {self.program.n_features}), not {rows.shape}"
            )
        return rows

    def encode(self, A: ArrayLike) -> NDArray[np.uint8]:
        """Walk rows through the trees.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            Rows; each value becomes an input word first, see `Program.input_words`, here without
            its warning.

        Returns
        -------
        uint8 ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
            Codes.

        Raises
        ------
        HalutError
            When the shape is wrong, or a value is NaN and the input format an integer.
        """
        rows = self._rows(A)
        codes = self._native.encode(rows)
        if codes is not None:
            return codes
        codes = np.empty((len(rows), self.program.n_codebooks), dtype=np.uint8)
        for part in chunks(len(rows)):
            words = self.program.input_words(rows[part], quiet=True)
            codes[part] = native.encode(self.program, words)
        return codes

    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Add up the entries that codes select, and dequantise.

        Parameters
        ----------
        codes : integer array-like of shape (n_rows, n_codebooks), range [0, n_prototypes)

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
        """
        return dequantize(self.program, native.accumulate(self.program, codes))

    def matmul_online(
        self, A: ArrayLike, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Multiply rows with B, approximately: ``decode(encode(A))`` in one go.

        Parameters
        ----------
        A : array-like of shape (n_rows, n_features), any real dtype
            As for `encode`.
        out : float32 ndarray of shape (n_rows, n_outputs), optional
            Where the product goes, row-major and apart from `A`. A new array costs about as long
            as looking up a few codebooks: its memory is given out page by page.

        Returns
        -------
        float32 ndarray of shape (n_rows, n_outputs)
            `out`, or a new array.

        Raises
        ------
        HalutError
            As `encode`, and when `out` cannot take the product.
        """
        rows = self._rows(A)
        if out is not None:
            self._check_out(out, rows)
        product = self._native.multiply(rows, out)
        if product is None:
            product = self.decode(self.encode(rows))
            if out is not None:
                out[...] = product
                return out
        return product

    def _check_out(self, out: NDArray[np.float32], rows: NDArray[Any]) -> None:
        shape = len(rows), self.program.n_outputs
        if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != np.float32:
            given = getattr(out, "shape", None), getattr(out, "dtype", type(out).__name__)
            raise HalutError(f"out must be a float32 array of shape {shape}, not {given}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise HalutError("out must be row-major, without gaps, and writable")
        if np.may_share_memory(out, rows):
            raise HalutError("out must be apart from A in memory")
