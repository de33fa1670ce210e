"""Timing of a routed design at the other corners of its platform."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flow.cells.platform_file import read_platform
from flow.figures.metrics import Metrics
from flow.figures.routed import set_corners
from flow.layout import routed as routed_module
from flow.layout.corners import Corners, CornerTiming, power_at_corners, time_corners
from flow.power.activity import Activity
from flow.run.context import Run
from flow.run.options import LayoutOptions, RunOptions
from flow.run.simulation import ROWS_ACTIVITY
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from halut.errors import CheckFailed
from tests.flow import support
from tests.flow.layout_support import tiny

ALL = """  only: {liberty: [tiny.lib], voltage: 2.0, temperature: 25}
  slow: {liberty: [slow.lib], voltage: 1.8, temperature: 125}
  lost: {liberty: [lost.lib], voltage: 1.8, temperature: 125}
"""


@pytest.fixture
def routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run, its layout and netlist, on a platform whose slow corner takes ten times as long."""
    tiny(tmp_path)
    path = tmp_path / "tiny.yaml"
    only = ALL.splitlines(keepends=True)[0]
    path.write_text(path.read_text().replace(only, ALL))
    (tmp_path / "slow.lib").write_text(
        support.LIBRARY.replace('time_unit : "1ns"', 'time_unit : "10ns"')
    )
    monkeypatch.setenv("HALUT_PDK_DIR", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    for name in ("tiny.lib", "slow.lib"):
        (tmp_path / "tiny" / name).write_text((tmp_path / name).read_text())
    platform = read_platform(path)
    library = platform.library("only", tmp_path)
    netlist = support.chain(library)
    run = SimpleNamespace(
        platform=platform, library=library, netlist=netlist, cache=tmp_path,
        design=SimpleNamespace(top="top"), openroad="openroad",
        options=RunOptions(clock_ns=2.0, place_and_route=LayoutOptions(io_latency_ns=0.3)),
        corner="only",
        block=None,
        srams={},
        library_at=lambda name: Run.library_at(run, name),
        liberty_at=lambda name: Run.liberty_at(run, name),
        constraints=lambda period, latency=0.0: Constraints(
            clock="clk", period_ns=period, io_latency_ns=latency
        ),
    )  # fmt: skip
    wires = np.zeros(len(netlist.net_names))
    timing = Timing(netlist, library, platform, run.constraints(2.0), wires)
    timing.update()
    netlist_of = SimpleNamespace(netlist=netlist, wires=wires, timing=timing)
    return run, SimpleNamespace(folder=tmp_path), netlist_of


def openroad(text: str) -> Any:
    def run_script(tool: str, files: list[Path], folder: Path, name: str) -> None:
        assert tool == "openroad" and files[-1].name == "corner.tcl"
        (folder / f"{name}.log").write_text(text)

    return run_script


def test_every_corner_has_its_cells_and_its_ports(routed, tmp_path, monkeypatch) -> None:
    text = "HALUT setup 0.5\nHALUT hold -0.02\nHALUT period 1.5\n"
    monkeypatch.setattr(routed_module, "run_script", openroad(text))
    found = time_corners(*routed)
    assert [at.corner for at in found.found] == ["only", "slow"]
    assert found.lacking == ["lost"]
    assert [at.slower for at in found.found] == pytest.approx([1, 10])
    assert {(at.setup, at.hold, at.shortest_period) for at in found.found} == {(0.5, -0.02, 1.5)}
    # The clock takes as much longer to the registers outside.
    for name, latency in (("only", "0.3"), ("slow", "3")):
        line = next(
            line
            for line in (tmp_path / f"constraints_{name}.sdc").read_text().splitlines()
            if "io_latency" in line
        )
        assert float(line.split()[1]) == pytest.approx(float(latency))


def test_a_block_brings_its_cells_to_a_corner_or_the_corner_is_left_out(
    routed, tmp_path, monkeypatch
) -> None:
    text = "HALUT setup 0.5\nHALUT hold -0.02\nHALUT period 1.5\n"
    monkeypatch.setattr(routed_module, "run_script", openroad(text))
    run, *others = routed
    run.block = SimpleNamespace(liberty=lambda corner: tmp_path / f"block_{corner}.lib")
    (tmp_path / "block_slow.lib").write_text("library (block) { }")
    found = time_corners(run, *others)
    assert [at.corner for at in found.found] == ["slow"]
    assert found.lacking == ["only", "lost"]
    assert "block_slow" in (tmp_path / "corner_slow.settings.tcl").read_text()


def test_a_tool_that_says_nothing_is_an_error(routed, monkeypatch) -> None:
    monkeypatch.setattr(routed_module, "run_script", openroad("HALUT setup 0.5\n"))
    with pytest.raises(CheckFailed, match="must report slacks and a period at corner only"):
        time_corners(*routed)


def test_energy_follows_the_supply_of_a_corner(routed, tmp_path) -> None:
    run, laid_out, netlist = routed
    # The same cells at half the voltage: internal energy and leakage stay, C V^2 is a quarter.
    for name, voltage in (("tiny.lib", 2.0), ("slow.lib", 1.0)):
        text = support.LIBRARY.replace("nom_voltage : 2.0", f"nom_voltage : {voltage}")
        (tmp_path / "tiny" / name).write_text(text)
    n_nets = len(netlist.netlist.net_names)
    often = np.full(n_nets, 0.5)
    Activity(8, often, often, often).save(tmp_path / ROWS_ACTIVITY)
    corners = Corners([CornerTiming(name, 1.0, 0.1, 0.1, 1.0) for name in ("only", "slow")], [])
    found = power_at_corners(run, laid_out, netlist, corners).found
    assert [(at.corner, at.voltage) for at in found] == [("only", 2.0), ("slow", 1.0)]
    assert 0 < found[1].total < found[0].total


def test_the_worst_hold_slack_is_a_metric() -> None:
    metrics = Metrics()
    at = [CornerTiming(name, 1.0, 0.1, hold, 1.0) for name, hold in (("a", 0.2), ("b", -0.1))]
    set_corners(metrics, Corners(at, ["c"]))
    assert metrics.values["halut__routed__corners__hold__ws"] == -0.1
    assert metrics.notes["corners"]["a"]["hold"] == 0.2
    assert metrics.notes["corners_lacking"] == "c"
    metrics = Metrics()
    set_corners(metrics, Corners([], ["a"]))
    assert metrics.values["halut__routed__corners__hold__ws"] is None
