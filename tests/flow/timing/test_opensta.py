"""OpenSTA and this project's own timer agree, and both read what they are given."""

import re
from dataclasses import replace

import pytest

from flow.cells.liberty import load_libraries
from flow.cells.platform_file import read_platform
from flow.netlist.netlist import from_json
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from flow.timing.opensta import SEARCH, opensta_timing, plain_liberty
from flow.timing.sdc import constraints_sdc
from flow.tools import find_sta
from halut.errors import CheckFailed
from tests.flow import support
from tests.flow.tcl_stub import RELEASES, run_stub

CONSTRAINTS = Constraints(clock="clk", period_ns=2.0)
STA = pytest.mark.skipif(find_sta() is None, reason="no OpenSTA (apt install opensta)")
NANGATE45 = pytest.mark.needs("nangate45")


def chain(first):
    """b -> a register or latch -> inverter -> NAND with b -> register -> y."""
    top = support.module(
        {"clk": ("input", [2]), "b": ("input", [3]), "y": ("output", [7])},
        {
            "first": first,
            "invert": ("INV_X1", {"A": 4, "ZN": 5}),
            "join": ("NAND2_X1", {"A1": 5, "A2": 3, "ZN": 6}),
            "second": ("DFF_X1", {"CK": 2, "D": 6, "Q": 7}),
        },
    )
    platform = read_platform("nangate45")
    library = load_libraries(platform.liberty_files())
    netlist = from_json({"modules": {"top": top}}, "top", support.outputs(library))
    return netlist, library, platform


REGISTER = "DFF_X1", {"CK": 2, "D": 3, "Q": 4}
LATCH = "DLH_X1", {"G": 2, "D": 3, "Q": 4}


def measure(folder, first):
    netlist, library, platform = chain(first)
    (folder / "netlist.v").write_text(netlist.verilog())
    ours = Timing(netlist, library, platform, CONSTRAINTS)
    ours.update()
    theirs = opensta_timing(
        find_sta(), netlist, library, platform, CONSTRAINTS,
        plain_liberty(platform.liberty_files(), folder), folder / "netlist.v", folder / "timing",
        1.0,
    )  # fmt: skip
    return ours, theirs


@STA
@NANGATE45
@pytest.mark.parametrize("name", ["plain", "a {b"])
def test_both_timers_agree(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    ours, theirs = measure(folder, REGISTER)
    assert theirs.slack == pytest.approx(ours.worst_slack(), abs=1e-5)
    assert theirs.shortest_period == pytest.approx(ours.shortest_period(), rel=1.1e-3)
    assert theirs.write_slack == 0
    assert theirs.hold_slack > 0


@STA
@NANGATE45
def test_paths_end_at_latches_and_do_not_run_through_them(tmp_path):
    ours, theirs = measure(tmp_path, LATCH)
    # Latches' data are a group of their own. A path through the latch would be 0.4 ns longer.
    others = ours.end_slack()[ours.end_instance != 0]
    assert theirs.slack == pytest.approx(others.min(), abs=1e-5)
    # The port's word arrives while the latch is open: it borrows.
    assert theirs.write_slack == pytest.approx(0, abs=1e-5)


@STA
@NANGATE45
def test_a_netlist_without_paths_is_refused_in_one_line(tmp_path):
    netlist, library, platform = chain(REGISTER)
    (tmp_path / "netlist.v").write_text("module top (clk);\n  input clk;\nendmodule\n")
    with pytest.raises(CheckFailed, match=r"OpenSTA must .*timing\.log\)$") as error:
        opensta_timing(
            find_sta(), netlist, library, platform, CONSTRAINTS,
            plain_liberty(platform.liberty_files(), tmp_path), tmp_path / "netlist.v",
            tmp_path / "timing", 1.0,
        )  # fmt: skip
    assert "\n" not in str(error.value)


def test_clock_and_quiet_ports_have_no_delays(tmp_path):
    library, platform = support.tiny_library(tmp_path), support.tiny_platform(tmp_path)
    netlist = support.chain(library)
    text = constraints_sdc(netlist, library, platform, CONSTRAINTS)
    found = dict(re.findall(r"^  (\w+) (.*)$", text.split("\n}\n")[0], re.M))
    assert (found["clock"], found["inputs"], found["outputs"]) == ("clk", "{b}", "{y}")
    assert found["latch_arcs"] == "{tiny/LATCH D Q}"
    quiet = constraints_sdc(netlist, library, platform, replace(CONSTRAINTS, quiet=("b", "y")))
    assert "inputs {}" in quiet and "outputs {}" in quiet


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("guess", [0.5, 2.0, 7.0])
@pytest.mark.parametrize(
    ("clk", "write", "latches", "shortest"),
    [
        ("$p - 1.7", "none", "", 1.7),
        ("0.3 * $p - 0.9", "none", "", 3.0),
        # Latches borrow until there is no more to borrow.
        ("$p - 1.7", "min(0, $p - 1.2)", "latch", 1.7),
        ("$p - 1.7", "min(0, $p - 2.5)", "latch", 2.5),
        ("min($p - 1.7, 0.6 * $p - 1.2)", "0", "latch", 2.0),
    ],
)
def test_the_shortest_period_is_found_to_a_thousandth(clk, write, latches, guess, shortest):
    model = f"""
    set halut_latches [list {latches}]
    proc set_period {{period}} {{ set ::p $period }}
    proc find_timing_paths {{args}} {{ return [lindex $args 1] }}
    proc get_property {{group what}} {{
      set p $::p
      return [expr {{$group eq "clk" ? {clk} : {write if latches else 0}}}]
    }}
    """
    calls = run_stub(
        [model, SEARCH, f"utl::metric found [halut_shortest {guess} set_period]"], RELEASES[0]
    )  # fmt: skip
    found = float(calls[-1][-1])
    assert shortest <= found * (1 + 1e-9) and found <= shortest * 1.005
