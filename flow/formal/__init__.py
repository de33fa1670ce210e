"""Proofs: properties of the units for every input, and netlist = RTL."""
