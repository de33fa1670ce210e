"""How large a design is, and which of its modules Verilator had better translate once.

Verilator writes code for every instance of a module. A large accelerator is many equal decoders
and encoders; as blocks of their own ("hierarchical Verilation") each kind is translated and
compiled once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

__all__ = ["blocks", "lines_written_out"]

_LARGE_DESIGN = 100_000  # lines with every instance written out; smaller ones build faster whole
_BLOCK = (200, 20_000)  # lines of a block: more costs too much to call, less to translate

_MODULE = re.compile(r"^module (\w+).*?^endmodule$", re.M | re.S)
_INSTANCE = re.compile(r"^ *(\w+) (?:#\([^;]*?\) *)?\w+ \(", re.M)


def lines_written_out(verilog: str, top: str, blocks: Collection[str] = ()) -> int:
    """Return the lines of a design with every instance written out, those in `blocks` once.

    Parameters
    ----------
    verilog : str
        Modules, each before those that instantiate it (as `rtl_gen` writes them).
    top : str
    blocks : collection of str, default ()
        Modules that are translated on their own.
    """
    lines = _sizes(verilog, blocks)[1]
    return lines.get(top, 0) + sum(lines[name] for name in blocks)


def _sizes(verilog: str, blocks: Collection[str]) -> tuple[dict[str, Counter[str]], dict[str, int]]:
    """Return the instances in each module by kind, and its lines with them written out."""
    inside: dict[str, Counter[str]] = {}
    lines: dict[str, int] = {}
    for name, body in ((match[1], match[0]) for match in _MODULE.finditer(verilog)):
        children = Counter(child for child in _INSTANCE.findall(body) if child in lines)
        inside[name] = children
        lines[name] = body.count("\n") + sum(
            n if child in blocks else lines[child] * n for child, n in children.items()
        )
    return inside, lines


def blocks(verilog: str, top: str) -> list[str]:
    """Return the modules of `verilog` to translate on their own; none for a small design.

    Parameters
    ----------
    verilog : str
        Modules, each before those that instantiate it (as `rtl_gen` writes them).
    top : str
    """
    inside, lines = _sizes(verilog, frozenset())
    if lines.get(top, 0) < _LARGE_DESIGN:
        return []
    count = Counter({top: 1})
    for name in reversed(inside):
        for child, n in inside[name].items():
            count[child] += n * count[name]
    found: set[str] = set()
    waiting = [top]
    while waiting:
        for child in inside[waiting.pop()]:
            if count[child] > 1 and lines[child] <= _BLOCK[1]:
                if lines[child] >= _BLOCK[0]:
                    found.add(child)
            elif child not in waiting:
                waiting.append(child)
    return sorted(found)
