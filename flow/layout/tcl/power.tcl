# Power of the routed design with the activity of a simulation of its own netlist.
halut_open
set_propagated_clock [all_clocks]
read_spef $halut(spef)
read_saif -scope $halut(top) $halut(saif)
foreach {port rate duty} $halut(ports) {
  set_power_activity -input_ports [get_ports $port] -activity $rate -duty $duty
}
report_power -instances [get_cells *] -digits 6 > $halut(folder)/power.rpt
