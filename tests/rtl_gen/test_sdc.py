"""Timing constraints beside the Verilog; OpenSTA reads them on a netlist with a latch."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rtl_gen.config import AcceleratorConfig
from rtl_gen.generate import generate, write

CONFIG = {"n_codebooks": 2, "n_prototypes": 2, "n_outputs": 1, "input_format": "int2"}
_LIBRARY = """\
library (t) {
  time_unit : "1ns"; capacitive_load_unit (1, pf); delay_model : table_lookup;
  input_threshold_pct_rise : 50;
  input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50;
  output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20;
  slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_rise : 80;
  slew_upper_threshold_pct_fall : 80;
  cell (FF) {
    ff (I, N) { clocked_on : "CK"; next_state : "D"; }
    pin (CK) { direction : input; clock : true; capacitance : 0.01; }
    pin (D) { direction : input; capacitance : 0.01; timing () { related_pin : "CK";
      timing_type : setup_rising; rise_constraint (scalar) { values ("0.1"); }
      fall_constraint (scalar) { values ("0.1"); } } }
    pin (Q) { direction : output; function : "I"; timing () { related_pin : "CK";
      timing_type : rising_edge; timing_sense : non_unate;
      cell_rise (scalar) { values ("0.2"); } cell_fall (scalar) { values ("0.2"); }
      rise_transition (scalar) { values ("0"); } fall_transition (scalar) { values ("0"); } } }
  }
  cell (LATCH) {
    latch (I, N) { enable : "G"; data_in : "D"; }
    pin (G) { direction : input; clock : true; capacitance : 0.01; }
    pin (D) { direction : input; capacitance : 0.01; timing () { related_pin : "G";
      timing_type : setup_falling; rise_constraint (scalar) { values ("0.1"); }
      fall_constraint (scalar) { values ("0.1"); } } }
    pin (Q) { direction : output; function : "I";
      timing () { related_pin : "G"; timing_type : rising_edge; timing_sense : non_unate;
      cell_rise (scalar) { values ("0.2"); } cell_fall (scalar) { values ("0.2"); }
      rise_transition (scalar) { values ("0"); } fall_transition (scalar) { values ("0"); } }
      timing () { related_pin : "D"; timing_sense : positive_unate;
      cell_rise (scalar) { values ("0.2"); } cell_fall (scalar) { values ("0.2"); }
      rise_transition (scalar) { values ("0"); } fall_transition (scalar) { values ("0"); } } }
  }
}
"""
_NETLIST = """\
module halut_matmul (clk_i, d, q);
  input clk_i, d; output q; wire word, table, sum;
  FF program_word (.CK(clk_i), .D(d), .Q(word));
  LATCH word0 (.G(clk_i), .D(word), .Q(table));
  FF look_up (.CK(clk_i), .D(table), .Q(sum));
  FF total (.CK(clk_i), .D(sum), .Q(q));
endmodule
"""


def test_two_cycles_only_where_there_are_latches(tmp_path):
    path = write(AcceleratorConfig(**CONFIG), tmp_path / "a.v", prefix="x_")
    sdc = path.with_suffix(".sdc").read_text()
    assert sdc == generate(AcceleratorConfig(**CONFIG), prefix="x_").sdc
    assert "x_halut_matmul" in sdc and "set_multicycle_path -setup 2" in sdc
    assert "multicycle" not in generate(AcceleratorConfig(**CONFIG, memory="ff")).sdc


def test_opensta_reads_them(tmp_path):
    sta = shutil.which("sta")
    if sta is None:
        pytest.skip("sta is not installed")
    (tmp_path / "t.lib").write_text(_LIBRARY)
    (tmp_path / "n.v").write_text(_NETLIST)
    (tmp_path / "c.sdc").write_text(generate(AcceleratorConfig(**CONFIG)).sdc)
    (tmp_path / "run.tcl").write_text(
        "read_liberty t.lib\nread_verilog n.v\nlink_design halut_matmul\nset halut_period 2\n"
        "source c.sdc\nforeach at {look_up total word0} {\n"
        '  puts "$at [get_property [lindex [find_timing_paths -to $at/D] 0] slack]"\n}\nexit\n'
    )
    done = subprocess.run(
        [sta, "run.tcl"], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert "Error" not in done.stdout + done.stderr
    slack = {
        line.split()[0]: float(line.split()[1])
        for line in done.stdout.splitlines()
        if line.startswith(("look_up ", "total ", "word0 "))
    }
    # Two periods less 0.2 + 0.2 of latch and word and 0.1 of setup; one period.
    assert slack["look_up"] == pytest.approx(4 - 0.4 - 0.1, abs=1e-3)
    assert slack["total"] == pytest.approx(2 - 0.2 - 0.1, abs=1e-3)
    assert slack["word0"] == pytest.approx(0, abs=1e-3)  # borrowed within the open phase
