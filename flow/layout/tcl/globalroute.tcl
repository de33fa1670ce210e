# Global routes, and what they show to be too long.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
pin_access
# Without its slack of every net in every iteration, which takes most of the time.
global_route -guide_file $halut(folder)/route.guide -congestion_iterations 50 \
  -critical_nets_percentage 0 -congestion_report_file $halut(folder)/congestion.rpt
if {$halut(diode) ne ""} { repair_antennas $halut(diode) -iterations 5 }
check_placement -verbose
estimate_parasitics -global_routing
halut_report globalroute
halut_save
