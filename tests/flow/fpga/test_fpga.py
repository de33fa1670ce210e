"""On an FPGA: the self-test in simulation, mapped and placed, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flow.designs.design import accelerator
from flow.designs.direct import engine
from flow.figures.metrics import read_metrics
from flow.fpga.cli import main
from flow.fpga.implement import FpgaOptions, implement
from flow.fpga.parts import board, boards, part, parts
from flow.fpga.self_test import self_test
from halut.errors import HalutError
from rtl_gen import AcceleratorConfig, TiledConfig
from rtl_gen.direct import SystolicConfig

SMALL = AcceleratorConfig(
    name="fpga", n_codebooks=2, n_prototypes=4, n_outputs=6, outputs_per_cycle=2, memory="lutram"
)
DESIGNS = {
    "accelerator": lambda: accelerator(SMALL),
    "several units": lambda: accelerator(TiledConfig(unit=SMALL, output_tiles=2)),
    "systolic": lambda: engine(SystolicConfig(rows=2, columns=2)),
}
_BENCH = """\
module bench;
  reg clk = 0;
  wire [2:0] leds;
  always #5 clk = !clk;
  halut_self_test top(clk, leds);
  initial begin #{time} $display("%b", leds); $finish; end
endmodule
"""


def _leds(folder: Path, design, spoilt: str = "", wrong: int = 0, cycles: int = 2000) -> str:
    """The LEDs after that many cycles; a bit is wrong in word `wrong` of the file `spoilt`."""
    verilog, files = self_test(design, seed=1, n_transfers=12)
    assert verilog.count("&cycle") == 1
    for name, text in files.items():
        words = text.split()
        if name == spoilt:
            words[wrong] = f"{int(words[wrong], 16) ^ 1:x}"
        (folder / name).write_text("\n".join(words) + "\n")
    (folder / "design.v").write_text(design.verilog)
    # The time limit, which is long for LEDs.
    (folder / "top.v").write_text(verilog.replace("&cycle", f"cycle == {cycles - 10}"))
    (folder / "bench.v").write_text(_BENCH.format(time=10 * cycles))
    subprocess.run(
        ["iverilog", "-g2005", "-o", "bench", "design.v", "top.v", "bench.v"],
        cwd=folder, check=True,
    )  # fmt: skip
    done = subprocess.run(
        ["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.split()[-1]


@pytest.mark.flow
@pytest.mark.needs("iverilog")
@pytest.mark.parametrize("name", DESIGNS)
def test_the_self_test_passes(name: str, tmp_path: Path) -> None:
    assert _leds(tmp_path, DESIGNS[name]()) == "010"


@pytest.mark.flow
@pytest.mark.needs("iverilog")
@pytest.mark.parametrize(("spoilt", "wrong"), [("setup0.hex", -1), ("results.hex", 5)])
def test_one_wrong_bit_fails(spoilt: str, wrong: int, tmp_path: Path) -> None:
    # One codebook of two prototypes: rows read every word of the tables.
    unit = AcceleratorConfig(n_codebooks=1, n_prototypes=2, n_outputs=2, memory="lutram")
    assert _leds(tmp_path, accelerator(unit), spoilt, wrong) == "100"


@pytest.mark.flow
@pytest.mark.needs("iverilog")
def test_too_few_results_fail(tmp_path: Path) -> None:
    design = accelerator(SMALL)
    assert _leds(tmp_path, design, cycles=40) == "100"


@pytest.mark.flow
@pytest.mark.needs("pyosys", "nextpnr-ecp5")
def test_a_part(tmp_path: Path) -> None:
    design = accelerator(SMALL)
    metrics, folder = implement(design, part("ecp5-85k"), FpgaOptions(), tmp_path)
    values = read_metrics(folder / "metrics.json").values
    assert values == metrics.values
    assert values["halut__fpga__luts"] > 20 and values["halut__fpga__flip_flops"] > 20
    assert values["halut__fpga__lut_rams"] > 0 and values["halut__fpga__multipliers"] == 0
    period = values["halut__fpga__shortest_period"]
    assert 1 < period < 30
    assert values["halut__fpga__setup_slack"] == pytest.approx(10 - period)
    assert values["synth__design__instance__area__stdcell"] is None
    before = (folder / "placed.json").stat().st_mtime_ns
    again, _ = implement(design, part("ecp5-85k"), FpgaOptions(), tmp_path)
    assert again.values == values and (folder / "placed.json").stat().st_mtime_ns == before


@pytest.mark.flow
@pytest.mark.needs("pyosys", "nextpnr-ecp5")
def test_a_board(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    SMALL_LATCH = {"n_codebooks": 1, "n_prototypes": 2, "n_outputs": 1, "input_format": "int4"}
    path.write_text("version: 1\n" + "".join(f"{k}: {v}\n" for k, v in SMALL_LATCH.items()))
    assert main(["--config", str(path), "--board", "ulx3s", "-q", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "lutram in place of latch" in printed and "worst setup slack" in printed
    (bitstream,) = tmp_path.glob("*/fpga/ulx3s/40ns/design.bit")
    assert bitstream.stat().st_size > 100_000


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.needs("pyosys", "nextpnr-himbaechel-gowin")
def test_gowin(tmp_path: Path) -> None:
    design = accelerator(SMALL)
    metrics, _ = implement(design, part("gowin-gw2a-18"), FpgaOptions(), tmp_path)
    assert metrics.values["halut__fpga__luts"] > 20 < metrics.values["halut__fpga__flip_flops"]
    metrics, folder = implement(design, board("tangnano20k"), FpgaOptions(), tmp_path)
    assert metrics.values["halut__fpga__setup_slack"] > 0
    assert (folder / "design.fs").stat().st_size > 100_000


def test_every_board_has_a_part_and_pins() -> None:
    assert boards() and parts()
    for name in boards():
        found = board(name)
        assert found.part.name in parts()
        pins = [found.clock_pin, *found.led_pins]
        assert len(set(pins)) == 4 and all(pin in found.pins() for pin in pins)
        if found.part.test_pins:
            assert len(set(found.part.test_pins)) == 4 and "leds[2]" in found.part.pins()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "x.yaml", "--board", "ulx4s"], "board must be one of .* .did you mean"),
        (["--config", "x.yaml", "--device", "ecp5"], "part must be one of"),
        ([], "--config or --engine must be given"),
        (["--engine", "tensor"], "engine must be one of"),
        (["--engine", "int8_luts", "--clock-ns", "0"], "clock_ns must be|--clock-ns must be"),
        (["--engine", "int8_luts", "--seed", "0"], "seed must be"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(HalutError, match=message) as error:
        main(arguments)
    assert "\n" not in str(error.value)


def test_a_missing_tool_is_named(monkeypatch) -> None:
    pytest.importorskip("pyosys")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("flow.fpga.tools.find_spec", lambda _: None)
    with pytest.raises(HalutError, match="nextpnr-ecp5 must be installed: pip install yowasp"):
        main(["--engine", "int8_luts"])


def test_the_help_needs_no_tool() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flow", "fpga", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "--board" in done.stdout
