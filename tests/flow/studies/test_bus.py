"""Cycles and bytes behind a bus: the model against simulated Verilog, and what they add up to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from flow.__main__ import main
from flow.studies.bus import BOUNDS, BusSystem, Memory
from flow.studies.network_cost import system
from halut.errors import CheckFailed, HalutError
from halut.workloads import Layer, network
from rtl_gen.axi.config import AxiConfig
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import load_config

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL = AcceleratorConfig.from_yaml(CONFIGS / "small.yaml")
# As large as those that processors use: a row is as long on 32 bits as in the unit.
NARROW = AcceleratorConfig(
    n_codebooks=16, n_prototypes=16, n_outputs=16, encoder="pipelined", memory="lutram",
    input_format="int8", write_word_bits=32,
)  # fmt: skip
PARALLEL = dataclasses.replace(SMALL, rows=4, parallel_codebooks=2, outputs_per_cycle=8)

# name: accelerator, bus, bytes per cycle, latency, shared, row groups, tiles
CASES = {
    "look-ups": (SMALL, {"data_bits": 32}, 4, 10, False, 40, 3),
    "slow memory": (SMALL, {"data_bits": 32}, 1, 10, False, 40, 3),
    "shared": (SMALL, {"data_bits": 32}, 4, 10, True, 40, 3),
    "one row": (SMALL, {"data_bits": 32}, 4, 2, False, 1, 3),
    "one burst on its way": (SMALL, {"data_bits": 32, "outstanding": 1}, 4, 30, False, 40, 3),
    "short, one burst": (SMALL, {"data_bits": 32, "outstanding": 1}, 4, 2, False, 8, 2),
    "one row, one burst": (SMALL, {"data_bits": 32, "outstanding": 1}, 4, 2, False, 1, 3),
    "shared, one row, one burst": (SMALL, {"data_bits": 32, "outstanding": 1}, 4, 2, True, 1, 3),
    "shared, one burst": (SMALL, {"data_bits": 32, "outstanding": 1}, 4, 6, True, 60, 2),
    "wide": (PARALLEL, {"data_bits": 128}, 16, 8, False, 64, 3),
    "as on Wishbone": (NARROW, {"data_bits": 32}, 4, 2, True, 64, 2),
    "as on Wishbone, few rows": (NARROW, {"data_bits": 32}, 4, 2, True, 4, 2),
    "shared and slow": (NARROW, {"data_bits": 64}, 2, 8, True, 16, 2),
    "far away": (NARROW, {"data_bits": 64}, 8, 100, False, 64, 2),
}  # fmt: skip
QUICK = ("shared", "short, one burst")


def _simulator() -> str:
    pytest.importorskip(
        "cocotbext.axi", reason="cocotbext-axi is not installed (pip install .[dev])"
    )
    from sim import runner

    found = runner.available_simulators()
    if not found:
        pytest.skip("no Verilog simulator (pip install -e .[sim])")
    return "icarus" if "icarus" in found else found[0]  # builds in no time


@pytest.mark.sim
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_cycles_are_those_of_the_verilog(name: str) -> None:
    """Bytes are equal; cycles differ by less than 5 %. Every result is compared on the way."""
    simulator = _simulator()
    from sim.axi_timing import simulate_layer

    core, sizes, rate, latency, shared, groups, tiles = CASES[name]
    config = AxiConfig(core=core, **sizes)
    found = simulate_layer(
        config, groups, tiles, bytes_per_cycle=rate, latency_cycles=latency, shared=shared,
        simulator=simulator,
    )  # fmt: skip
    bus = BusSystem(config, Memory(bytes_per_cycle=rate, latency_cycles=latency, shared=shared))
    rows = groups * core.rows
    moved = bus.bytes_moved(rows, tiles)
    assert found["read_bytes"] == moved["tables"] + moved["rows"] + moved["descriptors"] > 0
    assert found["write_bytes"] == moved["results"] > 0
    predicted = bus.cycles(rows, tiles).total
    print(f"{name}: measured {found['cycles']}, predicted {predicted}")  # docs/system.md has them
    assert predicted == pytest.approx(found["cycles"], rel=0.05)


@pytest.mark.sim
def test_a_wrong_result_is_found() -> None:
    simulator = _simulator()
    from sim.axi_timing import simulate_layer

    config = AxiConfig(core=SMALL, data_bits=32)
    with pytest.raises(CheckFailed, match="results must equal the model: 1 of"):
        simulate_layer(
            config, 2, 1, bytes_per_cycle=4, latency_cycles=2, simulator=simulator, wrong_bit=True
        )


def _bus(rate: float, latency: int, *, shared: bool = False, **sizes: int) -> BusSystem:
    memory = Memory(bytes_per_cycle=rate, latency_cycles=latency, shared=shared)
    return BusSystem(AxiConfig(core=SMALL, **sizes), memory)


def _bound(bus: BusSystem, rows: int, tiles: int) -> str:
    return bus.bound(rows, bus.cycles(rows, tiles))


def test_what_binds() -> None:
    assert _bound(_bus(8, 4), 4000, 4) == "look-ups"
    assert _bound(_bus(1, 4), 4000, 4) == "rows"  # 8 bytes in, 4 cycles
    assert _bound(_bus(1, 4, shared=True), 4000, 4) == "rows and results"
    assert _bound(_bus(8, 500), 4, 4) == "waiting"
    assert _bound(_bus(0.01, 4), 1, 4) == "tables"
    for latency in (4, 40, 400):
        cycles = [_bus(8, latency, shared=shared).cycles(40, 3).total for shared in (False, True)]
        assert cycles[0] < cycles[1]
    few = _bus(8, 40).cycles(40, 3)
    assert few.wait > _bus(8, 4).cycles(40, 3).wait and few.load + few.run + few.wait == few.total


def test_a_network_is_the_sum_of_its_layers() -> None:
    dense = load_config(CONFIGS / "dense.yaml")
    memory = Memory(bytes_per_cycle=16, latency_cycles=40)
    bus = BusSystem(AxiConfig(core=dense, data_bits=128), memory)
    alone, found = (
        system("resnet50", network("resnet50"), dense, clock_ns=2.0, bus=b) for b in (None, bus)
    )
    total = found["total"]["bus"]
    assert "bus" not in alone and "bus" not in alone["total"]
    for kind in ("cycles", "bytes"):
        assert total[kind]["total"] == sum(row["bus"][kind]["total"] for row in found["layers"])
        assert total[kind]["total"] == sum(n for part, n in total[kind].items() if part != "total")
    bound = total["cycles_bound_by"]
    assert set(bound) <= set(BOUNDS) and sum(bound.values()) == total["cycles"]["total"]
    for one, other in zip(alone["layers"], found["layers"], strict=True):
        assert one["cycles"] == other["cycles"]
        assert other["bus"]["cycles"]["total"] > one["cycles"]["total"]
    assert found["total"]["inferences_per_s"] == 1e9 / (total["cycles"]["total"] * 2.0)
    assert found["bus"]["latency_cycles"] == 40


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "dense.yaml")
    command = ["system", "--network", "bert_base", "--config", config, "-o", str(tmp_path)]
    assert main([*command, "--memory-bytes", "16", "--memory-latency", "40"]) == 0
    printed = capsys.readouterr().out
    assert "memory: 16 bytes per cycle each way, latency 40 cycles, 64 bits" in printed
    assert "what binds them: rows 100%" in printed
    saved = json.loads((tmp_path / "bert_base-dense.json").read_text())
    assert saved["bus"]["data_bits"] == 64 and saved["layers"][0]["bus"]["bound"] == "rows"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--memory-bytes", "4"], "--memory-bytes and --memory-latency must be given together"),
        (["--shared-bus"], "--memory-bytes must be given with flags of the bus"),
        (["--memory-bytes", "0", "--memory-latency", "4"], "bytes_per_cycle must be a positive"),
        (["--memory-bytes", "4", "--memory-latency", "0"], r"latency_cycles must be .* \[1, "),
        (["--memory-bytes", "4", "--memory-latency", "1", "--shared-bus"], r"must be .* \[2, "),
        (["--memory-bytes", "4", "--memory-latency", "4", "--data-bits", "48"], "data_bits must"),
        (["--memory-bytes", "4", "--memory-latency", "4", "--units", "2"], "units must be 1"),
    ],
)  # fmt: skip
def test_errors(flags: list[str], error: str, tmp_path: Path) -> None:
    from flow.studies.system import main as command

    given = ["--network", "resnet20", "--config", str(CONFIGS / "small.yaml"), "-o", str(tmp_path)]
    with pytest.raises(HalutError, match=error):
        command([*given, *flags])
    assert not list(tmp_path.iterdir())


def test_a_bus_of_something_else_is_refused() -> None:
    layer = Layer(name="a", kind="linear", rows=3, n_features=8, n_outputs=2, n_codebooks=4)
    with pytest.raises(HalutError, match="bus must be of"):
        system("n", [layer], NARROW, bus=_bus(8, 4))
    with pytest.raises(HalutError, match="the bus must be a master's"):
        BusSystem(AxiConfig(core=SMALL, bus="stream"), Memory(bytes_per_cycle=4, latency_cycles=4))
