"""Small faults put into emitted Verilog, one at a time.

The operators work on the lines that `rtl_gen` writes: one assignment, one condition or one port
connection per line. Declarations and the two technology cells, which a synthesis flow replaces,
are left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Mutant", "apply", "mutants", "sample"]

_TOKEN = re.compile(
    r"\\\S+\s|\d+'s?[hbdo][0-9a-fA-FxXzZ?]+|[A-Za-z_$][\w$]*|\d+"
    r"|<<<|>>>|<=|>=|==|!=|<<|>>|&&|\|\||~\^|\s+|."
)
_LINE = re.compile(
    r"^\s*(?:assign\s(?P<assigned>.+?)\s=\s(?P<value>.+);"
    r"|(?P<condition>(?:else\s)?if\s\(.+?\)\s|else\s)?(?P<target>\\?[^\s<(]+(?:\s?\[[^\]]+\])?)\s+<=\s"
    r"(?P<next>.+);"
    r"|\.(?P<port>\w+)\((?P<connection>.+)\),?)$"
)
_BINARY = {
    "&": "|", "|": "&", "^": "|", "+": "-", "-": "+", "*": "+", "==": "!=", "!=": "==",
    ">": ">=", "<": "<=", ">=": ">", "<=": "<", "<<": ">>", ">>": "<<", "&&": "||", "||": "&&",
    ">>>": ">>", "~^": "^",
}  # fmt: skip
_Change = Callable[[int, int, str], str]  # (first token, token behind the last, new text)
_CELLS = {"halut_latch", "halut_clock_gate"}
_ORDERED = {"-", ">", "<", ">=", "<=", "<<", ">>", ">>>"}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault."""

    #: Module kind, operator and a hash of what is changed where in the module: it stays the same
    #: when other lines change.
    id: str
    #: Name of the module, and of the kind of unit that it is.
    module: str
    kind: str
    operator: str  #: What was done.
    line: int  #: Index of the line in the Verilog.
    #: The line, and what takes its place.
    before: str
    after: str


def apply(verilog: str, mutant: Mutant) -> str:
    """Return the Verilog with one fault."""
    lines = verilog.split("\n")
    if lines[mutant.line] != mutant.before:
        raise ValueError(f"line {mutant.line} must be {mutant.before!r}")
    lines[mutant.line] = mutant.after
    return "\n".join(lines)


def mutants(verilog: str) -> list[Mutant]:
    """Return every mutant of emitted Verilog, in the order of its lines."""
    lines = verilog.split("\n")
    outputs = _outputs(lines)
    found: list[Mutant] = []
    module = instance = ""
    widths: dict[str, int] = {}
    occurrences: Counter[str] = Counter()
    for index, line in enumerate(lines):
        if opened := re.match(r"module (\w+)", line):
            module, widths = opened[1], {}
            occurrences.clear()
        elif declared := re.match(r"\s*(?:wire|reg)\s+(?:\[(\d+):0\]\s)?(\\\S+\s|\w+)", line):
            widths[declared[2].strip()] = int(declared[1] or 0) + 1
        elif instanced := re.match(r"\s*(halut_\w+)\s.*\($", line):
            instance = instanced[1]
        if module in _CELLS:
            continue
        seen: set[str] = set()
        for operator, after in _changes(line, widths, outputs.get(instance, set())):
            if after.split() == line.split() or after in seen:
                continue
            seen.add(after)
            text = "\0".join([module, line, str(occurrences[line]), operator, after])
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            kind = _kind(module)
            found.append(Mutant(
                id=f"{kind}-{operator.replace(' ', '-')}-{digest}", module=module, kind=kind,
                operator=operator, line=index, before=line, after=after,
            ))  # fmt: skip
        occurrences[line] += 1
    return found


def sample(population: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Choose mutants at random, evenly from all kinds of modules and all operators.

    Module kinds take turns, and within a kind the operators; which mutant is drawn.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, dict[str, list[Mutant]]] = {}
    for k in rng.permutation(len(population)):
        mutant = population[k]
        groups.setdefault(mutant.kind, {}).setdefault(mutant.operator, []).append(mutant)
    chosen: list[Mutant] = []
    queues = [_turns(groups[kind]) for kind in sorted(groups)]
    while queues and len(chosen) < count:
        for queue in list(queues):
            mutant_or_none = next(queue, None)
            if mutant_or_none is None:
                queues.remove(queue)
            elif len(chosen) < count:
                chosen.append(mutant_or_none)
    return chosen


def _turns(operators: dict[str, list[Mutant]]) -> Iterator[Mutant]:
    waiting = [list(reversed(operators[name])) for name in operators]
    while waiting:
        for queue in waiting:
            yield queue.pop()
        waiting = [queue for queue in waiting if queue]


def _kind(module: str) -> str:
    """The unit's name without its parameters."""
    parts = module.removeprefix("halut_").split("_")
    words = [part for part in parts if not any(c.isdigit() for c in part)]
    first_number = next((k for k, part in enumerate(parts) if part not in words), len(parts))
    return "_".join(parts[:first_number])


def _outputs(lines: Sequence[str]) -> dict[str, set[str]]:
    """Output ports by module: what they are connected to is driven inside."""
    found: dict[str, set[str]] = {}
    module = ""
    for line in lines:
        if opened := re.match(r"module (\w+)", line):
            module = opened[1]
        elif declared := re.match(r"\s*output\s+(?:reg\s+|wire\s+)?(?:\[.*?\]\s*)?(\w+)", line):
            found.setdefault(module, set()).add(declared[1])
    return found


def _changes(line: str, widths: dict[str, int], driven: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (operator, changed line)."""
    parts = _LINE.match(line)
    if parts is None:
        return
    if parts["connection"] is not None:
        # Parameters have capital letters.
        if parts["port"] in {*driven, "clk_i", "rst_ni"} or parts["port"].isupper():
            return
        yield from _within(line, parts.span("connection"), widths)
        first, last = parts.span("connection")
        yield "stuck at 0", f"{line[:first]}1'h0{line[last:]}"
        yield "inverted", f"{line[:first]}~({line[first:last]}){line[last:]}"
        return
    if parts["condition"] is not None:
        first, last = parts.span("condition")
        condition = re.match(r"(else\s)?if\s\((.+)\)\s", parts["condition"])
        if condition is not None:
            head = condition[1] or ""
            body, is_reset = condition[2], condition[2] == "!rst_ni"
            rest = line[last:]
            opening = line[:first] + head
            yield "inverted condition", f"{opening}if (!({body})) {rest}"
            yield "never", f"{opening}if (1'h0) {rest}"
            # Without the condition an `else` of the following line would stand alone.
            yield "always", f"{opening}if (1'h1) {rest}" if is_reset else f"{opening}{rest}"
            if not is_reset:
                yield from _within(line, (first, last), widths)
    yield from _within(line, parts.span("value" if parts["value"] else "next"), widths)


def _within(line: str, span: tuple[int, int], widths: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the changes of one expression."""
    before, text, behind = line[: span[0]], line[span[0] : span[1]], line[span[1] :]
    tokens = _TOKEN.findall(text)

    def changed(first: int, last: int, new: str) -> str:
        return before + "".join(tokens[:first]) + new + "".join(tokens[last:]) + behind

    binary: list[int] = []
    operand = ""  # the token before, spaces left out
    for k, token in enumerate(tokens):
        if token.isspace():
            continue
        is_operand_before = bool(re.match(r"[\w$\\)\]}]", operand))
        if token in _BINARY and is_operand_before:
            binary.append(k)
            yield "wrong operator", changed(k, k + 1, _BINARY[token])
        elif token in ("&", "|", "^") and not is_operand_before:
            other = {"&": "|", "|": "&", "^": "|"}[token]
            yield "wrong reduction", changed(k, k + 1, other)
        elif token in ("~", "!"):
            yield "negation dropped", changed(k, k + 1, "")
        elif number := re.match(r"(\d+)'(s?)h([0-9a-fA-F]+)$", token):
            bits, value = int(number[1]), int(number[3], 16)
            for operator, bit in (("constant", 0), ("constant, highest bit", bits - 1)):
                new = f"{bits}'{number[2]}h{value ^ 1 << bit:x}"
                yield operator, changed(k, k + 1, new)
        elif token == "[" and re.match(r"[\w$\\]", operand):
            yield from _selects(tokens, k, widths.get(operand.strip(), 0), changed)
        operand = token
    if len(binary) == 1 and not {"?", "{", "("} & set(tokens):
        k = binary[0]
        left, right = "".join(tokens[:k]).strip(), "".join(tokens[k + 1 :]).strip()
        left, right = (f"{side} " if side.startswith("\\") else side for side in (left, right))
        if tokens[k] in _ORDERED:
            yield "swapped operands", changed(0, len(tokens), f"{right} {tokens[k]} {left}")
        yield "operand dropped", changed(0, len(tokens), left)
        yield "operand dropped", changed(0, len(tokens), right)
    if tokens.count("?") == 1 and tokens.count(":") >= 1 and "{" not in tokens:
        question = tokens.index("?")
        depth = 0
        for k in range(question + 1, len(tokens)):
            depth += {"[": 1, "]": -1}.get(tokens[k], 0)
            if tokens[k] == ":" and depth == 0:
                one, two = "".join(tokens[question + 1 : k]), "".join(tokens[k + 1 :])
                yield "swapped arms", changed(question + 1, len(tokens), f"{two} :{one}")
    yield from _joins(tokens, changed)


def _selects(tokens: list[str], k: int, width: int, changed: _Change) -> Iterator[tuple[str, str]]:
    """Yield a bit select moved by one, inside the vector."""
    end = tokens.index("]", k)
    bounds = [int(token) for token in tokens[k + 1 : end] if token.isdigit()]
    rest = [token for token in tokens[k + 1 : end] if not token.isdigit() and token != ":"]
    if rest or not bounds:
        return
    step = -1 if min(bounds) > 0 else 1 if max(bounds) + 1 < width else 0
    if step:
        new = ":".join(str(bound + step) for bound in bounds)
        yield "select moved", changed(k + 1, end, new)


def _joins(tokens: list[str], changed: _Change) -> Iterator[tuple[str, str]]:
    """Yield a concatenation whose first two parts have changed places."""
    if tokens.count("{") != 1 or "?" in tokens:
        return
    first, last = tokens.index("{"), tokens.index("}")
    parts: list[str] = [""]
    for token in tokens[first + 1 : last]:
        if token == ",":
            parts.append("")
        else:
            parts[-1] += token
    # A reduction is the same in any order.
    reduced = any(token in ("&", "|", "^") for token in tokens[:first][-2:])
    is_reduction = reduced and not re.search(r"[\w\])]", "".join(tokens[:first]))
    if len(parts) > 1 and parts[0].strip() != parts[1].strip() and not is_reduction:
        parts[0], parts[1] = f" {parts[1].strip()} ", f" {parts[0].strip()} "
        yield "swapped parts", changed(first + 1, last, ",".join(parts))
