# Shared by all stages. `halut` holds the settings that flow.pnr wrote for this run.

# The design as the stage before left it, with its timing set up.
proc halut_open {} {
  global halut
  foreach file $halut(liberty) { read_liberty $file }
  read_db $halut(input)
  halut_constrain_design
}

# The constraints are part of no database: every stage reads them again.
proc halut_constrain_design {} {
  global halut
  set_cmd_units -time ns -capacitance fF -resistance ohm -power uW -distance um
  uplevel #0 [list source $halut(constraints)]
  foreach {layer ohm ff} $halut(layer_rc) {
    set_layer_rc -layer $layer -resistance $ohm -capacitance $ff
  }
  foreach {via ohm} $halut(via_rc) { set_layer_rc -via $via -resistance $ohm }
  set_wire_rc -signal -layer $halut(signal_wire)
  set_wire_rc -clock -layer $halut(clock_wire)
  foreach pattern $halut(dont_use) { set_dont_use $pattern }
  set_thread_count $halut(threads)
}

proc halut_routing_layers {} {
  global halut
  foreach {layer share} $halut(reserve) { set_global_routing_layer_adjustment $layer $share }
  set_routing_layers -signal $halut(signal_layers) -clock $halut(clock_layers)
}

# Worst slack of a path group in ns; 0 when it has no path.
proc halut_slack {group delay} {
  set paths [find_timing_paths -path_group $group -path_delay $delay]
  if {[llength $paths] == 0} { return 0.0 }
  return [get_property [lindex $paths 0] slack]
}

# Shortest period that setup allows, to 0.1 %: latches borrow time, so that their slack is 0 until
# there is no more to borrow. Slack grows by at most 1 ns per ns of the period, so that going down
# by the slack never goes too far, and by at least 0.3 (from port to port), which bounds the way up.
proc halut_shortest {period} {
  set guess $period
  for {set step 0} {$step < 30} {incr step} {
    halut_constrain $guess
    set_propagated_clock [all_clocks]
    set slack [halut_slack clk max]
    set write [halut_slack table_write max]
    if {$write < $slack && $write < 0} { set slack $write }
    if {$slack >= 0 && $slack < 0.001 * $guess} { break }
    if {$slack >= 0} {
      set guess [expr {$guess - $slack}]
    } elseif {$step == 0} {
      set guess [expr {$guess - 1.0001 * $slack}]
    } else {
      set guess [expr {$guess - $slack / 0.3}]
    }
  }
  halut_constrain $period
  set_propagated_clock [all_clocks]
  return $guess
}

# Metrics of the design as it stands, under METRICS 2.1 names of this stage.
proc halut_report {stage} {
  global halut
  utl::set_metrics_stage "${stage}__{}"
  report_design_area_metrics
  # Without the latches' data pins, whose slack is 0 while they borrow.
  utl::metric_float "timing__setup__ws" [halut_slack clk max]
  utl::metric_float "timing__hold__ws" [halut_slack clk min]
  report_tns_metric -setup
  report_tns_metric -hold
  report_erc_metrics
  report_power_metric
  report_checks -path_delay max -fields {slew cap input net fanout} -digits 4 \
    > $halut(folder)/$stage.setup.rpt
  report_checks -path_delay min -fields {slew cap input net fanout} -digits 4 \
    > $halut(folder)/$stage.hold.rpt
}

# Under another name until it is complete: what has the final name can be resumed from.
proc halut_save {} {
  global halut
  write_db $halut(output).part
  file rename -force $halut(output).part $halut(output)
}
