"""The prefix of modules' names."""

from __future__ import annotations

import re

from halut.errors import HalutError

__all__ = ["check_prefix"]

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,63})?")


def check_prefix(prefix: str) -> None:
    """Check what the names of modules are to begin with.

    Raises
    ------
    HalutError
        When a module's name cannot begin with it.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise HalutError(
            f"prefix must be at most 64 letters, digits and _, a letter first, not {prefix!r}"
        )
