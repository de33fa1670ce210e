"""Adders mapped for ECP5: the netlist, with open ends of chains, computes the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flow.fpga.adders import ADDERS, open_carry_ends
from flow.fpga.netlist import change_netlist
from flow.tools import find_yosys, run_tool

_DESIGN = """\
module adders(input [7:0] a, b, input c, output [8:0] sum, output [11:0] wide, output [7:0] less,
              output [9:0] with_carry, output signed_greater, greater_equal, output [4:0] short);
  assign sum = a + b;
  assign wide = {a, 4'h5} + {4'h3, b};
  assign less = a - b;
  assign with_carry = {a, 1'b1} + {b, c};
  assign signed_greater = $signed(a) > $signed(b);
  assign greater_equal = a >= b;
  assign short = a[3:0] + b[3:0] + c;
endmodule
"""
# Cells of ECP5: a half of CCU2C sums, and generates what its two lower inputs look up.
_CELLS = """\
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule
module PFUMX(input ALUT, BLUT, C0, output Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule
module L6MUX21(input D0, D1, SD, output Z);
  assign Z = SD ? D1 : D0;
endmodule
module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  wire propagate0 = INIT0[{D0, C0, B0, A0}], propagate1 = INIT1[{D1, C1, B1, A1}];
  wire carry = (~propagate0 & INIT0[{2'b00, B0, A0}]) | (propagate0 & CIN);
  assign S0 = propagate0 ^ CIN;
  assign S1 = propagate1 ^ carry;
  assign COUT = (~propagate1 & INIT1[{2'b00, B1, A1}]) | (propagate1 & carry);
  initial if (INJECT1_0 != "NO" || INJECT1_1 != "NO") $fatal;
endmodule
"""
_BENCH = """\
module bench;
  reg [7:0] a, b; reg c; integer i, j;
  wire [46:0] want, found;
  adders behavioural(a, b, c, want[8:0], want[20:9], want[28:21], want[38:29], want[39], want[40],
                     want[45:41]);
  mapped netlist(.a(a), .b(b), .c(c), .sum(found[8:0]), .wide(found[20:9]), .less(found[28:21]),
                 .with_carry(found[38:29]), .signed_greater(found[39]), .greater_equal(found[40]),
                 .short(found[45:41]));
  assign want[46] = 0, found[46] = 0;
  integer right = 0;
  initial begin
    for (i = 0; i < 256; i = i + 5) for (j = 0; j < 256; j = j + 3) begin
      a = i; b = j; c = i[0] ^ j[1]; #1 right = right + (want === found);
    end
    $display("%0d", right);
  end
endmodule
"""


def _map(folder: Path) -> dict:
    """Map the design as the flow does; also its Verilog, as the module ``mapped``."""
    (folder / "design.v").write_text(_DESIGN)
    (folder / ADDERS.name).write_bytes(ADDERS.read_bytes())
    command = "synth_ecp5 -top adders"
    (folder / "map.ys").write_text(
        f"read_verilog design.v\n{command} -run begin:map_gates\ntechmap -map {ADDERS.name}\n"
        f"{command} -run map_gates: -json mapped.json\n"
    )
    run_tool(find_yosys(), ["map.ys"], folder / "map.log", folder)
    change_netlist(folder / "mapped.json", open_carry_ends)
    (folder / "write.ys").write_text(
        "read_json mapped.json\nrename adders mapped\nwrite_verilog -noattr mapped.v\n"
    )
    run_tool(find_yosys(), ["write.ys"], folder / "write.log", folder)
    text = (folder / "mapped.v").read_text()
    (folder / "mapped.v").write_text(text.replace("(1'hx)", "()"))
    return json.loads((folder / "mapped.json").read_text())["modules"]["adders"]["cells"]


def _right(folder: Path) -> int:
    (folder / "bench.v").write_text(_BENCH + _CELLS)
    subprocess.run(
        ["iverilog", "-g2005-sv", "-s", "bench", "-o", "bench",
         "bench.v", "design.v", "mapped.v"],
        cwd=folder, check=True,
    )  # fmt: skip
    done = subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True)
    return int(done.stdout)


@pytest.mark.flow
@pytest.mark.needs("pyosys", "iverilog")
def test_mapped_adders_compute_the_same(tmp_path: Path) -> None:
    cells = _map(tmp_path)
    chains = [cell["connections"] for cell in cells.values() if cell["type"] == "CCU2C"]
    assert len(chains) > 20
    firsts = [ports for ports in chains if ports["CIN"] == ["x"]]
    lasts = [ports for ports in chains if ports["COUT"] == ["x"]]
    assert len(firsts) == len(lasts) == 5  # the short one is logic; a - b and a >= b share theirs
    assert _right(tmp_path) == 52 * 86
    # A bit that propagates where it should generate is seen.
    text = (tmp_path / "mapped.v").read_text()
    assert "16'h96aa" in text
    (tmp_path / "mapped.v").write_text(text.replace("16'h96aa", "16'h69aa", 1))
    assert _right(tmp_path) < 52 * 86
