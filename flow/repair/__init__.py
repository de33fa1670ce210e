"""Buffering and sizing of a mapped netlist."""
