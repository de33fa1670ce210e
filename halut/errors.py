"""Errors that are meant for the user, and the words they are made of.

Every message has one shape: *what* must be *rule*, not *value* (*where*). Command lines catch
`HalutError`, print ``error: <message>`` as one line on stderr and exit with its `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CheckFailed", "HalutError", "closest"]


class HalutError(ValueError):
    """Something the user gave cannot be used; the message says what and where.

    Attributes
    ----------
    exit_code : int
        What a command line returns for it: 2 (usage).
    """

    exit_code = 2


class CheckFailed(HalutError):
    """The input was fine, but a check of a result failed.

    Attributes
    ----------
    exit_code : int
        What a command line returns for it: 1 (failed check).
    """

    exit_code = 1


def closest(name: str, choices: Iterable[str]) -> str:
    """Return a hint naming the choice that `name` was probably meant to be.

    Parameters
    ----------
    name : str
        What the user wrote.
    choices : iterable of str
        What would have been understood.

    Returns
    -------
    str
        ``' (did you mean "x"?)'``, or ``''`` when nothing is close.

    Examples
    --------
    >>> closest("paralel_codebooks", ["parallel_codebooks", "rows"])
    ' (did you mean "parallel_codebooks"?)'
    >>> closest("zzz", ["parallel_codebooks", "rows"])
    ''
    """
    matches = difflib.get_close_matches(str(name), [str(c) for c in choices], n=1, cutoff=0.6)
    return f' (did you mean "{matches[0]}"?)' if matches else ""
