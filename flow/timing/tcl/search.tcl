# Slacks and the shortest period, for OpenSTA and for OpenROAD.

# Worst slack of a path group in ns; `none` where it has no path.
proc halut_slack {group delay {none none}} {
  # A design without latches has no group of that name.
  if {$group eq "table_write" && ![llength $::halut_latches]} { return $none }
  set paths [find_timing_paths -path_group $group -path_delay $delay]
  if {[llength $paths] == 0} { return $none }
  return [get_property [lindex $paths 0] slack]
}

# Shortest period that setup allows, to 0.1 %, from a guess; `constrain` sets the period.
# Slack grows by at most 1 ns per ns of the period, so that going down by the slack never goes too
# far, and by at least 0.3 (from port to port), which bounds the way up. Latches borrow time: their
# slack is 0 until there is no more to borrow, so that where they limit the period it is found
# between one that is too short and one that is not.
proc halut_shortest {period constrain} {
  set low 0.0
  set high Inf
  for {set step 0} {$step < 30} {incr step} {
    $constrain $period
    set slack [halut_slack clk max 0.0]
    set write [halut_slack table_write max 0.0]
    if {$write < $slack && $write < 0} { set slack $write }
    if {$slack >= 0} {
      set high $period
      if {$slack < 0.001 * $high || $high - $low < 0.001 * $high} { break }
      set period [expr {$high - $slack}]
    } else {
      set low $period
      set period [expr {$step == 0 ? $low - 1.0001 * $slack : $low - $slack / 0.3}]
    }
    if {$period <= $low || $period >= $high} { set period [expr {($low + $high) / 2}] }
  }
  return [expr {$high < Inf ? $high : $period}]
}
