# Die, rows, tracks, taps and power grid.
read_lef $halut(technology_lef)
foreach file $halut(cell_lef) { read_lef $file }
foreach file $halut(liberty) { read_liberty $file }
read_verilog $halut(netlist)
link_design $halut(top)
halut_constrain_design

if {$halut(die) ne ""} {
  initialize_floorplan -site $halut(site) -die_area $halut(die) -core_area $halut(core)
} else {
  initialize_floorplan -site $halut(site) -utilization $halut(utilisation) \
    -aspect_ratio $halut(aspect) -core_space $halut(margin)
}
if {[llength $halut(tracks)] == 0} { make_tracks }
foreach {layer x_offset x_pitch y_offset y_pitch} $halut(tracks) {
  make_tracks $layer -x_offset $x_offset -x_pitch $x_pitch -y_offset $y_offset -y_pitch $y_pitch
}
# The netlist's buffers were made without knowing distances; placement makes its own.
if {$halut(remove_buffers)} { remove_buffers }
foreach pin $halut(ties) { repair_tie_fanout $pin }
foreach {name x y} $halut(block_places) {
  set instance [[ord::get_db_block] findInst $name]
  $instance setLocation [ord::microns_to_dbu $x] [ord::microns_to_dbu $y]
  $instance setPlacementStatus FIRM
}
if {[llength $halut(macros)] && $halut(block) eq ""} {
  set placed [rtl_macro_placer -halo_width $halut(half_channel) \
    -halo_height $halut(half_channel) -report_directory $halut(folder)/macros]
  if {$placed eq "false"} { error "macros must have room: lower --utilisation" }
}
if {$halut(tap) ne ""} {
  tapcell -distance $halut(tap_distance) -tapcell_master $halut(tap) \
    -endcap_master $halut(endcap) -halo_width_x $halut(halo) -halo_width_y $halut(halo)
} elseif {[llength $halut(macros)]} {
  cut_rows -halo_width_x $halut(halo) -halo_width_y $halut(halo)
}

foreach pattern $halut(power_pins) {
  add_global_connection -net VDD -inst_pattern .* -pin_pattern "^$pattern$" -power
}
foreach pattern $halut(ground_pins) {
  add_global_connection -net VSS -inst_pattern .* -pin_pattern "^$pattern$" -ground
}
global_connect
set_voltage_domain -name CORE -power VDD -ground VSS
define_pdn_grid -name grid -voltage_domains CORE -pins $halut(top_stripe)
foreach {layer arguments} $halut(stripes) {
  add_pdn_stripe -grid grid -layer $layer {*}$arguments
}
foreach pair $halut(stripe_pairs) { add_pdn_connect -grid grid -layers $pair }
if {[llength $halut(macros)]} {
  # A macro has power pins of its own below the topmost stripes, which run over it.
  define_pdn_grid -name macros -voltage_domains CORE -macro -cells $halut(macros) \
    -halo "$halut(halo) $halut(halo)"
  add_pdn_connect -grid macros -layers $halut(macro_power)
}
pdngen
if {[llength $halut(macros)]} {
  foreach net {VDD VSS} { check_power_grid -floorplanning -net $net }
}

halut_report floorplan
halut_save
