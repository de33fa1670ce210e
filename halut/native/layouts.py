"""Arrays as the kernels take them: matrices with their strides, tables laid out for look-ups."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.native.library import Kernels, Stage

__all__ = ["RAW", "Tables", "address", "aligned_bytes", "are", "dequantised", "lay_out", "matrix",
           "parts"]  # fmt: skip

_FLOAT32, _INT8 = range(2)
"""Kinds of values, numbered as in kernels.c, like what follows."""

_KINDS = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2}
"""Kinds of table entries."""

_FLOATS, _INTS, _SHORTS, _QUADS = range(4)
"""Layouts of tables."""

_DEQUANTISED = 1
"""A stage; 0 leaves sums as they are."""

_QUAD_PROTOTYPES = 16

_ROWS_AT_ONCE = 1024
"""Rows that are converted to float32 at a time."""

RAW = Stage(kind=0)
"""Sums leave as they are."""


def dequantised(scale: NDArray[np.float32], offset: NDArray[np.float32]) -> Stage:
    """Return the stage ``sum * scale + offset`` with contiguous arrays (M,), which must live on."""
    return Stage(kind=_DEQUANTISED, scale=scale.ctypes.data, offset=offset.ctypes.data)


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables as the kernels read them.

    Attributes
    ----------
    layout : int
    shape : tuple of int
        M, C, K.
    memory : uint8 ndarray
        At a multiple of 64 bytes.
    """

    layout: int
    shape: tuple[int, int, int]
    memory: NDArray[np.uint8]


def lay_out(
    chosen: Kernels,
    lut: NDArray[Any],
    offset: NDArray[np.float32] | None = None,
    clipped: bool = False,
) -> Tables:
    """Lay out tables for a variant.

    Parameters
    ----------
    chosen : Kernels
    lut : float32, int8 or int16 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
    offset : float32 ndarray of shape (n_outputs,), optional
        Added to the first codebook's entries, of float32 tables.
    clipped : bool, default False
        Whether sums are to be clipped on the way.
    """
    entries = np.ascontiguousarray(lut)
    shape: Any = entries.shape
    n_outputs, n_codebooks, n_prototypes = shape
    layout = _INTS
    if entries.dtype == np.float32:
        layout = _FLOATS
    elif not clipped:
        if (
            chosen.variant == "vnni"
            and entries.dtype == np.int8
            and n_prototypes <= _QUAD_PROTOTYPES
        ):
            layout = _QUADS
        elif np.abs(entries.astype(np.int32)).max(axis=2).sum(axis=1).max() < 2**15:
            layout = _SHORTS
    sizes = n_codebooks, n_prototypes, n_outputs
    size = chosen.library.halut_table_bytes(layout, *sizes)
    memory = aligned_bytes(size)
    chosen.library.halut_make_tables(
        layout, _KINDS[entries.dtype], entries.ctypes.data,
        None if offset is None else offset.ctypes.data, *sizes, memory.ctypes.data,
    )  # fmt: skip
    return Tables(layout, shape, memory)


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Return so many bytes, not set, whose address is a multiple of 64."""
    block = np.empty(size + 64, dtype=np.uint8)
    begin = -block.ctypes.data % 64
    return block[begin : begin + size]


def address(array: NDArray[Any]) -> int:
    """Return where an array's values begin; quicker than its attribute `ctypes`."""
    found: int = array.__array_interface__["data"][0]
    return found


_ROWS = struct.Struct("@PiNNnn")
"""`Rows` of kernels.c."""


def matrix(values: NDArray[Any]) -> bytes:
    """Describe what `parts` yields, as `Rows` of kernels.c; the array must live on."""
    size, kind = values.itemsize, _FLOAT32 if values.itemsize == 4 else _INT8
    row, column = values.strides
    return _ROWS.pack(address(values), kind, *values.shape, row // size, column // size)


def parts(rows: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield rows as float32 or int8: all of them as they are or, of another kind, in copies."""
    dtype, (row, column) = rows.dtype, rows.strides
    if dtype == np.int8 and (1 not in (row, column) or row < 1 or column < 1):
        rows = np.ascontiguousarray(rows)
        column = rows.strides[1]
    if abs(column) * rows.shape[1] < 2**31 * dtype.itemsize and (  # int32 in the kernels
        dtype == np.int8
        or (
            dtype == np.float32
            and dtype.isnative
            and not (row % 4 or column % 4)
            and rows.flags.aligned
        )
    ):
        yield slice(0, len(rows)), rows
        return
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        with np.errstate(over="ignore"):
            yield part, np.array(rows[part], dtype=np.float32, order="C")


def are(dtype: type, *arrays: NDArray[Any]) -> bool:
    """Say whether arrays are of a type and lie in memory as the kernels need it."""
    return all(
        array.dtype == dtype
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
        for array in arrays
    )
