"""The system as a bitstream: what is refused, its pins, and all of it for a small network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from flow.fpga.parts import board
from flow.fpga.steps import Implemented
from flow.report.terminal import summary
from halut.errors import HalutError
from rtl_gen.cfu import CfuConfig
from sim.runner import SimulationFailed
from soc.__main__ import main
from soc.bitstream import board_metrics, make_bitstream, simulate_board
from tests.soc.support import LITEX, tiny_network


def test_a_board_must_have_a_serial_line(tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=r"serial_pin in parts\.yaml, not icebreaker"):
        make_bitstream(board("icebreaker"), tmp_path, tmp_path, CfuConfig(), 1, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "ulx4s"], "board must be one of .* .did you mean"),
        (["--board", "ulx3s", "--images", "0"], "--images must be"),
        (["--board", "ulx3s", "--network", "none.pt"], "--network must be a network file"),
    ],
)
@pytest.mark.needs("riscv64-unknown-elf-gcc")
def test_errors_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    given = ["--litex", str(tmp_path), "--network", __file__, *arguments]
    with pytest.raises(HalutError, match=message) as error:
        main(given)
    assert "\n" not in str(error.value)


def test_pins_of_a_system() -> None:
    ulx3s = board("ulx3s")
    lines = ulx3s.pins({"serial_tx": ulx3s.serial_pin}).splitlines()
    assert 'LOCATE COMP "serial_tx" SITE "L4";' in lines
    assert set(ulx3s.pins().splitlines()) < set(lines)


def test_the_summary_of_a_board_has_its_clock() -> None:
    ulx3s = board("ulx3s")
    used = {"TRELLIS_COMB": 7000, "DP16KD": 156}
    done = Implemented(
        mhz=50.0,
        used=used,
        available={"TRELLIS_COMB": 84_000},
        tools={"nextpnr": "1"},
        seconds={"place": 1.0},
    )
    text = summary(board_metrics(ulx3s, done, 40.0, 1))
    assert text.startswith("soc_ulx3s on ulx3s, clock 40 ns, made for 40 ns")
    assert re.search(r"^  frequency +50(\.0+)? MHz$", text, re.M)


@pytest.mark.slow
@pytest.mark.needs("verilator", "riscv64-unknown-elf-gcc", "litex", "pyosys", "nextpnr-ecp5")
def test_a_bitstream_of_a_system_that_was_simulated(tmp_path: Path, capsys) -> None:
    network = tiny_network(tmp_path / "net")
    arguments = ["--network", str(network), "--litex", LITEX]
    assert main([*arguments, "--board", "ulx3s", "--images", "2", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^image \d+ class \d+ cycles \d+$", printed, re.M)) == 2
    folder = tmp_path / "ulx3s"
    assert (folder / "fpga" / "design.bit").stat().st_size > 100_000
    # The simulation can fail: one bit of a constant.
    verilog = (folder / "fpga" / "system.v").read_text()
    words = (folder / "fpga" / "system_rom.init").read_text().split()
    words[len(words) // 2] = f"{int(words[len(words) // 2], 16) ^ 1:08x}"
    with pytest.raises(SimulationFailed):
        simulate_board(verilog, "\n".join(words) + "\n", board("ulx3s"), 2, folder)
