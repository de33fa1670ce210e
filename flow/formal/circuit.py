"""A netlist cut at its storage: Boolean functions of ports and stored bits.

What a clock edge does to a register or a latch becomes a function, so that two netlists which
store the same bits can be compared with combinational methods only. The clock network is traced
back to the clock port: buffers, inverters, clock-gating cells, and gates made of a latch and an AND
gate. A register takes its data at a rising edge at which all enables of its gates are 1. A latch is
open in the high phase that follows such an edge, so its enable and its data are two functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from flow.cells.boolean import Expression, parse
from flow.cells.liberty import Cell, Library
from flow.netlist.netlist import HIGH, LOW, Instance, Netlist
from flow.simulation.cell_models import clock_gate_pins
from halut.errors import HalutError

__all__ = ["Circuit", "Clock", "Gate", "Storage", "apply", "evaluate"]

Gate = tuple[Expression, Mapping[str, int]]
"""A function, and the net of each of its names."""


@dataclass(frozen=True)
class Clock:
    """A clock net: the clock port, maybe inverted, and the nets that gate it."""

    rising: bool  #: Whether it rises with the clock port.
    gates: tuple[int, ...] = ()  #: Nets of the enables; all must be 1 for a pulse.


@dataclass
class Storage:
    """One stored bit."""

    instance: str  #: Name of the cell.
    kind: str  #: "ff" or "latch".
    gates: tuple[int, ...]  #: Nets that must all be 1 for the bit to be written.
    data: Gate  #: What is written.
    #: Nets that carry the bit, and whether inverted.
    outputs: list[tuple[int, bool]] = field(default_factory=list)


def _literal(expression: Expression) -> tuple[str, bool] | None:
    """(name, whether inverted) of an expression of one input; None for others."""
    if len(expression.inputs) != 1:
        return None
    low, high = expression.table().tolist()
    return (expression.inputs[0], low) if low != high else None


@cache
def _is_and(text: str) -> bool:
    expression = parse(text)
    return len(expression.inputs) == 2 and expression.table().tolist() == [False] * 3 + [True]


class Circuit:
    """A netlist, cut at its storage.

    Parameters
    ----------
    clock : str
        Name of the clock port.
    what : str
        How errors call the netlist.

    Attributes
    ----------
    storage : dict of int to Storage
        By the number of the cell in `netlist.instances`.
    functions : dict of int to Gate
        Of every net that a gate drives.
    leaves : set of int
        Nets of the inputs and of stored bits.
    inputs : list of (str, int)
        Bits of the input ports but for the clock: name and net.
    outputs : list of (str, int)
        Bits of the output ports.

    Raises
    ------
    HalutError
        When a cell has no function, or a stored bit is not clocked by rising edges of the clock.
    """

    def __init__(self, netlist: Netlist, library: Library, clock: str, what: str):
        self.netlist = netlist
        self._library = library
        self._what = what
        ports = [
            (port.bit_name(bit), net, port)
            for port in netlist.ports
            for bit, net in enumerate(port.nets)
        ]
        roots = [net for _, net, port in ports if port.name == clock]
        if len(roots) != 1:
            raise HalutError(f"{what} must have one clock port of one bit called {clock}")
        self._root = roots[0]
        self.inputs = [
            (name, net) for name, net, port in ports
            if port.direction == "input" and net != self._root
        ]  # fmt: skip
        self.outputs = [(name, net) for name, net, port in ports if port.direction == "output"]
        self.driver: dict[int, tuple[int, str]] = {}
        for index, instance in enumerate(netlist.instances):
            for pin in self._cell(instance).outputs:
                if pin in instance.pins:
                    self.driver[instance.pins[pin]] = (index, pin)
        self._clocks: dict[int, Clock | None] = {}
        self.storage: dict[int, Storage] = {}
        for index, instance in enumerate(netlist.instances):
            if self._cell(instance).kind in ("ff", "latch"):
                self._store(index, instance)
        self._added = 0
        self.functions = self._functions()
        self.leaves = {net for _, net in self.inputs} | {
            net for stored in self.storage.values() for net, _ in stored.outputs
        }

    def _cell(self, instance: Instance) -> Cell:
        return self._library.cells[instance.cell]

    def _fail(self, instance: Instance, rule: str) -> HalutError:
        return HalutError(f"{self._what} must {rule} ({instance.name}, a {instance.cell})")

    def _function(self, instance: Instance, pin: str) -> Expression:
        text = self._cell(instance).pins[pin].function
        if not text:
            raise self._fail(instance, f"have a function of pin {pin} in the library")
        return parse(text)

    def through_wires(self, net: int) -> tuple[int, bool]:
        """The net behind buffers and inverters, and whether the way inverts."""
        inverted = False
        while net in self.driver:
            index, pin = self.driver[net]
            instance = self.netlist.instances[index]
            if self._cell(instance).kind != "gate":
                break
            wire = _literal(self._function(instance, pin))
            if wire is None or wire[0] not in instance.pins:
                break
            net, inverted = instance.pins[wire[0]], inverted ^ wire[1]
        return net, inverted

    def clock(self, net: int) -> Clock | None:
        """What kind of clock a net is; None for one that is none."""
        if net not in self._clocks:
            self._clocks[net] = None  # for loops
            self._clocks[net] = self._trace(net)
        return self._clocks[net]

    def _trace(self, net: int) -> Clock | None:
        net, inverted = self.through_wires(net)
        if net == self._root:
            return Clock(not inverted)
        if inverted or net not in self.driver:
            return None
        index, pin = self.driver[net]
        instance = self.netlist.instances[index]
        cell = self._cell(instance)
        if cell.kind == "clock_gate":
            clock_pin, enable, _ = clock_gate_pins(cell)
            tests = [p for p in cell.inputs if p not in (clock_pin, enable)]
            source = self.clock(instance.pins[clock_pin])
            if source is None or not source.rising or any(
                self.constant(instance.pins.get(p, LOW)) != LOW for p in tests
            ):  # fmt: skip
                return None
            return Clock(True, (*source.gates, instance.pins[enable]))
        if cell.kind == "gate" and _is_and(cell.pins[pin].function):
            nets = [instance.pins[name] for name in parse(cell.pins[pin].function).inputs]
            for first, second in (nets, nets[::-1]):
                source, enable_net = self.clock(first), self._low_latch(second)
                if source is not None and source.rising and enable_net is not None:
                    return Clock(True, (*source.gates, enable_net))
        return None

    def constant(self, net: int) -> int | None:
        """LOW or HIGH for a net that a rail or a tie cell drives."""
        net, inverted = self.through_wires(net)
        if net in self.driver:
            index, pin = self.driver[net]
            instance = self.netlist.instances[index]
            if self._cell(instance).kind == "gate":
                function = self._function(instance, pin)
                if not function.inputs:
                    net = HIGH if function.table()[0] else LOW
        if net in (LOW, HIGH):
            return (HIGH if net == LOW else LOW) if inverted else net
        return None

    def _element(self, instance: Instance) -> tuple[str, Clock | None, Gate]:
        """Kind, clock that it is written with, and data of a register or latch."""
        cell = self._cell(instance)
        if {"clear", "preset"} & set(cell.state):
            raise self._fail(instance, "have no asynchronous set or reset")
        trigger, data = ("clock", "next") if cell.kind == "ff" else ("enable", "data")
        pins = {pin: instance.pins.get(pin, LOW) for pin in cell.inputs}
        found = _literal(parse(cell.state[trigger]))
        clock = self.clock(pins[found[0]]) if found else None
        if clock is not None and found is not None and found[1]:
            clock = None if clock.gates else Clock(not clock.rising)
        return cell.kind, clock, (parse(cell.state[data]), pins)

    def _low_latch(self, net: int) -> int | None:
        """Data net of a latch that is open while the clock is low and drives `net`."""
        net, inverted = self.through_wires(net)
        if inverted or net not in self.driver:
            return None
        index, pin = self.driver[net]
        instance = self.netlist.instances[index]
        cell = self._cell(instance)
        if cell.kind != "latch" or cell.pins[pin].function.strip("() ") != cell.state["iq"]:
            return None
        _, clock, (data, pins) = self._element(instance)
        wire = _literal(data)
        if clock != Clock(False) or wire is None or wire[1]:
            return None
        return pins[wire[0]]

    def _store(self, index: int, instance: Instance) -> None:
        cell = self._cell(instance)
        kind, clock, data = self._element(instance)
        if clock is None:
            raise self._fail(instance, f"clock every stored bit by port {self._port_name()}")
        if not clock.rising:
            if kind == "latch":
                # Half of a clock gate; whoever reads it as data finds it without a driver.
                return
            raise self._fail(instance, "use rising edges only")
        stored = Storage(instance.name, kind, clock.gates, data)
        for pin in cell.outputs:
            if pin in instance.pins:
                text = cell.pins[pin].function
                names = {cell.state["iq"]: "Q", cell.state.get("iqn", ""): "!Q"}
                wire = _literal(parse(text)) if text else None
                if wire is None or wire[0] not in names:
                    raise self._fail(instance, f"have a stored bit at pin {pin}")
                inverted = wire[1] ^ (names[wire[0]] == "!Q")
                stored.outputs.append((instance.pins[pin], inverted))
        self.storage[index] = stored

    def _port_name(self) -> str:
        return next(port.name for port in self.netlist.ports if self._root in port.nets)

    def add_gate(self, text: str, nets: Mapping[str, int]) -> int:
        """A net with a function of others; it is in the cones only, not in the netlist."""
        self._added += 1
        net = len(self.netlist.net_names) + self._added
        function = parse(text)
        self.functions[net] = (function, {name: nets[name] for name in function.inputs})
        return net

    def enable(self, stored: Storage) -> int:
        """Net that is 1 where the next edge writes a stored bit."""
        if not stored.gates:
            return HIGH
        nets = {f"e{i}": net for i, net in enumerate(stored.gates)}
        return self.add_gate("&".join(nets), nets)

    def data(self, stored: Storage) -> int:
        """Net of what is written."""
        return self.add_gate(stored.data[0].text, stored.data[1])

    def following(self, stored: Storage) -> int:
        """Net of a register's value after the next edge."""
        data = self.data(stored)
        if not stored.gates:
            return data
        net, inverted = stored.outputs[0]
        return self.add_gate(
            f"(e & d) | (!e & {'!' if inverted else ''}q)",
            {"e": self.enable(stored), "d": data, "q": net},
        )

    def _functions(self) -> dict[int, Gate]:
        functions: dict[int, Gate] = {}
        for instance in self.netlist.instances:
            cell = self._cell(instance)
            if cell.kind == "gate":
                for pin in cell.outputs:
                    if pin in instance.pins:
                        function = self._function(instance, pin)
                        nets = {name: instance.pins.get(name, LOW) for name in function.inputs}
                        functions[instance.pins[pin]] = (function, nets)
            elif cell.kind not in ("ff", "latch", "clock_gate"):
                raise self._fail(instance, "be made of gates, registers, latches and clock gates")
        return functions

    def cone(self, targets: Iterable[int]) -> list[tuple[int, Gate]]:
        """The gates that nets depend on, each after those that it reads.

        Raises
        ------
        HalutError
            When one depends on the clock, on a net that nothing drives, or on itself.
        """
        order: list[tuple[int, Gate]] = []
        done: set[int] = {LOW, HIGH, *self.leaves}
        open_: set[int] = set()
        for target in targets:
            stack = [target]
            while stack:
                net = stack[-1]
                if net in done:
                    stack.pop()
                elif net in open_:
                    stack.pop()
                    done.add(net)
                    order.append((net, self.functions[net]))
                elif net not in self.functions:
                    known = net == self._root or net in self.driver
                    raise HalutError(
                        f"{self._what} must not use {'the clock' if known else 'an undriven net'} "
                        f"as data ({self.netlist.net_label(net)})"
                    )
                else:
                    open_.add(net)
                    for source in self.functions[net][1].values():
                        if source in open_ and source not in done:
                            raise HalutError(
                                f"{self._what} must have no combinational loop "
                                f"({self.netlist.net_label(source)})"
                            )
                        if source not in done:
                            stack.append(source)
        return order


@cache
def _compiled(expression: Expression) -> Any:
    """The expression as a function of a mask of ones and its inputs, integers of any width."""

    def text(node: tuple) -> str:
        kind = node[0]
        if kind == "var":
            return f"v{expression.inputs.index(node[1])}"
        if kind == "const":
            return "m" if node[1] else "0"
        if kind == "not":
            return f"(m^{text(node[1])})"
        sign = {"and": "&", "or": "|", "xor": "^"}[kind]
        return f"({text(node[1])}{sign}{text(node[2])})"

    names = "".join(f",v{i}" for i in range(len(expression.inputs)))
    return eval(f"lambda m{names}: {text(expression.tree)}")


def apply(gate: Gate, values: Mapping[int, int], mask: int) -> int:
    """Value of a gate from those of its inputs' nets; bit i of each belongs to pattern i."""
    function, nets = gate
    return _compiled(function)(mask, *(values[nets[name]] for name in function.inputs))


def evaluate(
    order: Iterable[tuple[int, Gate]], values: Mapping[int, int], mask: int
) -> dict[int, int]:
    """Values of the nets of a cone.

    Parameters
    ----------
    order : iterable of (int, gate)
        From `Circuit.cone`.
    values : mapping of int to int
        Of the input and storage nets; bit i of each integer belongs to pattern i.
    mask : int
        Ones, as many as there are patterns.
    """
    found = {LOW: 0, HIGH: mask, **values}
    for net, gate in order:
        found[net] = apply(gate, found, mask)
    return found
