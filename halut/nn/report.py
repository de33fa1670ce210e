"""A report of conversion as a page: the errors of all layers as a plot, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

__all__ = ["report_page"]

_SERIES = (
    ("error", "product, held-out rows", "#777777"),
    ("exact_inputs_error", "layer, exact inputs", "#0072b2"),
    ("own_inputs_error", "layer, its own inputs", "#e69f00"),
    ("output_error", "network's output so far", "#d55e00"),
)
"""What is drawn: attribute of a row, what it is, colour (told apart by the colour-blind)."""

_COLUMNS = (
    ("name", "layer"), ("kind", "class"), ("n_codebooks", "C"), ("n_prototypes", "K"),
    ("lut_bits", "bits"), ("macs", "MACs"), ("table_bytes", "table bytes"),
    ("error", "error"), ("float_error", "float"), ("exact_inputs_error", "exact inputs"),
    ("own_inputs_error", "own inputs"), ("output_error", "output"), ("reason", "stays because"),
)  # fmt: skip

_STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222}
table{border-collapse:collapse}
td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,td:nth-child(2),th:first-child,th:nth-child(2),td:last-child{text-align:left}
.key span{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin:0 .4em 0 1.2em}
svg{max-width:100%;height:auto}svg text{font-size:11px;fill:#444}"""

_STEP, _HEIGHT, _LEFT, _TOP, _BELOW = 22, 260, 60, 15, 150


def report_page(rows: Sequence[Any], title: str) -> str:
    """Return the page.

    Parameters
    ----------
    rows : sequence of ConversionRow
    title : str
    """
    drawn = [row for row in rows if row.converted]
    body = [f"<h1>{escape(title)}</h1>"]
    total = sum(row.macs or 0 for row in rows)
    if total:
        share = sum(row.macs or 0 for row in drawn) / total
        body.append(
            f"<p>{len(drawn)} of {len(rows)} layers are looked up, "
            f"{100 * share:.1f} % of the MACs; tables of "
            f"{sum(row.table_bytes for row in drawn):,} bytes.</p>"
        )
    if drawn:
        body.append(_plot(drawn))
    body.append(_table(rows))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _plot(rows: Sequence[Any]) -> str:
    """Return errors over layers in forward order, on a logarithmic axis, as SVG and its key."""
    series = [
        (name, what, colour, [getattr(row, name) for row in rows])
        for name, what, colour in _SERIES
        if any(getattr(row, name) is not None for row in rows)
    ]
    values = [value for *_, found in series for value in found if value and math.isfinite(value)]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)

    def height(value: float) -> float:
        value = min(value, 10.0**high) if value > 10.0**low else 10.0**low  # NaN is below
        share = (math.log10(value) - low) / (high - low)
        return _TOP + (1 - share) * _HEIGHT

    width = _LEFT + _STEP * len(rows) + 20
    parts = []
    for power in range(low, high + 1):
        y = height(10.0**power)
        parts.append(f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for name, what, colour, found in series:
        points = [
            (
                _LEFT + _STEP * (index + 0.5),
                height(value if math.isfinite(value) else math.inf),
                value,
            )
            for index, value in enumerate(found)
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" class="{name}"/>')
        for (x, y, value), row in zip(points, rows, strict=False):
            label = escape(f"{row.name}: {what} {value:.4g}")
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}">'
                f"<title>{label}</title></circle>"
            )
    for index, row in enumerate(rows):
        x, y = _LEFT + _STEP * (index + 0.5), _TOP + _HEIGHT + 12
        parts.append(
            f'<text x="{x:.1f}" y="{y}" text-anchor="end" transform="rotate(-60 {x:.1f} {y})">'
            f"{escape(row.name)}</text>"
        )
    key = "".join(
        f'<span style="background:{colour}"></span>{escape(what)}' for _, what, colour, _ in series
    )
    whole = _TOP + _HEIGHT + _BELOW
    return (
        f'<svg viewBox="0 0 {width} {whole}" width="{width}" height="{whole}" role="img" '
        f'aria-label="errors of the layers">{"".join(parts)}</svg>\n<p class="key">{key}</p>'
    )


def _table(rows: Sequence[Any]) -> str:
    head = "".join(f"<th>{escape(what)}</th>" for _, what in _COLUMNS)
    lines = []
    for row in rows:
        cells = []
        for name, _ in _COLUMNS:
            value = getattr(row, name)
            if name == "table_bytes" and not row.converted:
                value = None
            text = (
                f"{value:.4f}" if isinstance(value, float) else str("" if value is None else value)
            )
            cells.append(f"<td>{escape(text)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>"
