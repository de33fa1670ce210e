"""Whole transfers as single Python integers, packed and unpacked with NumPy.

A cocotb testbench pays for every access to a port, so a transfer of many fields is written and
read as one integer, made ahead of time and taken apart afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "pack_bytes", "unpack", "unpack_bytes"]

_CHUNK_BITS = 1 << 24  # bounds the memory for bits held one per byte


def pack(fields: NDArray[np.integer], bits: int) -> list[int]:
    """Pack rows of fields into one integer each, field 0 in the least significant bits.

    Parameters
    ----------
    fields : ndarray of shape (n, n_fields), integer
        Values in [-2**(bits-1), 2**bits); negative ones are packed in two's complement.
    bits : int
        Width of a field, 1 to 63.

    Returns
    -------
    list of int, length n
        Each in [0, 2**(n_fields * bits)).

    Examples
    --------
    >>> [hex(word) for word in pack(np.array([[1, -1], [2, 3]]), 4)]
    ['0xf1', '0x32']
    """
    packed = pack_bytes(fields, bits)
    raw, width = packed.tobytes(), packed.shape[1]
    if width == 0:
        return [0] * len(packed)
    return [int.from_bytes(raw[k : k + width], "little") for k in range(0, len(raw), width)]


def pack_bytes(fields: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Pack rows of fields as `pack` does, each into whole bytes, the lowest first.

    Returns
    -------
    ndarray of shape (n, ceil(n_fields * bits / 8)), uint8
    """
    fields = np.asarray(fields)
    n, n_fields = fields.shape
    result = np.empty((n, (n_fields * bits + 7) // 8), dtype=np.uint8)
    if result.size == 0:
        return result
    if fields.min() < -(1 << (bits - 1)) or fields.max() >= 1 << bits:
        raise ValueError(f"fields must fit in {bits} bits, not [{fields.min()}, {fields.max()}]")
    shifts = np.arange(bits, dtype=np.int64)
    rows = max(1, _CHUNK_BITS // (n_fields * bits))
    for start in range(0, n, rows):
        part = fields[start : start + rows].astype(np.int64, order="C")
        if bits in (8, 16, 32):
            packed = part.astype(f"<i{bits // 8}").view(np.uint8).reshape(len(part), -1)
        else:
            expanded = (part[:, :, None] >> shifts & 1).astype(np.uint8)
            packed = np.packbits(expanded.reshape(len(part), -1), axis=1, bitorder="little")
        result[start : start + rows] = packed
    return result


def unpack(words: Iterable[int], n_fields: int, bits: int, *, signed: bool) -> NDArray[np.int64]:
    """Take integers apart into rows of fields: the inverse of `pack`.

    Parameters
    ----------
    words : iterable of int
        Each in [0, 2**(n_fields * bits)).
    n_fields : int
        Fields in each word, field 0 in the least significant bits.
    bits : int
        Width of a field, 1 to 63.
    signed : bool
        Whether fields are two's complement.

    Returns
    -------
    ndarray of shape (len(words), n_fields), int64
        In [-2**(bits-1), 2**(bits-1)) when signed, else [0, 2**bits).

    Examples
    --------
    >>> unpack([0xF1, 0x32], 2, 4, signed=True)
    array([[ 1, -1],
           [ 2,  3]])
    """
    words = list(words)
    width = (n_fields * bits + 7) // 8
    raw = b"".join(word.to_bytes(width, "little") for word in words)
    packed = np.frombuffer(raw, dtype=np.uint8).reshape(len(words), width)
    return unpack_bytes(packed, n_fields, bits, signed=signed)


def unpack_bytes(
    packed: NDArray[np.uint8], n_fields: int, bits: int, *, signed: bool
) -> NDArray[np.int64]:
    """Take rows of bytes, the lowest first, apart into rows of fields, as `unpack` does.

    Parameters
    ----------
    packed : ndarray of shape (n, ceil(n_fields * bits / 8)), uint8
    n_fields, bits, signed
        See `unpack`.
    """
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    result = np.empty((len(packed), n_fields), dtype=np.int64)
    rows = max(1, _CHUNK_BITS // (n_fields * bits))
    for start in range(0, len(packed), rows):
        part = packed[start : start + rows]
        if bits in (8, 16, 32):
            fields = part.view(f"<{'i' if signed else 'u'}{bits // 8}")
            result[start : start + rows] = fields
            continue
        bit = np.unpackbits(part, axis=1, count=n_fields * bits, bitorder="little")
        result[start : start + rows] = bit.reshape(len(part), n_fields, bits) @ weights
    return result
