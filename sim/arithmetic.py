# amaranth: UnusedElaboratable=no
"""Arithmetic units by the dozen: many equal ones side by side, for millions of random operands."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog
from sim import runner

__all__ = ["Bank", "build_bank"]

LANES = 16


class Bank(Unit):
    """`LANES` equal units; every port but `enable` is as many times as wide, lane 0 lowest.

    Parameters
    ----------
    make : callable
        Makes one.
    """

    def __init__(self, make: Callable[[], Unit]) -> None:
        self.make = make
        unit = make()
        members = {}
        for name, member in unit.signature.members.items():
            width = len(getattr(unit, name))
            flow = In if member.flow == In else Out
            members[name] = flow(width if name == "enable" else width * LANES)
        super().__init__(
            members, module_name=f"bank_of_{unit.module_name}", has_clock=unit.has_clock
        )

    def build(self, m: Module, platform: object) -> None:
        for lane in range(LANES):
            unit = self.make()
            self.add(m, f"lane{lane}", unit, platform)
            for name, member in unit.signature.members.items():
                inner, outer = getattr(unit, name), getattr(self, name)
                if name != "enable":
                    outer = outer[lane * len(inner) : (lane + 1) * len(inner)]
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)


def build_bank(make: Callable[[], Unit]) -> runner.Build:
    """Build the simulation of a bank of the unit that `make` makes."""
    bank = Bank(make)
    return runner.build(unit_verilog(bank), bank.module_name, simulator="verilator")
