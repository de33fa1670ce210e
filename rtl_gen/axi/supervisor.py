# amaranth: UnusedElaboratable=no
"""Notes what goes wrong, and brings the block to rest and back; counts what is done."""

from __future__ import annotations

import enum

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from ..units.cells import equals
from ..units.unit import Unit, named
from .collector import MOST_JOBS
from .config import AxiConfig
from .engine import completion_payload
from .fifo import Fifo
from .registers import ERRORS

__all__ = ["Completion", "Supervisor"]


class _State(enum.IntEnum):
    RUNNING = 0
    DRAINING = 1  # open transfers of the bus are finished
    CLEARING = 2  # one cycle: everything begins anew
    HALTED = 3


class Completion(Unit):
    """Notes which descriptors are done, in their order.

    Members
    -------
    i : In(stream.Signature(completion_payload()))
        A descriptor whose input was taken. It is done when those before are and, if it writes,
        its results are written.
    written : In(1)
        In this cycle the results of a run are all written.
    count : Out(32), tag : Out(16)
        Descriptors done, and the tag of the last one.
    interrupt : Out(1)
        In this cycle one is done that asked for an interrupt.
    drained : Out(1)
        All are done.
    clear : In(1)
        Forgets those that are not done.
    zero : In(1)
        With `clear`: counts from 0.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(completion_payload())),
                "written": In(1),
                "count": Out(32),
                "tag": Out(16),
                "interrupt": Out(1),
                "drained": Out(1),
                "clear": In(1),
                "zero": In(1),
            },
            module_name="halut_completion",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        waiting = Fifo(width=18, depth=MOST_JOBS)
        self.add(m, "waiting", waiting, platform)
        written = Signal(range(2 * MOST_JOBS + 2))
        writes, interrupt, tag = waiting.o.payload[0], waiting.o.payload[1], waiting.o.payload[2:]
        done = named(m, "done", waiting.o.valid & (~writes | written.any()) & ~self.clear)
        m.d.comb += [
            waiting.i.payload.eq(self.i.payload.as_value()),
            waiting.i.valid.eq(self.i.valid),
            self.i.ready.eq(waiting.i.ready),
            waiting.o.ready.eq(done),
            waiting.clear.eq(self.clear),
            self.interrupt.eq(done & interrupt),
            self.drained.eq(~waiting.o.valid),
        ]
        m.d.sync += written.eq(written + self.written - (done & writes))
        with m.If(done):
            m.d.sync += [self.count.eq(self.count + 1), self.tag.eq(tag)]
        with m.If(self.clear):
            m.d.sync += written.eq(0)
            with m.If(self.zero):
                m.d.sync += [self.count.eq(0), self.tag.eq(0)]


class Supervisor(Unit):
    """Notes what goes wrong, and brings the block to rest and back.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    raised : In(len(ERRORS) - 1)
        In this cycle these errors happen, all but the watchdog's, by their order in `ERRORS`.
    read_address, write_address, descriptor_address : In(address_bits)
        Where.
    reset : In(1)
        Software asks to begin anew.
    busy, moved : In(1)
        There is work; something moves.
    limit : In(32)
        Cycles without a move while busy that are an error; 0: never.
    quiet : In(1)
        No transfer of the bus is open.
    stop : Out(1)
        Ask for nothing more.
    clear, zero : Out(1)
        In this cycle everything begins anew; `zero`: counters, too, as software asked for it.
    halted, draining : Out(1)
    errors : Out(len(ERRORS)), error_address : Out(address_bits)
        The address is that of the first error.
    error_event : Out(1)
        In this cycle an error happens.

    Timing
    ------
    `stop` rises in the cycle after an error. Once the bus is quiet, `clear` is 1 for one cycle.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        bits = config.address_bits
        super().__init__(
            {
                "raised": In(len(ERRORS) - 1),
                "read_address": In(bits),
                "write_address": In(bits),
                "descriptor_address": In(bits),
                "reset": In(1),
                "busy": In(1),
                "moved": In(1),
                "limit": In(32),
                "quiet": In(1),
                "stop": Out(1),
                "clear": Out(1),
                "zero": Out(1),
                "halted": Out(1),
                "draining": Out(1),
                "errors": Out(len(ERRORS)),
                "error_address": Out(bits),
                "error_event": Out(1),
            },
            module_name=f"halut_supervisor_a{bits}",
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        state = Signal(range(max(_State) + 1), name="state")
        at = [named(m, f"at_{each.name.lower()}", equals(state, each)) for each in _State]
        asked = Signal(name="reset_asked")
        resets = named(m, "resets", asked | self.reset)
        quiet_cycles = Signal(32)
        expired = named(
            m,
            "expired",
            at[_State.RUNNING] & self.limit.any() & (quiet_cycles >= self.limit),
        )
        with m.If(self.moved | ~self.busy | (state != _State.RUNNING)):
            m.d.sync += quiet_cycles.eq(0)
        with m.Else():
            m.d.sync += quiet_cycles.eq(quiet_cycles + 1)
        raised = named(m, "all_raised", Cat(self.raised, expired))
        m.d.comb += [
            self.error_event.eq(raised.any()),
            self.stop.eq(state != _State.RUNNING),
            self.draining.eq(at[_State.DRAINING]),
            self.halted.eq(at[_State.HALTED]),
            self.clear.eq(at[_State.CLEARING]),
            self.zero.eq(self.clear & resets),
        ]
        with m.If(raised.any()):
            m.d.sync += self.errors.eq(self.errors | raised)
            with m.If(~self.errors.any()):
                m.d.sync += self.error_address.eq(
                    Mux(
                        self.raised[0],
                        self.read_address,
                        Mux(self.raised[1], self.write_address, self.descriptor_address),
                    )
                )
        with m.If(at[_State.RUNNING] & (self.reset | raised.any())):
            m.d.sync += [state.eq(_State.DRAINING), asked.eq(self.reset)]
        with m.If(at[_State.DRAINING]):
            with m.If(self.reset):
                m.d.sync += asked.eq(1)
            with m.If(self.quiet):
                m.d.sync += state.eq(_State.CLEARING)
        with m.If(at[_State.CLEARING]):
            m.d.sync += [state.eq(Mux(resets, _State.RUNNING, _State.HALTED)), asked.eq(0)]
            with m.If(resets):
                m.d.sync += [self.errors.eq(0), self.error_address.eq(0)]
        with m.If(at[_State.HALTED] & self.reset):
            m.d.sync += [state.eq(_State.CLEARING), asked.eq(1)]
