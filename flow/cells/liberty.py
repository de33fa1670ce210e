"""Reading Liberty files: what their groups mean, converted to the units of `flow.cells.library`.

Reading a large library takes seconds, so what was extracted is kept in a cache by content.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from flow.cells.liberty_language import Group, parse_groups, read_text
from flow.cells.library import Arc, Cell, Library, Pin, PowerArc, Table
from halut.errors import HalutError
from halut.files import write_text

__all__ = ["load_libraries"]

# Part of the cache's key: raise it when what is extracted changes.
_FORMAT = 7

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


def _is_ground(group: Group) -> bool:
    """Whether a power group is about a ground or well pin: the supply's already says it all."""
    pin = group.values.get("related_pg_pin", "").upper()
    return pin.startswith(("VSS", "VGND", "GND", "VPB", "VNB"))


class _Reader:
    """Turns the groups of one library into cells."""

    def __init__(self, library: Group, where: str):
        self.library = library
        self.where = where
        self.time = _unit(library.values.get("time_unit", ""), _TIME, 1.0)
        self.volt = _unit(library.values.get("voltage_unit", ""), _VOLT, 1.0)
        self.leak = _unit(library.values.get("leakage_power_unit", ""), _POWER, 1.0)
        unit = library.lists.get("capacitive_load_unit", ["1", "pf"])
        self.cap = float(unit[0]) * _CAP.get(unit[1].lower(), 1e3)
        self.energy = self.cap * self.volt**2
        self.ground_power = False
        self.templates = {
            group.arguments[0]: group
            for kind in ("lu_table_template", "power_lut_template")
            for group in library.all(kind)
            if group.arguments
        }
        self.buses = {
            group.arguments[0]: (int(group.number("bit_from")), int(group.number("bit_to")))
            for group in library.all("type")
            if group.arguments
        }

    def table(self, group: Group, unit: float) -> Table:
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

    def arcs(self, pin: Group) -> list[Arc]:
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

    def power(self, pin: Group) -> list[PowerArc]:
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
                self.ground_power |= bool(np.any(rise.values) or np.any(fall.values))
                continue
            when = group.values.get("when", "")
            for related in group.values.get("related_pin", "").split() or [""]:
                found.append(PowerArc(related, when, rise, fall))
        return found

    def pin(self, group: Group, name: str) -> Pin:
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

    def cell(self, group: Group) -> Cell:
        pins = {}
        for pin in group.all("pin"):
            for name in pin.arguments:
                pins[name] = self.pin(pin, name)
        for bus in group.all("bus"):
            first, last = self.buses.get(bus.values.get("bus_type", ""), (0, 0))
            for name in bus.arguments:
                whole = self.pin(bus, name)
                for bit in range(min(first, last), max(first, last) + 1):
                    pins[f"{name}[{bit}]"] = replace(whole, name=f"{name}[{bit}]")
            for pin in bus.all("pin"):
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
        if group.all("memory"):
            kind = "other"
        elif "clock_gating_integrated_cell" in group.values:
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
        cells = {cell.name: cell for cell in map(self.cell, library.all("cell"))}
        name = library.arguments[0] if library.arguments else "library"
        return Library(
            voltage=voltage * self.volt,
            temperature=source.number("temperature", library.number("nom_temperature", 25.0)),
            cells=cells,
            cell_library=dict.fromkeys(cells, name),
            ground_power=self.ground_power,
        )


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
    return Library(**{**data, "cells": cells})


def load_libraries(paths: list[Path], cache: Path | None = None) -> Library:
    """Read the liberty files of one corner into one library.

    Parameters
    ----------
    paths : list of Path
        Files, plain or gzip; cells of later ones are added to those of earlier ones.
    cache : Path, optional
        Folder for what was extracted, by content: reading a library takes seconds.

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
            library = _Reader(parse_groups(text, str(path)), str(path)).read()
            if kept is not None:
                write_text(kept, json.dumps(asdict(library)))
        if merged is None:
            merged = library
        else:
            merged.cells.update(library.cells)
            merged.cell_library.update(library.cell_library)
            merged.ground_power |= library.ground_power
    if merged is None:
        raise HalutError("a platform must name at least one liberty file")
    return merged
