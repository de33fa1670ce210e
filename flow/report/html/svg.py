"""Drawings as SVG text: a thin layer over ElementTree, which escapes everything."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

__all__ = ["Drawing", "shade"]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Drawing:
    """An SVG picture whose colours come from the page's style sheet.

    Parameters
    ----------
    width, height : float
        Of its coordinates; the picture is scaled to the page.
    title : str
        What it shows, for those who do not see it.
    kind : str
        Class of the element.
    """

    def __init__(self, width: float, height: float, title: str, kind: str) -> None:
        self.root = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {_text(width)} {_text(height)}",
                "class": f"drawing {kind}",
                "role": "img",
                "aria-label": title,
                "style": f"--width: {_text(width)}px",
            },
        )

    def add(self, tag: str, **attributes: object) -> ElementTree.Element:
        """Add an element; ``_`` in names becomes ``-``, ``class_`` is ``class``."""
        given = {
            name.rstrip("_").replace("_", "-"): _text(value)
            for name, value in attributes.items()
            if value is not None
        }
        return ElementTree.SubElement(self.root, tag, given)

    def text(self, x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> None:
        """Write one line; `y` is its base line."""
        element = self.add("text", x=x, y=y, class_=class_ or None, text_anchor=anchor)
        element.text = words

    def box(
        self, x: float, y: float, width: float, height: float, class_: str, radius: float = 8
    ) -> ElementTree.Element:
        """Draw a rectangle with round corners."""
        return self.add("rect", x=x, y=y, width=width, height=height, rx=radius, class_=class_)

    def line(self, points: list[tuple[float, float]], class_: str, width: float = 1.5) -> None:
        """Draw straight lines through points."""
        path = " ".join(f"{_text(float(x))},{_text(float(y))}" for x, y in points)
        self.add("polyline", points=path, class_=class_, stroke_width=width)

    def arrow(self, points: list[tuple[float, float]], class_: str, width: float = 1.5) -> None:
        """Draw lines that end in an arrow head; the last stretch is horizontal or vertical."""
        (x0, y0), (x1, y1) = points[-2:]
        size = 4 + width
        along = (0 if x1 == x0 else size if x1 > x0 else -size,
                 0 if y1 == y0 else size if y1 > y0 else -size)  # fmt: skip
        base = (x1 - along[0], y1 - along[1])
        self.line([*points[:-1], base], class_, width)
        side = (along[1] * 0.6, along[0] * 0.6)
        head = [(x1, y1), (base[0] + side[0], base[1] + side[1]),
                (base[0] - side[0], base[1] - side[1])]  # fmt: skip
        path = " ".join(f"{_text(float(x))},{_text(float(y))}" for x, y in head)
        self.add("polygon", points=path, class_=f"{class_} head")

    def hover(self, element: ElementTree.Element, words: str) -> None:
        """Give an element a text that shows when the pointer rests on it."""
        ElementTree.SubElement(element, "title").text = words

    def markup(self) -> str:
        """The picture as text."""
        return ElementTree.tostring(self.root, encoding="unicode")


def shade(colour: str, amount: float) -> str:
    """Another tint of ``#rrggbb``: 1 is white, 0 leaves it, -1 is black."""
    end = 255 if amount > 0 else 0
    parts = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (end - part) * abs(amount)):02x}" for part in parts)
