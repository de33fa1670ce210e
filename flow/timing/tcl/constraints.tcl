proc halut_ports {names} {
  set found {}
  foreach name $names {
    foreach port [get_ports -quiet [list $name $name\[*\]]] { lappend found $port }
  }
  return $found
}
# Logic outside takes `time` between registers and the ports.
proc halut_delay_ports {time args} {
  global halut_sdc
  set latency $halut_sdc(io_latency)
  set_input_delay {*}$args [expr {$time + $latency}] -network_latency_included -clock clk \
    [halut_ports $halut_sdc(inputs)]
  set_output_delay {*}$args [expr {$time - $latency}] -network_latency_included -clock clk \
    [halut_ports $halut_sdc(outputs)]
}
proc halut_constrain {period} {
  global halut_sdc
  create_clock -name clk -period $period [get_ports $halut_sdc(clock)]
  # Until there is a clock tree, its registers get the edge as late as those outside.
  set_clock_latency $halut_sdc(io_latency) [get_clocks clk]
  halut_delay_ports [expr {$halut_sdc(io_share) * $period}]
}
halut_constrain $halut_sdc(period)
set_driving_cell -library $halut_sdc(driver_library) -lib_cell $halut_sdc(driver) \
  -pin $halut_sdc(driver_pin) [halut_ports $halut_sdc(inputs)]
set_load $halut_sdc(load_ff) [halut_ports $halut_sdc(outputs)]
# No path runs through a latch's data pin: its contents stand still while they are read.
foreach {cell from to} $halut_sdc(latch_arcs) {
  set_disable_timing -from $from -to $to [get_lib_cells $cell]
}
set halut_latches [all_registers -level_sensitive -data_pins]
if {[llength $halut_latches]} { group_path -name table_write -to $halut_latches }
