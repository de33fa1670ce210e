"""How sums of table entries are formed: width, overflow, and the order of additions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

from halut.checks import in_range, integer, integer_at_least, one_of
from halut.errors import HalutError
from halut.program import Program

T = TypeVar("T")

__all__ = ["OVERFLOWS", "Accumulation", "add_in_order", "pairwise"]

OVERFLOWS = ("saturate", "wrap")
"""What an accumulator that is too narrow does."""


@dataclass(frozen=True, kw_only=True)
class Accumulation:
    """How an accelerator forms its sums.

    Exact integers are the same in any order. Half floats and saturation are not: codebooks
    g*Q to g*Q + Q-1, with Q = `parallel_codebooks`, are added up by `pairwise`, and the result to
    the accumulator, for g = 0, 1, …, which begins as the first of them. Saturation happens once
    per g, then, not within `pairwise`. Several units share the Q codebooks of a step, unit d the
    d-th part of them; each accumulates its part so, and the accumulators are added by `pairwise`.
    The last step may be without its last codebooks. Where an accelerator has too few codebooks, the
    sums of as many as it has are added up, one range of them after the other.

    It unpacks as a mapping does: ``golden.matmul(program, words, **accumulation)``.

    Parameters
    ----------
    acc_bits : int, optional
        Width of the accumulator, `Program.accumulator_bits` when absent. A wider one changes
        nothing but the dtype.
    overflow : {"saturate", "wrap"}, optional
        Needed, and allowed, only where `acc_bits` is narrower than that.
    parallel_codebooks : int, default 1
        Q, at least 1.
    codebook_tiles : int, default 1
        Units that share them, a divisor of Q; must be 1 with `overflow`.
    codebooks_per_load : int, optional
        C of the accelerator, a multiple of Q; all when absent, as it must be with `overflow`.

    Raises
    ------
    HalutError
        When no accelerator has these numbers.

    Examples
    --------
    >>> Accumulation(parallel_codebooks=4, codebook_tiles=3)
    Traceback (most recent call last):
    halut.errors.HalutError: codebook_tiles must divide parallel_codebooks = 4, not be 3
    """

    acc_bits: int | None = None
    overflow: str | None = None
    parallel_codebooks: int = 1
    codebook_tiles: int = 1
    codebooks_per_load: int | None = None

    def __post_init__(self) -> None:
        parallel = integer_at_least("parallel_codebooks", self.parallel_codebooks, 1)
        tiles = integer_at_least("codebook_tiles", self.codebook_tiles, 1)
        if parallel % tiles:
            raise HalutError(
                f"codebook_tiles must divide parallel_codebooks = {parallel}, not be {tiles}"
            )
        if self.codebooks_per_load is not None:
            loaded = integer_at_least("codebooks_per_load", self.codebooks_per_load, 1)
            if loaded % parallel:
                raise HalutError(
                    f"codebooks_per_load must be a multiple of parallel_codebooks = {parallel}, "
                    f"not {loaded}"
                )
        if self.acc_bits is not None:
            integer("acc_bits", self.acc_bits)
        if self.overflow is not None:
            one_of("overflow", self.overflow, OVERFLOWS)
            for name, plain in (("codebook_tiles", 1), ("codebooks_per_load", None)):
                if getattr(self, name) != plain:
                    raise HalutError(f"overflow must be absent with {name}, not {self.overflow}")

    def keys(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return (field.name for field in dataclasses.fields(self))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    @property
    def order(self) -> tuple[int, int, int]:
        """Q, units that share them and codebooks per load (0: all), as integers."""
        return self.parallel_codebooks, self.codebook_tiles, self.codebooks_per_load or 0

    @classmethod
    def of_order(cls, order: Sequence[int]) -> Accumulation:
        """Make one of `order`."""
        parallel, tiles, load = order
        return cls(
            parallel_codebooks=parallel, codebook_tiles=tiles, codebooks_per_load=load or None
        )

    def width(self, program: Program) -> int:
        """Return the bits of the accumulators for a program.

        Raises
        ------
        HalutError
            When they could overflow and `overflow` is absent, or the other way round.
        """
        needed = program.accumulator_bits
        low, high = (needed, 64) if self.overflow is None else (program.lut_bits, needed - 1)
        if program.lut_format == "fp16":
            low = high = needed
        return in_range("acc_bits", needed if self.acc_bits is None else self.acc_bits, low, high)


def pairwise(terms: Sequence[T], add: Callable[[T, T], T]) -> T:
    """Add up terms: neighbours first, then their sums; an odd last term is kept for later.

    The order of additions of the adder tree, in the model and in the hardware.

    Examples
    --------
    >>> pairwise(["a", "b", "c", "d", "e"], lambda a, b: f"({a}{b})")
    '(((ab)(cd))e)'
    """
    while len(terms) > 1:
        pairs = [add(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + list(terms[len(terms) - len(terms) % 2 :])
    return terms[0]


def add_in_order(
    entry: Callable[[int], T],
    n_codebooks: int,
    add: Callable[[T, T], T],
    accumulation: Accumulation | None = None,
) -> T:
    """Add up one entry per codebook, in the order that `Accumulation` states.

    Parameters
    ----------
    entry : callable
        Takes a codebook.
    n_codebooks : int
    add : callable
        Of two terms; may work in place on the first one, which is used no more.
    accumulation : Accumulation, optional
        One codebook after the other when absent.

    Examples
    --------
    >>> def order(q=1, tiles=1, load=None):
    ...     how = Accumulation(parallel_codebooks=q, codebook_tiles=tiles, codebooks_per_load=load)
    ...     return add_in_order("abcdefg".__getitem__, 7, lambda a, b: f"({a}{b})", how)
    >>> order(), order(4), order(4, 2), order(2, 1, 4)
    ('((((((ab)c)d)e)f)g)', '(((ab)(cd))((ef)g))', '(((ab)(ef))((cd)g))', '(((ab)(cd))((ef)g))')
    """
    how = accumulation or Accumulation()
    parallel = how.parallel_codebooks
    lanes = parallel // how.codebook_tiles
    size = how.codebooks_per_load or n_codebooks

    def load(first: int) -> T:
        end = min(first + size, n_codebooks)
        units = range(first, min(first + parallel, end), lanes)
        return pairwise([unit(start, end) for start in units], add)

    def unit(start: int, end: int) -> T:
        steps = range(start, end, parallel)
        return reduce(add, (step(first, min(first + lanes, end)) for first in steps))

    def step(first: int, end: int) -> T:
        return pairwise([entry(codebook) for codebook in range(first, end)], add)

    return reduce(add, (load(first) for first in range(0, n_codebooks, size)))
