"""Timing tables of cells in arrays: many look-ups at once, and which tables belong to which arc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.cells.library import Arc, Cell, Table

__all__ = ["FALL", "RISE", "CellTables", "TableStack", "cell_tables"]

RISE, FALL = 0, 1
_EDGES = ("rise", "fall")


class TableStack:
    """All tables of a library in padded arrays, for look-ups of many points at once."""

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        self._tables: list[Table] = []

    def add(self, table: Table) -> int:
        if id(table) not in self._index:
            self._index[id(table)] = len(self._tables)
            self._tables.append(table)
        return self._index[id(table)]

    def freeze(self) -> None:
        tables = self._tables or [Table([0.0], [0.0], [[0.0]])]
        rows = max(2, *(len(table.slews) for table in tables))
        columns = max(2, *(len(table.loads) for table in tables))
        count = len(tables)
        self.slews = np.zeros((count, rows))
        self.loads = np.zeros((count, columns))
        self.values = np.zeros((count, rows, columns))
        self.last = np.zeros((count, 2), int)
        for number, table in enumerate(tables):
            slews, loads = table.slews, table.loads
            values = np.asarray(table.values)
            # An axis with one point becomes a flat one with two.
            if len(slews) == 1:
                slews, values = [0.0, 1.0], np.repeat(values, 2, axis=0)
            if len(loads) == 1:
                loads, values = [0.0, 1.0], np.repeat(values, 2, axis=1)
            self.slews[number] = np.inf
            self.loads[number] = np.inf
            self.slews[number, : len(slews)] = slews
            self.loads[number, : len(loads)] = loads
            self.values[number, : len(slews), : len(loads)] = values
            self.last[number] = len(slews) - 2, len(loads) - 2

    def __call__(self, table: np.ndarray, slew: np.ndarray, load: np.ndarray) -> np.ndarray:
        """Values at (slew, load); the outermost segments are extended."""
        slews, loads = self.slews[table], self.loads[table]
        last = self.last[table]
        row = np.minimum(np.maximum((slews < slew[:, None]).sum(1) - 1, 0), last[:, 0])
        column = np.minimum(np.maximum((loads < load[:, None]).sum(1) - 1, 0), last[:, 1])
        at = np.arange(len(table))
        low, high = slews[at, row], slews[at, row + 1]
        down = (slew - low) / (high - low)
        low, high = loads[at, column], loads[at, column + 1]
        right = (load - low) / (high - low)
        values = self.values
        top = values[table, row, column] * (1 - right) + values[table, row, column + 1] * right
        row = row + 1
        bottom = values[table, row, column] * (1 - right) + values[table, row, column + 1] * right
        return top * (1 - down) + bottom * down


def _edge_pairs(arc: Arc) -> list[tuple[int, int]]:
    """(input edge, output edge) pairs of an arc."""
    if arc.kind.startswith("rising_edge"):
        pairs = [(RISE, RISE), (RISE, FALL)]
    elif arc.kind.startswith("falling_edge"):
        pairs = [(FALL, RISE), (FALL, FALL)]
    elif arc.sense == "positive":
        pairs = [(RISE, RISE), (FALL, FALL)]
    elif arc.sense == "negative":
        pairs = [(FALL, RISE), (RISE, FALL)]
    else:
        pairs = [(RISE, RISE), (FALL, FALL), (FALL, RISE), (RISE, FALL)]
    return [(i, o) for i, o in pairs if f"cell_{_EDGES[o]}" in arc.tables]


@dataclass
class CellTables:
    """Timing of one cell in the arrays of `TableStack`."""

    #: One per edge-to-edge delay; `launches` when the input is a clock or latch enable.
    keys: list[tuple[str, int, str, int, bool]]
    #: Their tables.
    delay: list[int]
    slew: list[int]
    setup: dict[tuple[str, int], int]  #: Constraint tables (data slew, clock slew).
    clock_pins: frozenset[str]  #: Clock or enable pins.


def cell_tables(cell: Cell, tables: TableStack) -> CellTables:
    """Timing of a cell; its tables are added to `tables`."""
    clocks = cell.clock_pins
    found: dict[tuple[str, int, str, int, bool], tuple[int, int]] = {}
    setup: dict[tuple[str, int], int] = {}
    sizes: dict[tuple, float] = {}
    for pin in cell.pins.values():
        for arc in pin.arcs:
            if pin.direction == "input" and arc.kind.startswith(("setup_", "nochange")):
                for edge, name in enumerate(_EDGES):
                    table = arc.tables.get(f"{name}_constraint")
                    if table is not None:
                        setup.setdefault((pin.name, edge), tables.add(table))
            if pin.direction != "output" or arc.kind in (
                "clear",
                "preset",
                "three_state_enable",
                "three_state_disable",
            ):
                continue
            launches = arc.related in clocks
            for edge_in, edge_out in _edge_pairs(arc):
                name = _EDGES[edge_out]
                delay = arc.tables[f"cell_{name}"]
                slew = arc.tables.get(f"{name}_transition")
                if slew is None:
                    continue
                key = (pin.name, edge_out, arc.related, edge_in, launches)
                size = float(np.mean(delay.values))
                if size > sizes.get(key, -np.inf):
                    sizes[key] = size
                    found[key] = (tables.add(delay), tables.add(slew))
    keys = sorted(found)
    return CellTables(
        keys=keys,
        delay=[found[key][0] for key in keys],
        slew=[found[key][1] for key in keys],
        setup=setup,
        clock_pins=clocks,
    )
