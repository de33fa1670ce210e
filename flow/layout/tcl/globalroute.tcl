# Global routes, and what they show to be too long.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
pin_access
# Without its slack of every net in every iteration, which takes most of the time.
# A few overfull regions are left to detailed routing: the capacities leave out `reserve`.
set report $halut(folder)/congestion.rpt
file delete $report
global_route -guide_file $halut(folder)/route.guide -congestion_iterations 50 \
  -critical_nets_percentage 0 -congestion_report_file $report -allow_congestion
set overfull 0
if {[file exists $report]} {
  set file [open $report]
  set overfull [regexp -all -line {^violation type} [read $file]]
  close $file
}
if {$overfull > 100} {
  error "global routing must leave at most 100 regions overfull, not $overfull ($report): lower --utilisation"
}
if {$halut(diode) ne ""} { repair_antennas $halut(diode) -iterations 5 }
check_placement -verbose
estimate_parasitics -global_routing
halut_report globalroute
halut_save
