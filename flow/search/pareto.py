"""``python -m flow pareto``: which points of a sweep no other one beats."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.figures.metrics import METRICS
from flow.report.table import Column, number
from flow.report.table import markdown as table_markdown
from flow.report.template import PAGES, render
from flow.search.results import read_results
from flow.search.space import BUILD, Space, default_results
from halut.cli import Parser
from halut.errors import HalutError, closest
from halut.files import write_text

__all__ = ["AXES", "Axis", "Front", "find_front", "main", "non_dominated"]


@dataclass(frozen=True)
class Axis:
    """What is compared."""

    title: str
    unit: str
    column: str  #: Of the results.
    direction: int  #: -1 smaller is better, +1 larger.

    @property
    def head(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def _measured(name: str) -> Axis:
    column = Column(name)
    return Axis(column.title, column.shown_unit, name, METRICS[name].direction)


AXES: dict[str, Axis] = {
    "error": Axis("relative error", "", "learn__relative_error", -1),
    "accuracy": Axis("accuracy", "", "learn__accuracy", 1),
    "area": _measured("synth__design__instance__area__stdcell"),
    "energy": _measured("halut__energy__per_mac"),
    "throughput": Axis("throughput", "GMAC/s", "throughput__gmacs_per_s", 1),
    "gates": _measured("halut__area__gate_equivalents"),
}
_DEFAULT = ("error", "area", "energy", "throughput")
_DEFAULT_WITHOUT_LIBRARY = ("error", "gates", "throughput")
_POINT = ("n_codebooks", "n_prototypes", "n_outputs", "rows", "parallel_codebooks", "input_format",
          "lut_format", "lut_bits", "clock_ns", "platform", "corner", "slug")  # fmt: skip


def axis(name: str) -> Axis:
    """An axis by its short name, or by that of any metric with a direction."""
    if name in AXES:
        return AXES[name]
    word = METRICS.get(name)
    if word is None or not word.direction:
        raise HalutError(
            f"axes must be among {', '.join(AXES)} or metrics with a direction, not {name!r}"
            f"{closest(name, [*AXES, *METRICS])}"
        )
    return Axis(name, word.unit, name, word.direction)


def non_dominated(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row is at least as good as everywhere and better somewhere.

    Parameters
    ----------
    costs : float64 ndarray of shape (n_points, n_axes)
        Smaller is better; finite.

    Returns
    -------
    bool ndarray of shape (n_points,)
        Equal rows do not beat each other.

    Examples
    --------
    >>> non_dominated(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0]])).tolist()
    [True, True, False]
    """
    kept = np.ones(len(costs), dtype=bool)
    for i, row in enumerate(costs):
        kept[i] = not ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
    return kept


@dataclass(frozen=True, kw_only=True)
class Front:
    """Points that can be compared, and which of them are on the front."""

    axes: tuple[Axis, ...]
    #: Measured points with a value on each axis that meet their clock, best front first.
    rows: Sequence[Mapping[str, Any]]
    on_front: Sequence[bool]  #: Per row. Points of different platforms or corners do not compete.
    left_out: Mapping[str, int]  #: Why other points are not in `rows`, and how many.


def find_front(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> Front:
    """Find the front of the measured points.

    Parameters
    ----------
    rows : sequence of mapping
        As `read_results` returns them.
    names : sequence of str
        Axes; by default error, area, energy and throughput, as far as they were measured, and
        gate equivalents where there is no library.

    Raises
    ------
    HalutError
        When nothing was measured on an axis.
    """
    left_out: dict[str, int] = {}

    def leave(reason: str) -> None:
        left_out[reason] = left_out.get(reason, 0) + 1

    measured = []
    for row in rows:
        slack = row["synth__timing__setup__ws"]
        if row["status"] != "measured":
            leave(row["status"])
        elif slack is not None and slack < 0:
            leave("too slow for its clock")
        else:
            measured.append(row)
    if not measured:
        raise HalutError(
            "results must have measured points that meet their clock, not only "
            f"{', '.join(f'{count} {reason}' for reason, count in left_out.items()) or 'none'}"
        )
    if not names:
        area = AXES["area"].column
        library = any(row[area] is not None for row in measured)
        names = [
            name
            for name in (_DEFAULT if library else _DEFAULT_WITHOUT_LIBRARY)
            if any(row[AXES[name].column] is not None for row in measured)
        ]
    axes = tuple(axis(name) for name in dict.fromkeys(names))
    for each in axes:
        if all(row[each.column] is None for row in measured):
            raise HalutError(
                f"axes must have been measured, unlike {each.title}: no point has {each.column}"
            )
    kept = []
    for row in measured:
        if any(row[each.column] is None for each in axes):
            leave("not measured on every axis")
        else:
            kept.append(row)
    costs = np.array([[-each.direction * row[each.column] for each in axes] for row in kept])
    places = [(row["platform"], row["corner"]) for row in kept]
    on_front = np.zeros(len(kept), dtype=bool)
    for place in dict.fromkeys(places):
        members = np.array([each == place for each in places])
        on_front[members] = non_dominated(costs[members])
    order = sorted(range(len(kept)), key=lambda i: (not on_front[i], str(places[i]), *costs[i]))
    return Front(
        axes=axes,
        rows=[kept[i] for i in order],
        on_front=[bool(on_front[i]) for i in order],
        left_out=left_out,
    )


def _table(front: Front) -> tuple[list[str], list[list[str]]]:
    head = ["C", "K", "P", "Q", "inputs", "tables", "clock (ns)", "platform"]
    head += [each.head for each in front.axes]
    body = []
    for row, best in zip(front.rows, front.on_front, strict=True):
        if best:
            table = "fp16" if row["lut_format"] == "fp16" else f"int{row['lut_bits']}"
            names = ("n_codebooks", "n_prototypes", "rows", "parallel_codebooks", "input_format")
            corner = f" {row['corner']}" if row["corner"] else ""
            body.append(
                [str(row[name]) for name in names]
                + [table, f"{row['clock_ns']:g}", f"{row['platform']}{corner}"]
                + [number(row[each.column]) for each in front.axes]
            )
    return head, body


def summary(front: Front) -> str:
    """One line: how many points are on the front, and how many were not compared."""
    left = ", ".join(f"{count} {reason}" for reason, count in sorted(front.left_out.items()))
    return (
        f"{sum(front.on_front)} of {len(front.rows)} measured points are on the front of "
        f"{', '.join(each.title for each in front.axes)}" + (f" (besides: {left})" if left else "")
    )


def markdown(front: Front) -> str:
    """The front as a Markdown table."""
    head, body = _table(front)
    return f"{summary(front)}.\n\n{table_markdown([head, *body], left=(4, 5, 7))}"


def csv_table(front: Front) -> str:
    """All compared points as CSV, with ``on_front``."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["on_front", *_POINT, *(each.column for each in front.axes)])
    for row, best in zip(front.rows, front.on_front, strict=True):
        writer.writerow(
            [int(best), *(row[name] for name in _POINT), *(row[a.column] for a in front.axes)]
        )
    return stream.getvalue()


def page(front: Front, title: str) -> str:
    """One self-contained page: every pair of axes as an interactive plot, and the table."""
    try:
        import plotly.graph_objects as graph
    except ImportError:
        raise HalutError("plotly must be installed for the page: pip install -e .[flow]") from None
    figure = graph.Figure()
    for name, wanted, color, size in (
        ("beaten", False, "rgba(120,120,120,0.45)", 6),
        ("on the front", True, "rgb(200,60,30)", 9),
    ):
        rows = [r for r, best in zip(front.rows, front.on_front, strict=True) if best is wanted]
        figure.add_splom(
            dimensions=[
                {"label": each.head, "values": [row[each.column] for row in rows]}
                for each in front.axes
            ],
            text=[f"{row['slug']}<br>{row['platform']}, {row['clock_ns']:g} ns" for row in rows],
            name=name,
            marker={"color": color, "size": size},
            diagonal_visible=False,
        )
    figure.update_layout(
        height=260 * max(2, len(front.axes)), dragmode="select", template="plotly_white"
    )
    plot = figure.to_html(full_html=False, include_plotlyjs=True, div_id="front")
    head, body = _table(front)
    values = {"title": title, "summary": summary(front), "plot": plot, "head": head, "body": body}
    return render(PAGES / "pareto.html", **values) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m flow pareto",
        description="Find the points of a sweep that no other one beats, and write them as a "
        "table (.md), all compared points (.csv) and an interactive page (.html).",
    )
    add = parser.add_argument
    add("results", metavar="RESULTS",
        help="Parquet file of python -m flow sweep, or the space that was searched "
        "(.yaml)")  # fmt: skip
    add("--axes", default="", metavar="NAMES",
        help=f"comma-separated: {', '.join(AXES)}, or metrics by name (default: error, area, "
        "energy, throughput; without a library error, gates, throughput)")  # fmt: skip
    add("--build", default=str(BUILD), metavar="DIR",
        help="folder in which the sweep put the results of a space")  # fmt: skip
    add("-o", "--output", metavar="DIR", help="folder (default: that of the results)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m flow pareto``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    names = [name.strip() for name in arguments.axes.split(",") if name.strip()]
    for name in names:
        axis(name)
    source = Path(arguments.results)
    if source.suffix in (".yaml", ".yml"):
        source = default_results(Space.from_yaml(source), Path(arguments.build))
    front = find_front(read_results(source), names)
    folder = Path(arguments.output) if arguments.output else source.parent
    title = f"Pareto front of {source.parent.name or source.stem}"
    texts = {
        "pareto.md": markdown(front),
        "pareto.csv": csv_table(front),
        "pareto.html": page(front, title),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    sys.stdout.write(texts["pareto.md"])
    print(f"\nwrote {', '.join(str(folder / name) for name in texts)}")
    return 0
