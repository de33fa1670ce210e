"""A platform: which cells a netlist is made of, how they are used, and where the PDK is found.

A PDK is looked for in ``HALUT_PDK_DIR``, then in an OpenROAD-flow-scripts checkout (``FLOW_HOME``),
then where the platform's `also` says. `flow.cells.platform_file` reads platforms.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.cells.liberty import load_libraries
from flow.cells.library import Library
from flow.cells.sram import SramMacros
from halut.checks import integer_at_least, one_of
from halut.errors import HalutError, closest

__all__ = ["Corner", "Layout", "Platform", "Stripe"]


@dataclass(frozen=True, kw_only=True)
class Corner:
    """Process, voltage and temperature: the liberty files to read (patterns below the folder)."""

    liberty: tuple[str, ...]
    voltage: float
    temperature: float

    def __post_init__(self) -> None:
        if not self.liberty:
            raise HalutError("liberty must be a list of file patterns, not empty")
        if self.voltage <= 0:
            raise HalutError(f"voltage must be positive, not {self.voltage:g}")


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
    """How the cells of a platform are placed and wired."""

    technology_lef: str  #: Pattern below the PDK's folder, like all files here.
    cell_lef: tuple[str, ...]
    site: str  #: Placement site of the rows.
    stripes: tuple[Stripe, ...]  #: From the cells' rails upwards; neighbours are connected.
    pins: Mapping[str, str]  #: Layers of the block's ports, ``horizontal`` and ``vertical``.
    #: Lowest and highest routing layer.
    signal_layers: tuple[str, str]
    clock_layers: tuple[str, str]
    #: ``signal`` and ``clock``: the layers that unrouted wires are taken to be on; ``layers``: ohm
    #: and fF per um by layer; ``vias``: ohm by via layer.
    wire: Mapping[str, Any]
    utilisation: float  #: Share of the core that cells may take.
    gds: tuple[str, ...] = ()
    klayout: str = ""  #: KLayout's technology file, "" for none.
    #: OpenRCX's rules, "" for none: parasitics are then estimated from the routes.
    extraction: str = ""
    #: Arguments of ``make_tracks`` by layer; the LEF's pitches when empty.
    tracks: tuple[Mapping[str, Any], ...] = ()
    #: ``cell``, ``distance_um`` and, when it differs, ``endcap``; empty for no taps.
    tap: Mapping[str, Any] = field(default_factory=dict)
    fill: tuple[str, ...] = ()  #: Filler cells.
    diode: str = ""  #: Antenna diode, "" for none.
    #: Patterns of the cells' supply pins.
    power_pins: tuple[str, ...] = ("VDD",)
    ground_pins: tuple[str, ...] = ("VSS",)
    #: Share of a layer's tracks that global routing leaves free.
    reserve: Mapping[str, float] = field(default_factory=dict)
    #: Power stripe above `stripes`, over hard macros of routed layouts; None for no such macros.
    block_stripe: Stripe | None = None
    padding: int = 0  #: Sites that are left free on each side of a cell in global placement.
    #: Hold slack that repair before routing leaves for what routing changes.
    hold_margin_ns: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise HalutError(f"utilisation must be in (0, 1], not {self.utilisation:g}")
        integer_at_least("padding", self.padding, 0)
        if self.hold_margin_ns < 0:
            raise HalutError(f"hold_margin_ns must be at least 0, not {self.hold_margin_ns:g}")
        for name, keys in (("pins", ("horizontal", "vertical")), ("wire", ("clock", "signal"))):
            if not set(keys) <= set(getattr(self, name)):
                raise HalutError(f"{name} must have {', '.join(keys)}, not {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A standard-cell library and how to use it."""

    name: str
    title: str
    source: Path  #: The YAML file.
    folder: str = ""  #: Folder of the PDK below `HALUT_PDK_DIR` (or ORFS' ``platforms``).
    also: tuple[str, ...] = ()  #: Further folders that may hold it.
    get: str = ""  #: How to get it, for the message when it is missing.
    #: Empty for a platform without a library.
    corners: Mapping[str, Corner] = field(default_factory=dict)
    default_corner: str = ""
    #: Cells by role; see docs/platforms.md.
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gate_equivalent: str = ""  #: The cell whose area is one gate equivalent.
    dont_use: tuple[str, ...] = ()  #: Patterns of cells that synthesis and sizing leave alone.
    #: um2 of cells whose area the liberty file gets wrong.
    areas: Mapping[str, float] = field(default_factory=dict)
    #: Cell and output pin that drive every input port.
    driver: Mapping[str, str] = field(default_factory=dict)
    output_load_ff: float = 0.0  #: Load at every output port, fF.
    max_fanout: int = 32  #: Sinks of a data net; more get a buffer tree.
    #: Sinks of a clock net; more get clock buffers. In a layout a clock gate drives up to
    #: `max_fanout` sinks without.
    clock_fanout: int = 24
    #: Gate equivalents of Yosys' own gates, for a platform without a library.
    gate_equivalents: Mapping[str, float] = field(default_factory=dict)
    sram: SramMacros | None = None  #: Macros for tables in SRAM; None where there are none.
    #: What place and route needs; None when the platform cannot be laid out.
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise HalutError(f"name must be letters, digits, _ and -, not {self.name}")
        if not self.corners:
            if not self.gate_equivalents:
                raise HalutError(
                    "a platform must have corners, or gate_equivalents when it has no library"
                )
            return
        one_of("default_corner", self.default_corner, self.corners)
        if set(self.driver) != {"cell", "output"}:
            raise HalutError(f"driver must have the keys cell, output, not {self.driver!r}")
        integer_at_least("max_fanout", self.max_fanout, 2)
        integer_at_least("clock_fanout", self.clock_fanout, 2)

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

    def lef_files(self) -> list[Path]:
        """LEF of the technology and of the cells.

        Raises
        ------
        HalutError
            When one is missing.
        """
        assert self.layout is not None
        return [
            self.layout_file(pattern)
            for pattern in (self.layout.technology_lef, *self.layout.cell_lef)
        ]

    def library(self, corner: str | None = None, cache: Path | None = None) -> Library:
        """Cells of a corner, checked against the roles of this platform."""
        library = load_libraries(self.liberty_files(corner), cache)
        for cell, area in self.areas.items():
            if cell in library.cells:
                library.cells[cell].area = area
        self._check(library)
        return library

    def sram_library(self, corner: str | None = None, cache: Path | None = None) -> Library:
        """SRAM macros of a corner.

        Raises
        ------
        HalutError
            When the platform has none, or a file of one is not found; says what helps.
        """
        files = self.sram_liberty(corner)
        assert self.sram is not None
        library = load_libraries(list(files.values()), cache)
        for cell in files:
            if cell not in library.cells:
                raise HalutError(f"{files[cell]} must have the cell {cell}")
            self.sram.check(library.cells[cell])
        return library

    def sram_liberty(self, corner: str | None = None) -> dict[str, Path]:
        """Liberty file of each SRAM macro at a corner; errors as of `sram_library`."""
        if self.sram is None:
            raise HalutError(
                f"a platform for tables in SRAM must list macros (key sram), not {self.name}; "
                "nangate45 does"
            )
        name = self.corner(corner)[0]
        if name not in self.sram.liberty:
            raise HalutError(
                f"corner must be one of {', '.join(self.sram.liberty)} for SRAM macros, not {name} "
                f"(platform {self.name})"
            )
        pattern = self.sram.liberty[name]
        return {cell: self._sram_file(pattern, cell) for cell in self.sram.macros}

    def sram_lef(self, cell: str) -> Path:
        """Outline and pins of an SRAM macro.

        Raises
        ------
        HalutError
            When the file is not found.
        """
        assert self.sram is not None
        return self._sram_file(self.sram.lef, cell)

    def _sram_file(self, pattern: str, cell: str) -> Path:
        name = pattern.format(cell=cell)
        for place in self.places():
            if (place / name).is_file():
                return place / name
        looked = ", ".join(str(place) for place in self.places()) or "nothing"
        raise HalutError(
            f"platform {self.name} must have {name} for tables in SRAM, not none in "
            f"{looked}; set FLOW_HOME to an OpenROAD-flow-scripts checkout, or take "
            f"another memory ({self.source.name})"
        )

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
