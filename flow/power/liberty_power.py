"""Power of a netlist from measured activity.

The sum that OpenSTA 3 makes, from the same tables, slews and loads: energy per transition of
every pin (weighted over the inputs that may have caused it), half C V^2 per transition of every
net, and leakage by the share of time in each state. It is made here because the versions differ:
the 2019 one that Debian ships adds the energy of the rising and of the falling edge for each
transition, counts gated clocks as running, and overwrites annotated activity while propagating it.
With a newer one, `flow.timing` has OpenSTA do the sum; `tests/flow` compares the two. They agree to
four digits on NanGate45, SKY130HD and OSU018. On ASAP7 OpenSTA 3.1 finds twice the internal power,
because it also adds the tables that the library relates to the ground pin (`Library.ground_power`:
there this sum is taken with every version), and a tenth less leakage, because it lets states whose
condition names an output not add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.cells.boolean import Expression, parse
from flow.cells.library import Cell
from flow.netlist.netlist import HIGH
from flow.power.activity import Activity
from flow.timing.analysis import Timing
from flow.timing.tables import FALL, RISE, TableStack

__all__ = ["Power", "liberty_power"]


@dataclass(frozen=True)
class Power:
    """Power by instance, mW."""

    #: Shape (n_instances,).
    internal: np.ndarray
    switching: np.ndarray
    leakage: np.ndarray
    ports: float  #: Switching of nets that a port drives (inputs and the clock's root), mW.
    method: str  #: Who made the sum.

    @property
    def cells(self) -> np.ndarray:
        """All three, shape (3, n_instances)."""
        return np.array([self.internal, self.switching, self.leakage])

    @property
    def total(self) -> float:
        return float(self.internal.sum() + self.switching.sum() + self.leakage.sum() + self.ports)


def _minterms(duty: np.ndarray) -> np.ndarray:
    """Probability of every assignment of independent inputs.

    Parameters
    ----------
    duty : ndarray of shape (n_inputs, n)

    Returns
    -------
    ndarray of shape (2**n_inputs, n)
        Input i is bit i of the row number.
    """
    rows = np.ones((1, duty.shape[1]))
    for probability in duty:
        rows = np.concatenate([rows * (1 - probability), rows * probability])
    return rows


def _probability(expression: Expression, duties: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Probability that an expression is 1, shape (n,)."""
    inputs = expression.inputs
    if not inputs:
        return np.full(n, float(expression.table()[0]))
    duty = np.stack([duties.get(name, np.full(n, 0.5)) for name in inputs])
    return expression.table().astype(float) @ _minterms(duty)


def _sensitivity(
    expression: Expression, pin: str, duties: dict[str, np.ndarray], n: int
) -> np.ndarray:
    """Probability that the value depends on `pin`, shape (n,)."""
    others = tuple(name for name in expression.inputs if name != pin)
    table = expression.table((pin, *others))
    differs = table[0::2] ^ table[1::2]
    if not others:
        return np.full(n, float(differs[0]))
    duty = np.stack([duties.get(name, np.full(n, 0.5)) for name in others])
    return differs.astype(float) @ _minterms(duty)


class _Cells:
    """Energy tables of the cells in use, ready for many look-ups."""

    def __init__(self, cells: dict[str, Cell]):
        self.stack = TableStack()
        self.tables: dict[str, dict[str, list]] = {}
        for name, cell in cells.items():
            self.tables[name] = {
                pin.name: [
                    (arc, self.stack.add(arc.rise), self.stack.add(arc.fall)) for arc in pin.power
                ]
                for pin in cell.pins.values()
            }
        self.stack.freeze()

    def energy(self, table: int, slew: np.ndarray, load: np.ndarray) -> np.ndarray:
        return self.stack(np.full(len(slew), table), slew, load)


def _senses(cell: Cell, output: str, related: str) -> bool:
    """Whether a rising input makes the output rise, as OpenSTA assumes it."""
    for arc in cell.pins[output].arcs:
        if arc.related == related and not arc.kind.startswith(("setup", "hold")):
            return arc.sense != "negative"
    return True


def liberty_power(timing: Timing, activity: Activity, *, glitches: bool = True) -> Power:
    """Sum the power of a netlist.

    Parameters
    ----------
    timing : Timing
        Of the simulated netlist; gives loads and slews.
    activity : Activity
        By net number of the same netlist.
    glitches : bool
        Count every transition, or only those between settled values.
    """
    netlist, library = timing.netlist, timing.library
    period = timing.constraints.period_ns
    rate = activity.toggles if glitches else activity.settled
    n_nets = len(netlist.net_names)
    # One more for pins wired to a rail.
    density = np.r_[rate, 0.0] / period
    duty = np.r_[activity.duty, 0.0]
    slew = np.vstack([timing.slew, [[0.0, 0.0]]])
    load = np.r_[timing.load.max(axis=1), 0.0]
    slew[:n_nets][timing.on_clock] = 0.0
    cells = {name: library.cells[name] for name in netlist.cells()}
    tables = _Cells(cells)
    by_cell: dict[str, list[int]] = {}
    for index, instance in enumerate(netlist.instances):
        by_cell.setdefault(instance.cell, []).append(index)
    count = len(netlist.instances)
    internal, switching, leakage = np.zeros(count), np.zeros(count), np.zeros(count)
    half_cv2 = 0.5 * library.voltage**2

    for name, members in by_cell.items():
        cell = cells[name]
        here = np.array(members)
        n = len(here)
        nets, duties, connected = {}, {}, {}
        for pin in [*cell.inputs, *cell.outputs]:
            raw = np.array([netlist.instances[i].pins.get(pin, n_nets) for i in members])
            nets[pin] = np.where(raw < 0, n_nets, raw)
            duties[pin] = np.where(raw == HIGH, 1.0, duty[nets[pin]])
            connected[pin] = nets[pin] < n_nets
        if cell.state:
            # The state is what the outputs show.
            for pin in cell.outputs:
                text = cell.pins[pin].function.strip()
                if text == cell.state.get("iq"):
                    duties.setdefault(text, duties[pin])
        for pin in cell.inputs:
            for arc, rise, fall in tables.tables[name][pin]:
                at = slew[nets[pin]]
                zero = np.zeros(n)
                energy = 0.5 * (
                    tables.energy(rise, at[:, RISE], zero) + tables.energy(fall, at[:, FALL], zero)
                )
                share = np.ones(n)
                if arc.when:
                    share = _share(cell, arc.when, pin, duties, n)
                internal[here] += energy * share * density[nets[pin]]
        for pin in cell.outputs:
            net = nets[pin]
            switching[here] += half_cv2 * load[net] * density[net] * connected[pin]
            text = cell.pins[pin].function
            function = parse(text) if text else None
            weights = []
            for arc, _, _ in tables.tables[name][pin]:
                if not arc.related or arc.related not in nets:
                    weights.append(np.zeros(n))
                    continue
                if function is not None and arc.related in function.inputs:
                    share = _sensitivity(function, arc.related, duties, n)
                elif arc.when:
                    share = _probability(parse(arc.when), duties, n)
                else:
                    share = np.full(n, 0.5)
                weights.append(share * density[nets[arc.related]])
            if not weights:
                continue
            total = np.sum(weights, axis=0)
            safe = np.where(total > 0, total, 1.0)
            for (arc, rise, fall), weight in zip(tables.tables[name][pin], weights, strict=True):
                if not arc.related or arc.related not in nets:
                    continue
                at = slew[nets[arc.related]]
                up, down = (RISE, FALL) if _senses(cell, pin, arc.related) else (FALL, RISE)
                energy = 0.5 * (
                    tables.energy(rise, at[:, up], load[net])
                    + tables.energy(fall, at[:, down], load[net])
                )
                internal[here] += energy * weight / safe * density[net]
        leakage[here] = _leakage(cell, duties, n)
    driven = sorted(
        {
            net
            for port in netlist.ports
            if port.direction == "input"
            for net in port.nets
            if net >= 0
        }
    )
    ports = float((half_cv2 * load[driven] * density[driven]).sum()) * 1e-3
    # fJ per ns is uW; leakage is in nW.
    return Power(
        internal * 1e-3, switching * 1e-3, leakage * 1e-6, ports, "liberty tables (flow.power)"
    )


def _share(cell: Cell, when: str, pin: str, duties: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Share of an input's transitions that a condition applies to."""
    condition = parse(when)
    outputs = [name for name in condition.inputs if name in cell.outputs]
    if outputs:
        text = cell.pins[outputs[0]].function
        function = parse(text) if text else None
        if function is not None and pin in function.inputs:
            return _sensitivity(function, pin, duties, n)
    return _probability(condition, duties, n)


def _leakage(cell: Cell, duties: dict[str, np.ndarray], n: int) -> np.ndarray:
    """nW."""
    if not cell.leakages:
        return np.full(n, cell.leakage)
    total, seen = np.zeros(n), np.zeros(n)
    for when, value in cell.leakages:
        share = _probability(parse(when), duties, n)
        total += share * value
        if value > 0:
            seen += share
    return total + np.maximum(1.0 - seen, 0.0) * cell.leakage
