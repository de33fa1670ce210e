# A mapped netlist with its constraints, in OpenSTA.
proc halut_open {} {
  global halut
  foreach file $halut(liberty) { read_liberty $file }
  read_verilog $halut(netlist)
  link_design $halut(top)
  set_cmd_units -time ns -capacitance fF -power uW
  uplevel #0 [list source $halut(constraints)]
}
