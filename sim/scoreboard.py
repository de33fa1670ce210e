"""The scoreboard of a testbench: what must come out, and whether it did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable

__all__ = ["Mismatch", "Scoreboard"]


class Mismatch(AssertionError):
    """The device under test answered something else than the model."""


class Scoreboard:
    """Compares items, in order and exactly, as they arrive.

    Parameters
    ----------
    name : str
        What the items are; begins every message.
    describe : callable (index, expected, received) -> str, optional
        Says readably where two differing items differ. The default prints both.

    Attributes
    ----------
    n_expected, n_received : int
        Items announced so far by `expect`, and items that were right so far.
    tolerant : bool
        False at first. When set, wrong items are counted and raise nothing: for tests in which the
        bench must find a fault.
    n_wrong : int
        Wrong items so far.

    Examples
    --------
    >>> board = Scoreboard("sums")
    >>> board.expect([3, 4])
    >>> board.receive(3)
    >>> board.finish()
    Traceback (most recent call last):
    ...
    sim.scoreboard.Mismatch: sums: received 1 of 2 items; the next one must be 4
    """

    def __init__(
        self,
        name: str,
        describe: Callable[[int, Hashable, Hashable], str] | None = None,
    ) -> None:
        self.name = name
        self.n_expected = 0
        self.n_received = 0
        self.tolerant = False
        self.n_wrong = 0
        self._describe = describe or _describe
        self._queue: deque[Hashable] = deque()

    def expect(self, items: Iterable[Hashable]) -> None:
        """Announce items, in the order in which they must arrive."""
        before = len(self._queue)
        self._queue.extend(items)
        self.n_expected += len(self._queue) - before

    def receive(self, item: Hashable) -> None:
        """Compare one item with the next one announced.

        Raises
        ------
        Mismatch
            When nothing was announced, or something else, unless `tolerant`.
        """
        try:
            self._compare(item)
        except Mismatch:
            self.n_wrong += 1
            if not self.tolerant:
                raise

    def _compare(self, item: Hashable) -> None:
        if not self._queue:
            raise Mismatch(
                f"{self.name}: item {self.n_received} was not expected: {_text(item)} "
                f"after all {self.n_expected} expected items"
            )
        expected = self._queue.popleft()
        if item != expected:
            raise Mismatch(
                f"{self.name}: item {self.n_received} of {self.n_expected}: "
                f"{self._describe(self.n_received, expected, item)}"
            )
        self.n_received += 1

    @property
    def done(self) -> bool:
        """Whether everything announced so far has arrived."""
        return not self._queue

    def forget(self) -> None:
        """Drop what is still due (the device was reset)."""
        self.n_expected -= len(self._queue)
        self._queue.clear()

    def finish(self) -> None:
        """Check the end of a test: as many items as expected, more than none, and none due.

        Raises
        ------
        Mismatch
            Otherwise.
        """
        if self.n_expected == 0:
            raise Mismatch(f"{self.name}: nothing was expected, so nothing was tested")
        if self._queue or self.n_received != self.n_expected:
            due = f"; the next one must be {_text(self._queue[0])}" if self._queue else ""
            raise Mismatch(
                f"{self.name}: received {self.n_received} of {self.n_expected} items{due}"
            )


def _describe(_: int, expected: Hashable, received: Hashable) -> str:
    return f"must be {_text(expected)}, not {_text(received)}"


def _text(item: Hashable) -> str:
    if isinstance(item, int):
        return str(item) if abs(item) < 1 << 16 else hex(item)
    if isinstance(item, tuple):
        return "(" + ", ".join(_text(part) for part in item) + ")"
    return repr(item)
