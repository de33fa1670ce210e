import numpy as np
import pytest

from flow.cells.library import Table
from flow.timing.tables import TableStack

SQUARE = Table([0.0, 1.0], [0.0, 10.0, 20.0], [[0.0, 1.0, 4.0], [2.0, 3.0, 6.0]])
CONSTANT = Table([0.0], [0.0], [[7.0]])
LOADS = Table([0.0], [0.0, 10.0], [[1.0, 2.0]])
SLEWS = Table([0.0, 1.0], [0.0], [[1.0], [3.0]])


@pytest.mark.parametrize(
    ("table", "slew", "load", "value"),
    [
        (SQUARE, 1.0, 10.0, 3.0),
        (SQUARE, 0.5, 15.0, 3.5),
        (SQUARE, 0.5, 30.0, 8.0),  # the outermost segments go on
        (SQUARE, -1.0, -10.0, -3.0),
        (CONSTANT, 5.0, 5.0, 7.0),
        (LOADS, 5.0, 5.0, 1.5),
        (SLEWS, 2.0, 5.0, 5.0),
    ],
)
def test_values_are_bilinear_whatever_else_is_stacked(table, slew, load, value):
    stack = TableStack()
    numbers = {id(item): stack.add(item) for item in (SLEWS, CONSTANT, SQUARE, LOADS)}
    stack.freeze()
    found = stack(np.array([numbers[id(table)]]), np.array([slew]), np.array([load]))
    assert found == pytest.approx([value])


def test_a_table_is_stacked_once():
    stack = TableStack()
    assert [stack.add(item) for item in (SQUARE, LOADS, SQUARE)] == [0, 1, 0]
