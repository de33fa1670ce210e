"""Makes programs fit an accelerator: wider formats, deeper trees, and tiles of its size.

A program of any C and M becomes a grid of tiles, codebooks by outputs, each with exactly the
accelerator's C and M. Outputs are independent, and the sum of integers over codebooks is exact, so
that the accumulators of the tiles give those of the whole bit by bit; sums of half floats are added
up in a stated order. `widen` changes no accumulator either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import integer_from
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.nodes import by_node
from halut.program import Program

__all__ = ["Tiling", "add_partial", "select", "tile", "widen"]


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

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the whole's results: int32 up to 32 bits, int64 above; float32, float16 or int8."""
        program = self.program
        if program.output_format != "raw":
            return np.dtype({"fp16": np.float16, "int8": np.int8}[program.output_format])
        if program.lut_format == "fp16":
            return np.dtype(np.float32)
        return np.dtype(np.int32 if program.accumulator_bits <= 32 else np.int64)

    def join(self, results: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Put the results of the tiles together to those of the whole.

        Parameters
        ----------
        results : sequence of ndarray of shape (n_rows, n_outputs of a tile)
            One for each of `tiles`, in their order; integers, or floats of `dtype`.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs of the whole), `dtype`
            What `halut.golden.results` returns for the whole program. Float32 sums are added up
            in the order of the codebooks, one tile's after the other's.

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
        wanted = (len(arrays[0]) if arrays[0].ndim else 0, self.n_outputs)
        kind = self.dtype.kind
        for k, array in enumerate(arrays):
            is_right = array.dtype.kind == kind and (kind == "i" or array.dtype == self.dtype)
            if array.shape != wanted or not is_right:
                rule = "integers" if kind == "i" else str(self.dtype)
                raise HalutError(
                    f"results of a tile must be {rule} of shape {wanted}, "
                    f"not {array.dtype}{array.shape} (tile {k})"
                )
        columns = self.grid[1]
        joined = np.empty((wanted[0], columns * self.n_outputs), dtype=self.dtype)
        for k, array in enumerate(arrays):
            start = k % columns * self.n_outputs
            add_partial(joined[:, start : start + self.n_outputs], array, k < columns)
        return np.ascontiguousarray(joined[:, : self.program.n_outputs])


def add_partial(sums: NDArray[Any], partial: NDArray[Any], is_first: bool) -> None:
    """Add a tile's results to those of the tiles before it, in place.

    Parameters
    ----------
    sums : ndarray of any shape, `Tiling.dtype`
    partial : ndarray of the same shape
    is_first : bool
        Nothing is in `sums` yet.
    """
    if is_first:
        sums[:] = partial
        return
    with np.errstate(all="ignore"):
        sums += partial
    if sums.dtype.kind == "f":  # as the hardware's adders, which know one NaN
        sums[np.isnan(sums)] = np.nan


def select(program: Program, codebooks: NDArray[np.integer], outputs: slice) -> Program:
    """Return the program of some codebooks and outputs; offset and output stage are the whole's.

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
        **_of_codebooks(program, codebooks),
        lut=program.lut[outputs][:, codebooks],
        lut_scale=program.lut_scale[outputs],
        lut_offset=program.lut_offset[outputs],
        output=program.output.select(np.arange(program.n_outputs)[outputs]),
    )


def _of_codebooks(program: Program, codebooks: NDArray[np.integer]) -> dict[str, Any]:
    """Return the fields that say what the trees of some codebooks compare."""
    names = ("split_dims", "thresholds", "input_scale", "input_offset", "signs", "places")
    arrays = {name: getattr(program, name) for name in names}
    return {name: array[codebooks] for name, array in arrays.items() if array is not None}


def tile(program: Program, n_codebooks: int, n_outputs: int) -> Tiling:
    """Cut a program into tiles of `n_codebooks` by `n_outputs`.

    The last tile of a row or column is filled up: codebooks with tables of zeros, which walk the
    tree of a codebook that is there, and outputs with tables of zeros, which are converted like
    the last one that is there.

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
        When a size is not an integer of at least 1, or there are several ranges of codebooks and
        their results are not sums that can be added up.

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
        integer_from(f"{name} of a tile", size, 1)
    if n_codebooks < program.n_codebooks and (program.output_format != "raw" or program.relu):
        raise HalutError(
            f"n_codebooks of a tile must be at least the program's {program.n_codebooks} for "
            f"output_format {program.output_format}{' with relu' if program.relu else ''}, "
            f"not {n_codebooks}: partial sums cannot be added up once they are converted"
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
            tiles.append(
                Program(
                    n_features=program.n_features,
                    input_format=program.input_format,
                    **_of_codebooks(program, chosen),
                    lut=lut,
                    lut_scale=scale,
                    lut_offset=offset,
                    lut_bits=program.lut_bits,
                    lut_format=program.lut_format,
                    output=program.output.select(
                        np.minimum(np.arange(start, start + n_outputs), stop - 1)
                    ),
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
    terms: int | None = None,
    window: int | None = None,
    splits: str | None = None,
) -> Program:
    """Return a program for a larger accelerator with the same accumulators for the same rows.

    Parameters
    ----------
    program : Program
    n_prototypes : int, optional
        K, at least the program's: nodes that always go left are added below its trees.
    input_format : str, optional
        ``"intN"`` with N at least the program's, or the same format; for sums the same, whose
        words saturate there.
    lut_bits : int, optional
        At least the program's.
    terms : int, optional
        At least the program's: words 0 are added.
    window : int, optional
        At least the program's, or, for a program without windows, its tree depth: words 0 are
        added; 0 for none. Sums fit no window.
    splits : {"level", "node"}, optional
        Of windows: a place per level is one per node, too.

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
    terms = terms or program.terms
    window = program.window if window is None else window
    splits = splits or program.splits
    if window:
        program = _with_window(program, window, splits, terms)
    elif program.window:
        raise HalutError("program must not have windows: the accelerator takes values of levels")
    for name, wanted in (
        ("n_prototypes", n_prototypes), ("lut_bits", lut_bits), ("terms", terms),
    ):  # fmt: skip
        if getattr(program, name) > wanted:
            raise HalutError(
                f"program.{name} must be at most the accelerator's {wanted}, "
                f"not {getattr(program, name)}"
            )
    bits = input_format_bits(input_format)
    same = input_format == program.input_format
    floating = FLOAT_FORMATS.get(input_format)
    if not same and (
        floating or terms > 1 or program.input_format in FLOAT_FORMATS or program.input_bits > bits
    ):
        raise HalutError(
            f"program.input_format must be the accelerator's {input_format}"
            f"{'' if floating or terms > 1 else ' or a narrower integer'}, "
            f"not {program.input_format}"
        )
    if (n_prototypes, input_format, lut_bits, terms) == (
        program.n_prototypes, program.input_format, program.lut_bits, program.terms,
    ):  # fmt: skip
        return program
    if n_prototypes & (n_prototypes - 1):
        raise HalutError(f"n_prototypes must be a power of two, not {n_prototypes}")
    # Inputs saturate at the format's highest value, which no threshold there lets go right; what
    # sums of terms reach, neither.
    never: Any = np.int16(2 ** (bits - 1 + (terms - 1).bit_length()) - 1)
    if floating:  # nothing is greater than infinity, or than the largest value without it
        never = floating.dtype(floating.largest)
        never = never.view(np.float16) if input_format == "fp16" else never
    thresholds = program.thresholds.copy()
    if not same:
        thresholds[thresholds == 2 ** (program.input_bits - 1) - 1] = never
    levels = n_prototypes.bit_length() - 1 - program.tree_depth
    added = ((0, 0), (0, levels))
    places = program.places
    if places is not None:
        added = ((0, 0), (0, 0))
        more_places = levels if splits == "level" else n_prototypes - program.n_prototypes
        places = np.pad(places, ((0, 0), (0, more_places)), mode="edge")
    if terms == 1:
        dims, signs = np.pad(program.split_dims, added, mode="edge"), None
    else:  # no term is the word 0
        by_level = program.split_dims.reshape(program.n_codebooks, program.tree_depth, -1)
        plus = np.ones_like(by_level) if program.signs is None else program.signs
        more = (*added, (0, terms - program.terms))
        dims = np.pad(by_level, more, constant_values=-1)
        signs = np.pad(plus, more, constant_values=1)
    kind = np.float16 if program.lut_format == "fp16" else np.int16
    lut = np.zeros((*program.lut.shape[:2], n_prototypes), kind)
    lut[:, :, :: 2**levels] = program.lut
    return replace(
        program,
        input_format=input_format,
        split_dims=dims,
        signs=signs,
        places=places,
        thresholds=np.pad(
            thresholds, ((0, 0), (0, n_prototypes - program.n_prototypes)), constant_values=never
        ),
        lut=lut,
        lut_bits=lut_bits,
        input_scale=np.pad(program.input_scale, added, mode="edge"),
        input_offset=np.pad(program.input_offset, added, mode="edge"),
    )


def _with_window(program: Program, window: int, splits: str, terms: int) -> Program:
    """Return a program with windows of so many words, and a place per level or per node."""
    if program.signs is not None or terms > 1:
        raise HalutError("program must not compare sums: the accelerator takes windows")
    dims, places, depth = program.split_dims, program.places, program.tree_depth
    if places is None:  # the values of levels are a window, too
        places = np.tile(np.arange(depth, dtype=np.uint8), (program.n_codebooks, 1))
    if dims.shape[1] > window:
        raise HalutError(
            f"windows must have at most the accelerator's {window} words, not {dims.shape[1]}"
        )
    if program.splits == "node" and splits == "level":
        raise HalutError("program must split by level, as the accelerator does, not by node")
    if splits == "node" and program.splits == "level":
        places = by_node(places)
    if window == program.window and splits == program.splits:
        return program
    added = ((0, 0), (0, window - dims.shape[1]))
    return replace(
        program,
        split_dims=np.pad(dims, added, constant_values=-1),
        places=places,
        input_scale=np.pad(program.input_scale, added, constant_values=1),
        input_offset=np.pad(program.input_offset, added),
    )
