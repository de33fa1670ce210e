# Global routes, and repair of what they show to be too long.

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

halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
pin_access
# Without its slack of every net in every iteration, which takes most of the time.
halut_route -congestion_iterations 50 -critical_nets_percentage 0
# Routes take detours that placement did not know of. Each time mends what the one before moved.
foreach time {first second third} {
  repair_design
  repair_timing -setup -setup_margin $halut(setup_margin) -repair_tns $halut(repair_tns)
  repair_timing -hold -hold_margin $halut(hold_margin)
  global_route -start_incremental -allow_congestion
  detailed_placement
  halut_route -end_incremental
}
if {$halut(diode) ne ""} {
  repair_antennas $halut(diode) -iterations 5
  estimate_parasitics -global_routing
}
check_placement -verbose
halut_report globalroute
halut_save
