"""Clock buffers and clock gates of a layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flow.cells.library import Cell
from flow.layout.clocks import clock_gates, clock_limits, drive_gated_clocks
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from tests.flow import support


def test_clock_buffers_end_where_their_tables_do(tmp_path: Path) -> None:
    library, platform = support.tiny_library(tmp_path), support.tiny_platform(tmp_path)
    pins = library.cells["BUF"].pins
    assert pins["Y"].max_slew == 0
    assert clock_limits(library, platform) == [1e-9, pins["Y"].max_capacitance * 1e-15]
    pins["Y"] = dataclasses.replace(pins["Y"], max_capacitance=0.0)
    assert clock_limits(library, platform) == [1e-9, 100e-15]  # the last index of its table
    pins["Y"] = dataclasses.replace(pins["Y"], max_slew=0.5)
    assert clock_limits(library, platform) == []


def test_a_gate_drives_small_nets_alone(tmp_path: Path) -> None:
    library, platform = support.tiny_library(tmp_path), support.tiny_platform(tmp_path)
    netlist = support.chain(library)
    clock = netlist.ports[0].nets[0]
    enable = netlist.ports[1].nets[0]
    small, unread = netlist.add_net("small"), netlist.add_net("unread")
    netlist.add_instance("gate_a", "GATE", {"CK": clock, "E": enable, "GCK": small})
    netlist.add_instance("gate_b", "GATE", {"CK": clock, "E": enable, "GCK": unread})
    for instance in netlist.instances:
        if instance.cell == "DFF":
            instance.pins["CK"] = small
    assert sum(i.pins.get("CK") == small for i in netlist.instances) == 2

    def cell(name: str, area: float, limit: float) -> Cell:
        pins = dict(library.cells["GATE"].pins)
        pins["GCK"] = dataclasses.replace(pins["GCK"], max_capacitance=limit)
        return dataclasses.replace(library.cells["GATE"], name=name, area=area, pins=pins)

    def gates(more: int, *limits: float) -> tuple[list[str], list[str]]:
        """Driven nets, and the cells of the gates, with so many more sinks and these sizes."""
        for size, limit in enumerate(limits):
            name = f"GATE{size or ''}"
            library.cells[name] = cell(name, 4 + size, limit)
        copy = netlist.without_buffers([], {})
        for _ in range(more):
            copy.add_instance("more", "DFF", {"CK": small})
        driven = drive_gated_clocks(copy, library, dataclasses.replace(platform, max_fanout=2))
        return driven, [i.cell for i in copy.instances if i.name.startswith("gate_")]

    load = 2 * max(library.cells["DFF"].pins["CK"].capacitance)
    assert load > 0
    assert gates(0, 3 * load) == (["small"], ["GATE", "GATE"])
    assert gates(0, 3 * load - 0.1, 3 * load, 9 * load) == (["small"], ["GATE1", "GATE"])
    assert gates(0, load, 2 * load, 2.5 * load) == (["small"], ["GATE2", "GATE"])
    assert gates(1, load, 3 * load, 9 * load) == ([], ["GATE", "GATE"])


def test_gates_of_one_cell_and_of_several_are_in_the_clock_s_network(tmp_path: Path) -> None:
    library, platform = support.tiny_library(tmp_path), support.tiny_platform(tmp_path)
    netlist = support.chain(library)
    clock, enable = netlist.ports[0].nets[0], netlist.ports[1].nets[0]
    buffered, gated, held, inverted, again = map(netlist.add_net, "bghia")
    netlist.add_instance("buffer", "BUF", {"A": clock, "Y": buffered})
    netlist.add_instance("gate", "GATE", {"CK": buffered, "E": enable, "GCK": gated})
    # The same from a latch and gates, as libraries without such a cell have it.
    netlist.add_instance("hold", "LATCH", {"D": enable, "G": clock, "Q": held})
    netlist.add_instance("part", "NAND2", {"A": clock, "B": held, "Y": inverted})
    netlist.add_instance("turn", "INV", {"A": inverted, "Y": again})
    first, second = (i for i in netlist.instances if i.cell == "DFF")
    first.pins["CK"], second.pins["CK"] = gated, again
    timing = Timing(netlist, library, platform, Constraints(clock="clk", period_ns=2.0))
    assert clock_gates(timing) == ["gate", "part"]
