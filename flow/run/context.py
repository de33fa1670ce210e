"""What the steps of a run share: the design, the cells, the tools, and the finished netlist."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from flow.cells.generic import generic_library
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.cells.sram import Arrangement, arrange
from flow.designs.design import BLOCK, CLOCK_TREE, Design
from flow.netlist.block import Block, read_block
from flow.netlist.netlist import Instance, Netlist, Port
from flow.netlist.verilog import read_verilog
from flow.run.options import RunOptions
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from flow.tools import Tool, find_abc, find_openroad, find_simulator, find_sta, find_yosys
from halut.errors import HalutError
from halut.files import write_text

__all__ = ["Run", "Tools", "periods_name", "run_folder"]


def periods_name(clock_ns: float, target_ns: float | None) -> str:
    """How files name a run's clock and, where it has its own, the target of its netlist.

    Examples
    --------
    >>> periods_name(6.0, None), periods_name(2.0, 1.5)
    ('6ns', '2ns_for_1.5ns')
    """
    own = target_ns not in (None, clock_ns)
    return f"{clock_ns:.12g}ns" + (f"_for_{target_ns:.12g}ns" if own else "")


def run_folder(build: Path, slug: str, platform: Platform, options: RunOptions) -> Path:
    """Where a run's products go: ``<build>/<slug>/<platform>[_<corner>]/<clock>ns``.

    With a target of its own, ``<clock>ns_for_<target>ns``: every period has its own netlist.
    """
    name = platform.name
    if platform.has_library:
        corner = platform.corner(options.corner)[0]
        name += f"_{corner}" if corner != platform.default_corner else ""
    return build / slug / name / periods_name(options.clock_ns, options.target_ns)


@dataclass(frozen=True)
class Tools:
    """The programs of a run."""

    yosys: Tool
    sta: Tool | None  #: None where there is no OpenSTA, or no library to time.
    simulator: Tool | None  #: None where there is none, or no power is asked for.


class Run:
    """A design on a platform.

    Attributes
    ----------
    folder, cache : Path
        Of this run's products, and of files that several runs share.
    target : float
        Period that the netlist is made for, ns.
    srams : dict of (words, bits of a word) to Arrangement
        How each size of SRAM in the design is made of macros.
    block : Block or None
        The routed layout that units of the design are.
    """

    def __init__(
        self,
        design: Design,
        platform: Platform,
        options: RunOptions,
        build: Path,
        cache: Path | None = None,
        folder: Path | None = None,
    ):
        self.design = design
        self.platform = platform
        self.options = options
        # The tools run in folders of their own.
        self.cache = (cache or build / "cache").resolve()
        self.corner = ""
        self.liberty: list[Path] = []
        self.srams: dict[tuple[int, int], Arrangement] = {}
        if design.srams:
            self._arrange()
        if platform.has_library:
            self.corner = platform.corner(options.corner)[0]
            self.library: Library = self.library_at(self.corner)
            self.liberty = self.liberty_at(self.corner)
        else:
            self.library = generic_library(platform)
        self.block: Block | None = None
        if options.place_and_route.block is not None:
            self._take_block(options.place_and_route.block)
        self.folder = (folder or run_folder(build, design.slug, platform, options)).resolve()
        self.outputs = {cell: self.library.cells[cell].outputs for cell in self.library.cells}
        self.target = options.target_ns or options.clock_ns
        self._netlist: Netlist | None = None
        self._timing: Timing | None = None
        self._whole: Timing | None = None

    def _arrange(self) -> None:
        """Choose SRAM macros."""
        if self.options.prove:
            raise HalutError("prove must be off for tables in SRAM: macros have no RTL to compare")
        found = self.platform.sram_library(self.options.corner, self.cache)
        assert self.platform.sram is not None
        areas = {name: cell.area for name, cell in found.cells.items()}
        for words, width in self.design.srams:
            way = arrange(words, width, self.platform.sram.macros, areas)
            self.srams[words, width] = way

    @property
    def sram_cells(self) -> list[str]:
        """SRAM macros of the design."""
        return sorted({way.cell for way in self.srams.values()})

    def liberty_at(self, corner: str) -> list[Path]:
        """Liberty files of a corner of the platform, those of the design's SRAM macros with them.

        Raises
        ------
        HalutError
            When one is not there.
        """
        files = self.platform.liberty_files(corner)
        if self.srams:
            macros = self.platform.sram_liberty(corner)
            files += [macros[cell] for cell in self.sram_cells]
        return files

    def library_at(self, corner: str) -> Library:
        """What `liberty_at` holds."""
        library = self.platform.library(corner, self.cache)
        if self.srams:
            macros = self.platform.sram_library(corner, self.cache)
            for cell in self.sram_cells:
                library.cells[cell] = macros.cells[cell]
                library.cell_library[cell] = macros.cell_library[cell]
        return library

    def _take_block(self, folder: str) -> None:
        """Add the routed layout that units of the design are to the library."""
        if self.options.prove:
            raise HalutError("prove must be off with --block: a block has no RTL to compare")
        if self.srams:
            raise HalutError("--block must be off for tables in SRAM: only one kind of macro")
        name, verilog = self.platform.name, self.design.verilog
        self.block = block = read_block(folder, verilog, name, self.corner, self.cache)
        if block.name == self.design.top:
            raise HalutError(f"--block must be a unit of the design, not all of it ({folder})")
        if self.options.clock_ns < block.clock_ns:
            raise HalutError(
                f"clock_ns must be at least the {block.clock_ns:g} that the block was timed at, "
                f"not {self.options.clock_ns:g} ({folder})"
            )
        self.liberty.append(block.liberty())
        self.library.cells[block.name] = block.cell
        self.library.cell_library[block.name] = block.library

    @cached_property
    def tools(self) -> Tools:
        """Looked for once.

        Raises
        ------
        HalutError
            When one is missing that the run needs, or that was named.
        """
        options = self.options
        return Tools(
            find_yosys(options.yosys),
            find_sta(options.sta) if self.platform.has_library else None,
            find_simulator(options.simulator) if options.power else None,
        )

    @cached_property
    def abc(self) -> Tool:
        return find_abc()

    @cached_property
    def openroad(self) -> Tool | None:
        return find_openroad()

    def constraints(self, period: float, io_latency: float = 0.0) -> Constraints:
        """At a period and with a way of the clock to the registers outside, ns."""
        return Constraints(
            clock=self.design.clock,
            period_ns=period,
            io_share=self.options.io_share,
            io_latency_ns=io_latency,
            quiet=(self.design.reset, *self.design.static),
        )

    @property
    def netlist(self) -> Netlist:
        """Mapped, buffered and sized; there from the step "finish" on."""
        if self._netlist is None:
            self._netlist = _read_netlist(self.folder / "netlist.json")
        return self._netlist

    def keep(self, netlist: Netlist) -> None:
        """Make a netlist the finished one, and write it."""
        self._netlist, self._timing, self._whole = netlist, None, None
        write_text(self.folder / "netlist.json", _netlist_json(netlist))
        write_text(self.folder / "netlist.v", netlist.verilog())

    @property
    def timing(self) -> Timing:
        """Of the finished netlist at the asked clock."""
        if self._timing is None:
            self._timing = Timing(
                self.netlist,
                self.library,
                self.platform,
                self.constraints(self.options.clock_ns),
            )
            self._timing.update()
        return self._timing

    @property
    def whole(self) -> Netlist:
        """The finished netlist, with what is in its block's instances."""
        return self.netlist if self.block is None else self.whole_timing.netlist

    @property
    def whole_timing(self) -> Timing:
        """Of `whole` at the asked clock; wires are those in blocks only."""
        if self.block is None:
            return self.timing
        if self._whole is None:
            netlist, wires = self.read_back(self.folder / "netlist.v", self.folder / "whole")
            constraints = self.constraints(self.options.clock_ns)
            self._whole = Timing(netlist, self.library, self.platform, constraints, wires)
            self._whole.update()
        return self._whole

    def read_back(self, verilog: Path, folder: Path) -> tuple[Netlist, np.ndarray]:
        """A netlist of this run in Verilog, with what is in its block's instances.

        Parameters
        ----------
        folder : Path
            Where Yosys works.

        Returns
        -------
        netlist, wires
            As `Block.look_into` returns them.
        """
        yosys, top = self.tools.yosys, self.design.top
        if self.block is not None:
            return self.block.look_into(yosys, verilog, top, self.outputs, folder)
        netlist = read_verilog(yosys, [verilog], top, self.outputs, folder)
        return netlist, np.zeros(len(netlist.net_names))

    @property
    def block_names(self) -> list[str]:
        """Instances of the block."""
        name = self.block.name if self.block is not None else None
        return [instance.name for instance in self.netlist.instances if instance.cell == name]

    def kinds(self, clock_buffers: Iterable[str]) -> list[str]:
        """Kind of unit of every cell of `whole`; the clock's buffers are one of their own."""
        tree = set(clock_buffers)
        netlist = self.whole
        return [
            CLOCK_TREE if instance.name in tree else self.kind(instance, netlist)
            for instance in netlist.instances
        ]

    def kind(self, instance: Instance, netlist: Netlist | None = None) -> str:
        """Kind of unit that a cell belongs to, by default one of `netlist`."""
        module = (netlist or self.netlist).units[instance.unit][1]
        if self.block is not None and self.block.name in (module, instance.cell):
            return BLOCK
        matches = [prefix for prefix in self.design.labels if module.startswith(prefix)]
        return self.design.labels[max(matches, key=len)] if matches else module


def _netlist_json(netlist: Netlist) -> str:
    return json.dumps(
        {
            "top": netlist.top,
            "ports": [dataclasses.astuple(port) for port in netlist.ports],
            "nets": netlist.net_names,
            "units": netlist.units,
            "instances": [[i.name, i.cell, i.pins, i.unit] for i in netlist.instances],
        }
    )


def _read_netlist(path: Path) -> Netlist:
    data = json.loads(path.read_text())
    return Netlist(
        data["top"],
        [Port(*port) for port in data["ports"]],
        data["nets"],
        [Instance(*instance) for instance in data["instances"]],
        [(unit[0], unit[1]) for unit in data["units"]],
    )
