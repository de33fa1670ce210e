"""Schedules: bit-exact for any size, and their cycles by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from halut.schedule import Machine, Step, schedule

MACHINE = Machine(
    n_codebooks=4, n_outputs=3, rows=2, input_transfers=4, output_transfers=1,
    pipeline_cycles=5, output_cycles=0, program_words=20,
)  # fmt: skip
SIZES = [(8, 8, 6), (7, 9, 4), (1, 1, 1), (5, 4, 3), (33, 3, 10), (6, 13, 2)]


DOUBLE = dataclasses.replace(MACHINE, banks=2)


@pytest.mark.parametrize("machine", [MACHINE, DOUBLE], ids=["one-bank", "two-banks"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("order", "block"), [("tables", None), ("rows", 3), ("rows", None)])
def test_bit_exact(size, order, block, machine):
    rng = np.random.default_rng(size)
    program = golden.random_program(rng, size[1], 8, size[2], "int8", n_features=9, corner=True)
    A = rng.uniform(-130, 130, (size[0], 9))
    plan = schedule(*size, machine, order=order, row_block=block)
    expected = golden.matmul(program, program.input_words(A))
    given = plan.run(program, A)
    assert given.dtype == expected.dtype
    assert np.array_equal(given, expected)
    # Every (tile, row) once, and only what is loaded.
    seen = np.zeros((plan.grid[0] * plan.grid[1], size[0]), dtype=int)
    for step in plan.steps:
        seen[step.tile, step.first : step.last] += 1
        assert step.kind == "rows" or step.first == step.last
    assert (seen == 1).all()


def test_steps_by_hand():
    """Two codebook tiles by two output tiles; tiles of one output follow one another."""
    plan = schedule(5, 8, 6, MACHINE, order="tables")
    assert [(s.kind, s.tile) for s in plan.steps] == [
        (kind, tile) for tile in (0, 2, 1, 3) for kind in ("load", "rows")
    ]
    blocks = schedule(5, 8, 3, MACHINE, order="rows", row_block=3)
    assert blocks.steps == (
        Step("load", 0), Step("rows", 0, 0, 4),
        Step("load", 1), Step("rows", 1, 0, 5),  # the second block begins where the first ended
        Step("load", 0), Step("rows", 0, 4, 5),
    )  # fmt: skip
    assert (blocks.n_loads, blocks.row_groups, blocks.partial_sums) == (3, 2 + 3 + 1, 4 * 3)
    assert schedule(5, 4, 6, MACHINE).partial_sums == 0


def test_cycles_by_hand():
    """Words in cycles 0-19, one to settle, transfers in 21-24, the sum 5 cycles later."""
    assert schedule(2, 4, 3, MACHINE).cycles == 30
    # Two more row groups, four cycles each.
    assert schedule(6, 4, 3, MACHINE).cycles == 38
    # The next tile's words follow when the last sum is there (cycle 29): 29 + 30.
    assert schedule(2, 8, 3, MACHINE).cycles == 59
    assert schedule(2, 8, 3, MACHINE).utilisation == 2 * 8 * 3 * 4 / (59 * 2 * 4 * 3)


def test_two_banks_by_hand():
    plan = schedule(5, 8, 6, DOUBLE, order="tables")
    assert [(s.kind, s.tile, s.bank) for s in plan.steps] == [
        ("load", 0, 0), ("switch", 0, 0),
        ("load", 2, 1), ("rows", 0, 0), ("switch", 2, 1),
        ("load", 1, 0), ("rows", 2, 1), ("switch", 1, 0),
        ("load", 3, 1), ("rows", 1, 0), ("switch", 3, 1), ("rows", 3, 1),
    ]  # fmt: skip
    # Words 0-19, switch in 20, one to settle, transfers in 22-25, the sum in 30.
    assert schedule(2, 4, 3, DOUBLE).cycles == 31
    # 100 rows take longer than 20 words: the last sums of tile 0 are there in cycle 30 + 49 * 4,
    # when the program is switched; then a cycle to settle, 4 + 5 - 1, and the other 49.
    plan = schedule(100, 8, 3, DOUBLE)
    assert plan.cycles == 226 + 2 + 3 + 5 + 196 + 1
    assert schedule(100, 8, 3, MACHINE).cycles - plan.cycles == 20 - 2
    # Both tiles stay where they are, however often the rows come back.
    both = schedule(100, 8, 3, DOUBLE, order="rows", row_block=2)
    assert both.n_loads == 2
    assert schedule(100, 8, 3, MACHINE, order="rows", row_block=2).n_loads == 51


def test_auto_takes_fewer_cycles():
    plans = {order: schedule(40, 8, 6, MACHINE, order=order, row_block=4)
             for order in ("tables", "rows", "auto")}  # fmt: skip
    assert plans["tables"].cycles < plans["rows"].cycles
    assert plans["auto"] == plans["tables"]
    assert plans["tables"].n_loads == 4


def test_a_tile_that_is_not_loaded_is_refused():
    plan = schedule(4, 8, 3, MACHINE)
    program = golden.random_program(np.random.default_rng(1), 8, 4, 3, "int8")
    wrong = dataclasses.replace(plan, steps=plan.steps[:2] + plan.steps[3:])
    with pytest.raises(HalutError, match="step must use tile 0, which is loaded, not 1"):
        wrong.run(program, np.zeros((4, program.n_features)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_rows": 0}, "n_rows must be an integer of at least 1, not 0"),
        ({"n_codebooks": 2.5}, "n_codebooks must be an integer"),
        ({"n_outputs": True}, "n_outputs must be an integer"),
        ({"order": "row"}, r'order must be one of .* not \'row\' \(did you mean "rows"\?\)'),
        ({"row_block": 0}, "row_block must be an integer of at least 1, not 0"),
    ],
)
def test_rules(change, message):
    values = {"n_rows": 2, "n_codebooks": 2, "n_outputs": 2, "machine": MACHINE, **change}
    with pytest.raises(HalutError, match=message):
        schedule(**values)
    with pytest.raises(HalutError, match="program_words must be an integer of at least 1, not 0"):
        dataclasses.replace(MACHINE, program_words=0)
    with pytest.raises(HalutError, match="banks must be 1 or 2, not 3"):
        dataclasses.replace(MACHINE, banks=3)
    program = golden.random_program(np.random.default_rng(1), 3, 4, 3, "int8")
    with pytest.raises(HalutError, match=r"program\.n_codebooks must be the schedule's 8, not 3"):
        schedule(4, 8, 3, MACHINE).run(program, np.zeros((4, program.n_features)))
