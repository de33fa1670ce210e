"""Checks of what the user gives, and the errors they raise; every kind of rule has one text.

Each check takes the name that the message calls the value by, and raises `halut.HalutError`.
Those of numbers return the value as an int.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

from halut.errors import HalutError, closest

__all__ = [
    "boolean",
    "either",
    "in_range",
    "integer",
    "integer_at_least",
    "integer_from",
    "integer_in",
    "known",
    "located",
    "mapping",
    "number_in",
    "one_of",
    "power_of_two",
    "read_yaml",
]


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def integer(name: str, value: Any) -> int:
    """Check an integer of Python or NumPy; a bool is none."""
    if not _is_integer(value):
        raise HalutError(f"{name} must be an integer, not {value!r}")
    return int(value)


def in_range(name: str, value: int, low: int, high: int) -> int:
    """Check that an integer is from `low` to `high`.

    Examples
    --------
    >>> in_range("lut_bits", integer("lut_bits", 17), 2, 16)
    Traceback (most recent call last):
    halut.errors.HalutError: lut_bits must be in [2, 16], not 17
    """
    if not low <= value <= high:
        raise HalutError(f"{name} must be in [{low}, {high}], not {value}")
    return value


def integer_in(name: str, value: Any, low: int, high: int) -> int:
    """Check an int of Python, as files hold them, from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise HalutError(f"{name} must be an integer in [{low}, {high}], not {value!r}")
    return value


def number_in(name: str, value: Any, low: float, high: float) -> None:
    """Check an int or float of Python from `low` to `high`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise HalutError(f"{name} must be in [{low:g}, {high:g}], not {value!r}")


def integer_at_least(name: str, value: Any, low: int) -> int:
    """Check an integer that is `low` or more."""
    if integer(name, value) < low:
        raise HalutError(f"{name} must be at least {low}, not {value}")
    return int(value)


def integer_from(name: str, value: Any, low: int) -> int:
    """Check an integer that is `low` or more; the message says both in one."""
    if not _is_integer(value) or value < low:
        raise HalutError(f"{name} must be an integer of at least {low}, not {value!r}")
    return int(value)


def power_of_two(name: str, value: Any) -> int:
    """Check a power of two from 2 to 256."""
    if integer(name, value) not in {2**depth for depth in range(1, 9)}:
        raise HalutError(f"{name} must be a power of two in [2, 256], not {value}")
    return int(value)


def boolean(name: str, value: Any) -> None:
    """Check a bool."""
    if not isinstance(value, bool):
        raise HalutError(f"{name} must be true or false, not {value!r}")


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Check a mapping, and return a copy."""
    if not isinstance(value, Mapping):
        raise HalutError(f"{name} must be a mapping, not {type(value).__name__}")
    return dict(value)


def one_of(name: str, value: Any, choices: Collection[Any], rule: str = "be one of {}") -> None:
    """Check that a value is among a few.

    Parameters
    ----------
    name : str
    value : object
    choices : collection of str
    rule : str, default "be one of {}"
        What the message says after "must"; the choices stand for the braces.

    Examples
    --------
    >>> one_of("memory", "latches", ("latch", "ff"))
    Traceback (most recent call last):
    halut.errors.HalutError: memory must be one of latch, ff, not 'latches' (did you mean "latch"?)
    """
    if value not in list(choices):
        listed = ", ".join(map(str, choices))
        hint = closest(str(value), choices)
        raise HalutError(f"{name} must {rule.format(listed)}, not {value!r}{hint}")


def either(name: str, value: Any, choices: Collection[str]) -> None:
    """Check that a value is among a few; the message has them as they are written in Python.

    Examples
    --------
    >>> either("loss", "features", ("product", "feature"))
    Traceback (most recent call last):
    halut.errors.HalutError: loss must be "product" or "feature", not 'features' (did you mean \
"feature"?)
    """
    if value not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise HalutError(f"{name} must be {listed}, not {value!r}{closest(str(value), choices)}")


def known(
    name: str, given: Iterable[Any], choices: Collection[Any], rule: str = "be one of {}"
) -> None:
    """Check that all given names, or keys of a mapping, are among those that are known.

    Examples
    --------
    >>> known("a field", {"row": 2}, ["rows", "memory"])
    Traceback (most recent call last):
    halut.errors.HalutError: a field must be one of rows, memory, not 'row' (did you mean "rows"?)
    """
    for each in given:
        one_of(name, each, choices, rule)


@contextmanager
def located(where: object) -> Iterator[None]:
    """Add ``(where)``, a file for instance, to errors that are raised inside."""
    try:
        yield
    except HalutError as error:
        raise type(error)(f"{error} ({where})") from None


def read_yaml(path: str | os.PathLike[str], what: str = "a configuration") -> dict[str, Any]:
    """Return the mapping in a YAML file, not yet checked.

    Parameters
    ----------
    path : path-like
    what : str, default "a configuration"
        What the file describes, for errors; these name the file.

    Raises
    ------
    HalutError
        When the file cannot be read, is no YAML, or holds no mapping.
    """
    import yaml  # the algorithm needs NumPy only

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise HalutError(f"{what} must be a readable file, not {path} ({reason})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise HalutError(f"{what} must be valid YAML ({path}{line})") from None
    with located(path):
        return mapping(what, values)
