"""The language of Liberty files: nested groups of named values, without their meaning.

A group has a kind, arguments, simple values (``name : value ;``), lists (``name (a, b) ;``) and
groups of its own. What they mean for a cell is in `flow.cells.liberty`.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

from halut.errors import HalutError

__all__ = ["Group", "parse_groups", "read_text"]

_SKIP = re.compile(r"(?:\s+|/\*.*?\*/|//[^\n]*|\\\r?\n|;)+", re.S)
_STATEMENT = re.compile(
    r"""([\w.]+)\s*(?:
        :\s*(?:"((?:[^"\\]|\\.)*)"|([^;\n{}]*?))\s*(?=[;\n}])   # name : value ;
        |\(((?:[^()"]|"(?:[^"\\]|\\.)*")*)\)\s*(\{)?             # name(arguments) [{]
    )""",
    re.X | re.S,
)
_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,\s"]+)')


@dataclass
class Group:
    kind: str
    arguments: list[str]
    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def all(self, kind: str) -> list[Group]:
        return [group for group in self.groups if group.kind == kind]

    def number(self, name: str, default: float = 0.0) -> float:
        try:
            return float(self.values.get(name, default))
        except ValueError:
            return default


def _arguments(text: str) -> list[str]:
    return [quoted or plain for quoted, plain in _ARGUMENT.findall(text.replace("\\\n", " "))]


def parse_groups(text: str, where: str) -> Group:
    """The file as nested groups; raises HalutError where it is not liberty."""
    root = Group("", [])
    stack = [root]
    position = 0
    skip, statement = _SKIP.match, _STATEMENT.match
    end = len(text)
    while True:
        blank = skip(text, position)
        if blank:
            position = blank.end()
        if position >= end:
            break
        if text[position] == "}":
            if len(stack) == 1:
                break
            stack.pop()
            position += 1
            continue
        match = statement(text, position)
        if not match:
            line = text.count("\n", 0, position) + 1
            raise HalutError(f"a library must be a liberty file ({where}, line {line})")
        position = match.end()
        name, quoted, plain, arguments, opens = match.groups()
        top = stack[-1]
        if arguments is None:
            top.values[name] = quoted if quoted is not None else plain.strip()
        elif opens:
            group = Group(name, _arguments(arguments))
            top.groups.append(group)
            stack.append(group)
        else:
            top.lists[name] = _arguments(arguments)
    if len(stack) != 1 or not root.all("library"):
        raise HalutError(f"a library must be a complete liberty file ({where})")
    return root.all("library")[0]


def read_text(path: Path) -> str:
    """Text of a liberty file, plain or gzip."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise HalutError(f"a library must be readable: {error} ({path})") from None
    return data.decode("utf-8", errors="replace")
