"""Checks of what the user gives, and the errors they raise; every kind of rule has one text.

Each check takes the name that the message calls the value by, and raises `halut.HalutError`.
Those of numbers return the value as an int.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

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
    "read_fields",
    "read_json",
    "read_yaml",
]

_Kind = TypeVar("_Kind")


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
        listed = ", ".join(map(str, choices)) or "none"
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


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Return the value in a JSON file, not yet checked; errors name `what` it is, and the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise HalutError(f"{what} must be readable: {error.strerror} ({path})") from None
    except ValueError:
        raise HalutError(f"{what} must be JSON ({path})") from None


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


_TYPES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def read_fields(kind: type[_Kind], values: Any, where: str = "", **given: Any) -> _Kind:
    """Make a dataclass of a mapping, as a YAML file has it; each field of its type.

    Parameters
    ----------
    kind : type
        Its fields are texts, numbers, bools, tuples (lists in the file), mappings, dataclasses,
        or one of these or None; others it must check itself. Messages of its own checks begin
        with the field's name.
    values : mapping
    where : str, default ""
        What stands before a field's name in messages, and a dot.
    **given
        Fields that are not in the file.

    Raises
    ------
    HalutError
        When a key is unknown, a field without a default is missing, or one breaks its rule.

    Examples
    --------
    >>> @dataclasses.dataclass
    ... class Wire:
    ...     layer: str
    ...     width: float = 1.0
    >>> read_fields(Wire, {"layer": "m1", "width": 2}, "wire")
    Wire(layer='m1', width=2.0)
    >>> read_fields(Wire, {"width": 2}, "wire")
    Traceback (most recent call last):
    halut.errors.HalutError: wire.layer must be given
    """
    what = where or f"a {kind.__name__.lower()}"
    data = mapping(what, values)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    names = [name for name in fields if name not in given]
    prefix = where and f"{where}."
    known(what, data, names, "have known keys only ({})")
    missing = dataclasses.MISSING
    for name in names:
        bare = fields[name].default is missing and fields[name].default_factory is missing
        if bare and name not in data:
            raise HalutError(f"{prefix}{name} must be given")
    hints = get_type_hints(kind)
    read = {name: _typed(hints[name], value, prefix + name) for name, value in data.items()}
    try:
        return kind(**read, **given)
    except HalutError as error:
        raise type(error)(f"{prefix}{error}") from None


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A value of a file as a field's type has it."""
    origin, kinds = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return read_fields(kind, value, where)
    if origin is UnionType:
        kinds = tuple(each for each in kinds if each is not NoneType)
        return value if value is None or len(kinds) > 1 else _typed(kinds[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise HalutError(f"{where} must be a list, not {value!r}")
        if kinds[-1] is not Ellipsis and len(value) != len(kinds):
            raise HalutError(f"{where} must have {len(kinds)} entries, not {value!r}")
        return tuple(_typed(kinds[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin is Mapping:
        items = mapping(where, value).items()
        return {str(key): _typed(kinds[1], each, f"{where}.{key}") for key, each in items}
    if kind in _TYPES:
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if type(value) is not kind and not number:
            raise HalutError(f"{where} must be {_TYPES[kind]}, not {value!r}")
        return kind(value)
    return value
