import numpy as np
import pytest

from flow.power.activity import Activity
from flow.power.opensta import input_activity, read_power, reads_activity
from flow.power.saif import saif
from flow.tools import Tool
from halut.errors import CheckFailed
from tests.flow import support

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
