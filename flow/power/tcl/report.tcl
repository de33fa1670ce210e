# Power of every cell with the activity of a simulation, for OpenSTA and for OpenROAD.
proc halut_power {} {
  global halut
  read_saif -scope $halut(top) $halut(saif)
  # Input ports are no cell's output, so that SAIF has no place for them.
  foreach {port rate duty} $halut(ports) {
    set_power_activity -input_ports [get_ports $port] -activity $rate -duty $duty
  }
  report_power -instances [get_cells *] -digits 6 > $halut(folder)/power.rpt
}
