# Extraction, sign-off timing and the files that others read.
halut_open
set_propagated_clock [all_clocks]
halut_routing_layers
if {$halut(extraction) ne ""} {
  define_process_corner -ext_model_index 0 X
  extract_parasitics -ext_model_file $halut(extraction)
  write_spef $halut(folder)/final.spef
  read_spef $halut(folder)/final.spef
} else {
  estimate_parasitics -global_routing -spef_file $halut(folder)/final.spef
}
if {$halut(activity) ne ""} { read_saif -scope $halut(top) $halut(activity) }
halut_report finish
report_clock_skew > $halut(folder)/finish.skew.rpt
report_clock_skew_metric -setup
report_clock_skew_metric -hold
puts "HALUT period [halut_shortest $halut(period) halut_routed_period]"
halut_routed_period $halut(period)
write_def $halut(folder)/final.def
write_verilog -remove_cells $halut(no_logic) $halut(folder)/final.v
halut_save
