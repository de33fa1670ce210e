"""From learned floats to the integers that the hardware holds.

Tables become signed integers with one scale per output column, or one for all (MADDNESS, arXiv
2106.10860, section 4.4; Stella Nera, arXiv 2311.10207, uses INT8). Every codebook
adds exactly one entry, so each codebook's own offset costs nothing: all offsets, and the mean
rounding error, are folded into one constant per output.

Thresholds become floats of the inputs' format (`FloatFormat.thresholds`), or integers in a grid
that is shared with the inputs. An input is rounded before it is compared, which moves the place
where the decision falls to half a step above the stored threshold; thresholds are chosen so that
this place is nearest to the learned one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import either, in_range, integer
from halut.nodes import by_node

__all__ = ["INPUT_GRANULARITIES", "LUT_GRANULARITIES", "code_shares", "half_lut",
           "integer_thresholds", "quantize_lut", "sum_thresholds"]  # fmt: skip

LUT_GRANULARITIES = ("column", "table")
INPUT_GRANULARITIES = ("dimension", "codebook", "all")

_CLIPPING = tuple(1.0 - 0.05 * step for step in range(14))


def quantize_lut(
    lut: NDArray[np.float32],
    offset: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    lut_bits: int = 8,
    granularity: str = "column",
    meetings: NDArray[np.float64] | None = None,
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
    """Quantise tables.

    Parameters
    ----------
    lut : float ndarray of shape (n_outputs, n_codebooks, n_prototypes)
    offset : float ndarray of shape (n_outputs,)
        What is added to each sum of table entries.
    counts : integer ndarray of shape (n_codebooks, n_prototypes)
        How often each entry is looked up, as far as known. Weighs the rounding errors when a
        range is clipped, and when their mean is folded into the offset.
    lut_bits : int, default 8
        2 to 16. Up to 8 bits, ranges are clipped where that lowers the squared error.
    granularity : {"column", "table"}, default "column"
        One scale per output, or one for all.
    meetings : float64 ndarray of shape (C*K, C*K), optional
        How often each pair of entries is looked up together. With it, entries are rounded one
        after the other, and those that follow make up for the errors so far.

    Returns
    -------
    entries : int8 (up to 8 bits) or int16 ndarray of the shape of `lut`
    scale : float32 ndarray of shape (n_outputs,)
        Greater than 0.
    offset : float32 ndarray of shape (n_outputs,)
        ``sum of entries * scale + offset`` is about the sum of table entries plus the old offset.
    """
    in_range("lut_bits", integer("lut_bits", lut_bits), 2, 16)
    either("lut_granularity", granularity, LUT_GRANULARITIES)
    exact = np.asarray(lut, dtype=np.float64)
    low, high = exact.min(axis=2), exact.max(axis=2)
    middle = (low + high) / 2  # (M, C)
    shifted = exact - middle[:, :, None]
    span = (high - low).max(axis=1)  # (M,)
    if granularity == "table":
        span[:] = span.max()
    full = span / (2**lut_bits - 1)
    # Below this, float32 could not hold the scale; such a column is constant for all purposes.
    full[full < np.finfo(np.float32).tiny] = 1.0
    share = code_shares(counts)

    half = 2 ** (lut_bits - 1)
    factors = _CLIPPING if lut_bits <= 8 else (1.0,)
    best_error = np.full(len(full), np.inf)
    best_scale = full.copy()
    for factor in factors:
        scale = (full * factor).astype(np.float32).astype(np.float64)
        entries = _round(shifted, scale, half)
        error = (entries + 0.5) * scale[:, None, None] - shifted
        mean = np.einsum("mck,ck->mc", error, share)
        variance = np.einsum("mck,mck,ck->m", error, error, share) - (mean**2).sum(axis=1)
        if granularity == "table":
            variance[:] = variance.sum()
        better = variance < best_error
        best_error[better] = variance[better]
        best_scale[better] = scale[better]
    if meetings is None:
        entries = _round(shifted, best_scale, half)
    else:
        entries = _round_jointly(shifted, best_scale, half, meetings)
    error = (entries + 0.5) * best_scale[:, None, None] - shifted
    bias = np.einsum("mck,ck->m", error, share)
    constant = offset + middle.sum(axis=1) + 0.5 * best_scale * exact.shape[1] - bias
    return (
        entries.astype(np.int8 if lut_bits <= 8 else np.int16),
        best_scale.astype(np.float32),
        constant.astype(np.float32),
    )


def code_shares(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the share of its codebook's rows that a code has, of counts (C, K); 0 without rows."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def half_lut(
    lut: NDArray[np.float32],
    offset: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float32]]:
    """Round tables to half floats.

    Parameters
    ----------
    lut, offset, counts
        As for `quantize_lut`.

    Returns
    -------
    entries : float16 ndarray of the shape of `lut`
    scale : float32 ndarray of shape (n_outputs,)
        Powers of two, which bring entries into the middle of the half floats' range.
    offset : float32 ndarray of shape (n_outputs,)
        ``sum of entries * scale + offset`` is about the sum of table entries plus the old offset.
    """
    exact = np.asarray(lut, dtype=np.float64)
    middle = (exact.min(axis=2) + exact.max(axis=2)) / 2  # (M, C)
    shifted = exact - middle[:, :, None]
    size = np.maximum(np.abs(shifted).max(axis=(1, 2)), np.finfo(np.float32).tiny * 2.0**10)
    scale = np.exp2(np.ceil(np.log2(size)) - 4)
    entries = (shifted / scale[:, None, None]).astype(np.float16)
    share = code_shares(counts)
    error = entries * scale[:, None, None] - shifted
    constant = offset + middle.sum(axis=1) - np.einsum("mck,ck->m", error, share)
    return entries, scale.astype(np.float32), constant.astype(np.float32)


def _round(
    shifted: NDArray[np.float64], scale: NDArray[np.float64], half: int
) -> NDArray[np.float64]:
    """Round tables that lie around zero; -half - 0.5 + 0.5 to half - 1 + 0.5 steps are there."""
    return np.clip(np.rint(shifted / scale[:, None, None] - 0.5), -half, half - 1)


def _round_jointly(
    shifted: NDArray[np.float64],
    scale: NDArray[np.float64],
    half: int,
    meetings: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Round entry by entry; the best answer of the others to each error is a triangular solve.

    With H the meetings, the squared error of table errors e is e'He. Once some entries are
    rounded, the others minimise it at values that follow from the Cholesky factor of H's inverse
    (the optimal brain surgeon, as GPTQ, arXiv 2210.17323, applies it to quantisation).
    """
    steps = (shifted / scale[:, None, None] - 0.5).reshape(len(shifted), -1).T  # (C*K, M)
    often = np.argsort(-meetings.diagonal(), kind="stable")  # the rare ones make up for the others
    damped = meetings[np.ix_(often, often)] + 10.0 * np.eye(len(meetings))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    steps = steps[often]
    rounded = np.empty_like(steps)
    for index in range(len(steps)):
        rounded[index] = np.clip(np.rint(steps[index]), -half, half - 1)
        error = (steps[index] - rounded[index]) / factor[index, index]
        steps[index + 1 :] -= factor[index, index + 1 :, None] * error
    entries = np.empty_like(rounded)
    entries[often] = rounded
    return entries.T.reshape(shifted.shape)


def _steps(low: NDArray[Any], high: NDArray[Any], bits: int) -> NDArray[Any]:
    """Steps of grids of so many bits over ranges, which do not vanish beside float32 offsets."""
    largest = np.maximum(np.abs(low), np.abs(high))
    return np.maximum((high - low) / (2**bits - 2), largest * 2.0**-23)


def integer_thresholds(
    thresholds: NDArray[np.float32], bits: int, granularity: str = "codebook"
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]:
    """Choose the grids of integer inputs, and the thresholds in them.

    A grid spans the thresholds, not the data: what lies beyond the outermost threshold may
    saturate, since all of it takes the same way.

    Parameters
    ----------
    thresholds : float ndarray of shape (n_codebooks, n_prototypes - 1), finite
        Breadth-first.
    bits : int
        2 to 16.
    granularity : {"codebook", "dimension", "all"}, default "codebook"
        What shares one grid: a codebook, a level of a codebook, or everything.

    Returns
    -------
    words : int16 ndarray of the shape of `thresholds`
        In the range of signed `bits` bits.
    scale, offset : float32 ndarray of shape (n_codebooks, tree_depth)
        ``word = clip(rint((x - offset) / scale))``.
    """
    either("input_granularity", granularity, INPUT_GRANULARITIES)
    exact = np.asarray(thresholds, dtype=np.float64)
    n_nodes = exact.shape[1]
    tree_depth = (n_nodes + 1).bit_length() - 1
    level = by_node(np.arange(tree_depth))  # (K-1,)
    first = 2 ** np.arange(tree_depth) - 1
    low = np.minimum.reduceat(exact, first, axis=1)  # (C, T)
    high = np.maximum.reduceat(exact, first, axis=1)
    if granularity != "dimension":
        axis = 1 if granularity == "codebook" else None
        low = np.broadcast_to(low.min(axis=axis, keepdims=True), low.shape)
        high = np.broadcast_to(high.max(axis=axis, keepdims=True), high.shape)
    half = 2 ** (bits - 1)
    largest = np.maximum(np.abs(low), np.abs(high))
    scale = _steps(low, high, bits)
    # One threshold alone decides at its own place in any grid.
    alone = high == low
    scale[alone] = np.where(largest > 0, largest / half, 1.0)[alone]
    scale = scale.astype(np.float32).astype(np.float64)
    offset = ((low + high) / 2 + scale / 2).astype(np.float32)
    words = np.rint((exact - offset[:, level]) / scale[:, level] - 0.5)
    words = np.clip(words, -half, half - 2).astype(np.int16)
    return words, scale.astype(np.float32), offset


def sum_thresholds(
    thresholds: NDArray[np.float32],
    signs: NDArray[np.int8],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    bits: int,
    granularity: str = "codebook",
) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]:
    """Choose the grids of integer inputs that are added up, and the thresholds of their sums.

    A grid spans the values, since a sum decides by all of its terms.

    Parameters
    ----------
    thresholds : float ndarray of shape (n_codebooks, n_prototypes - 1), finite
        Breadth-first.
    signs : int8 ndarray of shape (n_codebooks, tree_depth, terms), range [-1, 1]
        0 where there is no term.
    low, high : float ndarray of the shape of `signs`
        What each term is from and to.
    bits : int
        2 to 15.
    granularity : {"codebook", "dimension", "all"}, default "codebook"
        What shares one grid, as of `integer_thresholds`.

    Returns
    -------
    words : int16 ndarray of the shape of `thresholds`
        In the range of signed ``bits + ceil(log2 terms)`` bits; what is compared is the sum of
        words, of which those with -1 are complemented.
    scale, offset : float32 ndarray of shape (n_codebooks, tree_depth)
    """
    either("input_granularity", granularity, INPUT_GRANULARITIES)
    exact = np.asarray(thresholds, dtype=np.float64)
    n_levels, terms = signs.shape[1:]
    level = by_node(np.arange(n_levels))  # (K-1,)
    used = signs != 0
    axes: Any = {"dimension": 2, "codebook": (1, 2), "all": None}[granularity]
    least = np.where(used, low, np.inf).min(axis=axes, keepdims=True)
    most = np.where(used, high, -np.inf).max(axis=axes, keepdims=True)
    shape = signs.shape[:2]
    least, most = (np.broadcast_to(end, signs.shape)[..., 0] for end in (least, most))
    scale = _steps(least, most, bits)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32).astype(np.float64)
    offset = ((least + most) / 2).astype(np.float32).reshape(shape)
    total = signs.sum(axis=2, dtype=np.int64)
    below = (signs < 0).sum(axis=2)  # complements are less by one
    words = np.rint((exact - (offset * total)[:, level]) / scale[:, level] - 0.5)
    half = 2 ** (bits - 1 + (terms - 1).bit_length())
    words = np.clip(words - below[:, level], -half, half - 1).astype(np.int16)
    return words, scale.astype(np.float32), offset
