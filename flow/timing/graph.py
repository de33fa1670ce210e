"""Static timing of a flat netlist, vectorised: the inner loop of buffering and sizing.

It computes what OpenSTA computes for an ideal clock and no wires (delays and slews from the
library's tables, the worst arrival and slew at every net and edge), fast enough to be asked after
every change. Reported numbers come from OpenSTA where there is one; `tests/flow` compares the two.

Conventions, also written into OpenSTA's constraints by `flow.timing.opensta`:

* one clock, ideal everywhere, also behind clock gates and clock buffers;
* inputs arrive, and outputs are due, `Constraints.io_share` of the period after and before the
  clock edge; every input port is driven by the platform's `driver`, every output drives its load;
* a latch is transparent for the data word of the clock edge that opens it, and that word must be
  there when it closes. Its contents stand still while they are read, so that no path goes through
  its data pin (table memories are only written while nothing is computed).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from flow.cells.boolean import parse
from flow.cells.library import Arc, Cell, Library, Table
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from halut.errors import HalutError

__all__ = ["CellTables", "Constraints", "TableStack", "Timing", "clock_pins", "families", "sizes"]

RISE, FALL = 0, 1
_EDGES = ("rise", "fall")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What the timing is checked against.

    Attributes
    ----------
    clock : str
        The clock's port.
    period_ns : float
    io_share : float
        Share of the period that is outside, at inputs and at outputs.
    quiet : tuple of str
        Ports that are static or slow (reset), whose paths are not checked.
    """

    clock: str
    period_ns: float
    io_share: float = 0.2
    quiet: tuple[str, ...] = ()


class TableStack:
    """All tables of a library in padded arrays, for look-ups of many points at once."""

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        self._tables: list[Table] = []

    def add(self, table: Table) -> int:
        if id(table) not in self._index:
            self._index[id(table)] = len(self._tables)
            self._tables.append(table)
        return self._index[id(table)]

    def freeze(self) -> None:
        tables = self._tables or [Table([0.0], [0.0], [[0.0]])]
        rows = max(2, *(len(table.slews) for table in tables))
        columns = max(2, *(len(table.loads) for table in tables))
        count = len(tables)
        self.slews = np.zeros((count, rows))
        self.loads = np.zeros((count, columns))
        self.values = np.zeros((count, rows, columns))
        self.last = np.zeros((count, 2), int)
        for number, table in enumerate(tables):
            slews, loads = table.slews, table.loads
            values = np.asarray(table.values)
            # An axis with one point becomes a flat one with two.
            if len(slews) == 1:
                slews, values = [0.0, 1.0], np.repeat(values, 2, axis=0)
            if len(loads) == 1:
                loads, values = [0.0, 1.0], np.repeat(values, 2, axis=1)
            self.slews[number] = np.inf
            self.loads[number] = np.inf
            self.slews[number, : len(slews)] = slews
            self.loads[number, : len(loads)] = loads
            self.values[number, : len(slews), : len(loads)] = values
            self.last[number] = len(slews) - 2, len(loads) - 2

    def __call__(self, table: np.ndarray, slew: np.ndarray, load: np.ndarray) -> np.ndarray:
        """Values at (slew, load); the outermost segments are extended."""
        slews, loads = self.slews[table], self.loads[table]
        last = self.last[table]
        row = np.minimum(np.maximum((slews < slew[:, None]).sum(1) - 1, 0), last[:, 0])
        column = np.minimum(np.maximum((loads < load[:, None]).sum(1) - 1, 0), last[:, 1])
        at = np.arange(len(table))
        low, high = slews[at, row], slews[at, row + 1]
        down = (slew - low) / (high - low)
        low, high = loads[at, column], loads[at, column + 1]
        right = (load - low) / (high - low)
        values = self.values
        top = values[table, row, column] * (1 - right) + values[table, row, column + 1] * right
        row = row + 1
        bottom = values[table, row, column] * (1 - right) + values[table, row, column + 1] * right
        return top * (1 - down) + bottom * down


def _edge_pairs(arc: Arc) -> list[tuple[int, int]]:
    """(input edge, output edge) pairs of an arc."""
    if arc.kind.startswith("rising_edge"):
        pairs = [(RISE, RISE), (RISE, FALL)]
    elif arc.kind.startswith("falling_edge"):
        pairs = [(FALL, RISE), (FALL, FALL)]
    elif arc.sense == "positive":
        pairs = [(RISE, RISE), (FALL, FALL)]
    elif arc.sense == "negative":
        pairs = [(FALL, RISE), (RISE, FALL)]
    else:
        pairs = [(RISE, RISE), (FALL, FALL), (FALL, RISE), (RISE, FALL)]
    return [(i, o) for i, o in pairs if f"cell_{_EDGES[o]}" in arc.tables]


@dataclass
class CellTables:
    """Timing of one cell in the arrays of `TableStack`.

    Attributes
    ----------
    keys : list of (output, output edge, input, input edge, launches)
        One per edge-to-edge delay; `launches` when the input is a clock or latch enable.
    delay, slew : list of int
        Their tables.
    setup : dict of (pin, edge) to int
        Constraint tables (data slew, clock slew).
    clock_pins : frozenset of str
        Clock or enable pins.
    """

    keys: list[tuple[str, int, str, int, bool]]
    delay: list[int]
    slew: list[int]
    setup: dict[tuple[str, int], int]
    clock_pins: frozenset[str]


def clock_pins(cell: Cell) -> frozenset[str]:
    """Pins of a cell that a clock belongs to."""
    text = cell.state.get("clock") or cell.state.get("enable")
    if text:
        return frozenset(parse(text).inputs)
    if cell.kind == "clock_gate":
        return frozenset(
            arc.related for pin in cell.pins.values() for arc in pin.arcs
            if pin.direction == "input"
        ) or frozenset(pin.name for pin in cell.pins.values() if pin.clock)  # fmt: skip
    return frozenset()


def _cell_tables(cell: Cell, tables: TableStack) -> CellTables:
    clocks = clock_pins(cell)
    found: dict[tuple[str, int, str, int, bool], tuple[int, int]] = {}
    setup: dict[tuple[str, int], int] = {}
    sizes: dict[tuple, float] = {}
    for pin in cell.pins.values():
        for arc in pin.arcs:
            if pin.direction == "input" and arc.kind.startswith(("setup_", "nochange")):
                for edge, name in enumerate(_EDGES):
                    table = arc.tables.get(f"{name}_constraint")
                    if table is not None:
                        setup.setdefault((pin.name, edge), tables.add(table))
            if pin.direction != "output" or arc.kind in (
                "clear",
                "preset",
                "three_state_enable",
                "three_state_disable",
            ):
                continue
            launches = arc.related in clocks
            for edge_in, edge_out in _edge_pairs(arc):
                name = _EDGES[edge_out]
                delay = arc.tables[f"cell_{name}"]
                slew = arc.tables.get(f"{name}_transition")
                if slew is None:
                    continue
                key = (pin.name, edge_out, arc.related, edge_in, launches)
                size = float(np.mean(delay.values))
                if size > sizes.get(key, -np.inf):
                    sizes[key] = size
                    found[key] = (tables.add(delay), tables.add(slew))
    keys = sorted(found)
    return CellTables(
        keys=keys,
        delay=[found[key][0] for key in keys],
        slew=[found[key][1] for key in keys],
        setup=setup,
        clock_pins=clocks,
    )


def _signature(cell: Cell) -> tuple:
    functions = []
    order = tuple(sorted(cell.inputs))
    for name in sorted(cell.outputs):
        text = cell.pins[name].function
        expression = parse(text) if text else None
        if expression is not None and set(expression.inputs) <= set(order):
            functions.append((name, expression.table(order).tobytes()))
        else:
            functions.append((name, text.encode()))
    return (cell.kind, order, tuple(functions), tuple(sorted(cell.state.items())))


def sizes(library: Library, platform: Platform) -> dict[str, list[str]]:
    """`families` of the cells that a platform may use."""
    return families(
        library,
        {
            name
            for name, cell in library.cells.items()
            if not platform.avoids(name) and not cell.dont_use
        },
    )


def families(library: Library, usable: set[str]) -> dict[str, list[str]]:
    """Cells that can stand in for each other, smallest first.

    Parameters
    ----------
    library : Library
    usable : set of str
        Cells that may be chosen.

    Returns
    -------
    dict of str to list of str
        For every cell of the library, the usable cells with the same pins and function.
    """
    groups: dict[tuple, list[str]] = {}
    signatures = {}
    for name, cell in library.cells.items():
        signatures[name] = _signature(cell)
        if name in usable:
            groups.setdefault(signatures[name], []).append(name)
    for names in groups.values():
        names.sort(key=lambda name: (library.cells[name].area, name))
    return {name: groups.get(signature, []) for name, signature in signatures.items()}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(int) if parts else np.zeros(0, int)


class Timing:
    """Arrivals, slews, loads and slacks of a netlist.

    Parameters
    ----------
    netlist : Netlist
    library : Library
    platform : Platform
    constraints : Constraints
    wire_ff : ndarray of shape (n_nets,), optional
        Capacitance of every net's wires, fF, lumped at its driver; none without.

    Attributes
    ----------
    load : ndarray of shape (n_nets, 2)
        fF, by edge (rise, fall).
    arrival, slew, required : ndarray of shape (n_nets, 2)
        ns, by edge (rise, fall); -inf where nothing arrives, +inf where nothing is due.
    depth : int
        Levels of cells between registers.
    clock_nets : dict of int to bool
        Nets of the clock network; True where the clock is inverted.
    """

    def __init__(
        self,
        netlist: Netlist,
        library: Library,
        platform: Platform,
        constraints: Constraints,
        wire_ff: np.ndarray | None = None,
    ):
        self.netlist = netlist
        self.library = library
        self.platform = platform
        self.constraints = constraints
        self.wire_ff = wire_ff
        self.tables = TableStack()
        alternatives = sizes(library, platform)
        known = set(netlist.cells())
        if platform.driver:
            known.add(platform.driver["cell"])
        known.update(values["cell"] for values in platform.cells.values() if "cell" in values)
        for name in list(known):
            known.update(alternatives[name])
        self.names = sorted(known)
        self.number = {name: number for number, name in enumerate(self.names)}
        self.cell_tables = [_cell_tables(library.cells[name], self.tables) for name in self.names]
        self.tables.freeze()
        # Sizes of a cell must have the same arcs, or they cannot stand in for each other.
        self.alternatives = {
            name: [
                other
                for other in alternatives[name]
                if self.cell_tables[self.number[other]].keys
                == self.cell_tables[self.number[name]].keys
            ]
            for name in self.names
        }
        self._pack_cells()
        self._connect()
        self._order()

    def _pack_cells(self) -> None:
        self.area = np.array([self.library.cells[name].area for name in self.names])
        self.first_arc = np.cumsum([0, *(len(cell.keys) for cell in self.cell_tables)])[:-1]
        self.arc_delay = np.array([t for cell in self.cell_tables for t in cell.delay], int)
        self.arc_slew = np.array([t for cell in self.cell_tables for t in cell.slew], int)
        self.pin_order = {
            name: sorted(pin for pin in self.library.cells[name].pins) for name in self.names
        }
        self.first_pin = np.cumsum([0, *(len(self.pin_order[name]) for name in self.names)])[:-1]
        self.pin_capacitance = np.array(
            [
                self.library.cells[name].pins[pin].capacitance
                if self.library.cells[name].pins[pin].direction == "input"
                else (0.0, 0.0)
                for name in self.names
                for pin in self.pin_order[name]
            ]
        )
        self.pin_limit = np.array(
            [
                self.library.cells[name].pins[pin].max_capacitance or np.inf
                for name in self.names
                for pin in self.pin_order[name]
            ]
        )

        self.slew_limit = np.array(
            [
                self.library.cells[name].pins[pin].max_slew or np.inf
                for name in self.names
                for pin in self.pin_order[name]
            ]
        )

    def readers(self, nets: Iterable[int]) -> dict[int, list[tuple[int, str]]]:
        """(instance number, input pin) of everything that reads each of some nets."""
        found = {}
        for net in nets:
            rows = self._by_net[self._net_start[net] : self._net_start[net + 1]]
            found[net] = [
                (
                    int(self.sink_instance[row]),
                    self.pin_order[self.names[self.kind[self.sink_instance[row]]]][
                        self.sink_pin[row]
                    ],
                )
                for row in rows
            ]
        return found

    def _find_clocks(self) -> None:
        netlist = self.netlist
        wanted = {port.name: port for port in netlist.ports}
        if self.constraints.clock not in wanted:
            raise HalutError(
                f"the clock must be a port of {netlist.top}, not {self.constraints.clock}"
            )
        root = wanted[self.constraints.clock].nets[0]
        self.clock_nets: dict[int, bool] = {root: False}
        self.clock_cells: set[int] = set()
        self.clock_sinks: list[tuple[int, str]] = []
        todo = [root]
        while todo:
            net = todo.pop()
            for index, pin in self.readers([net])[net]:
                instance = netlist.instances[index]
                cell = self.library.cells[instance.cell]
                if cell.kind in ("ff", "latch"):
                    self.clock_sinks.append((index, pin))
                    continue
                self.clock_cells.add(index)
                if cell.kind == "clock_gate":
                    self.clock_sinks.append((index, pin))
                for output in cell.outputs:
                    after = instance.pins.get(output)
                    if after is None or after in self.clock_nets:
                        continue
                    inverts = False
                    text = cell.pins[output].function
                    if cell.kind == "gate" and text:
                        table = parse(text).table(tuple(cell.inputs))
                        bit = 1 << cell.inputs.index(pin)
                        rows = np.arange(len(table))
                        inverts = bool((table[rows & ~bit] & ~table[rows | bit]).any())
                    self.clock_nets[after] = self.clock_nets[net] ^ inverts
                    todo.append(after)

    def _pins(self) -> dict[str, dict[str, np.ndarray]]:
        """Input and output pins as arrays; returns each cell's nets by pin, -1 where none."""
        netlist = self.netlist
        count = len(netlist.net_names)
        self.kind = np.array([self.number[i.cell] for i in netlist.instances], int)
        self._members: dict[str, list[int]] = {}
        for index, instance in enumerate(netlist.instances):
            self._members.setdefault(instance.cell, []).append(index)
        parts: dict[str, list[list[np.ndarray]]] = {"input": [[], [], []], "output": [[], [], []]}
        nets: dict[str, dict[str, np.ndarray]] = {}
        for name, members in self._members.items():
            cell = self.library.cells[name]
            here = np.array(members)
            nets[name] = {}
            for position, pin in enumerate(self.pin_order[name]):
                direction = cell.pins[pin].direction
                if direction not in parts:
                    continue
                at = np.array([netlist.instances[i].pins.get(pin, -1) for i in members])
                nets[name][pin] = at
                live = at >= 0
                for part, values in zip(
                    parts[direction],
                    (at[live], here[live], np.full(live.sum(), position)),
                    strict=True,
                ):
                    part.append(values)
        self.sink_net, self.sink_instance, self.sink_pin = map(_joined, parts["input"])
        self.out_net, self.out_instance, self.out_pin = map(_joined, parts["output"])
        self._by_net = np.argsort(self.sink_net, kind="stable")
        self._net_start = np.searchsorted(self.sink_net[self._by_net], np.arange(count + 1))
        return nets

    def _connect(self) -> None:
        """Arrays of pins, arcs and endpoints from the netlist."""
        netlist, constraints = self.netlist, self.constraints
        count = len(netlist.net_names)
        all_nets = self._pins()
        self._find_clocks()
        arc_in, arc_out, arc_instance, arc_local = [], [], [], []
        launch_out, launch_instance, launch_local, launch_low = [], [], [], []
        ends: list[tuple[int, int, int, int, float]] = []
        clock_cells = np.zeros(len(netlist.instances), bool)
        clock_cells[list(self.clock_cells)] = True
        inverted = self.clock_nets
        for name, members in self._members.items():
            cell = self.library.cells[name]
            tables = self.cell_tables[self.number[name]]
            here = np.array(members)
            nets = all_nets[name]
            for local, (output, edge_out, source, edge_in, launches) in enumerate(tables.keys):
                if cell.kind == "latch" and not launches:
                    continue
                live = (nets[output] >= 0) & (nets[source] >= 0) & ~clock_cells[here]
                if launches:
                    launch_out.append(nets[output][live] * 2 + edge_out)
                    launch_instance.append(here[live])
                    launch_local.append(np.full(live.sum(), local))
                    falls = np.array([inverted.get(net, False) for net in nets[source][live]], bool)
                    launch_low.append(falls ^ (edge_in == FALL))
                else:
                    arc_in.append(nets[source][live] * 2 + edge_in)
                    arc_out.append(nets[output][live] * 2 + edge_out)
                    arc_instance.append(here[live])
                    arc_local.append(np.full(live.sum(), local))
            for pin in cell.inputs:
                if pin in tables.clock_pins:
                    continue
                if cell.kind in ("ff", "latch", "clock_gate"):
                    for edge in (RISE, FALL):
                        table = tables.setup.get((pin, edge), -1)
                        for index, net in zip(members, nets[pin], strict=True):
                            if net >= 0:
                                share = 1.0
                                if cell.kind == "latch":
                                    enable = next(iter(tables.clock_pins))
                                    by = netlist.instances[index].pins.get(enable, -1)
                                    active_low = "!" in cell.state["enable"] or (
                                        "'" in cell.state["enable"]
                                    )
                                    if not (inverted.get(by, False) ^ active_low):
                                        share = 0.5
                                ends.append((int(net), edge, table, index, share))
        for index in self.clock_cells:
            instance = netlist.instances[index]
            cell = self.library.cells[instance.cell]
            if cell.kind != "gate":
                continue
            for pin in cell.inputs:
                net = instance.pins.get(pin, -1)
                if net >= 0 and net not in self.clock_nets:
                    ends += [(net, edge, -1, index, 1.0) for edge in (RISE, FALL)]

        self.arc_in, self.arc_out = _joined(arc_in), _joined(arc_out)
        self.arc_instance, self.arc_local = _joined(arc_instance), _joined(arc_local)
        self.launch_out, self.launch_instance = _joined(launch_out), _joined(launch_instance)
        self.launch_local, self.launch_low = _joined(launch_local), _joined(launch_low)
        # What is there besides the cells' pins: wires, and loads at output ports.
        self.port_load = np.zeros(count) if self.wire_ff is None else self.wire_ff.copy()
        self.load = np.zeros((count, 2))
        self.inputs = np.zeros(0, int)
        inputs = []
        for port in netlist.ports:
            for net in port.nets:
                if net < 0:
                    continue
                if port.direction == "output":
                    self.port_load[net] += self.platform.output_load_ff
                    share = 1.0 - constraints.io_share
                    if port.name not in constraints.quiet:
                        ends += [(net, edge, -1, -1, share) for edge in (RISE, FALL)]
                elif net not in self.clock_nets and port.name not in constraints.quiet:
                    inputs.append(net)
        self.inputs = np.array(sorted(set(inputs)), int)
        self.end_net = np.array([end[0] for end in ends], int)
        self.end_edge = np.array([end[1] for end in ends], int)
        self.end_table = np.array([end[2] for end in ends], int)
        self.end_instance = np.array([end[3] for end in ends], int)
        self.end_share = np.array([end[4] for end in ends])

    def _order(self) -> None:
        """Sort the arcs by level."""
        count = len(self.netlist.net_names) * 2
        waiting = np.bincount(self.arc_out, minlength=count)
        order = np.argsort(self.arc_in, kind="stable")
        starts = np.searchsorted(self.arc_in[order], np.arange(count + 1))
        level = np.zeros(count, int)
        frontier = np.flatnonzero(waiting == 0)
        depth = 0
        seen = len(frontier)
        while len(frontier):
            level[frontier] = depth
            sizes = starts[frontier + 1] - starts[frontier]
            total = int(sizes.sum())
            if not total:
                break
            offsets = np.repeat(starts[frontier] - np.cumsum(sizes) + sizes, sizes)
            outs = self.arc_out[order[offsets + np.arange(total)]]
            left = np.bincount(outs, minlength=count)
            waiting = waiting - left
            frontier = np.flatnonzero((waiting == 0) & (left > 0))
            seen += len(frontier)
            depth += 1
        if seen < count:
            stuck = np.flatnonzero(waiting > 0)
            names = ", ".join(self.netlist.net_names[node // 2] for node in stuck[:3])
            raise HalutError(
                f"a netlist must have no combinational loop, as the one through {names}"
            )
        self.depth = depth
        sort = np.lexsort((self.arc_out, level[self.arc_out]))
        for name in ("arc_in", "arc_out", "arc_instance", "arc_local"):
            setattr(self, name, getattr(self, name)[sort])
        arc_level = level[self.arc_out]
        bounds = np.searchsorted(arc_level, np.arange(1, depth + 2))
        self._levels = []
        for low, high in itertools.pairwise(bounds):
            if high > low:
                outs = self.arc_out[low:high]
                heads = np.flatnonzero(np.r_[True, outs[1:] != outs[:-1]])
                ins = self.arc_in[low:high]
                back = np.argsort(ins, kind="stable")
                sorted_ins = ins[back]
                back_heads = np.flatnonzero(np.r_[True, sorted_ins[1:] != sorted_ins[:-1]])
                self._levels.append(
                    (low, high, heads, outs[heads], back, back_heads, sorted_ins[back_heads])
                )

    def loads(self) -> None:
        """Recompute the load of every net from the present cells."""
        pins = self.first_pin[self.kind[self.sink_instance]] + self.sink_pin
        count = len(self.port_load)
        for edge in (RISE, FALL):
            self.load[:, edge] = self.port_load + np.bincount(
                self.sink_net, self.pin_capacitance[pins, edge], minlength=count
            )

    def update(self) -> None:
        """Arrivals and slews, then required times, for the present cells and period."""
        constraints = self.constraints
        self.loads()
        count = len(self.port_load) * 2
        arrival = np.full(count, -np.inf)
        slew = np.zeros(count)
        io = constraints.io_share * constraints.period_ns
        self._drive_inputs(arrival, slew, io)
        if len(self.launch_out):
            arcs = self.first_arc[self.kind[self.launch_instance]] + self.launch_local
            load = self.load.reshape(-1)[self.launch_out]
            zero = np.zeros(len(arcs))
            delay = self.tables(self.arc_delay[arcs], zero, load)
            start = self.launch_low * (constraints.period_ns / 2)
            np.maximum.at(arrival, self.launch_out, start + delay)
            np.maximum.at(slew, self.launch_out, self.tables(self.arc_slew[arcs], zero, load))
        self.delay = np.zeros(len(self.arc_in))
        arcs = self.first_arc[self.kind[self.arc_instance]] + self.arc_local
        delay_table, slew_table = self.arc_delay[arcs], self.arc_slew[arcs]
        load_out = self.load.reshape(-1)[self.arc_out]
        for low, high, heads, outs, *_ in self._levels:
            ins = self.arc_in[low:high]
            slew_in = slew[ins]
            delay = self.tables(delay_table[low:high], slew_in, load_out[low:high])
            self.delay[low:high] = delay
            slews = self.tables(slew_table[low:high], slew_in, load_out[low:high])
            slews[np.isneginf(arrival[ins])] = 0.0
            arrival[outs] = np.maximum(
                arrival[outs], np.maximum.reduceat(arrival[ins] + delay, heads)
            )
            slew[outs] = np.maximum(slew[outs], np.maximum.reduceat(slews, heads))
        self.arrival, self.slew = arrival.reshape(-1, 2), slew.reshape(-1, 2)
        self._require()

    def _drive_inputs(self, arrival: np.ndarray, slew: np.ndarray, io: float) -> None:
        """Input ports: the platform's driver, its delay counted without its unloaded delay."""
        if not self.platform.driver:
            arrival.reshape(-1, 2)[self.inputs] = io
            return
        number = self.number[self.platform.driver["cell"]]
        cell = self.cell_tables[number]
        output = self.platform.driver["output"]
        zero = np.zeros(len(self.inputs))
        for local, key in enumerate(cell.keys):
            if key[0] != output:
                continue
            node = self.inputs * 2 + key[1]
            load = self.load[self.inputs, key[1]]
            table = np.full(len(load), cell.delay[local])
            delay = self.tables(table, zero, load) - self.tables(table, zero, zero)
            arrival[node] = np.maximum(arrival[node], io + delay)
            table = np.full(len(load), cell.slew[local])
            slew[node] = np.maximum(slew[node], self.tables(table, zero, load))

    def _require(self) -> None:
        period = self.constraints.period_ns
        required = np.full(self.arrival.size, np.inf)
        node = self.end_net * 2 + self.end_edge
        setup = np.zeros(len(node))
        timed = self.end_table >= 0
        if timed.any():
            tables = self.end_table[timed]
            slews = self.slew.reshape(-1)[node[timed]]
            setup[timed] = self.tables(tables, slews, np.zeros(len(slews)))
        self.end_due = self.end_share * period - setup
        np.minimum.at(required, node, self.end_due)
        for low, high, _, _, back, heads, ins in reversed(self._levels):
            due = required[self.arc_out[low:high]] - self.delay[low:high]
            required[ins] = np.minimum(required[ins], np.minimum.reduceat(due[back], heads))
        self.required = required.reshape(-1, 2)

    def slack(self) -> np.ndarray:
        """Worst slack of every net, ns; +inf where nothing is checked."""
        with np.errstate(invalid="ignore"):
            slack = self.required - self.arrival
        slack[~np.isfinite(slack)] = np.inf
        return slack.min(axis=1)

    def end_slack(self) -> np.ndarray:
        """Slack at every endpoint, ns; +inf where nothing arrives."""
        return self.end_due - self.arrival.reshape(-1)[self.end_net * 2 + self.end_edge]

    def worst_slack(self) -> float:
        slack = self.end_slack()
        return float(slack.min()) if len(slack) else float("inf")

    def total_area(self) -> float:
        return float(self.area[self.kind].sum())

    def write_back(self) -> None:
        """Put the chosen cells into the netlist."""
        for instance, kind in zip(self.netlist.instances, self.kind, strict=True):
            instance.cell = self.names[kind]

    def shortest_period(self) -> float:
        """Shortest period at which nothing violates, by repeated analysis."""
        asked = self.constraints
        period = asked.period_ns
        for _ in range(12):
            self.constraints = replace(asked, period_ns=period)
            self.update()
            slack = self.end_slack()
            share = self.end_share
            worst = float((slack / np.maximum(share - asked.io_share, 0.3)).min())
            exact = float(slack.min())
            if abs(exact) < 1e-5:
                break
            # Every slack grows by at most 1 per ns of the period, and by at least 0.3.
            period -= exact if exact > 0 else worst
        self.constraints = asked
        self.update()
        return period
