"""The functional check must be able to fail: in a cell of the netlist, and in a cell's model."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from flow.cells.generic import generic_library
from flow.cells.platform_file import read_platform
from flow.netlist.netlist import from_json
from flow.netlist.yosys import SynthOptions, synthesise
from flow.power.activity import read_vcd
from flow.simulation.simulate import run_netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import Constraints
from flow.tools import find_simulator, find_yosys
from halut.errors import CheckFailed
from tests.flow.support import adder

pytestmark = [pytest.mark.flow, pytest.mark.needs("pyosys")]
WARM_UP, WINDOW = 8, 32


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """The adder in Yosys' gates: netlist as JSON, library, platform."""
    folder = tmp_path_factory.mktemp("adder")
    source = folder / "adder.v"
    source.write_text(adder().verilog)
    platform = read_platform("generic")
    path = synthesise(find_yosys(), [source], "adder", folder, platform, None, SynthOptions(), 6.0)
    return json.loads(path.read_text()), generic_library(platform), platform


def _simulator(name):
    tool = find_simulator(name)
    assert tool is not None
    return tool


def _run(mapped, folder, simulator="icarus", change=None, library=None, spoil=False, timed=True):
    data, cells, platform = mapped
    cells = library or cells
    netlist = from_json(data, "adder", {name: c.outputs for name, c in cells.cells.items()})
    if change:
        change(netlist)
    timing = None
    if timed:
        timing = Timing(
            netlist, cells, platform, Constraints(clock="clk_i", period_ns=100.0, quiet=("rst_ni",))
        )
        timing.update()
    run = run_netlist(
        _simulator(simulator),
        netlist,
        cells,
        timing,
        adder(spoil).workload(1, WARM_UP + WINDOW + 4),
        folder,
        clock="clk_i",
        reset="rst_ni",
        period_ns=100.0,
        warm_up=WARM_UP,
        window=WINDOW,
    )
    return run, netlist


def _swap(old, new):
    def change(netlist):
        instance = next(i for i in netlist.instances if i.cell == old)
        instance.cell = new

    return change


@pytest.mark.needs("iverilog")
def test_every_output_is_compared_and_activity_is_counted(mapped, tmp_path):
    run, netlist = _run(mapped, tmp_path)
    assert run.answers == WARM_UP + WINDOW + 4 and run.with_delays
    # One transfer per cycle, one cycle later.
    assert np.all(np.diff(run.input_cycles) == 1)
    assert run.answer_cycles[0] - run.started == 1
    clock = netlist.ports[[port.name for port in netlist.ports].index("clk_i")].nets[0]
    activity = read_vcd(run.dump, len(netlist.net_names), 100_000, WINDOW, np.array([clock]))
    assert activity.toggles[clock] == 2.0
    words = adder().workload(1, WARM_UP + WINDOW + 4).inputs.items
    port = next(port for port in netlist.ports if port.name == "i_data")
    # The window begins with the edge that takes transfer WARM_UP; the bench then shows the next.
    shown = [word for (word,) in words[WARM_UP : WARM_UP + WINDOW + 1]]
    for bit, net in enumerate(port.nets):
        changes = sum((a ^ b) >> bit & 1 for a, b in itertools.pairwise(shown))
        assert activity.toggles[net] * WINDOW == changes
        assert activity.settled[net] == activity.toggles[net]
    # Carries arrive late: some net must glitch, and none can settle more often than it changes.
    assert (activity.settled <= activity.toggles).all()
    assert activity.toggles.sum() > activity.settled.sum()


@pytest.mark.parametrize(
    ("old", "new"), [("$_XOR_", "$_XNOR_"), ("$_NAND_", "$_NOR_"), ("$_XNOR_", "$_XOR_")]
)
@pytest.mark.needs("iverilog")
def test_a_wrong_cell_in_the_netlist_is_caught(mapped, tmp_path, old, new):
    if not any(cell["type"] == old for cell in mapped[0]["modules"]["adder"]["cells"].values()):
        pytest.skip(f"no {old} in this netlist")
    with pytest.raises(CheckFailed, match="the netlist must compute what the model says"):
        _run(mapped, tmp_path, change=_swap(old, new))


@pytest.mark.needs("iverilog")
def test_a_wrong_cell_model_is_caught(mapped, tmp_path):
    library = mapped[1]
    xor = library.cells["$_XOR_"]
    wrong = dataclasses.replace(
        xor, pins={**xor.pins, "Y": dataclasses.replace(xor.pins["Y"], function="A | B")}
    )
    bad = dataclasses.replace(library, cells={**library.cells, "$_XOR_": wrong})
    with pytest.raises(CheckFailed, match="the netlist must compute what the model says"):
        _run(mapped, tmp_path, library=bad)


@pytest.mark.needs("iverilog")
def test_a_wrong_answer_in_the_model_is_caught(mapped, tmp_path):
    with pytest.raises(CheckFailed, match=r"o_data of transfer 22 must be 0x"):
        _run(mapped, tmp_path, spoil=True)


@pytest.mark.needs("iverilog")
def test_a_netlist_without_a_driver_is_caught(mapped, tmp_path):
    def cut(netlist):
        victim = next(i for i in netlist.instances if "Y" in i.pins)
        victim.pins["Y"] = netlist.add_net("nowhere")

    with pytest.raises(CheckFailed):
        _run(mapped, tmp_path, change=cut)


@pytest.mark.needs("verilator")
def test_verilator_gives_the_same_answers(mapped, tmp_path):
    run, _ = _run(mapped, tmp_path, "verilator", timed=False)
    assert run.answers == WARM_UP + WINDOW + 4 and not run.with_delays
