"""What no code of so many bits can do better than: the rate-distortion function of a Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["rate_distortion_bound", "water_level"]

_HALVINGS = 200


def water_level(variances: NDArray[np.float64], bits: float) -> float:
    """Fill water onto variances until what stands out of it costs so many bits.

    Parameters
    ----------
    variances : float64 ndarray of shape (n,)
        Not negative.
    bits : float
        Greater than 0.

    Returns
    -------
    float
        The level w of which ``sum(max(0, log2(variance / w) / 2))`` is `bits`.

    Examples
    --------
    >>> round(water_level(np.array([16.0, 4.0, 1.0]), 3.0), 9)
    1.0
    """
    stands_out = variances[variances > 0]
    low, high = 0.0, float(stands_out.max(initial=0.0))
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        if level in (low, high):
            break
        if np.log2(np.maximum(stands_out / level, 1)).sum() / 2 > bits:
            low = level
        else:
            high = level
    return high


def rate_distortion_bound(outputs: ArrayLike, bits: float) -> float:
    """Return the least relative squared error at so many bits per row, were outputs Gaussian.

    A Gaussian vector whose covariance has the eigenvalues v_i cannot be described with R bits at
    less mean squared error than ``D = sum(min(w, v_i))``, with the water level w of which
    ``R = sum(max(0, log2(v_i / w) / 2))`` (reverse water-filling: Cover and Thomas, Elements of
    Information Theory, 2nd edition, theorem 10.3.3). Of all distributions with this covariance
    the Gaussian needs most bits: others may do better, and codes that see only single rows,
    or that are sums of tables, do worse.

    Parameters
    ----------
    outputs : array-like of shape (n_rows, n_outputs)
        Exact products; their mean costs no bits.
    bits : float
        R: ``n_codebooks * log2(n_prototypes)``.

    Returns
    -------
    float
        ``D`` divided by the mean square of the outputs.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> outputs = draw.standard_normal((100000, 1))
    >>> round(rate_distortion_bound(outputs, bits=2), 3)  # a bit divides the error by four
    0.062
    """
    exact = np.asarray(outputs, dtype=np.float64)
    centred = exact - exact.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred / len(exact)).clip(min=0)
    energy = float(np.square(exact).sum() / len(exact))
    if energy == 0:
        return 0.0
    return float(np.minimum(variances, water_level(variances, bits)).sum()) / energy
