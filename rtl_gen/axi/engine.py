# amaranth: UnusedElaboratable=no
"""Reads descriptors and has them executed, one after the other."""

from __future__ import annotations

import enum
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..units.cells import equals
from ..units.unit import Unit, named
from .config import AxiConfig
from .descriptor import DESCRIPTOR_BYTES, FIELDS, OPCODES
from .feeder import GATHER_WORD_BYTES
from .transfer import transfer_command, word_payload

__all__ = ["Engine", "completion_payload"]


class _State(enum.IntEnum):
    IDLE = 0
    REQUEST = 1  # the descriptor is asked for
    FETCH = 2  # its words come
    MEASURE = 3  # its sizes in bytes are computed
    CHECK = 4
    ISSUE = 5  # its data are asked for
    EXECUTE = 6  # and, meanwhile, the next descriptor
    STOPPED = 7  # an error was found


def completion_payload() -> data.StructLayout:
    """What is remembered of a descriptor until it is done."""
    return data.StructLayout({"writes": 1, "interrupt": 1, "tag": 16})


def _scaled(value: Value, factor: int) -> Value:
    """`value` times a constant, as a sum of shifts."""
    parts = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    return sum(parts[1:], parts[0])


class Engine(Unit):
    """Reads descriptors and has them executed, one after the other.

    Parameters
    ----------
    config : AxiConfig
    tag : str
        Ends the module's name; another for another configuration.

    Members
    -------
    doorbell : In(stream.Signature(32))
        Address of a chain's first descriptor; with streams, valid while a packet is there.
    high : In(address_bits - 32)
        Of all addresses; only of more than 32 bits.
    read, write : Out(stream.Signature(transfer_command(config)))
        `read` of descriptors and of their data in turns.
    job : Out(stream.Signature(32))
        Row groups of a run, with its `write`.
    data : Out(1)
        `read` is of data, not of a descriptor.
    ended : In(1)
        Of streams only: the packet ended with the last word.
    word : In(stream.Signature(word_payload(config)))
        What was read of a descriptor, while `fetching`.
    fetching : Out(1)
    active, opcode, first, inner, stride : Out; done : In
        See `Feeder`.
    completion : Out(stream.Signature(completion_payload()))
        A descriptor whose input was taken.
    drained : In(1)
        All descriptors before are done.
    stop, clear : In(1)
        `stop`: asks for nothing more. `clear`: begins anew.
    idle : Out(1)
    bad, wrong, cut : Out(1)
        In this cycle a descriptor is refused: it breaks a rule, is of another configuration, or its
        packet ends too early or too late.
    address : Out(address_bits)
        Of the present descriptor; with streams, the packets before.

    Timing
    ------
    The next descriptor is read behind the data of the present one, whose results may still be on
    their way when the next begins. Between the last input of one and the first read of the next
    are 256 / data_bits + 4 cycles.
    """

    def __init__(self, config: AxiConfig, tag: str) -> None:
        self.config = config
        command = stream.Signature(transfer_command(config))
        high = config.address_bits - 32
        super().__init__(
            {
                "doorbell": In(stream.Signature(32)),
                **({"high": In(high)} if high else {}),
                "read": Out(command),
                "write": Out(command),
                "job": Out(stream.Signature(32)),
                "data": Out(1),
                **({"ended": In(1)} if config.bus == "stream" else {}),
                "word": In(stream.Signature(word_payload(config))),
                "fetching": Out(1),
                "active": Out(1),
                "opcode": Out(8),
                "first": Out(config.accelerator.program_address_bits),
                "inner": Out(16),
                "stride": Out(16),
                "done": In(1),
                "completion": Out(stream.Signature(completion_payload())),
                "drained": In(1),
                "stop": In(1),
                "clear": In(1),
                "idle": Out(1),
                "bad": Out(1),
                "wrong": Out(1),
                "cut": Out(1),
                "address": Out(config.address_bits),
            },
            module_name=f"halut_engine_{tag}",
            has_reset=True,
        )

    def _full(self, low: Value) -> Value:
        """An address with the bits above those of a descriptor."""
        return Cat(low, self.high) if self.config.address_bits > 32 else low

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        c = self.config
        state = Signal(range(max(_State) + 1), name="state")
        at = [named(m, f"at_{each.name.lower()}", equals(state, each)) for each in _State]
        held = Signal(8 * DESCRIPTOR_BYTES, name="descriptor", reset_less=True)
        field = {f.name: held[f.first : f.first + f.bits] for f in FIELDS}
        is_op = {
            name: named(m, f"is_{name}", field["opcode"] == number)
            for name, (number, _) in OPCODES.items()
        }
        place = Signal(32, name="place", reset_less=True)
        in_bytes = Signal(32, reset_less=True)
        out_bytes = Signal(32, reset_less=True)
        groups = Signal(32, reset_less=True)
        too_much = Signal(reset_less=True)
        m.d.comb += [
            self.idle.eq(at[_State.IDLE]),
            self.fetching.eq(at[_State.FETCH]),
            self.active.eq(at[_State.EXECUTE]),
            self.opcode.eq(field["opcode"]),
            self.first.eq(field["program_address"]),
            self.inner.eq(field["inner"]),
            self.stride.eq(field["stride"]),
            self.address.eq(self._full(place)),
            self.completion.payload.writes.eq(is_op["run"]),
            self.completion.payload.interrupt.eq(field["interrupt"]),
            self.completion.payload.tag.eq(field["tag"]),
        ]
        broken, waits = self._rules(m, field, is_op, too_much)
        wrong = named(m, "of_other_configuration", field["configuration"] != self._digest)
        reads = named(m, "reads", ~is_op["switch"])
        ahead = Signal(name="asks_ahead")
        is_stream = c.bus == "stream"
        ends = Const(1, 1) if is_stream else field["end"]
        # A packet goes on with the data, if there are any.
        cut = named(m, "packet_cut", self.ended == reads) if is_stream else Const(0, 1)
        m.d.comb += [
            self.read.payload.address.eq(
                self._full(Mux(at[_State.ISSUE], field["source"], Mux(ahead, field["next"], place)))
            ),
            self.read.payload.bytes.eq(Mux(at[_State.ISSUE], in_bytes, DESCRIPTOR_BYTES)),
            self.write.payload.address.eq(self._full(field["destination"])),
            self.write.payload.bytes.eq(out_bytes),
            self.job.payload.eq(groups),
            self.data.eq(at[_State.ISSUE]),
        ]
        with m.If(at[_State.IDLE]):
            m.d.comb += self.doorbell.ready.eq(~self.stop)
            with m.If(self.doorbell.valid & ~self.stop):
                m.d.sync += state.eq(_State.REQUEST)
                if not is_stream:
                    m.d.sync += place.eq(self.doorbell.payload)
        with m.If(at[_State.REQUEST]):
            m.d.comb += self.read.valid.eq(1)
            with m.If(self.read.ready):
                m.d.sync += state.eq(_State.FETCH)
        with m.If(at[_State.FETCH]):
            m.d.comb += self.word.ready.eq(1)
            with m.If(self.word.valid):
                m.d.sync += held.eq(Cat(held[c.data_bits :], self.word.payload.data))
                with m.If(self.word.payload.last):
                    m.d.sync += state.eq(_State.MEASURE)
        with m.If(at[_State.MEASURE]):
            sizes = self._sizes(field["count"], is_op)
            over = reduce(or_, [size[32:].any() for size in sizes])
            m.d.sync += [
                Cat(in_bytes).eq(sizes[0]),
                out_bytes.eq(sizes[1]),
                groups.eq(sizes[2]),
                too_much.eq(over),
                state.eq(_State.CHECK),
            ]
        with m.If(at[_State.CHECK]):
            m.d.comb += [
                self.bad.eq(broken & ~wrong & ~self.stop),
                self.wrong.eq(wrong & ~self.stop),
                self.cut.eq(cut & ~wrong & ~broken & ~self.stop),
            ]
            with m.If(broken | wrong | cut):
                m.d.sync += state.eq(_State.STOPPED)
            with m.Elif(~waits | self.drained):
                m.d.sync += state.eq(_State.ISSUE)
        with m.If(at[_State.ISSUE]):
            with m.If(is_op["run"]):
                ready = named(m, "run_ready", self.read.ready & self.write.ready & self.job.ready)
                m.d.comb += [
                    self.read.valid.eq(self.write.ready & self.job.ready),
                    self.write.valid.eq(ready),
                    self.job.valid.eq(ready),
                ]
            with m.Else():
                m.d.comb += self.read.valid.eq(reads)
            with m.If((self.read.ready & self.read.valid) | ~reads):
                m.d.sync += [state.eq(_State.EXECUTE), ahead.eq(~ends)]
        with m.If(at[_State.EXECUTE]):
            m.d.comb += [self.read.valid.eq(ahead), self.completion.valid.eq(self.done & ~ahead)]
            with m.If(self.read.ready):
                m.d.sync += ahead.eq(0)
            with m.If(self.done & ~ahead & self.completion.ready):
                m.d.sync += state.eq(Mux(ends, _State.IDLE, _State.FETCH))
                # Of a chain that ended the last address stays, for the watchdog.
                with m.If(~ends):
                    m.d.sync += place.eq(field["next"])
                if is_stream:
                    m.d.sync += place.eq(place + 1)
        with m.If(self.clear):
            if is_stream:
                m.d.sync += place.eq(0)
            m.d.sync += [state.eq(_State.IDLE), ahead.eq(0)]

    @property
    def _digest(self) -> int:
        """What descriptors hold: the first 32 bits of the accelerator's hash."""
        return int(self.config.core_hash[:8], 16)

    def _sizes(self, count: Value, is_op: dict[str, Signal]) -> tuple[Value, Value, Value]:
        """Bytes to read, bytes to write, and row groups."""
        c = self.config
        read = Mux(
            is_op["run"],
            _scaled(count, c.item_bytes),
            _scaled(count, c.program_word_bytes),
        )
        if c.gathers:
            read = Mux(is_op["gather"], _scaled(count, GATHER_WORD_BYTES), read)
        run = is_op["run"]
        written = _scaled(count, c.result_bytes)
        groups = _scaled(count, c.item_groups)
        return (
            Cat(read, Const(0, 1)),
            Cat(written & run.replicate(len(written)), Const(0, 1)),
            Cat(groups & run.replicate(len(groups)), Const(0, 1)),
        )

    def _rules(
        self, m: Module, field: dict[str, Value], is_op: dict[str, Signal], too_much: Signal
    ) -> tuple[Signal, Signal]:
        """Whether the descriptor breaks a rule, and whether it waits for those before."""
        c = self.config
        known = is_op["load"] | is_op["run"]
        if c.double_buffer:
            known |= is_op["switch"]
        if c.gathers:
            known |= is_op["gather"]
        bits = c.accelerator.program_address_bits
        addressed = is_op["load"] | is_op["switch"]
        rules = Cat(
            ~known,
            field["reserved"].any(),
            ~is_op["switch"] & (~field["count"].any() | too_much),
            addressed & field["program_address"][bits:].any(),
            is_op["load"] & ~field["inner"].any(),
        )
        # A front end takes no program while an image is on its way.
        waits = ~is_op["run"] if c.has_front_end else Const(0, 1)
        return named(m, "broken", rules.any()), named(m, "waits", waits)
