"""The stages' scripts against two releases' commands, and layouts by OpenROAD where it is there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import Design, accelerator
from flow.designs.unit import unit_design
from flow.figures.metrics import Metrics
from flow.layout.settings import layout_settings
from flow.layout.stages import ABSTRACT, ROUTED, scripts
from flow.measure import measure
from flow.run.options import LayoutOptions, RunOptions
from flow.timing.constraints import Constraints
from flow.timing.sdc import constraints_sdc
from flow.tools.tcl import settings
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import TiledConfig
from tests.flow import support
from tests.flow.layout_support import tiny
from tests.flow.tcl_stub import RELEASES, StubError, run_stub


def stage_settings(folder: Path, latency: float = 0.0) -> str:
    platform, library = tiny(folder)
    netlist = support.chain(library)
    sdc = folder / "constraints.sdc"
    constraints = Constraints(clock="clk", period_ns=2, io_latency_ns=latency)
    sdc.write_text(constraints_sdc(netlist, library, platform, constraints))
    files = {
        "technology_lef": "tiny.tech.lef", "cell_lef": ["tiny.lef"], "extraction": "tiny.rules",
        "liberty": ["tiny.lib"], "folder": folder, "netlist": "netlist.v", "constraints": sdc,
        "activity": "activity.saif", "period": 2.0, "input": "before.odb",
        "output": folder / "after.odb", "spef": "final.spef", "saif": "routed.saif",
        "ports": ["b", 0.5, 0.5], "guess": 2.0, "gate_driven": ["gated"], "hold_margin": 0.03,
        "clock_limits": [1e-9, 2e-14], "clock_gates": ["one", "gone"],
        "abstract": folder / "corner.lib",
        "die": [0, 0, 9, 9], "core": [1, 1, 8, 8], "block": "macro", "block_places": ["u", 2.5, 3],
        "macros": ["macro"], "macro_power": ["m2", "m3"], "halo": 2.0,
        "half_channel": 5.5, "slower": 3.0, "corner": "typ",
        "other_corners": ["slow", ["slow.lib"], "fast", ["fast.lib"]],
    }  # fmt: skip
    return settings(layout_settings(platform, library, "top", LayoutOptions()) | files)


PLACED_BLOCK = """
proc ord::get_db_block {} { return design }
proc design {method args} {
  if {$method eq "findInst"} { return [expr {$args eq "u" ? "u" : "NULL"}] }
  return {}
}
proc u {method args} {
  if {$method ni {setLocation setPlacementStatus}} { error "unexpected: $method" }
}
"""


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("stage", [*ROUTED, ABSTRACT, "power", "corner"])
def test_scripts_use_what_both_releases_have(stage: str, release: str, tmp_path: Path) -> None:
    calls = run_stub(
        [stage_settings(tmp_path), PLACED_BLOCK, *scripts(stage)],
        release,
        returns={"get_property": "0.0", "check_antennas": "0"},
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
        "globalroute": [
            "pin_access",
            "global_route",
            "repair_design",
            "repair_timing",
            "detailed_placement",
            "repair_antennas",
        ],
        "detailedroute": ["filler_placement", "detailed_route", "check_antennas"],
        "finish": ["extract_parasitics", "read_spef", "write_def", "write_verilog"],
        "abstract": ["set_propagated_clock", "write_abstract_lef", "write_timing_model"],
        "corner": [
            "read_db",
            "set_propagated_clock",
            "read_spef",
            "find_timing_paths",
            "write_timing_model",
        ],
        "power": ["read_db", "read_spef", "read_saif", "report_power"],
    }[stage]
    positions = [names.index(name) for name in expected]
    assert positions == sorted(positions)
    # What the platform says arrives.
    words = [word for call in calls for word in call]
    given = {"floorplan": "core", "place": "m3", "cts": "0.03", "detailedroute": "FILL",
            "globalroute": "DIODE"}  # fmt: skip
    assert given.get(stage, "tiny.lib") in words
    if stage == "floorplan":
        (grid,) = [call for call in calls if call[0] == "define_pdn_grid" and "-macro" in call]
        assert grid[grid.index("-cells") + 1] == "macro"
        assert names.count("check_power_grid") == 2 and "rtl_macro_placer" not in names
    if stage in ROUTED:
        assert names[-1] == "write_db"
        assert (tmp_path / "after.odb").is_file()
        assert not (tmp_path / "after.odb.part").exists()


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_srams_are_placed_before_rows_are_cut_and_stripes_made(
    release: str, tmp_path: Path
) -> None:
    srams = 'set halut(block) ""; set halut(block_places) {}; set halut(macros) {one two}'
    steps = [stage_settings(tmp_path), srams, *scripts("floorplan")]
    calls = run_stub(steps, release)
    names = [call[0] for call in calls]
    expected = ["initialize_floorplan", "rtl_macro_placer", "tapcell", "pdngen", "check_power_grid"]
    positions = [names.index(name) for name in expected]
    assert positions == sorted(positions)
    placer = calls[names.index("rtl_macro_placer")]
    for side in ("width", "height"):
        assert placer[placer.index(f"-halo_{side}") + 1] == "5.5"
    (grid,) = [call for call in calls if call[0] == "define_pdn_grid" and "-macro" in call]
    assert grid[grid.index("-cells") + 1] == "one two"
    assert calls[names.index("pdngen") - 1][-1] == "m2 m3"
    with pytest.raises(StubError, match="macros must have room: lower --utilisation"):
        run_stub(steps, release, returns={"rtl_macro_placer": "false"})


@pytest.mark.needs("tcl")
@pytest.mark.parametrize(("changes", "times"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_what_global_routes_show_is_repaired_until_nothing_changes(
    changes: int, times: int, tmp_path: Path
) -> None:
    # Cells are read before all repairs and after each, which adds one as often as `changes` says.
    growing = f"""
set ::reads -1
proc ord::get_db_block {{}} {{ return growing }}
proc growing {{method args}} {{
  if {{$method eq "findInst"}} {{ return NULL }}
  if {{$method ne "getInsts"}} {{ return {{}} }}
  return [lrepeat [expr {{min([incr ::reads], {changes}) + 1}}] instance]
}}
proc instance {{method}} {{ return instance }}
"""
    calls = run_stub(
        [stage_settings(tmp_path), growing, *scripts("globalroute")],
        RELEASES[-1],
        returns={"get_property": "0.0"},
    )
    steps = {
        "repair_design": "design", "repair_timing": "timing", "detailed_placement": "place",
        "estimate_parasitics": "wires", "-start_incremental": "start", "-end_incremental": "end",
    }  # fmt: skip
    seen = [steps[word] for call in calls for word in call if word in steps]
    once = ["design", "timing", "timing", "start", "place", "end", "wires"]
    # The last ones are those of antenna diodes.
    assert seen == ["wires", *(once * times), "wires"]
    margins = [call for call in calls if call[0] == "repair_timing"]
    assert [call[1] for call in margins] == ["-setup", "-hold"] * times
    assert margins[-1][2:] == ["-hold_margin", "0.03"]


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("left", "diode", "times"), [(0, "DIODE", 0), (2, "DIODE", 5), (2, "", 0)])
def test_antennas_that_detailed_routes_leave_are_repaired(
    left: int, diode: str, times: int, release: str, tmp_path: Path
) -> None:
    steps = [stage_settings(tmp_path), f"set halut(diode) {{{diode}}}", *scripts("detailedroute")]
    calls = run_stub(steps, release, returns={"check_antennas": str(left)})
    seen = [call[0] for call in calls]
    route = ["filler_placement", "global_connect", "detailed_route", "check_antennas"]
    repair = ["remove_fillers", "repair_antennas", "check_placement"]
    wanted = {*route, *repair}
    assert [name for name in seen if name in wanted] == [*route, *([*repair, *route] * times)]
    # Diodes have no pin access from global routing.
    kept = ["-no_pin_access" in call for call in calls if call[0] == "detailed_route"]
    assert kept == [True] + [False] * times


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_hold_is_repaired_at_every_corner(release: str, tmp_path: Path) -> None:
    calls = run_stub(
        [stage_settings(tmp_path), *scripts("globalroute")],
        release,
        returns={"get_property": "0.0"},
    )
    assert ["define_corners", "typ", "slow", "fast"] in calls
    # Setup with the layout's cells at all of them.
    read = [tuple(call[2:]) for call in calls if call[0] == "read_liberty"]
    assert sorted(read) == sorted(
        (corner, side, f"{name if side == '-min' else 'tiny'}.lib")
        for corner, name in (("typ", "tiny"), ("slow", "slow"), ("fast", "fast"))
        for side in ("-min", "-max")
    )
    assert ["set_operating_conditions", "-analysis_type", "bc_wc"] in calls
    paths = [call[1:3] for call in calls if call[0] == "set_false_path"]
    assert paths == [["-hold", "-from"], ["-hold", "-to"]]
    assert ["report_power_metric", "-corner", "typ"] in calls


@pytest.mark.needs("tcl")
@pytest.mark.parametrize(("block", "delays"), [("", True), ("macro", False)])
def test_clock_trees_do_not_wait_for_those_of_blocks(
    block: str, delays: bool, tmp_path: Path
) -> None:
    given = [stage_settings(tmp_path), f"set halut(block) {{{block}}}", *scripts("cts")]
    (tree,) = [call for call in run_stub(given, RELEASES[-1]) if call[0] == "clock_tree_synthesis"]
    assert ("-no_insertion_delay" not in tree) == delays


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_a_flag_that_a_release_lacks_is_caught(release: str, tmp_path: Path) -> None:
    *shared, own = scripts("cts")
    script = own.read_text().replace("-repair_tns", "-no_such_flag")
    assert "-no_such_flag" in script
    with pytest.raises(StubError, match="no_such_flag"):
        run_stub([stage_settings(tmp_path), *shared, script], release)


@pytest.mark.needs("tcl")
@pytest.mark.parametrize(("latency", "arrival", "due"), [(0.0, 0.4, 0.4), (0.3, 0.7, 0.1)])
def test_registers_outside_get_the_clock_as_late_as_those_inside(
    latency: float, arrival: float, due: float, tmp_path: Path
) -> None:
    calls = run_stub([stage_settings(tmp_path, latency=latency), *scripts("cts")], RELEASES[-1])
    given = {call[0]: call[1:] for call in calls}
    assert float(given["set_clock_latency"][0]) == latency
    assert float(given["set_input_delay"][0]) == pytest.approx(arrival)
    assert float(given["set_output_delay"][0]) == pytest.approx(due)
    for name in ("set_input_delay", "set_output_delay"):
        assert "-network_latency_included" in given[name]
    names = [call[0] for call in calls]
    assert names.index("set_clock_latency") < names.index("set_propagated_clock")


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_at_a_corner_logic_outside_is_as_much_slower_for_hold(release: str, tmp_path: Path) -> None:
    calls = run_stub(
        [stage_settings(tmp_path, latency=0.3), *scripts("corner")],
        release,
        returns={"get_property": "0.0"},
    )
    # 20 % of 2 ns, three times slower, and the clock's way that is given for the corner.
    for name, delay in (("set_input_delay", 1.5), ("set_output_delay", 0.9)):
        (least,) = [call for call in calls if call[0] == name and "-min" in call]
        assert float(least[least.index("-min") + 1]) == pytest.approx(delay)
        assert calls.index(least) < [call[0] for call in calls].index("find_timing_paths")


CLOCK_GATE = """
set status PLACED
proc ord::get_db_block {} { return block }
proc block {method args} {
  if {$method eq "getInsts"} { return {one other} }
  return [expr {$args in {one other} ? $args : "NULL"}]
}
proc one {method args} { if {$method eq "setPlacementStatus"} { set ::status $args } }
proc other {method args} {
  if {$method eq "setPlacementStatus"} { error "only clock gates are fixed" }
}
rename clock_tree_synthesis real_clock_tree
proc clock_tree_synthesis {args} { real_clock_tree {*}$args; set ::during $::status }
"""


@pytest.mark.needs("tcl")
def test_clock_gates_are_fixed_while_the_clock_tree_is_made(tmp_path: Path) -> None:
    *shared, own = scripts("cts")
    seen = tmp_path / "seen"
    last = f'set to [open {{{seen}}} w]; puts $to "$during $status"; close $to'
    # Pins are not this test's: instances have none here.
    run_stub([stage_settings(tmp_path), *shared, CLOCK_GATE, own, last], RELEASES[-1])
    assert seen.read_text().split() == ["FIRM", "PLACED"]


LOST_PIN = """
proc ord::get_db_block {} { return block }
proc block {method args} { return [expr {$method eq "getInsts" ? "instance" : "NULL"}] }
proc instance {method} { return [expr {$method eq "getName" ? "gate133" : "pin"}] }
proc pin {method} { return [expr {$method eq "getNet" ? "NULL" : 1}] }
"""


@pytest.mark.needs("tcl")
def test_a_clock_tree_that_leaves_a_pin_without_a_net_ends_the_layout(tmp_path: Path) -> None:
    *shared, own = scripts("cts")
    with pytest.raises(StubError, match="must have a net, not none at 1 pins: gate133"):
        run_stub([stage_settings(tmp_path), *shared, LOST_PIN, own], RELEASES[-1])
    assert not (tmp_path / "after.odb").exists()


@pytest.mark.needs("tcl")
@pytest.mark.parametrize(("overfull", "ends"), [(100, False), (101, True)])
def test_global_routes_that_are_too_full_end_the_layout(
    overfull: int, ends: bool, tmp_path: Path
) -> None:
    crowded = f"""
proc global_route args {{
  set file [open $::halut(folder)/congestion.rpt w]
  puts -nonewline $file [string repeat "violation type: Horizontal congestion\n" {overfull}]
  close $file
}}
"""
    *shared, own = scripts("globalroute")
    steps = [stage_settings(tmp_path), *shared, crowded, own]
    if ends:
        with pytest.raises(StubError, match="at most 100 regions overfull, not 101"):
            run_stub(steps, RELEASES[-1], returns={"get_property": "0.0"})
    else:
        run_stub(steps, RELEASES[-1], returns={"get_property": "0.0"})
    assert (tmp_path / "after.odb").exists() != ends


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


@pytest.mark.needs("openroad", "nangate45")
@pytest.mark.slow
@pytest.mark.flow
def test_a_real_layout_with_srams(tmp_path: Path) -> None:
    """Tables in an SRAM macro of the platform; needs its files besides."""
    platform = read_platform("nangate45")
    try:
        platform.sram_library()
    except HalutError as error:
        pytest.skip(str(error))
    config = AcceleratorConfig(
        n_codebooks=4, n_prototypes=16, n_outputs=4, encoder="pipelined", input_format="int8",
        memory="sram",
    )  # fmt: skip
    options = RunOptions(clock_ns=2.0, layout="routed")
    metrics, folder = measure(accelerator(config), platform, options, tmp_path)
    values = metrics.values
    assert values["synth__design__instance__count__macros"] > 0
    assert values["detailedroute__route__drc_errors"] == 0
    assert values["finish__timing__setup__ws"] >= 0 <= values["finish__timing__hold__ws"]
    assert values["halut__routed__transfers_checked"] > 0
    assert set(metrics.notes["corners"]) == {"typ"}
    assert (folder / "pnr" / "final.gds").stat().st_size > 1000


def _with_macro(
    macro: Design, whole: Design, channel_um: float, folder: Path
) -> tuple[Metrics, Metrics, Path]:
    """Lay a macro out, and a design with it; returns the metrics of both, and the latter's run."""
    platform = read_platform("nangate45")
    layout = LayoutOptions(abstract=True, top_layer="metal7", io_latency_ns=0.15)
    options = RunOptions(clock_ns=2.0, layout="routed", place_and_route=layout)
    inside, place = measure(macro, platform, options, folder)
    layout = LayoutOptions(block=str(place / "pnr"), channel_um=channel_um, io_latency_ns=0.15)
    metrics, place = measure(whole, platform, replace(options, place_and_route=layout), folder)
    values = metrics.values
    assert values["detailedroute__route__drc_errors"] == 0
    assert values["finish__timing__setup__ws"] >= 0 <= values["finish__timing__hold__ws"]
    assert values["halut__routed__transfers_checked"] > 0
    return inside, metrics, place


@pytest.mark.needs("openroad", "nangate45")
@pytest.mark.slow
@pytest.mark.flow
def test_a_real_layout_of_layouts(tmp_path: Path) -> None:
    """Four times the same hard macro, and the sums of their results."""
    root = Path(__file__).parents[3]
    unit = AcceleratorConfig.from_yaml(root / "configs" / "small.yaml")
    tiled = TiledConfig(unit=unit, output_tiles=2, codebook_tiles=2)
    inside, metrics, folder = _with_macro(accelerator(unit), accelerator(tiled), 14, tmp_path)
    cells = inside.values["finish__design__instance__count__stdcell"]
    assert metrics.values["finish__design__instance__count__stdcell"] > 4 * cells
    assert set(metrics.notes["corners"]) == set(read_platform("nangate45").corners)
    assert (folder / "pnr" / "final.gds").stat().st_size > 1000


@pytest.mark.needs("openroad", "nangate45")
@pytest.mark.slow
@pytest.mark.flow
def test_a_real_layout_of_blocks_of_decoders(tmp_path: Path) -> None:
    """One hard macro for every block of decoders; encoders and output beside them."""
    root = Path(__file__).parents[3]
    config = replace(
        AcceleratorConfig.from_yaml(root / "configs" / "small.yaml"),
        rows=2, n_outputs=4, write_word_bits=16, code_stages=1, decode_in_blocks=True,
        outputs_per_cycle=None,
    )  # fmt: skip
    macro = unit_design("decoders", config)
    _, metrics, _ = _with_macro(macro, accelerator(config), 30, tmp_path)
    assert metrics.notes["block"].startswith("2 hard macros")
