"""When a side of a stream pauses, and for how long nothing may move."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from rtl_gen.tiled_config import AnyConfig

__all__ = ["LONGEST_STALL", "STALL_PATTERNS", "idle_limit", "never", "stalls"]

STALL_PATTERNS = ("none", "gaps", "backpressure", "both")
"""Names of the combinations of a pausing source ("gaps") and a pausing sink ("backpressure")."""

LONGEST_STALL = 24
"""Cycles: no burst of `stalls` is longer."""


def idle_limit(config: AnyConfig) -> int:
    """Cycles within which something moves on a stream of a right device while something is due.

    It moves an item per cycle, or passes a row group on, or both sides pause.
    """
    waits = config.latency_cycles + config.n_groups + config.n_beats + 2 * LONGEST_STALL
    return 2 * waits


def never() -> Iterator[bool]:
    """Return an endless iterator of False: no stall at any cycle."""
    return itertools.repeat(False)


def stalls(pattern: str, side: str, seed: int) -> Iterator[bool]:
    """Return an endless iterator: whether to stall, cycle by cycle.

    Stalls come in bursts of random length, so that both single bubbles and stalls longer than any
    pipeline occur.

    Parameters
    ----------
    pattern : str
        One of `STALL_PATTERNS`.
    side : str
        ``"source"`` (stalls in "gaps" and "both") or ``"sink"`` ("backpressure" and "both").
    seed : int
        Same seed, same stalls.
    """
    if pattern not in STALL_PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(STALL_PATTERNS)}, not {pattern!r}")
    if pattern != "both" and pattern != {"source": "gaps", "sink": "backpressure"}[side]:
        return never()

    def generate() -> Iterator[bool]:
        rng = np.random.default_rng([seed, side == "sink"])
        stall = True
        while True:
            # Mostly short bursts, now and then one that fills every register on the way.
            longest = int(rng.choice([1, 3, LONGEST_STALL], p=[0.6, 0.3, 0.1]))
            yield from itertools.repeat(stall, int(rng.integers(1, longest + 1)))
            stall = not stall

    return generate()
