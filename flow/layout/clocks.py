"""The clock's network in a layout: limits of its buffers, and gates that need none."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict

from flow.cells.families import sizes
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.netlist.netlist import Netlist
from flow.timing.graph import Graph

__all__ = ["clock_gates", "clock_limits", "drive_gated_clocks", "is_clock_buffer"]


def clock_limits(library: Library, platform: Platform) -> list[float]:
    """Longest slew and largest load of clock buffers, for a library without a limit of slews.

    Returns
    -------
    list of float
        s and F: where the tables end, or the limit of the load. Empty when slews have a limit.
    """
    role = platform.cells.get("clock_buffer", platform.cells["buffer"])
    pins = library.cells[role["cell"]].pins
    output = pins[role["output"]]
    if output.max_slew or pins[role["input"]].max_slew:
        return []
    tables = [table for arc in output.arcs for table in arc.tables.values()]
    slew = max(table.slews[-1] for table in tables)
    load = output.max_capacitance or max(table.loads[-1] for table in tables)
    return [slew * 1e-9, load * 1e-15]


def clock_gates(graph: Graph) -> list[str]:
    """Return the instances in the clock's network that are neither buffers nor inverters.

    Of a clock gate that a library has as a latch and a gate, that gate.
    """
    instances = (graph.netlist.instances[index] for index in graph.clock_cells)
    return sorted(i.name for i in instances if len(graph.library.cells[i.cell].inputs) > 1)


def is_clock_buffer(name: str, platform: Platform) -> bool:
    """Whether a cell is of the family of the platform's clock buffer."""
    own = platform.cells.get("clock_buffer", {}).get("cell", "")
    family = re.sub(r"\d+$", "", own)
    return bool(family) and re.sub(r"\d+$", "", name) == family


# A gated clock of some twenty sinks or more: its wires have at most twice its pins' capacitance.
_LOAD_BY_PINS = 3


def drive_gated_clocks(netlist: Netlist, library: Library, platform: Platform) -> list[str]:
    """Enlarge clock gates so that they may drive small nets without clock buffers.

    A net is small with at most `Platform.max_fanout` sinks.

    Parameters
    ----------
    netlist : Netlist
        Without clock buffers; its clock gates are changed.

    Returns
    -------
    list of str
        The small nets.
    """
    sinks: Counter[int] = Counter()
    load: dict[int, float] = defaultdict(float)
    for instance in netlist.instances:
        cell = library.cells[instance.cell]
        for pin in cell.inputs:
            if pin in instance.pins:
                sinks[instance.pins[pin]] += 1
                load[instance.pins[pin]] += max(cell.pins[pin].capacitance)
    alternatives = sizes(library, platform)
    driven = []
    for instance in netlist.instances:
        cell = library.cells[instance.cell]
        if cell.kind != "clock_gate":
            continue
        (output,) = cell.outputs
        net = instance.pins[output]
        if not 0 < sinks[net] <= platform.max_fanout:
            continue
        driven.append(netlist.net_label(net))
        larger = alternatives[instance.cell]
        larger = larger[larger.index(instance.cell) :] if instance.cell in larger else []
        for name in larger:
            instance.cell = name
            limit = library.cells[name].pins[output].max_capacitance or math.inf
            if _LOAD_BY_PINS * load[net] <= limit:
                break
    return sorted(driven)
