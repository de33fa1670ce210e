# Shared by all stages. `halut` holds the settings that flow.layout wrote for this run.

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

# Every input pin must have a net: a clock tree of OpenROAD 26Q1 left two clock gates without one.
proc halut_check_connected {} {
  set lost {}
  foreach instance [[ord::get_db_block] getInsts] {
    foreach pin [$instance getITerms] {
      if {[$pin isInputSignal] && [$pin getNet] eq "NULL"} { lappend lost [$instance getName] }
    }
  }
  if {[llength $lost]} {
    error "every input pin must have a net, not none at [llength $lost] pins: [lrange $lost 0 7]"
  }
}

# The constraints at another period, with the clock tree that is there.
proc halut_routed_period {period} {
  halut_constrain $period
  set_propagated_clock [all_clocks]
}

# Metrics of the design as it stands, under METRICS 2.1 names of this stage; further words
# are for the report of power.
proc halut_report {stage args} {
  global halut
  utl::set_metrics_stage "${stage}__{}"
  report_design_area_metrics
  # Without the latches' data pins, whose slack is 0 while they borrow.
  utl::metric_float "timing__setup__ws" [halut_slack clk max 0.0]
  utl::metric_float "timing__hold__ws" [halut_slack clk min 0.0]
  report_tns_metric -setup
  report_tns_metric -hold
  report_erc_metrics
  report_power_metric {*}$args
  report_checks -path_delay max -fields {slew cap input net fanout} -digits 4 \
    > $halut(folder)/$stage.setup.rpt
  report_checks -path_delay min -fields {slew cap input net fanout} -digits 4 \
    > $halut(folder)/$stage.hold.rpt
}

# Timing at the ports as Liberty, the design being its only cell. Under another name until it is
# complete.
proc halut_write_timing_model {file} {
  global halut
  write_timing_model -library_name $halut(top)_block -cell_name $halut(top) $file.part
  file rename -force $file.part $file
}

# Under another name until it is complete: what has the final name can be resumed from.
proc halut_save {} {
  global halut
  write_db $halut(output).part
  file rename -force $halut(output).part $halut(output)
}
