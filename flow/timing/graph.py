"""The timing graph of a flat netlist in arrays: who drives, who reads, what is launched and due.

Built once per netlist. A node is an edge (rise, fall) of a net, number ``2 * net + edge``. Which
size each cell has (`Graph.kind`) may change afterwards, and nothing else: the sizes of a cell have
the same arcs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from flow.cells.boolean import parse
from flow.cells.families import sizes
from flow.cells.library import MACROS, Cell, Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Instance, Netlist
from flow.timing.constraints import Constraints
from flow.timing.tables import FALL, RISE, TableStack, cell_tables
from halut.errors import HalutError

__all__ = ["Graph"]

_End = tuple[int, int, int, int, float]  # net, edge, setup table, instance, share of the period


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(int) if parts else np.zeros(0, int)


def _inverts(cell: Cell, pin: str, output: str) -> bool:
    """Whether a gate's output can fall because an input rises."""
    text = cell.pins[output].function
    if cell.kind != "gate" or not text:
        return False
    table = parse(text).table(tuple(cell.inputs))
    bit = 1 << cell.inputs.index(pin)
    rows = np.arange(len(table))
    return bool((table[rows & ~bit] & ~table[rows | bit]).any())


class Graph:
    """Pins, arcs and endpoints of a netlist.

    Parameters
    ----------
    wire_ff : ndarray of shape (n_nets,), optional
        Capacitance of every net's wires, fF, lumped at its driver; none without.

    Attributes
    ----------
    names : list of str
        Cells in use, their sizes, and those that the platform may add. `number` inverts it.
    alternatives : dict of str to list of str
        Sizes of each cell, smallest first.
    kind : ndarray of shape (n_instances,), int
        Number of each instance's present cell.
    area, first_arc, first_pin : ndarray by cell number
        um2; where a cell's arcs and pins (in the order of `pin_order`) begin in the arrays below.
    arc_delay, arc_slew : ndarray of int
        Tables of each arc of a cell.
    pin_capacitance : ndarray of shape (n_pins, 2)
        fF, by edge; 0 for outputs.
    pin_limit, slew_limit : ndarray of shape (n_pins,)
        fF, of outputs, and ns; inf where the library states none.
    sink_net, sink_instance, sink_pin : ndarray of int
        Input pins of all instances that are connected.
    out_net, out_instance, out_pin : ndarray of int
        Output pins likewise.
    driver : ndarray of shape (n_nets,), int
        Instance that drives each net, -1 for none.
    arc_in, arc_out, arc_instance, arc_local : ndarray of int
        Nodes, instance and number within the cell of every arc between data pins, by level.
    launch_out, launch_instance, launch_local, launch_low : ndarray
        The same of arcs from a clock or an enable; `launch_low` when they start at the clock's
        fall.
    end_net, end_edge, end_table, end_instance, end_share : ndarray
        Endpoints: where, setup table or -1, instance or -1 for a port, and the share of the
        period at which data is due.
    port_load : ndarray of shape (n_nets,)
        Load besides the cells' pins, fF.
    inputs : ndarray of int
        Nets that an input port drives.
    depth : int
        Levels of cells between registers.
    clock_nets : dict of int to bool
        Nets of the clock network; True where the clock is inverted.
    on_clock : ndarray of shape (n_nets,), bool
        Whether a net is in `clock_nets`.
    clock_cells : set of int
        Instances of the clock network.
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
        self.cell_tables = [cell_tables(library.cells[name], self.tables) for name in self.names]
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
        nets = self._pins()
        self._find_clocks()
        self.on_clock = np.zeros(len(netlist.net_names), bool)
        self.on_clock[list(self.clock_nets)] = True
        self._arcs(nets)
        ends = [*self._cell_ends(nets), *self._ports()]
        self.end_net = np.array([end[0] for end in ends], int)
        self.end_edge = np.array([end[1] for end in ends], int)
        self.end_table = np.array([end[2] for end in ends], int)
        self.end_instance = np.array([end[3] for end in ends], int)
        self.end_share = np.array([end[4] for end in ends])
        self._order()

    def _pack_cells(self) -> None:
        cells = [self.library.cells[name] for name in self.names]
        self.area = np.array([cell.area for cell in cells])
        self.first_arc = np.cumsum([0, *(len(cell.keys) for cell in self.cell_tables)])[:-1]
        self.arc_delay = np.array([t for cell in self.cell_tables for t in cell.delay], int)
        self.arc_slew = np.array([t for cell in self.cell_tables for t in cell.slew], int)
        self.pin_order = {cell.name: sorted(cell.pins) for cell in cells}
        self.first_pin = np.cumsum([0, *(len(cell.pins) for cell in cells)])[:-1]
        pins = [cell.pins[pin] for cell in cells for pin in self.pin_order[cell.name]]
        self.pin_capacitance = np.array(
            [pin.capacitance if pin.direction == "input" else (0.0, 0.0) for pin in pins]
        )
        self.pin_limit = np.array(
            [(pin.direction == "output" and pin.max_capacitance) or np.inf for pin in pins]
        )
        self.slew_limit = np.array([pin.max_slew or np.inf for pin in pins])

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
        self.driver = np.full(count, -1)
        self.driver[self.out_net] = self.out_instance
        self._by_net = np.argsort(self.sink_net, kind="stable")
        self._net_start = np.searchsorted(self.sink_net[self._by_net], np.arange(count + 1))
        return nets

    def sinks(self, net: int) -> np.ndarray:
        """Rows of ``sink_net`` and its like that read a net."""
        return self._by_net[self._net_start[net] : self._net_start[net + 1]]

    def readers(self, rows: np.ndarray) -> list[tuple[Instance, str]]:
        """Cell and input pin of some rows of ``sink_net``."""
        cells = self.sink_instance[rows].tolist()
        return [
            (self.netlist.instances[cell], self.pin_order[self.names[self.kind[cell]]][pin])
            for cell, pin in zip(cells, self.sink_pin[rows].tolist(), strict=True)
        ]

    def apart(self, instances: np.ndarray) -> list[int]:
        """Places of `instances`, best first, that neither drive nor read a better one."""
        blocked = np.zeros(len(self.kind), bool)
        kept = []
        for place, index in enumerate(instances.tolist()):
            if blocked[index]:
                continue
            kept.append(place)
            for net in self.netlist.instances[index].pins.values():
                driver = self.driver[net] if net >= 0 else -1
                if driver == index:
                    blocked[self.sink_instance[self.sinks(net)]] = True
                elif driver >= 0:
                    blocked[driver] = True
        return kept

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
        todo = [root]
        while todo:
            net = todo.pop()
            rows = self.sinks(net)
            readers = zip(self.sink_instance[rows].tolist(), self.readers(rows), strict=True)
            for index, (instance, pin) in readers:
                cell = self.library.cells[instance.cell]
                if cell.kind in ("ff", "latch", *MACROS):
                    continue
                self.clock_cells.add(index)
                for output in cell.outputs:
                    after = instance.pins.get(output)
                    if after is None or after in self.clock_nets:
                        continue
                    self.clock_nets[after] = self.clock_nets[net] ^ _inverts(cell, pin, output)
                    todo.append(after)

    def _arcs(self, all_nets: dict[str, dict[str, np.ndarray]]) -> None:
        """Arcs between data pins, and from clocks; none within the clock network."""
        arcs: list[list[np.ndarray]] = [[], [], [], []]
        launches: list[list[np.ndarray]] = [[], [], [], []]
        clock_cells = np.zeros(len(self.netlist.instances), bool)
        clock_cells[list(self.clock_cells)] = True
        for name, members in self._members.items():
            nets, here = all_nets[name], np.array(members)
            keys = self.cell_tables[self.number[name]].keys
            for local, (output, edge_out, source, edge_in, launch) in enumerate(keys):
                if self.library.cells[name].kind == "latch" and not launch:
                    continue
                live = (nets[output] >= 0) & (nets[source] >= 0) & ~clock_cells[here]
                out = nets[output][live] * 2 + edge_out
                which = (here[live], np.full(live.sum(), local))
                if launch:
                    falls = [self.clock_nets.get(net, False) for net in nets[source][live]]
                    parts = (out, *which, np.array(falls, bool) ^ (edge_in == FALL))
                else:
                    parts = (nets[source][live] * 2 + edge_in, out, *which)
                for column, part in zip(launches if launch else arcs, parts, strict=True):
                    column.append(part)
        self.arc_in, self.arc_out, self.arc_instance, self.arc_local = map(_joined, arcs)
        self.launch_out, self.launch_instance, self.launch_local, self.launch_low = map(
            _joined, launches
        )

    def _cell_ends(self, all_nets: dict[str, dict[str, np.ndarray]]) -> Iterator[_End]:
        """Data pins of registers, latches, macros, clock gates; enables of gates on the clock."""
        for name, members in self._members.items():
            cell = self.library.cells[name]
            if cell.kind not in ("ff", "latch", "clock_gate", *MACROS):
                continue
            tables = self.cell_tables[self.number[name]]
            for pin in cell.inputs:
                if pin in tables.clock_pins:
                    continue
                for index, net in zip(members, all_nets[name][pin], strict=True):
                    if net < 0:
                        continue
                    share = self._latch_share(index, cell) if cell.kind == "latch" else 1.0
                    for edge in (RISE, FALL):
                        yield int(net), edge, tables.setup.get((pin, edge), -1), index, share
        for index in self.clock_cells:
            instance = self.netlist.instances[index]
            cell = self.library.cells[instance.cell]
            for pin in cell.inputs if cell.kind == "gate" else ():
                net = instance.pins.get(pin, -1)
                if net >= 0 and net not in self.clock_nets:
                    for edge in (RISE, FALL):
                        yield net, edge, -1, index, 1.0

    def _latch_share(self, index: int, cell: Cell) -> float:
        """Share of the period at which a latch closes."""
        enable = self.netlist.instances[index].pins.get(next(iter(cell.clock_pins)), -1)
        active_low = "!" in cell.state["enable"] or "'" in cell.state["enable"]
        return 1.0 if self.clock_nets.get(enable, False) ^ active_low else 0.5

    def _ports(self) -> Iterator[_End]:
        """Loads at ports and nets that ports drive; output ports are endpoints."""
        count = len(self.netlist.net_names)
        self.port_load = np.zeros(count) if self.wire_ff is None else self.wire_ff.copy()
        inputs = set()
        for port in self.netlist.ports:
            quiet = port.name in self.constraints.quiet
            for net in port.nets:
                if net < 0:
                    continue
                if port.direction == "output":
                    self.port_load[net] += self.platform.output_load_ff
                    for edge in (RISE, FALL) if not quiet else ():
                        yield net, edge, -1, -1, 1.0 - self.constraints.io_share
                elif net not in self.clock_nets and not quiet:
                    inputs.add(net)
        self.inputs = np.array(sorted(inputs), int)

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
        self.arc_in, self.arc_out = self.arc_in[sort], self.arc_out[sort]
        self.arc_instance, self.arc_local = self.arc_instance[sort], self.arc_local[sort]
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

    def write_back(self) -> None:
        """Put the chosen cells into the netlist."""
        for instance, kind in zip(self.netlist.instances, self.kind, strict=True):
            instance.cell = self.names[kind]
