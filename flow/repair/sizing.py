"""Sizes of cells: enlarge where a limit is broken or time is short, shrink where there is room.

Each pass changes many cells at once, asks the timing again, and keeps the batch only when that was
better; else it takes it back and tries a smaller one.
"""

from __future__ import annotations

import logging

import numpy as np

from flow.timing.analysis import Timing

__all__ = ["Sizer"]

log = logging.getLogger(__name__)


class Sizer:
    """Chooses among the sizes of each cell of a netlist; `timing` has the result.

    Parameters
    ----------
    timing : Timing
        Its `kind` is changed. `speed_up` and `slim_down` leave it up to date.
    """

    def __init__(self, timing: Timing):
        self.timing = timing
        width = max((len(options) for options in timing.alternatives.values()), default=1) or 1
        # By cell number: its sizes, smallest first, then -1.
        self._options = np.full((len(timing.names), width), -1)
        for name, others in timing.alternatives.items():
            row = [timing.number[other] for other in others]
            self._options[timing.number[name], : len(row)] = row
        # Cells of the clock network are sized by load alone.
        self._fixed = np.zeros(len(timing.kind), bool)
        self._fixed[list(timing.clock_cells)] = True

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
        buffers = [
            (timing.number[name], timing.pin_order[name].index(role["output"]))
            for name in timing.alternatives[role["cell"]]
        ]
        enlarged = 0
        wanted: dict[int, int] = {}
        for _ in range(4):
            timing.update()
            moved = 0
            for row in self._violations():
                instance, pin = int(timing.out_instance[row]), int(timing.out_pin[row])
                net = int(timing.out_net[row])
                if net in wanted:
                    continue
                now = timing.kind[instance]
                larger = next(
                    (
                        option
                        for option in self._options[now]
                        if option >= 0
                        and timing.area[option] > timing.area[now]
                        and self._allowed(option, pin, net)
                    ),
                    None,
                )
                cost = np.inf if larger is None else timing.area[larger] - timing.area[now]
                buffer = None
                if net not in timing.clock_nets:
                    fits = (option for option, out in buffers if self._allowed(option, out, net))
                    buffer = next(fits, None)
                if buffer is not None and timing.area[buffer] < cost:
                    wanted[net] = buffer
                elif larger is not None:
                    timing.kind[instance] = larger
                    moved += 1
            enlarged += moved
            if not moved:
                break
        return enlarged, list(wanted.items())

    def _violations(self) -> np.ndarray:
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

    def _gains(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        kinds = self._options[timing.kind[chosen]]
        penalty = self._penalty(chosen, place, kinds)
        every = timing.delays()
        pick = np.flatnonzero(place[every.instance] >= 0)
        rows, outs, local = place[every.instance[pick]], every.out[pick], every.local[pick]
        load, delay = timing.load.reshape(-1)[outs], every.delay[pick]
        slack = timing.required.reshape(-1)[outs] - every.start[pick] - delay
        slack[~np.isfinite(slack)] = np.inf
        present = np.full(len(chosen), np.inf)
        np.minimum.at(present, rows, slack)
        future = np.full(kinds.shape, np.inf)
        for column in range(kinds.shape[1]):
            option = kinds[rows, column]
            good = option >= 0
            table = timing.arc_delay[np.where(good, timing.first_arc[option] + local, 0)]
            other = timing.tables(table, every.slew[pick], load)
            after = np.where(good, slack + delay - other, -np.inf)
            after -= np.where(every.through[pick], penalty[rows, column], 0.0)
            np.minimum.at(future[:, column], rows, after)
        future[kinds < 0] = -np.inf
        return present, future, kinds

    def _penalty(self, chosen: np.ndarray, place: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """What each size's input capacitance costs on the worst of the cell's input nets, ns."""
        timing = self.timing
        penalty = np.zeros(kinds.shape)
        pick = np.flatnonzero(place[timing.sink_instance] >= 0)
        rows, nets, pins = (
            place[timing.sink_instance[pick]],
            timing.sink_net[pick],
            timing.sink_pin[pick],
        )
        slope = timing.slopes().reshape(-1, 2)[nets].max(axis=1)
        live = np.isfinite(timing.arrival[nets].max(axis=1))
        capacitance = timing.pin_capacitance.max(axis=1)
        now = capacitance[timing.first_pin[timing.kind[chosen[rows]]] + pins]
        for column in range(kinds.shape[1]):
            option = kinds[rows, column]
            extra = capacitance[timing.first_pin[np.maximum(option, 0)] + pins]
            cost = np.where(live & (option >= 0), slope * (extra - now), 0.0)
            worst = np.full(len(chosen), -np.inf)
            np.maximum.at(worst, rows, cost)
            penalty[:, column] = np.where(np.isfinite(worst), worst, 0.0)
        return penalty

    def _apart(self, chosen: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`rows` of `chosen`, best first, without cells that drive or read a better one."""
        timing = self.timing
        blocked = np.zeros(len(timing.kind), bool)
        kept = []
        for row in rows:
            index = int(chosen[row])
            if blocked[index]:
                continue
            kept.append(row)
            for net in timing.netlist.instances[index].pins.values():
                if net < 0:
                    continue
                driver = timing.driver[net]
                if driver == index:
                    blocked[timing.sink_instance[timing.sinks(net)]] = True
                elif driver >= 0:
                    blocked[driver] = True
        return np.array(kept, int)

    def _objective(self) -> tuple[float, float]:
        """Worst slack and sum of negative slacks, ns; 0 where nothing is violated."""
        slack = self.timing.end_slack()
        negative = np.minimum(slack[np.isfinite(slack)], 0.0)
        return float(negative.min(initial=0.0)), float(negative.sum())

    def speed_up(self, rounds: int) -> int:
        """Resize cells on violating paths; returns how many were changed."""
        timing = self.timing
        timing.update()
        worst, total = self._objective()
        best = (worst, timing.kind.copy(), 0)
        changed = 0
        share = 0.6
        failures = 0
        for _ in range(rounds):
            if worst >= -1e-4:
                break
            critical = np.full(len(timing.kind), np.inf)
            np.minimum.at(critical, timing.out_instance, timing.slack()[timing.out_net])
            urgent = critical < worst * (0.3 if failures < 2 else 0.8)
            chosen = np.flatnonzero(urgent & ~self._fixed)
            if not len(chosen):
                break
            present, future, kinds = self._gains(chosen)
            growth = timing.area[np.maximum(kinds, 0)] - timing.area[timing.kind[chosen]][:, None]
            growth = np.maximum(growth, 0)
            gain = future - present[:, None]
            gain[kinds == timing.kind[chosen][:, None]] = -np.inf
            # A picosecond is worth some area, but not any.
            option = (gain - 1e-4 * growth).argmax(axis=1)
            every = np.arange(len(chosen))
            rows = every[gain[every, option] > 2e-4]
            if not len(rows):
                break
            score = gain[rows, option[rows]] / (1.0 + growth[rows, option[rows]])
            rows = self._apart(chosen, rows[np.argsort(-score)])
            rows = rows[: max(1, int(len(rows) * share))]
            before = timing.kind.copy()
            timing.kind[chosen[rows]] = kinds[rows, option[rows]]
            timing.update()
            now_worst, now_total = self._objective()
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

    def slim_down(self, rounds: int) -> int:
        """Make cells smaller where the slack allows it; returns how many were changed."""
        timing = self.timing
        timing.update()
        floor, _ = self._objective()
        broken = len(self._violations())
        # Most load, fF, that every output of a cell may drive.
        cells = [timing.library.cells[name] for name in timing.names]
        limit = np.array(
            [min((cell.pins[p].max_capacitance or np.inf for p in cell.outputs), default=np.inf)
             for cell in cells]
        )  # fmt: skip
        changed = 0
        share = 0.5
        for _ in range(rounds):
            smallest = self._options[timing.kind, 0]
            chosen = np.flatnonzero(
                (smallest >= 0) & (timing.area[smallest] < timing.area[timing.kind]) & ~self._fixed
            )
            if not len(chosen):
                break
            present, future, kinds = self._gains(chosen)
            saving = timing.area[timing.kind[chosen]][:, None] - timing.area[np.maximum(kinds, 0)]
            # Loads beyond the limit of the smaller cell rule it out.
            need = np.zeros(len(timing.kind))
            np.maximum.at(need, timing.out_instance, timing.load[timing.out_net].max(axis=1))
            fits = need[chosen][:, None] <= limit[np.maximum(kinds, 0)]
            loss = present[:, None] - future
            room = np.maximum(present - floor, 0.0) * 0.4
            allowed = (saving > 1e-9) & fits & (loss <= room[:, None]) & (kinds >= 0)
            value = np.where(allowed, saving, -np.inf)
            best = value.argmax(axis=1)
            rows = np.flatnonzero(allowed.any(axis=1))
            if not len(rows):
                break
            rows = self._apart(chosen, rows[np.argsort(-value[rows, best[rows]])])
            rows = rows[: max(1, int(len(rows) * share))]
            before = timing.kind.copy()
            timing.kind[chosen[rows]] = kinds[rows, best[rows]]
            timing.update()
            now, _ = self._objective()
            if now >= floor - 1e-4 and len(self._violations()) <= broken:
                changed += len(rows)
                share = min(1.0, share * 1.5)
            else:
                timing.kind = before
                timing.update()
                share *= 0.3
                if share < 0.02:
                    break
        return changed
