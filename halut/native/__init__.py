"""Encode, look up and accumulate in C, bit by bit what `halut.golden` computes in NumPy.

`encode`, `accumulate`, `matmul` and `results` take and return what the functions of these names in
`halut.golden` do; `product` and its parts are the float path of `halut.matmul`. Where no library
can be used, or a program is beyond the kernels (sums of more than 31 bits), NumPy computes.
``HALUT_NATIVE`` forces a variant; see docs/kernels.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import golden
from halut.accumulation import Accumulation, add_in_order
from halut.encoding import check_words, comparison_keys
from halut.native.library import VARIABLE, VARIANTS, Kernels, kernels, status, variants
from halut.program import Program

__all__ = [
    "VARIABLE",
    "VARIANTS",
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

_FLOATS, _BYTES, _WORDS = range(3)
"""Kinds of tables, numbered as in kernels.c."""

_ROWS_AT_ONCE = 1024
"""Rows that are converted to float32 at a time."""

_WORTH_A_THREAD = 1 << 25
"""Additions, at least, that a thread of its own is started for."""


def encode(program: Program, words: ArrayLike) -> NDArray[np.uint8]:
    """Walk every row through every codebook's tree; see `halut.golden.encode`."""
    chosen = kernels()
    if chosen is None:
        return golden.encode(program, words)
    array = check_words(program, words)
    # Integers of 16 bits are float32 values, and compare alike.
    keys = comparison_keys(array, program.input_format).astype(np.float32)
    nodes = comparison_keys(program.threshold_words, program.input_format)
    n_rows, n_codebooks, depth = array.shape
    dims = np.arange(n_codebooks * depth, dtype=np.int32).reshape(n_codebooks, depth)
    codes = np.empty((n_rows, n_codebooks), dtype=np.uint8)
    rows = np.ascontiguousarray(keys).reshape(n_rows, n_codebooks * depth)
    _encode(chosen, rows, dims, nodes.astype(np.float32), codes)
    return codes


def accumulate(
    program: Program, codes: ArrayLike, accumulation: Accumulation | None = None, **fields: Any
) -> NDArray[Any]:
    """Add up the table entries that the codes select; see `halut.golden.accumulate`."""
    chosen = kernels()
    how = Accumulation(**fields) if accumulation is None else replace(accumulation, **fields)
    if chosen is None or (program.lut_format == "int" and program.accumulator_bits > 31):
        return golden.accumulate(program, codes, how)
    array, width = golden.check_codes(program, codes), how.width(program)
    places = np.ascontiguousarray(array, dtype=np.uint8)
    shape = len(places), program.n_codebooks, program.n_prototypes, program.n_outputs
    if program.lut_format == "fp16":
        floats = np.empty((len(places), program.n_outputs), dtype=np.float32)
        tables = np.ascontiguousarray(program.lut, dtype=np.float32)
        steps, height = _postfix(program.n_codebooks, how)
        chosen.call("halut_add_in_order", places.ctypes.data, *shape, tables.ctypes.data,
                    steps.ctypes.data, len(steps), height, floats.ctypes.data)  # fmt: skip
        return np.where(np.isnan(floats), np.float32(np.nan), floats)
    sums = np.empty((len(places), program.n_outputs), dtype=np.int32)
    lut = np.ascontiguousarray(program.lut)
    kind = _BYTES if lut.dtype == np.int8 else _WORDS
    half = 1 << (width - 1) if how.overflow else 0
    every = how.parallel_codebooks if how.overflow == "saturate" else 0
    # A step that is longer than all codebooks ends with the last one.
    every = min(every, program.n_codebooks)
    chosen.call("halut_look_up", places.ctypes.data, *shape, kind, lut.ctypes.data, None,
                -half, max(half - 1, 0), every, sums.ctypes.data)  # fmt: skip
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
    for part, values in _floats(rows):
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
    n_outputs, n_codebooks, n_prototypes = lut.shape
    if codes.shape[1] != n_codebooks or (codes.size and codes.max() >= n_prototypes):
        return None
    places = np.ascontiguousarray(codes, dtype=np.uint8)
    out = np.empty((len(places), n_outputs), dtype=np.float32)
    chosen.call("halut_look_up", places.ctypes.data, len(places), n_codebooks, n_prototypes,
                n_outputs, _FLOATS, lut.ctypes.data, offset.ctypes.data, 0, 0, 0,
                out.ctypes.data)  # fmt: skip
    return out


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
    n_outputs, n_codebooks = lut.shape[:2]
    out = np.empty((len(rows), n_outputs), dtype=np.float32)

    def multiply(share: slice) -> None:
        for part, values in _floats(rows[share]):
            row_step, column_step = _steps(values)
            to = out[share][part]
            chosen.call(
                "halut_product", values.ctypes.data, len(values), row_step, column_step,
                values.shape[1], n_codebooks, split_dims.shape[1], split_dims.ctypes.data,
                thresholds.ctypes.data, n_outputs, lut.ctypes.data, offset.ctypes.data,
                to.ctypes.data,
            )  # fmt: skip

    _share(len(rows), len(rows) * n_codebooks * n_outputs, multiply)
    return out


def _share(n_rows: int, additions: int, work: Callable[[slice], None]) -> None:
    """Do the work on all rows, in several threads where that pays."""
    n_threads = min(_threads(), additions // _WORTH_A_THREAD, n_rows)
    if n_threads < 2:
        work(slice(0, n_rows))
        return
    ends = [n_rows * k // n_threads for k in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, map(slice, ends[:-1], ends[1:])))


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
    rows: NDArray[np.float32],
    split_dims: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    codes: NDArray[np.uint8],
) -> None:
    row_step, column_step = _steps(rows)
    chosen.call("halut_encode", rows.ctypes.data, len(rows), row_step, column_step,
                *split_dims.shape, split_dims.ctypes.data, thresholds.ctypes.data,
                codes.ctypes.data)  # fmt: skip


def _steps(values: NDArray[np.float32]) -> tuple[int, int]:
    """Return the strides in floats."""
    return values.strides[0] // 4, values.strides[1] // 4


def _floats(rows: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows as float32: all of them as they are or, what is of another kind, in copies."""
    places = abs(rows.strides[1]) * rows.shape[1] // 4  # int32 in the kernels
    if (
        rows.dtype == np.float32
        and rows.dtype.isnative
        and rows.flags.aligned
        and not (rows.strides[0] % 4 or rows.strides[1] % 4)
        and places < 2**31
    ):
        yield slice(0, len(rows)), rows
        return
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        with np.errstate(over="ignore"):
            yield part, np.array(rows[part], dtype=np.float32, order="C")


def _are(dtype: type, *arrays: NDArray[Any]) -> bool:
    return all(
        array.dtype == dtype
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
        for array in arrays
    )


def _are_trees(n_features: int, split_dims: NDArray[Any], thresholds: NDArray[Any]) -> bool:
    """Say whether arrays are those of trees: users may have replaced what was learned."""
    return (
        _are(np.int32, split_dims)
        and _are(np.float32, thresholds)
        and split_dims.ndim == 2
        and split_dims.size > 0
        and split_dims.shape[1] <= 8
        and thresholds.shape == (len(split_dims), 2 ** split_dims.shape[1] - 1)
        and split_dims.min() >= 0
        and split_dims.max() < n_features
    )


def _are_tables(lut: NDArray[Any], offset: NDArray[Any]) -> bool:
    return (
        _are(np.float32, lut, offset)
        and lut.ndim == 3
        and lut.size > 0
        and lut.shape[2] <= 256
        and offset.shape == lut.shape[:1]
    )
