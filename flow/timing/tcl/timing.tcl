# Timing of a mapped netlist. `halut` holds the settings that flow.timing.opensta wrote for this run.
halut_open
puts "HALUT slack [halut_slack clk max]"
puts "HALUT hold [halut_slack clk min]"
puts "HALUT write [halut_slack table_write max]"
puts "HALUT period [halut_shortest $halut(guess) halut_constrain]"
# What limits the period: at a long one, the ports' share of it would hide that.
puts "HALUT path"
report_checks -path_group clk -path_delay max -digits 6
puts "HALUT end"
