"""LEF and DEF: as much of them as pictures of a layout need.

Sizes of cells and widths of wires come from LEF; the die, the placed cells, the wires, and the nets
that a router marked as clock come from DEF (LEF/DEF 5.8 language reference).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halut.errors import HalutError, closest

__all__ = ["Lef", "Macro", "PlacedDesign", "read_def", "read_lef", "read_net_lengths"]


@dataclass(frozen=True)
class Macro:
    """A cell's outline: µm, and the words of its CLASS (such as CORE SPACER) in capitals."""

    width: float
    height: float
    kind: tuple[str, ...]

    @property
    def is_fill(self) -> bool:
        """Whether it holds no logic: filler, well tap, end cap or antenna diode."""
        return bool({"SPACER", "WELLTAP", "ENDCAP", "ANTENNACELL"} & set(self.kind))


@dataclass(frozen=True)
class Lef:
    """A library's outlines."""

    layers: dict[str, float]  #: Default wire width of every routing layer, µm, bottom up.
    macros: dict[str, Macro]  #: By cell.
    vias: dict[str, tuple[str, str]]  #: The routing layers that each joins.


@dataclass(frozen=True)
class PlacedDesign:
    """A placed, perhaps routed, design. Boxes are left, bottom, right, top in µm."""

    name: str
    die: np.ndarray  #: Shape (4,), float64: bounding box of the die.
    #: Name and cell of each instance; names without DEF's escape characters.
    instances: list[str]
    masters: list[str]
    boxes: np.ndarray  #: Shape (n_instances, 4), float64.
    #: Shape (n_wires, 4), float64: wires of signals (clock included), of supplies, and of the clock
    #: nets alone, by layer.
    wires: dict[str, np.ndarray]
    supply: dict[str, np.ndarray]
    clock: dict[str, np.ndarray]
    #: Centre lines of the signals' wires by layer, µm, of each net. Nets without wires have none.
    net_lengths: dict[str, dict[str, float]]
    clock_nets: dict[str, list[str]]  #: Instances on each clock net.

    @property
    def lengths(self) -> dict[str, float]:
        """Centre lines of the signals' wires by layer, µm."""
        found: dict[str, float] = {}
        for lengths in self.net_lengths.values():
            for layer, length in lengths.items():
                found[layer] = found.get(layer, 0.0) + length
        return found


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HalutError(f"{what} must be a readable text file: {error} ({path})") from None


_LAYER = re.compile(r"^LAYER\s+(\S+)\s*\n(.*?)^END\s+\1\s*$", re.M | re.S)
_MACRO = re.compile(r"^MACRO\s+(\S+)\s*\n(.*?)^END\s+\1\s*$", re.M | re.S)
_VIA = re.compile(r"^\s*VIA\s+(\S+)[^\n]*\n(.*?)^\s*END\s+\1\s*$", re.M | re.S)
_VIA_LAYER = re.compile(r"^\s*LAYER\s+(\S+)\s*;", re.M)
_TYPE = re.compile(r"^\s*TYPE\s+ROUTING\s*;", re.M)
_WIDTH = re.compile(r"^\s*WIDTH\s+([\d.eE+-]+)\s*;", re.M)
_CLASS = re.compile(r"^\s*CLASS\s+([^;]*);", re.M)
_SIZE = re.compile(r"^\s*SIZE\s+([\d.eE+-]+)\s+BY\s+([\d.eE+-]+)\s*;", re.M)


def read_lef(paths: Iterable[Path]) -> Lef:
    """Read the routing layers and cell outlines of LEF files.

    Parameters
    ----------
    paths : iterable of Path
        The technology's LEF and the cells'.

    Raises
    ------
    HalutError
        When a file cannot be read, or there is no routing layer or no cell in them.
    """
    layers: dict[str, float] = {}
    macros: dict[str, Macro] = {}
    vias: dict[str, list[str]] = {}
    files = list(paths)
    for path in files:
        text = re.sub(r"#[^\n]*", "", _text(path, "LEF"))
        for match in _LAYER.finditer(text):
            width = _WIDTH.search(match[2])
            if _TYPE.search(match[2]) and width:
                layers[match[1]] = float(width[1])
        for match in _VIA.finditer(text):
            vias[match[1]] = _VIA_LAYER.findall(match[2])
        for match in _MACRO.finditer(text):
            size = _SIZE.search(match[2])
            if size is None:
                raise HalutError(f"a LEF cell must have a SIZE, not none: {match[1]} ({path})")
            kind = _CLASS.search(match[2])
            words = tuple(kind[1].upper().split()) if kind else ()
            macros[match[1]] = Macro(float(size[1]), float(size[2]), words)
    for what, found in (("routing layers", layers), ("cells", macros)):
        if not found:
            names = ", ".join(map(str, files)) or "no file"
            raise HalutError(f"LEF must hold {what}, not none ({names})")
    return Lef(layers, macros, _joined(vias, layers))


def _joined(vias: Mapping[str, list[str]], layers: Collection[str]) -> dict[str, tuple[str, str]]:
    """The two routing layers of each via; cut layers are no routing layers."""
    found = {}
    for via, names in vias.items():
        ends = [name for name in names if name in layers]
        if len(ends) == 2:
            found[via] = (ends[0], ends[1])
    return found


_STATEMENT = re.compile(r"^\s*-\s+(\S+)([^;]*);", re.M)
_PLACE = re.compile(r"\+\s+(?:PLACED|FIXED|COVER)\s+\(\s*(-?\d+)\s+(-?\d+)\s*\)\s*(\w+)")
_PIN = re.compile(r"\(\s*(\S+)\s+\S+(?:\s+\+\s+SYNTHESIZED)?\s*\)")
_PATH = re.compile(r"\+\s+(?:ROUTED|FIXED|COVER|SHIELD\s+\S+)\s|\sNEW\s")
_SIDEWAYS = {"E", "W", "FE", "FW"}


def _plain(name: str) -> str:
    return name.replace("\\", "")


def _section(text: str, keyword: str, path: Path) -> list[tuple[str, str]]:
    """Statements of a section as (name, rest)."""
    match = re.search(rf"^\s*{keyword}\s+(\d+)\s*;", text, re.M)
    if match is None:
        return []
    end = re.compile(rf"^\s*END\s+{keyword}\b", re.M).search(text, match.end())
    found = _STATEMENT.findall(text, match.end(), end.start()) if end else []
    if len(found) != int(match[1]):
        raise HalutError(f"DEF must hold {match[1]} {keyword}, not {len(found)} ({path})")
    return found


class _Point(NamedTuple):
    """A point of a path."""

    x: int
    y: int
    extension: int | None
    drawn: bool  #: Whether a wire leads here from the one before.
    layer: str  #: Of that wire.


def _points(
    tokens: Sequence[str], first: int, vias: Mapping[str, tuple[str, str]]
) -> Iterator[_Point]:
    """Points of a path, whose first token is its layer; a via takes it to the other one."""
    at, end = first, len(tokens)
    layer = tokens[0]
    x = y = 0
    started = drawn = False
    while at < end:
        token = tokens[at]
        if token == "(":
            close = tokens.index(")", at)
            x = x if tokens[at + 1] == "*" else int(tokens[at + 1])
            y = y if tokens[at + 2] == "*" else int(tokens[at + 2])
            extension = int(tokens[at + 3]) if close - at > 3 else None
            yield _Point(x, y, extension, started and drawn, layer)
            started = drawn = True
            at = close + 1
        elif token == "RECT":
            # A patch of metal at the point; too small to be seen.
            at = tokens.index(")", at) + 1
        elif token == "VIRTUAL":
            drawn = False
            at += 1
        elif token in ("TAPERRULE", "STYLE", "SHAPE", "MASK"):
            at += 2
        else:
            if layer in vias.get(token, ()):
                low, high = vias[token]
                layer = high if layer == low else low
            at += 1


class _Wires:
    """Boxes by layer, collected in units of the DEF."""

    def __init__(self, lef: Lef, vias: Mapping[str, tuple[str, str]], scale: float, path: Path):
        self._widths = {layer: round(width * scale) for layer, width in lef.layers.items()}
        self._vias = vias
        self._scale = scale
        self._path = path
        self.boxes: dict[str, list[tuple[float, float, float, float]]] = {}

    def add(self, body: str, special: bool) -> dict[str, float]:
        """Add the wires of a net's paths; returns the length of centre lines by layer, µm."""
        try:
            return self._add(body, special)
        except (ValueError, IndexError) as error:
            if isinstance(error, HalutError):
                raise
            raise HalutError(
                f"wires must be as in the DEF language, not: {error} ({self._path})"
            ) from None

    def _add(self, body: str, special: bool) -> dict[str, float]:
        lengths: dict[str, float] = {}
        for piece in _PATH.split(body)[1:]:
            tokens = piece.split()
            if tokens[0] not in self._widths:
                raise HalutError(
                    f"a wire's layer must be a routing layer of the LEF, not {tokens[0]}"
                    f"{closest(tokens[0], self._widths)} ({self._path})"
                )
            before: tuple[int, int, float | None] = (0, 0, None)
            for x, y, extension, drawn, layer in _points(tokens, 1 + special, self._vias):
                if drawn:
                    half = (int(tokens[1]) if special else self._widths[layer]) / 2
                    # Wires of special nets end at their point, others half a width behind it.
                    ends = 0.0 if special else half
                    boxes = self.boxes.setdefault(layer, [])
                    x0, y0, given = before
                    over0 = ends if given is None else given
                    over = ends if extension is None else extension
                    length = (abs(x - x0) + abs(y - y0)) / self._scale
                    lengths[layer] = lengths.get(layer, 0.0) + length
                    if x == x0:
                        low, high = ((y0, over0), (y, over)) if y0 < y else ((y, over), (y0, over0))
                        boxes.append((x - half, low[0] - low[1], x + half, high[0] + high[1]))
                    else:
                        low, high = ((x0, over0), (x, over)) if x0 < x else ((x, over), (x0, over0))
                        boxes.append((low[0] - low[1], y - half, high[0] + high[1], y + half))
                before = (x, y, extension)
        return lengths

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            layer: np.array(self.boxes[layer], float).reshape(-1, 4) / self._scale
            for layer in self._widths
            if self.boxes.get(layer)
        }


def _header(text: str, path: Path) -> tuple[str, float, np.ndarray]:
    """Design, units per µm, and the die's bounding box in units."""
    head = {}
    for key, pattern in {
        "DESIGN": r"^\s*DESIGN\s+(\S+)\s*;",
        "UNITS": r"^\s*UNITS\s+DISTANCE\s+MICRONS\s+([1-9]\d*)\s*;",
        "DIEAREA": r"^\s*DIEAREA\s+([^;]*);",
    }.items():
        match = re.search(pattern, text, re.M)
        if match is None:
            raise HalutError(f"DEF must have {key}, not none ({path})")
        head[key] = match[1]
    corners = np.array(re.findall(r"\(\s*(-?\d+)\s+(-?\d+)\s*\)", head["DIEAREA"]), np.int64)
    if len(corners) < 2 or (np.ptp(corners, axis=0) == 0).any():
        raise HalutError(f"DIEAREA must be an area, not {head['DIEAREA'].strip()} ({path})")
    die = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return _plain(head["DESIGN"]), float(head["UNITS"]), die


def _own_vias(text: str, lef: Lef, path: Path) -> dict[str, tuple[str, str]]:
    """Vias that the DEF defines, by a rule (LAYERS) or shape by shape (RECT)."""
    found = {
        name: re.findall(r"[^\s+()]+", match[1])
        if (match := re.search(r"\+\s+LAYERS\s+([^+]*)", rest))
        else list(dict.fromkeys(re.findall(r"\+\s+RECT\s+(\S+)", rest)))
        for name, rest in _section(text, "VIAS", path)
    }
    return _joined(found, lef.layers)


def read_def(
    path: Path, lef: Lef, clock_nets: Iterable[str] = (), *, wires: bool = True
) -> PlacedDesign:
    """Read a placed design.

    Parameters
    ----------
    path : Path
        DEF.
    lef : Lef
        Of its technology and cells.
    clock_nets : iterable of str
        Nets of the clock besides those that the file marks with ``USE CLOCK``.
    wires : bool
        Read nets and wires, too; without, there is only the die with its cells.

    Raises
    ------
    HalutError
        When the file is no whole DEF, or a cell is not placed or not in the LEF.
    """
    text = _text(path, "DEF")
    title, scale, die = _header(text, path)
    names, masters, boxes = [], [], []
    for name, rest in _section(text, "COMPONENTS", path):
        master, _, rest = rest.strip().partition(" ")
        place = _PLACE.search(rest)
        if place is None:
            raise HalutError(f"every cell must be placed, not {name} ({path})")
        macro = lef.macros.get(master)
        if macro is None:
            raise HalutError(
                f"every cell must be in the LEF, not {master}{closest(master, lef.macros)} ({path})"
            )
        x, y = int(place[1]) / scale, int(place[2]) / scale
        size = (macro.width, macro.height)
        width, height = size[::-1] if place[3] in _SIDEWAYS else size
        names.append(_plain(name))
        masters.append(master)
        boxes.append((x, y, x + width, y + height))

    given = set(clock_nets)
    vias = lef.vias | _own_vias(text, lef, path)
    signals, supply, clock = (_Wires(lef, vias, scale, path) for _ in range(3))
    net_lengths: dict[str, dict[str, float]] = {}
    on_clock: dict[str, list[str]] = {}
    for name, rest in _section(text, "NETS", path) if wires else []:
        if lengths := signals.add(rest, special=False):
            net_lengths[_plain(name)] = lengths
        if _plain(name) in given or re.search(r"\+\s+USE\s+CLOCK\b", rest):
            clock.add(rest, special=False)
            pins = _PIN.findall(_PATH.split(rest, maxsplit=1)[0])
            on_clock[_plain(name)] = [_plain(pin) for pin in pins if pin != "PIN"]
    for _, rest in _section(text, "SPECIALNETS", path) if wires else []:
        supply.add(rest, special=True)
    return PlacedDesign(
        name=title,
        die=die / scale,
        instances=names,
        masters=masters,
        boxes=np.array(boxes, float).reshape(-1, 4),
        wires=signals.arrays(),
        supply=supply.arrays(),
        clock=clock.arrays(),
        net_lengths=net_lengths,
        clock_nets=on_clock,
    )


def read_net_lengths(path: Path, lef: Lef) -> dict[str, dict[str, float]]:
    """`PlacedDesign.net_lengths` of a DEF file, whatever its cells are.

    Raises
    ------
    HalutError
        When the file is no whole DEF.
    """
    text = _text(path, "DEF")
    _, scale, _ = _header(text, path)
    wires = _Wires(lef, lef.vias | _own_vias(text, lef, path), scale, path)
    return {
        _plain(name): wires.add(rest, special=False) for name, rest in _section(text, "NETS", path)
    }
