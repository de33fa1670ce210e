"""What OpenROAD's scripts are given: settings of the platform and of the run, and files."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow.cells.library import Library
from flow.cells.platform import Platform, Stripe
from flow.layout.clocks import is_clock_buffer
from flow.netlist.yosys import usable_cells
from flow.run.context import Run
from flow.run.options import LayoutOptions
from halut.checks import one_of
from halut.errors import HalutError
from halut.files import write_text

__all__ = ["corners_there", "layout_files", "layout_settings", "stripe_arguments"]


def _stripe(stripe: Stripe) -> list[Any]:
    arguments: list[Any] = ["-width", stripe.width]
    if stripe.follow_pins:
        return [*arguments, "-followpins"]
    arguments += ["-pitch", stripe.pitch, "-offset", stripe.offset]
    return [*arguments, "-spacing", stripe.spacing] if stripe.spacing else arguments


def stripe_arguments(stripes: Sequence[Stripe]) -> dict[str, Any]:
    """Power stripes, from the cells' rails upwards, as the scripts have them."""
    return {
        "stripes": [value for item in stripes for value in (item.layer, _stripe(item))],
        "stripe_pairs": [[low.layer, high.layer] for low, high in itertools.pairwise(stripes)],
        "top_stripe": stripes[-1].layer,
    }


def _up_to(layers: tuple[str, str], top: str | None) -> str:
    """A range of routing layers as OpenROAD has it, up to `top`; layers are numbered."""
    lowest, highest = layers
    if top is None:
        return f"{lowest}-{highest}"
    name = lowest.rstrip("0123456789")
    first, last = (int(layer.removeprefix(name)) for layer in layers)
    one_of("top_layer", top, [f"{name}{number}" for number in range(first + 1, last + 1)])
    return f"{lowest}-{top}"


def layout_settings(
    platform: Platform, library: Library, top: str, options: LayoutOptions
) -> dict[str, Any]:
    """What the scripts need to know of the platform and the options; no paths of one run.

    Raises
    ------
    HalutError
        When the platform has no layout part, or no two layers for signals and the clock each up
        to the options' `top_layer`.
    """
    layout = platform.layout
    if layout is None:
        raise HalutError(
            f"platform {platform.name} must have a layout part for place and route "
            f"({platform.source.name})"
        )
    utilisation = options.utilisation or layout.utilisation
    wire = layout.wire
    ties = [
        f"{library.cell_library[values['cell']]}/{values['cell']}/{values['output']}"
        for role in ("tie_high", "tie_low")
        if (values := platform.cells.get(role))
    ]
    # The clock's are fewer: the message is to name layers that will do for both.
    clock_layers = _up_to(layout.clock_layers, options.top_layer)
    signal_layers = _up_to(layout.signal_layers, options.top_layer)
    # What mapping and sizing may not use, OpenROAD may not use either; its clock tree may.
    usable = set(usable_cells(library, platform))
    roles = {values["cell"] for values in platform.cells.values() if "cell" in values}
    avoid = sorted(
        name
        for name, cell in library.cells.items()
        if name not in usable | roles
        and cell.kind in ("gate", "ff", "latch", "clock_gate")
        and (platform.avoids(name) or cell.dont_use)
        and not is_clock_buffer(name, platform)
    )
    return {
        "top": top,
        "site": layout.site,
        "utilisation": 100 * utilisation,
        "density": min(0.95, utilisation + 0.08),
        "aspect": options.aspect,
        "margin": options.margin_um,
        "tracks": [
            value
            for track in layout.tracks
            for value in (
                track["layer"], track["x_offset"], track["x_pitch"], track["y_offset"],
                track["y_pitch"],
            )
        ],
        "ties": ties,
        "tap": layout.tap.get("cell", ""),
        "endcap": layout.tap.get("endcap", layout.tap.get("cell", "")),
        "tap_distance": layout.tap.get("distance_um", 0),
        "power_pins": layout.power_pins,
        "ground_pins": layout.ground_pins,
        **stripe_arguments(layout.stripes),
        "remove_buffers": True,
        "padding": layout.padding,
        "horizontal_pins": layout.pins["horizontal"],
        "vertical_pins": layout.pins["vertical"],
        "timing_driven": options.timing_driven,
        "routability_driven": options.routability_driven,
        "signal_layers": signal_layers,
        "clock_layers": clock_layers,
        "reserve": [value for item in layout.reserve.items() for value in item],
        "signal_wire": wire["signal"],
        "clock_wire": wire["clock"],
        "layer_rc": [
            value
            for layer, rc in wire.get("layers", {}).items()
            for value in (layer, rc["ohm_per_um"], rc["ff_per_um"])
        ],
        "via_rc": [value for item in wire.get("vias", {}).items() for value in item],
        "dont_use": avoid,
        "setup_margin": 0,
        "repair_tns": options.repair_tns,
        "diode": layout.diode,
        "fill": layout.fill,
        "no_logic": [
            *layout.fill,
            *{layout.tap.get("cell", ""), layout.tap.get("endcap", "")} - {""},
        ],
        "threads": options.threads or os.cpu_count() or 1,
    }  # fmt: skip


def _routable(lef: Path, folder: Path) -> Path:
    """A technology LEF that the detailed router reads: without rules of vias that stay on a layer.

    Old files have such rules, named TURN, for corners of wires.
    """
    text = lef.read_text()
    kept = re.sub(r"(?ms)^VIARULE (TURN\w*)\b.*?^END \1[ \t]*$\n?", "", text)
    if kept == text:
        return lef
    copy = folder / f"routable-{hashlib.sha256(kept.encode()).hexdigest()[:12]}.lef"
    write_text(copy, kept)
    return copy


def layout_files(platform: Platform, folder: Path) -> dict[str, Any]:
    """Files of the platform's layout part, under the names that the scripts have for them.

    Parameters
    ----------
    folder : Path
        Of copies of files that OpenROAD would not read as they are.

    Raises
    ------
    HalutError
        When one is missing, or the extraction rules are no such rules.
    """
    layout = platform.layout
    assert layout is not None
    rules = platform.layout_file(layout.extraction) if layout.extraction else None
    if rules is not None:
        with rules.open("rb") as file:
            first = file.readline(80).decode(errors="replace").strip()
        if not first.startswith("Extraction Rules"):
            raise HalutError(
                f'layout.extraction must be a file that begins with "Extraction Rules", not '
                f"{first!r} ({rules}); {platform.source.name} without it estimates parasitics"
            )
    return {
        "technology_lef": _routable(platform.layout_file(layout.technology_lef), folder),
        "cell_lef": [platform.layout_file(pattern) for pattern in layout.cell_lef],
        "extraction": rules or "",
    }


def corners_there(run: Run) -> dict[str, list[Path]]:
    """Liberty files of each corner that has them all, those of macros included."""
    found: dict[str, list[Path]] = {}
    for corner in run.platform.corners:
        try:
            files = run.liberty_at(corner)
        except HalutError:
            continue
        if run.block is not None:
            files.append(run.block.liberty(corner))
        if files[-1].is_file():
            found[corner] = files
    return found
