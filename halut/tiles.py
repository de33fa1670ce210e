"""Cuts a program into programs of an accelerator's size, and adds their results up again.

A program of any C and M becomes a grid of tiles, codebooks by outputs, each with exactly the
accelerator's C and M. Outputs are independent, and the sum over codebooks is exact, so the
accumulators of the tiles give those of the whole bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.program import Program

__all__ = ["Tiling", "tile"]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """A program in tiles of one size; `tile` makes it.

    Attributes
    ----------
    program : Program
        The whole.
    n_codebooks, n_outputs : int
        C and M of every tile.
    tiles : tuple of Program
        Output by output within one range of codebooks, then the next range. All take the rows of
        the whole (`Program.input_words`).
    """

    program: Program
    n_codebooks: int
    n_outputs: int
    tiles: tuple[Program, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along the codebooks and along the outputs."""
        return (
            -(-self.program.n_codebooks // self.n_codebooks),
            -(-self.program.n_outputs // self.n_outputs),
        )

    def join(self, accumulators: Sequence[NDArray[Any]]) -> NDArray[np.signedinteger[Any]]:
        """Put the results of the tiles together to those of the whole.

        Parameters
        ----------
        accumulators : sequence of integer ndarray of shape (n_rows, n_outputs of a tile)
            One for each of `tiles`, in their order.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs of the whole), int32 up to 32 bits, int64 above
            What `halut.golden.matmul` returns for the whole program.

        Raises
        ------
        HalutError
            When the number of arrays, a shape or a dtype is wrong.
        """
        if len(accumulators) != len(self.tiles):
            raise HalutError(
                f"accumulators must be those of {len(self.tiles)} tiles, not {len(accumulators)}"
            )
        arrays = [np.asarray(array) for array in accumulators]
        wanted = (len(arrays[0]) if arrays[0].ndim else 0, self.n_outputs)
        for k, array in enumerate(arrays):
            if array.shape != wanted or array.dtype.kind != "i":
                raise HalutError(
                    f"accumulators of a tile must be integers of shape {wanted}, "
                    f"not {array.dtype}{array.shape} (tile {k})"
                )
        # A partial sum fits its tile's accumulator; the sum of all may need a wider one.
        dtype = np.int32 if self.program.accumulator_bits <= 32 else np.int64
        along_codebooks, along_outputs = self.grid
        grid = np.stack(arrays).reshape(along_codebooks, along_outputs, *wanted)
        sums = grid.sum(axis=0, dtype=dtype)  # (output tiles, N, M of a tile)
        joined = sums.transpose(1, 0, 2).reshape(wanted[0], -1)
        return np.ascontiguousarray(joined[:, : self.program.n_outputs])


def tile(program: Program, n_codebooks: int, n_outputs: int) -> Tiling:
    """Cut a program into tiles of `n_codebooks` by `n_outputs`.

    The last tile of a row or column is filled up: codebooks with tables of zeros, which walk the
    tree of a codebook that is there, and outputs with tables of zeros.

    Parameters
    ----------
    program : Program
        Of any number of codebooks and outputs.
    n_codebooks, n_outputs : int
        C and M of the accelerator, at least 1.

    Returns
    -------
    Tiling

    Raises
    ------
    HalutError
        When a size is not an integer of at least 1.

    Examples
    --------
    >>> from halut import golden
    >>> rng = np.random.default_rng(1)
    >>> program = golden.random_program(rng, 6, 16, 5, "int8")
    >>> tiling = tile(program, 4, 3)
    >>> tiling.grid, [(t.n_codebooks, t.n_outputs) for t in tiling.tiles]
    ((2, 2), [(4, 3), (4, 3), (4, 3), (4, 3)])
    >>> A = rng.uniform(-99, 99, (7, program.n_features))
    >>> parts = [golden.matmul(t, t.input_words(A)) for t in tiling.tiles]
    >>> whole = golden.matmul(program, program.input_words(A))
    >>> np.array_equal(tiling.join(parts), whole)
    True
    """
    for name, size in (("n_codebooks", n_codebooks), ("n_outputs", n_outputs)):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise HalutError(f"{name} of a tile must be an integer of at least 1, not {size!r}")
    tiles = []
    for first in range(0, program.n_codebooks, n_codebooks):
        last = min(first + n_codebooks, program.n_codebooks)
        padded = n_codebooks - (last - first)
        chosen = np.r_[first:last, [last - 1] * padded].astype(np.intp)
        for start in range(0, program.n_outputs, n_outputs):
            stop = min(start + n_outputs, program.n_outputs)
            outputs = slice(0, stop - start)
            lut = np.zeros((n_outputs, n_codebooks, program.n_prototypes), program.lut.dtype)
            lut[outputs, : last - first] = program.lut[start:stop, first:last]
            scale, offset = np.ones(n_outputs), np.zeros(n_outputs)
            scale[outputs] = program.lut_scale[start:stop]
            if first == 0:  # the tiles' products add up to the whole's
                offset[outputs] = program.lut_offset[start:stop]
            tiles.append(
                Program(
                    n_features=program.n_features,
                    input_format=program.input_format,
                    split_dims=program.split_dims[chosen],
                    thresholds=program.thresholds[chosen],
                    lut=lut,
                    lut_scale=scale,
                    lut_offset=offset,
                    lut_bits=program.lut_bits,
                    input_scale=program.input_scale[chosen],
                    input_offset=program.input_offset[chosen],
                    provenance=program.provenance,
                )
            )
    return Tiling(
        program=program,
        n_codebooks=int(n_codebooks),
        n_outputs=int(n_outputs),
        tiles=tuple(tiles),
    )
