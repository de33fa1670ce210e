"""The routed design at the other corners of its platform: the same wires, other cells."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from flow.cells.library import Library
from flow.layout.routed import RoutedNetlist, run_on_routed
from flow.layout.settings import corners_there
from flow.layout.stages import LaidOut
from flow.power.activity import Activity
from flow.power.liberty_power import liberty_power
from flow.run.context import Run
from flow.run.simulation import ROWS_ACTIVITY
from flow.timing.analysis import Timing
from flow.timing.opensta import plain_liberty
from flow.timing.sdc import constraints_sdc
from halut.errors import CheckFailed
from halut.files import write_text

__all__ = [
    "CornerPower",
    "CornerTiming",
    "Corners",
    "PowerAtCorners",
    "corner_files",
    "power_at_corners",
    "time_corners",
]


@dataclass(frozen=True)
class CornerTiming:
    """Timing at one corner."""

    corner: str
    #: Mean delay of the cells, over that at the corner of the layout.
    slower: float
    setup: float  #: Worst setup slack at the clock of the layout, ns.
    hold: float  #: Worst hold slack, ns.
    shortest_period: float  #: ns.


@dataclass(frozen=True)
class Corners:
    """Timing at every corner whose library is there."""

    found: list[CornerTiming] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)  #: The others.


@dataclass(frozen=True)
class CornerPower:
    """Power of the cells of one corner, at work as those of the layout's corner are."""

    corner: str
    voltage: float  #: V.
    total: float  #: By `flow.power.liberty_power`, at the clock of the layout, mW.


@dataclass(frozen=True)
class PowerAtCorners:
    """Power at every corner that was timed."""

    found: list[CornerPower]


def corner_files(run: Run) -> list[Path]:
    """What the timing at corners is made of, besides libraries."""
    return [run.folder / "pnr" / name for name in ("final.v", "final.spef", "constraints.sdc")]


def time_corners(run: Run, laid_out: LaidOut, routed: RoutedNetlist) -> Corners:
    """Time the routed design with its extracted wires at each corner.

    The clock takes longer to the registers outside where cells are slower, as it does inside, and
    for hold so does the logic there.

    Raises
    ------
    CheckFailed
        When OpenROAD reports no slack or no period.
    """
    here = _mean_delay(routed.timing)
    there = corners_there(run)
    corners = Corners(lacking=[name for name in run.platform.corners if name not in there])
    for name, files in there.items():
        library, liberty = run.library_at(name), plain_liberty(files, run.cache)
        slower = _mean_delay(_timing(run, routed, name, library)) / here
        corners.found.append(_at_corner(run, laid_out.folder, name, library, liberty, slower))
    return corners


def power_at_corners(
    run: Run, laid_out: LaidOut, routed: RoutedNetlist, corners: Corners
) -> PowerAtCorners:
    """Sum the power at each corner, with the activity of the routed netlist's simulation.

    Glitches are those of the delays at the corner of the layout, and so is the clock, which
    slower cells may not meet: energy per cycle is what can be compared.
    """
    activity = Activity.load(laid_out.folder / ROWS_ACTIVITY)
    found = []
    for at in corners.found:
        library = run.library_at(at.corner)
        power = liberty_power(_timing(run, routed, at.corner, library), activity)
        found.append(CornerPower(at.corner, library.voltage, power.total))
    return PowerAtCorners(found)


def _timing(run: Run, routed: RoutedNetlist, name: str, library: Library) -> Timing:
    if name == run.corner:
        return routed.timing
    constraints = run.constraints(run.options.clock_ns)
    timing = Timing(routed.netlist, library, run.platform, constraints, routed.wires)
    timing.update()
    return timing


def _mean_delay(timing: Timing) -> float:
    return float(timing.delays().delay.mean())


def _at_corner(
    run: Run, folder: Path, name: str, library: Library, liberty: list[Path], slower: float
) -> CornerTiming:
    clock, layout = run.options.clock_ns, run.options.place_and_route
    latency = layout.io_latency_ns
    sdc, stem = folder / f"constraints_{name}.sdc", f"corner_{name}"
    constraints = run.constraints(clock, latency * slower)
    write_text(sdc, constraints_sdc(run.netlist, library, run.platform, constraints))
    values = {
        "liberty": liberty,
        "constraints": sdc,
        "slower": slower,
        "guess": clock * max(1.0, slower),
        "period": clock,
        "abstract": folder / f"abstract_{name}.lib" if layout.abstract else "",
    }
    log = run_on_routed(run, folder, "corner", stem, values)
    found = dict(re.findall(r"^HALUT (setup|hold|period) (\S+)$", log, re.M))
    if len(found) < 3:
        raise CheckFailed(
            f"OpenROAD must report slacks and a period at corner {name} (log: {folder / stem}.log)"
        )
    return CornerTiming(
        name, slower, float(found["setup"]), float(found["hold"]), float(found["period"])
    )
