# Power of the routed design with the activity of a simulation of its own netlist.
halut_open
set_propagated_clock [all_clocks]
read_spef $halut(spef)
halut_power
