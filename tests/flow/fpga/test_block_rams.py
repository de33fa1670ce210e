"""Which SRAMs become block RAMs: those with most words, as long as the part has some; and the
register behind one, which becomes its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flow.designs.design import accelerator
from flow.fpga.block_rams import (
    Memory,
    block_ram_commands,
    read_memories,
    use_output_registers,
)
from flow.fpga.implement import FpgaOptions, implement
from flow.fpga.netlist import change_netlist
from flow.fpga.parts import part
from flow.tools import find_yosys, run_tool
from halut.errors import HalutError
from rtl_gen import AcceleratorConfig

SHAPES = ((512, 36), (1024, 18))


def _styles(memories: list[Memory], n_block_rams: int) -> dict[str, str]:
    styles = {}
    for command in block_ram_commands(memories, n_block_rams, SHAPES):
        *_, style, name = command.split()
        styles[name] = style.strip('"')
    return styles


@pytest.mark.parametrize(
    ("words", "bits", "needed"), [(16, 128, 4), (512, 36, 1), (513, 18, 1), (1024, 37, 3)]
)
def test_block_rams_of_a_memory(words: int, bits: int, needed: int) -> None:
    assert Memory("a", words, bits).block_rams(SHAPES) == needed


def test_long_ones_come_first() -> None:
    memories = [
        Memory("unit.lane0.row0_sram.words", 16, 72),
        Memory("unit.lane1.row0_sram.words", 256, 72),
        Memory("unit.lane2.row0_sram.words", 16, 36),
    ]
    assert _styles(memories, 3) == {
        "c:unit.lane1.row0_sram.words": "block",
        "c:unit.lane0.row0_sram.words": "distributed",
        "c:unit.lane2.row0_sram.words": "block",
    }


def test_others_are_left_to_yosys_and_counted() -> None:
    sram = Memory("a.row0_sram.words", 16, 36)
    rom, short = Memory("results", 256, 36), Memory("fifo", 16, 36)
    assert _styles([sram, rom], 1) == {"c:a.row0_sram.words": "distributed"}
    assert _styles([sram, rom], 2) == {"c:a.row0_sram.words": "block"}
    assert _styles([sram, short], 1) == {"c:a.row0_sram.words": "block"}
    placed = dataclasses.replace(rom, style="distributed")
    assert _styles([sram, placed], 1) == {"c:a.row0_sram.words": "block"}


def test_memories_are_read(tmp_path: Path) -> None:
    cell = {"parameters": {"SIZE": "10000", "WIDTH": "1000"}, "attributes": {"ram_style": "block"}}
    content = {"modules": {"top": {"cells": {"a.row0_sram.words": cell}}}}
    (tmp_path / "memories.json").write_text(json.dumps(content))
    (found,) = read_memories(tmp_path)
    assert found == Memory("a.row0_sram.words", 16, 8, "block") and found.is_sram


@pytest.mark.flow
@pytest.mark.needs("pyosys", "nextpnr-ecp5")
def test_one_of_two_srams_is_a_block_ram(tmp_path: Path) -> None:
    # Two lanes' tables for one block RAM.
    design = accelerator(
        AcceleratorConfig(
            name="srams", n_codebooks=2, n_prototypes=4, n_outputs=2, parallel_codebooks=2,
            encoder="addressed", input_format="int4", memory="sram",
        )
    )  # fmt: skip
    options = FpgaOptions(wide_luts=False, block_rams=1)
    metrics, folder = implement(design, part("ecp5-25k"), options, tmp_path)
    assert metrics.values["halut__fpga__block_rams"] == 1
    assert metrics.values["halut__fpga__lut_rams"] > 0
    assert "-nowidelut" in (folder / "map.ys").read_text()
    # No logic for a word that is written while it is read.
    assert "no_rw_check" in (folder / "memories.ys").read_text()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ecp5-25k", {"block_rams": 57}, r"--block-rams for ecp5-25k must be .* \[0, 56\], not 57"),
        ("ice40-hx8k", {"block_rams": 0}, "--block-rams must be left out for ice40-hx8k"),
        ("gowin-gw2a-18", {"wide_luts": False}, "--no-wide-luts must be left out for gowin"),
    ],
)
def test_options_that_a_part_cannot_be_given(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    design = accelerator(AcceleratorConfig(name="a", n_codebooks=1, n_outputs=1))
    with pytest.raises(HalutError, match=message):
        implement(design, part(name), FpgaOptions(**options), tmp_path)
    assert not list(tmp_path.iterdir())


_REGISTERED = """\
module registered(input clk, write, read, take, input [3:0] at, from, input [35:0] data,
                  output reg [35:0] value{ports});
  (* ram_style = "block", no_rw_check *) reg [35:0] words [0:15];
  reg [35:0] found;
  always @(posedge clk) begin
    if (write) words[at] <= data;
    if (take) value <= found;
    {inside}
  end
  always @({edge} clk) if (read) found <= words[from];
  {outside}
endmodule
"""
# ECP5's block RAM with words of 36 bits, which port A writes and port B reads.
_BLOCK_RAM = """\
module DP16KD(input CLKA, CLKB, CEA, CEB, WEA, WEB, OCEA, OCEB, RSTA, RSTB, <CSA>, <CSB>,
              <DIA>, <DIB>, <ADA>, <ADB>, output <DOA>, <DOB>);
  parameter ASYNC_RESET_RELEASE = "", CLKAMUX = "", CLKBMUX = "", CSDECODE_A = "", CSDECODE_B = "";
  parameter DATA_WIDTH_A = 0, DATA_WIDTH_B = 0, GSR = "", RESETMODE = "";
  parameter REGMODE_A = "", REGMODE_B = "", WRITEMODE_A = "", WRITEMODE_B = "", <INITVAL>;
  reg [35:0] words [0:511];
  reg [35:0] read = 0, registered = 0;
  wire [13:0] at = {<ADA>}, from = {<ADB>};
  wire [35:0] data = {<DIB>, <DIA>};
  integer lane;
  always @(posedge CLKA) for (lane = 0; lane < 4; lane = lane + 1)
    if (CEA && WEA && at[lane]) words[at[13:5]][lane*9 +: 9] <= data[lane*9 +: 9];
  always @(posedge CLKB) begin
    if (CEB) read <= words[from[13:5]];
    if (OCEB) registered <= read;
  end
  assign {<DOB>} = REGMODE_B == "OUTREG" ? registered[35:18] : read[35:18];
  assign {<DOA>} = REGMODE_A == "OUTREG" ? registered[17:0] : read[17:0];
  initial if (DATA_WIDTH_A != 36 || DATA_WIDTH_B != 36) $fatal;
endmodule
"""
# Buses of the block RAM, one port for each bit, the highest first.
_BUSES = {"DIA": 18, "DIB": 18, "DOA": 18, "DOB": 18, "ADA": 14, "ADB": 14, "CSA": 3, "CSB": 3}
for _bus, _bits in _BUSES.items():
    _BLOCK_RAM = _BLOCK_RAM.replace(
        f"<{_bus}>", ", ".join(f"{_bus}{i}" for i in reversed(range(_bits)))
    )
_BLOCK_RAM = _BLOCK_RAM.replace("<INITVAL>", ", ".join(f"INITVAL_{i:02X} = 0" for i in range(64)))
_BENCH = """\
module bench;
  reg clk = 0, write, read, take; reg [3:0] at, from; reg [35:0] data;
  wire [35:0] want, found;
  registered behavioural(.clk(clk), .write(write), .read(read), .take(take), .at(at), .from(from),
                         .data(data), .value(want));
  mapped netlist(.clk(clk), .write(write), .read(read), .take(take), .at(at), .from(from),
                 .data(data), .value(found));
  integer i, right = 0, known = 0;
  initial begin
    for (i = 0; i < 600; i = i + 1) begin
      data = {$random, $random}; at = $random; from = $random; take = $random;
      write = i < 32 | $random; at = i < 32 ? i : at;
      read = ~write & $random;
      #1 clk = 1; #1 clk = 0;
      if (i > 60) begin known = known + (^want !== 1'bx); right = right + (want === found); end
    end
    $display("%0d %0d", known, right);
  end
endmodule
"""


def _cells(folder: Path) -> dict:
    return json.loads((folder / "mapped.json").read_text())["modules"]["registered"]["cells"]


def _mapped(
    folder: Path, ports: str = "", inside: str = "", outside: str = "", edge: str = "posedge"
) -> tuple[int, dict]:
    """Map the design as the flow does; returns the flip-flops that are gone and the cells."""
    (folder / "design.v").write_text(
        _REGISTERED.format(ports=ports, inside=inside, outside=outside, edge=edge)
    )
    (folder / "map.ys").write_text(
        "read_verilog design.v\nsynth_ecp5 -top registered -json mapped.json\n"
    )
    run_tool(find_yosys(), ["map.ys"], folder / "map.log", folder)
    before = _cells(folder)
    change_netlist(folder / "mapped.json", use_output_registers)
    cells = _cells(folder)
    return len(before) - len(cells), cells


def _simulated(folder: Path) -> list[int]:
    """How many values of the netlist's output are known, and how many are those of the design."""
    (folder / "bench.v").write_text(_BENCH + _BLOCK_RAM)
    subprocess.run(
        ["iverilog", "-g2005-sv", "-s", "bench", "-o", "bench", "bench.v", "design.v", "mapped.v"],
        cwd=folder, check=True,
    )  # fmt: skip
    done = subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
def test_a_register_becomes_the_block_rams_own(tmp_path: Path) -> None:
    n_gone, cells = _mapped(tmp_path)
    (ram,) = [cell for cell in cells.values() if cell["type"] == "DP16KD"]
    assert n_gone == 36 and not any(cell["type"] == "TRELLIS_FF" for cell in cells.values())
    assert ram["parameters"]["REGMODE_A"] == ram["parameters"]["REGMODE_B"] == "OUTREG"
    (tmp_path / "write.ys").write_text(
        "read_json mapped.json\nrename registered mapped\nwrite_verilog -noattr mapped.v\n"
    )
    run_tool(find_yosys(), ["write.ys"], tmp_path / "write.log", tmp_path)
    known, right = _simulated(tmp_path)
    assert known == right == 539
    # A register that takes what is read whenever something is read is seen.
    text = (tmp_path / "mapped.v").read_text()
    assert ".OCEB(take)" in text
    (tmp_path / "mapped.v").write_text(text.replace(".OCEB(take)", ".OCEB(read)"))
    assert _simulated(tmp_path)[1] < 539


@pytest.mark.flow
@pytest.mark.needs("pyosys")
@pytest.mark.parametrize(
    ("ports", "inside", "outside", "edge"),
    [
        (", output early", "", "assign early = found[3];", "posedge"),
        (", input other, output reg early", "", "always @(posedge other) early <= found[3];",
         "posedge"),
        (", output reg early", "if (write) early <= found[3];", "", "posedge"),
        (", input reset", "if (reset) value[3] <= 0;", "", "posedge"),
        (", input reset", "if (reset) value <= 0;", "", "posedge"),
        ("", "", "", "negedge"),
    ],
    ids=["read-at-once", "another-clock", "another-enable", "one-reset", "all-reset", "edge"],
)  # fmt: skip
def test_other_registers_stay(
    tmp_path: Path, ports: str, inside: str, outside: str, edge: str
) -> None:
    n_gone, cells = _mapped(tmp_path, ports, inside, outside, edge)
    (ram,) = [cell for cell in cells.values() if cell["type"] == "DP16KD"]
    assert n_gone == 0 and ram["parameters"]["REGMODE_B"] == "NOREG"
    assert sum(cell["type"] == "TRELLIS_FF" for cell in cells.values()) >= 36
