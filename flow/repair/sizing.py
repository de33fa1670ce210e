"""Sizes of cells: enlarge where a limit is broken or time is short, shrink where there is room.

Each pass changes many cells at once, asks the timing again, and keeps the batch only when that was
better; else it takes it back and tries a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flow.timing.analysis import Timing
from flow.timing.what_if import Sizes

__all__ = ["Sizer"]


class Sizer:
    """Chooses among the sizes of each cell of a netlist; `timing` has the result.

    Its `kind` is changed. `speed_up` and `slim_down` find it, and leave it, up to date.
    """

    def __init__(self, timing: Timing):
        self.timing = timing
        self._sizes = Sizes(timing)
        # Cells of the clock network are sized by load alone.
        self._fixed = np.zeros(len(timing.kind), bool)
        self._fixed[list(timing.clock_cells)] = True

    def electrical(self) -> list[tuple[int, int]]:
        """Enlarge cells that drive more load, or make slower edges, than the library allows.

        Returned are nets that cost less with a buffer in front of all readers, and its cell number.
        """
        timing = self.timing
        role = timing.platform.cells["buffer"]
        buffers = []
        for name in timing.alternatives[role["cell"]]:
            kind, out = timing.number[name], timing.pin_order[name].index(role["output"])
            buffers.append((timing.area[kind], kind, out, True))
        wanted: dict[int, int] = {}
        for _ in range(4):
            timing.update()
            before = timing.kind.copy()
            for row in self._violations():
                net, instance = int(timing.out_net[row]), timing.out_instance[row]
                if net in wanted:
                    continue
                now, pin = timing.kind[instance], int(timing.out_pin[row])
                sizes = self._sizes.options[now]
                growth = timing.area[sizes] - timing.area[now]
                ways = [
                    (*way, pin, False) for way in zip(growth, sizes, strict=True) if way[1] >= 0
                ]
                if not timing.on_clock[net]:
                    ways += buffers
                for cost, kind, out, is_buffer in sorted(ways, key=lambda way: way[0]):
                    if cost > 0 and timing.can_drive(kind, out, net):
                        if is_buffer:
                            wanted[net] = kind
                        else:
                            timing.kind[instance] = kind
                        break
            if (timing.kind == before).all():
                break
        return list(wanted.items())

    def _violations(self) -> np.ndarray:
        """Rows of the output pins that break a limit on load or slew."""
        return np.flatnonzero(np.logical_or(*self.timing.over_limits(1e-4)))

    def _change(
        self,
        chosen: np.ndarray,
        value: np.ndarray,
        score: np.ndarray,
        allowed: np.ndarray,
        share: float,
        good: Callable[[], bool],
    ) -> bool | None:
        """Give instances the sizes of most value, where allowed, those of the best score first.

        Arrays are by instance and option. Changed is a `share` of those that neither drive nor read
        each other. Returns whether that was `good`, else it was taken back; None when there was
        nothing to change.
        """
        timing = self.timing
        option = value.argmax(axis=1)
        rows = np.flatnonzero(allowed[np.arange(len(chosen)), option])
        if not len(rows):
            return None
        rows = rows[np.argsort(-score[rows, option[rows]])]
        rows = rows[timing.apart(chosen[rows])]
        rows = rows[: max(1, int(len(rows) * share))]
        before = timing.kind.copy()
        timing.kind[chosen[rows]] = self._sizes.options[before[chosen[rows]], option[rows]]
        timing.update()
        if good():
            return True
        timing.kind = before
        timing.update()
        return False

    def speed_up(self, rounds: int) -> None:
        """Resize cells on violating paths."""
        timing = self.timing
        worst, total = timing.negative_slack()
        best = (worst, timing.kind.copy())
        failures, share = 0, 0.6
        while worst < -1e-4 and rounds and failures < 6:
            rounds -= 1
            urgent = timing.slack_behind() < worst * (0.3 if failures < 2 else 0.8)
            chosen = np.flatnonzero(urgent & ~self._fixed)
            if not len(chosen):
                break
            present, future, kinds = self._sizes.slacks(chosen)
            now = timing.kind[chosen][:, None]
            growth = np.maximum(timing.area[np.maximum(kinds, 0)] - timing.area[now], 0)
            gain = np.where(kinds == now, -np.inf, future - present[:, None])

            def good(worst: float = worst, total: float = total) -> bool:
                after, sum_after = timing.negative_slack()
                return after > worst + 1e-5 or (sum_after > total * 0.99 and after > worst * 1.3)

            # A picosecond is worth some area, but not any.
            value, score = gain - 1e-4 * growth, gain / (1.0 + growth)
            moved = self._change(chosen, value, score, gain > 2e-4, share, good)
            if moved is None:
                break
            if moved:
                failures, share = 0, min(0.8, share * 1.2)
                worst, total = timing.negative_slack()
                if worst > best[0]:
                    best = (worst, timing.kind.copy())
            else:
                failures, share = failures + 1, share * 0.5
        if best[0] > worst:
            timing.kind = best[1]
            timing.update()

    def slim_down(self, rounds: int) -> None:
        """Make cells smaller where the slack allows it."""
        timing = self.timing
        floor, _ = timing.negative_slack()
        broken = len(self._violations())
        # Most load, fF, that every output of a cell may drive.
        limit = np.minimum.reduceat(timing.pin_limit, timing.first_pin)

        def good() -> bool:
            return timing.negative_slack()[0] >= floor - 1e-4 and len(self._violations()) <= broken

        share = 0.5
        for _ in range(rounds):
            smallest = self._sizes.options[timing.kind, 0]
            shrinks = (smallest >= 0) & (timing.area[smallest] < timing.area[timing.kind])
            chosen = np.flatnonzero(shrinks & ~self._fixed)
            if not len(chosen):
                break
            present, future, kinds = self._sizes.slacks(chosen)
            saving = timing.area[timing.kind[chosen]][:, None] - timing.area[np.maximum(kinds, 0)]
            # Loads beyond the limit of the smaller cell rule it out.
            need = np.zeros(len(timing.kind))
            np.maximum.at(need, timing.out_instance, timing.load[timing.out_net].max(axis=1))
            fits = need[chosen][:, None] <= limit[np.maximum(kinds, 0)]
            room = np.maximum(present - floor, 0.0) * 0.4
            # Cells that no check sees have infinite slack, before and after: they keep their size.
            with np.errstate(invalid="ignore"):
                quick = present[:, None] - future <= room[:, None]
            allowed = (saving > 1e-9) & fits & quick & (kinds >= 0)
            value = np.where(allowed, saving, -np.inf)
            moved = self._change(chosen, value, value, allowed, share, good)
            if moved is None:
                break
            share = min(1.0, share * 1.5) if moved else share * 0.3
            if share < 0.02:
                break
