"""Settings for Tcl scripts: a script is a file, and what differs from run to run is an array."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from halut.errors import HalutError

__all__ = ["quote", "settings"]


def quote(value: Any) -> str:
    """A value as a Tcl word; sequences become lists."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "{" + " ".join(quote(item) for item in value) + "}"
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    if re.fullmatch(r"[\w./:+-]+", text):
        return text
    if text.count("{") != text.count("}") or "\\" in text:
        raise HalutError(f"a name must have balanced braces and no backslash, not {text}")
    return "{" + text + "}"


def settings(values: Mapping[str, Any], array: str = "halut") -> str:
    """Settings as a Tcl array.

    Examples
    --------
    >>> print(settings({"top": "halut_matmul", "fill": ["A", "B"], "repair": True}), end="")
    array set halut {
      top halut_matmul
      fill {A B}
      repair 1
    }
    """
    lines = [f"  {key} {quote(value)}" for key, value in values.items()]
    return "\n".join([f"array set {array} {{", *lines, "}", ""])
