"""Sizes of cells: enlarge where a limit is broken or time is short, shrink where there is room.

Each pass changes many cells at once, asks the timing again, and keeps the batch only when that was
better; else it takes it back and tries a smaller one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

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
                sizes = (size for size in self._options[now] if size >= 0)
                growth = ((timing.area[size] - timing.area[now], size) for size in sizes)
                cost, larger = next(
                    (one for one in growth if one[0] > 0 and self._allowed(one[1], pin, net)),
                    (np.inf, -1),
                )
                fits = (cell for cell, out in buffers if self._allowed(cell, out, net))
                buffer = None if timing.on_clock[net] else next(fits, None)
                if buffer is not None and timing.area[buffer] < cost:
                    wanted[net] = buffer
                elif larger >= 0:
                    timing.kind[instance] = larger
                    moved += 1
            enlarged += moved
            if not moved:
                break
        return enlarged, list(wanted.items())

    def _violations(self) -> np.ndarray:
        """Rows of the output pins that break a limit on load or slew."""
        return np.flatnonzero(np.logical_or(*self.timing.over_limits(1e-4)))

    def _allowed(self, kind: int, pin: int, net: int) -> bool:
        """Whether a cell could drive a net within its limits, with a typical input slew."""
        timing = self.timing
        load = timing.load[net]
        at = timing.first_pin[kind] + pin
        if load.max() > timing.pin_limit[at]:
            return False
        if timing.on_clock[net]:
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

    def _change(
        self,
        chosen: np.ndarray,
        kinds: np.ndarray,
        value: np.ndarray,
        score: np.ndarray,
        allowed: np.ndarray,
        share: float,
        good: Callable[[], bool],
    ) -> int | None:
        """Give instances the sizes of most value, where allowed, those of the best score first.

        Arrays are by instance and option. Changed is a `share` of those that neither drive nor read
        each other; returned is how many: 0 when it was taken back as not `good`, None when there
        was nothing to change.
        """
        timing = self.timing
        every = np.arange(len(chosen))
        option = value.argmax(axis=1)
        rows = np.flatnonzero(allowed[every, option])
        if not len(rows):
            return None
        rows = self._apart(chosen, rows[np.argsort(-score[rows, option[rows]])])
        rows = rows[: max(1, int(len(rows) * share))]
        before = timing.kind.copy()
        timing.kind[chosen[rows]] = kinds[rows, option[rows]]
        timing.update()
        if good():
            return len(rows)
        timing.kind = before
        timing.update()
        return 0

    def speed_up(self, rounds: int) -> int:
        """Resize cells on violating paths; returns how many were changed."""
        timing = self.timing
        timing.update()
        worst, total = self._objective()
        best = (worst, timing.kind.copy(), 0)
        changed = failures = 0
        share = 0.6
        while worst < -1e-4 and rounds and failures < 6:
            rounds -= 1
            urgent = timing.slack_behind() < worst * (0.3 if failures < 2 else 0.8)
            chosen = np.flatnonzero(urgent & ~self._fixed)
            if not len(chosen):
                break
            present, future, kinds = self._gains(chosen)
            now = timing.kind[chosen][:, None]
            growth = np.maximum(timing.area[np.maximum(kinds, 0)] - timing.area[now], 0)
            gain = np.where(kinds == now, -np.inf, future - present[:, None])

            def good(worst: float = worst, total: float = total) -> bool:
                after, sum_after = self._objective()
                return after > worst + 1e-5 or (sum_after > total * 0.99 and after > worst * 1.3)

            # A picosecond is worth some area, but not any.
            value, score = gain - 1e-4 * growth, gain / (1.0 + growth)
            moved = self._change(chosen, kinds, value, score, gain > 2e-4, share, good)
            if moved is None:
                break
            if moved:
                changed += moved
                failures = 0
                share = min(0.8, share * 1.2)
                worst, total = self._objective()
                log.debug("sizing: worst %.4f total %.3f cells %d", worst, total, moved)
                if worst > best[0]:
                    best = (worst, timing.kind.copy(), changed)
            else:
                failures += 1
                share *= 0.5
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

        def good() -> bool:
            return self._objective()[0] >= floor - 1e-4 and len(self._violations()) <= broken

        changed = 0
        share = 0.5
        for _ in range(rounds):
            smallest = self._options[timing.kind, 0]
            shrinks = (smallest >= 0) & (timing.area[smallest] < timing.area[timing.kind])
            chosen = np.flatnonzero(shrinks & ~self._fixed)
            if not len(chosen):
                break
            present, future, kinds = self._gains(chosen)
            saving = timing.area[timing.kind[chosen]][:, None] - timing.area[np.maximum(kinds, 0)]
            # Loads beyond the limit of the smaller cell rule it out.
            need = np.zeros(len(timing.kind))
            np.maximum.at(need, timing.out_instance, timing.load[timing.out_net].max(axis=1))
            fits = need[chosen][:, None] <= limit[np.maximum(kinds, 0)]
            room = np.maximum(present - floor, 0.0) * 0.4
            quick = present[:, None] - future <= room[:, None]
            allowed = (saving > 1e-9) & fits & quick & (kinds >= 0)
            value = np.where(allowed, saving, -np.inf)
            moved = self._change(chosen, kinds, value, value, allowed, share, good)
            if moved is None:
                break
            changed += moved
            share = min(1.0, share * 1.5) if moved else share * 0.3
            if share < 0.02:
                break
        return changed
