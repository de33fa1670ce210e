"""Sums of power by hand."""

import numpy as np
import pytest

from flow.power.liberty_power import Power
from flow.power.sums import power_sums


def test_sums_of_parts_and_of_kinds():
    cells = np.array([[1.0, 2, 4, 8], [0, 0, 0, 1], [0.1, 0.1, 0.2, 0.1]])
    kinds = ["register", "logic", "clock tree", "logic"]
    sums = power_sums(Power(*cells, 3.0, "by hand"), kinds)
    assert (sums.method, sums.ports) == ("by hand", 3)
    assert (sums.internal, sums.switching) == (15, 4)
    assert (sums.leakage, sums.total) == (pytest.approx(0.5), pytest.approx(19.5))
    assert sums.clock_tree == pytest.approx(4.2)
    assert sums.units == {
        "register": [1, 0, 0.1],
        "logic": [10, 1, pytest.approx(0.2)],
        "clock tree": [4, 0, 0.2],
    }
    assert sum(map(sum, sums.units.values())) + sums.ports == pytest.approx(sums.total)
