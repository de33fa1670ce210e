"""Netlist = RTL: the finished netlist is proved, and broken ones are refuted where they differ."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.formal.equivalence import prove_netlist
from flow.formal.pair import Equivalence
from flow.measure import measure
from flow.netlist.netlist import LOW, Netlist
from flow.run.context import Run
from flow.run.mapping import finish, map_design, mapped_files
from flow.run.options import RunOptions
from flow.tools import find_abc, find_yosys
from halut.errors import CheckFailed, HalutError
from rtl_gen import AcceleratorConfig

pytestmark = pytest.mark.flow
pytest.importorskip("pyosys", reason="needs pyosys (pip install -e .[flow])")

CONFIG = AcceleratorConfig(
    n_codebooks=2, n_prototypes=2, n_outputs=1, input_format="int4", lut_bits=4
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(
        accelerator(CONFIG),
        read_platform("generic"),
        RunOptions(),
        tmp_path_factory.mktemp("proof"),
    )
    run.folder.mkdir(parents=True)
    finish(run, map_design(run))
    return run


def prove(run: Run, netlist: Netlist) -> Equivalence:
    return prove_netlist(
        find_abc(),
        find_yosys(),
        run.folder / "rtl.v",
        mapped_files(run)[0],
        netlist,
        run.library,
        "clk_i",
        run.folder / "proof",
    )


def test_finished_netlist_is_proved(finished: Run) -> None:
    found = prove(finished, finished.netlist)
    assert found.difference is None
    kinds = [finished.library.cells[i.cell].kind for i in finished.netlist.instances]
    assert found.registers == kinds.count("ff") > 20
    # 2 codebooks of 2 entries of 4 bits, and 2 thresholds.
    assert found.latches == kinds.count("latch") == 2 * 2 * 4 + 2 * 4
    ports = [port for port in finished.netlist.ports if port.direction == "output"]
    assert found.outputs == sum(len(port.nets) for port in ports) > 0


def test_exchanged_pins_are_found_where_they_are(finished: Run) -> None:
    broken = copy.deepcopy(finished.netlist)
    units = {path: index for index, (path, _) in enumerate(broken.units)}
    latches = [
        instance
        for instance in broken.instances
        if instance.unit == units["block0.decoder0.lane0"] and "LATCH" in instance.cell
    ]
    latches[0].pins["Q"], latches[1].pins["Q"] = latches[1].pins["Q"], latches[0].pins["Q"]
    found = prove(finished, broken)
    assert found.difference is not None
    assert found.difference.unit.startswith("block0.decoder0")
    assert found.difference.inputs
    assert {found.difference.rtl, found.difference.netlist} == {0, 1}


def test_difference_for_one_input_in_a_million_is_found(finished: Run) -> None:
    broken = copy.deepcopy(finished.netlist)
    data = [net for port in broken.ports if port.name == "program_data" for net in port.nets]
    stored = [i.pins["Q"] for i in broken.instances if i.cell == "$_DLATCH_P_"]
    rare, *others = [*data, *stored][:24]
    for number, net in enumerate(others):
        output = broken.add_net(f"rare{number}")
        broken.add_instance("rare_u", "$_AND_", {"A": rare, "B": net, "Y": output})
        rare = output
    port = next(port for port in broken.ports if port.name == "o_valid")
    output = broken.add_net("twin")
    broken.add_instance("twin_u", "$_XOR_", {"A": port.nets[0], "B": rare, "Y": output})
    port.nets[0] = output
    found = prove(finished, broken)
    assert found.difference is not None
    assert (found.difference.unit, found.difference.output) == ("the top (halut_matmul)", "o_valid")
    assert all(found.difference.inputs[f"program_data[{bit}]"] for bit in range(len(data)))


def test_missing_clock_gate_enable_is_found(finished: Run) -> None:
    broken = copy.deepcopy(finished.netlist)
    gates = [i for i in broken.instances if i.cell == "halut_clock_gate"]
    gates[0].pins["en_i"], gates[1].pins["en_i"] = gates[1].pins["en_i"], gates[0].pins["en_i"]
    assert prove(finished, broken).difference is not None


@pytest.mark.parametrize("pin", ["C", "D"])
def test_clock_and_data_are_kept_apart(finished: Run, pin: str) -> None:
    broken = copy.deepcopy(finished.netlist)
    register = next(i for i in broken.instances if i.cell == "$_DFF_P_")
    clock = next(port for port in broken.ports if port.name == "clk_i").nets[0]
    register.pins[pin] = LOW if pin == "C" else clock
    with pytest.raises(
        HalutError, match=r"must (clock every stored bit by port clk_i|not use the clock)"
    ):
        prove(finished, broken)


def test_other_netlist_is_refused(finished: Run) -> None:
    broken = copy.deepcopy(finished.netlist)
    broken.net_names[0] = "another"
    with pytest.raises(HalutError, match="the netlist must be made of"):
        prove(finished, broken)


def test_flow_records_the_proof(tmp_path: Path) -> None:
    options = RunOptions(power=False, prove=True)
    metrics, _ = measure(accelerator(CONFIG), read_platform("generic"), options, tmp_path)
    assert metrics.values["synth__proof__latches"] == 24
    assert metrics.notes["proof"].startswith("netlist = RTL for ")


def test_flow_stops_at_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Netlist.sweep

    def broken(netlist: Netlist, outputs: dict) -> int:
        """Synthesis that mistakes a gate."""
        removed = sweep(netlist, outputs)
        next(i for i in netlist.instances if i.cell == "$_NAND_").cell = "$_NOR_"
        return removed

    monkeypatch.setattr(Netlist, "sweep", broken)
    options = RunOptions(power=False, prove=True)
    with pytest.raises(CheckFailed, match="must equal the RTL, not differ in ") as caught:
        measure(accelerator(CONFIG), read_platform("generic"), options, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/generic/*/metrics.json"))
    assert list(tmp_path.glob("*/generic/*/proof/difference.txt"))
