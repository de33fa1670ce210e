"""A flat netlist of library cells, read from Yosys' JSON and written as Verilog.

Yosys maps every unit once; the hierarchy is dissolved here, and every instance remembers the unit
it came from, so that area and power can be reported per unit. Names stay readable and hold only
letters, digits and underscores, because tools differ in how they treat anything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from halut.errors import HalutError

__all__ = ["HIGH", "LOW", "Instance", "Netlist", "Port", "from_json"]

# Nets that are not nets: a pin wired to a supply rail.
LOW, HIGH = -1, -2
CONSTANTS = {"0": LOW, "1": HIGH, "x": LOW, "z": LOW}
_WORD = re.compile(r"[^A-Za-z0-9_]+")


class _Names:
    """Hands out names that nothing else has and that Verilog takes without escapes."""

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        if wanted[0].isdigit():
            wanted = f"n{wanted}"
        name, number = wanted, self._next.get(wanted, 1)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._next[wanted] = number
        self._taken.add(name)
        return name


@dataclass
class Instance:
    """One cell."""

    name: str
    cell: str  #: Name of the library cell.
    #: Net of each connected pin; of a macro's bus, ``name[bit]`` for all bits.
    pins: dict[str, int]
    unit: int = 0  #: Index into `Netlist.units` of the module instance that it lies in.


@dataclass
class Port:
    """A port of the top; `nets` lists its bits, lowest first."""

    name: str
    direction: str
    nets: list[int]
    scalar: bool = False

    def bit_name(self, bit: int) -> str:
        return self.name if self.scalar else f"{self.name}[{bit}]"


@dataclass
class Netlist:
    """Cells and nets of one design without hierarchy."""

    top: str
    ports: list[Port]
    #: Name of each net, by number; unique. `LOW` and `HIGH` (negative) are the supply rails.
    net_names: list[str]
    instances: list[Instance]
    units: list[tuple[str, str]]  #: Module instances: path ("" for the top) and module name.
    _names: _Names | None = field(default=None, repr=False)

    def unique(self, wanted: str) -> str:
        """A name like `wanted` that no net, port or instance has."""
        if self._names is None:
            self._names = _Names(
                [
                    *self.net_names,
                    *(instance.name for instance in self.instances),
                    *(port.name for port in self.ports),
                ]
            )
        return self._names.take(wanted)

    def add_net(self, wanted: str) -> int:
        self.net_names.append(self.unique(wanted))
        return len(self.net_names) - 1

    def add_instance(self, wanted: str, cell: str, pins: dict[str, int], unit: int = 0) -> Instance:
        instance = Instance(self.unique(wanted), cell, pins, unit)
        self.instances.append(instance)
        return instance

    def cells(self) -> Counter[str]:
        """Number of instances of each library cell."""
        return Counter(instance.cell for instance in self.instances)

    def sweep(self, outputs: Mapping[str, Iterable[str]]) -> int:
        """Remove cells that nothing depends on.

        Parameters
        ----------
        outputs : mapping of str to names
            Output pins of each library cell.

        Returns
        -------
        int
            Number of cells removed.
        """
        driver: dict[int, int] = {}
        for index, instance in enumerate(self.instances):
            for pin in outputs[instance.cell]:
                if pin in instance.pins:
                    driver[instance.pins[pin]] = index
        alive = [False] * len(self.instances)
        todo = [net for port in self.ports if port.direction == "output" for net in port.nets]
        while todo:
            index = driver.get(todo.pop(), -1)
            if index >= 0 and not alive[index]:
                alive[index] = True
                todo.extend(self.instances[index].pins.values())
        before = len(self.instances)
        self.instances = [
            instance for instance, live in zip(self.instances, alive, strict=True) if live
        ]
        used = {net for instance in self.instances for net in instance.pins.values()}
        for instance in self.instances:
            for pin in outputs[instance.cell]:
                net = instance.pins.get(pin)
                # All bits of a macro's bus stay, so that it can be written as one.
                if net is not None and net not in used and not pin.endswith("]"):
                    del instance.pins[pin]
        return before - len(self.instances)

    def without_buffers(
        self, names: Iterable[str], buffers: Mapping[str, tuple[str, str]]
    ) -> Netlist:
        """A copy in which some buffers are wires.

        Parameters
        ----------
        names : names
            Instances to take out.
        buffers : mapping of str to (str, str)
            Input and output pin of each kind of cell that may be taken out.
        """
        out = set(names)
        source: dict[int, int] = {}
        kept = []
        for instance in self.instances:
            if instance.name in out:
                enter, leave = buffers[instance.cell]
                source[instance.pins[leave]] = instance.pins[enter]
            else:
                kept.append(instance)

        def root(net: int) -> int:
            while net in source:
                net = source[net]
            return net

        return Netlist(
            self.top,
            [Port(p.name, p.direction, [root(net) for net in p.nets], p.scalar)
             for p in self.ports],
            list(self.net_names),
            [Instance(i.name, i.cell, {pin: root(net) for pin, net in i.pins.items()}, i.unit)
             for i in kept],
            list(self.units),
        )  # fmt: skip

    def verilog(self) -> str:
        """Structural Verilog: one module, one line per cell."""
        lines = [f"module {self.top} ("]
        lines.append(",\n".join(f"  {port.name}" for port in self.ports))
        lines.append(");")
        reference: dict[int, str] = {LOW: "1'b0", HIGH: "1'b1"}
        assigns = []
        for port in sorted(self.ports, key=lambda port: port.direction != "input"):
            span = "" if port.scalar else f" [{len(port.nets) - 1}:0]"
            lines.append(f"  {port.direction}{span} {port.name};")
            for bit, net in enumerate(port.nets):
                name = port.bit_name(bit)
                if net in reference:
                    assigns.append(f"  assign {name} = {reference[net]};")
                else:
                    reference[net] = name
        used = {net for instance in self.instances for net in instance.pins.values()}
        for net in sorted(used):
            if net not in reference:
                reference[net] = self.net_names[net]
                lines.append(f"  wire {self.net_names[net]};")
        lines.extend(assigns)
        for instance in self.instances:
            pins = ", ".join(
                f".{pin}({text})" for pin, text in _connections(instance.pins, reference)
            )
            kind = instance.cell if instance.cell.isidentifier() else f"\\{instance.cell} "
            lines.append(f"  {kind} {instance.name} ({pins});")
        lines.append("endmodule")
        return "\n".join(lines) + "\n"

    def net_label(self, net: int) -> str:
        """Name of a net in the Verilog: of its port bit when it has one."""
        for port in sorted(self.ports, key=lambda port: port.direction != "input"):
            if net in port.nets:
                return port.bit_name(port.nets.index(net))
        return self.net_names[net]


def _connections(
    pins: Mapping[str, int], reference: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """Pins with what they are connected to; the bits of a bus, lowest first in `pins`, together."""
    buses: dict[str, list[str]] = {}
    for pin, net in pins.items():
        if pin.endswith("]"):
            buses.setdefault(pin[: pin.index("[")], []).append(reference[net])
        else:
            yield pin, reference[net]
    for bus, bits in buses.items():
        yield bus, "{" + ", ".join(reversed(bits)) + "}"


def _plain(name: str) -> str:
    return _WORD.sub("_", name).strip("_") or "n"


def from_json(
    design: dict[str, Any],
    top: str,
    outputs: Mapping[str, Iterable[str]],
    names_found: dict[tuple[str, int], int] | None = None,
) -> Netlist:
    """Flatten Yosys' ``write_json`` output.

    Parameters
    ----------
    design : dict
        The parsed JSON.
    top : str
        Name of the top module.
    outputs : mapping of str to names
        Output pins of each library cell; library cells are not looked into.
    names_found : dict, optional
        Filled with every public name: (path and name, bit) to net.

    Raises
    ------
    HalutError
        When a cell is neither a module of the design nor in the library.
    """
    modules = design["modules"]
    netlist = Netlist(top, [], [], [], [])
    names = _Names(modules[top]["ports"])
    fresh = names.take

    def best_names(module: dict[str, Any]) -> dict[int, str]:
        """Shortest public name of every bit of a module."""
        found: dict[int, tuple] = {}
        for name, item in module["netnames"].items():
            hidden = bool(item.get("hide_name"))
            if hidden:
                continue
            bits = item["bits"]
            base = _plain(name)
            for index, bit in enumerate(bits):
                if isinstance(bit, int):
                    label = base if len(bits) == 1 else f"{base}_{index}"
                    rank = (len(label), label)
                    if bit not in found or rank < found[bit]:
                        found[bit] = rank
        return {bit: rank[1] for bit, rank in found.items()}

    aliases = names_found if names_found is not None else {}
    labels: dict[str, dict[int, str]] = {}
    joined: dict[int, int] = {}

    def root(net: int) -> int:
        while net in joined:
            net = joined[net]
        return net

    def join(first: int, second: int) -> None:
        first, second = sorted((root(first), root(second)))
        if first != second:
            joined[second] = first

    def elaborate(module_name: str, path: str, bound: dict[int, int]) -> None:
        module = modules[module_name]
        unit = len(netlist.units)
        netlist.units.append((path, module_name))
        prefix = f"{_plain(path)}__" if path else ""
        if module_name not in labels:
            labels[module_name] = best_names(module)
        label = labels[module_name]

        def net(bit: int | str) -> int:
            if isinstance(bit, str):
                return CONSTANTS[bit]
            if bit not in bound:
                netlist.net_names.append(fresh(prefix + label.get(bit, f"n{bit}")))
                bound[bit] = len(netlist.net_names) - 1
            return bound[bit]

        for name, cell in module["cells"].items():
            kind = cell["type"]
            connections = cell["connections"]
            if kind in ("$scopeinfo", "$print", "$check"):
                continue
            if kind in outputs:
                pins: dict[str, int] = {}
                for pin, bits in connections.items():
                    if len(bits) > 1:
                        pins |= {f"{pin}[{i}]": net(bit) for i, bit in enumerate(bits)}
                    elif bits:
                        pins[pin] = net(bits[0])
                own = name if not cell.get("hide_name") else ""
                if not own:
                    driven = [connections[pin][0] for pin in outputs[kind] if connections.get(pin)]
                    own = label.get(driven[0], "") if driven else ""
                    own = f"{own}_u" if own else "u"
                netlist.instances.append(Instance(fresh(prefix + _plain(own)), kind, pins, unit))
            elif kind in modules:
                child_path = f"{path}.{name}" if path else name
                child_bound: dict[int, int] = {}
                for port, item in modules[kind]["ports"].items():
                    for inner, outer in zip(item["bits"], connections.get(port, []), strict=False):
                        if isinstance(inner, str):
                            if item["direction"] == "output":
                                join(CONSTANTS[inner], net(outer))
                        else:
                            here = net(outer)
                            if inner in child_bound:
                                # The child wires an input straight to an output.
                                join(child_bound[inner], here)
                            else:
                                child_bound[inner] = here
                elaborate(kind, child_path, child_bound)
            else:
                raise HalutError(
                    f"every cell must be in the library or a module, not {kind} "
                    f"(module {module_name})"
                )
        if names_found is not None:
            for name, item in module["netnames"].items():
                if not item.get("hide_name"):
                    full = f"{path}.{name}" if path else name
                    low = int(item.get("offset", 0))
                    for index, bit in enumerate(item["bits"]):
                        if isinstance(bit, str) or bit in bound:
                            aliases[full, low + index] = net(bit)

    bound: dict[int, int] = {}
    for name, item in modules[top]["ports"].items():
        nets = []
        for index, bit in enumerate(item["bits"]):
            if isinstance(bit, str):
                nets.append(CONSTANTS[bit])
                continue
            if bit not in bound:
                scalar = len(item["bits"]) == 1
                netlist.net_names.append(fresh(f"{name}_{index}" if not scalar else f"{name}_"))
                bound[bit] = len(netlist.net_names) - 1
            nets.append(bound[bit])
        scalar = len(nets) == 1 and not item.get("offset") and not item.get("upto")
        netlist.ports.append(Port(name, item["direction"], nets, scalar))
    elaborate(top, "", bound)
    if joined:
        for port in netlist.ports:
            port.nets = [root(net) for net in port.nets]
        for instance in netlist.instances:
            instance.pins = {pin: root(net) for pin, net in instance.pins.items()}
        for alias, net in aliases.items():
            aliases[alias] = root(net)
    return netlist
