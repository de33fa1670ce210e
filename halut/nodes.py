"""Nodes of trees, breadth-first: a level's nodes follow each other, the root is the first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_node"]


def by_node(levels: NDArray[Any]) -> NDArray[Any]:
    """Repeat what levels have, (..., tree_depth), for each of their nodes, (..., K - 1).

    Examples
    --------
    >>> by_node(np.arange(3)).tolist()
    [0, 1, 1, 2, 2, 2, 2]
    """
    return np.repeat(levels, 2 ** np.arange(levels.shape[-1]), axis=-1)
