"""Encode, look up and accumulate in C, bit by bit what `halut.golden` computes in NumPy.

`encode`, `accumulate`, `matmul` and `results` take and return what the functions of these names in
`halut.golden` do; `product` and its parts are the float path of `halut.matmul`. Where no library
can be used, or a program is beyond the kernels (sums of more than 31 bits), NumPy computes.
``HALUT_NATIVE`` forces a variant; see docs/kernels.md.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import golden
from halut.accumulation import Accumulation, add_in_order
from halut.encoding import check_words, compared_keys, float_thresholds, threshold_keys
from halut.native.layouts import (
    RAW,
    Tables,
    address,
    are,
    dequantised,
    lay_out,
    matrix,
    parts,
)
from halut.native.library import VARIABLE, VARIANTS, Kernels, Stage, kernels, status, variants
from halut.program import Program

__all__ = [
    "VARIABLE",
    "VARIANTS",
    "QuantisedProduct",
    "accumulate",
    "decode_floats",
    "encode",
    "encode_floats",
    "matmul",
    "product",
    "results",
    "status",
    "variants",
]

_WORTH_A_THREAD = 1 << 25
"""Additions, at least, that a thread of its own is started for."""

_MOST_BITS = 31
"""Bits of sums, at most, that the kernels form."""

_EXACT_FLOATS = (np.float32, np.float16, np.int8, np.uint8, np.int16, np.uint16, np.bool_)
"""Types whose values are float32 values."""
_ROWS_AT_ONCE = 1024
"""Rows whose keys are there at a time."""


def encode(program: Program, words: ArrayLike) -> NDArray[np.uint8]:
    """Walk every row through every codebook's tree; see `halut.golden.encode`."""
    chosen = kernels()
    if chosen is None or program.splits == "node":
        return golden.encode(program, words)
    array = check_words(program, words)
    n_rows, n_codebooks, depth = len(array), program.n_codebooks, program.tree_depth
    nodes = threshold_keys(program).astype(np.float32)
    dims = np.arange(n_codebooks * depth, dtype=np.int32).reshape(n_codebooks, depth)
    codes = np.empty((n_rows, n_codebooks), dtype=np.uint8)
    for begin in range(0, n_rows, _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        keys = compared_keys(program, array[part])
        if program.places is not None:
            keys = np.take_along_axis(keys, program.places[None].astype(np.intp), axis=2)
        # Integers of 16 bits, and sums of some, are float32 values, and compare alike.
        rows = np.ascontiguousarray(keys, dtype=np.float32).reshape(-1, n_codebooks * depth)
        _encode(chosen, rows, dims, nodes, codes[part])
    return codes


def accumulate(
    program: Program, codes: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Add up the table entries that the codes select; see `halut.golden.accumulate`."""
    chosen = kernels()
    how = Accumulation(**fields) if accumulation is None else replace(accumulation, **fields)
    if chosen is None or _is_too_wide(program):
        return golden.accumulate(program, codes, how)
    array, width = golden.check_codes(program, codes), how.width(program)
    places = np.ascontiguousarray(array, dtype=np.uint8)
    shape = len(places), program.n_codebooks, program.n_prototypes, program.n_outputs
    if program.lut_format == "fp16":
        floats = np.empty((len(places), program.n_outputs), dtype=np.float32)
        tables = lay_out(chosen, program.lut.astype(np.float32))
        steps, height = _postfix(program.n_codebooks, how)
        chosen.call("halut_add_in_order", places.ctypes.data, *shape, tables.memory.ctypes.data,
                    steps.ctypes.data, len(steps), height, floats.ctypes.data)  # fmt: skip
        return np.where(np.isnan(floats), np.float32(np.nan), floats)
    half = 1 << (width - 1) if how.overflow else 0
    every = how.parallel_codebooks if how.overflow == "saturate" else 0
    # A step that is longer than all codebooks ends with the last one.
    clip = -half, max(half - 1, 0), min(every, program.n_codebooks)
    sums = _look_up(chosen, places, lay_out(chosen, program.lut, clipped=every > 0), clip, np.int32)
    if how.overflow == "wrap":
        sums = ((sums + half) & (2 * half - 1)) - half
    return sums if width <= 32 else sums.astype(np.int64)


def matmul(
    program: Program, words: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Return the accumulators that the hardware returns; see `halut.golden.matmul`."""
    return accumulate(program, encode(program, words), accumulation, **fields)


def results(
    program: Program, words: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Return what leaves the hardware for input words; see `halut.golden.results`."""
    return program.output.apply(matmul(program, words, accumulation, **fields))


def _is_too_wide(program: Program) -> bool:
    return program.lut_format == "int" and program.accumulator_bits > _MOST_BITS


def _postfix(n_codebooks: int, how: Accumulation) -> tuple[NDArray[np.int32], int]:
    """Return the additions of `golden.add_in_order` for a stack, and the stack's height.

    A codebook pushes its entries; -1 replaces the last two terms by their sum.
    """

    def add(left: list[int], right: list[int]) -> list[int]:
        left.extend(right)
        left.append(-1)
        return left

    steps = add_in_order(lambda codebook: [codebook], n_codebooks, add, how)
    array = np.array(steps, dtype=np.int32)
    return array, int(np.cumsum(np.where(array < 0, -1, 1)).max())


def encode_floats(
    rows: NDArray[Any], split_dims: NDArray[Any], thresholds: NDArray[Any]
) -> NDArray[np.uint8] | None:
    """Walk rows through trees of float32 thresholds.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), any real dtype
        Compared as float32. NaN goes left.
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth)
    thresholds : float32 ndarray of shape (n_codebooks, 2**tree_depth - 1)
        Breadth-first.

    Returns
    -------
    uint8 ndarray of shape (n_rows, n_codebooks), or None
        Codes; None where NumPy is to compute them.
    """
    chosen = kernels()
    if chosen is None or not _are_trees(rows.shape[1], split_dims, thresholds):
        return None
    codes = np.empty((len(rows), len(split_dims)), dtype=np.uint8)
    for part, values in parts(rows):
        _encode(chosen, values, split_dims, thresholds, codes[part])
    return codes


def decode_floats(
    codes: NDArray[Any], lut: NDArray[Any], offset: NDArray[Any]
) -> NDArray[np.float32] | None:
    """Add up float32 table entries, codebook by codebook.

    Parameters
    ----------
    codes : integer ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
    lut : float32 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
    offset : float32 ndarray of shape (n_outputs,)
        Added to each entry of the first codebook.

    Returns
    -------
    float32 ndarray of shape (n_rows, n_outputs), or None
        None where NumPy is to compute it.
    """
    chosen = kernels()
    if chosen is None or not _are_tables(lut, offset):
        return None
    _, n_codebooks, n_prototypes = lut.shape
    if codes.shape[1] != n_codebooks or (codes.size and codes.max() >= n_prototypes):
        return None
    places = np.ascontiguousarray(codes, dtype=np.uint8)
    return _look_up(chosen, places, lay_out(chosen, lut, offset), (0, 0, 0), np.float32)


def product(
    rows: NDArray[Any],
    split_dims: NDArray[Any],
    thresholds: NDArray[Any],
    lut: NDArray[Any],
    offset: NDArray[Any],
) -> NDArray[np.float32] | None:
    """Do `encode_floats`, then `decode_floats`, block by block.

    Large products are shared by threads: as many as ``OMP_NUM_THREADS`` says, or as there are
    processors for this process.

    Parameters
    ----------
    rows, split_dims, thresholds, lut, offset
        As for these two.

    Returns
    -------
    float32 ndarray of shape (n_rows, n_outputs), or None
        None where NumPy is to compute it.
    """
    chosen = kernels()
    if (
        chosen is None
        or not _are_trees(rows.shape[1], split_dims, thresholds)
        or not _are_tables(lut, offset)
        or lut.shape[1:] != (len(split_dims), thresholds.shape[1] + 1)
    ):
        return None
    tables = lay_out(chosen, lut, offset)
    return _Multiplication(chosen, split_dims, thresholds, tables, RAW)(rows)[0]


class QuantisedProduct:
    """What a program makes of rows, dequantised: encode, look up and scale block by block.

    Parameters
    ----------
    program : Program
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._is_known = program.encoder == "tree"
        if self._is_known:
            self._trees = program.split_dims, float_thresholds(program)
        self._stage = dequantised(program.lut_scale, program.lut_offset)
        self._made: dict[Kernels, _Multiplication] = {}
        self._is_native = program.lut_format != "fp16" and not _is_too_wide(program)
        self._is_native &= self._is_known

    def encode(self, rows: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Return codes (n_rows, n_codebooks) of rows (n_rows, n_features).

        None where NumPy is to compute them: without a library, for rows that float32 cannot
        hold, and for sums.

        Raises
        ------
        HalutError
            When a value that a tree compares is NaN, and the input format an integer.
        """
        chosen = kernels()
        if chosen is None or not self._is_known or rows.dtype.type not in _EXACT_FLOATS:
            return None
        codes = np.empty((len(rows), self.program.n_codebooks), dtype=np.uint8)
        unordered = False
        for part, values in parts(rows):
            unordered |= _encode(chosen, values, *self._trees, codes[part])
        self._check(unordered)
        return codes

    def multiply(
        self, rows: NDArray[Any], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32] | None:
        """Return the product (n_rows, n_outputs) of rows (n_rows, n_features), or None.

        As `encode` does; NumPy computes also what tables of half floats, and too wide sums, give.
        With `out`, row-major float32 of that shape, the product is written there.
        """
        chosen = kernels()
        if chosen is None or not self._is_native or rows.dtype.type not in _EXACT_FLOATS:
            return None
        multiply = self._made.get(chosen)
        if multiply is None:
            tables = lay_out(chosen, self.program.lut)
            multiply = _Multiplication(chosen, *self._trees, tables, self._stage)
            self._made[chosen] = multiply
        product, unordered = multiply(rows, out)
        self._check(unordered)
        return product

    def _check(self, unordered: bool) -> None:
        if unordered:
            self.program.check_not_nan(True)


class _Multiplication:
    """Rows times laid-out tables. Little is left to do for each call, for which caches are cold."""

    def __init__(
        self,
        chosen: Kernels,
        split_dims: NDArray[np.int32],
        thresholds: NDArray[np.float32],
        tables: Tables,
        stage: Stage,
    ) -> None:
        n_outputs, n_codebooks, _ = tables.shape
        self._n_outputs, self._additions = n_outputs, n_outputs * n_codebooks
        self._call = partial(chosen.call, "halut_product")
        self._given = (
            *split_dims.shape, address(split_dims), address(thresholds), n_outputs, tables.layout,
            address(tables.memory), ctypes.byref(stage),
        )  # fmt: skip
        self._held = split_dims, thresholds, tables

    def __call__(
        self, rows: NDArray[Any], out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], bool]:
        """Return the product, in `out` if given, and whether a value that was compared was NaN."""
        if out is None:
            out = np.empty((len(rows), self._n_outputs), dtype=np.float32)
        additions = len(rows) * self._additions
        if additions < 2 * _WORTH_A_THREAD:
            return out, self._multiply(rows, out)
        target = out
        found = _share(len(rows), additions, lambda one: self._multiply(rows[one], target[one]))
        return out, any(found)

    def _multiply(self, rows: NDArray[Any], out: NDArray[np.float32]) -> bool:
        unordered = False
        for part, values in parts(rows):
            to = address(out) + part.start * self._n_outputs * 4
            unordered |= self._call(matrix(values), *self._given, to)
        return unordered


def _look_up(
    chosen: Kernels,
    codes: NDArray[np.uint8],
    tables: Tables,
    clip: tuple[int, int, int],
    dtype: type,
) -> NDArray[Any]:
    """Add up the entries that contiguous codes (n_rows, n_codebooks) select."""
    n_outputs, n_codebooks, n_prototypes = tables.shape
    out: NDArray[Any] = np.empty((len(codes), n_outputs), dtype=dtype)
    chosen.call("halut_look_up", codes.ctypes.data, len(codes), n_codebooks, n_prototypes,
                n_outputs, tables.layout, tables.memory.ctypes.data, *clip, ctypes.byref(RAW),
                out.ctypes.data)  # fmt: skip
    return out


def _share(n_rows: int, additions: int, work: Callable[[slice], bool]) -> list[bool]:
    """Do the work on all rows, in several threads where that pays; return what each returns."""
    n_threads = min(_threads(), additions // _WORTH_A_THREAD, n_rows)
    if n_threads < 2:
        return [work(slice(0, n_rows))]
    ends = [n_rows * k // n_threads for k in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, map(slice, ends[:-1], ends[1:])))


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isascii() and given.isdigit() and int(given):
        return int(given)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _encode(
    chosen: Kernels,
    rows: NDArray[Any],
    split_dims: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    codes: NDArray[np.uint8],
) -> bool:
    """Write codes; return whether a value that was compared was NaN."""
    return chosen.call(
        "halut_encode", matrix(rows), *split_dims.shape, split_dims.ctypes.data,
        thresholds.ctypes.data, codes.ctypes.data,
    )  # fmt: skip


def _are_trees(n_features: int, split_dims: NDArray[Any], thresholds: NDArray[Any]) -> bool:
    """Say whether arrays are those of trees: users may have replaced what was learned."""
    return (
        are(np.int32, split_dims)
        and are(np.float32, thresholds)
        and split_dims.ndim == 2
        and split_dims.size > 0
        and split_dims.shape[1] <= 8
        and thresholds.shape == (len(split_dims), 2 ** split_dims.shape[1] - 1)
        and split_dims.min() >= 0
        and split_dims.max() < n_features
    )


def _are_tables(lut: NDArray[Any], offset: NDArray[Any]) -> bool:
    return (
        are(np.float32, lut, offset)
        and lut.ndim == 3
        and lut.size > 0
        and lut.shape[2] <= 256
        and offset.shape == lut.shape[:1]
    )
