# Wires and vias, design-rule checks.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
utl::set_metrics_stage "detailedroute__{}"

proc halut_route_in_detail {args} {
  global halut
  if {[llength $halut(fill)]} { filler_placement $halut(fill) }
  global_connect
  detailed_route -output_drc $halut(folder)/drc.rpt -verbose 1 {*}$args
  return [check_antennas -report_file $halut(folder)/antennas.rpt]
}

# Pin access is kept in the database from global routing.
set left [halut_route_in_detail -no_pin_access]
# Wires are not where global routing had them, so that other nets need a diode.
for {set times 0} {$left && $halut(diode) ne "" && $times < 5} {incr times} {
  remove_fillers
  repair_antennas $halut(diode)
  check_placement -verbose
  set left [halut_route_in_detail]
}
halut_save
