"""Simulation of generated Verilog against the bit-exact model (cocotb on Verilator or Icarus).

`sim.simulate` runs a matrix on the accelerator; `sim.runner` builds and runs any Verilog with any
cocotb module; `sim.streams`, `sim.packing` and `sim.scoreboard` are what testbenches are made of.
"""
