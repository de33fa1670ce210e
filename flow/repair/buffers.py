"""Cells that a mapped netlist gets: tie cells, clock buffers, fan-out trees, buffers on paths.

Yosys and ABC see one module at a time and do not buffer nets that cross into others, so that a
select line with a thousand readers would look fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import HIGH, LOW, Instance, Netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints

__all__ = [
    "add_clock_tree",
    "add_fanout_trees",
    "add_tie_cells",
    "buffer_drivers",
    "buffer_slow_nets",
]

_Sink = tuple[Instance, str]


def add_tie_cells(netlist: Netlist, platform: Platform) -> int:
    """Connect constant pins to tie cells, one per unit and `max_fanout` pins."""
    before = len(netlist.instances)
    for rail, role in ((LOW, "tie_low"), (HIGH, "tie_high")):
        tie = platform.cells.get(role)
        if tie is None:
            continue

        def constant(unit: int, tie: Mapping[str, str] = tie, role: str = role) -> int:
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
    return len(netlist.instances) - before


def _buffer(
    netlist: Netlist,
    net: int,
    sinks: Sequence[_Sink],
    role: Mapping[str, str],
    tag: str,
    unit: int,
) -> Instance:
    """Put `sinks` behind a new buffer that reads `net`; `role` has its cell and pins."""
    name = f"{netlist.net_names[net]}_{tag}"
    output = netlist.add_net(name)
    buffer = netlist.add_instance(
        f"{name}_u", role["cell"], {role["input"]: net, role["output"]: output}, unit
    )
    for instance, pin in sinks:
        instance.pins[pin] = output
    return buffer


def _tree(
    netlist: Netlist,
    net: int,
    sinks: Sequence[_Sink],
    fanout: int,
    role: Mapping[str, str],
    tag: str,
) -> list[Instance]:
    """Put `sinks` behind buffers of at most `fanout` sinks each, level by level, up to `net`."""
    added: list[Instance] = []
    # Readers of one unit stay together.
    level = sorted(sinks, key=lambda sink: sink[0].unit)
    while len(level) > fanout:
        groups = -(-len(level) // fanout)
        size = -(-len(level) // groups)
        above: list[_Sink] = []
        for start in range(0, len(level), size):
            group = level[start : start + size]
            units = {instance.unit for instance, _ in group}
            unit = units.pop() if len(units) == 1 else 0
            above.append((_buffer(netlist, net, group, role, tag, unit), role["input"]))
        added += [buffer for buffer, _ in above]
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
    role = platform.cells.get("clock_buffer", platform.cells["buffer"])
    timing = Timing(netlist, library, platform, constraints)
    timing.loads()
    added: list[Instance] = []
    for net, readers in timing.readers(timing.clock_nets).items():
        if len(readers) <= platform.clock_fanout:
            continue
        if timing.driver[net] >= 0:
            gate = netlist.instances[timing.driver[net]]
            largest = library.cells[(timing.alternatives[gate.cell] or [gate.cell])[-1]]
            output = next(pin for pin, other in gate.pins.items() if other == net)
            limit = largest.pins[output].max_capacitance or np.inf
            if timing.load[net].max() <= 0.5 * limit:
                continue
        sinks = [(netlist.instances[index], pin) for index, pin in readers]
        added += _tree(netlist, net, sinks, platform.clock_fanout, role, "clock")
    return [instance.name for instance in added]


def add_fanout_trees(netlist: Netlist, platform: Platform, timing: Timing) -> int:
    """Buffer data nets with more sinks than `max_fanout`.

    The most critical sinks stay in front of the buffers when they are clearly more urgent.
    """
    added = 0
    # A sink's own slack: that of the worst net that it drives.
    urgency = timing.slack_behind()
    counts = np.bincount(timing.sink_net, minlength=len(timing.on_clock))
    counts[timing.on_clock] = 0
    busy = np.flatnonzero(counts > platform.max_fanout).tolist()
    for net, readers in timing.readers(busy).items():
        readers.sort(key=lambda reader: urgency[reader[0]])
        values = [urgency[index] for index, _ in readers]
        urgent = values[len(values) // 2] - 0.05 * timing.constraints.period_ns
        direct = sum(value < urgent for value in values[: platform.max_fanout // 4])
        rest = [(netlist.instances[index], pin) for index, pin in readers[direct:]]
        role = platform.cells["buffer"]
        added += len(_tree(netlist, net, rest, platform.max_fanout - direct, role, "fan"))
    return added


def buffer_drivers(netlist: Netlist, timing: Timing, wanted: Sequence[tuple[int, int]]) -> None:
    """Put one buffer between each net's driver and all its readers.

    Parameters
    ----------
    netlist : Netlist
    timing : Timing
        Of the netlist; stale afterwards.
    wanted : sequence of (net, cell number)
    """
    role = timing.platform.cells["buffer"]
    readers = timing.readers([net for net, _ in wanted])
    for net, option in wanted:
        sinks = [(netlist.instances[index], pin) for index, pin in readers[net]]
        driver = timing.driver[net]
        unit = netlist.instances[driver].unit if driver >= 0 else 0
        _buffer(netlist, net, sinks, {**role, "cell": timing.names[option]}, "buf", unit)


def buffer_slow_nets(netlist: Netlist, timing: Timing, limit: int) -> int:
    """Put buffers on violating nets where that gains time; `timing` is stale afterwards.

    Either all readers go behind the buffer (a weak cell with a large load), or only those with
    time to spare (an urgent reader freed of the others).

    Parameters
    ----------
    netlist : Netlist
    timing : Timing
    limit : int
        Most buffers to add.

    Returns
    -------
    int
        Buffers added.
    """
    role = timing.platform.cells["buffer"]
    period = timing.constraints.period_ns
    options = [timing.number[name] for name in timing.alternatives[role["cell"]]]
    slack = timing.slack()
    slopes = timing.slopes().reshape(-1, 2).max(axis=1)
    # Slack behind each cell: of the nets that it drives and of the data that it takes.
    after = timing.slack_behind()
    cell_ends = timing.end_instance >= 0
    np.minimum.at(after, timing.end_instance[cell_ends], slack[timing.end_net[cell_ends]])
    scored: list[tuple[float, int, int, np.ndarray]] = []
    for net in np.flatnonzero(slack < min(0.3 * float(slack.min()), -1e-4)).tolist():
        sinks = timing.sinks(net)
        if timing.on_clock[net] or len(sinks) < 2 or slopes[net] <= 0:
            continue
        kinds = timing.kind[timing.sink_instance[sinks]]
        caps = timing.pin_capacitance.max(axis=1)[timing.first_pin[kinds] + timing.sink_pin[sinks]]
        spare = after[timing.sink_instance[sinks]] - slack[net]
        best = (0.0, -1, sinks[:0])
        for option in options:
            cell = timing.cell_tables[option]
            place = timing.pin_order[timing.names[option]].index(role["input"])
            own = timing.pin_capacitance[timing.first_pin[option] + place].max()
            slew = np.full(len(cell.keys), timing.slew[net].min())
            for behind in (np.ones(len(sinks), bool), spare > 0.02 * period):
                if not behind.any():
                    continue
                load = np.full(len(cell.keys), float(caps[behind].sum()))
                delay = float(timing.tables(np.array(cell.delay), slew, load).max())
                faster = slopes[net] * (load[0] - own)
                if behind.all():
                    gain = faster - delay
                else:
                    gain = min(faster, float(spare[behind].min()) - delay + faster)
                gain -= 1e-4 * timing.area[option]
                if gain > best[0]:
                    best = (gain, option, sinks[behind])
        if best[0] > 0.004 * period:
            scored.append((float(best[0]), net, best[1], best[2]))
    scored.sort(key=lambda item: -item[0])
    blocked: set[int] = set()
    added = 0
    for _, net, option, moved in scored[:limit]:
        driver = int(timing.driver[net])
        if driver in blocked:
            continue
        readers = timing.sink_instance[moved].tolist()
        blocked |= {driver, *readers}
        moved_pins: list[_Sink] = []
        for index, pin in zip(readers, timing.sink_pin[moved], strict=True):
            instance = netlist.instances[index]
            moved_pins.append((instance, timing.pin_order[instance.cell][pin]))
        unit = netlist.instances[driver if driver >= 0 else readers[0]].unit
        _buffer(netlist, net, moved_pins, {**role, "cell": timing.names[option]}, "buf", unit)
        added += 1
    return added
