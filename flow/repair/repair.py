"""What a mapped netlist still lacks: tie cells, clock buffers, fan-out trees, sizes.

Yosys and ABC see one module at a time and do not buffer nets that cross into others, so that a
select line with a thousand readers would look fast. Here the whole design is one netlist:

1. constants get tie cells, clock nets get buffers, nets with many readers get buffer trees;
2. cells that drive more than their limit are enlarged;
3. cells on paths that miss the target period are resized, batch after batch, each batch kept only
   when the worst paths got shorter; critical readers of a busy net are moved in front of its
   buffers;
4. cells that turned out larger than needed are made smaller again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import HIGH, LOW, Instance, Netlist
from flow.timing.graph import Constraints, Timing

__all__ = ["RepairReport", "add_clock_tree", "add_fanout_trees", "add_tie_cells", "repair"]

log = logging.getLogger(__name__)


@dataclass
class RepairReport:
    """What was done.

    Attributes
    ----------
    clock_buffers : list of str
        Names of the buffers in the clock network.
    tie_cells, buffers, resized : int
        Cells added or changed.
    slack_before, slack_after : float
        Worst slack at the target period, ns.
    """

    clock_buffers: list[str] = field(default_factory=list)
    tie_cells: int = 0
    buffers: int = 0
    resized: int = 0
    slack_before: float = 0.0
    slack_after: float = 0.0


def add_tie_cells(netlist: Netlist, platform: Platform) -> int:
    """Connect constant pins to tie cells, one per unit and `max_fanout` pins."""
    added = 0
    for rail, role in ((LOW, "tie_low"), (HIGH, "tie_high")):
        tie = platform.cells.get(role)
        if tie is None:
            continue
        pins: dict[int, list[tuple[Instance, str]]] = {}
        for instance in netlist.instances:
            for pin, net in instance.pins.items():
                if net == rail:
                    pins.setdefault(instance.unit, []).append((instance, pin))
        ports = [
            (port, bit)
            for port in netlist.ports
            for bit, net in enumerate(port.nets)
            if net == rail and port.direction == "output"
        ]
        name = role.replace("tie_", "constant_")
        for unit, users in pins.items():
            for start in range(0, len(users), platform.max_fanout):
                net = netlist.add_net(name)
                netlist.add_instance(f"{name}_u", tie["cell"], {tie["output"]: net}, unit)
                added += 1
                for instance, pin in users[start : start + platform.max_fanout]:
                    instance.pins[pin] = net
        for port, bit in ports:
            net = netlist.add_net(name)
            netlist.add_instance(f"{name}_u", tie["cell"], {tie["output"]: net}, 0)
            added += 1
            port.nets[bit] = net
    return added


_Sink = tuple[Instance, str]


def _sinks(timing: Timing, nets: Iterable[int]) -> dict[int, list[_Sink]]:
    """What reads each of some nets, as the netlist has it."""
    instances = timing.netlist.instances
    return {
        net: [(instances[index], pin) for index, pin in readers]
        for net, readers in timing.readers(nets).items()
    }


def _tree(
    netlist: Netlist,
    net: int,
    sinks: Sequence[_Sink],
    fanout: int,
    buffer: dict[str, str],
    tag: str,
) -> list[Instance]:
    """Put `sinks` behind buffers of at most `fanout` sinks each, level by level, up to `net`."""
    added: list[Instance] = []
    # Readers of one unit stay together.
    level: list[_Sink] = sorted(sinks, key=lambda sink: sink[0].unit)
    name = netlist.net_names[net]
    while len(level) > fanout:
        groups = -(-len(level) // fanout)
        size = -(-len(level) // groups)
        above: list[_Sink] = []
        for start in range(0, len(level), size):
            group = level[start : start + size]
            units = {instance.unit for instance, _ in group}
            unit = units.pop() if len(units) == 1 else 0
            output = netlist.add_net(f"{name}_{tag}")
            cell = netlist.add_instance(
                f"{name}_{tag}_u",
                buffer["cell"],
                {buffer["input"]: net, buffer["output"]: output},
                unit,
            )
            for instance, pin in group:
                instance.pins[pin] = output
            added.append(cell)
            above.append((cell, buffer["input"]))
        level = above
    for instance, pin in level:
        instance.pins[pin] = net
    return added


def add_clock_tree(
    netlist: Netlist, library: Library, platform: Platform, constraints: Constraints
) -> list[str]:
    """Buffer the clock: nets with more sinks than `clock_fanout`, of a gate than it can drive.

    A gated net is left to its clock gate, which is enlarged until it may drive the load; only
    beyond half of what the largest one may drive does it get buffers.

    Returns
    -------
    list of str
        Names of the buffers.
    """
    buffer = platform.cells.get("clock_buffer", platform.cells["buffer"])
    timing = Timing(netlist, library, platform, constraints)
    timing.loads()
    sinks = _sinks(timing, timing.clock_nets)
    driver = {
        int(net): (int(instance), int(pin))
        for net, instance, pin in zip(
            timing.out_net, timing.out_instance, timing.out_pin, strict=True
        )
    }
    added: list[Instance] = []
    for net in timing.clock_nets:
        readers = sinks.get(net, [])
        if len(readers) <= platform.clock_fanout:
            continue
        if net in driver:
            instance, pin = driver[net]
            name = netlist.instances[instance].cell
            largest = (timing.alternatives[name] or [name])[-1]
            limit = timing.pin_limit[timing.first_pin[timing.number[largest]] + pin]
            if timing.load[net].max() <= 0.5 * limit:
                continue
        added += _tree(netlist, net, readers, platform.clock_fanout, dict(buffer), "clock")
    return [instance.name for instance in added]


def add_fanout_trees(netlist: Netlist, platform: Platform, timing: Timing) -> int:
    """Buffer data nets with more sinks than `max_fanout`.

    The most critical sinks stay in front of the buffers when they are clearly more urgent.
    """
    buffer = dict(platform.cells["buffer"])
    added = 0
    slack = timing.slack()
    # A sink's own slack: that of the worst net that it drives.
    urgency: dict[int, float] = {}
    for net, instance in zip(timing.out_net, timing.out_instance, strict=True):
        value = float(slack[net])
        urgency[int(instance)] = min(urgency.get(int(instance), np.inf), value)
    index = {id(instance): number for number, instance in enumerate(netlist.instances)}
    counts = np.bincount(timing.sink_net, minlength=len(timing.port_load))
    counts[list(timing.clock_nets)] = 0
    busy = np.flatnonzero(counts > platform.max_fanout).tolist()
    for net, readers in _sinks(timing, busy).items():
        scored = sorted(readers, key=lambda sink: urgency.get(index[id(sink[0])], np.inf))
        direct: list[_Sink] = []
        room = platform.max_fanout // 4
        values = [urgency.get(index[id(instance)], np.inf) for instance, _ in scored]
        typical = values[len(values) // 2]
        buffer_delay = 0.05 * timing.constraints.period_ns
        while len(direct) < room and values[len(direct)] < typical - buffer_delay:
            direct.append(scored[len(direct)])
        rest = scored[len(direct) :]
        added += len(_tree(netlist, net, rest, platform.max_fanout - len(direct), buffer, "fan"))
    return added


class _Sizer:
    """Chooses among the sizes of each cell."""

    def __init__(self, timing: Timing):
        self.timing = timing
        count = len(timing.names)
        width = max((len(options) for options in timing.alternatives.values()), default=1) or 1
        self.options = np.full((count, width), -1)
        for name, others in timing.alternatives.items():
            for column, other in enumerate(others):
                self.options[timing.number[name], column] = timing.number[other]
        # Cells of the clock network are sized by load alone.
        self.fixed = np.zeros(len(timing.kind), bool)
        self.fixed[list(timing.clock_cells)] = True
        # Who drives and who reads each net, and which nets each cell reads and drives.
        cells, nets = np.arange(len(timing.kind) + 1), np.arange(len(timing.port_load) + 1)
        self.driver = np.full(len(timing.port_load), -1)
        self.driver[timing.out_net] = timing.out_instance
        order = np.argsort(timing.sink_net, kind="stable")
        self._readers = timing.sink_instance[order]
        self._reader_start = np.searchsorted(timing.sink_net[order], nets)
        order = np.argsort(timing.sink_instance, kind="stable")
        self._in_nets = timing.sink_net[order]
        self._in_start = np.searchsorted(timing.sink_instance[order], cells)
        order = np.argsort(timing.out_instance, kind="stable")
        self._out_nets = timing.out_net[order]
        self._out_start = np.searchsorted(timing.out_instance[order], cells)

    def electrical(self) -> tuple[int, list[tuple[int, int]]]:
        """Mend cells that drive more load, or make slower edges, than the library allows.

        Returns
        -------
        enlarged : int
        buffers : list of (net, cell number)
            Nets that are mended more cheaply by a buffer of that cell in front of all readers.
        """
        timing = self.timing
        role = timing.platform.cells["buffer"]
        buffers = [timing.number[name] for name in timing.alternatives[role["cell"]]]
        enlarged = 0
        wanted: dict[int, int] = {}
        for _ in range(4):
            timing.update()
            moved = 0
            for row in self.violations():
                instance, pin = int(timing.out_instance[row]), int(timing.out_pin[row])
                net = int(timing.out_net[row])
                if net in wanted:
                    continue
                now = timing.kind[instance]
                fits = [
                    option
                    for option in self.options[now]
                    if option >= 0
                    and timing.area[option] > timing.area[now]
                    and self._allowed(option, pin, net)
                ]
                cost = timing.area[fits[0]] - timing.area[now] if fits else np.inf
                if net not in timing.clock_nets:
                    output = [
                        timing.pin_order[timing.names[option]].index(role["output"])
                        for option in buffers
                    ]
                    for option, out in zip(buffers, output, strict=True):
                        if self._allowed(option, out, net):
                            if timing.area[option] < cost:
                                wanted[net] = option
                            break
                if net not in wanted and fits:
                    timing.kind[instance] = fits[0]
                    moved += 1
            enlarged += moved
            if not moved:
                break
        return enlarged, list(wanted.items())

    def violations(self) -> np.ndarray:
        """Rows of the output pins that break a limit on load or slew."""
        timing = self.timing
        at = timing.first_pin[timing.kind[timing.out_instance]] + timing.out_pin
        over = timing.load[timing.out_net].max(axis=1) > timing.pin_limit[at] * 1.0001
        clock = np.zeros(len(timing.port_load), bool)
        clock[list(timing.clock_nets)] = True
        slow = timing.slew[timing.out_net].max(axis=1) > timing.slew_limit[at] * 1.0001
        return np.flatnonzero(over | (slow & ~clock[timing.out_net]))

    def _allowed(self, kind: int, pin: int, net: int) -> bool:
        """Whether a cell could drive a net within its limits, with a typical input slew."""
        timing = self.timing
        load = timing.load[net]
        at = timing.first_pin[kind] + pin
        if load.max() > timing.pin_limit[at]:
            return False
        if net in timing.clock_nets:
            return True
        cell = timing.cell_tables[kind]
        output = timing.pin_order[timing.names[kind]][pin]
        rows = [row for row, key in enumerate(cell.keys) if key[0] == output]
        if not rows:
            return True
        slew = np.full(len(rows), 0.3 * min(timing.slew_limit[at], 10.0))
        loads = np.array([load[cell.keys[row][1]] for row in rows])
        made = timing.tables(np.array([cell.slew[row] for row in rows]), slew, loads)
        return bool(made.max() <= timing.slew_limit[at])

    def slopes(self) -> np.ndarray:
        """ns per fF at every node (net, edge): how much its driver slows down with load."""
        timing = self.timing
        slew = timing.slew.reshape(-1)
        slopes = np.zeros(timing.arrival.size)
        arcs = timing.first_arc[timing.kind[timing.arc_instance]] + timing.arc_local
        for outs, number, slew_in in (
            (timing.arc_out, arcs, slew[timing.arc_in]),
            (
                timing.launch_out,
                timing.first_arc[timing.kind[timing.launch_instance]] + timing.launch_local,
                np.zeros(len(timing.launch_out)),
            ),
        ):
            if not len(outs):
                continue
            load = timing.load.reshape(-1)[outs]
            step = np.maximum(1.0, 0.1 * load)
            tables = timing.arc_delay[number]
            slope = (
                timing.tables(tables, slew_in, load + step) - timing.tables(tables, slew_in, load)
            ) / step
            np.maximum.at(slopes, outs, slope)
        return slopes

    def gains(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Change of slack for every size of the chosen instances.

        Parameters
        ----------
        chosen : ndarray of shape (n,), int
            Instances.

        Returns
        -------
        present : ndarray of shape (n,)
            Worst slack through each instance, ns.
        future : ndarray of shape (n, n_options)
            The same with each size; -inf where there is no such size.
        kinds : ndarray of shape (n, n_options), int
            The sizes.
        """
        timing = self.timing
        place = np.full(len(timing.kind), -1)
        place[chosen] = np.arange(len(chosen))
        slew = timing.slew.reshape(-1)
        arrival = timing.arrival.reshape(-1)
        required = timing.required.reshape(-1)
        slopes = self.slopes()
        kinds = self.options[timing.kind[chosen]]
        future = np.full(kinds.shape, np.inf)
        present = np.full(len(chosen), np.inf)
        pick = np.flatnonzero(place[timing.arc_instance] >= 0)
        lpick = np.flatnonzero(place[timing.launch_instance] >= 0)
        # Extra input capacitance of every option, on the worst of the cell's input nets.
        penalty = np.zeros(kinds.shape)
        spick = np.flatnonzero(place[timing.sink_instance] >= 0)
        rows = place[timing.sink_instance[spick]]
        nets = timing.sink_net[spick]
        slope = np.maximum(slopes[nets * 2], slopes[nets * 2 + 1])
        live = np.isfinite(arrival.reshape(-1, 2)[nets].max(axis=1))
        capacitance = timing.pin_capacitance.max(axis=1)
        now = capacitance[timing.first_pin[timing.kind[chosen[rows]]] + timing.sink_pin[spick]]
        for column in range(kinds.shape[1]):
            option = kinds[rows, column]
            extra = capacitance[timing.first_pin[np.maximum(option, 0)] + timing.sink_pin[spick]]
            cost = np.where(live & (option >= 0), slope * (extra - now), 0.0)
            worst = np.full(len(chosen), -np.inf)
            np.maximum.at(worst, rows, cost)
            penalty[:, column] = np.where(np.isfinite(worst), worst, 0.0)
        launch = timing.launch_instance[lpick]
        table = timing.arc_delay[timing.first_arc[timing.kind[launch]] + timing.launch_local[lpick]]
        none = np.zeros(len(lpick))
        launch_out = timing.launch_out[lpick]
        launch_delay = timing.tables(table, none, timing.load.reshape(-1)[launch_out])
        launch_start = timing.launch_low[lpick] * (timing.constraints.period_ns / 2)
        ins = timing.arc_in[pick]
        for outs, instances, locals_, start, slew_in, delay, has_input in (
            (
                timing.arc_out[pick],
                timing.arc_instance[pick],
                timing.arc_local[pick],
                arrival[ins],
                slew[ins],
                timing.delay[pick],
                True,
            ),
            (
                launch_out,
                launch,
                timing.launch_local[lpick],
                launch_start,
                none,
                launch_delay,
                False,
            ),
        ):
            if not len(outs):
                continue
            rows = place[instances]
            load = timing.load.reshape(-1)[outs]
            slack = required[outs] - start - delay
            slack[~np.isfinite(slack)] = np.inf
            np.minimum.at(present, rows, slack)
            for column in range(kinds.shape[1]):
                option = kinds[rows, column]
                good = option >= 0
                table = timing.arc_delay[
                    np.where(good, timing.first_arc[np.maximum(option, 0)] + locals_, 0)
                ]
                other = timing.tables(table, slew_in, load)
                after = np.where(good, slack + delay - other, -np.inf)
                if has_input:
                    after = after - penalty[rows, column]
                np.minimum.at(future[:, column], rows, after)
        future[kinds < 0] = -np.inf
        return present, future, kinds

    def apart(self, chosen: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`rows` of `chosen`, best first, without cells that drive or read a better one."""
        blocked = np.zeros(len(self.timing.kind), bool)
        kept = []
        for row in rows:
            instance = chosen[row]
            if blocked[instance]:
                continue
            kept.append(row)
            for net in self._in_nets[self._in_start[instance] : self._in_start[instance + 1]]:
                if self.driver[net] >= 0:
                    blocked[self.driver[net]] = True
            for net in self._out_nets[self._out_start[instance] : self._out_start[instance + 1]]:
                first, last = self._reader_start[net : net + 2]
                blocked[self._readers[first:last]] = True
        return np.array(kept, int)


def _drive_with(netlist: Netlist, timing: Timing, wanted: Sequence[tuple[int, int]]) -> None:
    """Put one buffer between each net's driver and all its readers."""
    role = timing.platform.cells["buffer"]
    readers = _sinks(timing, [net for net, _ in wanted])
    driver = {
        int(net): int(instance)
        for net, instance in zip(timing.out_net, timing.out_instance, strict=True)
    }
    for net, option in wanted:
        name = netlist.net_names[net]
        output = netlist.add_net(f"{name}_buf")
        for instance, pin in readers[net]:
            instance.pins[pin] = output
        netlist.add_instance(
            f"{name}_buf_u",
            timing.names[option],
            {role["input"]: net, role["output"]: output},
            netlist.instances[driver[net]].unit if net in driver else 0,
        )


def _insert_buffers(netlist: Netlist, timing: Timing, sizer: _Sizer, limit: int) -> int:
    """Put buffers on violating nets where that gains time; `timing` is stale afterwards.

    Either all readers go behind the buffer (a weak cell with a large load), or only those with
    time to spare (an urgent reader freed of the others).
    """
    platform = timing.platform
    role = platform.cells["buffer"]
    options = [timing.number[name] for name in timing.alternatives[role["cell"]]]
    slack = timing.slack()
    worst = float(slack.min())
    nets = np.flatnonzero(slack < min(0.3 * worst, -1e-4))
    nets = np.array([net for net in nets if net not in timing.clock_nets], int)
    if not len(nets):
        return 0
    slopes = sizer.slopes().reshape(-1, 2).max(axis=1)
    order = np.argsort(timing.sink_net, kind="stable")
    start = np.searchsorted(timing.sink_net[order], np.arange(len(slack) + 1))
    after = np.full(len(timing.kind), np.inf)
    np.minimum.at(after, timing.out_instance, slack[timing.out_net])
    for position, instance in enumerate(timing.end_instance):
        if instance >= 0:
            node = timing.end_net[position]
            after[instance] = min(after[instance], slack[node])
    scored: list[tuple[float, int, int, np.ndarray]] = []
    for net in nets:
        sinks = order[start[net] : start[net + 1]]
        if len(sinks) < 2 or slopes[net] <= 0:
            continue
        kinds = timing.kind[timing.sink_instance[sinks]]
        caps = timing.pin_capacitance.max(axis=1)[timing.first_pin[kinds] + timing.sink_pin[sinks]]
        spare = after[timing.sink_instance[sinks]] - slack[net]
        best = (0.0, -1, sinks[:0])
        for option in options:
            name = timing.names[option]
            cell = timing.cell_tables[option]
            place = timing.pin_order[name].index(role["input"])
            own = timing.pin_capacitance[timing.first_pin[option] + place].max()
            for behind in (np.ones(len(sinks), bool), spare > 0.02 * timing.constraints.period_ns):
                if not behind.any() or (behind.all() and spare.min() > 1e-9 and len(sinks) < 2):
                    continue
                load = float(caps[behind].sum())
                slew = np.full(len(cell.keys), timing.slew[net].min())
                delay = float(
                    timing.tables(np.array(cell.delay), slew, np.full(len(cell.keys), load)).max()
                )
                faster = slopes[net] * (load - own)
                if behind.all():
                    gain = faster - delay
                else:
                    gain = min(faster, float(spare[behind].min()) - delay + faster)
                gain -= 1e-4 * timing.area[option]
                if gain > best[0]:
                    best = (gain, option, sinks[behind])
        if best[0] > 0.004 * timing.constraints.period_ns:
            scored.append((float(best[0]), int(net), best[1], best[2]))
    scored.sort(key=lambda item: -item[0])
    blocked: set[int] = set()
    added = 0
    for _, busy, option, moved in scored[:limit]:
        driver = int(sizer.driver[busy])
        near = {driver, *(int(instance) for instance in timing.sink_instance[moved])}
        if driver in blocked:
            continue
        blocked |= near
        output = netlist.add_net(f"{netlist.net_names[busy]}_buf")
        first = netlist.instances[timing.sink_instance[moved[0]]]
        netlist.add_instance(
            f"{netlist.net_names[busy]}_buf_u",
            timing.names[option],
            {role["input"]: busy, role["output"]: output},
            netlist.instances[driver].unit if driver >= 0 else first.unit,
        )
        for sink in moved:
            instance = netlist.instances[timing.sink_instance[sink]]
            pin = timing.pin_order[instance.cell][timing.sink_pin[sink]]
            instance.pins[pin] = output
        added += 1
    return added


def _objective(timing: Timing) -> tuple[float, float]:
    slack = timing.end_slack()
    slack = slack[np.isfinite(slack)]
    if not len(slack):
        return 0.0, 0.0
    return float(min(slack.min(), 0.0)), float(np.minimum(slack, 0.0).sum())


def _speed_up(timing: Timing, sizer: _Sizer, rounds: int) -> int:
    """Resize cells on violating paths; returns how many were changed."""
    timing.update()
    worst, total = _objective(timing)
    best = (worst, timing.kind.copy(), 0)
    changed = 0
    share = 0.6
    failures = 0
    for _ in range(rounds):
        if worst >= -1e-4:
            break
        slack = timing.slack()
        critical = np.full(len(timing.kind), np.inf)
        np.minimum.at(critical, timing.out_instance, slack[timing.out_net])
        chosen = np.flatnonzero((critical < worst * (0.3 if failures < 2 else 0.8)) & ~sizer.fixed)
        if not len(chosen):
            break
        present, future, kinds = sizer.gains(chosen)
        growth = timing.area[np.maximum(kinds, 0)] - timing.area[timing.kind[chosen]][:, None]
        gain = future - present[:, None]
        gain[kinds == timing.kind[chosen][:, None]] = -np.inf
        # A picosecond is worth some area, but not any.
        option = (gain - 1e-4 * np.maximum(growth, 0)).argmax(axis=1)
        every = np.arange(len(chosen))
        rows = every[gain[every, option] > 2e-4]
        if not len(rows):
            break
        score = gain[rows, option[rows]] / (1.0 + np.maximum(growth[rows, option[rows]], 0.0))
        rows = rows[np.argsort(-score)]
        rows = sizer.apart(chosen, rows)
        rows = rows[: max(1, int(len(rows) * share))]
        before = timing.kind.copy()
        timing.kind[chosen[rows]] = kinds[rows, option[rows]]
        timing.update()
        now_worst, now_total = _objective(timing)
        log.debug("sizing: worst %.4f total %.3f cells %d", now_worst, now_total, len(rows))
        if now_worst > worst + 1e-5 or (now_total > total * 0.99 and now_worst > worst * 1.3):
            changed += len(rows)
            failures = 0
            share = min(0.8, share * 1.2)
            worst, total = now_worst, now_total
            if worst > best[0]:
                best = (worst, timing.kind.copy(), changed)
        else:
            timing.kind = before
            timing.update()
            failures += 1
            share *= 0.5
            if failures >= 6:
                break
    if best[0] > worst:
        timing.kind = best[1]
        timing.update()
        changed = best[2]
    return changed


def _slim_down(timing: Timing, sizer: _Sizer, rounds: int) -> int:
    """Make cells smaller where the slack allows it; returns how many were changed."""
    timing.update()
    floor, _ = _objective(timing)
    broken = len(sizer.violations())
    changed = 0
    share = 0.5
    for _ in range(rounds):
        smallest = sizer.options[timing.kind, 0]
        chosen = np.flatnonzero(
            (smallest >= 0) & (timing.area[smallest] < timing.area[timing.kind]) & ~sizer.fixed
        )
        if not len(chosen):
            break
        present, future, kinds = sizer.gains(chosen)
        saving = timing.area[timing.kind[chosen]][:, None] - timing.area[np.maximum(kinds, 0)]
        # Loads beyond the limit of the smaller cell rule it out.
        need = np.zeros(len(timing.kind))
        np.maximum.at(need, timing.out_instance, timing.load[timing.out_net].max(axis=1))
        limit = np.full(len(timing.names), np.inf)
        for number, name in enumerate(timing.names):
            cell = timing.library.cells[name]
            limits = [cell.pins[pin].max_capacitance or np.inf for pin in cell.outputs]
            limit[number] = min(limits, default=np.inf)
        fits = need[chosen][:, None] <= limit[np.maximum(kinds, 0)]
        loss = present[:, None] - future
        room = np.maximum(present - floor, 0.0) * 0.4
        allowed = (saving > 1e-9) & fits & (loss <= room[:, None]) & (kinds >= 0)
        value = np.where(allowed, saving, -np.inf)
        best = value.argmax(axis=1)
        rows = np.flatnonzero(allowed.any(axis=1))
        if not len(rows):
            break
        rows = sizer.apart(chosen, rows[np.argsort(-value[rows, best[rows]])])
        rows = rows[: max(1, int(len(rows) * share))]
        before = timing.kind.copy()
        timing.kind[chosen[rows]] = kinds[rows, best[rows]]
        timing.update()
        now, _ = _objective(timing)
        if now >= floor - 1e-4 and len(sizer.violations()) <= broken:
            changed += len(rows)
            share = min(1.0, share * 1.5)
        else:
            timing.kind = before
            timing.update()
            share *= 0.3
            if share < 0.02:
                break
    return changed


def repair(
    netlist: Netlist,
    library: Library,
    platform: Platform,
    constraints: Constraints,
    rounds: int = 40,
) -> RepairReport:
    """Buffer and size a mapped netlist in place.

    Parameters
    ----------
    netlist : Netlist
    library : Library
    platform : Platform
    constraints : Constraints
        Its period is the target.
    rounds : int
        Upper bound on sizing batches.

    Returns
    -------
    RepairReport
    """
    report = RepairReport()
    report.tie_cells = add_tie_cells(netlist, platform)
    report.clock_buffers = add_clock_tree(netlist, library, platform, constraints)
    timing = Timing(netlist, library, platform, constraints)
    timing.update()
    report.buffers = add_fanout_trees(netlist, platform, timing)
    for turn in range(6):
        timing = Timing(netlist, library, platform, constraints)
        sizer = _Sizer(timing)
        enlarged, needed = sizer.electrical()
        report.resized += enlarged
        if needed:
            timing.write_back()
            _drive_with(netlist, timing, needed)
            report.buffers += len(needed)
            timing = Timing(netlist, library, platform, constraints)
            sizer = _Sizer(timing)
        timing.update()
        if turn == 0:
            report.slack_before = timing.worst_slack()
        last = turn == 5
        report.resized += _speed_up(timing, sizer, rounds if last else max(4, rounds // 4))
        if last or timing.worst_slack() >= 0:
            break
        timing.write_back()
        added = _insert_buffers(netlist, timing, sizer, limit=max(50, len(netlist.instances) // 50))
        log.debug("buffers: %d added at worst slack %.4f", added, timing.worst_slack())
        report.buffers += added
        if not added:
            report.resized += _speed_up(timing, sizer, rounds)
            break
    report.resized += _slim_down(timing, sizer, max(4, rounds // 4))
    timing.update()
    report.slack_after = timing.worst_slack()
    timing.write_back()
    return report
