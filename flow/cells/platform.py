"""Platforms: which cells a netlist is made of, one YAML file each.

The shipped ones lie beside this file; ``--platform path/to/mine.yaml`` takes any other. A PDK is
looked for in ``HALUT_PDK_DIR``, then in an OpenROAD-flow-scripts checkout (``FLOW_HOME``), then
where the platform's `also` says.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flow.cells.liberty import Arc, Cell, Library, Pin, Table, load_libraries
from halut.errors import HalutError, closest

__all__ = [
    "Corner",
    "Layout",
    "Platform",
    "Stripe",
    "generic_library",
    "platform_names",
    "read_platform",
]

_FOLDER = Path(__file__).parents[1] / "platforms"

_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # role: (keys it must have, keys it may have)
    "clock_gate": (("cell", "clock", "enable", "output"), ("tie_low",)),
    "tie_high": (("cell", "output"), ()),
    "tie_low": (("cell", "output"), ()),
    "buffer": (("cell", "input", "output"), ()),
    "clock_buffer": (("cell", "input", "output"), ()),
    "full_adder": (("cell", "a", "b", "carry_in", "carry", "sum"), ("inverted",)),
}
_DISCRETE_GATE = (
    "latch",
    "latch_data",
    "latch_enable",
    "latch_output",
    "and",
    "and_inputs",
    "and_output",
    "inverter",
    "inverter_input",
    "inverter_output",
)
_KEYS = {
    "version",
    "name",
    "title",
    "folder",
    "also",
    "get",
    "default_corner",
    "corners",
    "cells",
    "dont_use",
    "areas",
    "driver",
    "output_load_ff",
    "max_fanout",
    "clock_fanout",
    "gate_equivalents",
    "layout",
}


@dataclass(frozen=True, kw_only=True)
class Corner:
    """Process, voltage and temperature: the liberty files to read (patterns below the folder)."""

    liberty: tuple[str, ...]
    voltage: float
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """Power stripes of one layer, um; `follow_pins` for the rails of the cell rows."""

    layer: str
    width: float
    pitch: float = 0.0
    offset: float = 0.0
    spacing: float = 0.0
    follow_pins: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the cells of a platform are placed and wired.

    Attributes
    ----------
    technology_lef : str
        Pattern below the PDK's folder, like all files here.
    cell_lef, gds : tuple of str
    klayout : str
        KLayout's technology file, "" for none.
    extraction : str
        OpenRCX's rules, "" for none: parasitics are then estimated from the routes.
    site : str
        Placement site of the rows.
    tracks : tuple of mapping
        Arguments of ``make_tracks`` by layer; the LEF's pitches when empty.
    tap : mapping
        ``cell``, ``distance_um`` and, when it differs, ``endcap``; empty for no taps.
    fill : tuple of str
        Filler cells.
    diode : str
        Antenna diode, "" for none.
    power_pins, ground_pins : tuple of str
        Patterns of the cells' supply pins.
    stripes : tuple of Stripe
        From the cells' rails upwards; neighbours are connected.
    pins : mapping
        Layers of the block's ports, ``horizontal`` and ``vertical``.
    signal_layers, clock_layers : tuple of (str, str)
        Lowest and highest routing layer.
    reserve : mapping of str to float
        Share of a layer's tracks that global routing leaves free.
    wire : mapping
        ``signal`` and ``clock``: the layers that unrouted wires are taken to be on; ``layers``:
        ohm and fF per um by layer; ``vias``: ohm by via layer.
    utilisation : float
        Share of the core that cells may take.
    padding : int
        Sites that are left free on each side of a cell in global placement.
    hold_margin_ns : float
        Hold slack that repair before routing leaves for what routing changes.
    """

    technology_lef: str
    cell_lef: tuple[str, ...]
    site: str
    stripes: tuple[Stripe, ...]
    pins: Mapping[str, str]
    signal_layers: tuple[str, str]
    clock_layers: tuple[str, str]
    wire: Mapping[str, Any]
    utilisation: float
    gds: tuple[str, ...] = ()
    klayout: str = ""
    extraction: str = ""
    tracks: tuple[Mapping[str, Any], ...] = ()
    tap: Mapping[str, Any] = field(default_factory=dict)
    fill: tuple[str, ...] = ()
    diode: str = ""
    power_pins: tuple[str, ...] = ("VDD",)
    ground_pins: tuple[str, ...] = ("VSS",)
    reserve: Mapping[str, float] = field(default_factory=dict)
    padding: int = 0
    hold_margin_ns: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A standard-cell library and how to use it.

    Attributes
    ----------
    name, title : str
    source : Path
        The YAML file.
    folder : str
        Folder of the PDK below `HALUT_PDK_DIR` (or ORFS' ``platforms``).
    also : tuple of str
        Further folders that may hold it.
    get : str
        How to get it, for the message when it is missing.
    corners : mapping of str to Corner
        Empty for a platform without a library.
    default_corner : str
    cells : mapping of str to mapping
        Cells by role; see docs/platforms.md.
    gate_equivalent : str
        The cell whose area is one gate equivalent.
    dont_use : tuple of str
        Patterns of cells that synthesis and sizing leave alone.
    areas : mapping of str to float
        um2 of cells whose area the liberty file gets wrong.
    driver : mapping
        Cell and output pin that drive every input port.
    output_load_ff : float
        Load at every output port, fF.
    max_fanout : int
        Sinks of a data net; more get a buffer tree.
    clock_fanout : int
        Sinks of a clock net; more get clock buffers. In a layout a clock gate drives up to
        `max_fanout` sinks without.
    gate_equivalents : mapping of str to float
        Gate equivalents of Yosys' own gates, for a platform without a library.
    layout : Layout or None
        What place and route needs; None when the platform cannot be laid out.
    """

    name: str
    title: str
    source: Path
    folder: str = ""
    also: tuple[str, ...] = ()
    get: str = ""
    corners: Mapping[str, Corner] = field(default_factory=dict)
    default_corner: str = ""
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gate_equivalent: str = ""
    dont_use: tuple[str, ...] = ()
    areas: Mapping[str, float] = field(default_factory=dict)
    driver: Mapping[str, str] = field(default_factory=dict)
    output_load_ff: float = 0.0
    max_fanout: int = 32
    clock_fanout: int = 24
    gate_equivalents: Mapping[str, float] = field(default_factory=dict)
    layout: Layout | None = None

    @property
    def has_library(self) -> bool:
        return bool(self.corners)

    def avoids(self, cell: str) -> bool:
        """Whether `cell` matches `dont_use`."""
        return any(fnmatch.fnmatchcase(cell, pattern) for pattern in self.dont_use)

    def corner(self, name: str | None) -> tuple[str, Corner]:
        """The asked or the default corner, and its name."""
        chosen = name or self.default_corner
        if chosen not in self.corners:
            raise HalutError(
                f"corner must be one of {', '.join(self.corners) or 'none'}, not {chosen}"
                f"{closest(chosen, self.corners)} (platform {self.name})"
            )
        return chosen, self.corners[chosen]

    def places(self) -> list[Path]:
        """Folders that are looked into for the PDK, in order."""
        found = []
        pdk = os.environ.get("HALUT_PDK_DIR")
        if pdk:
            found.append(Path(pdk) / self.folder)
        for variable in ("FLOW_HOME", "ORFS"):
            home = os.environ.get(variable)
            if home:
                for below in ("platforms", "flow/platforms"):
                    found.append(Path(home) / below / self.folder)
        found.extend(Path(os.path.expandvars(path)).expanduser() for path in self.also)
        return found

    def liberty_files(self, corner: str | None = None) -> list[Path]:
        """Liberty files of a corner.

        Raises
        ------
        HalutError
            When the PDK, or a file of it, is not found; says where was looked and what helps.
        """
        name, chosen = self.corner(corner)
        places = self.places()
        for place in places:
            files = []
            for pattern in chosen.liberty:
                matches = sorted(glob.glob(str(place / pattern)))
                if not matches:
                    break
                files.append(Path(matches[0]))
            else:
                return files
        looked = "none in " + ", ".join(str(place) for place in places)
        if not places:
            looked = "nothing (HALUT_PDK_DIR is not set)"
        raise HalutError(
            f"platform {self.name} corner {name} must have its liberty files, not "
            f"{looked}; set HALUT_PDK_DIR to the folder above {self.folder or 'the PDK'}, or "
            f"FLOW_HOME to an OpenROAD-flow-scripts checkout"
            f"{'; ' + self.get.strip() if self.get else ''}. Without it --platform generic still "
            f"works, and so do rtl_gen and sim ({self.source.name})"
        )

    def layout_file(self, pattern: str) -> Path:
        """A file of the PDK that place and route needs.

        Raises
        ------
        HalutError
            When no place of the PDK has it.
        """
        for place in self.places():
            matches = sorted(glob.glob(str(place / pattern)))
            if matches:
                return Path(matches[0])
        looked = ", ".join(str(place) for place in self.places()) or "nothing"
        raise HalutError(
            f"platform {self.name} must have {pattern} for place and route, not none in {looked} "
            f"({self.source.name})"
        )

    def library(self, corner: str | None = None, cache: Path | None = None) -> Library:
        """Cells of a corner, checked against the roles of this platform."""
        library = load_libraries(self.liberty_files(corner), cache)
        for cell, area in self.areas.items():
            if cell in library.cells:
                library.cells[cell].area = area
        self._check(library)
        return library

    def _check(self, library: Library) -> None:
        def need(cell: str, what: str, *pins: str) -> None:
            if cell not in library.cells:
                raise HalutError(
                    f"{what} must be a cell of the library, not {cell}"
                    f"{closest(cell, library.cells)} ({self.source})"
                )
            for pin in pins:
                if pin not in library.cells[cell].pins:
                    raise HalutError(
                        f"{what} must name pins of {cell}, not {pin}"
                        f"{closest(pin, library.cells[cell].pins)} ({self.source})"
                    )

        need(self.gate_equivalent, "cells.gate_equivalent")
        need(self.driver["cell"], "driver.cell", self.driver["output"])
        for role, values in self.cells.items():
            if "cell" in values:
                pins = [
                    value
                    for key, value in values.items()
                    if key not in ("cell", "tie_low", "inverted")
                ]
                need(values["cell"], f"cells.{role}", *pins, *values.get("tie_low", []))
            else:
                need(values["latch"], f"cells.{role}.latch", values["latch_data"],
                     values["latch_enable"], values["latch_output"])  # fmt: skip
                need(values["and"], f"cells.{role}.and", *values["and_inputs"],
                     values["and_output"])  # fmt: skip
                need(values["inverter"], f"cells.{role}.inverter", values["inverter_input"],
                     values["inverter_output"])  # fmt: skip


def platform_names() -> list[str]:
    """Names of the shipped platforms."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_platform(name: str | os.PathLike[str]) -> Platform:
    """Read a shipped platform by name, or any by the path of its YAML file.

    Parameters
    ----------
    name : str or path-like
        ``nangate45``, or ``my/platform.yaml``.

    Returns
    -------
    Platform

    Raises
    ------
    HalutError
        When there is no such platform or its file breaks a rule.

    Examples
    --------
    >>> read_platform("nangate45").default_corner
    'typ'
    >>> read_platform("generic").has_library
    False
    """
    text = os.fspath(name)
    if text.endswith((".yaml", ".yml")) or os.sep in text:
        path = Path(text)
    else:
        path = _FOLDER / f"{text}.yaml"
        if not path.is_file():
            names = platform_names()
            raise HalutError(
                f"platform must be one of {', '.join(names)} or the path of a YAML file, not "
                f"{text}{closest(text, names)}"
            )
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise HalutError(f"a platform must be a readable file: {error}") from None
    except yaml.YAMLError as error:
        raise HalutError(f"a platform must be YAML: {' '.join(str(error).split())}") from None
    return _platform(data, path)


_TEXT, _TEXTS, _SHARE, _MAP, _LIST = "a text", "a list of texts", "in (0, 1]", "a mapping", "a list"
_LAYOUT: dict[str, str] = {
    "technology_lef": _TEXT,
    "cell_lef": _TEXTS,
    "site": _TEXT,
    "stripes": _LIST,
    "pins": _MAP,
    "signal_layers": _TEXTS,
    "clock_layers": _TEXTS,
    "wire": _MAP,
    "utilisation": _SHARE,
    "gds": _TEXTS,
    "klayout": _TEXT,
    "extraction": _TEXT,
    "tracks": _LIST,
    "tap": _MAP,
    "fill": _TEXTS,
    "diode": _TEXT,
    "power_pins": _TEXTS,
    "ground_pins": _TEXTS,
    "reserve": _MAP,
    "padding": "a number of sites, at least 0",
    "hold_margin_ns": "a time in ns, at least 0",
}
_LAYOUT_MUST = tuple(
    item.name for item in dataclasses.fields(Layout)
    if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
)  # fmt: skip


def _layout(data: Any, fail: Any) -> Layout:
    """The `layout` part of a platform."""
    if not isinstance(data, dict):
        raise fail("layout must be a mapping of keys to values")
    for key in data:
        if key not in _LAYOUT:
            raise fail(f"layout must have known keys only, not {key}{closest(key, _LAYOUT)}")
    for key in _LAYOUT_MUST:
        if key not in data:
            raise fail(f"layout.{key} must be given")
    checks = {
        _TEXT: lambda value: isinstance(value, str),
        _TEXTS: lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
        _SHARE: lambda value: isinstance(value, (int, float)) and 0 < value <= 1,
        _MAP: lambda value: isinstance(value, dict),
        _LIST: lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value),
        _LAYOUT["padding"]: lambda value: type(value) is int and value >= 0,
        _LAYOUT["hold_margin_ns"]: lambda value: type(value) in (int, float) and value >= 0,
    }
    values: dict[str, Any] = {}
    for key, value in data.items():
        if not checks[_LAYOUT[key]](value):
            raise fail(f"layout.{key} must be {_LAYOUT[key]}, not {value!r}")
        values[key] = tuple(value) if isinstance(value, list) else value
    for key in ("signal_layers", "clock_layers"):
        if len(values[key]) != 2:
            raise fail(f"layout.{key} must be the lowest and the highest layer")
    for key, names in (("pins", {"horizontal", "vertical"}), ("wire", {"signal", "clock"})):
        if not names <= set(values[key]):
            raise fail(f"layout.{key} must have {', '.join(sorted(names))}, not {values[key]!r}")
    stripes = []
    known = {item.name for item in dataclasses.fields(Stripe)}
    for stripe in values["stripes"]:
        if not {"layer", "width"} <= set(stripe) <= known:
            raise fail(f"layout.stripes must have layer, width and {', '.join(sorted(known))} only")
        stripes.append(Stripe(**stripe))
    return Layout(**values | {"stripes": tuple(stripes)})


def _platform(data: Any, path: Path) -> Platform:
    def fail(message: str) -> HalutError:
        return HalutError(f"{message} ({path})")

    if not isinstance(data, dict):
        raise fail("a platform must be a mapping of keys to values")
    for key in data:
        if key not in _KEYS:
            raise fail(f"a platform must have known keys only, not {key}{closest(key, _KEYS)}")
    if data.get("version") != 1:
        raise fail(f"version must be 1, not {data.get('version')}")
    for key in ("name", "title"):
        if not isinstance(data.get(key), str) or not data[key]:
            raise fail(f"{key} must be a text, not {data.get(key)!r}")
    if not data["name"].replace("_", "").replace("-", "").isalnum():
        raise fail(f"name must be letters, digits, _ and -, not {data['name']}")
    if "corners" not in data:
        equivalents = data.get("gate_equivalents")
        if not isinstance(equivalents, dict) or not equivalents:
            raise fail("a platform must have corners, or gate_equivalents when it has no library")
        return Platform(
            name=data["name"],
            title=data["title"],
            source=path,
            gate_equivalents=_numbers(equivalents, "gate_equivalents", fail),
        )
    corners = {}
    if not isinstance(data["corners"], dict) or not data["corners"]:
        raise fail("corners must be a mapping of names to corners")
    for name, corner in data["corners"].items():
        keys = {"liberty", "voltage", "temperature"}
        if not isinstance(corner, dict) or set(corner) != keys:
            raise fail(f"corners.{name} must have the keys {', '.join(sorted(keys))}")
        liberty = corner["liberty"]
        if (
            not isinstance(liberty, list)
            or not liberty
            or not all(isinstance(item, str) for item in liberty)
        ):
            raise fail(f"corners.{name}.liberty must be a list of file patterns, not {liberty!r}")
        numbers = _numbers(
            {key: corner[key] for key in ("voltage", "temperature")}, f"corners.{name}", fail
        )
        if numbers["voltage"] <= 0:
            raise fail(f"corners.{name}.voltage must be positive, not {corner['voltage']}")
        corners[str(name)] = Corner(liberty=tuple(liberty), **numbers)
    default = data.get("default_corner", next(iter(corners)))
    if default not in corners:
        raise fail(f"default_corner must be one of {', '.join(corners)}, not {default}")
    cells = dict(data.get("cells") or {})
    gate_equivalent = cells.pop("gate_equivalent", None)
    if not isinstance(gate_equivalent, str):
        raise fail(f"cells.gate_equivalent must be a cell's name, not {gate_equivalent!r}")
    for role, values in cells.items():
        if role not in _ROLES:
            raise fail(f"cells must have known roles only, not {role}{closest(role, _ROLES)}")
        must, may = _ROLES[role]
        if role == "clock_gate" and isinstance(values, dict) and "latch" in values:
            must, may = _DISCRETE_GATE, ()
        if not isinstance(values, dict) or not set(must) <= set(values) <= set(must) | set(may):
            raise fail(f"cells.{role} must have the keys {', '.join(must + may)}, not {values!r}")
    for role in ("clock_gate", "buffer"):
        if role not in cells:
            raise fail(f"cells.{role} must be given")
    driver = data.get("driver")
    if not isinstance(driver, dict) or set(driver) != {"cell", "output"}:
        raise fail(f"driver must have the keys cell, output, not {driver!r}")
    dont_use = data.get("dont_use", [])
    if not isinstance(dont_use, list) or not all(isinstance(item, str) for item in dont_use):
        raise fail(f"dont_use must be a list of patterns, not {dont_use!r}")
    limits = {}
    for key, default_value in (("max_fanout", 32), ("clock_fanout", 24)):
        value = data.get(key, default_value)
        if type(value) is not int or value < 2:
            raise fail(f"{key} must be a whole number of at least 2, not {value!r}")
        limits[key] = value
    load = _numbers({"output_load_ff": data.get("output_load_ff", 0)}, "", fail)["output_load_ff"]
    return Platform(
        name=data["name"],
        title=data["title"],
        source=path,
        folder=str(data.get("folder", "")),
        also=tuple(str(item) for item in data.get("also", [])),
        get=str(data.get("get", "")),
        corners=corners,
        default_corner=default,
        cells=cells,
        gate_equivalent=gate_equivalent,
        dont_use=tuple(dont_use),
        areas=_numbers(data.get("areas") or {}, "areas", fail),
        driver=driver,
        output_load_ff=load,
        max_fanout=limits["max_fanout"],
        clock_fanout=limits["clock_fanout"],
        layout=_layout(data["layout"], fail) if "layout" in data else None,
    )


def _numbers(values: Any, where: str, fail: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        raise fail(f"{where} must be a mapping of names to numbers, not {values!r}")
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise fail(f"{where + '.' if where else ''}{key} must be a number, not {value!r}")
    return {str(key): float(value) for key, value in values.items()}


_GENERIC = {
    "$_BUF_": "A",
    "$_NOT_": "!A",
    "$_AND_": "A & B",
    "$_NAND_": "!(A & B)",
    "$_OR_": "A | B",
    "$_NOR_": "!(A | B)",
    "$_XOR_": "A ^ B",
    "$_XNOR_": "!(A ^ B)",
    "$_ANDNOT_": "A & !B",
    "$_ORNOT_": "A | !B",
    "$_MUX_": "(A & !S) | (B & S)",
    "$_NMUX_": "!((A & !S) | (B & S))",
    "$_AOI3_": "!((A & B) | C)",
    "$_OAI3_": "!((A | B) & C)",
    "$_AOI4_": "!((A & B) | (C & D))",
    "$_OAI4_": "!((A | B) & (C | D))",
}


def generic_library(platform: Platform) -> Library:
    """Yosys' own gates as a library: area in gate equivalents, one unit of delay per gate.

    Simulation and the netlist's checks then work as with a real library, and the longest path is
    the logic depth.

    Parameters
    ----------
    platform : Platform
        One with `gate_equivalents`.
    """

    def table(value: float) -> Table:
        return Table([0.0], [0.0], [[value]])

    def arc(related: str, kind: str, sense: str, delay: float) -> Arc:
        return Arc(
            related,
            kind,
            sense,
            {
                "cell_rise": table(delay),
                "cell_fall": table(delay),
                "rise_transition": table(0.0),
                "fall_transition": table(0.0),
            },
        )

    def pin(name: str, direction: str, **more: Any) -> Pin:
        return Pin(name=name, direction=direction, **more)

    cells = {}
    for name, area in platform.gate_equivalents.items():
        state: dict[str, str] = {}
        if name in _GENERIC:
            kind = "gate"
            inputs = [c for c in "ABCDS" if c in _GENERIC[name]]
            arcs = [arc(source, "combinational", "non", 1.0) for source in inputs]
            pins = [pin(c, "input") for c in inputs]
            pins.append(pin("Y", "output", function=_GENERIC[name], arcs=arcs))
        elif name.startswith("$_DFF_") or name.startswith("$_DLATCH_"):
            kind = "ff" if name.startswith("$_DFF_") else "latch"
            clock = "C" if kind == "ff" else "E"
            low = name.endswith("N_")
            key = ("clock", "next") if kind == "ff" else ("enable", "data")
            state = {"iq": "IQ", key[0]: f"!{clock}" if low else clock, key[1]: "D"}
            edge = "falling_edge" if low else "rising_edge"
            pins = [
                pin("D", "input"),
                pin(clock, "input", clock=True),
                pin("Q", "output", function="IQ", arcs=[arc(clock, edge, "non", 0.0)]),
            ]
        elif name == "halut_clock_gate":
            kind = "clock_gate"
            setup = Arc("clk_i", "setup_rising", "non", {"rise_constraint": table(0.0),
                                                        "fall_constraint": table(0.0)})  # fmt: skip
            pins = [
                pin("clk_i", "input", clock=True),
                pin("en_i", "input", arcs=[setup]),
                pin("gclk_o", "output"),
            ]
        else:
            raise HalutError(
                f"gate_equivalents must be of Yosys' gates, not {name}"
                f"{closest(name, _GENERIC)} ({platform.source})"
            )
        cells[name] = Cell(
            name=name,
            area=area,
            kind=kind,
            leakage=0.0,
            leakages=[],
            state=state,
            dont_use=False,
            pins={p.name: p for p in pins},
        )
    return Library(1.0, 25.0, 1.0, cells, dict.fromkeys(cells, "generic"))
