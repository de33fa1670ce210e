"""Answers that are not the model's are refused, whatever is wrong with them."""

import pytest

from flow.simulation.testbench import check_answers
from halut.errors import CheckFailed
from tests.flow.support import adder


def test_missing_and_surplus_answers_are_caught(tmp_path):
    outputs = adder().workload(1, 3).outputs
    good = [f"{item[0]:x} {cycle}" for cycle, item in enumerate(outputs.items)]
    text = "\n".join([*good, "end 0 9", ""])
    assert check_answers(text, outputs, tmp_path)[3] == (0, 1, 2)
    for lines, message in (
        ([*good[:2], "end 0 9"], "must give 3 output transfers, not 2"),
        ([*good, good[0], "end 0 9"], "must give 3 output transfers, not 4"),
        (good, "must reach its end"),
        (["x 0", *good[1:], "end 0 9"], "not x"),
    ):
        with pytest.raises(CheckFailed, match=message):
            check_answers("\n".join([*lines, ""]), outputs, tmp_path)
