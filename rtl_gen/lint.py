"""Waivers for Verilator's lint, each around the lines that need it and no others.

What remains in generated Verilog: bits that nothing reads (carries out of modular sums; decoder
lines that Yosys replaced by the bit they are equal to; program bits beyond the narrower of two word
formats), and sums of operands of different widths, where Verilog extends the narrower by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

__all__ = ["waive"]

_DECLARATION = re.compile(r"^  (?:input|output|wire|reg) (?:signed )?(?:\[(\d+):0\] )?(\w+);$")
_NUMBER = re.compile(r"(\d+)'s?[hbd][0-9a-fxz?]+")
_REFERENCE = re.compile(r"\b([A-Za-z_]\w*)\b(?: ?\[(\d+)(?::(\d+))?\])?")
_OPERATION = re.compile(r"^  assign (.+?) = (.+?) (\+|-|<<<?|<=?|>=?|==|!=) (.+);$")
_INSTANCE = re.compile(r"^  (\w+) (?:#\(.*?\) )?\w+ \(\n(.*?)\n?  \);$", re.M | re.S)
_CONNECTION = re.compile(r"\.(\w+)\((.*?)\)(?:,|$)", re.M | re.S)


def waive(module: str, inputs: Mapping[str, Collection[str]]) -> str:
    """Put waivers around the lines of a module that need one.

    Parameters
    ----------
    module : str
        A module as Yosys writes it.
    inputs : mapping of str to collection of str
        Per module that it instantiates, the input ports.

    Returns
    -------
    str
        The module with ``/* verilator lint_off … */`` and ``lint_on`` on lines of their own.
    """
    widths = {
        match[2]: int(match[1] or 0) + 1
        for line in module.splitlines()
        if (match := _DECLARATION.match(line))
    }
    unread = _unread(module, widths, inputs)
    lines: list[tuple[str, str]] = []  # (rule, line)
    for line in module.splitlines():
        rule = ""
        if line.startswith("module "):
            rule = "DECLFILENAME"
        elif (match := _DECLARATION.match(line)) and match[2] in unread:
            rule = "UNUSEDSIGNAL"
        elif _extends(line, widths):
            rule = "WIDTHEXPAND"
        lines.append((rule, line))
    return "\n".join(_wrapped(lines)) + "\n"


def _wrapped(lines: list[tuple[str, str]]) -> Iterator[str]:
    """The lines, with one waiver around neighbours of the same rule."""
    current = ""
    for rule, line in [*lines, ("", "")]:
        if rule != current:
            if current:
                yield f"/* verilator lint_on {current} */"
            if rule:
                yield f"/* verilator lint_off {rule} */"
            current = rule
        yield line


def _unread(
    module: str, widths: Mapping[str, int], inputs: Mapping[str, Collection[str]]
) -> set[str]:
    """Signals, output ports excepted, of which nothing reads all bits."""
    read = {name: 0 for name in widths}

    def reads(text: str) -> None:
        for match in _REFERENCE.finditer(_NUMBER.sub("", text)):
            if match[1] not in widths:
                continue
            high = int(match[2]) if match[2] else widths[match[1]] - 1
            low = int(match[3]) if match[3] else (high if match[2] else 0)
            read[match[1]] |= (2 << high) - (1 << low)

    body = module
    for match in _INSTANCE.finditer(module):
        if match[1] not in inputs:
            continue
        for port, value in _CONNECTION.findall(match[2]):
            if port in inputs[match[1]]:
                reads(value)
        body = body.replace(match[0], "")
    outputs = set(re.findall(r"^  output .*?(\w+);$", module, re.M))
    for line in body.splitlines():
        if line.startswith("module ") or _DECLARATION.match(line):
            continue
        target, separator, source = line.partition(" = " if " assign " in line else " <= ")
        if separator:
            before = re.match(r"(.*\))? *(.*)$", target)
            condition = before[1] if before and " assign " not in line else None
            reads(condition or "")
            reads(source)
            if "[" in target:
                reads(" ".join(re.findall(r"\[(\w*[A-Za-z_]\w*)\]", target)))
        else:
            reads(line)
    return {n for n, w in widths.items() if n not in outputs and read[n] != (1 << w) - 1}


def _width(expression: str, widths: Mapping[str, int]) -> int | None:
    """Bits of an operand: a signal or a part of it, a number, or a concatenation."""
    text = expression.strip()
    if match := re.fullmatch(r"\$signed\((.*)\)|\((.*)\)", text):
        return _width(match[1] or match[2], widths)
    if match := re.fullmatch(r"[-~] ?(.*)", text):
        return _width(match[1], widths)
    if text.startswith("{") and text.endswith("}"):
        parts = [_width(part, widths) for part in text[1:-1].split(",")]
        return None if None in parts else sum(part or 0 for part in parts)
    if match := _NUMBER.fullmatch(text):
        return int(match[1])
    match = _REFERENCE.fullmatch(text)
    if match is None or match[1] not in widths:
        return None
    if match[2] is None:
        return widths[match[1]]
    return int(match[2]) - int(match[3] or match[2]) + 1


def _extends(line: str, widths: Mapping[str, int]) -> bool:
    """Whether an operand of an assignment's operation is narrower than the operation."""
    match = _OPERATION.match(line)
    if match is None:
        return False
    target, left, operator, right = (
        match[3] if i == 3 else _width(match[i], widths) for i in (1, 2, 3, 4)
    )
    if not (isinstance(target, int) and isinstance(left, int) and isinstance(right, int)):
        return False
    if operator in ("<<", "<<<"):
        return left < target
    if operator in ("+", "-"):
        # Verilator takes a sum one bit wider than its operands, and an added bit, as meant.
        operands = [left] if operator == "+" and right == 1 else [left, right]
        return min(operands) < max(left, right, target) - 1
    return left != right
