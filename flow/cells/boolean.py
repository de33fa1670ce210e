"""Boolean expressions as liberty files write them.

Operators, loosest first: ``+`` or ``|``, then ``*``, ``&`` or plain juxtaposition, then ``^``,
then the prefix ``!`` and the postfix ``'``. An expression becomes a truth table over its inputs,
which is all that the rest of the flow needs: equivalence, Verilog, signal probabilities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from halut.errors import HalutError

__all__ = ["Expression", "parse"]

_TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\].]*|[01]|[!'&*|+^()])")


@dataclass(frozen=True)
class Expression:
    """A Boolean function of named inputs."""

    text: str  #: The expression as it was written.
    inputs: tuple[str, ...]  #: Names that occur in it, in order of first occurrence.
    #: Nested ``("var", name)``, ``("const", 0 | 1)``, ``("not", a)``, ``("and", a, b)``, ``("or",
    #: a, b)``, ``("xor", a, b)``.
    tree: tuple

    def table(self, inputs: tuple[str, ...] | None = None) -> np.ndarray:
        """Value for every assignment; input i is bit i of the row number.

        Parameters
        ----------
        inputs : tuple of str, optional
            Order of the inputs; a superset of `self.inputs`. Default: `self.inputs`.

        Returns
        -------
        ndarray of shape (2**len(inputs),), bool
        """
        names = self.inputs if inputs is None else inputs
        rows = np.arange(1 << len(names))
        columns = {name: (rows >> i) & 1 == 1 for i, name in enumerate(names)}

        def value(node: tuple) -> np.ndarray:
            kind = node[0]
            if kind == "var":
                return columns[node[1]]
            if kind == "const":
                return np.full(rows.shape, bool(node[1]))
            if kind == "not":
                return ~value(node[1])
            left, right = value(node[1]), value(node[2])
            return {"and": left & right, "or": left | right, "xor": left ^ right}[kind]

        return value(self.tree)

    def verilog(self, rename: dict[str, str] | None = None) -> str:
        """The expression in Verilog, names replaced by `rename` where it has them."""
        names = rename or {}

        def text(node: tuple) -> str:
            kind = node[0]
            if kind == "var":
                return names.get(node[1], node[1])
            if kind == "const":
                return f"1'b{node[1]}"
            if kind == "not":
                return f"~{text(node[1])}"
            sign = {"and": "&", "or": "|", "xor": "^"}[kind]
            return f"({text(node[1])} {sign} {text(node[2])})"

        return text(self.tree)


@cache
def parse(text: str) -> Expression:
    """Read one expression.

    Parameters
    ----------
    text : str
        For example ``"!((A1 & A2) | B)"`` or ``"(A*B)'"``.

    Raises
    ------
    HalutError
        When the text is not an expression.

    Examples
    --------
    >>> parse("!(A & B)").table().astype(int).tolist()
    [1, 1, 1, 0]
    >>> parse("A B' + C").verilog()
    '((A & ~B) | C)'
    """
    tokens: list[str] = []
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if not match:
            raise HalutError(f'a liberty function must be a Boolean expression, not "{text}"')
        tokens.append(match[1])
        position = match.end()
    names: dict[str, None] = {}
    at = 0

    def peek() -> str:
        return tokens[at] if at < len(tokens) else ""

    def take() -> str:
        nonlocal at
        token = peek()
        at += 1
        return token

    def primary() -> tuple:
        token = take()
        if token == "!":
            return ("not", primary())
        if token == "(":
            node = either()
            if take() != ")":
                raise HalutError(f'a liberty function must close its parentheses: "{text}"')
        elif token in ("0", "1"):
            node = ("const", int(token))
        elif token and (token[0].isalpha() or token[0] == "_"):
            names[token] = None
            node = ("var", token)
        else:
            raise HalutError(f'a liberty function must be a Boolean expression, not "{text}"')
        while peek() == "'":
            take()
            node = ("not", node)
        return node

    def exclusive() -> tuple:
        node = primary()
        while peek() == "^":
            take()
            node = ("xor", node, primary())
        return node

    def both() -> tuple:
        node = exclusive()
        while True:
            token = peek()
            if token in ("&", "*"):
                take()
            elif not (token and (token[0].isalnum() or token[0] in "_!(")):
                return node
            node = ("and", node, exclusive())

    def either() -> tuple:
        node = both()
        while peek() in ("|", "+"):
            take()
            node = ("or", node, both())
        return node

    tree = either()
    if at != len(tokens):
        raise HalutError(f'a liberty function must be a Boolean expression, not "{text}"')
    return Expression(text, tuple(names), tree)
