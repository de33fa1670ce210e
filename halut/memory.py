"""How much memory there is, and how much learning takes, before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from halut.errors import HalutError

__all__ = ["available_bytes", "check_available", "check_learning", "learning_bytes"]


def available_bytes() -> int | None:
    """Return the memory that a process may still take, None where that is not known.

    On Linux, what the kernel counts as available, or what the process' control group leaves.
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        found.append(limit - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # no control group, or no limit
    return max(0, min(found)) if found else None


def check_available(needed: int, doing: str, where: str) -> None:
    """Refuse work that would not fit the memory that is available.

    Parameters
    ----------
    needed : int
        Estimate, in bytes.
    doing : str
        The work, such as ``"build its simulation"``.
    where : str
        What it is done with, for the message.

    Raises
    ------
    HalutError
        When `needed` is more than there is, where that is known.
    """
    there = available_bytes()
    if there is not None and needed > there:
        raise HalutError(
            f"available memory must be about {needed / 1e9:.3g} GB to {doing}, "
            f"not {there / 1e9:.3g} GB ({where}; estimated)"
        )


def learning_bytes(
    n_rows: int,
    n_features: int,
    n_outputs: int,
    n_codebooks: int,
    n_prototypes: int,
    *,
    regression: bool = True,
) -> int:
    """Estimate the memory that `halut.HalutMatmul.learn_offline` takes, rows included.

    Parameters
    ----------
    n_rows, n_features, n_outputs, n_codebooks, n_prototypes : int
        N, D, M, C, K.
    regression : bool, default True
        False for ``ridge="means"``.

    Returns
    -------
    int
        Bytes, within a factor of 2 of the peak of a process.
    """
    targets = min(n_features, n_outputs)
    tree_rows = min(n_rows, 32768)
    leaves = n_codebooks * n_prototypes
    return (
        60 * 10**6  # Python and NumPy
        + 4 * n_rows * (2 * n_features + targets + n_codebooks // 4)
        + tree_rows * (6 * n_features + 8 * targets)
        + 8 * leaves * (5 * leaves * regression + 6 * targets + 4 * n_outputs)
        + 8 * 4 * n_features * n_outputs
    )


def check_learning(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    n_codebooks: int,
    n_prototypes: int,
    *,
    regression: bool = True,
) -> None:
    """Refuse to learn from files that would not fit the memory.

    Parameters
    ----------
    a, b : path-like
        A and B (``.npy``); what is no such file is left to those who read it.
    n_codebooks, n_prototypes : int
        C and K.
    regression : bool, default True
        False for ``ridge="means"``.

    Raises
    ------
    HalutError
        When the estimate is more than the memory that is available.
    """
    try:
        shapes = [np.load(path, mmap_mode="r", allow_pickle=False).shape for path in (a, b)]
    except (OSError, ValueError, EOFError, AttributeError):
        return
    if [len(shape) for shape in shapes] != [2, 2]:
        return
    sizes = (*shapes[0], shapes[1][1], n_codebooks, n_prototypes)
    needed, available = learning_bytes(*sizes, regression=regression), available_bytes()
    if available is not None and needed > available:
        raise HalutError(
            f"learning must fit the memory that is available, {available / 1e9:.3g} GB, not take "
            f"about {needed / 1e9:.3g} GB (estimated, within a factor of 2): give fewer rows, or "
            f"fewer codebooks ({a})"
        )
