# amaranth: UnusedElaboratable=no
"""Units of hardware: one Verilog module per parameter set, shared by all its instances.

Amaranth writes one module per instance of a component. Here each unit is instead converted alone
under a name made of its parameters and instantiated by that name, so that a netlist, a simulation
or a proof can work unit by unit. In Amaranth's own simulator the units are ordinary submodules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Instance,
    Module,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from halut.errors import HalutError

__all__ = ["MAX_PORT_BITS", "Port", "Unit", "VerilogTarget", "named"]

MAX_PORT_BITS = {"input": 2**16 - 2, "output": 2**16}
"""Bits that a module's ports may have together: Amaranth numbers them with 16 bits."""


def named(m: Module, name: str, value: Value) -> Signal:
    """A signal called `name` that is `value`: what the emitted Verilog shows it as."""
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


@dataclass(frozen=True)
class Port:
    """One port of a unit's Verilog module.

    Attributes
    ----------
    signal : Signal
        What the module's port is.
    member : Value
        The part of the component's interface that it stands for; often `signal` itself.
    is_output : bool
    """

    signal: Signal
    member: Value
    is_output: bool


def _check_ports(unit: Unit) -> None:
    """Refuse ports that Amaranth has no numbers for."""
    for direction, limit in MAX_PORT_BITS.items():
        ports = [port for port in unit.ports.values() if port.is_output == (direction == "output")]
        bits = sum(len(port.signal) for port in ports)
        if direction == "input":
            bits += len(unit.clock_ports())
        if bits > limit:
            raise HalutError(
                f"{direction} ports must have at most {limit:,} bits together, not {bits:,} "
                f"({unit.module_name})"
            )


class VerilogTarget:
    """The `platform` given to elaboration when Verilog is written.

    Collects every unit that is instantiated, by module name.
    """

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}

    def require(self, unit: Unit) -> None:
        """Remember `unit` for conversion; its module name stands for all of its parameters.

        Raises
        ------
        HalutError
            When its ports are wider than Amaranth takes.
        """
        if unit.module_name not in self.units:
            _check_ports(unit)
            self.units[unit.module_name] = unit


class Unit(wiring.Component):
    """A component with a module name made of its parameters.

    Subclasses implement `build` instead of `elaborate`.

    Parameters
    ----------
    members : dict
        The signature's members.
    module_name : str
        Verilog module name; two units of one name must have equal parameters.
    has_clock, has_reset : bool
        Whether the module has the ports ``clk_i`` and ``rst_ni`` (active low, synchronous).
    """

    def __init__(
        self,
        members: dict[str, Any],
        *,
        module_name: str,
        has_clock: bool = True,
        has_reset: bool = False,
    ) -> None:
        super().__init__(members)
        self.module_name = module_name
        self.has_clock = has_clock
        self.has_reset = has_reset
        self.clk_i = Signal(name="clk_i")
        self.rst_ni = Signal(name="rst_ni")
        self.ports = self._make_ports()
        self.placed_ports: dict[str, bool] = {}  # of units inside: is it an output

    def _make_ports(self) -> dict[str, Port]:
        """Ports by Verilog name: a stream's payload is called data, or split by its fields."""
        ports: dict[str, Port] = {}

        def add(name: str, signal: Signal, member: Value, is_output: bool) -> None:
            if name in ports:
                raise TypeError(f"{self.module_name} must have one port {name}, not two")
            ports[name] = Port(signal, member, is_output)

        for path, member, value in self.signature.flatten(self):
            is_output = member.flow == Out
            names = [str(part) for part in path]
            layout = value.shape() if isinstance(value, data.View) else None
            if names[-1] == "payload" and isinstance(layout, data.StructLayout):
                for field, _ in layout:
                    part = Value.cast(value[field])
                    name = "_".join([*names[:-1], field])
                    add(name, Signal(len(part), name=name), part, is_output)
                continue
            if names[-1] == "payload":
                names[-1] = "data"
            signal = value if isinstance(value, Signal) else value.as_value()
            add("_".join(names), signal, signal, is_output)
        return ports

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        """Add this unit's logic to `m`."""
        raise TypeError(f"{type(self).__name__} must define build()")

    @property
    def ram_style(self) -> str:
        """What synthesis for FPGAs shall make of this module's memories; empty: what it likes."""
        return ""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if isinstance(platform, VerilogTarget) and self.has_clock:
            m.domains.sync = ClockDomain(reset_less=not self.has_reset)
            m.d.comb += ClockSignal().eq(self.clk_i)
            if self.has_reset:
                m.d.comb += ResetSignal().eq(~self.rst_ni)
        if isinstance(platform, VerilogTarget):
            for port in self.ports.values():
                if port.signal is not port.member:
                    source, sink = port.member, port.signal
                    if not port.is_output:
                        source, sink = sink, source
                    m.d.comb += sink.eq(source)
        self.build(m, platform)
        return m

    def name_signals(self, prefix: str) -> list[str]:
        """Name the signals of this unit's interface by their path; returns the names."""
        names = []
        for path, _, value in self.signature.flatten(self):
            signal = value if isinstance(value, Signal) else value.as_value()
            signal.name = prefix + "_".join(str(part) for part in path)
            names.append(signal.name)
        return names

    def running(self, platform: object) -> Value:
        """High but in a cycle of reset: at its clock edge nothing may move."""
        if isinstance(platform, VerilogTarget):
            return self.rst_ni
        return ~ResetSignal(allow_reset_less=True)

    def clock_ports(self) -> dict[str, Signal]:
        """Clock and reset ports of this unit's module, by name."""
        ports = {}
        if self.has_clock:
            ports["clk_i"] = self.clk_i
        if self.has_reset:
            ports["rst_ni"] = self.rst_ni
        return ports

    def add(
        self,
        m: Module,
        name: str,
        unit: Unit,
        platform: object,
        *,
        reset: Signal | None = None,
    ) -> None:
        """Place `unit` inside this one under the instance name `name`.

        The caller connects the unit's ports by its attributes, whichever way it is placed. `reset`
        resets the unit, beside what resets this one.
        """
        if not isinstance(platform, VerilogTarget):
            m.submodules[name] = unit if reset is None else ResetInserter(reset)(unit)
            return
        platform.require(unit)
        connections: dict[str, Any] = {
            f"i_{clock}": getattr(self, clock) for clock in unit.clock_ports()
        }
        if reset is not None:
            connections["i_rst_ni"] = named(m, f"{name}_rst_n", self.rst_ni & ~reset)
        # What this module calls its signals; inside the unit's own module they are ports.
        self.placed_ports |= dict.fromkeys(unit.name_signals(f"{name}_"), False)
        for port_name, port in unit.ports.items():
            wire = port.member
            if not isinstance(wire, Signal):
                wire = Signal(len(port.member))
                ends = (port.member, wire) if port.is_output else (wire, port.member)
                m.d.comb += ends[0].eq(ends[1])
            wire.name = f"{name}_{port_name}"
            self.placed_ports[wire.name] = port.is_output
            connections[f"{'o' if port.is_output else 'i'}_{port_name}"] = wire
        m.submodules[name] = Instance(unit.module_name, **connections)
