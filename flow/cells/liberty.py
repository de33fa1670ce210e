"""Reading standard-cell libraries (liberty files).

Only what synthesis, sizing, simulation models and power need is kept, in fixed units: ns, fF, fJ,
nW, V, um2. Tables are stored with the input slew along the first axis and the load along the
second, whatever order the file uses.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halut.errors import HalutError
from halut.files import atomic_write

__all__ = [
    "Arc",
    "Cell",
    "Library",
    "Pin",
    "PowerArc",
    "Table",
    "load_libraries",
    "read_text",
    "write_liberty",
]

# Part of the cache's key: raise it when what is extracted changes.
_FORMAT = 4

_SKIP = re.compile(r"(?:\s+|/\*.*?\*/|//[^\n]*|\\\r?\n|;)+", re.S)
_STATEMENT = re.compile(
    r"""([\w.]+)\s*(?:
        :\s*(?:"((?:[^"\\]|\\.)*)"|([^;\n{}]*?))\s*(?=[;\n}])   # name : value ;
        |\(((?:[^()"]|"(?:[^"\\]|\\.)*")*)\)\s*(\{)?             # name(arguments) [{]
    )""",
    re.X | re.S,
)
_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,\s"]+)')


@dataclass
class _Group:
    kind: str
    arguments: list[str]
    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list[_Group] = field(default_factory=list)

    def all(self, kind: str) -> list[_Group]:
        return [group for group in self.groups if group.kind == kind]

    def number(self, name: str, default: float = 0.0) -> float:
        try:
            return float(self.values.get(name, default))
        except ValueError:
            return default


def _arguments(text: str) -> list[str]:
    return [quoted or plain for quoted, plain in _ARGUMENT.findall(text.replace("\\\n", " "))]


def _parse(text: str, where: str) -> _Group:
    """The file as nested groups; raises HalutError where it is not liberty."""
    root = _Group("", [])
    stack = [root]
    position = 0
    skip, statement = _SKIP.match, _STATEMENT.match
    end = len(text)
    while True:
        blank = skip(text, position)
        if blank:
            position = blank.end()
        if position >= end:
            break
        if text[position] == "}":
            if len(stack) == 1:
                break
            stack.pop()
            position += 1
            continue
        match = statement(text, position)
        if not match:
            line = text.count("\n", 0, position) + 1
            raise HalutError(f"a library must be a liberty file ({where}, line {line})")
        position = match.end()
        name, quoted, plain, arguments, opens = match.groups()
        top = stack[-1]
        if arguments is None:
            top.values[name] = quoted if quoted is not None else plain.strip()
        elif opens:
            group = _Group(name, _arguments(arguments))
            top.groups.append(group)
            stack.append(group)
        else:
            top.lists[name] = _arguments(arguments)
    if len(stack) != 1 or not root.all("library"):
        raise HalutError(f"a library must be a complete liberty file ({where})")
    return root.all("library")[0]


@dataclass
class Table:
    """Values over input slew and load.

    Attributes
    ----------
    slews : list of float
        First axis, ns; one entry when the values do not depend on it.
    loads : list of float
        Second axis, fF (ns of the related pin for setup and hold); one entry likewise.
    values : list of list of float
        Shape (len(slews), len(loads)); ns for delays, slews and constraints, fJ for energies.
    """

    slews: list[float]
    loads: list[float]
    values: list[list[float]]

    def at(self, slew: float, load: float) -> float:
        """Bilinear value; beyond the axes the outermost segment goes on."""
        values = np.asarray(self.values)
        for axis, point in ((self.slews, slew), (self.loads, load)):
            if len(axis) == 1:
                values = values[0]
                continue
            low = int(np.clip(np.searchsorted(axis, point) - 1, 0, len(axis) - 2))
            share = (point - axis[low]) / (axis[low + 1] - axis[low])
            values = values[low] * (1 - share) + values[low + 1] * share
        return float(values)


@dataclass
class Arc:
    """One timing group of a pin.

    Attributes
    ----------
    related : str
        The input it is timed from.
    kind : str
        liberty's timing_type; ``combinational`` when it has none.
    sense : str
        ``positive``, ``negative`` or ``non``.
    tables : dict of str to Table
        By liberty name: ``cell_rise``, ``fall_transition``, ``rise_constraint``, ...
    """

    related: str
    kind: str
    sense: str
    tables: dict[str, Table]


@dataclass
class PowerArc:
    """One internal_power group of a pin: energy in fJ for a rising and a falling edge."""

    related: str
    when: str
    rise: Table
    fall: Table


@dataclass
class Pin:
    """A pin.

    Attributes
    ----------
    name, direction : str
        Direction ``input``, ``output``, ``inout`` or ``internal``.
    capacitance : tuple of float
        fF, for a rising and a falling edge.
    max_capacitance, max_slew : float
        Limits in fF and ns; 0 where the library states none.
    function : str
        Of an output, as the library writes it.
    tristate, clock : bool
    arcs, power : lists
    """

    name: str
    direction: str
    capacitance: tuple[float, float] = (0.0, 0.0)
    max_capacitance: float = 0.0
    max_slew: float = 0.0
    function: str = ""
    tristate: bool = False
    clock: bool = False
    arcs: list[Arc] = field(default_factory=list)
    power: list[PowerArc] = field(default_factory=list)


@dataclass
class Cell:
    """A cell.

    Attributes
    ----------
    name : str
    area : float
        um2.
    kind : str
        ``gate``, ``ff``, ``latch``, ``clock_gate`` or ``other`` (tri-state, fillers, ...).
    leakage : float
        nW, the library's unconditional figure.
    leakages : list of (str, float)
        Condition and nW.
    state : dict of str to str
        For ff: iq, iqn, next, clock, clear, preset. For latch: iq, iqn, data, enable, clear,
        preset. Expressions as the library writes them; absent when it has none.
    dont_use : bool
        The library says not to use it.
    pins : dict of str to Pin
    """

    name: str
    area: float
    kind: str
    leakage: float
    leakages: list[tuple[str, float]]
    state: dict[str, str]
    dont_use: bool
    pins: dict[str, Pin]

    @property
    def inputs(self) -> list[str]:
        return [pin.name for pin in self.pins.values() if pin.direction == "input"]

    @property
    def outputs(self) -> list[str]:
        return [pin.name for pin in self.pins.values() if pin.direction == "output"]


@dataclass
class Library:
    """Cells of one corner, in fixed units.

    Attributes
    ----------
    voltage : float
        V.
    temperature : float
        Degrees Celsius.
    slew_share : float
        Share of the swing between the slew thresholds (0.4 for 30 % to 70 %), times the
        library's slew derating.
    cells : dict of str to Cell
    cell_library : dict of str to str
        Name of the library that each cell comes from.
    """

    voltage: float
    temperature: float
    slew_share: float
    cells: dict[str, Cell]
    cell_library: dict[str, str] = field(default_factory=dict)


_TIME = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0, "ps": 1e-3, "fs": 1e-6}
_CAP = {"f": 1e15, "mf": 1e12, "uf": 1e9, "nf": 1e6, "pf": 1e3, "ff": 1.0}
_POWER = {"w": 1e9, "mw": 1e6, "uw": 1e3, "nw": 1.0, "pw": 1e-3, "fw": 1e-6}
_VOLT = {"v": 1.0, "mv": 1e-3}


def _unit(text: str, units: dict[str, float], default: float) -> float:
    match = re.fullmatch(r"\s*([\d.eE+-]+)\s*([A-Za-z]+)\s*", text)
    if not match or match[2].lower() not in units:
        return default
    return float(match[1]) * units[match[2].lower()]


def _floats(items: list[str]) -> list[float]:
    return [
        float(number) for item in items for number in re.split(r"[,\s]+", item.strip()) if number
    ]


def _merged(arcs: list[Arc]) -> list[Arc]:
    """Conditional copies of an arc (``when``) as one arc with the largest values."""
    merged: dict[tuple, Arc] = {}
    for arc in arcs:
        axes = tuple(
            (name, *table.slews, *table.loads) for name, table in sorted(arc.tables.items())
        )
        key = (arc.related, arc.kind, arc.sense, axes)
        first = merged.setdefault(key, arc)
        if first is not arc:
            for name, table in arc.tables.items():
                both = np.maximum(first.tables[name].values, table.values)
                first.tables[name].values = both.tolist()
    return list(merged.values())


def _is_ground(group: _Group) -> bool:
    """Whether a power group is about a ground or well pin: the supply's already says it all."""
    pin = group.values.get("related_pg_pin", "").upper()
    return pin.startswith(("VSS", "VGND", "GND", "VPB", "VNB"))


class _Reader:
    """Turns the groups of one library into cells."""

    def __init__(self, library: _Group, where: str):
        self.library = library
        self.where = where
        self.time = _unit(library.values.get("time_unit", ""), _TIME, 1.0)
        self.volt = _unit(library.values.get("voltage_unit", ""), _VOLT, 1.0)
        self.leak = _unit(library.values.get("leakage_power_unit", ""), _POWER, 1.0)
        unit = library.lists.get("capacitive_load_unit", ["1", "pf"])
        self.cap = float(unit[0]) * _CAP.get(unit[1].lower(), 1e3)
        self.energy = self.cap * self.volt**2
        self.templates = {
            group.arguments[0]: group
            for kind in ("lu_table_template", "power_lut_template")
            for group in library.all(kind)
            if group.arguments
        }

    def table(self, group: _Group, unit: float) -> Table:
        """A table group with its axes in order (slew, load)."""
        template = self.templates.get(group.arguments[0] if group.arguments else "")
        axes = []
        for number in "12":
            index = group.lists.get(f"index_{number}")
            if index is None and template is not None:
                index = template.lists.get(f"index_{number}")
            name = template.values.get(f"variable_{number}", "") if template else ""
            if index is not None:
                axes.append((name, _floats(index)))
        flat = np.asarray(_floats(group.lists.get("values", [])), float) * unit
        if flat.size == 1:
            return Table([0.0], [0.0], [[float(flat[0])]])
        shape = [len(points) for _, points in axes]
        if not axes or int(np.prod(shape)) != flat.size:
            raise HalutError(
                f"a liberty table must have as many values as its axes say, not {flat.size} for "
                f"{shape} ({self.where})"
            )
        values = flat.reshape(shape)
        slews, loads = [0.0], [0.0]
        along: dict[str, int] = {}
        for position, (name, points) in enumerate(axes):
            is_load = "capacitance" in name or name == "related_pin_transition"
            scale = self.cap if "capacitance" in name else self.time
            if is_load:
                loads = [point * scale for point in points]
            else:
                slews = [point * scale for point in points]
            along["load" if is_load else "slew"] = position
        if len(axes) == 2:
            if along.get("load") == 0:
                values = values.T
        else:
            values = values[None, :] if "load" in along else values[:, None]
        return Table(slews, loads, values.tolist())

    def arcs(self, pin: _Group) -> list[Arc]:
        found = []
        for timing in pin.all("timing"):
            tables = {
                group.kind: self.table(group, self.time)
                for group in timing.groups
                if group.kind
                in (
                    "cell_rise",
                    "cell_fall",
                    "rise_transition",
                    "fall_transition",
                    "rise_constraint",
                    "fall_constraint",
                )
                and group.lists.get("values")
            }
            kind = timing.values.get("timing_type", "combinational")
            sense = timing.values.get("timing_sense", "non_unate").split("_")[0]
            for related in timing.values.get("related_pin", "").split():
                if tables:
                    found.append(Arc(related, kind, sense, tables))
        return _merged(found)

    def power(self, pin: _Group) -> list[PowerArc]:
        found = []
        for group in pin.all("internal_power"):
            tables = {
                table.kind: self.table(table, self.energy)
                for table in group.groups
                if table.lists.get("values")
            }
            rise = tables.get("rise_power", tables.get("power"))
            fall = tables.get("fall_power", tables.get("power", rise))
            rise = rise or fall
            if rise is None or fall is None:
                continue
            if _is_ground(group):
                continue
            when = group.values.get("when", "")
            for related in group.values.get("related_pin", "").split() or [""]:
                found.append(PowerArc(related, when, rise, fall))
        return found

    def pin(self, group: _Group, name: str) -> Pin:
        values = group.values
        plain = group.number("capacitance")
        return Pin(
            name=name,
            direction=values.get("direction", "input"),
            capacitance=(
                group.number("rise_capacitance", plain) * self.cap,
                group.number("fall_capacitance", plain) * self.cap,
            ),
            max_capacitance=group.number("max_capacitance") * self.cap,
            max_slew=group.number("max_transition", self.library.number("default_max_transition"))
            * self.time,
            function=values.get("function", ""),
            tristate="three_state" in values,
            clock=values.get("clock", "false") == "true",
            arcs=self.arcs(group),
            power=self.power(group),
        )

    def cell(self, group: _Group) -> Cell:
        pins = {}
        for pin in group.all("pin"):
            for name in pin.arguments:
                pins[name] = self.pin(pin, name)
        state: dict[str, str] = {}
        kind = "gate"
        for keyword, names in (
            ("ff", {"next_state": "next", "clocked_on": "clock"}),
            ("latch", {"data_in": "data", "enable": "enable"}),
        ):
            for element in group.all(keyword):
                kind = keyword
                state["iq"] = element.arguments[0]
                if len(element.arguments) > 1:
                    state["iqn"] = element.arguments[1]
                for name, short in {**names, "clear": "clear", "preset": "preset"}.items():
                    if element.values.get(name):
                        state[short] = element.values[name]
        if "clock_gating_integrated_cell" in group.values:
            kind = "clock_gate"
        elif group.all("statetable") or any(pin.tristate for pin in pins.values()):
            kind = "other"
        elif kind == "gate":
            outputs = [pin for pin in pins.values() if pin.direction == "output"]
            if not all(pin.function for pin in outputs):
                kind = "other"
        leakages = [
            (leak.values.get("when", ""), leak.number("value") * self.leak)
            for leak in group.all("leakage_power")
            if not _is_ground(leak)
        ]
        plain = [value for when, value in leakages if not when]
        leakage = group.number(
            "cell_leakage_power", self.library.number("default_cell_leakage_power")
        )
        if not group.values.get("cell_leakage_power") and plain:
            leakage = plain[0] / self.leak
        return Cell(
            name=group.arguments[0],
            area=group.number("area"),
            kind=kind,
            leakage=leakage * self.leak,
            leakages=[(when, value) for when, value in leakages if when],
            state=state,
            dont_use=group.values.get("dont_use", "false") == "true",
            pins=pins,
        )

    def read(self) -> Library:
        library = self.library
        conditions = {
            group.arguments[0]: group
            for group in library.all("operating_conditions")
            if group.arguments
        }
        chosen = conditions.get(library.values.get("default_operating_conditions", ""))
        source = chosen or library
        voltage = source.number("voltage", library.number("nom_voltage", 1.0))
        low = library.number("slew_lower_threshold_pct_rise", 20.0)
        high = library.number("slew_upper_threshold_pct_rise", 80.0)
        cells = {cell.name: cell for cell in map(self.cell, library.all("cell"))}
        name = library.arguments[0] if library.arguments else "library"
        return Library(
            voltage=voltage * self.volt,
            temperature=source.number("temperature", library.number("nom_temperature", 25.0)),
            slew_share=(high - low) / 100 * library.number("slew_derate_from_library", 1.0),
            cells=cells,
            cell_library=dict.fromkeys(cells, name),
        )


def read_text(path: Path) -> str:
    """Text of a liberty file, plain or gzip."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise HalutError(f"a library must be readable: {error} ({path})") from None
    return data.decode("utf-8", errors="replace")


def _from_json(data: dict[str, Any]) -> Library:
    def table(item: dict) -> Table:
        return Table(**item)

    cells = {}
    for name, item in data["cells"].items():
        pins = {}
        for pin_name, pin in item["pins"].items():
            arcs = [
                Arc(
                    a["related"],
                    a["kind"],
                    a["sense"],
                    {k: table(t) for k, t in a["tables"].items()},
                )
                for a in pin["arcs"]
            ]
            power = [
                PowerArc(p["related"], p["when"], table(p["rise"]), table(p["fall"]))
                for p in pin["power"]
            ]
            pins[pin_name] = Pin(
                **{**pin, "arcs": arcs, "power": power, "capacitance": tuple(pin["capacitance"])}
            )
        leakages = [(when, value) for when, value in item["leakages"]]
        cells[name] = Cell(**{**item, "pins": pins, "leakages": leakages})
    return Library(
        data["voltage"], data["temperature"], data["slew_share"], cells, data["cell_library"]
    )


def load_libraries(paths: list[Path], cache: Path | None = None) -> Library:
    """Read the liberty files of one corner into one library.

    Parameters
    ----------
    paths : list of Path
        Files, plain or gzip; cells of later ones are added to those of earlier ones.
    cache : Path, optional
        Folder for what was extracted, by content: reading a library takes seconds.

    Returns
    -------
    Library

    Raises
    ------
    HalutError
        When a file is missing or not liberty.
    """
    merged: Library | None = None
    for path in paths:
        text = read_text(path)
        kept = None
        if cache is not None:
            digest = hashlib.sha256(f"{_FORMAT}\n{text}".encode()).hexdigest()[:24]
            kept = cache / f"liberty-{digest}.json"
        library = None
        if kept is not None and kept.is_file():
            try:
                library = _from_json(json.loads(kept.read_text()))
            except (ValueError, KeyError, TypeError):
                kept.unlink(missing_ok=True)
        if library is None:
            library = _Reader(_parse(text, str(path)), str(path)).read()
            if kept is not None:
                with atomic_write(kept) as temporary:
                    temporary.write_text(json.dumps(asdict(library)))
        if merged is None:
            merged = library
        else:
            merged.cells.update(library.cells)
            merged.cell_library.update(library.cell_library)
    if merged is None:
        raise HalutError("a platform must name at least one liberty file")
    return merged


def write_liberty(library: Library, cells: list[str], path: Path) -> None:
    """Write the named cells with what mapping needs: area, functions, one table per timing arc.

    Power and conditions are left out, which makes a large library quick to read many times.
    Units in the file are ns and fF.
    """

    def numbers(values: list[float]) -> str:
        return '"' + ", ".join(f"{value:.6g}" for value in values) + '"'

    out = [
        "library (cells) {",
        "  delay_model : table_lookup;",
        '  time_unit : "1ns";\n  voltage_unit : "1V";\n  current_unit : "1mA";',
        "  capacitive_load_unit (1, ff);",
        f"  nom_voltage : {library.voltage:g};",
    ]
    templates: dict[tuple[int, int, str], str] = {}

    def template(table: Table, loads: str) -> str:
        key = (len(table.slews), len(table.loads), loads)
        if key not in templates:
            name = f"t{len(templates)}"
            templates[key] = name
            first = "constrained_pin_transition" if loads[0] == "r" else "input_net_transition"
            out.append(
                f"  lu_table_template ({name}) {{ variable_1 : {first}; variable_2 : {loads}; "
                f"index_1 ({numbers(list(range(key[0])))}); "
                f"index_2 ({numbers(list(range(key[1])))}); }}"
            )
        return templates[key]

    body: list[str] = []
    for name in cells:
        cell = library.cells[name]
        body.append(f"  cell ({name}) {{\n    area : {cell.area:g};")
        state = cell.state
        if cell.kind in ("ff", "latch"):
            names = {"next": "next_state", "clock": "clocked_on", "data": "data_in"}
            body.append(f"    {cell.kind} ({state['iq']}, {state.get('iqn', 'IQN_')}) {{")
            for key in ("next", "clock", "data", "enable", "clear", "preset"):
                if key in state:
                    body.append(f'      {names.get(key, key)} : "{state[key]}";')
            body.append("    }")
        for pin in cell.pins.values():
            if pin.direction not in ("input", "output"):
                continue
            body.append(f"    pin ({pin.name}) {{ direction : {pin.direction};")
            if pin.direction == "input":
                body.append(f"      capacitance : {max(pin.capacitance):.6g};")
            elif pin.max_capacitance:
                body.append(f"      max_capacitance : {pin.max_capacitance:.6g};")
            if pin.clock:
                body.append("      clock : true;")
            if pin.function:
                body.append(f'      function : "{pin.function}";')
            for arc in pin.arcs:
                delays = [kind for kind in arc.tables if not kind.endswith("constraint")]
                if not delays:
                    continue
                sense = {"positive": "positive_unate", "negative": "negative_unate"}
                body.append(
                    f'      timing () {{ related_pin : "{arc.related}"; '
                    f"timing_sense : {sense.get(arc.sense, 'non_unate')};"
                )
                if arc.kind != "combinational":
                    body.append(f"        timing_type : {arc.kind};")
                for kind in delays:
                    table = arc.tables[kind]
                    rows = ", ".join(numbers(row) for row in table.values)
                    body.append(
                        f"        {kind} ({template(table, 'total_output_net_capacitance')}) {{ "
                        f"index_1 ({numbers(table.slews)}); index_2 ({numbers(table.loads)}); "
                        f"values ({rows}); }}"
                    )
                body.append("      }")
            body.append("    }")
        body.append("  }")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join([*out, *body, "}", ""]))
