"""A library, a netlist and a design small enough to compute by hand."""

from __future__ import annotations

import shlex
import stat
import sys
from pathlib import Path

import pytest

from flow.cells.liberty import load_libraries
from flow.cells.library import Library
from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.designs.design import Design, Stream, Workload
from flow.netlist.netlist import Netlist, from_json

# Delays and slews that are easy to add up: delay = 0.1 + 0.01 * load, slew = 0.05 + 0.001 * load.
LIBRARY = """
library (tiny) {
  time_unit : "1ns";  voltage_unit : "1V";  leakage_power_unit : "1nW";
  capacitive_load_unit (1, ff);
  nom_voltage : 2.0;
  lu_table_template (d) { variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance;
    index_1 ("0.0, 1.0"); index_2 ("0.0, 100.0"); }
  lu_table_template (c) { variable_1 : constrained_pin_transition;
    variable_2 : related_pin_transition; index_1 ("0.0, 1.0"); index_2 ("0.0, 1.0"); }
  power_lut_template (e) { variable_1 : input_transition_time; index_1 ("0.0, 1.0"); }
  cell (INV) { area : 1; cell_leakage_power : 3;
    pin (A) { direction : input; capacitance : 1; }
    pin (Y) { direction : output; function : "!A"; max_capacitance : 10;
      timing () { related_pin : "A"; timing_sense : negative_unate;
        cell_rise (d) { values ("0.1, 1.1", "0.1, 1.1"); }
        cell_fall (d) { values ("0.1, 1.1", "0.1, 1.1"); }
        rise_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); }
        fall_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); } }
      internal_power () { related_pin : "A";
        rise_power (d) { values ("4, 4", "4, 4"); }
        fall_power (d) { values ("2, 2", "2, 2"); } } } }
  cell (INV4) { area : 2; cell_leakage_power : 6;
    pin (A) { direction : input; capacitance : 4; }
    pin (Y) { direction : output; function : "!A"; max_capacitance : 40;
      timing () { related_pin : "A"; timing_sense : negative_unate;
        cell_rise (d) { values ("0.1, 0.35", "0.1, 0.35"); }
        cell_fall (d) { values ("0.1, 0.35", "0.1, 0.35"); }
        rise_transition (d) { values ("0.05, 0.075", "0.05, 0.075"); }
        fall_transition (d) { values ("0.05, 0.075", "0.05, 0.075"); } } } }
  cell (BUF) { area : 1.5;
    pin (A) { direction : input; capacitance : 1; }
    pin (Y) { direction : output; function : "A"; max_capacitance : 30;
      timing () { related_pin : "A"; timing_sense : positive_unate;
        cell_rise (d) { values ("0.2, 0.7", "0.2, 0.7"); }
        cell_fall (d) { values ("0.2, 0.7", "0.2, 0.7"); }
        rise_transition (d) { values ("0.05, 0.1", "0.05, 0.1"); }
        fall_transition (d) { values ("0.05, 0.1", "0.05, 0.1"); } } } }
  cell (NAND2) { area : 1;
    leakage_power () { value : 8; when : "A & B"; }
    leakage_power () { value : 4; when : "!(A & B)"; }
    pin (A) { direction : input; capacitance : 1; }
    pin (B) { direction : input; capacitance : 2; rise_capacitance : 3; }
    pin (Y) { direction : output; function : "(A B)'"; max_capacitance : 10;
      timing () { related_pin : "A B"; timing_sense : negative_unate;
        cell_rise (d) { values ("0.1, 1.1", "0.1, 1.1"); }
        cell_fall (d) { values ("0.1, 1.1", "0.1, 1.1"); }
        rise_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); }
        fall_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); } } } }
  cell (DFF) { area : 5; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (D) { direction : input; capacitance : 1;
      timing () { related_pin : "CK"; timing_type : setup_rising;
        rise_constraint (c) { values ("0.2, 0.2", "0.2, 0.2"); }
        fall_constraint (c) { values ("0.2, 0.2", "0.2, 0.2"); } } }
    pin (CK) { direction : input; clock : true; capacitance : 1;
      internal_power () {
        rise_power (e) { values ("6, 6"); } fall_power (e) { values ("2, 2"); } } }
    pin (Q) { direction : output; function : "IQ"; max_capacitance : 10;
      timing () { related_pin : "CK"; timing_type : rising_edge;
        cell_rise (d) { values ("0.3, 1.3", "0.3, 1.3"); }
        cell_fall (d) { values ("0.3, 1.3", "0.3, 1.3"); }
        rise_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); }
        fall_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); } } } }
  cell (LATCH) { area : 3; latch (IQ, IQN) { enable : "G"; data_in : "D"; }
    pin (D) { direction : input; capacitance : 1;
      timing () { related_pin : "G"; timing_type : setup_falling;
        rise_constraint (c) { values ("0.1, 0.1", "0.1, 0.1"); }
        fall_constraint (c) { values ("0.1, 0.1", "0.1, 0.1"); } } }
    pin (G) { direction : input; clock : true; capacitance : 1; }
    pin (Q) { direction : output; function : "IQ"; max_capacitance : 10;
      timing () { related_pin : "G"; timing_type : rising_edge;
        cell_rise (d) { values ("0.3, 1.3", "0.3, 1.3"); }
        cell_fall (d) { values ("0.3, 1.3", "0.3, 1.3"); }
        rise_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); }
        fall_transition (d) { values ("0.05, 0.15", "0.05, 0.15"); } } } }
  cell (GATE) { area : 4; clock_gating_integrated_cell : "latch_posedge";
    pin (CK) { direction : input; clock : true; capacitance : 2; }
    pin (E) { direction : input; capacitance : 1;
      timing () { related_pin : "CK"; timing_type : setup_rising;
        rise_constraint (c) { values ("0.1, 0.1", "0.1, 0.1"); }
        fall_constraint (c) { values ("0.1, 0.1", "0.1, 0.1"); } } }
    pin (GCK) { direction : output; max_capacitance : 20; } }
  cell (TIE0) { area : 0.5; pin (Y) { direction : output; function : "0"; } }
  cell (TIE1) { area : 0.5; pin (Y) { direction : output; function : "1"; } }
}
"""

PLATFORM = """
version: 1
name: tiny
title: a library for tests
folder: tiny
default_corner: only
corners:
  only: {liberty: [tiny.lib], voltage: 2.0, temperature: 25}
cells:
  gate_equivalent: NAND2
  clock_gate: {cell: GATE, clock: CK, enable: E, output: GCK}
  tie_high: {cell: TIE1, output: Y}
  tie_low: {cell: TIE0, output: Y}
  buffer: {cell: BUF, input: A, output: Y}
driver: {cell: BUF, output: Y}
output_load_ff: 2
max_fanout: 4
clock_fanout: 4
"""


def tiny_library(folder: Path) -> Library:
    path = folder / "tiny.lib"
    path.write_text(LIBRARY)
    return load_libraries([path])


def tiny_platform(folder: Path) -> Platform:
    path = folder / "tiny.yaml"
    path.write_text(PLATFORM)
    return read_platform(path)


def outputs(library: Library) -> dict[str, list[str]]:
    return {name: cell.outputs for name, cell in library.cells.items()}


def module(ports: dict, cells: dict, names: dict | None = None) -> dict:
    """A module as Yosys' JSON has it; ports are (direction, bits), cells (type, connections)."""
    return {
        "ports": {
            name: {"direction": direction, "bits": bits}
            for name, (direction, bits) in ports.items()
        },
        "cells": {
            name: {
                "hide_name": 0,
                "type": kind,
                "connections": {pin: [bit] for pin, bit in connections.items()},
            }
            for name, (kind, connections) in cells.items()
        },
        "netnames": {name: {"hide_name": 0, "bits": bits} for name, bits in (names or {}).items()},
    }


def chain(library: Library) -> Netlist:
    """clk -> DFF a; a -> INV -> NAND2 with input b -> DFF c -> output."""
    top = module(
        {
            "clk": ("input", [2]),
            "b": ("input", [3]),
            "y": ("output", [7]),
        },
        {
            "first": ("DFF", {"CK": 2, "D": 3, "Q": 4}),
            "invert": ("INV", {"A": 4, "Y": 5}),
            "join": ("NAND2", {"A": 5, "B": 3, "Y": 6}),
            "second": ("DFF", {"CK": 2, "D": 6, "Q": 7}),
        },
        {"a": [4], "na": [5], "d": [6]},
    )
    return from_json({"modules": {"top": top}}, "top", outputs(library))


# A register and an adder with an enable, as a design of its own: y <= a + b, one cycle later.
VERILOG = """
module adder (clk_i, rst_ni, i_valid, i_ready, i_data, o_valid, o_ready, o_data);
  input clk_i, rst_ni, i_valid, o_ready;
  input [15:0] i_data;
  output i_ready;
  output reg o_valid;
  output reg [8:0] o_data;
  assign i_ready = !o_valid || o_ready;
  always @(posedge clk_i) begin
    if (!rst_ni) o_valid <= 0;
    else if (i_ready) o_valid <= i_valid;
    if (i_ready && i_valid) o_data <= i_data[7:0] + i_data[15:8];
  end
endmodule
"""


def adder(spoil: bool = False) -> Design:
    """A design that adds two bytes; `spoil` makes its model wrong in one place."""
    import random

    def workload(seed: int, n_transfers: int) -> Workload:
        rng = random.Random(seed)
        words = [rng.getrandbits(16) for _ in range(n_transfers)]
        sums = [(word & 255) + (word >> 8) for word in words]
        if spoil:
            sums[len(sums) // 2] ^= 1
        return Workload(
            setup=[],
            inputs=Stream(
                valid="i_valid", ready="i_ready", payload=("i_data",), items=[(w,) for w in words]
            ),
            outputs=Stream(
                valid="o_valid", ready="o_ready", payload=("o_data",), items=[(s,) for s in sums]
            ),
            look_ups=0,
            macs=1,
            description="random bytes",
            seed=seed,
        )

    return Design(
        name="adder",
        slug="adder",
        verilog=VERILOG,
        top="adder",
        clock="clk_i",
        reset="rst_ni",
        look_ups_per_cycle=0,
        macs_per_cycle=1,
        codebook_width=None,
        latency_cycles=1,
        interval_cycles=1,
        config_hash="",
        workload=workload,
        workload_key=f"spoil={spoil}",
    )


def stub(folder: Path, name: str, script: str) -> Path:
    """A program that runs a line of shell."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def openroad_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take ``openroad_stand_in.py`` for OpenROAD."""
    program = Path(__file__).with_name("openroad_stand_in.py")
    monkeypatch.setenv("OPENROAD_EXE", shlex.join([sys.executable, str(program)]))
