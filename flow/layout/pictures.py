"""Pictures of a layout, from its DEF and LEF alone: placement, density, routing, clock tree.

Cells and wires are summed exactly into pixels (the share of each pixel that they cover) and the
pixels are mixed, so a hundred thousand cells take seconds and no cell is lost between pixels.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.designs.design import CLOCK_TREE
from flow.layout.lefdef import Lef, PlacedDesign, read_def, read_lef
from halut.errors import HalutError
from halut.files import atomic_write

__all__ = ["ADDED", "Pictures", "coverage", "density", "draw_layout", "unit_kinds"]

ADDED = "wire buffers"  # and whatever else place and route added
OTHER = "other units"

# Paul Tol's "muted" scheme (Colour Schemes, SRON/EPS/TN/09-002): nine colours that the colour-blind
# tell apart.
_COLOURS = (
    "#88ccee", "#cc6677", "#ddcc77", "#117733", "#332288", "#aa4499", "#44aa99", "#999933",
    "#882255",
)  # fmt: skip
_FIXED = {CLOCK_TREE: "#000000", ADDED: "#8c8c8c", OTHER: "#5a5a5a"}
_INK, _MUTED, _PAPER, _GROUND, _PALE = "#1d2733", "#64707d", "#ffffff", "#f4f4f2", "#d5d5d0"
_LONG_SIDE = 1350  # pixels of the die's longer side
_DPI = 150
_BINS = 48  # density bins along the longer side


@dataclass(frozen=True)
class Pictures:
    """Which pictures were drawn."""

    #: PNG files among ``placement``, ``density``, ``routing`` and ``clock_tree``.
    files: dict[str, Path]
    missing: dict[str, str]  #: Why the others were not.


def _ramp(low: np.ndarray, high: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights whose second running sum is the overlap of [low, high] with each pixel."""
    places, weights = [], []
    for edge, sign in ((low, 1.0), (high, -1.0)):
        edge = np.clip(edge, 0, n)
        pixel = np.floor(edge).astype(np.int64)
        share = edge - pixel
        places += [pixel, pixel + 1]
        weights += [sign * (1 - share), sign * share]
    return np.stack(places), np.stack(weights)


def coverage(boxes: np.ndarray, area: Sequence[float], shape: tuple[int, int]) -> np.ndarray:
    """How much of each pixel is covered by boxes, overlaps counted each time.

    Parameters
    ----------
    boxes : ndarray of shape (n_boxes, 4), float64
        Left, bottom, right, top; parts outside of `area` do not count.
    area : sequence of 4 float
        The same of the picture.
    shape : (int, int)
        Pixels: rows (the lowest first) and columns.

    Returns
    -------
    ndarray of shape `shape`, float64
        1 where a pixel is covered once.

    Examples
    --------
    >>> coverage(np.array([[0.0, 0.0, 1.5, 1.0]]), (0, 0, 2, 2), (2, 2)).tolist()
    [[1.0, 0.5], [0.0, 0.0]]
    """
    rows, columns = shape
    left, bottom, right, top = area
    x = (boxes[:, 0::2] - left) * (columns / (right - left))
    y = (boxes[:, 1::2] - bottom) * (rows / (top - bottom))
    column, in_column = _ramp(x[:, 0], x[:, 1], columns)
    row, in_row = _ramp(y[:, 0], y[:, 1], rows)
    # One row and column more, for what ends at the border.
    sums = np.zeros((rows + 2) * (columns + 2))
    for i in range(4):
        for j in range(4):
            sums += np.bincount(
                row[i] * (columns + 2) + column[j], in_row[i] * in_column[j], sums.size
            )
    found = sums.reshape(rows + 2, columns + 2)[:rows, :columns].cumsum(axis=0).cumsum(axis=1)
    # What the running sums leave of rounding is no cover.
    return np.where(found < 1e-9, 0.0, found)


def unit_kinds(design: PlacedDesign, lef: Lef, units: Mapping[str, str]) -> list[str | None]:
    """Kind of unit of each instance; None for fillers and taps.

    What `units` does not name was added after synthesis: the clock's drivers count as clock tree.
    """
    drivers, _ = _clock_cells(design)
    kinds: list[str | None] = []
    for name, master in zip(design.instances, design.masters, strict=True):
        if name in units:
            kinds.append(units[name])
        elif lef.macros[master].is_fill:
            kinds.append(None)
        else:
            kinds.append(CLOCK_TREE if name in drivers else ADDED)
    return kinds


def _clock_cells(design: PlacedDesign) -> tuple[set[str], set[str]]:
    """Instances between two clock nets (buffers, gates), and those at their ends."""
    nets = Counter(name for pins in design.clock_nets.values() for name in set(pins))
    return {n for n, count in nets.items() if count > 1}, {n for n, c in nets.items() if c == 1}


def density(design: PlacedDesign, lef: Lef, n_bins: int = _BINS) -> np.ndarray:
    """Share of each bin that is covered by cells; fillers and taps do not count.

    Parameters
    ----------
    n_bins : int
        Along the die's longer side; bins are square but for rounding.

    Returns
    -------
    ndarray of shape (rows, columns), float64
        The lowest row first.
    """
    real = np.array([not lef.macros[m].is_fill for m in design.masters], bool)
    return coverage(design.boxes[real], design.die.tolist(), _shape(design, n_bins))


def _shape(design: PlacedDesign, long_side: int) -> tuple[int, int]:
    width, height = design.die[2:] - design.die[:2]
    step = max(width, height) / long_side
    return max(1, round(height / step)), max(1, round(width / step))


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _paint(image: np.ndarray, cover: np.ndarray, colour: str, strength: float = 1.0) -> None:
    share = strength * np.minimum(cover, 1.0)[:, :, None]
    image *= 1 - share
    image += share * _rgb(colour)


def _at_least(boxes: np.ndarray, size: float) -> np.ndarray:
    """Boxes grown about their centres to a least size."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], size) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


class _Canvas:
    """A die of pixels with what is written around it."""

    def __init__(self, design: PlacedDesign, platform: str):
        self.design = design
        self.platform = platform
        self.area = design.die.tolist()
        self.shape = _shape(design, _LONG_SIDE)
        self.pixel = (self.area[3] - self.area[1]) / self.shape[0]
        self.image = np.empty((*self.shape, 3))
        self.image[:] = _rgb(_GROUND)

    def cover(self, boxes: np.ndarray) -> np.ndarray:
        return coverage(boxes, self.area, self.shape)

    def cells(self, boxes: np.ndarray, colour: str) -> None:
        """Cells that are large enough get a gap around them."""
        gap = 0.5 * self.pixel
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) > 8 * gap
        inset = np.where(large[:, None], gap, 0.0) * np.array([1, 1, -1, -1])
        _paint(self.image, self.cover(boxes + inset), colour)

    def write(
        self,
        path: Path,
        title: str,
        legend: Sequence[tuple[str, str]],
        heat: np.ndarray | None = None,
    ) -> None:
        """Write the PNG; `legend` is of (colour, text), `heat` a share by bin instead of pixels."""
        import matplotlib
        from matplotlib.figure import Figure

        rows, columns = self.shape
        left, below, above, beside = 40, 95, 115, 520
        width, height = max(left + columns + beside, 1250), below + rows + above
        # The user's own settings must not show.
        style: Any = {**matplotlib.rcParamsDefault, "text.color": _INK, "backend": "agg"}
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_PAPER)

            def place(x: float, y: float, w: float, h: float) -> Any:
                return figure.add_axes((x / width, y / height, w / width, h / height))

            def write(x: float, y: float, text: str, **how: Any) -> None:
                figure.text(x / width, y / height, text, va="center", **how)

            axes = place(left, below, columns, rows)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color(_MUTED)
            if heat is None:
                axes.imshow(np.clip(self.image, 0, 1), origin="lower", interpolation="nearest")
            else:
                shown = axes.imshow(
                    heat, origin="lower", cmap="YlGnBu", vmin=0, vmax=1,
                    interpolation="nearest", aspect="auto",
                )  # fmt: skip
                bar = figure.colorbar(
                    shown, cax=place(left + columns + 35, below + 0.2 * rows, 28, 0.6 * rows)
                )
                bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
                bar.outline.set_visible(False)
                bar.ax.tick_params(labelsize=9, length=0)
            die = self.design.die[2:] - self.design.die[:2]
            about = [self.design.name, self.platform, f"die {die[0]:.1f} × {die[1]:.1f} µm"]
            write(left, below + rows + 80, title, fontsize=13, fontweight="bold")
            write(left, below + rows + 35, " · ".join(filter(None, about)), fontsize=10,
                  color=_MUTED)  # fmt: skip
            top = below + rows - 14
            for number, (colour, text) in enumerate(legend):
                y = top - 36 * number
                x = left + columns + 35
                if colour:
                    place(x, y - 11, 22, 22).set_facecolor(colour)
                    figure.axes[-1].set_xticks([])
                    figure.axes[-1].set_yticks([])
                    for spine in figure.axes[-1].spines.values():
                        spine.set_visible(False)
                write(x + (36 if colour else 0), y, text, fontsize=9)
            length = _round(die[0] / 5)
            bar_axes = place(left, 55, length / die[0] * columns, 8)
            bar_axes.set_facecolor(_INK)
            bar_axes.set_xticks([])
            bar_axes.set_yticks([])
            write(left, 25, f"{length:g} µm", fontsize=9)
            buffer = io.BytesIO()
            # Without matplotlib's version in the file the bytes depend on the pixels alone.
            figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        with atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getvalue())


def _round(length: float) -> float:
    """The largest 1, 2 or 5 times a power of ten up to a length."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))


def _colours(areas: Mapping[str, float]) -> dict[str, str]:
    """A colour for each kind; the smallest ones share one when there are too many."""
    free = [kind for kind in areas if kind not in _FIXED]
    own = dict(zip(free, _COLOURS, strict=False))
    return {kind: own.get(kind) or _FIXED.get(kind, _FIXED[OTHER]) for kind in areas}


def _placement(canvas: _Canvas, path: Path, kinds: list[str | None]) -> None:
    boxes = canvas.design.boxes
    sizes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    members: dict[str, np.ndarray] = {}
    for kind in sorted({kind for kind in kinds if kind is not None}):
        members[kind] = np.array([k == kind for k in kinds], bool)
    areas = {kind: float(sizes[of].sum()) for kind, of in members.items()}
    areas = dict(sorted(areas.items(), key=lambda item: (-item[1], item[0])))
    colours = _colours(areas)
    fill = np.array([kind is None for kind in kinds], bool)
    canvas.cells(boxes[fill], _PALE)
    for kind in areas:
        canvas.cells(boxes[members[kind]], colours[kind])
    total = sum(areas.values())
    lines: dict[str, list[float]] = {}
    for kind, area in areas.items():
        name = OTHER if colours[kind] == _FIXED[OTHER] else kind
        sums = lines.setdefault(name, [0.0, 0])
        sums[0] += area
        sums[1] += int(members[kind].sum())
    legend = [
        (_FIXED.get(name) or colours[name], f"{name}: {area / total:.1%}, {count:,.0f} cells")
        for name, (area, count) in lines.items()
    ]
    if fill.any():
        legend.append((_PALE, f"fill and taps: {int(fill.sum()):,} cells"))
    canvas.write(path, "Placement by unit", [*legend, ("", f"cell area {total:,.0f} µm²")])


def _heat_map(canvas: _Canvas, path: Path, lef: Lef) -> None:
    found = density(canvas.design, lef)
    notes = [("", f"mean {found.mean():.1%}, densest bin {found.max():.1%}")]
    notes.append(("", f"bins of {canvas.pixel * canvas.shape[0] / found.shape[0]:.1f} µm"))
    canvas.write(path, "Placement density, without fill", notes, heat=found)


def _routing(canvas: _Canvas, path: Path, lef: Lef) -> None:
    design = canvas.design
    for boxes in design.supply.values():
        _paint(canvas.image, canvas.cover(boxes), _PALE)
    legend = []
    palette = (*_COLOURS, "#000000")
    for number, layer in enumerate(lef.layers):
        colour = palette[number % len(palette)]
        if layer in design.wires:
            _paint(canvas.image, canvas.cover(design.wires[layer]), colour, 0.85)
            length = design.lengths.get(layer, 0.0) / 1000
            legend.append((colour, f"{layer}: {length:,.2f} mm"))
    if design.supply:
        legend.append((_PALE, "supply"))
    legend.append(("", f"wires {sum(design.lengths.values()) / 1000:,.2f} mm"))
    canvas.write(path, "Routing by layer", legend)


_WIRE, _BUFFER, _GATE, _SINK = "#44aa99", "#000000", "#cc6677", "#88ccee"


def _clock_tree(canvas: _Canvas, path: Path, kinds: list[str | None]) -> None:
    design = canvas.design
    canvas.cells(design.boxes, "#e6e6e3")
    drivers, sinks = _clock_cells(design)
    of_tree = {CLOCK_TREE, ADDED}
    groups: dict[str, list[int]] = {"clocked cells": [], "clock gates": [], "clock buffers": []}
    for index, (name, kind) in enumerate(zip(design.instances, kinds, strict=True)):
        if name in sinks:
            groups["clocked cells"].append(index)
        elif name in drivers:
            groups["clock buffers" if kind in of_tree else "clock gates"].append(index)
    canvas.cells(design.boxes[groups["clocked cells"]], _SINK)
    for boxes in design.clock.values():
        _paint(canvas.image, canvas.cover(_at_least(boxes, 2 * canvas.pixel)), _WIRE)
    colours = {"clocked cells": _SINK, "clock gates": _GATE, "clock buffers": _BUFFER}
    for name in ("clock gates", "clock buffers"):
        boxes = _at_least(design.boxes[groups[name]], 9 * canvas.pixel)
        _paint(canvas.image, canvas.cover(boxes), colours[name])
    legend = [(colours[name], f"{name}: {len(found):,}") for name, found in groups.items()]
    wires = f"clock wires ({len(design.clock_nets):,} nets)"
    legend.append((_WIRE, wires if design.clock else f"{wires}: not routed"))
    canvas.write(path, "Clock tree", legend)


def draw_layout(
    def_file: Path,
    lef_files: Iterable[Path],
    units: Mapping[str, str],
    folder: Path,
    *,
    platform: str = "",
    clock_nets: Iterable[str] = (),
) -> Pictures:
    """Draw a layout: the same files give the same bytes.

    Parameters
    ----------
    def_file : Path
        Placed, perhaps routed.
    lef_files : iterable of Path
        Of the technology and its cells.
    units : mapping of str to str
        Kind of unit of each instance of the netlist. Others count as clock tree or wire buffers.
    folder : Path
        Gets ``placement.png``, ``density.png``, ``routing.png`` and ``clock_tree.png``.
    platform : str
        For the titles.
    clock_nets : iterable of str
        Nets of the clock besides those that the DEF marks with ``USE CLOCK`` (OpenROAD's global
        router does).

    Raises
    ------
    HalutError
        When a file cannot be used, no cell is placed, or matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise HalutError(
            "matplotlib must be installed for pictures: pip install -e .[flow]"
        ) from None
    lef = read_lef(lef_files)
    design = read_def(def_file, lef, clock_nets)
    if not design.instances:
        raise HalutError(f"a layout must have cells, not none ({def_file})")
    kinds = unit_kinds(design, lef, units)

    def path(name: str) -> Path:
        files[name] = folder / f"{name}.png"
        return files[name]

    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    _placement(_Canvas(design, platform), path("placement"), kinds)
    _heat_map(_Canvas(design, platform), path("density"), lef)
    if design.wires:
        _routing(_Canvas(design, platform), path("routing"), lef)
    else:
        missing["routing"] = "the DEF has no routed wires"
    if design.clock_nets:
        _clock_tree(_Canvas(design, platform), path("clock_tree"), kinds)
    else:
        missing["clock_tree"] = "the DEF marks no net as clock, and none was named"
    for name in missing:
        # A picture of an earlier layout must not pass for one of this.
        (folder / f"{name}.png").unlink(missing_ok=True)
    return Pictures(files, missing)
