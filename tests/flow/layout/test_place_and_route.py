"""Place and route: scripts against two releases' commands, files read back, a real OpenROAD."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from flow.cells.library import Cell, Library
from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.layout.openroad import run_script
from flow.layout.place_and_route import (
    ROUTED,
    LayoutOptions,
    clock_limits,
    drive_gated_clocks,
    layout_files,
    layout_settings,
    layout_unit,
    wire_capacitance,
)
from flow.netlist.netlist import Netlist, Port
from flow.power.opensta import REPORT
from flow.run.run import RunOptions, measure
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from flow.timing.opensta import SEARCH
from flow.timing.sdc import constraints_sdc
from flow.tools import Tool, ToolFailed, find_openroad
from flow.tools.tcl import settings
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from tests.flow import support
from tests.flow.tcl_stub import RELEASES, StubError, run_stub

TCL = Path(__file__).parents[3] / "flow" / "layout" / "tcl"
LAYOUT = """
layout:
  technology_lef: tiny.tech.lef
  cell_lef: [tiny.lef]
  extraction: tiny.rules
  site: core
  tracks:
    - {layer: m1, x_offset: 0.1, x_pitch: 0.2, y_offset: 0.1, y_pitch: 0.2}
  tap: {cell: TAP, distance_um: 20}
  fill: [FILL]
  diode: DIODE
  stripes:
    - {layer: m1, width: 0.1, follow_pins: true}
    - {layer: m4, width: 0.4, pitch: 10, offset: 1, spacing: 0.4}
  pins: {horizontal: m3, vertical: m2}
  signal_layers: [m2, m4]
  clock_layers: [m3, m4]
  reserve: {m2: 0.5}
  wire: {signal: m2, clock: m3, layers: {m2: {ohm_per_um: 4, ff_per_um: 0.1}}, vias: {v1: 5}}
  utilisation: 0.5
"""
OPENROAD = find_openroad()


def tiny(folder: Path) -> tuple[Platform, Library]:
    path = folder / "tiny.yaml"
    path.write_text(support.PLATFORM + LAYOUT)
    return read_platform(path), support.tiny_library(folder)


def stage_settings(folder: Path, **changed: object) -> str:
    platform, library = tiny(folder)
    netlist = support.chain(library)
    sdc = folder / "constraints.sdc"
    sdc.write_text(
        constraints_sdc(netlist, library, platform, Constraints(clock="clk", period_ns=2))
    )
    files = {
        "technology_lef": "tiny.tech.lef", "cell_lef": ["tiny.lef"], "extraction": "tiny.rules",
        "liberty": ["tiny.lib"], "folder": folder, "netlist": "netlist.v", "constraints": sdc,
        "activity": "activity.saif", "period": 2.0, "input": "before.odb",
        "output": folder / "after.odb", "spef": "final.spef", "saif": "routed.saif",
        "ports": ["b", 0.5, 0.5], "gate_driven": ["gated"], "hold_margin": 0.03,
        "clock_limits": [1e-9, 2e-14],
    }  # fmt: skip
    return settings(layout_settings(platform, library, "top", LayoutOptions()) | files | changed)


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("stage", [*ROUTED, "power"])
def test_scripts_use_what_both_releases_have(stage: str, release: str, tmp_path: Path) -> None:
    calls = run_stub(
        [stage_settings(tmp_path), SEARCH, REPORT, TCL / "common.tcl", TCL / f"{stage}.tcl"],
        release,
        returns={"get_property": "0.0"},
    )
    names = [call[0] for call in calls]
    expected = {
        "floorplan": ["read_lef", "link_design", "initialize_floorplan", "tapcell", "pdngen"],
        "place": ["global_placement", "place_pins", "detailed_placement", "write_def"],
        "cts": [
            "set_cts_config",
            "configure_cts_characterization",
            "clock_tree_synthesis",
            "set_propagated_clock",
            "repair_timing",
        ],
        "globalroute": ["pin_access", "global_route", "repair_antennas"],
        "detailedroute": ["filler_placement", "detailed_route", "check_antennas"],
        "finish": ["extract_parasitics", "read_spef", "write_def", "write_verilog"],
        "power": ["read_db", "read_spef", "read_saif", "report_power"],
    }[stage]
    positions = [names.index(name) for name in expected]
    assert positions == sorted(positions)
    # What the platform says arrives.
    words = [word for call in calls for word in call]
    told = {"floorplan": "core", "place": "m3", "cts": "0.03", "detailedroute": "FILL",
            "globalroute": "DIODE"}  # fmt: skip
    assert told.get(stage, "tiny.lib") in words
    if stage != "power":
        assert names[-1] == "write_db"
        assert (tmp_path / "after.odb").is_file()
        assert not (tmp_path / "after.odb.part").exists()


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_a_flag_that_a_release_lacks_is_caught(release: str, tmp_path: Path) -> None:
    script = (TCL / "cts.tcl").read_text().replace("-repair_tns", "-no_such_flag")
    assert "-no_such_flag" in script
    with pytest.raises(StubError, match="no_such_flag"):
        run_stub([stage_settings(tmp_path), SEARCH, REPORT, TCL / "common.tcl", script], release)


def test_clock_buffers_end_where_their_tables_do(tmp_path: Path) -> None:
    library, platform = support.tiny_library(tmp_path), support.tiny_platform(tmp_path)
    pins = library.cells["BUF"].pins
    assert pins["Y"].max_slew == 0
    assert clock_limits(library, platform) == [1e-9, pins["Y"].max_capacitance * 1e-15]
    pins["Y"] = dataclasses.replace(pins["Y"], max_capacitance=0.0)
    assert clock_limits(library, platform) == [1e-9, 100e-15]  # the last index of its table
    pins["Y"] = dataclasses.replace(pins["Y"], max_slew=0.5)
    assert clock_limits(library, platform) == []


def test_extraction_rules_must_be_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbolic link that became a file with a path in it, as some archives make of it."""
    folder = tmp_path / "pdk" / "tiny"
    folder.mkdir(parents=True)
    for name in ("tiny.tech.lef", "tiny.lef"):
        (folder / name).touch()
    (folder / "tiny.rules").write_text("../other/tiny.rules")
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path / "pdk"))
    with pytest.raises(
        HalutError, match=r'"Extraction Rules", not .*other.*tiny.rules\)'
    ) as caught:
        layout_files(tiny(tmp_path)[0], tmp_path)
    assert "without it estimates parasitics" in str(caught.value)
    (folder / "tiny.rules").write_text("Extraction Rules for OpenRCX\n")
    assert layout_files(tiny(tmp_path)[0], tmp_path)["extraction"] == folder / "tiny.rules"


def test_vias_that_stay_on_a_layer_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OSU018's LEF has them, which the detailed router refuses."""
    folder = tmp_path / "pdk" / "tiny"
    folder.mkdir(parents=True)
    via, turn = "VIARULE via1 GENERATE\n  LAYER m1 ;\nEND via1\n\n", "LAYER m1 ;\n"
    turns = [f"VIARULE TURN{k} GENERATE\n  {turn}  {turn}END TURN{k}\n" for k in (1, 12)]
    (folder / "tiny.tech.lef").write_text("VERSION 5.8 ;\n" + turns[0] + via + turns[1] + "END\n")
    (folder / "tiny.lef").touch()
    (folder / "tiny.rules").write_text("Extraction Rules\n")
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path / "pdk"))
    used = layout_files(tiny(tmp_path)[0], tmp_path)["technology_lef"]
    assert used.parent == tmp_path
    assert used.read_text() == "VERSION 5.8 ;\n" + via + "END\n"
    (folder / "tiny.tech.lef").write_text(via)
    used = layout_files(tiny(tmp_path)[0], tmp_path)["technology_lef"]
    assert used == folder / "tiny.tech.lef"


def test_settings_quote_names() -> None:
    text = settings({"port": "i_data[3]", "list": ["a", ["b", 1.5]], "none": "", "flag": True})
    assert "port {i_data[3]}" in text
    assert "list {a {b 1.5}}" in text
    assert "none {}" in text
    assert "flag 1" in text
    with pytest.raises(HalutError, match="must have balanced braces"):
        settings({"port": "a{"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utilisation": 1.2}, "utilisation must be in"),
        ({"aspect": 0.0}, "aspect must be in"),
        ({"margin_um": -1.0}, "margin must be in"),
        ({"repair_tns": 101}, "repair_tns must be in"),
        ({"threads": -1}, "threads must be at least 0"),
    ],
)
def test_wrong_options_are_refused(change: dict, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        LayoutOptions(**change)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  site: core\n", "", "layout.site must be given"),
        ("utilisation: 0.5", "utilisation: 1.5", "layout.utilisation must be in"),
        ("  site: core\n", "  site: core\n  hold_margin_ns: -1\n", "hold_margin_ns must be a time"),
        ("signal_layers: [m2, m4]", "signal_layers: [m2]", "lowest and the highest"),
        ("diode:", "diodes:", "known keys only, not diodes, did you mean diode|not diodes"),
        ("width: 0.4,", "wide: 0.4,", "layout.stripes must have"),
    ],
)
def test_wrong_layout_parts_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    assert old in LAYOUT
    path.write_text(support.PLATFORM + LAYOUT.replace(old, new))
    with pytest.raises(HalutError, match=message):
        read_platform(path)


def test_platform_without_layout_is_refused(tmp_path: Path) -> None:
    platform, library = support.tiny_platform(tmp_path), support.tiny_library(tmp_path)
    with pytest.raises(HalutError, match="must have a layout part"):
        layout_settings(platform, library, "top", LayoutOptions())


def test_clock_buffers_become_wires(tmp_path: Path) -> None:
    library = support.tiny_library(tmp_path)
    netlist = support.chain(library)
    clock = netlist.ports[0].nets[0]
    first, second = netlist.add_net("clk_a"), netlist.add_net("clk_b")
    netlist.add_instance("root", "BUF", {"A": clock, "Y": first})
    netlist.add_instance("leaf", "BUF", {"A": first, "Y": second})
    for instance in netlist.instances:
        if instance.cell == "DFF":
            instance.pins["CK"] = second
    bare = netlist.without_buffers(["root", "leaf"], {"BUF": ("A", "Y")})
    assert [i.name for i in bare.instances] == ["first", "invert", "join", "second"]
    assert {i.pins["CK"] for i in bare.instances if i.cell == "DFF"} == {clock}
    assert len(netlist.instances) == 6


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

    def gates(most: int, *limits: float) -> tuple[list[str], list[str]]:
        """Driven nets, and the cells of the gates, with sizes of these limits."""
        for size, limit in enumerate(limits):
            name = f"GATE{size or ''}"
            library.cells[name] = cell(name, 4 + size, limit)
        copy = netlist.without_buffers([], {})
        driven = drive_gated_clocks(copy, library, dataclasses.replace(platform, max_fanout=most))
        return driven, [i.cell for i in copy.instances if i.name.startswith("gate_")]

    load = 2 * max(library.cells["DFF"].pins["CK"].capacitance)
    assert load > 0
    assert gates(2, 3 * load) == (["small"], ["GATE", "GATE"])
    assert gates(2, 3 * load - 0.1, 3 * load, 9 * load) == (["small"], ["GATE1", "GATE"])
    assert gates(2, load, 2 * load, 2.5 * load) == (["small"], ["GATE2", "GATE"])
    assert gates(1, load, 3 * load, 9 * load) == ([], ["GATE", "GATE"])


SPEF = """*SPEF "ieee 1481-1999"
*C_UNIT 1 PF
*NAME_MAP
*1 n1
*2 data\\[0\\]
*PORTS
data\\[0\\] I
*D_NET *1 0.0025
*CAP
1 *1:1 0.0025
*END
*D_NET *2 0.004
*END
"""


def test_wire_capacitance(tmp_path: Path) -> None:
    path = tmp_path / "a.spef"
    path.write_text(SPEF)
    netlist = Netlist("top", [Port("data", "input", [1])], ["n1", "d0", "n2"], [], [("", "top")])
    assert wire_capacitance(path, netlist).tolist() == [2.5, 4.0, 0.0]
    path.write_text(SPEF.replace("*C_UNIT 1 PF", "*C_UNIT 1 X"))
    with pytest.raises(HalutError, match="must have \\*C_UNIT"):
        wire_capacitance(path, netlist)
    path.write_text(SPEF.replace("D_NET", "E_NET"))
    with pytest.raises(HalutError, match="must be of this netlist"):
        wire_capacitance(path, netlist)


def test_wires_make_it_slower(tmp_path: Path) -> None:
    platform, library = tiny(tmp_path)
    netlist = support.chain(library)
    constraints = Constraints(clock="clk", period_ns=2)
    bare = Timing(netlist, library, platform, constraints)
    wires = np.full(len(netlist.net_names), 3.0)
    wired = Timing(netlist, library, platform, constraints, wires)
    for timing in (bare, wired):
        timing.update()
    # Three gates in a row, 0.01 ns per fF each, 3 fF more on each net.
    assert np.isclose(wired.end_slack().min(), bare.end_slack().min() - 0.09)


def test_kinds_of_cells_that_place_and_route_added() -> None:
    known = {"block0_u": "decoder"}
    assert layout_unit("block0_u", known) == "decoder"
    assert layout_unit("block0_u_clone1", known) == "decoder"
    assert layout_unit("clkbuf_leaf_3_clk", known) == "clock tree"
    assert layout_unit("hold12", known) == "wire buffers"


def test_a_failing_openroad_names_its_log(tmp_path: Path) -> None:
    tool = Tool("openroad", ("/bin/sh", "-c", "echo '[ERROR] no such net'; exit 1"), "0")
    with pytest.raises(ToolFailed, match=r"must finish place, not end with 1 \(log: ") as caught:
        run_script(tool, [], tmp_path, "place")
    assert "no such net" in caught.value.tail


def test_an_openroad_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROAD_EXE", "no-such-program run")
    with pytest.raises(HalutError, match="OPENROAD_EXE must be a program"):
        find_openroad()
    monkeypatch.delenv("OPENROAD_EXE")
    monkeypatch.setenv("PATH", "")
    assert find_openroad() is None


@pytest.mark.needs("openroad", "nangate45")
@pytest.mark.slow
@pytest.mark.flow
def test_a_real_layout(tmp_path: Path) -> None:
    """Small enough to be routed in minutes; needs OpenROAD and NanGate45."""
    platform = read_platform("nangate45")
    root = Path(__file__).parents[3]
    design = accelerator(AcceleratorConfig.from_yaml(root / "configs" / "small.yaml"), None, None)
    options = RunOptions(clock_ns=2.0, layout="routed")
    metrics, folder = measure(design, platform, options, tmp_path)
    values = metrics.values
    assert values["detailedroute__route__drc_errors"] == 0
    assert values["finish__timing__setup__ws"] >= 0
    assert values["halut__routed__transfers_checked"] > 0
    assert values["finish__power__total"] > values["synth__power__total"]
    for name in ("final.def", "final.gds", "final.spef", "final.v"):
        assert (folder / "pnr" / name).stat().st_size > 1000
    # A second run does nothing again.
    stamp = os.stat(folder / "pnr" / "finish.odb").st_mtime_ns
    again, _ = measure(design, platform, options, tmp_path)
    assert os.stat(folder / "pnr" / "finish.odb").st_mtime_ns == stamp
    assert again.values == values
