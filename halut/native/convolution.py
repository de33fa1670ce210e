"""Looked-up layers in C, from images to images; takes addresses of contiguous arrays.

Who calls holds the arrays: torch's tensors, for `halut.nn.native`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from halut.formats import FLOAT_FORMATS
from halut.native.library import Kernels

__all__ = [
    "FIELDS",
    "MOST_DEPTH",
    "bands",
    "convolve",
    "convolve_backward",
    "decisions",
    "geometry",
    "pack",
    "packed_shape",
    "pieces",
    "quantise",
    "quantise_packed",
    "table_ranges",
]

FIELDS = (
    "n_items", "channels", "height", "width",
    "groups", "n_codebooks", "depth", "n_outputs",
    "kernel_height", "kernel_width", "stride_y", "stride_x", "dilation_y", "dilation_x",
    "left", "right", "above", "below",
    "in_by_pixel", "out_by_pixel",
    "wrap_bits", "relu", "terms",
)  # fmt: skip
"""Of the geometry, in the order of convolution.c: images, codebooks and outputs of a group, kernel,
padding, whether channels are neighbours in memory, what sums go through, and how many features a
level compares the sum of."""

MOST_DEPTH = 4
"""Depth of trees whose tables the kernels hold: 16 prototypes."""


class _Format(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int64),
        ("mantissa_bits", ctypes.c_int64),
        ("min_exponent", ctypes.c_int64),
        ("has_infinity", ctypes.c_int64),
        ("largest", ctypes.c_double),
    )


def _format(name: str) -> _Format:
    """Return an input format.

    Of `FLOAT_FORMATS`; ``"int"``, or ``"int8"`` and the like for what saturates; or empty for
    floats as they are.
    """
    if name not in FLOAT_FORMATS:
        bits = name.removeprefix("int")
        return _Format(kind=int(bool(name)), largest=2.0 ** (int(bits) - 1) if bits else 0.0)
    short = FLOAT_FORMATS[name]
    return _Format(
        kind=2,
        mantissa_bits=short.mantissa_bits,
        min_exponent=2 - (1 << (short.exponent_bits - 1)),
        has_infinity=short.has_infinity,
        largest=short.largest_finite,
    )


def geometry(values: Mapping[str, int]) -> list[int]:
    """Return the geometry that `convolve` takes, of all `FIELDS` by name."""
    return [values[name] for name in FIELDS]


def packed_shape(groups: int, n_outputs: int, n_codebooks: int) -> tuple[int, int]:
    """Return the shape, (groups, bytes), of the tables that `pack` writes."""
    return groups, -(-n_outputs // 4) * -(-n_codebooks // 4) * 256


def pack(chosen: Kernels, shape: tuple[int, int, int, int], entries: int, tables: int) -> None:
    """Lay out tables for `convolve`.

    Parameters
    ----------
    chosen : Kernels
    shape : tuple of int
        (groups, outputs, codebooks, prototypes); at most 16 prototypes.
    entries : int
        Address of float32 of that shape: integers in [-128, 127].
    tables : int
        Address of int8 of shape `packed_shape`, which is written.
    """
    chosen.call("halut_pack", *shape, entries, tables)


def decisions(
    chosen: Kernels,
    input_format: str,
    n_trees: int,
    depth: int,
    nodes: int,
    scale: int,
    offset: int,
    out: int,
) -> None:
    """Find the thresholds that decide on float32 inputs as nodes do on converted ones.

    Parameters
    ----------
    chosen : Kernels
    input_format : str
        One of `FLOAT_FORMATS`; ``"int"``, for ``rint((x - offset) / scale)``; or empty.
    n_trees, depth : int
    nodes, out : int
        Addresses of float32 (n_trees, 2**depth - 1), breadth-first; the second is written.
    scale, offset : int
        Addresses of float32 (n_trees, depth).
    """
    kind = _format(input_format)
    chosen.call(
        "halut_decisions", ctypes.addressof(kind), n_trees, depth, nodes, scale, offset, out
    )


def table_ranges(
    chosen: Kernels, n_tables: int, n_prototypes: int, entries: int, middle: int, span: int
) -> bool:
    """Find the middle and the span of each table's entries; return whether none is NaN.

    Parameters
    ----------
    chosen : Kernels
    n_tables, n_prototypes : int
    entries : int
        Address of float32 (n_tables, n_prototypes).
    middle, span : int
        Of float32 (n_tables,), which are written: ``(low + high) / 2`` and ``high - low``.
    """
    return not chosen.call("halut_table_ranges", entries, n_tables, n_prototypes, middle, span)


def quantise(
    chosen: Kernels,
    shape: tuple[int, int, int],
    half: float,
    *,
    entries: int,
    middle: int,
    scale: int,
    out: int,
) -> None:
    """Write entries in steps: ``rint((entry - middle) / scale - 0.5)`` in [-half, half - 1].

    Parameters
    ----------
    chosen : Kernels
    shape : tuple of int
        (outputs, tables of each, prototypes).
    half : float
    entries, out : int
        Addresses of float32 of that shape; the second is written.
    middle : int
        Of float32 (outputs, tables).
    scale : int
        Of float32 (outputs,).
    """
    chosen.call("halut_quantise", entries, *shape, middle, scale, half, out)


def quantise_packed(
    chosen: Kernels,
    shape: tuple[int, int, int, int],
    half: float,
    *,
    entries: int,
    middle: int,
    scale: int,
    tables: int,
) -> None:
    """Do `quantise`, then `pack`; entries in steps are not kept as floats.

    Parameters
    ----------
    chosen : Kernels
    shape : tuple of int
        (groups, outputs, codebooks, prototypes); at most 16 prototypes.
    half : float
        At most 128.
    entries, middle, scale : int
        Addresses of float32: of that shape, of (groups, outputs, codebooks), of (groups, outputs).
    tables : int
        Address of int8 of shape `packed_shape`, which is written.
    """
    chosen.call("halut_quantise_packed", entries, *shape, middle, scale, half, tables)


def bands(chosen: Kernels, given: list[int]) -> int:
    """Return how many bands of positions there are, which threads may share."""
    fields = np.array(given, dtype=np.int64)
    found: int = chosen.library.halut_bands(chosen.index, fields.ctypes.data)
    return found


def convolve(
    chosen: Kernels,
    given: list[int],
    *,
    x: int,
    pad: int | None,
    dims: int,
    thresholds: int,
    input_format: str,
    signs: int | None,
    input_scale: int | None,
    input_offset: int | None,
    tables: int,
    scale: int,
    offset: int,
    out: int,
    part: tuple[int, int],
) -> None:
    """Encode, look up, add and scale.

    Parameters
    ----------
    chosen : Kernels
    given : list of int
        `geometry`; there is at least one position.
    x : int
        Address of float32 images.
    pad : int or None
        Of float32 (channels,): what images are padded with; None: 0.
    dims : int
        Of int32 (groups, codebooks, depth, terms): features
        ``(channel * height + row) * width + column`` of a group's channels and the kernel.
    thresholds : int
        Of float32 (groups, codebooks, 2**depth - 1), see `decisions`; of sums in the words of
        their format.
    input_format : str
        Of sums: empty, or ``"int8"`` and the like.
    signs : int or None
        Of int8 (groups, codebooks, depth, terms), in [-1, 1]; None: levels compare single features.
    input_scale, input_offset : int or None
        Of float32 (groups, codebooks, depth), for sums.
    tables : int
        Of int8, see `pack`.
    scale, offset : int
        Of float32 (groups, outputs): ``sum * scale``, rounded, ``+ offset``, rounded.
    out : int
        Of float32 results.
    part : tuple of int
        First band, and the one that follows the last.
    """
    fields, kind = np.array(given, dtype=np.int64), _format(input_format)
    chosen.call(
        "halut_convolve", fields.ctypes.data, x, pad, dims, thresholds, ctypes.addressof(kind),
        signs, input_scale, input_offset, tables, scale, offset, out, *part,
    )  # fmt: skip


def pieces(chosen: Kernels, given: list[int]) -> int:
    """Return how many pieces `convolve_backward` works on one after the other."""
    fields = np.array(given, dtype=np.int64)
    found: int = chosen.library.halut_pieces(chosen.index, fields.ctypes.data)
    return found


def convolve_backward(
    chosen: Kernels,
    given: list[int],
    input_format: str,
    *,
    x: int,
    pad: int | None,
    dims: int,
    signs: int | None,
    nodes: int,
    slope: int,
    input_scale: int,
    input_offset: int,
    tables: int,
    table_scale: int,
    upstream: int,
    grad_x: int | None,
    grad_tables: int,
    grad_nodes: int,
    grad_slope: int,
    part: tuple[int, int],
) -> None:
    """Go backward through `convolve`, with the surrogate gradient of `halut.nn.functional`.

    Parameters
    ----------
    chosen : Kernels
    given : list of int
        `geometry`, without anything that sums go through.
    input_format : str
        As for `decisions`; for sums as for `convolve`.
    x, pad, dims, signs
        As for `convolve`.
    nodes : int
        Address of float32 (groups, codebooks, 2**depth - 1), breadth-first.
    slope, input_scale, input_offset : int
        Of float32 (groups, codebooks, depth).
    tables : int
        Of int8, see `pack`.
    table_scale : int
        Of float32 (groups, outputs): what sums of entries are multiplied with.
    upstream : int
        Of float32, as the output is laid out.
    grad_x : int or None
        Of float32, as `x` is laid out; is added to.
    grad_tables : int
        Of float32 (groups, outputs, codebooks, prototypes): the gradient of entries without their
        output's scale; is written.
    grad_nodes, grad_slope : int
        Of float32, of the shapes of `nodes` and `slope`; are written.
    part : tuple of int
        First piece, and the one that follows the last.
    """
    fields, kind = np.array(given, dtype=np.int64), _format(input_format)
    chosen.call(
        "halut_convolve_backward", fields.ctypes.data, ctypes.addressof(kind), x, pad, dims,
        signs, nodes, slope, input_scale, input_offset, tables, table_scale, upstream,
        grad_x, grad_tables, grad_nodes, grad_slope, *part,
    )  # fmt: skip
