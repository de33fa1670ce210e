"""Timing constraints beside the Verilog, for flows other than this project's own.

They name ports and kinds of registers only, so they hold for the Verilog and for every netlist made
of it, flattened or not.
"""

from __future__ import annotations

__all__ = ["constraints_sdc"]

_CLOCK = """\
# Timing constraints of {module}, whatever it was mapped to.
# Set halut_period, in the time unit of the tool, before reading this file. Delays outside the
# ports, drivers, loads and the clock's uncertainty are yours to add. rst_ni is synchronous: its
# paths are timed like those of any other input.
if {{![info exists halut_period]}} {{ set halut_period 6.0 }}
create_clock -name clk -period $halut_period [get_ports clk_i]
"""
_LATCHES = """\

# A written latch has two cycles to settle: in the cycle after an accepted program word nothing is
# begun that reads it. The word still has to reach the latch while it is open, in the first half of
# the first cycle: paths that end at latches or clock gates stay as they are.
set halut_latches [all_registers -level_sensitive -cells]
set halut_registers [all_registers -edge_triggered -data_pins]
set_multicycle_path -setup 2 -from $halut_latches -to $halut_registers
set_multicycle_path -hold 1 -from $halut_latches -to $halut_registers
"""


def constraints_sdc(module: str, *, has_latches: bool) -> str:
    """The constraints of a top module: its clock and, with latches, their two-cycle paths."""
    return _CLOCK.format(module=module) + (_LATCHES if has_latches else "")
