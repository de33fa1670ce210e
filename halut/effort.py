"""How much refitting each effort pays for: ways and passes within a budget of time.

The time of a pass is not measured but reckoned from the sizes of the product, so that the same
call always learns the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

__all__ = ["BUDGETS", "MOST_EFFORT", "Variant", "passes_shown", "variants"]

MOST_EFFORT = 3

BUDGETS = (120.0, 300.0, 1800.0, 7200.0)
"""Seconds of refitting at each effort, about, on one core that takes `_SECONDS` per value."""

_SECONDS = 2.3e-8
"""Seconds that a pass takes per codebook, row and column: 1.9e-8 to 2.8e-8 on the problems of
docs/encoders.md."""

_LONGER = {"sums": 2.0, "node": 10.0}
"""How much longer a pass takes than with trees."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How trees are refitted.

    Parameters
    ----------
    n_targets : int
        Directions of the rest that a tree is learned for.
    n_passes : int
        Passes over all trees.
    """

    n_targets: int
    n_passes: int


_VARIANTS = (
    (Variant(n_targets=2, n_passes=4),),
    (Variant(n_targets=2, n_passes=8),),
    (Variant(n_targets=2, n_passes=12), Variant(n_targets=4, n_passes=12)),
    tuple(Variant(n_targets=n, n_passes=24) for n in (1, 2, 3, 4, 6)),
)
"""The ways of refitting that each effort tries where time allows."""


def variants(
    effort: int,
    n_rows: int,
    n_columns: int,
    n_codebooks: int,
    terms: int,
    encoder: str = "tree",
) -> tuple[Variant, ...]:
    """Return the ways of refitting that an effort pays for, each of at least one pass.

    Parameters
    ----------
    effort : int
        0 to 3.
    n_rows : int
        That trees are learned from.
    n_columns, n_codebooks : int
        Columns that a tree chooses from, and C.
    terms : int
        1 without sums.
    encoder : str, default "tree"
        Trees of windows have their own columns only.

    Examples
    --------
    >>> variants(1, 8000, 128, 16, 1)
    (Variant(n_targets=2, n_passes=8),)
    >>> variants(1, 32768, 4608, 512, 1)  # half an hour a pass
    (Variant(n_targets=2, n_passes=1),)
    """
    found = _VARIANTS[effort]
    longer = _LONGER.get("sums" if terms > 1 else encoder, 1.0)
    seconds = _SECONDS * n_rows * n_columns * n_codebooks * longer
    each = int(BUDGETS[effort] / len(found) / seconds)
    return tuple(replace(one, n_passes=max(1, min(one.n_passes, each))) for one in found)


@contextmanager
def passes_shown(total: int, progress: bool) -> Iterator[Callable[[], None]]:
    """Yield what counts a pass: it moves a bar where that is asked for, on a terminal only."""
    if not progress or not sys.stderr.isatty():
        yield lambda: None
        return
    width = 30
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        bar = "#" * (width * done // total)
        print(f"\rrefitting [{bar:{width}}] {done} of {total} passes", end="", file=sys.stderr)

    try:
        yield advance
    finally:
        print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
