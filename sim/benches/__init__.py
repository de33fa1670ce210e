"""Testbenches: what runs inside the simulator (cocotb)."""
