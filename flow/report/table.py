"""Tables on pages (Markdown) and on terminals, and the numbers in them: their only writer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flow.figures.words import METRICS, shown_unit

__all__ = ["NOTHING", "Column", "fixed", "markdown", "number", "terminal"]

NOTHING = "–"
"""What stands for a value that is not known."""

# Units of what is counted: they are the heading's own noun.
_COUNTED = ("cells", "nets", "transfers", "violations")


def number(value: float | int | None) -> str:
    """A value in four digits, with all of those before the point; `NOTHING` for none.

    Examples
    --------
    >>> number(0.0123456), number(12345.6), number(1234), number(None)
    ('0.01235', '12,346', '1,234', '–')
    """
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def fixed(value: float | int | None, digits: int = 0, scale: float = 1) -> str:
    """A value times `scale` with `digits` behind the point; `NOTHING` for none, and no ``-0``.

    Examples
    --------
    >>> fixed(1234.567, 1), fixed(-0.0001, 2), fixed(2500, 1, 1e-3), fixed(None)
    ('1,234.6', '0.00', '2.5', '–')
    """
    if value is None:
        return NOTHING
    text = f"{value * scale:,.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def markdown(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """A table as Markdown.

    Parameters
    ----------
    rows : sequence of sequence of str
        The first one is the head.
    left : collection of int
        Columns whose text begins at the left; numbers end at the right.
    """
    head, *body = rows
    rule = ["---" if i in left else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *body))


def terminal(rows: Sequence[Sequence[str]], left: Collection[int] = (0,), indent: int = 0) -> str:
    """A table in columns of equal width, two blanks between them; parameters as of `markdown`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        " " * indent
        + "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


@dataclass(frozen=True)
class Column:
    """A metric in a table of many runs, where it is a column, or a row."""

    name: str  #: In `METRICS`, which has its heading.
    digits: int = 0  #: Behind the point.
    scale: float = 1  #: Factor to `unit`.
    unit: str = ""  #: The metric's own when empty.

    @property
    def title(self) -> str:
        word = METRICS[self.name]
        return word.heading or word.title

    @property
    def shown_unit(self) -> str:
        given = self.unit or METRICS[self.name].heading_unit
        return given or ("" if METRICS[self.name].unit in _COUNTED else shown_unit(self.name))

    @property
    def head(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.shown_unit})" if self.shown_unit else self.title

    def text(self, values: Mapping[str, float | int | None]) -> str:
        """The metric's value as the table shows it."""
        return fixed(values.get(self.name), self.digits, self.scale)
