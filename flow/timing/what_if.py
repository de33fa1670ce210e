"""What other sizes of cells would do to the slack, from the timing of the present ones."""

from __future__ import annotations

import numpy as np

from flow.timing.analysis import Timing

__all__ = ["Sizes"]


class Sizes:
    """The sizes that each cell of a netlist may have.

    Attributes
    ----------
    options : ndarray of shape (n_kinds, n_options), int
        By cell number: the cell's sizes, smallest first, then -1.
    """

    def __init__(self, timing: Timing):
        self.timing = timing
        width = max((len(options) for options in timing.alternatives.values()), default=1) or 1
        self.options = np.full((len(timing.names), width), -1)
        for name, others in timing.alternatives.items():
            row = [timing.number[other] for other in others]
            self.options[timing.number[name], : len(row)] = row

    def slacks(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slack of the chosen instances, of shape (n,), with every size that they may have.

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
        kinds = self.options[timing.kind[chosen]]
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
        pick = np.flatnonzero(place[timing.sink_instance] >= 0)
        nets, pins = timing.sink_net[pick], timing.sink_pin[pick]
        rows = place[timing.sink_instance[pick]]
        slope = timing.slopes().reshape(-1, 2)[nets].max(axis=1)
        live = np.isfinite(timing.arrival[nets].max(axis=1))
        capacitance = timing.pin_capacitance.max(axis=1)
        now = capacitance[timing.first_pin[timing.kind[chosen[rows]]] + pins]
        penalty = np.full(kinds.shape, -np.inf)
        for column in range(kinds.shape[1]):
            option = kinds[rows, column]
            extra = capacitance[timing.first_pin[np.maximum(option, 0)] + pins]
            cost = np.where(live & (option >= 0), slope * (extra - now), 0.0)
            np.maximum.at(penalty[:, column], rows, cost)
        return np.where(np.isfinite(penalty), penalty, 0.0)
