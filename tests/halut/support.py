"""What tests of several encoders share."""

import numpy as np


def mixtures(n_rows=1500):
    """Return A (n_rows, 24), about a space of four dimensions, and B (24, 6)."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 24))
    A = rng.standard_normal((n_rows, 4)) @ mixing + 0.1 * rng.standard_normal((n_rows, 24))
    return A, rng.standard_normal((24, 6))
