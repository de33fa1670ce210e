import numpy as np
import pytest

from flow.power.activity import Activity
from flow.power.opensta import input_activity, opensta_power, read_power, reads_activity
from flow.power.saif import saif
from flow.tools import Tool
from halut.errors import CheckFailed
from tests.flow import support
from tests.flow.tcl_stub import RELEASES, run_stub

REPORT = """
  Internal  Switching    Leakage      Total
     Power      Power      Power      Power   (Watts)
--------------------------------------------
1.0e-03 2.0e-03 3.0e-09 3.000003e-03 first
0.5e-03 0.0e+00 1.0e-09 0.500001e-03 second
1.0e-04 1.0e-04 1.0e-09 2.000010e-04 invert
"""


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("2.0.17", False),
        ("2.7.0", False),
        ("3.0", True),
        ("3.1.0", True),
        ("25Q3", False),
        ("25Q4", True),
        ("26Q3-10-gabc12", True),
        ("26Q1", True),
        ("", False),
    ],
)
def test_versions_that_keep_activity(version, known):
    assert reads_activity(Tool("opensta", ("sta",), version)) is known


def test_power_of_every_cell_is_read_in_mw_or_refused(tmp_path):
    netlist = support.chain(support.tiny_library(tmp_path))
    path = tmp_path / "power.rpt"
    path.write_text(REPORT + "1.0e-05 1.0e-05 1.0e-09 2.0001e-05 join\n")
    found = read_power(path, netlist)
    order = [instance.name for instance in netlist.instances]
    expected = {
        "first": (1.0, 2.0, 3e-6), "second": (0.5, 0, 1e-6), "invert": (0.1, 0.1, 1e-6),
        "join": (0.01, 0.01, 1e-6),
    }  # fmt: skip
    assert pytest.approx(np.array([expected[name] for name in order])) == found.T
    path.write_text(REPORT)
    with pytest.raises(CheckFailed, match=r"power of every cell must be reported, not 1 left out"):
        read_power(path, netlist)


def test_activity_of_ports_and_pins(tmp_path):
    library = support.tiny_library(tmp_path)
    netlist = support.chain(library)
    n_nets = len(netlist.net_names)
    toggles, duty = np.arange(n_nets) / 4, np.full(n_nets, 0.25)
    activity = Activity(8, toggles, toggles, duty)
    (net,) = next(port.nets for port in netlist.ports if port.name == "b")
    assert input_activity(netlist, "clk", activity) == ["b", net / 4, 0.25]
    text = saif(netlist, library, activity, 1000)
    assert "(DURATION 8000)" in text
    out = netlist.instances[0].pins["Q"]
    assert f"(INSTANCE first (NET (Q (T0 6000) (T1 2000) (TX 0) (TC {2 * out}))))" in text
    assert text.count("(INSTANCE") == 1 + 4


@pytest.mark.needs("tcl")
@pytest.mark.parametrize("release", RELEASES)
def test_opensta_is_given_the_activity_of_all_pins(tmp_path, release):
    """A stand-in answers; its script has only commands that releases have."""
    library = support.tiny_library(tmp_path)
    netlist = support.chain(library)
    n_nets = len(netlist.net_names)
    toggles = np.arange(n_nets) / 4
    activity = Activity(8, toggles, toggles, np.full(n_nets, 0.25))
    folder = tmp_path / "timing"
    folder.mkdir()
    (folder / "constraints.sdc").write_text("create_clock -period 2 clk\n")
    (tmp_path / "netlist.v").write_text(netlist.verilog())
    (folder / "answer").write_text(REPORT + "1.0e-05 1.0e-05 1.0e-09 2.0001e-05 join\n")
    answer = support.stub(tmp_path, "sta", "cp answer power.rpt; echo HALUT done")
    power = opensta_power(
        Tool("opensta", (str(answer),), "3.1"), netlist, library, "clk", activity,
        [tmp_path / "tiny.lib"], tmp_path / "netlist.v", folder, 1000,
    )  # fmt: skip
    assert power.total == pytest.approx(1.61 + 2.11 + 6e-6)
    assert power.method == "OpenSTA 3.1 read_saif"
    calls = run_stub(folder / "power.tcl", release)
    names = [call[0] for call in calls]
    expected = ["read_liberty", "read_verilog", "link_design", "create_clock", "read_saif",
                "set_power_activity", "report_power"]  # fmt: skip
    positions = [names.index(name) for name in expected]
    assert positions == sorted(positions)
    (ports,) = [call[1:] for call in calls if call[0] == "set_power_activity"]
    (net,) = next(port.nets for port in netlist.ports if port.name == "b")
    assert ports == ["-input_ports", "b", "-activity", f"{net / 4:.9g}", "-duty", "0.25"]


@pytest.mark.parametrize("script", ["exit 0", "echo 'Error: no such cell'"])
def test_a_script_that_stops_early_is_refused(tmp_path, script):
    library = support.tiny_library(tmp_path)
    netlist = support.chain(library)
    nothing = np.zeros(len(netlist.net_names))
    (tmp_path / "netlist.v").write_text("")
    (tmp_path / "constraints.sdc").write_text("")
    tool = Tool("opensta", (str(support.stub(tmp_path, "sta", script)),), "3.1")
    with pytest.raises(CheckFailed, match=r"OpenSTA must finish power\.tcl.*power\.log\)$"):
        opensta_power(
            tool, netlist, library, "clk", Activity(8, nothing, nothing, nothing),
            [tmp_path / "tiny.lib"], tmp_path / "netlist.v", tmp_path, 1000,
        )  # fmt: skip
