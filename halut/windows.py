"""Codebooks that take all columns of their windows: trees select in them what they compare.

A window is the codebook's own group of columns, so that nothing has to be gathered outside of the
accelerator. A level has one split dimension, as in any tree, or each node one of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.forest import subspaces
from halut.formats import FLOAT_FORMATS

__all__ = ["WINDOWED", "check_granularity", "window_columns", "window_fields"]

WINDOWED = ("window", "node")
"""Encoders of codebooks that take their windows."""


def check_granularity(granularity: str, input_format: str | None = None) -> None:
    """Check that words of windows can share grids so; integers where no format is given.

    Raises
    ------
    HalutError
        For ``"dimension"``: a word has one grid, whatever compares it.
    """
    if granularity == "dimension" and input_format not in FLOAT_FORMATS:
        raise HalutError(
            'input_granularity must be "codebook" or "all" for windows, not "dimension"'
        )


def window_columns(n_features: int, n_codebooks: int) -> NDArray[np.int32]:
    """Return the columns of every codebook's window, -1 where it has one less than the widest.

    Returns
    -------
    int32 ndarray of shape (n_codebooks, window)
        window = ceil(n_features / n_codebooks), but 2 at least, as accelerators have it.

    Examples
    --------
    >>> window_columns(5, 2).tolist()
    [[0, 1, 2], [3, 4, -1]]
    """
    groups = subspaces(n_features, n_codebooks)
    columns = np.full((n_codebooks, max(2, groups[0].stop)), -1, dtype=np.int32)
    for row, group in zip(columns, groups, strict=True):
        row[: group.stop - group.start] = np.arange(group.start, group.stop)
    return columns


def window_fields(
    split_dims: NDArray[np.int32],
    n_features: int,
    granularity: str,
    scale: NDArray[np.float32] | None,
    offset: NDArray[np.float32] | None,
    order: NDArray[np.integer[Any]] | None = None,
) -> dict[str, Any]:
    """Return the fields of a `halut.program.Program` whose codebooks take their windows.

    Parameters
    ----------
    split_dims : int32 ndarray of shape (n_codebooks, tree_depth) or (n_codebooks, K - 1)
        Columns, each in its codebook's own group.
    n_features : int
        D.
    granularity : {"codebook", "all"}
        What shares a grid: a word has one, whatever compares it.
    scale, offset : float32 ndarray of shape (n_codebooks, tree_depth), or None
        Grids of levels, the same for all levels of a codebook; None for floating formats.
    order : integer ndarray of shape (n_features,), optional
        The columns in the order in which groups are cut from them; as they are when absent.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    HalutError
        For ``"dimension"``.
    """
    if scale is not None:
        check_granularity(granularity)
    columns = window_columns(n_features, len(split_dims))
    if order is not None:
        columns = np.where(columns < 0, -1, np.asarray(order)[columns])
    places = (columns[:, None, :] == split_dims[:, :, None]).argmax(axis=2)
    fields: dict[str, Any] = {"split_dims": columns, "places": places}
    if scale is not None and offset is not None:
        window = columns.shape[1]
        fields["input_scale"] = np.repeat(scale[:, :1], window, axis=1)
        fields["input_offset"] = np.repeat(offset[:, :1], window, axis=1)
    return fields
