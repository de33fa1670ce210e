"""The rate-distortion bound, against values worked out by hand."""

import numpy as np
import pytest

from halut.bound import rate_distortion_bound, water_level


def test_water_level_by_hand():
    # 16 -> 2 bits, 4 -> 1 bit, 1 and 0.25 -> none at level 1.
    variances = np.array([16.0, 4.0, 1.0, 0.25, 0.0])
    assert water_level(variances, 3.0) == pytest.approx(1.0)
    assert water_level(variances, 0.5) == pytest.approx(8.0)


def outputs(scales, mean=0.0):
    """Rows of which the columns are orthogonal and have exactly these deviations."""
    signs = np.array([[(row >> bit & 1) * 2 - 1 for bit in range(3)] for row in range(8)])
    return signs[:, : len(scales)] * np.array(scales) + mean


def test_bound_by_hand():
    # Variances 16 and 4 with 3 bits leave 1 each; with 0.5 bit 8 + 4.
    assert rate_distortion_bound(outputs([4.0, 2.0]), 3.0) == pytest.approx(2 / 20)
    assert rate_distortion_bound(outputs([4.0, 2.0]), 0.5) == pytest.approx(12 / 20)


def test_mean_costs_no_bits():
    assert rate_distortion_bound(outputs([4.0, 2.0], mean=10.0), 3.0) == pytest.approx(2 / 220)


def test_outputs_that_do_not_vary_cost_nothing():
    assert rate_distortion_bound(np.ones((4, 2)), 1.0) == 0
    assert rate_distortion_bound(np.zeros((4, 2)), 1.0) == 0
