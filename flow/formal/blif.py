"""Combinational networks in BLIF, which ABC reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from flow.cells.boolean import Expression, parse
from flow.formal.circuit import Gate
from flow.netlist.netlist import HIGH, LOW

__all__ = ["blif"]


def _name(net: int) -> str:
    return {LOW: "low", HIGH: "high"}.get(net) or f"n{net}"


def blif(
    name: str,
    inputs: Iterable[str],
    leaves: Iterable[tuple[int, str, str | None]],
    gates: Iterable[tuple[int, Gate]],
    outputs: Sequence[int],
) -> str:
    """A combinational network in BLIF, with outputs ``y0``, ``y1``, ...

    Parameters
    ----------
    leaves : iterable of (int, str, str or None)
        Net, a function (of ``a``, or a constant), and the input that it is of.
    gates : iterable of (int, Gate)
        As from `Circuit.cone`.
    outputs : sequence of int
        Nets.
    """
    ends = [f"y{index}" for index in range(len(outputs))]
    lines = [f".model {name}", ".inputs " + " ".join(inputs), ".outputs " + " ".join(ends)]

    def add(target: str, function: Expression, names: Mapping[str, str]) -> None:
        lines.append(".names " + " ".join([*(names[i] for i in function.inputs), target]))
        lines.extend(_rows(function))

    for text, net in (("0", LOW), ("1", HIGH)):
        add(_name(net), parse(text), {})
    for net, text, source in leaves:
        add(_name(net), parse(text), {} if source is None else {"a": source})
    for net, (function, nets) in gates:
        add(_name(net), function, {pin: _name(source) for pin, source in nets.items()})
    for end, net in zip(ends, outputs, strict=True):
        add(end, parse("a"), {"a": _name(net)})
    return "\n".join([*lines, ".end"]) + "\n"


@cache
def _rows(function: Expression) -> tuple[str, ...]:
    n = len(function.inputs)
    return tuple(
        " ".join(filter(None, ["".join(str(row >> i & 1) for i in range(n)), "1"]))
        for row, value in enumerate(function.table().tolist())
        if value
    )
