"""Maps a product of any size onto an accelerator: which tile is loaded when, and for which rows.

A `Schedule` is data: a list of steps, each of which loads a tile's program or sends rows to the
tile that is loaded. Its cycles are computed from the accelerator's numbers (`Machine`), and
running it, on the model or on the hardware, gives the results of the untiled product bit by bit.
Half floats, whose sums depend on the order, give the same bits on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut import golden
from halut.checks import integer_from, one_of
from halut.errors import HalutError
from halut.program import Program
from halut.tiles import Tiling, add_partial, tile

__all__ = ["ORDERS", "Machine", "Schedule", "Step", "schedule"]

ORDERS = ("auto", "tables", "rows")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a schedule has to know of an accelerator; `rtl_gen.machine` takes it from one.

    Attributes
    ----------
    n_codebooks, n_outputs, rows : int
        C, M and P of all units together.
    input_transfers, output_transfers : int
        Transfers of a row group.
    pipeline_cycles : int
        From a row group's last input transfer to its sums.
    output_cycles : int
        From its sums to its first output transfer.
    program_words : int
        Words of a whole program, one per cycle.
    banks : int
        Programs that are stored: 1, or 2, of which one is loaded while the other one computes.
    drains : bool
        What waits for the pipeline to be empty waits for the last output transfer too: a program
        has constants of the output stage.
    """

    n_codebooks: int
    n_outputs: int
    rows: int
    input_transfers: int
    output_transfers: int
    pipeline_cycles: int
    output_cycles: int
    program_words: int
    banks: int = 1
    drains: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "drains":
                integer_from(name, value, 0 if name == "output_cycles" else 1)
        if self.banks > 2:
            raise HalutError(f"banks must be 1 or 2, not {self.banks}")

    @property
    def interval_cycles(self) -> int:
        """Cycles between row groups when nothing stalls."""
        return max(self.input_transfers, self.output_transfers)


@dataclass(frozen=True)
class Step:
    """Load a tile, switch to it (with two banks), or send rows to it.

    Program words ("load" and "switch") move in the order of the steps, and so do rows. Rows wait
    for the last "load" or, with two banks, "switch" before them; that waits for all rows before it.

    Attributes
    ----------
    kind : {"load", "switch", "rows"}
    tile : int
        Index into `halut.tiles.Tiling.tiles`.
    first, last : int
        "rows": the rows from `first` to before `last`; zero otherwise.
    bank : int
        Where the tile's program is.
    """

    kind: str
    tile: int
    first: int = 0
    last: int = 0
    bank: int = 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps that compute a product; `schedule` makes it.

    Attributes
    ----------
    machine : Machine
    n_rows, n_codebooks, n_outputs : int
        N, C and M of the product.
    order : {"tables", "rows"}
    row_block : int
        Rows that are finished before the next ones are begun; N for "tables".
    steps : tuple of Step
    """

    machine: Machine
    n_rows: int
    n_codebooks: int
    n_outputs: int
    order: str
    row_block: int
    steps: tuple[Step, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along the codebooks and along the outputs."""
        return (
            -(-self.n_codebooks // self.machine.n_codebooks),
            -(-self.n_outputs // self.machine.n_outputs),
        )

    @property
    def n_loads(self) -> int:
        """Times that a program is loaded."""
        return sum(step.kind == "load" for step in self.steps)

    @property
    def load_cycles(self) -> int:
        """Cycles in which a program word moves."""
        return self.n_loads * self.machine.program_words

    @property
    def row_groups(self) -> int:
        """Row groups sent, of all tiles; the last of a block is filled up."""
        rows = self.machine.rows
        return sum(-(-(s.last - s.first) // rows) for s in self.steps if s.kind == "rows")

    @property
    def partial_sums(self) -> int:
        """Sums that are kept outside of the accelerator until their last codebooks are added."""
        if self.grid[0] == 1:
            return 0
        return self.row_block * min(self.machine.n_outputs, self.n_outputs)

    @property
    def utilisation(self) -> float:
        """Share of the look-ups at full rate, over all cycles, that the product needs."""
        m = self.machine
        useful = self.n_rows * self.n_codebooks * self.n_outputs
        return useful * m.interval_cycles / (self.cycles * m.rows * m.n_codebooks * m.n_outputs)

    @cached_property
    def cycles(self) -> int:
        """Clock cycles from the first program word to the last output transfer, both included.

        Nothing stalls, and every step is offered as soon as the one before has been taken.
        """
        m = self.machine
        empty = accepted = output_free = 0
        offered = begin = 0  # the cycles after the last program word, and after the rows' program
        for step in self.steps:
            if step.kind != "rows":
                # With two banks only switching waits for the rows before.
                start = offered if step.kind == "load" and m.banks == 2 else max(offered, empty)
                offered = start + (m.program_words if step.kind == "load" else 1)
                if step.kind == "switch" or m.banks == 1:
                    begin = offered
                continue
            groups = -(-(step.last - step.first) // m.rows)
            # A written word settles for a cycle.
            sums = begin + m.input_transfers + m.pipeline_cycles
            accepted = max(sums, output_free)
            empty = sums
            if groups > 1:
                empty = accepted + (groups - 2) * m.interval_cycles + m.input_transfers
                accepted += (groups - 1) * m.interval_cycles
            output_free = accepted + m.output_transfers
            if m.drains:
                empty = output_free + m.output_cycles
        return accepted + m.output_cycles + m.output_transfers

    def run(
        self,
        program: Program,
        A: ArrayLike,
        execute: Callable[[Program, NDArray[Any]], NDArray[Any]] = golden.results,
    ) -> NDArray[Any]:
        """Compute the product step by step.

        Parameters
        ----------
        program : Program
            The whole, with C and M of the schedule.
        A : array-like of shape (n_rows, n_features)
        execute : callable, default `halut.golden.results`
            Takes a tile's program and input words, returns its results.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs), dtype as `halut.tiles.Tiling.dtype`
            What `halut.golden.results` returns for the whole program; float32 sums are added up
            in the order of the steps.
        """
        tiling, rows = self.tiling(program), np.asarray(A)
        parts = []
        loaded = {0: -1, 1: -1}
        used = 0
        for step in self.steps:
            if step.kind == "load":
                loaded[step.bank] = step.tile
                continue
            if step.kind == "switch":
                used = step.bank
            if loaded[used] != step.tile:
                raise HalutError(
                    f"step must use tile {loaded[used]}, which is loaded, not {step.tile}"
                )
            if step.kind == "switch":
                continue
            part = tiling.tiles[step.tile]
            parts.append(execute(part, part.input_words(rows[step.first : step.last])))
        return self.join(tiling, parts)

    def tiling(self, program: Program) -> Tiling:
        """The program in tiles of the accelerator's size."""
        for name in ("n_codebooks", "n_outputs"):
            wanted, given = getattr(self, name), getattr(program, name)
            if wanted != given:
                raise HalutError(f"program.{name} must be the schedule's {wanted}, not {given}")
        return tile(program, self.machine.n_codebooks, self.machine.n_outputs)

    def join(self, tiling: Tiling, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """Add up what the "rows" steps gave, in their order."""
        steps = [step for step in self.steps if step.kind == "rows"]
        width, columns = self.machine.n_outputs, self.grid[1]
        sums = np.empty((self.n_rows, columns * width), dtype=tiling.dtype)
        begun = np.zeros((self.n_rows, columns), dtype=bool)
        for step, part in zip(steps, parts, strict=True):
            rows, column = np.arange(step.first, step.last), step.tile % columns
            place = slice(column * width, (column + 1) * width)
            for is_first in (True, False):
                chosen = begun[rows, column] != is_first
                total = sums[rows[chosen], place]
                add_partial(total, part[chosen], is_first)
                sums[rows[chosen], place] = total
            begun[rows, column] = True
        return np.ascontiguousarray(sums[:, : self.n_outputs])


def schedule(
    n_rows: int,
    n_codebooks: int,
    n_outputs: int,
    machine: Machine,
    *,
    order: str = "auto",
    row_block: int | None = None,
) -> Schedule:
    """Map a product of N rows, C codebooks and M outputs onto an accelerator.

    Parameters
    ----------
    n_rows, n_codebooks, n_outputs : int
        N, C and M, at least 1; none needs to be a multiple of the accelerator's.
    machine : Machine
        The accelerator.
    order : {"auto", "tables", "rows"}
        "tables": a tile's tables stay while all rows stream past, and each tile is loaded once.
        "rows": a block of rows stays (outside of the accelerator) while all tiles are loaded one
        after the other, back and forth, so that a block begins with the tile that the one before
        ended with; no more partial sums have to be kept than the block's. "auto" takes the one
        with fewer cycles, "rows" where they are equal.
    row_block : int, optional
        "rows": rows of a block, N by default; rounded up to whole row groups.

    Returns
    -------
    Schedule

    Raises
    ------
    HalutError
        When a number is not an integer of at least 1, or the order has no such name.

    Examples
    --------
    >>> machine = Machine(n_codebooks=4, n_outputs=8, rows=2, input_transfers=4,
    ...                   output_transfers=1, pipeline_cycles=4, output_cycles=0, program_words=68)
    >>> plan = schedule(10, 7, 8, machine)
    >>> plan.grid, plan.n_loads, plan.row_groups, plan.cycles
    ((2, 1), 2, 10, 185)
    >>> [(step.kind, step.tile, step.first, step.last) for step in plan.steps[:2]]
    [('load', 0, 0, 0), ('rows', 0, 0, 10)]
    """
    for name, value in (("n_rows", n_rows), ("n_codebooks", n_codebooks), ("n_outputs", n_outputs)):
        integer_from(name, value, 1)
    one_of("order", order, ORDERS)
    block = n_rows if row_block is None else row_block
    integer_from("row_block", block, 1)
    block = min(-(-block // machine.rows) * machine.rows, n_rows)

    def plan(order: str) -> Schedule:
        size = n_rows if order == "tables" else block
        return Schedule(
            machine=machine,
            n_rows=n_rows,
            n_codebooks=n_codebooks,
            n_outputs=n_outputs,
            order=order,
            row_block=size,
            steps=_steps(n_rows, n_codebooks, n_outputs, machine, size),
        )

    if order != "auto":
        return plan(order)
    return min((plan("rows"), plan("tables")), key=lambda p: p.cycles)


def _steps(
    n_rows: int, n_codebooks: int, n_outputs: int, machine: Machine, block: int
) -> tuple[Step, ...]:
    along_codebooks = -(-n_codebooks // machine.n_codebooks)
    along_outputs = -(-n_outputs // machine.n_outputs)
    # All codebooks of an output tile follow one another: its partial sums are needed no longer.
    tiles = [c * along_outputs + m for m in range(along_outputs) for c in range(along_codebooks)]
    visits: list[Step] = []
    for first in range(0, n_rows, block):
        last = min(first + block, n_rows)
        for index in tiles:
            if visits and visits[-1].tile == index:  # still loaded: the rows just go on
                visits[-1] = Step("rows", index, visits[-1].first, last)
            else:
                visits.append(Step("rows", index, first, last))
        tiles.reverse()
    if machine.banks == 1:
        return tuple(step for v in visits for step in (Step("load", v.tile), v))
    return _two_banks(visits)


def _two_banks(visits: list[Step]) -> tuple[Step, ...]:
    """Load each tile while the rows of the one before are sent, unless it is there already."""
    loaded = [visits[0].tile, -1]
    steps = [Step("load", visits[0].tile), Step("switch", visits[0].tile)]
    for k, visit in enumerate(visits):
        bank = k % 2
        following = visits[k + 1].tile if k + 1 < len(visits) else None
        if following is not None and loaded[1 - bank] != following:
            loaded[1 - bank] = following
            steps.append(Step("load", following, bank=1 - bank))
        steps.append(replace(visit, bank=bank))
        if following is not None:
            steps.append(Step("switch", following, bank=1 - bank))
    return tuple(steps)
