# Global routes, and what they show to be too long.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
pin_access
global_route -guide_file $halut(folder)/route.guide -congestion_iterations 50 \
  -congestion_report_file $halut(folder)/congestion.rpt
if {$halut(diode) ne ""} { repair_antennas $halut(diode) -iterations 5 }
check_placement -verbose
estimate_parasitics -global_routing
halut_report globalroute
halut_save
