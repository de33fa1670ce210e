"""Two circuits side by side: stored bits paired by name, and every function compared."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flow.formal.abc import differ
from flow.formal.blif import blif
from flow.formal.circuit import Circuit, Storage, evaluate
from flow.netlist.netlist import HIGH, LOW
from flow.tools import Tool
from halut.errors import CheckFailed
from halut.files import write_text

__all__ = ["Difference", "Equivalence", "Name", "Pair"]

_PATTERNS = 256

Name = tuple[str, int]
"""A public name with its path, and the bit."""


@dataclass
class Difference:
    """A function that is not the same."""

    unit: str  #: Path and module of the unit.
    output: str  #: Output or stored bit of that unit.
    #: Inputs and stored bits for which it differs; empty when the solver did not say.
    inputs: dict[str, int] = field(default_factory=dict)
    #: Its value in both.
    rtl: int | None = None
    netlist: int | None = None

    def __str__(self) -> str:
        values = "" if self.rtl is None else f" (RTL {self.rtl}, netlist {self.netlist})"
        return f"{self.output} of {self.unit}{values}"

    @property
    def text(self) -> str:
        """The difference and the values that show it, a line each."""
        values = [f"{name} = {value}" for name, value in self.inputs.items()]
        return "\n".join([str(self), *values]) + "\n"


@dataclass
class Equivalence:
    """What was proved, or the first difference."""

    #: Compared: bits of output ports, of registers, of latches.
    outputs: int = 0
    registers: int = 0
    latches: int = 0
    #: Stored bits that the netlist holds inverted, in a cell with others, or not at all.
    inverted: int = 0
    shared: int = 0
    constant: int = 0
    #: Stored bits of the RTL that the netlist does not have; nothing depends on them.
    unused: list[str] = field(default_factory=list)
    difference: Difference | None = None

    @property
    def compared(self) -> int:
        """Functions compared; a latch has two, enable and data."""
        return self.outputs + self.registers + 2 * self.latches


class Pair:
    """Two circuits whose stored bits are paired by name.

    A variable is an input, a storage cell of the netlist, or a bit of the RTL that the netlist
    does not have. What each net of a port or stored bit is made of is in `leaves`, per circuit:
    net to (variable, inverted); a variable of None is the constant 0.
    """

    def __init__(
        self,
        rtl: Circuit,
        netlist: Circuit,
        rtl_names: Mapping[Name, int],
        names: Mapping[Name, int],
        ports: Mapping[str, list[str]],
    ):
        self.rtl, self.netlist = rtl, netlist
        self.rtl_names, self.names, self.ports = rtl_names, names, ports
        self.result = Equivalence()
        self.variables: list[str] = []
        self.leaves: tuple[dict, dict] = ({}, {})
        # What must be equal: where it is, what it is called, and the net in both circuits.
        self.points: list[tuple[str, str, int, int]] = []
        self._pair_ports()
        self._pair_storage()
        self.order = (
            rtl.cone([point[2] for point in self.points]),
            netlist.cone([point[3] for point in self.points]),
        )

    def _pair_ports(self) -> None:
        for side, kind in (("inputs", "input"), ("outputs", "output")):
            here, there = dict(getattr(self.rtl, side)), dict(getattr(self.netlist, side))
            if list(here) != list(there):
                odd = sorted(set(here) ^ set(there)) or ["their order"]
                raise CheckFailed(f"the netlist must have the {kind} ports of the RTL ({odd[0]})")
            for name in here:
                if kind == "input":
                    for leaves, nets in zip(self.leaves, (here, there), strict=True):
                        leaves[nets[name]] = (name, False)
                    self.variables.append(name)
                else:
                    self.points.append(("", name, here[name], there[name]))
                    self.result.outputs += 1

    def _pair_storage(self) -> None:
        holder: dict[int, tuple[int, bool]] = {}
        for index, stored in self.netlist.storage.items():
            variable = f"cell {stored.instance}"
            self.variables.append(variable)
            for net, inverted in stored.outputs:
                self.leaves[1][net] = (variable, inverted)
                holder[net] = (index, inverted)
        called: dict[int, list[Name]] = {}
        for name, net in self.rtl_names.items():
            called.setdefault(net, []).append(name)
        held: dict[int, int] = {}
        for stored in self.rtl.storage.values():
            net = stored.outputs[0][0]
            names = sorted(called.get(net, []), key=lambda name: (-name[0].count("."), name))
            name, place = self._find(names, holder)
            label = f"{name[0]}[{name[1]}]"
            if place is None:
                self.variables.append(f"RTL {label}")
                self.leaves[0][net] = (f"RTL {label}", False)
                self.result.unused.append(label)
                continue
            index, inverted = place
            if index < 0:
                # A constant: the register must stay what it is.
                self.leaves[0][net] = (None, inverted)
                self.result.constant += 1
                self._compare(name, stored, None, inverted)
                continue
            self.leaves[0][net] = (f"cell {self.netlist.storage[index].instance}", inverted)
            self.result.inverted += inverted
            self.result.shared += index in held
            held[index] = 1
            self._compare(name, stored, self.netlist.storage[index], inverted)

    def _find(
        self, names: list[Name], holder: Mapping[int, tuple[int, bool]]
    ) -> tuple[Name, tuple[int, bool] | None]:
        """The first name that the netlist has for a stored bit, and the cell (-1: constant)."""
        for name in names:
            if name in self.names:
                net, inverted = self.netlist.through_wires(self.names[name])
                if net in holder:
                    index, own = holder[net]
                    return name, (index, inverted ^ own)
                constant = self.netlist.constant(net)
                if constant is not None:
                    return name, (-1, inverted ^ (constant == HIGH))
        return (names[0] if names else ("a stored bit", 0)), None

    def _compare(self, name: Name, mine: Storage, other: Storage | None, inverted: bool) -> None:
        """Add what must be equal of a stored bit of the RTL and its cell in the netlist."""
        rtl, netlist = self.rtl, self.netlist
        where, label = self._split(name)
        if other is not None and mine.kind != other.kind:
            raise CheckFailed(
                f"a {'latch' if mine.kind == 'latch' else 'register'} must stay one, not become a "
                f"{'latch' if other.kind == 'latch' else 'register'} ({label} of {where})"
            )
        latch = mine.kind == "latch"
        self.result.latches += latch
        self.result.registers += not latch
        constant = HIGH if inverted else LOW
        if other is None:
            # A latch may stay closed, so what it is written with is what counts.
            here = rtl.data(mine) if latch else rtl.following(mine)
            self.points.append((where, label, here, constant))
            return
        there = netlist.data(other) if latch else netlist.following(other)
        if inverted:
            there = netlist.add_gate("!a", {"a": there})
        if latch:
            enables = rtl.enable(mine), netlist.enable(other)
            self.points.append((where, f"enable of {label}", *enables))
            self.points.append((where, f"data of {label}", rtl.data(mine), there))
        else:
            self.points.append((where, label, rtl.following(mine), there))

    def _split(self, name: Name) -> tuple[str, str]:
        """The unit that a name is in (path and module), and the name within it."""
        full, bit = name
        best = ""
        for path, _ in self.netlist.netlist.units:
            if full.startswith(f"{path}.") and len(path) > len(best):
                best = path
        inner = full[len(best) + 1 :] if best else full
        return best, f"{inner}[{bit}]"

    def _values(self, side: int, patterns: Mapping[str, int], mask: int) -> dict[int, int]:
        return {
            net: (patterns[variable] if variable is not None else 0) ^ (mask if inverted else 0)
            for net, (variable, inverted) in self.leaves[side].items()
        }

    def simulate(self, patterns: Mapping[str, int] | None = None) -> Difference | None:
        """The first difference for some patterns, random by default; None when there is none."""
        n_patterns = 1 if patterns else _PATTERNS
        mask = (1 << n_patterns) - 1
        if patterns is None:
            rng = random.Random(1)
            patterns = {name: rng.getrandbits(n_patterns) for name in self.variables}
        values = [
            evaluate(order, self._values(side, patterns, mask), mask)
            for side, order in enumerate(self.order)
        ]
        for where, label, here, there in self.points:
            wrong = values[0][here] ^ values[1][there]
            if wrong:
                bit = (wrong & -wrong).bit_length() - 1
                one = {name: patterns[name] >> bit & 1 for name in self._support(here, there)}
                found = Difference(
                    self._unit(where),
                    label,
                    one,
                    values[0][here] >> bit & 1,
                    values[1][there] >> bit & 1,
                )
                self._explain(found, values, bit)
                return found
        return None

    def _support(self, *points: int) -> list[str]:
        """The variables that a point depends on in either circuit."""
        found: set[str | None] = set()
        for circuit, leaves, point in zip(
            (self.rtl, self.netlist), self.leaves, points, strict=True
        ):
            nets = {point}
            for _, (_, inputs) in circuit.cone([point]):
                nets.update(inputs.values())
            found |= {leaves[net][0] for net in nets if net in leaves}
        return [name for name in self.variables if name in found]

    def _explain(self, found: Difference, values: list[dict[int, int]], bit: int) -> None:
        """Name the unit whose output is the first that differs, if it is not the point itself."""
        rank = {net: number for number, (net, _) in enumerate(self.order[0])}
        best: tuple[int, Difference] | None = None
        for path, module in self.netlist.netlist.units:
            if not path:
                continue
            for port in self.ports.get(module, []):
                name, index = f"{path}.{port}", 0
                while (name, index) in self.names or index == 0:
                    key = (name, index)
                    index += 1
                    here, there = self.rtl_names.get(key), self.names.get(key)
                    if here is None or there is None:
                        continue
                    if here not in rank or there not in values[1]:
                        continue
                    pair = values[0][here] >> bit & 1, values[1][there] >> bit & 1
                    if pair[0] != pair[1] and (best is None or rank[here] < best[0]):
                        label = f"{port}[{key[1]}]"
                        best = (
                            rank[here],
                            Difference(self._unit(path), label, found.inputs, *pair),
                        )
        if best is not None:
            found.unit, found.output = best[1].unit, best[1].output
            found.rtl, found.netlist = best[1].rtl, best[1].netlist

    def _unit(self, path: str) -> str:
        modules = dict(self.netlist.netlist.units)
        return f"{path} ({modules[path]})" if path else f"the top ({modules['']})"

    def prove(self, abc: Tool, folder: Path, timeout: float) -> Difference | None:
        """Compare all points with ABC; the first difference, or None when all are equal."""
        number = {name: f"v{i}" for i, name in enumerate(self.variables)}
        for side, file in enumerate(("rtl", "netlist")):
            write_text(folder / f"{file}.blif", self._blif(side, file, number))
        log = differ(abc, "rtl.blif", "netlist.blif", folder, "cec", timeout, "-C 1000000")
        return self._refuted(log) if log else None

    def _refuted(self, log: str) -> Difference:
        """The difference that ABC found; it numbers inputs and outputs."""
        wrong = re.search(r"Output po(\d+): Value", log)
        given = {int(i): int(v) for i, v in re.findall(r"\bpi(\d+) = 1'h([01])", log)}
        patterns = {name: given.get(i, 0) for i, name in enumerate(self.variables)}
        found = self.simulate(patterns)
        if found is None:
            where, label, _, _ = self.points[int(wrong[1]) if wrong else 0]
            found = Difference(self._unit(where), label)
        return found

    def _blif(self, side: int, name: str, number: Mapping[str, str]) -> str:
        leaves = [
            (net, "1" if inverted else "0", None)
            if variable is None
            else (net, "!a" if inverted else "a", number[variable])
            for net, (variable, inverted) in self.leaves[side].items()
        ]
        points = [(point[2], point[3])[side] for point in self.points]
        return blif(name, number.values(), leaves, self.order[side], points)
