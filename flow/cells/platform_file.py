"""Reading and checking platform files: one YAML file makes one `Platform`.

The shipped files are in ``flow/platforms``; ``--platform path/to/mine.yaml`` takes any other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from flow.cells.platform import Corner, Layout, Platform, Stripe
from halut.errors import HalutError, closest

__all__ = ["platform_names", "read_platform"]

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
_KEYS = {item.name for item in dataclasses.fields(Platform)} - {"source", "gate_equivalent"} | {
    "version"
}
_Fail = Callable[[str], HalutError]  # the error with the file's name


def platform_names() -> list[str]:
    """Names of the shipped platforms."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_platform(name: str | os.PathLike[str]) -> Platform:
    """Read a shipped platform by name, or any by the path of its YAML file.

    Parameters
    ----------
    name : str or path-like
        ``nangate45``, or ``my/platform.yaml``.

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


def _layout(data: Any, fail: _Fail) -> Layout:
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
        _TEXTS: _is_texts,
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


def _corners(data: Any, fail: _Fail) -> dict[str, Corner]:
    """The `corners` part of a platform."""
    if not isinstance(data, dict) or not data:
        raise fail("corners must be a mapping of names to corners")
    corners = {}
    for name, corner in data.items():
        keys = {"liberty", "voltage", "temperature"}
        if not isinstance(corner, dict) or set(corner) != keys:
            raise fail(f"corners.{name} must have the keys {', '.join(sorted(keys))}")
        liberty = corner["liberty"]
        if not _is_texts(liberty) or not liberty:
            raise fail(f"corners.{name}.liberty must be a list of file patterns, not {liberty!r}")
        numbers = _numbers(
            {key: corner[key] for key in ("voltage", "temperature")}, f"corners.{name}", fail
        )
        if numbers["voltage"] <= 0:
            raise fail(f"corners.{name}.voltage must be positive, not {corner['voltage']}")
        corners[str(name)] = Corner(liberty=tuple(liberty), **numbers)
    return corners


def _cells(data: Any, fail: _Fail) -> tuple[str, dict[str, dict[str, Any]]]:
    """The gate equivalent and the other roles in the `cells` part of a platform."""
    cells = dict(data or {})
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
    return gate_equivalent, cells


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
    corners = _corners(data["corners"], fail)
    default = data.get("default_corner", next(iter(corners)))
    if default not in corners:
        raise fail(f"default_corner must be one of {', '.join(corners)}, not {default}")
    gate_equivalent, cells = _cells(data.get("cells"), fail)
    driver = data.get("driver")
    if not isinstance(driver, dict) or set(driver) != {"cell", "output"}:
        raise fail(f"driver must have the keys cell, output, not {driver!r}")
    dont_use = data.get("dont_use", [])
    if not _is_texts(dont_use):
        raise fail(f"dont_use must be a list of patterns, not {dont_use!r}")
    limits = {}
    for key in ("max_fanout", "clock_fanout"):
        value = data.get(key, getattr(Platform, key))
        if type(value) is not int or value < 2:
            raise fail(f"{key} must be a whole number of at least 2, not {value!r}")
        limits[key] = value
    load = data.get("output_load_ff", Platform.output_load_ff)
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
        output_load_ff=_numbers({"output_load_ff": load}, "", fail)["output_load_ff"],
        max_fanout=limits["max_fanout"],
        clock_fanout=limits["clock_fanout"],
        layout=_layout(data["layout"], fail) if "layout" in data else None,
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _numbers(values: Any, where: str, fail: _Fail) -> dict[str, float]:
    if not isinstance(values, dict):
        raise fail(f"{where} must be a mapping of names to numbers, not {values!r}")
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise fail(f"{where + '.' if where else ''}{key} must be a number, not {value!r}")
    return {str(key): float(value) for key, value in values.items()}
