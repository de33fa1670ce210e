# Global placement, ports, repair of slew, load and fan-out, legal places.
halut_open
halut_routing_layers
# Port by port around the block, in an order that follows a first placement without them.
global_placement -skip_io -density $halut(density) \
  -pad_left $halut(padding) -pad_right $halut(padding)
place_pins -hor_layers $halut(horizontal_pins) -ver_layers $halut(vertical_pins)
buffer_ports
set arguments [list -density $halut(density) -pad_left $halut(padding) -pad_right $halut(padding)]
if {$halut(timing_driven)} { lappend arguments -timing_driven }
if {$halut(routability_driven)} { lappend arguments -routability_driven }
global_placement {*}$arguments
estimate_parasitics -placement
repair_design
detailed_placement
check_placement -verbose
estimate_parasitics -placement
if {$halut(activity) ne ""} { read_saif -scope $halut(top) $halut(activity) }
halut_report detailedplace
write_def $halut(folder)/place.def
halut_save
