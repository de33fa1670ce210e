# Power of a mapped netlist. `halut` holds the settings that flow.power.opensta wrote for this run.
halut_open
halut_power
