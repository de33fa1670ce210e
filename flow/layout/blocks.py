"""Places of a design's blocks (`flow.netlist.block`): a grid with channels for the rest."""

from __future__ import annotations

import math
from typing import Any

from flow.cells.platform import Platform
from flow.layout.settings import stripe_arguments
from flow.netlist.block import Block
from flow.run.context import Run
from halut.errors import HalutError

__all__ = ["block_settings"]

HALO_UM = 2.0
"""Left free around a block, um."""


def block_settings(run: Run, utilisation: float) -> dict[str, Any]:
    """What the scripts are told of blocks; with names that are empty for a design without.

    Parameters
    ----------
    utilisation : float
        Share of the channels that the other cells may take.

    Raises
    ------
    HalutError
        When the platform cannot supply blocks with power, or they have wires where it would.
    """
    block = run.block
    if block is None:
        return {"block": "", "block_places": [], "die": "", "core": "", "halo": 0}
    stripes = _stripes(run.platform, block)
    names = [i.name for i in run.netlist.instances if i.cell == block.name]
    cells = (run.library.cells[i.cell] for i in run.netlist.instances)
    others = math.fsum(cell.area for cell in cells if cell.kind != "block")
    columns = math.ceil(math.sqrt(len(names)))
    rows = -(-len(names) // columns)
    width, height = block.size
    # A channel has power stripes of its own, both supplies with as much space between them.
    layout = run.platform.layout
    assert layout is not None
    least = 2 * HALO_UM + 6 * max(stripe.width for stripe in layout.stripes)
    channel = max(least, _channel(columns, rows, block.size, len(names), others / utilisation))
    margin = run.options.place_and_route.margin_um
    places: list[Any] = []
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        x = margin + channel + column * (width + channel)
        y = margin + channel + row * (height + channel)
        places += [name, round(x, 2), round(y, 2)]
    core = (
        columns * width + (columns + 1) * channel,
        rows * height + (rows + 1) * channel,
    )
    top = [round(margin + side, 2) for side in core]
    return stripes | {
        "block": block.name,
        "block_places": places,
        "halo": HALO_UM,
        "core": [margin, margin, *top],
        "die": [0, 0, *(round(side + margin, 2) for side in top)],
    }


def _channel(
    columns: int, rows: int, size: tuple[float, float], count: int, wanted: float
) -> float:
    """Width of the channels around blocks, um, whose area, with empty places, is `wanted` um2."""
    width, height = size
    # (columns * width + (columns + 1) * c) * (rows * height + (rows + 1) * c) = area
    square = (columns + 1) * (rows + 1)
    linear = (columns + 1) * rows * height + (rows + 1) * columns * width
    constant = columns * rows * width * height - (count * width * height + wanted)
    found = (-linear + math.sqrt(max(0.0, linear**2 - 4 * square * constant))) / (2 * square)
    return round(found, 2)


def _stripes(platform: Platform, block: Block) -> dict[str, Any]:
    """Power stripes with the one that runs over blocks."""
    layout = platform.layout
    assert layout is not None
    if layout.block_stripe is None:
        raise HalutError(
            f"platform {platform.name} must have layout.block_stripe for --block "
            f"({platform.source.name})"
        )
    top = layout.stripes[-1].layer
    if block.options["top_layer"] != top:
        raise HalutError(
            f"--block must be routed with --top-layer {top}, above which it is supplied, not "
            f"{block.options['top_layer'] or 'without'} ({block.folder})"
        )
    stripes = (*layout.stripes, layout.block_stripe)
    return stripe_arguments(stripes)
