"""Hard macros of a layout, and room for them.

Blocks (`flow.netlist.block`) stand in a grid with channels for the rest. SRAM macros go where
OpenROAD's macro placer wants them, in a core that has room for them and the cells.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flow.layout.lefdef import read_lef
from flow.layout.settings import stripe_arguments
from flow.netlist.block import Block
from flow.run.context import Run
from flow.run.options import LayoutOptions
from halut.errors import HalutError

__all__ = ["macro_files", "macro_settings"]

HALO_UM = 2.0
"""Left free of cells around a macro, um."""

PACKING = 0.8
"""Share that SRAM macros with half a channel on each side take of their part of the core."""


def macro_settings(run: Run, utilisation: float) -> dict[str, Any]:
    """What the scripts are told of hard macros; empty names for a design without.

    Parameters
    ----------
    utilisation : float
        Share of the room beside macros that the other cells may take.

    Raises
    ------
    HalutError
        When the channels have no room for the other cells or for power stripes, or the platform
        cannot supply blocks, or they have wires where it would.
    """
    if run.block is not None:
        return _blocks(run, run.block, utilisation)
    found = {
        "block": "", "block_places": [], "die": "", "core": "", "halo": 0, "macros": [],
        "macro_power": [], "half_channel": 0,
    }  # fmt: skip
    return found | (_srams(run, utilisation) if run.srams else {})


def macro_files(run: Run) -> list[Path]:
    """LEF files of the run's macros."""
    if run.block is not None:
        return [run.block.lef]
    return [run.platform.sram_lef(cell) for cell in run.sram_cells]


def _srams(run: Run, utilisation: float) -> dict[str, Any]:
    """A core with room for SRAM macros; OpenROAD places them."""
    platform, options = run.platform, run.options.place_and_route
    sram, layout = platform.sram, platform.layout
    assert sram is not None and layout is not None
    macros, files = run.sram_cells, macro_files(run)
    outlines = read_lef([platform.layout_file(layout.technology_lef), *files]).macros
    for cell, file in zip(macros, files, strict=True):
        if cell not in outlines:
            raise HalutError(f"{file} must have the cell {cell}")
    half = options.channel_um / 2
    sides: list[tuple[float, float]] = []
    cells = 0.0
    for instance in run.netlist.instances:
        if instance.cell in macros:
            outline = outlines[instance.cell]
            sides.append((outline.width + 2 * half, outline.height + 2 * half))
        else:
            cells += run.library.cells[instance.cell].area
    area = math.fsum(w * h for w, h in sides) / PACKING + cells / utilisation
    width = max(math.sqrt(area / options.aspect), *(w for w, _ in sides))
    height = max(area / width, *(h for _, h in sides))
    return _core(width, height, options.margin_um) | {
        "macros": macros,
        "macro_power": [sram.power_layer, layout.stripes[-1].layer],
        "halo": HALO_UM,
        "half_channel": half,
    }


def _core(width: float, height: float, margin: float) -> dict[str, Any]:
    top = [round(margin + side, 2) for side in (width, height)]
    return {
        "core": [margin, margin, *top],
        "die": [0, 0, *(round(side + margin, 2) for side in top)],
    }


def _blocks(run: Run, block: Block, utilisation: float) -> dict[str, Any]:
    stripes = _stripes(run, block)
    options = run.options.place_and_route
    channel, margin = options.channel_um, options.margin_um
    row_channel = _row_channel(options)
    names = run.block_names
    columns, rows = _grid(len(names))
    if options.aspect > 1:
        columns, rows = rows, columns
    width, height = block.size
    core = (
        columns * width + (columns + 1) * channel,
        rows * height + (rows + 1) * row_channel,
    )
    cells = (run.library.cells[i.cell] for i in run.netlist.instances)
    others = math.fsum(cell.area for cell in cells if cell.kind != "block")
    room = core[0] * core[1] - len(names) * width * height
    if others > utilisation * room:
        raise HalutError(
            f"channel_um must be wider than {channel:g}: the cells beside blocks take "
            f"{others:,.0f} of {room:,.0f} um2, not at most {utilisation:.0%}"
        )
    places: list[Any] = []
    for name, (column, row) in zip(names, _z_order(columns, rows), strict=False):
        x = margin + channel + column * (width + channel)
        y = margin + row_channel + row * (height + row_channel)
        places += [name, round(x, 2), round(y, 2)]
    return (
        stripes
        | _core(*core, margin)
        | {
            "block": block.name,
            "block_places": places,
            "halo": HALO_UM,
            "macros": [block.name],
            "macro_power": stripes["stripe_pairs"][-1],
            "half_channel": 0,
        }
    )


def _row_channel(options: LayoutOptions) -> float:
    return options.channel_um if options.row_channel_um is None else options.row_channel_um


def _grid(count: int) -> tuple[int, int]:
    """Columns and rows: full where that is at most twice as wide as high, else about square."""
    square = math.ceil(math.sqrt(count))
    for columns in range(square, math.isqrt(2 * count) + 1):
        if count % columns == 0:
            return columns, count // columns
    return square, -(-count // square)


def _z_order(columns: int, rows: int) -> list[tuple[int, int]]:
    """Places of a grid such that neighbours in the list, and groups of four, are close together."""

    def key(place: tuple[int, int]) -> int:
        column, row = place
        return sum(
            (column >> bit & 1) << 2 * bit | (row >> bit & 1) << (2 * bit + 1) for bit in range(16)
        )

    return sorted(((c, r) for c in range(columns) for r in range(rows)), key=key)


def _stripes(run: Run, block: Block) -> dict[str, Any]:
    """Power stripes with the one that runs over blocks."""
    platform = run.platform
    layout = platform.layout
    assert layout is not None
    if layout.block_stripe is None:
        raise HalutError(
            f"platform {platform.name} must have layout.block_stripe for --block "
            f"({platform.source.name})"
        )
    options = run.options.place_and_route
    # A channel has stripes of its own, both supplies with as much space between them.
    least = 2 * HALO_UM + 6 * max(stripe.width for stripe in layout.stripes)
    for name, channel in (
        ("channel_um", options.channel_um),
        ("row_channel_um", _row_channel(options)),
    ):
        if channel < least:
            raise HalutError(
                f"{name} must be at least {least:g} for the platform's stripes, not {channel:g}"
            )
    top = layout.stripes[-1].layer
    if block.options["top_layer"] != top:
        raise HalutError(
            f"--block must be routed with --top-layer {top}, above which it is supplied, not "
            f"{block.options['top_layer'] or 'without'} ({block.folder})"
        )
    stripes = (*layout.stripes, layout.block_stripe)
    return stripe_arguments(stripes)
