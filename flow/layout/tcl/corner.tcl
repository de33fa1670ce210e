# Timing of the routed design with the cells of another corner.
halut_open
set_propagated_clock [all_clocks]
read_spef $halut(spef)
# For hold, logic outside takes as much longer as cells here do, whatever the clock.
halut_delay_ports [expr {$halut(slower) * $halut_sdc(io_share) * $halut(period)}] -min
set hold [halut_slack clk min 0.0]
set write [halut_slack table_write min $hold]
puts "HALUT setup [halut_slack clk max 0.0]"
puts "HALUT hold [expr {$write < $hold ? $write : $hold}]"
puts "HALUT period [halut_shortest $halut(guess) halut_routed_period]"
if {$halut(abstract) ne ""} {
  halut_routed_period $halut(period)
  halut_write_timing_model $halut(abstract)
}
