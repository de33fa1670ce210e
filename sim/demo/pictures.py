"""The demo's pictures, drawn with matplotlib."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sim.demo.pipeline import Outcome, Sweep
from sim.demo.problems import FILTERS, Photograph

__all__ = [
    "as_data_uri",
    "code_histogram",
    "digit_answers",
    "digit_tree",
    "error_by_codebooks",
    "filter_tree",
    "photograph",
]

INK, MUTED, GRID = "#1d2733", "#64707d", "#d9dee3"
TEAL, ORANGE, RED = "#0f766e", "#d97706", "#c2410c"
_SHARES = LinearSegmentedColormap.from_list("shares", ["#f7faf9", "#7cc0b8", "#0f766e", "#0b3f3b"])
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#9a3412", "#f0a66b", "#fbfaf8", "#7cc0b8", "#0b5d56"]
)
_STYLE: Any = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=110, layout=ConstrainedLayoutEngine())


def as_data_uri(figure: Figure) -> str:
    """Return a figure as a PNG inside a ``data:`` address."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _styled(draw: Any) -> Any:
    """Draw with this module's style, whatever the user's is."""

    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    drawn.__doc__ = draw.__doc__
    return drawn


def _blank(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


@_styled
def digit_answers(outcome: Outcome, n_columns: int = 12, n_rows: int = 3) -> Figure:
    """Held-out digits with the accelerator's answers; mistakes come first."""
    problem = outcome.problem
    assert problem.labels is not None and problem.bias is not None
    answers = (outcome.rtl + problem.bias).argmax(axis=1)
    wrong = np.flatnonzero(answers != problem.labels)
    right = np.flatnonzero(answers == problem.labels)
    shown = np.concatenate([wrong[:n_columns], right])[: n_columns * n_rows]
    figure = _figure(9.6, 0.98 * n_rows)
    for place, index in enumerate(shown):
        axes = figure.add_subplot(n_rows, n_columns, place + 1)
        axes.imshow(problem.test[index].reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
        _blank(axes)
        good = answers[index] == problem.labels[index]
        text = f"{answers[index]}" if good else f"{answers[index]} (is {problem.labels[index]})"
        axes.set_title(text, loc="center", color=TEAL if good else RED, fontsize=9.5, pad=2.5)
    return figure


def _draw_tree(axes: Any, level_names: list[str], thresholds: list[str]) -> None:
    """A balanced tree from above, its leaves at x = 0, 1, 2, …; the right branch is "greater"."""
    depth = len(level_names)
    n_leaves = 2**depth
    for level in range(depth):
        step = n_leaves / 2**level
        y = depth - level
        for node in range(2**level):
            x = (node + 0.5) * step - 0.5
            for child in (-1, 1):
                below = x + child * step / 4
                axes.plot([x, below], [y, y - 1], color=GRID, lw=1.4, zorder=1)
            text = thresholds[2**level - 1 + node]
            axes.text(
                x, y, text, ha="center", va="center", zorder=2,
                fontsize=8.5 if level < 3 else 7,
                bbox={"boxstyle": "round,pad=0.28", "fc": "white", "ec": TEAL, "lw": 0.9},
            )  # fmt: skip
        axes.text(-1.1, y, level_names[level], ha="right", va="center", color=MUTED, fontsize=9)
    axes.text(n_leaves - 0.5, depth + 0.05, "left: ≤    right: >", ha="right", va="center",
              color=MUTED, fontsize=8.5)  # fmt: skip
    axes.set_xlim(-0.6, n_leaves - 0.4)
    axes.set_ylim(-0.05, depth + 0.4)
    _blank(axes)


def _threshold_texts(outcome: Outcome, codebook: int, scale: float) -> list[str]:
    values = np.asarray(outcome.multiplier.thresholds_[codebook], dtype=np.float64) * scale
    return [f"{value:.0f}" if np.isfinite(value) else "–" for value in values]


def _draw_table(axes: Any, outcome: Outcome, codebook: int, names: list[str]) -> None:
    """The codebook's integer table: one line per output, one column per leaf."""
    table = outcome.program.lut[:, codebook, :].astype(int)  # (M, K)
    limit = max(1, np.abs(table).max())
    axes.imshow(table, cmap=_SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = abs(value) > 0.72 * limit
        axes.text(column, row, str(value), ha="center", va="center", fontsize=6.8,
                  color="white" if dark else INK)  # fmt: skip
    _blank(axes)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(table.shape[1]), [f"{leaf}" for leaf in range(table.shape[1])])
    axes.tick_params(length=0)
    axes.set_xlabel("leaf (code)")


def _most_telling(outcome: Outcome) -> int:
    """The codebook whose table entries differ most from leaf to leaf."""
    return int(outcome.multiplier.lut_.var(axis=2).sum(axis=0).argmax())


@_styled
def digit_tree(outcome: Outcome) -> Figure:
    """One learned tree over a digit's pixels, its table, and where all trees look."""
    multiplier = outcome.multiplier
    codebook = _most_telling(outcome)
    dims = multiplier.split_dims_[codebook]
    names = [f"pixel ({dim // 8}, {dim % 8})" for dim in dims]
    figure = _figure(9.6, 5.6)
    grid = figure.add_gridspec(2, 2, width_ratios=[3.4, 1], height_ratios=[1.15, 1])
    axes = figure.add_subplot(grid[0, 0])
    _draw_tree(axes, names, _threshold_texts(outcome, codebook, 16))
    axes.set_title(f"Tree of codebook {codebook} (thresholds on grey values 0 to 16)")
    axes = figure.add_subplot(grid[1, 0])
    _draw_table(axes, outcome, codebook, [f"“{digit}”" for digit in range(10)])
    axes.set_title("Its table: what each leaf adds to each digit’s sum (INT8)")

    axes = figure.add_subplot(grid[:, 1])
    looks = np.zeros(64)
    np.add.at(looks, multiplier.split_dims_.reshape(-1), 1)
    axes.imshow(looks.reshape(8, 8), cmap=_SHARES, vmin=0, vmax=max(2, looks.max()))
    for dim, count in enumerate(looks.astype(int)):
        colour = "white" if count > 0.6 * looks.max() else INK
        if count:
            axes.text(dim % 8, dim // 8, str(count), ha="center", va="center", color=colour)
    for level, dim in enumerate(dims):
        axes.add_patch(
            Rectangle(
                (dim % 8 - 0.5, dim // 8 - 0.5), 1, 1, fill=False, ec=ORANGE, lw=2.2 - 0.3 * level
            )
        )
    _blank(axes)
    axes.set_title("How many levels of all\n16 trees look at a pixel\n(framed: this tree)")
    return figure


@_styled
def filter_tree(outcome: Outcome) -> Figure:
    """One learned tree over three pixels of a window, what ends in its leaves, and its table."""
    multiplier, problem = outcome.multiplier, outcome.problem
    codebook = 4  # the middle line of the window, green
    columns = slice(3 * codebook, 3 * codebook + 3)
    codes = multiplier.encode(problem.train)[:, codebook]
    n_leaves = outcome.config.n_prototypes
    counts = np.maximum(np.bincount(codes, minlength=n_leaves), 1)
    means = np.stack(
        [
            np.bincount(codes, values, minlength=n_leaves) / counts
            for values in problem.train[:, columns].T
        ],
        axis=1,
    )  # (K, 3)
    names = [
        ("left pixel", "middle pixel", "right pixel")[dim - columns.start]
        for dim in multiplier.split_dims_[codebook]
    ]
    figure = _figure(9.6, 5.4)
    grid = figure.add_gridspec(3, 1, height_ratios=[3.2, 0.55, 3])
    axes = figure.add_subplot(grid[0])
    _draw_tree(axes, names, _threshold_texts(outcome, codebook, 255))
    axes.set_title("Tree of the window’s middle line, green (thresholds on values 0 to 255)")
    axes = figure.add_subplot(grid[1])
    green = np.zeros((1, means.size, 3))
    green[0, :, 1] = means.reshape(-1).clip(0, 1)
    axes.imshow(green, aspect="auto")
    for leaf in range(1, n_leaves):
        axes.axvline(3 * leaf - 0.5, color="white", lw=5)
    _blank(axes)
    axes.set_ylabel("mean of\nthe leaf", rotation=0, ha="right", va="center", color=MUTED)
    axes = figure.add_subplot(grid[2])
    _draw_table(axes, outcome, codebook, list(FILTERS))
    axes.set_title("Its table: what each leaf adds to each filter’s sum (INT8)")
    return figure


@_styled
def code_histogram(outcomes: list[Outcome]) -> Figure:
    """How often every leaf of every codebook is used, on held-out rows."""
    figure = _figure(9.6, 4.1)
    widths = [1 for _ in outcomes]
    grid = figure.add_gridspec(1, len(outcomes), width_ratios=widths)
    for place, outcome in enumerate(outcomes):
        axes = figure.add_subplot(grid[place])
        n_codebooks, n_prototypes = outcome.config.n_codebooks, outcome.config.n_prototypes
        shares = np.stack(
            [np.bincount(codes, minlength=n_prototypes) for codes in outcome.codes.T]
        ) / len(outcome.codes)
        picture = axes.imshow(100 * shares, cmap=_SHARES, vmin=0, aspect="auto")
        safe = np.where(shares > 0, shares, 1)
        entropy = -(shares * np.log2(safe)).sum(axis=1)
        for codebook in range(n_codebooks):
            axes.text(n_prototypes - 0.2, codebook, f"{entropy[codebook]:.1f}", va="center",
                      fontsize=8, color=MUTED)  # fmt: skip
        axes.text(n_prototypes - 0.2, -0.9, "bits", fontsize=8, color=MUTED, va="center")
        _blank(axes)
        axes.set_yticks(range(n_codebooks))
        axes.set_xticks(range(0, n_prototypes, 5))
        axes.tick_params(length=0)
        axes.set_xlabel("leaf (code)")
        axes.set_ylabel("codebook")
        axes.set_title(outcome.problem.title)
        bar = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.6, aspect=30)
        bar.set_label("share of rows, %")
        bar.outline.set_visible(False)
    return figure


@_styled
def error_by_codebooks(outcomes: list[Outcome], sweeps: list[Sweep]) -> Figure:
    """Error against the number of codebooks: learned trees, and the bound of nearest centroids."""
    figure = _figure(9.6, 3.5)
    for place, (outcome, sweep) in enumerate(zip(outcomes, sweeps, strict=True)):
        axes = figure.add_subplot(1, len(outcomes), place + 1)
        axes.loglog(sweep.n_codebooks, sweep.nearest, "s--", color=MUTED, ms=5, lw=1.3,
                    label="nearest centroid (product quantisation)")  # fmt: skip
        axes.loglog(sweep.n_codebooks, sweep.maddness, "o-", color=TEAL, ms=6, lw=2,
                    label="learned trees (MADDNESS)")  # fmt: skip
        accuracies = sweep.accuracy or (None,) * len(sweep.n_codebooks)
        rows = zip(sweep.n_codebooks, sweep.maddness, accuracies, strict=True)
        for count, error, accuracy in rows:
            text = f"{100 * accuracy:.1f} %" if accuracy is not None else f"{error:.3f}"
            axes.annotate(text, (count, error), (6, 6), textcoords="offset points",
                          fontsize=8.5, color=TEAL)  # fmt: skip
        axes.axvline(outcome.config.n_codebooks, color=ORANGE, lw=1, ls=":")
        axes.text(outcome.config.n_codebooks, 1.01, " simulated", color=ORANGE, fontsize=8.5,
                  transform=axes.get_xaxis_transform(), va="bottom", ha="center")  # fmt: skip
        axes.set_xticks(sweep.n_codebooks, [str(count) for count in sweep.n_codebooks])
        axes.minorticks_off()
        axes.grid(axis="y", color=GRID, lw=0.7)
        axes.set_xlabel(f"codebooks C ({outcome.problem.train.shape[1]} columns)")
        axes.set_ylabel("squared error / variance")
        extra = ", with accuracy" if sweep.accuracy else ""
        axes.set_title(f"{outcome.problem.title}{extra}", pad=16)
        axes.legend(loc="lower left", fontsize=8.5)
    return figure


def _views(product: NDArray[np.float32], shape: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Pictures made of the filter bank's outputs."""
    planes = {name: product[:, k].reshape(shape) for k, name in enumerate(FILTERS)}
    return {
        "blur": np.stack([planes[f"blur {channel}"] for channel in "RGB"], axis=-1),
        "sharpen": planes["sharpen"],
        "edges (Sobel)": np.hypot(planes["Sobel x"], planes["Sobel y"]),
        "Laplace": planes["Laplace"],
        "emboss": planes["emboss"],
    }


def _window(exact: NDArray[Any], name: str) -> tuple[Any, Any]:
    """The values that are drawn black and white; the same for exact and accelerator."""
    if name == "blur":
        return 0.0, 1.0
    if name == "Laplace":
        reach = np.percentile(np.abs(exact), 99.5)
        return -reach, reach
    return np.percentile(exact, 0.5), np.percentile(exact, 99.5)


def _draw_errors(axes: Any, outcome: Outcome, photo: Photograph) -> None:
    """Bars: the accelerator's error on one photograph, filter by filter."""
    exact, rtl = outcome.exact[photo.rows], outcome.rtl[photo.rows]
    errors = np.square(rtl - exact).mean(axis=0) / exact.var(axis=0)
    places = np.arange(len(FILTERS))
    axes.barh(places, errors, height=0.28, color=TEAL)
    for place, (name, error) in enumerate(zip(FILTERS, errors, strict=True)):
        axes.text(0, place - 0.24, f"{name}  {error:.3f}", fontsize=8.5, va="bottom")
    _blank(axes)
    axes.text(0, -1.15, "squared error /\nvariance", fontweight="bold", va="center")
    axes.set_ylim(len(FILTERS) - 0.4, -1.6)
    axes.set_xlim(0, max(1e-6, errors.max()) * 1.02)


@_styled
def photograph(outcome: Outcome, photo: Photograph) -> Figure:
    """A held-out photograph: filtered exactly, by the accelerator, and the difference."""
    shape = photo.pixels.shape[:2]
    scales = outcome.problem.output_scales
    exact = _views(outcome.exact[photo.rows] * scales, shape)
    rtl = _views(outcome.rtl[photo.rows] * scales, shape)
    names = list(exact)
    n_columns = 1 + len(names)
    height = 9.25 / n_columns * shape[0] / shape[1] * 3 + 0.35
    figure = _figure(9.6, max(height, 3.2))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0))
    grid = figure.add_gridspec(3, n_columns)
    axes = figure.add_subplot(grid[0, 0])
    axes.imshow(photo.pixels)
    axes.set_title("photograph")
    _blank(axes)
    _draw_errors(figure.add_subplot(grid[1:, 0]), outcome, photo)
    for column, name in enumerate(names):
        low, high = _window(exact[name], name)
        for row, picture in enumerate((exact[name], rtl[name])):
            shown = ((picture - low) / (high - low)).clip(0, 1)
            axes = figure.add_subplot(grid[row, column + 1])
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
            _blank(axes)
            if row == 0:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(("exact", "accelerator")[row], fontweight="bold")
        difference = np.abs(rtl[name] - exact[name]) / (high - low)
        if difference.ndim == 3:
            difference = difference.mean(axis=-1)
        axes = figure.add_subplot(grid[2, column + 1])
        axes.imshow(4 * difference, cmap="magma", vmin=0, vmax=1)
        _blank(axes)
        if column == 0:
            axes.set_ylabel("difference × 4", fontweight="bold")
    return figure
