"""Arrays as the kernels take them: matrices with their strides, tables laid out for look-ups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.native.library import Kernels, Rows, Stage

__all__ = ["RAW", "Tables", "are", "dequantised", "lay_out", "matrix", "parts"]

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
    block = np.empty(size + 64, dtype=np.uint8)
    begin = -block.ctypes.data % 64
    memory = block[begin : begin + size]
    chosen.library.halut_make_tables(
        layout, _KINDS[entries.dtype], entries.ctypes.data,
        None if offset is None else offset.ctypes.data, *sizes, memory.ctypes.data,
    )  # fmt: skip
    return Tables(layout, shape, memory)


def matrix(values: NDArray[Any]) -> Rows:
    """Describe what `parts` yields; the array must live on."""
    size = values.dtype.itemsize
    return Rows(
        values=values.ctypes.data,
        kind=_INT8 if values.dtype == np.int8 else _FLOAT32,
        n_rows=values.shape[0],
        n_features=values.shape[1],
        row_stride=values.strides[0] // size,
        column_stride=values.strides[1] // size,
    )


def parts(rows: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield rows as float32 or int8: all of them as they are or, of another kind, in copies."""
    whole = slice(0, len(rows))
    if rows.dtype == np.int8:
        in_order = 1 in rows.strides and min(rows.strides) > 0
        rows = rows if in_order else np.ascontiguousarray(rows)
    places = abs(rows.strides[1]) * rows.shape[1]  # int32 in the kernels
    size = rows.dtype.itemsize
    if places < 2**31 * size and (
        rows.dtype == np.int8
        or (
            rows.dtype == np.float32
            and rows.dtype.isnative
            and rows.flags.aligned
            and not any(stride % size for stride in rows.strides)
        )
    ):
        yield whole, rows
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
