# Wires and vias, design-rule checks.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
utl::set_metrics_stage "detailedroute__{}"
if {[llength $halut(fill)]} { filler_placement $halut(fill) }
global_connect
# Pin access is kept in the database from global routing.
detailed_route -output_drc $halut(folder)/drc.rpt -no_pin_access -verbose 1
check_antennas -report_file $halut(folder)/antennas.rpt
halut_save
