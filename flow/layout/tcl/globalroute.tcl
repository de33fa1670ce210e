# Global routes, and repair of what they show to be too long.

# The design at every corner of the platform: setup with the cells of the layout's corner at all of
# them, hold with their own. Hold at ports is left as it is: it depends on where the clock is
# outside, which has one constraint for all corners.
proc halut_open_at_corners {} {
  global halut halut_sdc
  set corners [list $halut(corner) $halut(liberty) {*}$halut(other_corners)]
  define_corners {*}[dict keys $corners]
  dict for {corner files} $corners {
    foreach file $halut(liberty) { read_liberty -corner $corner -max $file }
    foreach file $files { read_liberty -corner $corner -min $file }
  }
  read_db $halut(input)
  halut_constrain_design
  set_operating_conditions -analysis_type bc_wc
  set_false_path -hold -from [halut_ports $halut_sdc(inputs)]
  set_false_path -hold -to [halut_ports $halut_sdc(outputs)]
}

# Routes by region. A few overfull regions are left to detailed routing: the capacities leave out
# `reserve`.
proc halut_route {args} {
  global halut
  set report $halut(folder)/congestion.rpt
  file delete $report
  global_route {*}$args -allow_congestion -congestion_report_file $report \
    -guide_file $halut(folder)/route.guide
  set overfull 0
  if {[file exists $report]} {
    set file [open $report]
    set overfull [regexp -all -line {^violation type} [read $file]]
    close $file
  }
  if {$overfull > 100} {
    error "global routing must leave at most 100 regions overfull, not $overfull ($report):\
      lower --utilisation"
  }
  estimate_parasitics -global_routing
}

# The cell of each instance.
proc halut_cells {} {
  return [lmap instance [[ord::get_db_block] getInsts] {[$instance getMaster] getName}]
}

halut_open_at_corners
set_propagated_clock [all_clocks]
halut_routing_layers
pin_access
# Without its slack of every net in every iteration, which takes most of the time.
halut_route -congestion_iterations 50 -critical_nets_percentage 0
# Routes take detours that placement did not know of. Each time mends what the one before moved.
set before [halut_cells]
foreach time {first second third} {
  repair_design
  repair_timing -setup -setup_margin $halut(setup_margin) -repair_tns $halut(repair_tns)
  repair_timing -hold -hold_margin $halut(hold_margin)
  global_route -start_incremental -allow_congestion
  detailed_placement
  halut_route -end_incremental
  set after [halut_cells]
  if {$after eq $before} { break }
  set before $after
}
if {$halut(diode) ne ""} {
  repair_antennas $halut(diode) -iterations 5
  estimate_parasitics -global_routing
}
check_placement -verbose
halut_report globalroute -corner $halut(corner)
halut_save
