"""Functions of the user's own modules, named in recipes and on the command line."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from halut.errors import HalutError

__all__ = ["function", "imported"]


def function(name: str, what: str) -> Any:
    """Return what ``package.module:function`` names; modules of the current folder count.

    Parameters
    ----------
    name : str
    what : str
        What it makes, for errors.

    Raises
    ------
    HalutError
        When it is no such name, the module cannot be imported or has no such function.

    Examples
    --------
    >>> function("math:sqrt", "model")(4.0)
    2.0
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise HalutError(f"{what} must be imported as package.module:function, not {name!r}")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise HalutError(f"{what} must be importable, but {reason} ({name})") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise HalutError(f"{what} must be in {module_name}, not {attribute!r}") from None
    if not callable(found):
        raise HalutError(f"{what} must be a function, not {type(found).__name__} ({name})")
    return found


def imported(name: str, what: str, options: Mapping[str, Any]) -> Any:
    """Call what ``package.module:function`` names with options; errors of its name the function."""
    called = function(name, what)
    try:
        inspect.signature(called).bind(**options)
    except TypeError as error:
        raise HalutError(f"{what} must take its options: {error} ({name})") from None
    except ValueError:  # no signature
        pass
    return called(**options)
