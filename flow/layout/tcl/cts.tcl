# Clock tree, then setup and hold with the clock as it will arrive.

# A gate that is fixed stays where placement put it. OpenROAD 26Q1 moves the others to the middle of
# their sinks, and of two that meet there only one gets a clock.
proc halut_clock_gates {status} {
  global halut
  foreach name $halut(clock_gates) {
    set instance [[ord::get_db_block] findInst $name]
    if {$instance ne "NULL"} { $instance setPlacementStatus $status }
  }
}

halut_open
halut_routing_layers
repair_clock_inverters
# Tables have a gated clock for every word. A buffer behind each gate would cost more power than the
# words, and wide spacing for all of them leaves no room for other wires.
if {[llength $halut(gate_driven)]} { set_cts_config -skip_nets $halut(gate_driven) }
if {[llength $halut(clock_limits)]} {
  lassign $halut(clock_limits) slew load
  configure_cts_characterization -max_slew $slew -max_cap $load
}
halut_clock_gates FIRM
set arguments [list -sink_clustering_enable -repair_clock_nets -apply_ndr none]
# The clock of a block reaches its registers later than the others. Hold repair makes up for that in
# the data: chains of clock buffers would, but become slower with other cells than the block's tree.
if {$halut(block) ne ""} { lappend arguments -no_insertion_delay }
clock_tree_synthesis {*}$arguments
halut_clock_gates PLACED
halut_check_connected
set_propagated_clock [all_clocks]
detailed_placement
estimate_parasitics -placement
repair_timing -setup -setup_margin $halut(setup_margin) -repair_tns $halut(repair_tns)
repair_timing -hold -hold_margin $halut(hold_margin)
detailed_placement
check_placement -verbose
estimate_parasitics -placement
halut_report cts
report_clock_skew > $halut(folder)/cts.skew.rpt
report_clock_skew_metric -setup
report_clock_skew_metric -hold
halut_save
