import numpy as np
import pytest

from flow.cells.boolean import parse
from halut.errors import HalutError


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("A", [0, 1]),
        ("!A", [1, 0]),
        ("A'", [1, 0]),
        ("A B", [0, 0, 0, 1]),
        ("A*B", [0, 0, 0, 1]),
        ("A+B", [0, 1, 1, 1]),
        ("A^B", [0, 1, 1, 0]),
        ("!(A & B)", [1, 1, 1, 0]),
        ("(A B)'", [1, 1, 1, 0]),
        # ^ binds tighter than &, & tighter than |.
        ("A | B & C", [0, 1, 0, 1, 0, 1, 1, 1]),
        ("A & B ^ C", [0, 0, 0, 1, 0, 1, 0, 0]),
        ("1", [1]),
    ],
)
def test_truth_tables(text, rows):
    assert parse(text).table().astype(int).tolist() == rows


def test_table_over_more_inputs_in_a_given_order():
    table = parse("B").table(("A", "B"))
    assert table.astype(int).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("text", ["A & B | !C", "A^B^C", "!(A+B) C"])
def test_verilog_says_the_same(text):
    expression = parse(text)
    # Python's ~ on a bool-like integer: masked below.
    source = expression.verilog()
    names = expression.inputs
    for row, value in enumerate(expression.table()):
        scope = {name: row >> bit & 1 for bit, name in enumerate(names)}
        assert np.bool_(eval(source, {}, scope) & 1) == value


@pytest.mark.parametrize("text", ["A &", "(A", "A ? B", "A)", ""])
def test_other_text_is_an_error(text):
    with pytest.raises(HalutError, match="liberty function must"):
        parse(text)
