"""What timing is checked against: one clock, and the share of its period that is outside.

The conventions are the same for this project's own timing and for OpenSTA (`flow.timing.opensta`
writes them as SDC):

* one clock, ideal everywhere, also behind clock gates and clock buffers, until there is a tree;
* inputs arrive, and outputs are due, `Constraints.io_share` of the period after and before the
  clock edge; every input port is driven by the platform's `driver`, every output drives its load;
* the registers outside get that edge `Constraints.io_latency_ns` late, as those of the block do
  once it has a clock tree;
* a latch is transparent for the data word of the clock edge that opens it, and that word must be
  there when it closes. Its contents stand still while they are read, so that no path goes through
  its data pin (table memories are only written while nothing is computed).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Constraints", "clock_ps"]


def clock_ps(period_ns: float) -> int:
    """A period as simulations have it: an even number of ps, at least 20."""
    return max(20, 2 * round(period_ns * 500))


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What the timing is checked against."""

    clock: str  #: The clock's port.
    period_ns: float
    io_share: float = 0.2  #: Share of the period that is outside, at inputs and at outputs.
    #: The clock's insertion delay outside, ns; inside too while the clock is ideal.
    io_latency_ns: float = 0.0
    #: Ports that are static or slow (reset), whose paths are not checked.
    quiet: tuple[str, ...] = ()
