"""Place and route with OpenROAD: from the mapped netlist to a routed, extracted, timed layout.

Six scripts of our own (``tcl``), one OpenROAD each. Every stage starts from the database that
the one before saved, so that a run that was stopped goes on where it was, and leaves its log,
reports, time and memory in ``<run>/pnr``. The scripts keep to what OpenROAD 25Q4 and 26Q3 share.

The netlist goes in without its clock buffers (the clock tree is made from places) and its data
buffers are removed and made anew by distance.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flow.cells.families import sizes
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.designs.design import LOADING_WARM_UP, Workload, window_of
from flow.figures.energy import NO_ENGINE, by_kind, kinds_of_units, set_energy
from flow.figures.energy import ROUTED as ENERGY
from flow.figures.metrics import UNITS, Metrics
from flow.layout.gds import write_gds
from flow.layout.openroad import Usage, run_script
from flow.layout.pictures import ADDED, CLOCK_TREE, draw_layout
from flow.netlist.netlist import Netlist, from_json
from flow.netlist.yosys import usable_cells
from flow.power.activity import Activity
from flow.power.liberty_power import Power, liberty_power
from flow.power.opensta import REPORT, input_activity, read_power
from flow.power.saif import saif
from flow.run.stages import Stages
from flow.simulation.simulate import NetlistRun
from flow.timing.analysis import Timing
from flow.timing.constraints import clock_ps
from flow.timing.opensta import SEARCH, plain_liberty
from flow.timing.sdc import constraints_sdc
from flow.tools import Tool, find_openroad, run_tool
from flow.tools.tcl import settings
from halut.errors import HalutError
from halut.files import atomic_write
from sim.simulators import plain_link

if TYPE_CHECKING:
    from flow.run.run import Run

__all__ = [
    "PLACED",
    "ROUTED",
    "LayoutOptions",
    "RoutedNetlist",
    "clock_limits",
    "drive_gated_clocks",
    "layout_files",
    "layout_settings",
    "layout_unit",
    "measure_layout",
    "read_routed",
    "routed_power",
    "run_stages",
    "wire_capacitance",
]

PLACED = ("floorplan", "place")
ROUTED = (*PLACED, "cts", "globalroute", "detailedroute", "finish")
_TCL = Path(__file__).parent / "tcl"


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How to place and route.

    Attributes
    ----------
    utilisation : float or None
        Share of the core that the cells may take, in (0, 1]; the platform's when None.
    aspect : float
        Height over width of the core.
    margin_um : float
        Between core and die, um.
    timing_driven, routability_driven : bool
        What global placement minds besides wire length.
    repair_tns : int
        Percent of the violating endpoints that setup repair works on.
    threads : int
        Of the detailed router; 0 for all cores.
    """

    utilisation: float | None = None
    aspect: float = 1.0
    margin_um: float = 2.0
    timing_driven: bool = True
    routability_driven: bool = True
    repair_tns: int = 100
    threads: int = 0

    def __post_init__(self) -> None:
        if self.utilisation is not None and not 0.05 <= self.utilisation <= 0.98:
            raise HalutError(f"utilisation must be in [0.05, 0.98], not {self.utilisation:g}")
        if not 0.2 <= self.aspect <= 5:
            raise HalutError(f"aspect must be in [0.2, 5], not {self.aspect:g}")
        if not 0 <= self.margin_um <= 1000:
            raise HalutError(f"margin must be in [0, 1000] um, not {self.margin_um:g}")
        if not 0 <= self.repair_tns <= 100:
            raise HalutError(f"repair_tns must be in [0, 100], not {self.repair_tns}")
        if self.threads < 0:
            raise HalutError(f"threads must be at least 0, not {self.threads}")


def _stripe(stripe: Any) -> list[Any]:
    arguments: list[Any] = ["-width", stripe.width]
    if stripe.follow_pins:
        return [*arguments, "-followpins"]
    arguments += ["-pitch", stripe.pitch, "-offset", stripe.offset]
    return [*arguments, "-spacing", stripe.spacing] if stripe.spacing else arguments


def layout_settings(
    platform: Platform, library: Library, top: str, options: LayoutOptions
) -> dict[str, Any]:
    """What the scripts need to know of the platform and the options; no paths of one run.

    Raises
    ------
    HalutError
        When the platform has no layout part.
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
    stripes = layout.stripes
    # What mapping and sizing may not use, OpenROAD may not use either; its clock tree may.
    usable = set(usable_cells(library, platform))
    roles = {values["cell"] for values in platform.cells.values() if "cell" in values}
    avoid = sorted(
        name
        for name, cell in library.cells.items()
        if name not in usable | roles
        and cell.kind in ("gate", "ff", "latch", "clock_gate")
        and (platform.avoids(name) or cell.dont_use)
        and not _is_clock_buffer(name, platform)
    )
    return {
        "top": top,
        "site": layout.site,
        "utilisation": 100 * utilisation,
        "density": min(0.95, utilisation + 0.08),
        "aspect": options.aspect,
        "margin": options.margin_um,
        "die": "",
        "core": "",
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
        "stripes": [value for item in stripes for value in (item.layer, _stripe(item))],
        "stripe_pairs": [
            [low.layer, high.layer] for low, high in itertools.pairwise(stripes)
        ],
        "top_stripe": stripes[-1].layer,
        "remove_buffers": True,
        "padding": layout.padding,
        "horizontal_pins": layout.pins["horizontal"],
        "vertical_pins": layout.pins["vertical"],
        "timing_driven": options.timing_driven,
        "routability_driven": options.routability_driven,
        "signal_layers": "-".join(layout.signal_layers),
        "clock_layers": "-".join(layout.clock_layers),
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


def clock_limits(library: Library, platform: Platform) -> list[float]:
    """Longest slew and largest load of clock buffers, for a library without a limit of slews.

    Returns
    -------
    list of float
        s and F: where the tables end, or the limit of the load. Empty when slews have a limit.
    """
    role = platform.cells.get("clock_buffer", platform.cells["buffer"])
    pins = library.cells[role["cell"]].pins
    output = pins[role["output"]]
    if output.max_slew or pins[role["input"]].max_slew:
        return []
    tables = [table for arc in output.arcs for table in arc.tables.values()]
    slew = max(table.slews[-1] for table in tables)
    load = output.max_capacitance or max(table.loads[-1] for table in tables)
    return [slew * 1e-9, load * 1e-15]


def _is_clock_buffer(name: str, platform: Platform) -> bool:
    """Whether a cell is of the family of the platform's clock buffer."""
    own = platform.cells.get("clock_buffer", {}).get("cell", "")
    family = re.sub(r"\d+$", "", own)
    return bool(family) and re.sub(r"\d+$", "", name) == family


# A gated clock of some twenty sinks or more: its wires have at most twice its pins' capacitance.
_LOAD_BY_PINS = 3


def drive_gated_clocks(netlist: Netlist, library: Library, platform: Platform) -> list[str]:
    """Enlarge clock gates so that they may drive small nets without clock buffers.

    A net is small with at most `Platform.max_fanout` sinks.

    Parameters
    ----------
    netlist : Netlist
        Without clock buffers; its clock gates are changed.
    library : Library
    platform : Platform

    Returns
    -------
    list of str
        The small nets.
    """
    sinks: Counter[int] = Counter()
    load: dict[int, float] = defaultdict(float)
    for instance in netlist.instances:
        cell = library.cells[instance.cell]
        for pin in cell.inputs:
            if pin in instance.pins:
                sinks[instance.pins[pin]] += 1
                load[instance.pins[pin]] += max(cell.pins[pin].capacitance)
    alternatives = sizes(library, platform)
    driven = []
    for instance in netlist.instances:
        cell = library.cells[instance.cell]
        if cell.kind != "clock_gate":
            continue
        (output,) = cell.outputs
        net = instance.pins[output]
        if not 0 < sinks[net] <= platform.max_fanout:
            continue
        driven.append(netlist.net_label(net))
        larger = alternatives[instance.cell]
        larger = larger[larger.index(instance.cell) :] if instance.cell in larger else []
        for name in larger:
            instance.cell = name
            limit = library.cells[name].pins[output].max_capacitance or math.inf
            if _LOAD_BY_PINS * load[net] <= limit:
                break
    return sorted(driven)


def _routable(lef: Path, folder: Path) -> Path:
    """A technology LEF that the detailed router reads: without rules of vias that stay on a layer.

    Old files have such rules, named TURN, for corners of wires.
    """
    text = lef.read_text()
    kept = re.sub(r"(?ms)^VIARULE (TURN\w*)\b.*?^END \1[ \t]*$\n?", "", text)
    if kept == text:
        return lef
    copy = folder / f"routable-{hashlib.sha256(kept.encode()).hexdigest()[:12]}.lef"
    with atomic_write(copy) as temporary:
        temporary.write_text(kept)
    return copy


def layout_files(platform: Platform, folder: Path) -> dict[str, Any]:
    """Files of the platform's layout part, under the names that the scripts have for them.

    Parameters
    ----------
    platform : Platform
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


def _scripts(name: str) -> list[Path]:
    return [SEARCH, REPORT, _TCL / "common.tcl", _TCL / f"{name}.tcl"]


def _script_hash(name: str) -> str:
    texts = [path.read_text() for path in _scripts(name)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def layout_unit(name: str, known: Mapping[str, str]) -> str:
    """Kind of unit of a cell of the routed netlist.

    Parameters
    ----------
    name : str
        Instance name.
    known : mapping of str to str
        Kinds of the mapped netlist's instances.
    """
    if name in known:
        return known[name]
    if re.match(r"(clkbuf|clkload|delaybuf|clkinv|inv_clk)", name):
        return CLOCK_TREE
    # Flip-flops and gates that timing repair cloned keep the name they came from.
    base = re.sub(r"(_clone\d*|_dup\d*|_\d+)$", "", name)
    return known.get(base, ADDED)


def run_stages(
    run: Run,
    tool: Tool,
    options: LayoutOptions,
    names: Sequence[str],
    clock_buffers: Sequence[str],
    activity: Path | None,
) -> tuple[dict[str, Any], dict[str, Usage], Path]:
    """Run the stages `names`, or what is left of them.

    Parameters
    ----------
    run : Run
        With its mapped netlist.
    tool : Tool
        OpenROAD.
    options : LayoutOptions
    names : sequence of str
        `PLACED` or `ROUTED`.
    clock_buffers : sequence of str
        Instances of the netlist that are its clock's buffers.
    activity : Path or None
        Activity of the mapped netlist (``activity.npz``), for the power of each stage.

    Returns
    -------
    metrics : dict of str to number
        As OpenROAD names them.
    usage : dict of str to Usage
    folder : Path
    """
    platform, library = run.platform, run.library
    values = layout_settings(platform, library, run.design.top, options)
    assert platform.layout is not None
    folder = run.folder / "pnr"
    folder.mkdir(parents=True, exist_ok=True)
    values |= layout_files(platform, folder)
    netlist = run.netlist.without_buffers(clock_buffers, {
        name: (cell.inputs[0], cell.outputs[0])
        for name, cell in library.cells.items()
        if len(cell.inputs) == 1 and len(cell.outputs) == 1
    })  # fmt: skip
    constraints = run.constraints(run.options.clock_ns)
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
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text)
    values |= {
        "liberty": plain_liberty(run.liberty, run.cache),
        "folder": folder,
        "netlist": folder / "netlist.v",
        "constraints": folder / "constraints.sdc",
        "period": constraints.period_ns,
        "activity": folder / "activity.saif" if activity is not None else "",
    }
    # These concern what comes after placement only.
    later = {
        "gate_driven": gate_driven,
        "hold_margin": platform.layout.hold_margin_ns,
        "clock_limits": clock_limits(library, platform),
    }
    inputs = {
        "settings": {key: value for key, value in values.items() if key != "threads"},
        "texts": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
        "openroad": tool.version,
    }
    # What the scripts are given is in `inputs`: this package's sources are no part of the key.
    stages = Stages(folder, list(names), run.options.force, key="")
    metrics: dict[str, Any] = {}
    usage: dict[str, Usage] = {}
    before: Path | None = None
    for name in names:
        output = folder / f"{name}.odb"
        own = folder / f"{name}.settings.tcl"

        def work(
            name: str = name, own: Path = own, before: Path | None = before, output: Path = output
        ) -> dict[str, Any]:
            with atomic_write(own) as temporary:
                temporary.write_text(
                    settings(values | later | {"input": before or "", "output": output})
                )
            found, used = run_script(tool, [own, *_scripts(name)], folder, name)
            return {"metrics": found, "usage": asdict(used)}

        own_inputs = inputs | {"script": _script_hash(name)} | (later if name not in PLACED else {})
        result = stages.run(name, own_inputs, [output], work)
        metrics |= result["metrics"]
        usage[name] = Usage(**result["usage"])
        before = output
    return metrics, usage, folder


@dataclass
class RoutedNetlist:
    """What was routed.

    Attributes
    ----------
    netlist : Netlist
        Of the final Verilog.
    kinds : list of str
        Kind of unit of every instance.
    wire_ff : ndarray of shape (n_nets,)
        Capacitance of every net's wires, fF.
    """

    netlist: Netlist
    kinds: list[str]
    wire_ff: np.ndarray


def read_routed(
    yosys: Tool, folder: Path, top: str, library: Library, known: Mapping[str, str]
) -> RoutedNetlist:
    """Read ``final.v`` and ``final.spef``.

    Parameters
    ----------
    yosys : Tool
        Reads the Verilog.
    folder : Path
    top : str
    library : Library
    known : mapping of str to str
        Kinds of unit of the mapped netlist's instances.
    """
    script = folder / "read.ys"
    plain = plain_link(folder)
    script.write_text(f"read_verilog {plain / 'final.v'}\nwrite_json {plain / 'final.json'}\n")
    run_tool(yosys, [str(plain / script.name)], folder / "read.log", cwd=folder)
    outputs = {name: cell.outputs for name, cell in library.cells.items()}
    netlist = from_json(json.loads((folder / "final.json").read_text()), top, outputs)
    return RoutedNetlist(
        netlist,
        [layout_unit(instance.name, known) for instance in netlist.instances],
        wire_capacitance(folder / "final.spef", netlist),
    )


_SCALE = {"FF": 1.0, "PF": 1e3, "NF": 1e6}


def wire_capacitance(spef: Path, netlist: Netlist) -> np.ndarray:
    """Total capacitance of every net in a SPEF file, fF, in the netlist's order of nets.

    Raises
    ------
    HalutError
        When the file has no unit of capacitance or none of the netlist's nets.
    """
    text = spef.read_text()
    unit = re.search(r"^\*C_UNIT\s+([\d.eE+-]+)\s+(\w+)", text, re.M)
    if unit is None or unit[2].upper() not in _SCALE:
        raise HalutError(f"a SPEF file must have *C_UNIT in FF, PF or NF ({spef})")
    scale = float(unit[1]) * _SCALE[unit[2].upper()]
    names = dict(re.findall(r"^(\*\d+)\s+(\S+)", _section(text, "*NAME_MAP"), re.M))
    place = {netlist.net_label(net): net for net in range(len(netlist.net_names))}
    wires = np.zeros(len(netlist.net_names))
    seen = 0
    for key, value in re.findall(r"^\*D_NET\s+(\S+)\s+([\d.eE+-]+)", text, re.M):
        net = place.get(names.get(key, key).replace("\\", ""))
        if net is not None:
            wires[net] += float(value) * scale
            seen += 1
    if not seen:
        raise HalutError(f"a SPEF file must be of this netlist: none of its nets is there ({spef})")
    return wires


def _section(text: str, name: str) -> str:
    start = text.find(name)
    if start < 0:
        return ""
    end = re.search(r"^\*(PORTS|POWER_NETS|D_NET)\b", text[start:], re.M)
    return text[start : start + end.start()] if end else text[start:]


def routed_power(
    tool: Tool,
    routed: RoutedNetlist,
    activity: Activity,
    library: Library,
    folder: Path,
    values: Mapping[str, Any],
    clock: str,
    period_ps: int,
) -> np.ndarray:
    """Have OpenROAD sum the power of the routed design with measured activity.

    Returns
    -------
    ndarray of shape (3, n_instances)
        Internal, switching and leakage power, mW.

    Raises
    ------
    CheckFailed
        When OpenROAD fails or leaves instances out.
    """
    netlist = routed.netlist
    with atomic_write(folder / "routed.saif") as temporary:
        temporary.write_text(saif(netlist, library, activity, period_ps))
    ports = input_activity(netlist, clock, activity)
    own = folder / "power.settings.tcl"
    own.write_text(settings({**values, "saif": folder / "routed.saif", "ports": ports}))
    run_script(tool, [own, *_scripts("power")], folder, "power")
    return read_power(folder / "power.rpt", netlist)


_NAMES = ("floorplan__", "detailedplace__", "cts__", "globalroute__", "detailedroute__",
          "finish__", "halut__routed__")  # fmt: skip
_LATER = _NAMES[2:]


def measure_layout(
    metrics: Metrics,
    run: Run,
    yosys: Tool,
    simulator: Tool | None,
    clock_buffers: Sequence[str],
    simulation: Mapping[str, Any] | None,
) -> None:
    """Place, or place and route, as the run's options ask, and add the metrics.

    Parameters
    ----------
    metrics : Metrics
    run : Run
    yosys : Tool
        Reads the routed netlist back.
    simulator : Tool or None
        Simulates it; without one the layout has no power.
    clock_buffers : sequence of str
    simulation : mapping or None
        Result of the stage "simulate".

    Raises
    ------
    HalutError
        When place and route is asked for and OpenROAD, or the platform's part for it, is missing.
    CheckFailed
        When OpenROAD fails, or the routed netlist does not compute what the model says.
    """
    wanted = run.options.layout
    if wanted == "none":
        metrics.missing(_NAMES, "not asked for")
        return
    tool = find_openroad()
    if tool is None or run.platform.layout is None:
        reason = (
            "no openroad: put it on PATH or set OPENROAD_EXE"
            if tool is None
            else f"platform {run.platform.name} has no layout part"
        )
        if wanted == "auto":
            metrics.missing(_NAMES, reason)
            return
        raise HalutError(f"place and route must have OpenROAD and a platform with cells: {reason}")
    routed = wanted == "routed"
    activity = run.folder / "activity.npz"
    found, usage, folder = run_stages(
        run,
        tool,
        run.options.place_and_route,
        ROUTED if routed else PLACED,
        clock_buffers,
        activity if simulation is not None and activity.is_file() else None,
    )
    _put_found(metrics, found, simulation is not None)
    metrics.provenance.setdefault("tools", {})["openroad"] = tool.version
    metrics.provenance["layout"] = {
        "stages": {name: asdict(used) for name, used in usage.items()},
        "options": asdict(run.options.place_and_route),
    }
    known = {instance.name: run.kind(instance) for instance in run.netlist.instances}
    if not routed:
        metrics.missing(_LATER, "placed only: make pnr goes on")
        _draw(metrics, run, folder, "place.def", known)
        return
    metrics.notes["wires"] = _wires(run.platform)
    errors = metrics.values["detailedroute__route__drc_errors"]
    if errors:
        metrics.notes["routing"] = f"{errors} design-rule violations are left ({folder}/drc.rpt)"
    final = read_routed(yosys, folder, run.design.top, run.library, known)
    kinds = {
        instance.name: kind
        for instance, kind in zip(final.netlist.instances, final.kinds, strict=True)
    }
    _draw(metrics, run, folder, "final.def", kinds)
    _write_gds(metrics, run, folder)
    _routed_area(metrics, run, final)
    _routed_timing(metrics, folder)
    if simulator is None or simulation is None:
        metrics.missing(("finish__power", "halut__routed"), "no simulation")
        return
    _routed_energy(metrics, run, tool, simulator, final, folder)


def _lef(run: Run) -> list[Path]:
    layout = run.platform.layout
    assert layout is not None
    return [
        run.platform.layout_file(pattern) for pattern in (layout.technology_lef, *layout.cell_lef)
    ]


def _draw(metrics: Metrics, run: Run, folder: Path, name: str, kinds: Mapping[str, str]) -> None:
    """Pictures of a layout, in ``pictures``; those of an earlier, further one are removed."""
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    drawn = draw_layout(
        folder / name,
        _lef(run),
        kinds,
        pictures,
        platform=run.platform.name,
        clock_nets=[run.design.clock],
    )
    metrics.notes["pictures"] = sorted(str(path.relative_to(run.folder)) for path in
                                       drawn.files.values())  # fmt: skip


def _write_gds(metrics: Metrics, run: Run, folder: Path) -> None:
    layout = run.platform.layout
    assert layout is not None
    if not layout.gds:
        metrics.notes["gds"] = f"none: platform {run.platform.name} has no GDS of its cells"
        return
    write_gds(
        folder / "final.def",
        _lef(run),
        [run.platform.layout_file(pattern) for pattern in layout.gds],
        folder / "final.gds",
        run.platform.layout_file(layout.klayout) if layout.klayout else None,
    )
    metrics.notes["gds"] = str((folder / "final.gds").relative_to(run.folder))


def _put_found(metrics: Metrics, found: Mapping[str, Any], with_activity: bool) -> None:
    """What OpenROAD measured, in this project's units."""
    for name, unit in UNITS.items():
        if not name.startswith(_NAMES) or name not in found:
            continue
        if unit == "mW":
            # It tells watts. The final power is told by the routed netlist's own activity.
            if with_activity and not name.startswith("finish__"):
                metrics.set(name, float(found[name]) * 1e3)
            continue
        value = found[name]
        if isinstance(value, (int, float)):
            metrics.set(name, value, "not a finite number")
    if not with_activity:
        metrics.missing(("detailedplace__power",), "no simulation: no activity")


def _routed_area(metrics: Metrics, run: Run, final: RoutedNetlist) -> None:
    library = run.library
    area = math.fsum(library.cells[instance.cell].area for instance in final.netlist.instances)
    gate = library.cells[run.platform.gate_equivalent].area
    metrics.set("finish__design__instance__area__stdcell", area)
    metrics.set("finish__design__instance__count__stdcell", len(final.netlist.instances))
    metrics.set("halut__routed__gate_equivalents", area / gate)
    die = metrics.values["finish__design__die__area"]
    core = metrics.values["floorplan__design__core__area"]
    metrics.set(
        "finish__design__instance__utilization", area / core if core else None, "no core area"
    )
    macs = run.design.macs_per_cycle
    for name, value in (("die_area", die), ("area", area)):
        metrics.set(
            f"halut__routed__{name}_per_mac_per_cycle",
            value / macs if macs and value else None,
            NO_ENGINE,
        )


def _wires(platform: Platform) -> str:
    """Where resistance and capacitance of routed wires come from."""
    layout = platform.layout
    return "extracted wires" if layout and layout.extraction else "wires estimated from the routes"


def _routed_timing(metrics: Metrics, folder: Path) -> None:
    text = (folder / "finish.log").read_text(errors="replace")
    match = re.search(r"^HALUT period (\S+)", text, re.M)
    metrics.set(
        "halut__routed__shortest_period",
        float(match[1]) if match else None,
        "OpenROAD did not tell it",
    )


def _routed_energy(
    metrics: Metrics,
    run: Run,
    tool: Tool,
    simulator: Tool,
    final: RoutedNetlist,
    folder: Path,
) -> None:
    """Simulate the routed netlist with its wires, check it, and sum its power."""
    design, options = run.design, run.options
    timing = Timing(
        final.netlist, run.library, run.platform, run.constraints(options.clock_ns), final.wire_ff
    )
    timing.update()
    values = {
        **layout_settings(run.platform, run.library, design.top, options.place_and_route),
        "liberty": plain_liberty(run.liberty, run.cache),
        "constraints": folder / "constraints.sdc",
        "folder": folder,
        "input": folder / "finish.odb",
        "spef": folder / "final.spef",
    }
    shortest = metrics.values["halut__routed__shortest_period"]

    def simulated(
        workload: Workload, warm_up: int, window: int, name: str, file: str
    ) -> tuple[NetlistRun, int, np.ndarray, Power]:
        """The run, its transfers in the window, power by cell, and our own sum of it."""
        played, begin, period_ps = run.play(
            simulator, shortest, workload, warm_up, window, f"pnr/{name}", f"pnr/{file}", timing
        )
        activity = Activity.load(folder / file)
        power = routed_power(
            tool, final, activity, run.library, folder, values, design.clock, period_ps
        )
        transfers = sum(begin <= cycle < begin + window for cycle in played.input_cycles)
        return played, transfers, power, liberty_power(timing, activity)

    if design.loading:
        loading, window = design.loading(options.seed)
        _, words, power, own = simulated(loading, LOADING_WARM_UP, window, "loading", "loading.npz")
        metrics.set(
            "halut__routed__energy_per_program_word",
            (float(power.sum()) + own.ports) * options.clock_ns * window / words,
        )
    else:
        metrics.missing(("halut__routed__energy_per_program_word",), "no program is loaded")
    # After loading, so that OpenROAD's report in the folder is that of the work.
    warm_up, window = window_of(design, options.cycles)
    workload = design.workload(options.seed, warm_up + window + design.interval_cycles)
    played, transfers, power, own = simulated(
        workload, warm_up, window, "simulation", "activity.npz"
    )
    metrics.set("halut__routed__transfers_checked", played.answers)
    internal, switching, leakage = (float(part) for part in power.sum(axis=1))
    total = internal + switching + leakage + own.ports
    metrics.notes["routed_power"] = (
        f"OpenROAD {tool.version} with {metrics.notes['wires']}; activity from a simulation of the "
        f"routed netlist, whose {played.answers} output transfers equal the exact model; the same "
        f"sum by flow.power.liberty_power with lumped wires: {own.total:.4g} mW"
    )
    inputs = transfers / window
    set_energy(
        metrics,
        ENERGY,
        [internal, switching + own.ports, leakage],
        total,
        options.clock_ns,
        workload.look_ups * inputs,
        workload.macs * inputs,
    )
    rows = kinds_of_units(final.netlist, final.kinds, run.library, by_kind(final.kinds, power))
    for row in rows:
        # The routed Verilog is flat: it does not say which instance of a unit a cell is of.
        del row["instances"]
    metrics.notes["routed_breakdown"] = rows
