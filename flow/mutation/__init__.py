"""Mutants of the emitted Verilog: how many faults the benches of the top module find."""
