"""Makes programs fit an accelerator: wider formats, deeper trees, and tiles of its size.

A program of any C and M becomes a grid of tiles, codebooks by outputs, each with exactly the
accelerator's C and M. Outputs are independent, and the sum over codebooks is exact, so the
accumulators of the tiles give those of the whole bit by bit. `widen` changes no accumulator
either. Sums of half floats, and what an output stage makes of sums, are not sums of the tiles':
such programs are cut along the outputs only, and need an accelerator of at least their C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.program import Program

__all__ = ["Tiling", "select", "tile", "widen"]


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

    def join(self, results: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Put the results of the tiles together to those of the whole.

        Parameters
        ----------
        results : sequence of ndarray of shape (n_rows, n_outputs of a tile)
            One for each of `tiles`, in their order: integers, float32 for tables of half floats,
            float16 or int8 for such an output format.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs of the whole)
            What `halut.golden.results` returns for the whole program: accumulators as int32 up to
            32 bits, int64 above; others of the dtype of `results`.

        Raises
        ------
        HalutError
            When the number of arrays, a shape or a dtype is wrong.
        """
        if len(results) != len(self.tiles):
            raise HalutError(
                f"results must be those of {len(self.tiles)} tiles, not {len(results)}"
            )
        arrays = [np.asarray(array) for array in results]
        kind, name = "i", "integers"
        if self.program.lut_format == "fp16" or self.program.output_format == "fp16":
            kind, name = "f", "floats"
        wanted = (len(arrays[0]) if arrays[0].ndim else 0, self.n_outputs)
        for k, array in enumerate(arrays):
            if array.shape != wanted or array.dtype.kind != kind:
                raise HalutError(
                    f"results of a tile must be {name} of shape {wanted}, "
                    f"not {array.dtype}{array.shape} (tile {k})"
                )
        # A partial sum fits its tile's accumulator; the sum of all may need a wider one.
        dtype = np.int32 if self.program.accumulator_bits <= 32 else np.int64
        along_codebooks, along_outputs = self.grid
        grid = np.stack(arrays).reshape(along_codebooks, along_outputs, *wanted)
        # (output tiles, N, M of a tile)
        sums = grid.sum(axis=0, dtype=dtype) if _adds_up(self.program) else grid[0]
        joined = sums.transpose(1, 0, 2).reshape(wanted[0], -1)
        return np.ascontiguousarray(joined[:, : self.program.n_outputs])


def select(program: Program, codebooks: NDArray[np.integer], outputs: slice) -> Program:
    """Return the program of some codebooks and outputs; its offset is the whole's.

    Parameters
    ----------
    program : Program
    codebooks : integer ndarray of shape (any,), range [0, n_codebooks)
    outputs : slice

    Returns
    -------
    Program

    Examples
    --------
    >>> from halut import golden
    >>> program = golden.random_program(np.random.default_rng(1), 6, 16, 5, "int8")
    >>> part = select(program, np.array([4, 1]), slice(0, 3))
    >>> part.n_codebooks, part.n_outputs, part.n_features == program.n_features
    (2, 3, True)
    """
    return replace(
        program,
        split_dims=program.split_dims[codebooks],
        thresholds=program.thresholds[codebooks],
        lut=program.lut[outputs][:, codebooks],
        lut_scale=program.lut_scale[outputs],
        lut_offset=program.lut_offset[outputs],
        input_scale=program.input_scale[codebooks],
        input_offset=program.input_offset[codebooks],
    )


def _adds_up(program: Program) -> bool:
    """Whether results are sums of those of the tiles: exact integers as they are."""
    return program.lut_format == "int" and program.output_format == "raw" and not program.relu


def tile(program: Program, n_codebooks: int, n_outputs: int) -> Tiling:
    """Cut a program into tiles of `n_codebooks` by `n_outputs`.

    The last tile of a row or column is filled up: codebooks with tables of zeros, which walk the
    tree of a codebook that is there, and outputs with tables of zeros.

    Parameters
    ----------
    program : Program
        Of any number of codebooks and outputs; of at most `n_codebooks` when its tables are half
        floats, or it has an output stage.
    n_codebooks, n_outputs : int
        C and M of the accelerator, at least 1.

    Returns
    -------
    Tiling

    Raises
    ------
    HalutError
        When a size is not an integer of at least 1, or too small for such a program.

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
    if not _adds_up(program) and n_codebooks < program.n_codebooks:
        raise HalutError(
            f"n_codebooks of a tile must be at least the program's {program.n_codebooks}, whose "
            f"results (lut_format {program.lut_format}, output_format {program.output_format}, "
            f"relu {str(program.relu).lower()}) are no sums of tiles', not {n_codebooks}"
        )
    # Nothing is changed by adding it: -0 where zeros have signs.
    nothing = -0.0 if program.lut_format == "fp16" else 0
    tiles = []
    for first in range(0, program.n_codebooks, n_codebooks):
        last = min(first + n_codebooks, program.n_codebooks)
        padded = n_codebooks - (last - first)
        chosen = np.r_[first:last, [last - 1] * padded].astype(np.intp)
        for start in range(0, program.n_outputs, n_outputs):
            stop = min(start + n_outputs, program.n_outputs)
            outputs = slice(0, stop - start)
            shape = (n_outputs, n_codebooks, program.n_prototypes)
            lut = np.full(shape, nothing, program.lut.dtype)
            lut[outputs, : last - first] = program.lut[start:stop, first:last]
            scale, offset = np.ones(n_outputs), np.zeros(n_outputs)
            scale[outputs] = program.lut_scale[start:stop]
            if first == 0:  # the tiles' products add up to the whole's
                offset[outputs] = program.lut_offset[start:stop]
            constants: dict[str, Any] = {
                name: np.pad(array[start:stop], (0, n_outputs - (stop - start)))
                for name, array in program.output.constants.items()
            }
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
                    lut_format=program.lut_format,
                    input_scale=program.input_scale[chosen],
                    input_offset=program.input_offset[chosen],
                    output=replace(program.output, **constants),
                    provenance=program.provenance,
                )
            )
    return Tiling(
        program=program,
        n_codebooks=int(n_codebooks),
        n_outputs=int(n_outputs),
        tiles=tuple(tiles),
    )


def widen(
    program: Program,
    *,
    n_prototypes: int | None = None,
    input_format: str | None = None,
    lut_bits: int | None = None,
) -> Program:
    """Return a program for a larger accelerator with the same accumulators for the same rows.

    Parameters
    ----------
    program : Program
    n_prototypes : int, optional
        K, at least the program's: nodes that always go left are added below its trees.
    input_format : str, optional
        ``"intN"`` with N at least the program's, or the same format.
    lut_bits : int, optional
        At least the program's.

    Returns
    -------
    Program
        `program` itself when nothing changes.

    Raises
    ------
    HalutError
        When the accelerator's number is less than the program's, or one of the formats is a float.

    Examples
    --------
    >>> from halut import golden
    >>> rng = np.random.default_rng(1)
    >>> program = golden.random_program(rng, 4, 8, 3, "int6", 4)
    >>> wide = widen(program, n_prototypes=16, input_format="int8", lut_bits=8)
    >>> wide.n_prototypes, wide.input_format, wide.lut_bits
    (16, 'int8', 8)
    >>> A = rng.uniform(-40, 40, (50, program.n_features))
    >>> sums = [golden.matmul(p, p.input_words(A)) for p in (program, wide)]
    >>> np.array_equal(*sums)
    True
    """
    n_prototypes = n_prototypes or program.n_prototypes
    input_format = input_format or program.input_format
    lut_bits = lut_bits or program.lut_bits
    for name, wanted in (("n_prototypes", n_prototypes), ("lut_bits", lut_bits)):
        if getattr(program, name) > wanted:
            raise HalutError(
                f"program.{name} must be at most the accelerator's {wanted}, "
                f"not {getattr(program, name)}"
            )
    bits = input_format_bits(input_format)
    same = input_format == program.input_format
    floating = FLOAT_FORMATS.get(input_format)
    if not same and (
        floating or program.input_format in FLOAT_FORMATS or program.input_bits > bits
    ):
        raise HalutError(
            f"program.input_format must be the accelerator's {input_format}"
            f"{'' if floating else ' or a narrower integer'}, "
            f"not {program.input_format}"
        )
    if (n_prototypes, input_format, lut_bits) == (
        program.n_prototypes, program.input_format, program.lut_bits,
    ):  # fmt: skip
        return program
    if n_prototypes & (n_prototypes - 1):
        raise HalutError(f"n_prototypes must be a power of two, not {n_prototypes}")
    # Inputs saturate at the format's highest value, which no threshold there lets go right.
    never: Any = np.int16(2 ** (bits - 1) - 1)
    if floating:  # nothing is greater than infinity, or than the largest value without it
        never = floating.dtype(floating.largest)
        never = never.view(np.float16) if input_format == "fp16" else never
    thresholds = program.thresholds.copy()
    if not same:
        thresholds[thresholds == 2 ** (program.input_bits - 1) - 1] = never
    levels = n_prototypes.bit_length() - 1 - program.tree_depth
    added = ((0, 0), (0, levels))
    kind = np.float16 if program.lut_format == "fp16" else np.int16
    lut = np.zeros((*program.lut.shape[:2], n_prototypes), kind)
    lut[:, :, :: 2**levels] = program.lut
    return replace(
        program,
        input_format=input_format,
        split_dims=np.pad(program.split_dims, added, mode="edge"),
        thresholds=np.pad(
            thresholds, ((0, 0), (0, n_prototypes - program.n_prototypes)), constant_values=never
        ),
        lut=lut,
        lut_bits=lut_bits,
        input_scale=np.pad(program.input_scale, added, mode="edge"),
        input_offset=np.pad(program.input_offset, added, mode="edge"),
    )
