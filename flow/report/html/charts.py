"""Plots as Plotly figures in JSON. The page's script gives them the colours of its theme.

Plotly reads a few HTML tags in texts, so those from files are escaped here.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.designs.design import PARTS
from flow.figures.metrics import METRICS, Metrics
from flow.figures.words import shown_unit, stage, title
from flow.report.html.runs import Run
from flow.report.html.svg import shade
from flow.report.table import number as digits

__all__ = [
    "COLOURS",
    "COMPARED",
    "bar_title",
    "bars",
    "critical_path",
    "scatter",
    "templates",
    "treemap",
]

# Parts of the architecture. They stand out on light and dark, and next to each other for
# colour-blind readers; the style sheet gets them from here.
COLOURS = {
    "encoders": "#2f7ed8",
    "LUT banks": "#c26c14",
    "decoders": "#8e5bd0",
    "output": "#178a67",
    "control and clock": "#6b7482",
}
_OTHER = ("#2f7ed8", "#c26c14", "#8e5bd0", "#178a67", "#c2557a", "#6b7482")
COMPARED = (
    "synth__design__instance__area__stdcell",
    "halut__area__per_mac_per_cycle",
    "halut__timing__shortest_period",
    "synth__power__total",
    "halut__energy__per_mac",
    "halut__throughput__gmacs_per_s_per_mm2",
    "halut__routed__die_area_per_mac_per_cycle",
    "halut__routed__shortest_period",
    "halut__routed__energy_per_mac",
)
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def _figure(height: int, **layout: Any) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
        font={"family": _FONT, "size": 13},
        **layout,
    )
    return figure


def _plain(figure: Any) -> dict[str, Any]:
    content = json.loads(figure.to_json())
    # The script sets one of the two templates.
    content["layout"].pop("template", None)
    return {"data": content["data"], "layout": content["layout"]}


def templates() -> dict[str, dict[str, Any]]:
    """Layouts for light and dark."""
    import plotly.graph_objects as go

    result = {}
    for name, ink, grid, paper in (
        ("light", "#1c2430", "#dfe4ea", "#ffffff"),
        ("dark", "#e4e9f0", "#343d4a", "#171c24"),
    ):
        axis = {"title": {"font": {"size": 13}}, "gridcolor": grid,
                "linecolor": grid, "zerolinecolor": grid, "automargin": True,
                "tickcolor": grid}  # fmt: skip
        layout = go.Layout(
            font={"color": ink},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            xaxis=axis,
            yaxis=axis,
            hoverlabel={"bgcolor": paper, "bordercolor": grid, "font": {"color": ink}},
        )
        result[name] = {"layout": layout.to_plotly_json()}
    return result


def _colour(unit: str, order: list[str]) -> str:
    if unit in PARTS:
        return COLOURS[PARTS[unit]]
    return _OTHER[order.index(unit) % len(_OTHER)]


def treemap(rows: list[dict[str, Any]], keys: tuple[str, ...], unit: str) -> dict[str, Any] | None:
    """Area or power by unit, grouped by part of the architecture.

    Parameters
    ----------
    rows : list of dict
        A breakdown of `Metrics`.
    keys : tuple of str
        Columns that are added up.
    unit : str
        Of the sum.

    Returns
    -------
    dict or None
        None when it was not measured.
    """
    import plotly.graph_objects as go

    sizes: dict[str, float] = {}
    for row in rows:
        size = float(sum(row.get(key, 0.0) for key in keys))
        if size > 0:
            sizes[row["unit"]] = size
    if not sizes:
        return None
    root = "all cells"
    members: dict[str, list[str]] = {}
    for name in sizes:
        members.setdefault(PARTS.get(name, name), []).append(name)
    ids, labels, parents, values = [root], [root], [""], [sum(sizes.values())]
    colours = ["#4a5361"]
    for part, names in members.items():
        parent = root
        if len(names) > 1:
            parent = f"part {part}"
            ids.append(parent)
            labels.append(part)
            parents.append(root)
            values.append(sum(sizes[name] for name in names))
            colours.append(shade(COLOURS[part], -0.3))
        for k, name in enumerate(sorted(names, key=lambda name: -sizes[name])):
            ids.append(name)
            labels.append(name)
            parents.append(parent)
            values.append(sizes[name])
            colours.append(shade(_colour(name, list(sizes)), -0.09 * k))
    figure = _figure(380, uniformtext={"minsize": 10, "mode": "hide"})
    figure.add_trace(
        go.Treemap(
            ids=ids,
            labels=[escape(label, quote=False) for label in labels],
            parents=parents,
            values=values,
            branchvalues="total",
            marker={"colors": colours, "line": {"width": 1, "color": "rgba(255,255,255,0.6)"},
                    "pad": {"t": 22, "l": 3, "r": 3, "b": 3}, "cornerradius": 4},
            textfont={"color": "#ffffff", "shadow": "none"},
            texttemplate="%{label}<br><b>%{percentRoot:.1%}</b><br>%{value:,.4~r} " + unit,
            hovertemplate="%{label}<br>%{value:,.5~r} " + unit
            + "<br>%{percentRoot:.2%} of all<extra></extra>",
            tiling={"pad": 2},
            pathbar={"visible": False},
            sort=True,
        )
    )  # fmt: skip
    return _plain(figure)


def critical_path(metrics: Metrics) -> dict[str, Any] | None:
    """The path that limits the period: its way through the units over time, cell by cell."""
    import plotly.graph_objects as go

    path = metrics.notes.get("critical_path") or {}
    stretches = path.get("stretches") or []
    if not stretches:
        return None
    figure = _figure(
        86 + 46 * len(stretches),
        barmode="overlay",
        bargap=0.35,
        xaxis={"title": {"text": "time after the clock edge, ns"}, "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    shortest = metrics.values.get("halut__timing__shortest_period")
    now = 0.0
    order = [part["kind"] for part in stretches]
    for number, part in enumerate(stretches, 1):
        delays = part.get("delays_ns") or []
        cells = part["cells"]
        if len(delays) != len(cells):
            delays = [part["delay_ns"]]
            cells = [f"{len(part['cells'])} cells"]
        starts = [now + sum(delays[:k]) for k in range(len(delays))]
        now += sum(delays)
        count = len(part["cells"])
        kind = escape(part["kind"], quote=False)
        name = f"<b>{number}</b> {kind}<br>{part['delay_ns']:.3f} ns, {count} cell"
        name += "s" * (count > 1)
        colour = _colour(part["kind"], order)
        figure.add_trace(
            go.Bar(
                orientation="h",
                y=[name] * len(delays),
                x=delays,
                base=starts,
                customdata=[
                    [escape(str(words), quote=False) for words in (cell, part["unit"])]
                    for cell in cells
                ],
                marker={
                    "color": [shade(colour, 0.28 * (k % 2)) for k in range(len(delays))],
                    "line": {"width": 0},
                },
                hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{x:.4f} ns<extra></extra>",
            )
        )
    end = max(now, shortest or 0.0)
    if shortest:
        figure.add_vline(x=shortest, line={"dash": "dot", "width": 1.5, "color": "#c2557a"})
        figure.add_annotation(
            x=shortest, y=1, yref="paper", yanchor="bottom", showarrow=False, xanchor="right",
            text=f"shortest period {shortest:.3f} ns",
        )  # fmt: skip
        figure.update_layout(margin={"t": 26})
    figure.update_xaxes(range=[0, end * 1.04])
    return _plain(figure)


def bars(runs: list[Run], name: str) -> dict[str, Any] | None:
    """One metric of every run that has it."""
    import plotly.graph_objects as go

    found = [(run.label, run.metrics.values.get(name)) for run in runs]
    labels = [escape(label, quote=False) for label, value in found if value is not None]
    values = [value for _, value in found if value is not None]
    if not values:
        return None
    figure = _figure(
        56 + 34 * len(labels),
        bargap=0.3,
        xaxis={"rangemode": "tozero", "showgrid": True, "nticks": 5},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    unit = shown_unit(name)
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=labels,
            x=values,
            marker={"color": COLOURS["encoders"]},
            text=[digits(value) for value in values],
            textposition="auto",
            hovertemplate="%{y}<br>%{x:,.5~r} " + unit + "<extra></extra>",
        )
    )
    return _plain(figure)


def bar_title(name: str) -> str:
    """Heading of a bar chart: what, in which unit, at which stage, and which way is better."""
    better = {-1: ", less is better", 1: ", more is better", 0: ""}[METRICS[name].direction]
    return f"{title(name)}, {shown_unit(name)} ({stage(name)}{better})"


def scatter(exact: NDArray[np.floating], approximate: NDArray[np.floating]) -> dict[str, Any]:
    """Results by look-up against exact ones.

    Parameters
    ----------
    exact, approximate : ndarray of shape (n_rows, n_outputs)
        At most 2000 entries are drawn, evenly spaced.
    """
    import plotly.graph_objects as go

    every = -(-exact.size // 2000)
    x, y = exact.ravel()[::every], approximate.ravel()[::every]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    figure = _figure(
        420,
        xaxis={"title": {"text": "exact product"}},
        yaxis={"title": {"text": "by look-up"}},
    )
    figure.add_trace(
        go.Scatter(
            x=[low, high], y=[low, high], mode="lines", hoverinfo="skip",
            line={"color": COLOURS["control and clock"], "width": 1, "dash": "dot"},
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[float(f"{value:.6g}") for value in x],
            y=[float(f"{value:.6g}") for value in y],
            mode="markers",
            marker={"size": 5, "color": COLOURS["encoders"], "opacity": 0.45},
            hovertemplate="exact %{x:.4g}<br>look-up %{y:.4g}<extra></extra>",
        )
    )
    return _plain(figure)
