# amaranth: UnusedElaboratable=no
"""Words from the bus become what the accelerator takes: rows, program words, split dimensions."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..front_end import FrontEndConfig
from ..units.unit import Unit, named
from .config import AxiConfig
from .descriptor import OPCODES
from .gearbox import Gearbox
from .transfer import word_payload

__all__ = ["Feeder", "program_payload"]

GATHER_WORD_BYTES = 4


def program_payload(config: AxiConfig) -> data.StructLayout:
    """Payload of the accelerator's program stream."""
    a = config.accelerator
    return data.StructLayout({"address": a.program_address_bits, "data": a.program_data_bits})


class Feeder(Unit):
    """Does what a descriptor asks for with the words that come for it.

    Parameters
    ----------
    config : AxiConfig
    tag : str
        Ends the module's name; another for another configuration.

    Members
    -------
    i : In(stream.Signature(word_payload(config)))
    active : In(1)
        A descriptor is executed; the fields below are its.
    opcode : In(8); first, count, inner, stride : In
        See `descriptor`; `first` is the program address.
    done : Out(1)
        In this cycle the last item or word was taken, or it was before; until `active` falls.
    rows : Out(stream.Signature)
        Input transfers of the accelerator, or pixels.
    program : Out(stream.Signature(program_payload(config)))
    gather : Out(stream.Signature(StructLayout(address, data)))
        With a front end that gathers only.
    clear : In(1)

    Timing
    ------
    One transfer per cycle, as far as the bus keeps up.
    """

    def __init__(self, config: AxiConfig, tag: str) -> None:
        self.config = config
        c, a = config, config.accelerator
        members: dict[str, Any] = {
            "i": In(stream.Signature(word_payload(c))),
            "active": In(1),
            "opcode": In(8),
            "first": In(a.program_address_bits),
            "inner": In(16),
            "stride": In(16),
            "done": Out(1),
            "rows": Out(stream.Signature(c.input_elements * a.input_bits)),
            "program": Out(stream.Signature(program_payload(c))),
            "clear": In(1),
        }
        if isinstance(c.core, FrontEndConfig) and c.gathers:
            gather = {"address": c.core.address_bits, "data": c.core.data_bits}
            members["gather"] = Out(stream.Signature(data.StructLayout(gather)))
        super().__init__(members, module_name=f"halut_feeder_{tag}", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c, a = self.config, self.config.accelerator
        rows = Gearbox(in_bytes=c.word_bytes, out_bytes=c.input_bytes)
        words = Gearbox(in_bytes=c.word_bytes, out_bytes=c.program_word_bytes)
        boxes = {"run": rows, "load": words}
        if c.gathers:
            boxes["gather"] = Gearbox(in_bytes=c.word_bytes, out_bytes=GATHER_WORD_BYTES)
        ended = Signal()
        idle = []
        for name, box in boxes.items():
            self.add(m, f"{name}_words", box, platform)
            mine = named(m, f"{name}_active", self.active & (self.opcode == OPCODES[name][0]))
            m.d.comb += [
                box.i.payload.data.eq(self.i.payload.data),
                box.i.payload.bytes.eq(self.i.payload.bytes),
                box.i.valid.eq(self.i.valid & mine & ~ended),
                box.clear.eq(self.clear),
            ]
            with m.If(mine & ~ended):
                m.d.comb += self.i.ready.eq(box.i.ready)
            idle.append(mine & ended & box.empty)
        with m.If(self.i.valid & self.i.ready & self.i.payload.last):
            m.d.sync += ended.eq(1)
        with m.If(~self.active | self.clear):
            m.d.sync += ended.eq(0)
        element = 8 * c.input_element_bytes
        m.d.comb += [
            self.rows.payload.eq(
                Cat(
                    rows.o.payload.data[k * element :][: a.input_bits]
                    for k in range(c.input_elements)
                )
            ),
            self.rows.valid.eq(rows.o.valid),
            rows.o.ready.eq(self.rows.ready),
        ]
        switched = self._program(m, words)
        m.d.comb += self.done.eq(Cat(*idle, switched).any())
        if isinstance(c.core, FrontEndConfig) and c.gathers:
            box = boxes["gather"]
            place = Signal(c.core.address_bits, name="gather_place")
            with m.If(~self.active):
                m.d.sync += place.eq(0)
            with m.Elif(box.o.valid & box.o.ready):
                m.d.sync += place.eq(place + 1)
            m.d.comb += [
                self.gather.payload.address.eq(place),
                self.gather.payload.data.eq(box.o.payload.data),
                self.gather.valid.eq(box.o.valid),
                box.o.ready.eq(self.gather.ready),
            ]

    def _program(self, m: Module, words: Gearbox) -> Signal:
        """Give program words their addresses; returns whether the command to switch was taken."""
        a = self.config.accelerator
        bits = a.program_address_bits
        switched = Signal()
        switching = Const(0, 1)
        if self.config.double_buffer:
            wanted = self.active & (self.opcode == OPCODES["switch"][0])
            switching = named(m, "switching", wanted & ~switched)
        begun = Signal()
        base, place = Signal(bits, reset_less=True), Signal(16, reset_less=True)
        moved = named(m, "program_moved", words.o.valid & words.o.ready)
        current = named(m, "current_base", Mux(begun, base, self.first))
        inner = named(m, "current_place", Mux(begun, place, 0))
        next_inner = named(m, "next_place", (inner + 1)[:16])
        with m.If(moved):
            m.d.sync += [begun.eq(1), base.eq(current), place.eq(next_inner)]
            with m.If(next_inner == self.inner):
                m.d.sync += [base.eq(current + self.stride), place.eq(0)]
        with m.If(switching & self.program.ready):
            m.d.sync += switched.eq(1)
        with m.If(~self.active | self.clear):
            m.d.sync += [begun.eq(0), switched.eq(0)]
        m.d.comb += [
            self.program.valid.eq(words.o.valid | switching),
            words.o.ready.eq(self.program.ready & ~switching),
            self.program.payload.address.eq(Mux(switching, self.first, current + inner)),
            self.program.payload.data.eq(Mux(switching, 0, words.o.payload.data)),
        ]
        return switched
