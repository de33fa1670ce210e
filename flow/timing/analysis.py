"""Static timing of a flat netlist, vectorised: the inner loop of buffering and sizing.

It computes what OpenSTA computes for an ideal clock and no wires (delays and slews from the
library's tables, the worst arrival and slew at every net and edge), fast enough to be asked after
every change. Reported numbers come from OpenSTA where there is one; `tests/flow` compares the two.
The conventions are in `flow.timing.constraints`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flow.timing.graph import Graph
from flow.timing.tables import FALL, RISE

__all__ = ["Delays", "Timing"]


@dataclass(frozen=True)
class Delays:
    """Every delay through a cell as last updated: of the arcs, then of the launches."""

    #: Shape (n,), int: node behind the cell, the cell, and the arc's number within it.
    out: np.ndarray
    instance: np.ndarray
    local: np.ndarray
    through: np.ndarray  #: Shape (n,), bool: true for an arc between data pins, False for a launch.
    #: Shape (n,): arrival and slew in front of the cell and the delay, ns.
    start: np.ndarray
    slew: np.ndarray
    delay: np.ndarray


class Timing(Graph):
    """Arrivals, slews, loads and slacks of a netlist, for the present cells.

    Attributes
    ----------
    load : ndarray of shape (n_nets, 2)
        fF, by edge (rise, fall).
    arrival, slew, required : ndarray of shape (n_nets, 2)
        ns, by edge (rise, fall); -inf where nothing arrives, +inf where nothing is due.
    delay : ndarray of shape (n_arcs,)
        ns.
    end_due : ndarray of shape (n_ends,)
        When data is due at each endpoint, ns.
    """

    def loads(self) -> None:
        """Recompute the load of every net from the present cells."""
        pins = self.first_pin[self.kind[self.sink_instance]] + self.sink_pin
        count = len(self.port_load)
        self.load = np.empty((count, 2))
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
        arcs = self.first_arc[self.kind[self.launch_instance]] + self.launch_local
        load = self.load.reshape(-1)[self.launch_out]
        zero = np.zeros(len(arcs))
        self.launch_delay = self.tables(self.arc_delay[arcs], zero, load)
        self.launch_start = self.launch_low * (constraints.period_ns / 2)
        np.maximum.at(arrival, self.launch_out, self.launch_start + self.launch_delay)
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

    def slack_behind(self) -> np.ndarray:
        """Worst slack of the nets that each instance drives, ns; inf where it drives none."""
        behind = np.full(len(self.kind), np.inf)
        np.minimum.at(behind, self.out_instance, self.slack()[self.out_net])
        return behind

    def over_limits(self, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Output pins (rows of `out_net`) with too much load, and data pins with too slow edges.

        Beyond the library's limit by more than `tolerance`, a share of it.
        """
        at = self.first_pin[self.kind[self.out_instance]] + self.out_pin
        load, slew = (value[self.out_net].max(axis=1) for value in (self.load, self.slew))
        slow = slew > self.slew_limit[at] * (1 + tolerance)
        return load > self.pin_limit[at] * (1 + tolerance), slow & ~self.on_clock[self.out_net]

    def can_drive(self, kind: int, pin: int, net: int) -> bool:
        """Whether a cell could drive a net within its limits, with a typical input slew."""
        load = self.load[net]
        at = self.first_pin[kind] + pin
        if load.max() > self.pin_limit[at]:
            return False
        cell = self.cell_tables[kind]
        output = self.pin_order[self.names[kind]][pin]
        rows = [row for row, key in enumerate(cell.keys) if key[0] == output]
        if self.on_clock[net] or not rows:
            return True
        slew = np.full(len(rows), 0.3 * min(self.slew_limit[at], 10.0))
        loads = np.array([load[cell.keys[row][1]] for row in rows])
        made = self.tables(np.array([cell.slew[row] for row in rows]), slew, loads)
        return bool(made.max() <= self.slew_limit[at])

    def end_slack(self) -> np.ndarray:
        """Slack at every endpoint, ns; +inf where nothing arrives."""
        return self.end_due - self.arrival.reshape(-1)[self.end_net * 2 + self.end_edge]

    def worst_slack(self) -> float:
        slack = self.end_slack()
        return float(slack.min()) if len(slack) else float("inf")

    def negative_slack(self) -> tuple[float, float]:
        """Worst slack and sum of negative slacks, ns; 0 where nothing is violated."""
        slack = self.end_slack()
        negative = np.minimum(slack[np.isfinite(slack)], 0.0)
        return float(negative.min(initial=0.0)), float(negative.sum())

    def delays(self) -> Delays:
        """Every delay through a cell, as of the last `update`."""
        return Delays(
            np.r_[self.arc_out, self.launch_out],
            np.r_[self.arc_instance, self.launch_instance],
            np.r_[self.arc_local, self.launch_local],
            np.r_[np.ones(len(self.arc_out), bool), np.zeros(len(self.launch_out), bool)],
            np.r_[self.arrival.reshape(-1)[self.arc_in], self.launch_start],
            np.r_[self.slew.reshape(-1)[self.arc_in], np.zeros(len(self.launch_out))],
            np.r_[self.delay, self.launch_delay],
        )

    def slopes(self) -> np.ndarray:
        """How much each node's driver slows down with load, ns per fF; shape (2 * n_nets,)."""
        every = self.delays()
        tables = self.arc_delay[self.first_arc[self.kind[every.instance]] + every.local]
        load = self.load.reshape(-1)[every.out]
        step = np.maximum(1.0, 0.1 * load)
        more = self.tables(tables, every.slew, load + step)
        slopes = np.zeros(self.arrival.size)
        np.maximum.at(slopes, every.out, (more - self.tables(tables, every.slew, load)) / step)
        return slopes

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
