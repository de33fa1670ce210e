# amaranth: UnusedElaboratable=no
"""The registers of `registers`, behind a port of one access per cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from ..units.cells import equals, one_hot_select
from ..units.unit import Unit, named
from .registers import SPACE_BYTES, Register

__all__ = ["RegisterFile", "register_port"]

ADDRESS_BITS = (SPACE_BYTES - 1).bit_length()


def register_port() -> dict[str, Any]:
    """Members of a port that accesses a register, as the register file has them.

    In a cycle of `select` the access happens: `write` with `data` where `strobe` has a byte's
    bit, or else a read. `read_data` and `error` answer in the same cycle.
    """
    return {
        "select": In(1),
        "write": In(1),
        "address": In(ADDRESS_BITS),
        "data": In(32),
        "strobe": In(4),
        "read_data": Out(32),
        "error": Out(1),
    }


class RegisterFile(Unit):
    """Stores settings and events, shows constants and status, passes commands on.

    Parameters
    ----------
    registers : sequence of Register
    tag : str
        Ends the module's name; another for other registers.

    Members
    -------
    select, write, address, data, strobe, read_data, error
        See `register_port`. `error`: no register is there, it cannot be read or written, or a
        command is refused; then nothing happens. A command takes all four bytes at once.
    <register>_<field>
        Status: In. Setting: Out. Event: Out, the stored bits; command: Out, what is written.
    <register>_<field>_set : In
        Of events: bits that become 1.
    <register>_written : Out(1)
        Of registers with commands: `<register>_<field>` counts now.
    <register>_refused : In(1)
        Of registers with commands: a write is an error.

    Timing
    ------
    Settings and events change in the cycle after the write.
    """

    def __init__(self, registers: Sequence[Register], tag: str) -> None:
        self.registers = registers
        members = register_port()
        for register in registers:
            name = register.name.lower()
            for field in register.fields:
                path = f"{name}_{field.name}"
                if field.access != "constant":
                    members[path] = (In if field.access == "status" else Out)(field.bits)
                if field.access == "event":
                    members[f"{path}_set"] = In(field.bits)
            if any(field.access == "command" for field in register.fields):
                members[f"{name}_written"] = Out(1)
                members[f"{name}_refused"] = In(1)
        super().__init__(members, module_name=f"halut_registers_{tag}", has_reset=True)

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        mask = named(m, "mask", Cat(bit.replicate(8) for bit in self.strobe))
        hits, words, allowed = [], [], []
        for register in self.registers:
            name = register.name.lower()
            place = self.address[2:]
            hit = named(m, f"{name}_hit", self.select & equals(place, register.offset >> 2))
            may_write: Value = Const(int(register.writable), 1)
            if hasattr(self, f"{name}_refused"):
                may_write = ~getattr(self, f"{name}_refused") & self.strobe.all()
                m.d.comb += getattr(self, f"{name}_written").eq(hit & self.write & may_write)
            write = named(m, f"{name}_write", hit & self.write)
            bits: list[Value] = [Const(0, 1)] * 32
            for field in register.fields:
                path = f"{name}_{field.name}"
                part = slice(field.low, field.low + field.bits)
                given, kept = self.data[part], ~mask[part]
                if field.access == "constant":
                    value: Value = Const(field.value, field.bits)
                else:
                    value = getattr(self, path)
                if field.access == "setting":
                    stored = Signal(field.bits, init=field.value, name=f"{path}_stored")
                    with m.If(write):
                        m.d.sync += stored.eq((stored & kept) | (given & mask[part]))
                    m.d.comb += value.eq(stored)
                elif field.access == "event":
                    stored = Signal(field.bits, name=f"{path}_stored")
                    cleared = Mux(write, given & mask[part], 0)
                    m.d.sync += stored.eq((stored & ~cleared) | getattr(self, f"{path}_set"))
                    m.d.comb += value.eq(stored)
                elif field.access == "command":
                    m.d.comb += value.eq(given)
                    continue
                bits[part] = list(value)
            hits.append(hit)
            words.append(Cat(bits))
            allowed.append(Mux(self.write, may_write, Const(int(register.readable), 1)))
        lines = Signal(len(hits), name="hits")
        m.d.comb += [
            lines.eq(Cat(hits)),
            self.read_data.eq(one_hot_select(lines, words)),
            self.error.eq(self.select & ~(lines & Cat(allowed)).any()),
        ]
