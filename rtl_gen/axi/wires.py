"""Connections between the members of units."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib.wiring import Out

from ..units.unit import Unit

__all__ = ["connect_members", "connect_stream", "prefixed"]


def prefixed(prefix: str, members: dict[str, Any]) -> dict[str, Any]:
    """Members with a prefix to their names."""
    return {f"{prefix}_{name}": member for name, member in members.items()}


def connect_members(
    m: Module, outer: Unit, prefix: str, inner: Unit, members: dict[str, Any]
) -> None:
    """Connect members of a unit to those with a prefix of the unit around it."""
    for name, member in members.items():
        own, placed = getattr(outer, f"{prefix}_{name}"), getattr(inner, name)
        m.d.comb += own.eq(placed) if member.flow == Out else placed.eq(own)


def connect_stream(m: Module, source: Any, sink: Any) -> None:
    """Connect two streams of one payload."""
    payload, taken = Value.cast(source.payload), Value.cast(sink.payload)
    if len(payload) != len(taken):
        raise ValueError(f"payloads must be of one width, not {len(payload)} and {len(taken)}")
    m.d.comb += [
        taken.eq(payload),
        sink.valid.eq(source.valid),
        source.ready.eq(sink.ready),
    ]
