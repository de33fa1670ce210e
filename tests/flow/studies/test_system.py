"""System figures: the cycle model against simulated Verilog, and the sums by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from flow.__main__ import main
from flow.figures.metrics import Metrics
from flow.studies.cycles import tile_cycles
from flow.studies.network_cost import system
from flow.studies.system import summary
from halut import golden
from halut.errors import HalutError
from halut.schedule import schedule
from halut.tiles import tile
from halut.workloads import Layer, network
from rtl_gen.config import AcceleratorConfig
from rtl_gen.machine import machine
from rtl_gen.tiled_config import TiledConfig, load_config

SMALL = Path(__file__).parents[3] / "configs" / "small.yaml"
CONFIG = AcceleratorConfig.from_yaml(SMALL)  # C = 4, K = 4, M = 2, P = Q = W = 1
TWO_BANKS = dataclasses.replace(CONFIG, double_buffer=True)
LAYER = Layer(name="a", kind="linear", rows=37, n_features=48, n_outputs=5, n_codebooks=6)

CONFIGS = {
    "serial": CONFIG,
    "interleaved": dataclasses.replace(
        CONFIG, n_prototypes=8, encoder="interleaved", input_format="fp16"
    ),
    "parallel": dataclasses.replace(CONFIG, rows=4, parallel_codebooks=2, outputs_per_cycle=8),
    "slow output": dataclasses.replace(
        CONFIG, rows=2, parallel_codebooks=4, n_outputs=3, outputs_per_cycle=1
    ),
    "tiled": TiledConfig(unit=CONFIG, row_tiles=2, codebook_tiles=2),
}


def _simulator() -> str:
    pytest.importorskip("cocotb", reason="cocotb is not installed (pip install -e .[sim])")
    from sim import runner

    found = runner.available_simulators()
    if not found:
        pytest.skip("no Verilog simulator (pip install -e .[sim])")
    return "icarus" if "icarus" in found else found[0]  # builds in no time


@pytest.mark.sim
@pytest.mark.parametrize("name", CONFIGS)
def test_cycles_equal_those_of_the_verilog(name: str) -> None:
    """A whole layer, tile by tile: cycles of loading and of running, exactly."""
    from sim import simulate_all

    config = CONFIGS[name]
    rng = np.random.default_rng(1)
    program = golden.random_program(
        rng, LAYER.codebooks(), config.n_prototypes, LAYER.n_outputs, config.input_format,
        config.lut_bits,
    )  # fmt: skip
    tiles = tile(program, config.n_codebooks, config.n_outputs).tiles
    rows = rng.uniform(-9, 9, (int(LAYER.rows), program.n_features))
    runs = simulate_all(config, [(part, rows) for part in tiles], simulator=_simulator())
    figures = system("test", [LAYER], config)["layers"][0]
    cycles = figures["cycles"]
    assert figures["tiles"] == len(tiles) > 1
    assert sum(run.load_cycles for run in runs) == cycles["load"]
    assert sum(run.cycles for run in runs) == cycles["stream"] + cycles["drain"]
    assert cycles["settle"] == len(tiles)
    assert cycles["total"] == sum(cycles[k] for k in ("load", "settle", "stream", "drain"))


@pytest.mark.sim
def test_cycles_of_a_network_equal_those_of_the_verilog(tmp_path: Path) -> None:
    """Convolutions, groups and a linear layer, exported from torch and run on the Verilog."""
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    simulator = _simulator()
    from halut.nn import LayerConfig, convert_
    from halut.nn.network import export_network
    from sim.network import simulate_network

    torch.manual_seed(1)
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3, stride=2), nn.ReLU(),
        nn.Conv2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    config = LayerConfig(n_prototypes=4, input_format="int8")
    convert_(model, config, torch.randn(100, 1, 8, 8), lambda name, _: name != "0")
    export_network(model.eval(), tmp_path, torch.zeros(1, 1, 8, 8))
    layers = network(str(tmp_path / "network.json"))
    figures = system("test", layers, CONFIG, batch=3)
    images = torch.randn(3, 1, 8, 8)
    result = simulate_network(CONFIG, model, images, batch=3, simulator=simulator)
    for run, layer in zip(result.layers, figures["layers"], strict=True):
        cycles = layer["cycles"]
        assert (run.name, run.tiles) == (layer["name"], layer["tiles"])
        assert run.load_cycles == cycles["load"], run.name
        assert run.cycles == cycles["stream"] + cycles["drain"], run.name
    exact = figures["exact_layers"]
    assert [(row["name"], row["macs"]) for row in exact] == [("0", 3 * 36 * 9 * 5)]


def test_several_units_and_two_banks_are_the_schedules() -> None:
    """The one formula, `halut.schedule`, for every kind of accelerator."""
    four = load_config(SMALL.with_name("four_units.yaml"))
    for config in (four, dataclasses.replace(TWO_BANKS, output_format="int8")):
        plan = schedule(37, config.n_codebooks, config.n_outputs, machine(config))
        assert tile_cycles(config, 37).total == plan.cycles
    found = system("n", [LAYER], four)
    assert found["layers"][0]["tiles"] == 1 and found["configuration"]["tiles"]["rows"] == 2


@pytest.mark.parametrize("n_rows", [1, 3, 37])
@pytest.mark.parametrize("output_format", ["raw", "int8"])
def test_two_banks_hide_what_is_loaded_while_rows_are_sent(n_rows: int, output_format: str) -> None:
    """`halut.schedule`'s cycles, which equal the Verilog's, for any number of tiles."""
    config = dataclasses.replace(TWO_BANKS, output_format=output_format)
    words = tile_cycles(config, n_rows).load
    for n_tiles in (1, 2, 3, 4, 5, 9, 30):
        found = tile_cycles(config, n_rows, n_tiles)
        plan = schedule(n_rows, 4, 2 * n_tiles, machine(config), order="tables")
        assert found.total == plan.cycles
        assert found.stream == n_tiles * n_rows * 4
        assert words <= found.load <= n_tiles * words
        assert min(found.settle, found.drain) > 0
        if n_rows == 37:  # 148 cycles for 20 words: nothing but the first program is waited for
            assert found.load == words
    layer = dataclasses.replace(LAYER, rows=n_rows)
    one, two = (system("n", [layer], c)["layers"][0] for c in (CONFIG, config))
    assert two["cycles"]["total"] == schedule(n_rows, 6, 5, machine(config), order="tables").cycles
    assert two["streams"]["program"]["transfers"] == 6 * words
    assert output_format == "int8" or one["cycles"]["total"] > two["cycles"]["total"]


def test_energy_counts_the_leakage_of_hidden_words_once() -> None:
    metrics = measured(TWO_BANKS, halut__energy__per_program_word=7.0)
    row = system("n", [LAYER], TWO_BANKS, metrics=metrics)["layers"][0]
    cycles, energy = row["cycles"], row["energy_pj"]
    assert cycles["load"] == 20
    assert energy["load"] == 6 * 20 * 7.0 - 5 * 20 * 0.25 * 2
    assert energy["other_cycles"] == (cycles["settle"] + cycles["drain"]) * 0.25 * 2
    # Four units share 6 tiles twice, with half of the rows each: 3 tiles each, 2 of them hidden.
    row = system("n", [LAYER], TWO_BANKS, units=4, metrics=metrics)["layers"][0]
    assert (row["tiles"], row["row_parts"]) == (6, 2)
    assert row["energy_pj"]["load"] == 12 * 20 * 7.0 - 8 * 20 * 0.25 * 2
    # Five: one has a second tile.
    row = system("n", [dataclasses.replace(LAYER, rows=1)], TWO_BANKS, units=5, metrics=metrics)
    (row,) = row["layers"]
    hidden = 6 * 20 - 4 * 20 - row["cycles"]["load"]
    assert hidden > 0
    assert row["energy_pj"]["load"] == 6 * 20 * 7.0 - hidden * 0.25 * 2


def measured(config: AcceleratorConfig, **values: float) -> Metrics:
    metrics = Metrics()
    metrics.provenance = {"slug": config.slug, "design": config.name}
    metrics.values |= {
        "synth__timing__clock__period": 2.0,
        "halut__energy__per_cycle": 3.0,
        "synth__power__leakage__total": 0.25,
        "halut__design__look_ups_per_cycle": 2.0,
        **values,
    }
    return metrics


def direct() -> Metrics:
    metrics = Metrics()
    metrics.values["halut__energy__per_mac"] = 0.5
    return metrics


def test_figures_by_hand() -> None:
    """C = 6 and M = 5 on C = 4 and M = 2: 2 x 3 tiles of 37 rows, four cycles each."""
    first = Layer(name="f", kind="linear", rows=10, n_features=8, n_outputs=2, exact="first layer")
    found = system("n", [first, LAYER], CONFIG, metrics=measured(CONFIG), exact=direct())
    (row,), total = found["layers"], found["total"]
    words = 4 * 1 + 4 * 4  # a word of 3 thresholds per codebook; 16 table words of 2 entries
    drain = CONFIG.latency_cycles + 2 - 1  # two beats
    assert row["cycles"] == {
        "load": 6 * words, "settle": 6, "stream": 6 * 37 * 4, "drain": 6 * drain,
        "total": 6 * (words + 1 + 37 * 4 + drain),
    }  # fmt: skip
    assert (row["tiles"], row["grid"], row["look_ups"]) == (6, [2, 3], 37 * 6 * 5)
    assert row["look_ups_made"] == 6 * 37 * 4 * 2
    cycles = row["cycles"]["total"]
    assert row["utilisation"] == pytest.approx(37 * 6 * 5 / (cycles * 2))
    # T = 2 values of 8 bits per transfer; one sum of 10 bits per beat; words of 24 bits.
    assert row["streams"]["input"]["bits"] == 6 * 37 * 4 * 16
    assert row["streams"]["output"]["bits"] == 6 * 37 * 2 * 10
    assert row["streams"]["program"]["bits"] == 6 * words * CONFIG.program_data_bits
    assert row["streams"]["input"]["gbytes_per_s"] == pytest.approx(6 * 37 * 4 * 2 / (cycles * 2))
    assert row["lut"] == {"loaded_bits": 6 * 4 * 4 * 2 * 8, "read_bits": 6 * 37 * 4 * 2 * 8}
    assert total["inferences_per_s"] == pytest.approx(1e9 / (cycles * 2.0))
    stream = 6 * 37 * 4
    assert row["energy_pj"] == {
        "stream": stream * 3.0, "other_cycles": (cycles - stream) * 0.25 * 2, "load": None,
        "without_load": stream * 3.0 + (cycles - stream) * 0.5, "total": None,
    }  # fmt: skip
    assert "program words" in found["reasons"]["energy of loading"]
    assert total["exact_share_of_macs"] == pytest.approx(160 / (160 + 37 * 48 * 5))
    energy = row["energy_pj"]["without_load"]
    assert total["exact_share_of_energy"] == pytest.approx(80 / (80 + energy))
    assert "exact, not on this accelerator: f (first layer)" in summary(found)


def test_energy_of_loading_is_taken_when_it_was_measured() -> None:
    metrics = measured(CONFIG, halut__energy__per_program_word=7.0)
    total = system("n", [LAYER], CONFIG, metrics=metrics)["total"]
    energy = total["energy_per_inference_pj"]
    assert energy["load"] == 6 * 20 * 7.0
    waiting = total["cycles"]["settle"] + total["cycles"]["drain"]
    assert energy["other_cycles"] == pytest.approx(waiting * 0.25 * 2)
    assert energy["total"] == energy["without_load"] + energy["load"]


def test_energies_of_a_layout_are_taken_where_there_is_one() -> None:
    metrics = measured(
        CONFIG, halut__energy__per_program_word=7.0, halut__routed__energy_per_cycle=30.0,
        finish__power__leakage__total=2.5,
    )  # fmt: skip
    found = system("n", [LAYER], CONFIG, metrics=metrics)
    energy, cycles = found["total"]["energy_per_inference_pj"], found["total"]["cycles"]
    assert found["energy_measured_on"] == "layout"
    assert energy["stream"] == cycles["stream"] * 30.0
    # Never a figure of the synthesised netlist beside one of the layout.
    assert energy["load"] is None and energy["total"] is None
    assert energy["other_cycles"] == (cycles["total"] - cycles["stream"]) * 2.5 * 2
    assert "measured on the routed layout" in summary(found)
    metrics.values["halut__routed__energy_per_program_word"] = 70.0
    found = system("n", [LAYER], CONFIG, metrics=metrics)
    assert found["total"]["energy_per_inference_pj"]["load"] == 6 * 20 * 70.0


def test_nothing_measured_is_null_with_a_reason() -> None:
    found = system("n", [LAYER], CONFIG)
    assert found["total"]["inferences_per_s"] is None
    assert found["total"]["energy_per_inference_pj"]["total"] is None
    assert found["layers"][0]["streams"]["input"]["gbytes_per_s"] is None
    assert {"time", "energy", "energy of exact layers"} <= set(found["reasons"])
    assert "null: energy: not measured" in summary(found)


def test_a_batch_shares_one_loading() -> None:
    one, ten = (system("n", [LAYER], CONFIG, batch=n, clock_ns=1.0) for n in (1, 10))
    assert ten["layers"][0]["cycles"]["load"] == one["layers"][0]["cycles"]["load"]
    assert ten["layers"][0]["cycles"]["stream"] == 10 * one["layers"][0]["cycles"]["stream"]
    assert ten["total"]["inferences_per_s"] > one["total"]["inferences_per_s"]


@pytest.mark.parametrize("units", [1, 2, 3, 6, 7, 24])
def test_units_share_tiles_and_then_rows(units: int) -> None:
    row = system("n", [LAYER], CONFIG, units=units)["layers"][0]
    one = tile_cycles(CONFIG, 37)
    if units <= 6:
        assert row["cycles"]["total"] == -(-6 // units) * one.total
    elif units == 24:  # four units to a tile, ten rows each
        assert row["row_parts"] == 4
        assert row["cycles"]["total"] == tile_cycles(CONFIG, 10).total
    else:  # one unit more than tiles is no help
        assert row["cycles"]["total"] <= one.total
    assert row["utilisation"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_prototypes": 8}, "n_prototypes must be at most the accelerator's 4, not 8"),
        ({"lut_bits": 12}, "lut_bits must be at most the accelerator's 8, not 12"),
        ({"input_format": "fp16"}, "input_format must be the accelerator's int8 or a narrower"),
        ({"input_format": "int9"}, "input_format must be the accelerator's int8 or a narrower"),
    ],
)
def test_a_layer_must_fit(change: dict, message: str) -> None:
    with pytest.raises(HalutError, match=re.escape(message) + r".*\(layer a, config"):
        system("n", [dataclasses.replace(LAYER, **change)], CONFIG)
    system("n", [dataclasses.replace(LAYER, input_format="int6", lut_bits=4)], CONFIG)


def test_metrics_must_be_of_the_configuration(tmp_path: Path, capsys) -> None:
    other = dataclasses.replace(CONFIG, rows=2)
    with pytest.raises(HalutError, match="--metrics must be of c4_"):
        system("n", [LAYER], CONFIG, metrics=measured(other))
    with pytest.raises(HalutError, match="--exact-metrics must be of a direct engine"):
        system("n", [LAYER], CONFIG, exact=measured(CONFIG))
    with pytest.raises(HalutError, match="--codebook-width must not be given for a network whose"):
        system("n", [LAYER], CONFIG, codebook_width=4)
    with pytest.raises(HalutError, match="must have a looked-up layer"):
        system("n", [dataclasses.replace(LAYER, exact="first layer")], CONFIG)
    # From the shell, with files.
    measured(CONFIG).write(tmp_path / "metrics.json")
    command = ["system", "--network", "resnet9", "--config", str(SMALL), "-o", str(tmp_path)]
    assert main([*command, "--metrics", str(tmp_path / "metrics.json")]) == 0
    data = json.loads((tmp_path / "resnet9-small.json").read_text())
    assert data["clock_ns"] == 2.0 and data["total"]["tiles"] > 1000
    assert capsys.readouterr().out.endswith("resnet9-small.json\n")
    with pytest.raises(HalutError, match=r"--exact-metrics must .*metrics.json\)"):
        main([*command, "--exact-metrics", str(tmp_path / "metrics.json")])


def test_a_network_with_arguments_keeps_its_name(tmp_path: Path) -> None:
    """Its file must not be another network's; kernels have the codebooks that are asked for."""
    command = ["system", "--config", str(SMALL), "-o", str(tmp_path), "--network"]
    assert main([*command, "resnet9:width=8,image_size=28"]) == 0
    plain = json.loads((tmp_path / "resnet9_width_8_image_size_28-small.json").read_text())
    assert plain["network"] == "resnet9:width=8,image_size=28"
    assert main([*command, "resnet9:width=8", "--codebook-width", "3"]) == 0
    narrow = json.loads((tmp_path / "resnet9_width_8-small.json").read_text())
    for layer, before in zip(narrow["layers"], plain["layers"], strict=True):
        assert layer["n_codebooks"] == 3 * before["n_codebooks"]
    with pytest.raises(HalutError, match=r"--codebook-width must be an integer in \[1, 1048576\]"):
        main([*command, "resnet9", "--codebook-width", "0"])
