"""Cells that a mapped netlist gets: tie cells, clock buffers, fan-out trees, buffers on paths.

Yosys and ABC see one module at a time and do not buffer nets that cross into others, so that a
select line with a thousand readers would look fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flow.cells.platform import Platform
from flow.netlist.netlist import HIGH, LOW, Instance, Netlist
from flow.timing.analysis import Timing

__all__ = ["add_clock_tree", "add_fanout_trees", "add_tie_cells", "buffer_net", "buffer_slow_nets"]

_Sink = tuple[Instance, str]
_Role = Mapping[str, str]


def add_tie_cells(netlist: Netlist, platform: Platform) -> None:
    """Connect constant pins to tie cells, one per unit and `max_fanout` pins."""
    for rail, role in ((LOW, "tie_low"), (HIGH, "tie_high")):
        tie = platform.cells.get(role)
        if tie is None:
            continue

        def constant(unit: int, tie: _Role = tie, role: str = role) -> int:
            net = netlist.add_net(name := role.replace("tie_", "constant_"))
            netlist.add_instance(f"{name}_u", tie["cell"], {tie["output"]: net}, unit)
            return net

        pins: dict[int, list[_Sink]] = {}
        for instance in netlist.instances:
            for pin, net in instance.pins.items():
                if net == rail:
                    pins.setdefault(instance.unit, []).append((instance, pin))
        for unit, users in pins.items():
            for start in range(0, len(users), platform.max_fanout):
                net = constant(unit)
                for instance, pin in users[start : start + platform.max_fanout]:
                    instance.pins[pin] = net
        for port in netlist.ports:
            if port.direction == "output":
                port.nets = [constant(0) if net == rail else net for net in port.nets]


def _buffer(
    netlist: Netlist, net: int, sinks: Sequence[_Sink], role: _Role, tag: str, unit: int
) -> Instance:
    """Put `sinks` behind a new buffer that reads `net`; `role` has its cell and pins."""
    name = f"{netlist.net_names[net]}_{tag}"
    output = netlist.add_net(name)
    for instance, pin in sinks:
        instance.pins[pin] = output
    pins = {role["input"]: net, role["output"]: output}
    return netlist.add_instance(f"{name}_u", role["cell"], pins, unit)


def _tree(
    netlist: Netlist, net: int, sinks: Sequence[_Sink], fanout: int, role: _Role, tag: str
) -> list[str]:
    """Put `sinks` behind buffers of at most `fanout` sinks each, level by level, up to `net`."""
    added: list[str] = []
    # Readers of one unit stay together.
    level = sorted(sinks, key=lambda sink: sink[0].unit)
    while len(level) > fanout:
        size = -(-len(level) // -(-len(level) // fanout))
        above: list[_Sink] = []
        for start in range(0, len(level), size):
            group = level[start : start + size]
            units = {instance.unit for instance, _ in group}
            unit = units.pop() if len(units) == 1 else 0
            above.append((_buffer(netlist, net, group, role, tag, unit), role["input"]))
        added += [buffer.name for buffer, _ in above]
        level = above
    return added


def add_clock_tree(timing: Timing) -> list[str]:
    """Buffer the clock: nets with more sinks than `clock_fanout`, of a gate than it can drive.

    A gated net is left to its clock gate, which is enlarged until it may drive the load; only
    beyond half of what the largest one may drive does it get buffers. Returns the buffers' names.
    """
    netlist, platform = timing.netlist, timing.platform
    role = platform.cells.get("clock_buffer", platform.cells["buffer"])
    timing.loads()
    added: list[str] = []
    for net in timing.clock_nets:
        sinks = timing.readers(timing.sinks(net))
        if len(sinks) <= platform.clock_fanout:
            continue
        if timing.driver[net] >= 0:
            gate = netlist.instances[timing.driver[net]]
            largest = timing.library.cells[(timing.alternatives[gate.cell] or [gate.cell])[-1]]
            output = next(pin for pin, other in gate.pins.items() if other == net)
            limit = largest.pins[output].max_capacitance or np.inf
            if timing.load[net].max() <= 0.5 * limit:
                continue
        added += _tree(netlist, net, sinks, platform.clock_fanout, role, "clock")
    return added


def add_fanout_trees(timing: Timing) -> None:
    """Buffer data nets with more sinks than `max_fanout`.

    The most critical sinks stay in front of the buffers when they are clearly more urgent.
    """
    platform = timing.platform
    # A sink's own slack: that of the worst net that it drives.
    urgency = timing.slack_behind()
    counts = np.bincount(timing.sink_net, minlength=len(timing.on_clock))
    counts[timing.on_clock] = 0
    for net in np.flatnonzero(counts > platform.max_fanout).tolist():
        rows = timing.sinks(net)
        rows = rows[np.argsort(urgency[timing.sink_instance[rows]], kind="stable")]
        slacks = urgency[timing.sink_instance[rows]]
        urgent = slacks[len(slacks) // 2] - 0.05 * timing.constraints.period_ns
        direct = int((slacks[: platform.max_fanout // 4] < urgent).sum())
        rest, fanout = timing.readers(rows[direct:]), platform.max_fanout - direct
        _tree(timing.netlist, net, rest, fanout, platform.cells["buffer"], "fan")


def buffer_net(timing: Timing, net: int, kind: int, rows: np.ndarray | None = None) -> None:
    """Put a buffer, cell number `kind`, between a net and its readers; `timing` is stale then.

    `rows`, of ``timing.sink_net``, are the readers that go behind it: all when None.
    """
    netlist, driver = timing.netlist, int(timing.driver[net])
    sinks = timing.readers(timing.sinks(net) if rows is None else rows)
    unit = (netlist.instances[driver] if driver >= 0 else sinks[0][0]).unit
    role = {**timing.platform.cells["buffer"], "cell": timing.names[kind]}
    _buffer(netlist, net, sinks, role, "buf", unit)


def buffer_slow_nets(timing: Timing, limit: int) -> int:
    """Put at most `limit` buffers on violating nets where that gains time; returns how many.

    Either all readers go behind the buffer (a weak cell with a large load), or only those with
    time to spare (an urgent reader freed of the others). `timing` is stale afterwards.
    """
    role = timing.platform.cells["buffer"]
    period = timing.constraints.period_ns
    capacitance = timing.pin_capacitance.max(axis=1)
    slack = timing.slack()
    slopes = timing.slopes().reshape(-1, 2).max(axis=1)
    # Slack behind each cell: of the nets that it drives and of the data that it takes.
    after = timing.slack_behind()
    cell_ends = timing.end_instance >= 0
    np.minimum.at(after, timing.end_instance[cell_ends], slack[timing.end_net[cell_ends]])
    scored: list[tuple[float, int, int, np.ndarray]] = []
    for net in np.flatnonzero(slack < min(0.3 * float(slack.min()), -1e-4)).tolist():
        rows = timing.sinks(net)
        if timing.on_clock[net] or len(rows) < 2 or slopes[net] <= 0:
            continue
        readers = timing.sink_instance[rows]
        caps = capacitance[timing.first_pin[timing.kind[readers]] + timing.sink_pin[rows]]
        spare = after[readers] - slack[net]
        best = (0.0, net, -1, rows[:0])
        for name in timing.alternatives[role["cell"]]:
            option = timing.number[name]
            tables = np.array(timing.cell_tables[option].delay)
            own = capacitance[
                timing.first_pin[option] + timing.pin_order[name].index(role["input"])
            ]
            slew = np.full(len(tables), timing.slew[net].min())
            for behind in (np.ones(len(rows), bool), spare > 0.02 * period):
                if not behind.any():
                    continue
                load = np.full(len(tables), float(caps[behind].sum()))
                delay = float(timing.tables(tables, slew, load).max())
                gain = faster = slopes[net] * (load[0] - own)
                if behind.all():
                    gain -= delay
                else:
                    gain = min(faster, float(spare[behind].min()) - delay + faster)
                gain = float(gain - 1e-4 * timing.area[option])
                if gain > best[0]:
                    best = (gain, net, option, rows[behind])
        if best[0] > 0.004 * period:
            scored.append(best)
    scored.sort(key=lambda item: -item[0])
    blocked: set[int] = set()
    added = 0
    for _, net, option, moved in scored[:limit]:
        driver = int(timing.driver[net])
        if driver not in blocked:
            blocked |= {driver, *timing.sink_instance[moved].tolist()}
            buffer_net(timing, net, option, moved)
            added += 1
    return added
