# What a larger chip needs to know of the layout: outline, pins and blockages; timing at the ports.
halut_open
set_propagated_clock [all_clocks]
read_spef $halut(folder)/final.spef
write_abstract_lef -bloat_occupied_layers $halut(folder)/abstract.lef
halut_write_timing_model $halut(output)
