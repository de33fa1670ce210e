"""Drivers and monitors of valid/ready streams.

The rules that every stream obeys, checked at every clock edge on the side of the device:

1. an item moves at a rising edge at which `valid` and `ready` are both 1;
2. once `valid` is 1 it stays 1, and the payload stays as it is, until the item has moved;
3. `valid` does not wait for `ready`.

While a driver has nothing to offer, its payload ports hold a value that is never sent, so that a
device that listens without `valid` is caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cocotb.triggers import RisingEdge, Timer

from sim.stalls import never

__all__ = ["ProtocolError", "StreamDriver", "StreamMonitor", "Stuck", "watch"]


class ProtocolError(AssertionError):
    """The device broke a rule of the stream."""


class Stuck(AssertionError):
    """Nothing moved for too long."""


async def watch(
    streams: Sequence[_Stream], due: Callable[[], bool], idle_cycles: int, clock_ns: int = 2
) -> None:
    """Watch for ever that something moves while something is due; start it with ``start_soon``.

    It looks every `idle_cycles` cycles, so a device that is stuck fails within twice as many.

    Parameters
    ----------
    streams : sequence of StreamDriver and StreamMonitor
    due : callable () -> bool
        Whether the device owes anything now.
    idle_cycles : int
        Longest time in cycles in which a right device moves no item while something is due.
    clock_ns : int, default 2
        Period of the clock.

    Raises
    ------
    Stuck
        When something was due at both ends of such a time and no item moved between them.
    """
    seen, was_due = -1, False
    while True:
        await Timer(idle_cycles * clock_ns, "ns")
        moved, is_due = sum(stream.n_moved for stream in streams), due()
        if is_due and was_due and moved == seen:
            counts = ", ".join(f"{stream.n_moved} of {stream.name}" for stream in streams)
            raise Stuck(
                f"an item must move within {idle_cycles} cycles while something is due, "
                f"but none did after {counts}"
            )
        seen, was_due = moved, is_due


class _Stream:
    """The ports of one stream: ``<prefix>_valid``, ``<prefix>_ready``, ``<prefix>_<field>``."""

    def __init__(self, dut: Any, prefix: str, fields: Sequence[str], clock: Any) -> None:
        self.name = prefix
        self.valid = getattr(dut, f"{prefix}_valid")
        self.ready = getattr(dut, f"{prefix}_ready")
        self.fields = [getattr(dut, f"{prefix}_{field}") for field in fields]
        self.edge = RisingEdge(clock)
        self.stall_cycles = 0
        self.n_moved = 0

    def bit(self, port: Any) -> int:
        try:
            return int(port.value)
        except ValueError:
            raise ProtocolError(f"{port._name} must be 0 or 1, not {port.value}") from None


class StreamDriver(_Stream):
    """Sends items into a stream of the device, cycle by cycle.

    Parameters
    ----------
    dut : cocotb handle
        The device.
    prefix : str
        Name of the stream.
    clock : cocotb handle
        Its clock; the rising edge counts.
    fields : sequence of str, default ("data",)
        Ports beside valid and ready. An item is an int for one field, a tuple for more.

    Attributes
    ----------
    stall_cycles : int
        Cycles so far in which an item was offered and the device was not ready.
    n_moved : int
        Items so far.
    """

    def __init__(
        self, dut: Any, prefix: str, clock: Any, *, fields: Sequence[str] = ("data",)
    ) -> None:
        super().__init__(dut, prefix, fields, clock)
        self._idle = [(1 << len(field)) - 1 for field in self.fields]
        self.idle()

    def _put(self, item: Sequence[int]) -> None:
        for port, value in zip(self.fields, item, strict=True):
            port.value = value

    def idle(self) -> None:
        """Withdraw what is offered (after the task of `send` was cancelled, for a reset)."""
        self.valid.value = 0
        self._put(self._idle)

    async def send(
        self,
        items: Sequence[int] | Sequence[tuple[int, ...]],
        pause: Iterator[bool] | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        """Send items; return at the edge at which the last one moved.

        Parameters
        ----------
        items : sequence of int, or of tuple of int
            What to send.
        pause : iterator of bool, optional
            Per cycle without an offer: whether to wait one more. See `stalls`.
        on_sent : callable, optional
            Called at the edge at which an item moves.
        """
        pause = pause or never()
        edge, ready, valid, bit = self.edge, self.ready, self.valid, self.bit
        single = self.fields[0] if len(self.fields) == 1 else None
        offering = False
        for item in items:
            while next(pause):
                if offering:
                    self.idle()
                    offering = False
                await edge
            if single is not None:
                single.value = item
            else:
                self._put(item)  # type: ignore[arg-type]
            if not offering:
                valid.value = 1
                offering = True
            await edge
            while not bit(ready):
                self.stall_cycles += 1
                await edge
            self.n_moved += 1
            if on_sent:
                on_sent()
        self.idle()


class StreamMonitor(_Stream):
    """Takes items out of a stream of the device and checks the rules of the stream.

    Parameters
    ----------
    dut, prefix, clock, fields
        See `StreamDriver`.
    receive : callable (item) -> None
        Called with every item, at the edge at which it moves.
    wait : iterator of bool, optional
        Per cycle: whether to hold `ready` at 0. See `stalls`.
    valid_first : bool, default False
        Hold `ready` at 0 until the device offers its first item, so that a device whose valid
        waits for ready gets stuck (rule 3).

    Attributes
    ----------
    in_reset : bool
        Set it while the device is held in reset: nothing moves then, and what was offered may
        disappear.
    stall_cycles : int
        Cycles so far in which the device offered an item and `ready` was 0.
    n_moved : int
        Items so far.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        clock: Any,
        *,
        receive: Callable[[Any], None],
        fields: Sequence[str] = ("data",),
        wait: Iterator[bool] | None = None,
        valid_first: bool = False,
    ) -> None:
        super().__init__(dut, prefix, fields, clock)
        self.receive = receive
        self.in_reset = False
        self.valid_first = valid_first
        self.wait = wait or never()
        self._pending: Any = None
        self.ready.value = 0

    def _item(self) -> Any:
        values = []
        for port in self.fields:
            try:
                values.append(int(port.value))
            except ValueError:
                raise ProtocolError(
                    f"{port._name} must be known while {self.valid._name} is 1, not {port.value}"
                ) from None
        return values[0] if len(values) == 1 else tuple(values)

    async def run(self) -> None:
        """Watch the stream for ever; start it with ``cocotb.start_soon``."""
        edge, valid, bit = self.edge, self.valid, self.bit
        ready = False
        while True:
            allowed = not next(self.wait) and not self.valid_first
            if allowed != ready:
                ready = allowed
                self.ready.value = int(ready)
            await edge
            if self.in_reset:
                self._pending = None
                continue
            if bit(valid):
                self.valid_first = False
                item = self._item()
                if self._pending is not None and item != self._pending:
                    raise ProtocolError(
                        f"{self.name}: the payload must stay until it is taken, "
                        f"but {self._pending} became {item}"
                    )
                if ready:
                    self._pending = None
                    self.n_moved += 1
                    self.receive(item)
                else:
                    self._pending = item
                    self.stall_cycles += 1
            elif self._pending is not None:
                raise ProtocolError(f"{self.name}: valid must stay until the item is taken")
