"""The whole flow on small designs, with real tools."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest

import halut.memory
from flow.cells.liberty_language import read_text
from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.designs.unit import unit_design
from flow.figures.metrics import METRICS
from flow.layout.stages import PLACED, ROUTED
from flow.measure import LAY_OUT, STEPS, measure, run_design
from flow.netlist.yosys import SynthOptions
from flow.run.context import Run, run_folder
from flow.run.options import LayoutOptions, RunOptions
from flow.tools import find_sta
from halut.errors import CheckFailed, HalutError
from halut.files import file_hash
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import TiledConfig
from tests.flow.support import adder, openroad_stand_in

pytestmark = [pytest.mark.flow, pytest.mark.needs("pyosys", "sim")]


SMALL = Path(__file__).parents[2] / "configs" / "small.yaml"


def _platform(name):
    platform = read_platform(name)
    if platform.has_library:
        try:
            platform.liberty_files()
        except HalutError:
            pytest.skip(f"the library {name} is not there (make doctor says how to get it)")
    return platform


def test_several_units(tmp_path):
    """Units side by side and joined sums; the netlist gives the model's results."""
    unit = AcceleratorConfig.from_yaml(SMALL)
    config = TiledConfig(unit=unit, output_tiles=2, codebook_tiles=2)
    options = RunOptions(clock_ns=6.0, layout="none")
    metrics, folder = measure(accelerator(config), _platform("generic"), options, tmp_path)
    assert folder.parent.parent.name == config.slug
    bits = config.lut_total_bits + config.threshold_total_bits
    assert metrics.values["synth__design__instance__count__latch"] == bits
    assert metrics.values["halut__design__look_ups_per_cycle"] == 4 * unit.look_ups_per_cycle


@pytest.mark.parametrize("name", ["generic", "osu018", "nangate45"])
def test_a_small_accelerator(name, tmp_path):
    platform = _platform(name)
    design = accelerator(AcceleratorConfig.from_yaml(SMALL))
    metrics, folder = measure(design, platform, RunOptions(clock_ns=6.0), tmp_path)
    values = metrics.values
    assert folder == tmp_path.resolve() / design.slug / name / "6ns"
    data = json.loads((folder / "metrics.json").read_text())
    assert data["metrics"] == values
    for metric in METRICS:
        assert (values[metric] is None) == (metric in data["reasons"]), metric
    # Every LUT and threshold bit is a latch; nothing may be lost.
    config = AcceleratorConfig.from_yaml(SMALL)
    bits = config.lut_total_bits + config.threshold_total_bits
    if name != "osu018":  # Its clock gates hold a latch each.
        assert values["synth__design__instance__count__latch"] == bits
    assert values["sim__transfers__checked"] > 10
    assert values["sim__input_transfers__per_cycle"] == 1.0
    assert values["sim__latency__cycles"] == config.latency_cycles
    assert values["halut__area__gate_equivalents"] > bits * 2
    if not platform.has_library:
        assert values["synth__power__total"] is None
        assert values["synth__design__logic__depth"] > 3
        return
    total = sum(row["area"] for row in metrics.breakdown)
    parts = values["synth__design__instance__area__stdcell"] + values["halut__clock_tree__area"]
    assert total == pytest.approx(parts)
    power = sum(
        row["internal_mw"] + row["switching_mw"] + row["leakage_mw"] for row in metrics.breakdown
    )
    assert power == pytest.approx(values["synth__power__total"])
    least, most = values["halut__power__without_glitches"], values["synth__power__total"]
    least_energy = values["halut__energy__per_mac_without_glitches"]
    most_energy = values["halut__energy__per_mac"]
    if shutil.which("iverilog"):
        assert least < most and 0 < least_energy < most_energy
    else:  # Verilator has no delays, so there are no glitches to count.
        assert least == most and 0 < least_energy == most_energy
    assert values["halut__energy__per_look_up"] == pytest.approx(
        9 * values["halut__energy__per_mac"]
    )
    words = config.n_codebooks * (config.threshold_words + config.n_prototypes * config.n_blocks)
    assert metrics.notes["loading"].endswith(f"{words} words in {words} cycles")
    leakage = values["synth__power__leakage__total"] * 6.0
    assert values["halut__energy__per_program_word"] > max(0.0, leakage)
    if name == "osu018":
        return
    for metric in ("max_slew", "max_cap", "max_fanout"):
        assert values[f"synth__timing__drv__{metric}"] == 0
    if find_sta() is not None:
        # Our own timing, which sizing works with, against OpenSTA's.
        ours = Run(design, platform, RunOptions(), tmp_path).timing.shortest_period()
        assert ours == pytest.approx(values["halut__timing__shortest_period"], rel=0.02)
        assert metrics.notes["critical_path"]["stretches"]


def test_a_second_run_does_nothing_again_and_a_changed_one_only_what_it_must(tmp_path):
    platform = _platform("generic")

    def worked(options):
        run = Run(adder(), platform, options, tmp_path)
        metrics, done = run_design(run)
        return metrics.values, done.worked

    names = ["yosys", "finish", "timing", "simulate"]
    first, folder = measure(adder(), platform, RunOptions(), tmp_path)
    assert worked(RunOptions()) == (first.values, [])
    assert worked(RunOptions(seed=2))[1] == ["simulate"]
    assert worked(RunOptions(seed=2, io_share=0.1))[1] == names[1:]
    assert worked(RunOptions(seed=2, io_share=0.1, force=True))[1] == names
    assert (folder / "metrics.previous.json").is_file()


def test_other_work_on_the_same_unit_is_simulated_again(tmp_path):
    """Two configurations may have one decoder, and so one folder, but not one random program."""
    platform = _platform("generic")
    config = AcceleratorConfig.from_yaml(SMALL)

    def worked(config):
        run = Run(unit_design("decoder", config), platform, RunOptions(), tmp_path)
        return run.folder, run_design(run)[1].worked

    wider = dataclasses.replace(config, n_outputs=2 * config.n_outputs)
    folder, steps = worked(config)
    assert "simulate" in steps
    assert worked(wider) == (folder, ["simulate"])
    assert worked(wider) == (folder, [])


def test_steps_need_and_take_earlier_ones():
    assert len({step.name for step in STEPS}) == len(STEPS)
    for number, step in enumerate(STEPS):
        assert set(step.needs) | set(step.takes) <= set(STEPS[:number]), step.name
        assert dataclasses.is_dataclass(step.result), step.name
        with pytest.raises(dataclasses.FrozenInstanceError):
            object.__new__(step.result).any = 1


def test_a_netlist_that_disagrees_with_the_model_has_no_metrics(tmp_path):
    platform = _platform("generic")
    with pytest.raises(CheckFailed, match="must compute what the model says"):
        measure(adder(spoil=True), platform, RunOptions(), tmp_path)
    assert (tmp_path / "adder" / "generic" / "6ns" / "netlist.v").exists()
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_design_that_does_not_fit_the_memory_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(halut.memory, "available_bytes", lambda: 10**8)
    with pytest.raises(HalutError, match=r"must be about 0\.2 GB to map it to cells, not 0\.1 GB"):
        measure(adder(), _platform("generic"), RunOptions(), tmp_path)
    assert not list(tmp_path.rglob("*.v"))


def test_speed_costs_area_and_is_reached(tmp_path):
    platform = _platform("nangate45")
    fast, _ = measure(adder(), platform, RunOptions(target_ns=0.3, power=False), tmp_path)
    slow, _ = measure(adder(), platform, RunOptions(target_ns=6.0, power=False), tmp_path)
    period, area = "halut__timing__shortest_period", "synth__design__instance__area__stdcell"
    assert fast.values[period] < slow.values[period]
    assert fast.values[area] >= slow.values[area]
    assert fast.reasons["synth__power__total"] == "--no-power"


def test_without_opensta_setup_is_still_told(tmp_path, monkeypatch):
    platform = _platform("nangate45")
    monkeypatch.setattr("flow.run.context.find_sta", lambda _: None)
    metrics, _ = measure(adder(), platform, RunOptions(power=False), tmp_path)
    assert metrics.values["halut__timing__shortest_period"] > 0
    assert metrics.values["synth__timing__hold__ws"] is None
    assert "apt install opensta" in metrics.reasons["synth__timing__hold__ws"]


def test_power_agrees_with_a_current_opensta(tmp_path, monkeypatch):
    platform = _platform("nangate45")
    from flow.power.opensta import reads_activity

    sta = find_sta(os.environ.get("HALUT_STA"))
    if sta is None or not reads_activity(sta):
        pytest.skip("no OpenSTA 3 (HALUT_STA=path of sta): the 2019 one cannot sum power")
    options = RunOptions(sta=sta.command[0])
    theirs, _ = measure(adder(), platform, options, tmp_path)
    monkeypatch.setattr("flow.run.power.reads_activity", lambda _: False)
    ours, _ = measure(adder(), platform, options, tmp_path / "ours")
    assert "flow.power.liberty_power" in ours.notes["power_by"]
    assert "read_saif" in theirs.notes["power_by"]
    for part in ("internal", "switching", "leakage"):
        name = f"synth__power__{part}__total"
        assert ours.values[name] == pytest.approx(theirs.values[name], rel=0.01)


def test_every_clock_and_target_has_its_own_netlist(tmp_path):
    platform = _platform("generic")
    options = [
        RunOptions(clock_ns=clock, target_ns=target, power=False)
        for clock, target in ((6, None), (2, None), (6.0, 6.0), (6, 2), (0.123456789, None))
    ]
    folders = [run_folder(tmp_path, "adder", platform, each).name for each in options]
    assert folders == ["6ns", "2ns", "6ns", "6ns_for_2ns", "0.123456789ns"]
    _, folder = measure(adder(), platform, options[0], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    _, other = measure(adder(), platform, options[1], tmp_path)
    assert other != folder and (other / "netlist.v").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_folder_in_which_another_process_works_is_waited_for(tmp_path, caplog):
    import threading

    from halut.files import locked

    platform = _platform("generic")
    folder = run_folder(tmp_path, "adder", platform, RunOptions())
    thread = threading.Thread(
        target=measure, args=(adder(), platform, RunOptions(power=False), tmp_path)
    )
    with locked(folder):
        thread.start()
        thread.join(1.0)
        assert thread.is_alive()
        assert list(folder.iterdir()) == []
    thread.join(60)
    assert (folder / "metrics.json").is_file()
    assert any("waiting for another process that works in" in line for line in caplog.messages)


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_folders_with_any_name_and_glitches_that_are_not_counted(tmp_path, simulator):
    from flow.report.terminal import summary
    from flow.tools import find_simulator

    try:
        find_simulator(simulator)
    except HalutError as error:
        pytest.skip(str(error))
    platform = _platform("osu018")
    place = tmp_path / """it's "my" $HOME ü"""
    metrics, folder = measure(adder(), platform, RunOptions(simulator=simulator), place)
    assert folder.is_relative_to(place) and metrics.values["synth__power__total"] > 0
    text = summary(metrics)
    assert ("power, glitches not counted" in text) == (simulator == "verilator")


@pytest.mark.needs("nangate45")
def test_a_layout_goes_on_where_it_ended(tmp_path, monkeypatch):
    """With a stand-in for OpenROAD, whose layout is the netlist as it came."""
    openroad_stand_in(monkeypatch)
    platform = read_platform("nangate45")

    def laid_out(layout, **more):
        options = RunOptions(layout=layout, place_and_route=LayoutOptions(**more))
        run = Run(adder(), platform, options, tmp_path)
        metrics, done = run_design(run)
        assert done.results[LAY_OUT].openroad == "25Q4-1-stand-in"
        return metrics, done.results[LAY_OUT].worked, run

    placed, worked, _ = laid_out("auto")
    assert worked == list(PLACED)
    assert placed.values["detailedplace__power__total"] == 1  # mW
    assert "make pnr" in placed.reasons["finish__power__total"]
    assert placed.notes["pictures"]
    routed, worked, run = laid_out("routed")
    assert worked == list(ROUTED[len(PLACED) :])
    values, netlist = routed.values, run.netlist
    tree = len([i for i in netlist.instances if "clock" in i.name and i.cell.startswith("CLK")])
    cells = len(netlist.instances) - tree
    assert values["finish__design__instance__count__stdcell"] == cells > 10
    assert values["finish__power__leakage__total"] == pytest.approx(3e-6 * cells)
    assert values["halut__routed__energy_per_mac"] == values["halut__routed__energy_per_cycle"]
    assert values["halut__routed__shortest_period"] == 1.5
    assert values["halut__routed__transfers_checked"] == values["sim__transfers__checked"]
    assert values["halut__routed__corners__hold__ws"] == 0.125
    corners = routed.notes["corners"]
    assert set(corners) == set(platform.corners)
    assert corners["fast"]["slower"] < corners["typ"]["slower"] == 1 < corners["slow"]["slower"]
    supplies = {name: at["voltage"] for name, at in corners.items()}
    assert supplies == {name: corner.voltage for name, corner in platform.corners.items()}
    energies = [corners[name]["energy_per_cycle"] for name in ("slow", "typ", "fast")]
    assert 0 < energies[0] < energies[1] < energies[2]
    rows = routed.notes["routed_breakdown"]
    assert sum(row["cells"] for row in rows) == cells and "instances" not in rows[0]
    gds = routed.notes["gds"]
    assert (run.folder / gds["file"]).stat().st_size == gds["size"] > 1000
    assert file_hash(run.folder / gds["file"]) == gds["sha256"]
    again, worked, _ = laid_out("routed")
    assert worked == [] and again.values == values
    (run.folder / "pnr" / "globalroute.odb").unlink()
    assert laid_out("routed")[1] == ["globalroute"]
    text = (run.folder / "pnr" / "cts.settings.tcl").read_text()
    assert f"hold_margin {platform.layout.hold_margin_ns}\n" in text
    assert laid_out("routed", hold_margin_ns=0.25)[1] == list(ROUTED[len(PLACED) :])
    for stage in ("cts", "globalroute"):
        text = (run.folder / "pnr" / f"{stage}.settings.tcl").read_text()
        assert "hold_margin 0.25\n" in text


@pytest.mark.needs("nangate45")
def test_power_of_ground_pins_is_not_added_to_that_of_the_supply(tmp_path, monkeypatch):
    openroad_stand_in(monkeypatch)
    library_at = Run.library_at

    def with_ground_power(run, corner):
        return dataclasses.replace(library_at(run, corner), ground_power=True)

    monkeypatch.setattr(Run, "library_at", with_ground_power)
    options = RunOptions(layout="routed")
    metrics, _ = measure(adder(), read_platform("nangate45"), options, tmp_path)
    assert metrics.values["detailedplace__power__total"] is None
    assert "ground pins" in metrics.reasons["detailedplace__power__total"]
    for note in ("power_by", "routed_power"):
        assert metrics.notes[note].startswith("liberty tables (flow.power")
    # Not the stand-in's.
    cells = metrics.values["finish__design__instance__count__stdcell"]
    assert metrics.values["finish__power__leakage__total"] > 1.5 * 3e-6 * cells


def _replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.needs("nangate45")
def test_what_files_of_the_platform_hold_counts_not_where_they_are(tmp_path, monkeypatch):
    openroad_stand_in(monkeypatch)
    kit, moved = tmp_path / "pdk" / "nangate45", tmp_path / "moved" / "nangate45"
    (typical,), (slow,) = map(read_platform("nangate45").liberty_files, ("typ", "slow"))
    shutil.copytree(
        typical.parents[1], kit, copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns(typical.name, slow.name),
    )  # fmt: skip
    for place in (kit, kit / "lib", kit / "lef"):
        place.chmod(0o755)
    (kit / "lib" / typical.name.removesuffix(".gz")).write_text(read_text(typical))
    folder = tmp_path / "build"

    def worked(kit):
        monkeypatch.setenv("HALUT_PDK_DIR", str(kit.parent))
        run = Run(adder(), read_platform("nangate45"), RunOptions(layout="routed"), folder)
        metrics, done = run_design(run)
        return metrics, done.worked, done.results[LAY_OUT].worked

    metrics, steps, stages = worked(kit)
    assert "yosys" in steps and "corners" in steps and stages == list(ROUTED)
    assert metrics.notes["corners_lacking"] == "slow"
    # Both the kit and the build folder are moved.
    shutil.move(kit, moved)
    folder = folder.rename(tmp_path / "build again")
    assert worked(moved)[1:] == ([], [])
    # A corner comes along.
    shutil.copyfile(slow, moved / "lib" / slow.name)
    metrics, steps, stages = worked(moved)
    assert steps == ["corners"] and stages == list(ROUTED[len(PLACED) :])
    assert "corners_lacking" not in metrics.notes and "slow" in metrics.notes["corners"]
    # Files of the same size.
    (lef,) = (moved / "lef").glob("*.macro.mod.lef")
    _replace(lef, "VERSION 5.6", "VERSION 5.7")
    assert worked(moved)[1:] == ([], list(ROUTED))
    (liberty,) = (moved / "lib").glob("*typ*.lib")
    _replace(liberty, ": 1.064000;", ": 1.065000;")
    assert "yosys" in worked(moved)[1]


def test_constants_without_tie_cells_are_not_routed(tmp_path, monkeypatch):
    """OSU 0.18 um has none, and the router refuses such pins."""
    openroad_stand_in(monkeypatch)
    monkeypatch.setattr("flow.run.context.find_sta", lambda _: None)
    design = accelerator(AcceleratorConfig.from_yaml(SMALL))
    platform = _platform("osu018")
    placed = RunOptions(clock_ns=10, layout="placed", synth=SynthOptions(adder="ripple"))
    _, folder = measure(design, platform, placed, tmp_path)
    assert (folder / "pnr" / "place.odb").is_file()
    with pytest.raises(HalutError, match="signal pins must be driven by cells to be routed, not "):
        measure(design, platform, dataclasses.replace(placed, layout="routed"), tmp_path)


def _block(folder, top_layer="metal7"):
    """Lay small.yaml out, for larger designs; returns its configuration, metrics and layout."""
    unit = AcceleratorConfig.from_yaml(SMALL)
    layout = LayoutOptions(abstract=True, top_layer=top_layer)
    options = RunOptions(clock_ns=2.0, layout="routed", place_and_route=layout)
    metrics, place = measure(accelerator(unit), read_platform("nangate45"), options, folder)
    return unit, metrics, place / "pnr"


def _with_block(folder, **more):
    layout = LayoutOptions(block=str(folder))
    return RunOptions(**{"clock_ns": 2.0, "layout": "routed", "place_and_route": layout, **more})


@pytest.mark.needs("nangate45")
def test_a_routed_layout_becomes_a_hard_macro(tmp_path, monkeypatch):
    """With a stand-in for OpenROAD; what is in the macro is simulated, and broken once."""
    openroad_stand_in(monkeypatch)
    platform = read_platform("nangate45")
    unit, inside, block = _block(tmp_path)
    tiled = accelerator(TiledConfig(unit=unit, codebook_tiles=2))
    metrics, place = measure(tiled, platform, _with_block(block), tmp_path)
    values = metrics.values
    assert values["halut__routed__transfers_checked"] == values["sim__transfers__checked"] > 0
    cells = inside.values["finish__design__instance__count__stdcell"]
    for rows in (metrics.breakdown, metrics.notes["routed_breakdown"]):
        (row,) = [row for row in rows if row["unit"] == "block"]
        assert row["cells"] == 2 * cells and row["internal_mw"] > 0
    assert "2 hard macros halut_matmul of 60 x 40 um" in metrics.notes["block"]
    assert values["halut__routed__shortest_period"] == 1.5
    assert not (place / "pnr" / "activity.saif").exists()
    assert set(metrics.notes["corners"]) == set(platform.corners)
    # Cells in the macros are at work, too.
    for name, at in inside.notes["corners"].items():
        assert metrics.notes["corners"][name]["energy_per_cycle"] > 1.5 * at["energy_per_cycle"]
    assert (place / metrics.notes["gds"]["file"]).stat().st_size > 1000
    settings = (place / "pnr" / "floorplan.settings.tcl").read_text()
    (places,) = re.findall(r"^  block_places \{(.*)\}$", settings, re.M)
    # Side by side, 60 um wide, with a channel of 20 um around each, in a margin of 2 um.
    assert places == "unit_r0_m0_d0 22 22 unit_r0_m0_d1 102 22"
    assert re.search(r"^  die \{0 0 184 84\}$", settings, re.M)
    # What was done before does not hide that the block is another one.
    verilog = block / "final.v"
    first, second = "program_data[0]", "program_data[1]"
    swapped = {first: second, second: first}
    text = re.sub(r"program_data\[[01]\]", lambda found: swapped[found[0]], verilog.read_text())
    assert text != verilog.read_text()
    verilog.write_text(text)
    with pytest.raises(CheckFailed, match="must"):
        measure(tiled, platform, _with_block(block), tmp_path)


@pytest.mark.needs("nangate45")
def test_a_block_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    openroad_stand_in(monkeypatch)
    platform = read_platform("nangate45")
    unit, _, block = _block(tmp_path)
    tiled = accelerator(TiledConfig(unit=unit, codebook_tiles=2))

    def refused(message, design=tiled, folder=block, **more):
        with pytest.raises(HalutError, match=message):
            measure(design, platform, _with_block(folder, **more), tmp_path)

    refused("must be the folder pnr of a routed run with --abstract, not one without abstract.lef",
            folder=tmp_path)  # fmt: skip
    refused("must be of corner slow, not typ", corner="slow")
    refused("clock_ns must be at least the 2 that the block was timed at, not 1", clock_ns=1.0)
    narrow = LayoutOptions(block=str(block), channel_um=10)
    refused("channel_um must be at least 12.4 for the platform's stripes", place_and_route=narrow)
    refused("prove must be off with --block", prove=True)
    refused("must be a unit of the design, not all of it", design=accelerator(unit))
    other = dataclasses.replace(unit, n_outputs=4, outputs_per_cycle=1)
    refused("must be a unit of the design, not one with (no|another) module halut_",
            design=accelerator(TiledConfig(unit=other, codebook_tiles=2)))  # fmt: skip
    measure(accelerator(unit), platform, RunOptions(clock_ns=2.0), tmp_path)
    refused("must be a layout with its own metrics.json, not with that of a later run")
    _block(tmp_path, top_layer=None)
    refused("must be routed with --top-layer metal7, above which it is supplied, not without")


def test_a_layout_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENROAD_EXE", "")
    monkeypatch.setenv("PATH", "")
    platform = read_platform("generic")
    with pytest.raises(HalutError, match="must have OpenROAD and a platform with cells: no openro"):
        measure(adder(), platform, RunOptions(power=False, layout="placed"), tmp_path)
    metrics, _ = measure(adder(), platform, RunOptions(power=False, layout="auto"), tmp_path)
    assert "OPENROAD_EXE" in metrics.reasons["finish__power__total"]
