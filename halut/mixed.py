"""Tables that are not all alike: widths, steps and prototypes per codebook under a budget.

What an accelerator stores stays the same: with `mixed_widths` the bits of all entries, where each
codebook has a width of its own, but all share one step per output, so that sums are added as
before; with `mixed_depths` the number of entries, where trees end at different levels. With
`shared_exponents` the entries of an output and codebook share a power of two, two bits more for all
of them, by which they are shifted before they are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.matmul import HalutMatmul
from halut.problem_set import installed
from halut.problems import Problem, relative_error
from halut.quantize import code_shares, quantize_lut
from halut.ridge import STRENGTHS, Gram, solve

__all__ = ["MixedTables", "entry_bits", "measure", "mixed_depths", "mixed_widths",
           "shared_exponents", "shortened"]  # fmt: skip

_CLIPPING = np.linspace(1.0, 0.5, 26)
_MOST_SHIFT = 3

_FINER = 0.98
"""Steps are made finer by this factor at a time."""


def entry_bits(lut: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Return the bits that the entries of each codebook need, from its lowest to its highest.

    Parameters
    ----------
    lut : integer ndarray of shape (n_outputs, n_codebooks, n_prototypes)

    Returns
    -------
    intp ndarray of shape (n_codebooks,)
        An offset per output and codebook, of which only the sum is added, makes up for where the
        entries lie.

    Examples
    --------
    >>> entry_bits(np.array([[[0, 3], [-2, -2], [-128, 127]]])).tolist()
    [2, 0, 8]
    """
    span = lut.max(axis=2).astype(np.int64) - lut.min(axis=2)
    return np.ceil(np.log2(span.max(axis=0) + 1)).astype(np.intp)


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedTables:
    """Quantised tables, as floats.

    Parameters
    ----------
    lut : float64 ndarray of shape (n_outputs, n_codebooks, n_prototypes)
    offset : float64 ndarray of shape (n_outputs,)
    widths : intp ndarray of shape (n_codebooks,)
        Bits of an entry of each codebook.
    """

    lut: NDArray[np.float64]
    offset: NDArray[np.float64]
    widths: NDArray[np.intp]

    def product(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Add up the entries that codes (n_rows, n_codebooks) select: (n_rows, n_outputs)."""
        sums = np.repeat(self.offset[None], len(codes), axis=0)
        for codebook, column in enumerate(codes.T):
            sums += self.lut[:, codebook, column].T
        return sums


def mixed_widths(
    lut: NDArray[np.float32],
    offset: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    mean_bits: float,
) -> MixedTables:
    """Quantise tables with the finest steps at which codebooks need so many bits on average.

    Parameters
    ----------
    lut, offset, counts
        As for `halut.quantize.quantize_lut`.
    mean_bits : float
        Of an entry, over all codebooks.

    Returns
    -------
    MixedTables
    """
    exact = lut.astype(np.float64)
    low, high = exact.min(axis=2), exact.max(axis=2)
    middle, span = (low + high) / 2, high - low  # (M, C)
    widest = np.maximum(span.max(axis=1), np.finfo(np.float32).tiny)
    step = widest / (2.0 ** int(mean_bits) - 1)

    def widths(step: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.ceil(np.log2(span / step[:, None] + 1) - 1e-9).max(axis=0).astype(np.intp)

    while widths(_FINER * step).mean() <= mean_bits and widths(step).max() < 16:
        step = _FINER * step
    entries = np.rint((exact - middle[..., None]) / step[:, None, None] - 0.5) + 0.5
    entries[span == 0] = 0
    shown = entries * step[:, None, None]
    share = code_shares(counts)
    bias = np.einsum("mck,ck->m", shown + middle[..., None] - exact, share)
    return MixedTables(lut=shown, offset=offset + middle.sum(axis=1) - bias, widths=widths(step))


def shared_exponents(
    lut: NDArray[np.float32],
    offset: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    bits: int,
) -> MixedTables:
    """Quantise tables whose steps are 1, 1/2, 1/4 or 1/8 of their output's, per codebook.

    Parameters
    ----------
    lut, offset, counts
        As for `halut.quantize.quantize_lut`.
    bits : int
        Of an entry, 2 to 16. Ranges are clipped where that lowers the error, as there.

    Returns
    -------
    MixedTables
    """
    exact = lut.astype(np.float64)
    low, high = exact.min(axis=2), exact.max(axis=2)
    middle, span = (low + high) / 2, np.maximum(high - low, np.finfo(np.float32).tiny)
    widest = span.max(axis=1, keepdims=True)  # (M, 1)
    shift = np.minimum(np.floor(np.log2(widest / span)), _MOST_SHIFT)
    shifted = exact - middle[..., None]
    share = code_shares(counts)
    best, shown, half = np.full(len(exact), np.inf), np.zeros_like(exact), 2 ** (bits - 1)
    for factor in _CLIPPING:
        step = (factor * widest / (2.0**bits - 1) * 2.0**-shift)[..., None]
        entries = (np.clip(np.rint(shifted / step - 0.5), -half, half - 1) + 0.5) * step
        error = entries - shifted
        mean = np.einsum("mck,ck->mc", error, share)
        variance = np.einsum("mck,mck,ck->m", error, error, share) - (mean**2).sum(axis=1)
        better = variance < best
        best[better], shown[better] = variance[better], entries[better]
    bias = np.einsum("mck,ck->m", shown - shifted, share)
    return MixedTables(
        lut=shown,
        offset=offset + middle.sum(axis=1) - bias,
        widths=np.full(exact.shape[1], bits),
    )


def shortened(gram: Gram, depth: int, depths: NDArray[np.intp]) -> Gram:
    """Return what a gram would be, had trees ended earlier.

    Parameters
    ----------
    gram : Gram
        Of trees of `depth` levels.
    depth : int
    depths : intp ndarray of shape (n_codebooks,), range [0, depth]
        Levels of each tree that count: leaves below the same node become one.

    Returns
    -------
    Gram
    """
    leaf = np.arange(2**depth)
    firsts = np.cumsum([0, *(2 ** depths[:-1])])
    place = np.concatenate(
        [first + (leaf >> (depth - own)) for first, own in zip(firsts, depths, strict=True)]
    )
    size = int((2**depths).sum())

    def joined(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros((size, rows.shape[1]))
        np.add.at(found, place, rows)
        return found

    return Gram(
        meetings=joined(joined(gram.meetings).T), sums=joined(gram.sums), energy=gram.energy
    )


def mixed_depths(
    train: Gram, held_out: Gram, depth: int, n_entries: int, strength: float
) -> NDArray[np.intp]:
    """Choose how deep each tree is, by the error on held-out rows.

    All begin with two levels less than `depth`; then a level is added where an entry brings most,
    again and again.

    Parameters
    ----------
    train, held_out : Gram
        Of trees of `depth` levels, at least 2.
    depth : int
    n_entries : int
        Of all tables, per output, at most.
    strength : float
        Of the ridge regression.

    Returns
    -------
    intp ndarray of shape (n_codebooks,)
    """
    n_codebooks = len(train.meetings) >> depth
    depths = np.full(n_codebooks, depth - 2)

    def error(depths: NDArray[np.intp]) -> float:
        entries = solve(shortened(train, depth, depths), strength)
        return shortened(held_out, depth, depths).squared_error(entries)

    least = error(depths)
    while True:
        gains = np.zeros(n_codebooks)
        for codebook in np.flatnonzero(depths < depth):
            more = depths + (np.arange(n_codebooks) == codebook)
            if (2**more).sum() <= n_entries:
                gains[codebook] = (least - error(more)) / 2 ** depths[codebook]
        if gains.max() <= 0:
            return depths
        depths[gains.argmax()] += 1
        least = error(depths)


def _depths_of(problem: Problem, n_codebooks: int) -> tuple[float, float, list[int]]:
    """Return the test error of trees of 16 leaves, of mixed ones, and the latter's depths."""
    deep = HalutMatmul(C=n_codebooks, K=32).learn_offline(problem.train, problem.B)
    centre = problem.train.mean(axis=0)
    sets = problem.train[::5], np.delete(problem.train, np.s_[::5], axis=0), problem.train
    held_out, train, both = (
        Gram.of(
            np.ascontiguousarray(deep.encode(rows).T),
            ((rows - centre) @ problem.B).astype(np.float32),
            32,
        )
        for rows in sets
    )
    strength = float(min(STRENGTHS, key=lambda one: held_out.squared_error(solve(train, one))))
    chosen = mixed_depths(train, held_out, 5, 16 * n_codebooks, strength)
    codes, exact = deep.encode(problem.test), problem.test @ problem.B
    errors = []
    for depths in (np.full(n_codebooks, 4), chosen):
        tables = solve(shortened(both, 5, depths), strength)
        firsts = np.cumsum([0, *(2 ** depths[:-1])])
        product = tables[firsts + (codes >> (5 - depths))].sum(axis=1) + centre @ problem.B
        errors.append(relative_error(product, exact))
    return errors[0], errors[1], chosen.tolist()


def measure(
    problems: tuple[tuple[Callable[[], Problem], tuple[int, ...]], ...],
) -> list[dict[str, Any]]:
    """Measure mixed tables on problems, on rows that learning did not see, K = 16.

    Parameters
    ----------
    problems : tuple of (maker, numbers of codebooks)
        See `halut.problem_set.installed`.

    Returns
    -------
    list of dict
        One per problem and C: ``problem``, ``n_codebooks``; ``bits_of_8``, what entries of 8-bit
        tables need, a width per codebook, without any change of results; ``float``, the error of
        float tables; ``uniform``, ``mixed`` and ``exponents``, by mean width, those of quantised
        ones; ``k16`` and ``mixed_k``, those of float tables of trees that end at level 4, and at
        levels 3 to 5 with as many entries; ``levels``, how many trees end at each.
    """
    found = []
    for problem, sizes in installed(problems):
        exact = problem.test @ problem.B
        for n_codebooks in sizes:
            learned = HalutMatmul(C=n_codebooks).learn_offline(problem.train, problem.B)
            codes, counts = learned.encode(problem.test), learned.stats_.code_counts
            given = learned.lut_, learned.offset_, counts
            row: dict[str, Any] = {
                "problem": problem.name,
                "n_codebooks": n_codebooks,
                "bits_of_8": float(entry_bits(quantize_lut(*given, 8)[0]).mean()),
                "float": relative_error(learned.matmul_online(problem.test), exact),
                "uniform": {},
                "mixed": {},
                "exponents": {},
            }
            for bits in (2, 3, 4):
                entries, scale, offset = quantize_lut(*given, bits)
                whole = MixedTables(
                    lut=entries * scale[:, None, None].astype(np.float64),
                    offset=offset.astype(np.float64),
                    widths=np.full(n_codebooks, bits),
                )
                ways = {
                    "uniform": whole,
                    "mixed": mixed_widths(*given, bits),
                    "exponents": shared_exponents(*given, bits),
                }
                for name, tables in ways.items():
                    row[name][str(bits)] = relative_error(tables.product(codes), exact)
            row["k16"], row["mixed_k"], depths = _depths_of(problem, n_codebooks)
            row["levels"] = {str(level): depths.count(level) for level in (3, 4, 5)}
            found.append(row)
    return found
