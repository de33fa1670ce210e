"""The conditions of a run in words, from its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["caption", "commit", "corner", "tools"]


def corner(source: Mapping[str, Any]) -> str:
    """Such as ``typ, 1.1 V, 25 °C``."""
    return f"{source['corner']}, {source['voltage']:g} V, {source['temperature']:g} °C"


def caption(source: Mapping[str, Any]) -> str:
    """Platform, corner, clock and target: ``nangate45 typ (1.1 V, 25 °C), clock 6 ns, …``."""
    place = str(source["platform"])
    if source.get("corner"):
        place += f" {source['corner']}"
        if isinstance(source.get("voltage"), (int, float)):
            place += f" ({source['voltage']:g} V, {source['temperature']:g} °C)"
    return f"{place}, clock {source['clock_ns']:g} ns, made for {source['target_ns']:g} ns"


def tools(source: Mapping[str, Any]) -> str:
    """Tools and their versions."""
    return ", ".join(f"{name} {version}" for name, version in source["tools"].items())


def commit(source: Mapping[str, Any]) -> str:
    """The commit, and whether files differed from it."""
    found = source.get("commit") or "no repository"
    return f"{found}, with changes that were not committed" if source.get("dirty") else found
