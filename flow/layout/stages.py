"""Place and route with OpenROAD: from the mapped netlist to a routed, extracted, timed layout.

Six scripts of our own (``tcl``), one OpenROAD each. Every stage starts from the database that
the one before saved, so that a run that was stopped goes on where it was, and leaves its log,
reports, time and memory in ``<run>/pnr``. The scripts keep to what OpenROAD 25Q4 and 26Q3 share.

The netlist goes in without its clock buffers (the clock tree is made from places) and its data
buffers are removed and made anew by distance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.cells.platform import Platform
from flow.layout.clocks import clock_gates, clock_limits, drive_gated_clocks
from flow.layout.macros import macro_files, macro_settings
from flow.layout.openroad import Usage, run_script
from flow.layout.settings import corners_there, layout_files, layout_settings
from flow.netlist.netlist import HIGH, LOW, Netlist
from flow.power.activity import Activity
from flow.power.opensta import REPORT
from flow.power.saif import saif
from flow.run.context import Run
from flow.run.step_cache import StepCache
from flow.timing.constraints import clock_ps
from flow.timing.opensta import SEARCH, plain_liberty
from flow.timing.sdc import constraints_sdc
from flow.tools.tcl import settings
from halut.errors import HalutError
from halut.files import file_hash, write_text

__all__ = [
    "PLACED",
    "ROUTED",
    "LaidOut",
    "StageResult",
    "check_layout",
    "lay_out",
    "no_layout",
    "scripts",
]

PLACED = ("floorplan", "place")
ROUTED = (*PLACED, "cts", "globalroute", "detailedroute", "finish")
ABSTRACT = "abstract"
_TCL = Path(__file__).parent / "tcl"


@dataclass(frozen=True)
class StageResult:
    """What a stage left besides its database."""

    metrics: dict[str, Any]  #: As OpenROAD names them.
    usage: Usage


@dataclass(frozen=True)
class LaidOut:
    """The stages that were done."""

    folder: Path
    openroad: str  #: Its version.
    stages: dict[str, StageResult]
    worked: list[str]  #: Stages that were done now, not by an earlier run.

    @property
    def metrics(self) -> dict[str, Any]:
        """Of all stages, the last one's where several have the same."""
        return {name: v for stage in self.stages.values() for name, v in stage.metrics.items()}


def no_layout(run: Run) -> str:
    """Why nothing can be placed; empty when it can."""
    if run.openroad is None:
        return "no openroad: put it on PATH or set OPENROAD_EXE"
    if run.platform.layout is None:
        return f"platform {run.platform.name} has no layout part"
    if run.srams and not (run.platform.sram and run.platform.sram.lef):
        return f"platform {run.platform.name} has no sram.lef"
    return ""


def check_layout(run: Run) -> None:
    """Raise `HalutError` where a run asks for a layout that cannot be made."""
    if run.options.layout in ("placed", "routed") and (missing := no_layout(run)):
        raise HalutError(f"place and route must have OpenROAD and a platform with cells: {missing}")


def scripts(name: str) -> list[Path]:
    """The Tcl files of a stage, or of "power" or "corner", in order."""
    return [SEARCH, REPORT, _TCL / "common.tcl", _TCL / f"{name}.tcl"]


def _script_hash(name: str) -> str:
    texts = [path.read_text() for path in scripts(name)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _check_rails(netlist: Netlist, platform: Platform) -> None:
    """OpenROAD's router takes no pins of cells that are wired to a supply rail (DRT-0305)."""
    wired = [
        f"{instance.name}.{pin}"
        for instance in netlist.instances
        for pin, net in instance.pins.items()
        if net in (LOW, HIGH)
    ]
    if wired:
        raise HalutError(
            f"signal pins must be driven by cells to be routed, not {len(wired)} wired to a supply "
            f"rail, {wired[0]} first: the platform has no cells.tie_high and cells.tie_low "
            f"({platform.source}); another --adder may have none"
        )


def _other_corners(run: Run) -> list[Any]:
    """Name and Liberty files of each corner that is there, but the run's own."""
    return [
        value
        for name, files in corners_there(run).items()
        if name != run.corner
        for value in (name, plain_liberty(files, run.cache))
    ]


def _by_content(value: Any) -> Any:
    """Settings with the hash of its content in place of each file."""
    if isinstance(value, Path):
        return file_hash(value)
    if isinstance(value, dict):
        return {key: _by_content(item) for key, item in value.items()}
    return [_by_content(item) for item in value] if isinstance(value, list) else value


def lay_out(run: Run, clock_buffers: Sequence[str], activity: Path | None) -> LaidOut:
    """Do the stages that the run asks for, or what is left of them.

    Parameters
    ----------
    run : Run
        With its mapped netlist.
    clock_buffers : sequence of str
        Instances of the netlist that are its clock's buffers.
    activity : Path or None
        Activity of the mapped netlist (``activity.npz``), for the power of each stage.

    Raises
    ------
    HalutError
        When OpenROAD, or the platform's part for it, is missing.
    CheckFailed
        When OpenROAD fails.
    """
    check_layout(run)
    tool, options = run.openroad, run.options.place_and_route
    assert tool is not None
    names: tuple[str, ...] = ROUTED if run.options.layout == "routed" else PLACED
    if names == ROUTED and options.abstract:
        names = (*names, ABSTRACT)
    platform, library = run.platform, run.library
    values = layout_settings(platform, library, run.design.top, options)
    assert platform.layout is not None
    folder = run.folder / "pnr"
    folder.mkdir(parents=True, exist_ok=True)
    values |= layout_files(platform, folder)
    values |= macro_settings(run, values["utilisation"] / 100)
    values["cell_lef"] = [*values["cell_lef"], *macro_files(run)]
    netlist = run.netlist.without_buffers(clock_buffers, {
        name: (cell.inputs[0], cell.outputs[0])
        for name, cell in library.cells.items()
        if len(cell.inputs) == 1 and len(cell.outputs) == 1
    })  # fmt: skip
    if names != PLACED:
        _check_rails(netlist, platform)
    constraints = run.constraints(run.options.clock_ns, options.io_latency_ns)
    gate_driven = drive_gated_clocks(netlist, library, platform)
    texts = {
        "netlist.v": netlist.verilog(),
        "constraints.sdc": constraints_sdc(netlist, library, platform, constraints),
    }
    if activity is not None:
        measured = Activity.load(activity)
        texts["activity.saif"] = saif(
            run.netlist, library, measured, clock_ps(constraints.period_ns)
        )
    for name, text in texts.items():
        write_text(folder / name, text)
    values |= {
        "liberty": plain_liberty(run.liberty, run.cache),
        "period": constraints.period_ns,
    }
    # Files with `texts`.
    written = {
        "folder": folder,
        "netlist": folder / "netlist.v",
        "constraints": folder / "constraints.sdc",
        "activity": folder / "activity.saif" if activity is not None else "",
    }
    # These concern what comes after placement only.
    later = {
        "clock_gates": clock_gates(run.timing),
        "gate_driven": gate_driven,
        "hold_margin": platform.layout.hold_margin_ns
        if options.hold_margin_ns is None
        else options.hold_margin_ns,
        "clock_limits": clock_limits(library, platform),
        "corner": run.corner,
        "other_corners": _other_corners(run) if names != PLACED else [],
    }
    inputs = {
        "settings": _by_content({k: v for k, v in values.items() if k != "threads"}),
        "texts": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
        "openroad": tool.version,
    }
    if run.block is not None:
        inputs["block"] = run.block.digest
    later_inputs = _by_content(later)
    # What the scripts are given is in `inputs`: this package's sources are no part of the key.
    cache = StepCache(folder, names, run.options.force, key="")
    stages: dict[str, StageResult] = {}
    before: Path | None = None
    for name in names:
        output = folder / f"{name}.{'lib' if name == ABSTRACT else 'odb'}"
        own = folder / f"{name}.settings.tcl"

        def work(
            name: str = name, own: Path = own, before: Path | None = before, output: Path = output
        ) -> StageResult:
            steps = {"input": before or "", "output": output}
            write_text(own, settings(values | written | later | steps))
            return StageResult(*run_script(tool, [own, *scripts(name)], folder, name))

        own_inputs = inputs | {"script": _script_hash(name)}
        if name not in PLACED:
            own_inputs |= later_inputs
        stages[name] = cache.run(name, StageResult, own_inputs, [output], work)
        before = output
    return LaidOut(folder, tool.version, stages, cache.worked)
