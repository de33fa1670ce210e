"""A stand-in for OpenROAD's Tcl: it knows the commands of a release and does nothing.

``openroad_commands.json`` says which flags and keys each command takes, and how many words besides.
A script that runs through here is no proof that a layout comes out, but a command, flag or key that
a release does not have is found in milliseconds and without the tool.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COMMANDS = Path(__file__).with_name("openroad_commands.json")

RELEASES = tuple(json.loads(_COMMANDS.read_text()))

# Each word of a call travels as hexadecimal digits: no quoting to agree on.
_DRIVER = r"""
namespace eval ::stub {
  variable calls {}
  variable returns
  array set returns {}
}
# The database of a design without instances.
proc ::stub::block {method args} {
  if {$method eq "findInst"} { return NULL }
  return {}
}
proc exit {args} { return -code error -errorcode {STUB EXIT} "exit" }
proc unknown {args} {
  return -code error "[lindex $args 0] must be a command of OpenROAD $::stub::release"
}
proc ::stub::call {name any flags keys least most redirect words} {
  variable calls
  variable release
  variable returns
  lappend calls [linsert $words 0 $name]
  set rest {}
  if {$redirect} {
    set last [lindex $words end]
    if {[llength $words] > 1 && [lindex $words end-1] in {> >>}} {
      close [open $last a]
      set words [lrange $words 0 end-2]
    } elseif {[regexp {^>>?(.+)$} $last -> file]} {
      close [open $file a]
      set words [lrange $words 0 end-1]
    }
  }
  for {set at 0} {$at < [llength $words]} {incr at} {
    set word [lindex $words $at]
    if {$any || ![string match {-[a-zA-Z]*} $word]} {
      lappend rest $word
    } elseif {$word in $keys} {
      incr at
      if {$at == [llength $words]} {
        return -code error "$name $word must have a value, not none (OpenROAD $release)"
      }
    } elseif {$word ni $flags} {
      return -code error "$name must have flags it knows, not $word (OpenROAD $release)"
    }
  }
  set count [llength $rest]
  if {$count < $least || ($most >= 0 && $count > $most)} {
    return -code error "$name must have $least to $most words, not $count (OpenROAD $release)"
  }
  if {[string match write_* $name] && $count} { close [open [lindex $rest end] a] }
  if {[info exists returns($name)]} { return $returns($name) }
  if {[regexp {^(get|all)_} $name]} { return [expr {$count ? [lindex $rest end] : $name}] }
  return {}
}
proc ::stub::define {name any flags keys least most redirect} {
  namespace eval ::[namespace qualifiers $name] {}
  proc ::$name {args} "::stub::call [list $name $any $flags $keys $least $most $redirect] \$args"
}
proc ::stub::hex {words} {
  set digits {}
  foreach word $words { lappend digits x[binary encode hex [encoding convertto utf-8 $word]] }
  return $digits
}
proc ::stub::text {hex} {
  return [encoding convertfrom utf-8 [binary decode hex [string range $hex 1 end]]]
}
proc ::stub::run {steps output} {
  variable calls
  set status [catch {foreach step $steps { uplevel #0 $step }} message options]
  if {$status && [dict get $options -errorcode] eq {STUB EXIT}} { set status 0 }
  set trace [expr {$status ? [dict get $options -errorinfo] : {}}]
  set stream [open $output w]
  puts $stream [list $status [hex [list $message $trace]]]
  foreach call $calls { puts $stream [hex $call] }
  close $stream
}
"""


class StubError(Exception):
    """The script used what the release does not have, or failed by itself."""


def _hex(text: str) -> str:
    return "x" + text.encode().hex()


def _words(line: str) -> list[str]:
    return [bytes.fromhex(word[1:]).decode() for word in line.replace("{", " ").replace(
        "}", " ").split()]  # fmt: skip


def interpreters() -> list[str]:
    """Tcl interpreters that are here, the preferred first: ``tkinter``, the path of ``tclsh``."""
    found = ["tkinter"] if importlib.util.find_spec("_tkinter") else []
    shell = shutil.which("tclsh")
    return [*found, *([shell] if shell else [])]


def run_stub(
    scripts: Path | str | Sequence[Path | str],
    release: str,
    *,
    returns: Mapping[str, str] | None = None,
    interpreter: str | None = None,
) -> list[list[str]]:
    """Run Tcl with every command of a release checked and recorded.

    A ``write_...`` command, or a report that is redirected, leaves an empty file behind.
    ``get_...`` and ``all_...`` return their last word, other commands nothing. Flags must be
    written out: the abbreviations that OpenROAD takes change with its releases. ``catch`` works as
    usual.

    Parameters
    ----------
    scripts : Path, str or a sequence of them
        Files to be sourced, or text, one after the other in one interpreter. ``exit`` ends them.
    release : str
        One of `RELEASES`.
    returns : mapping of str to str, optional
        What commands return instead.
    interpreter : str, optional
        One of `interpreters`; the first by default.

    Returns
    -------
    list of list of str
        Words of each call, in order; the command's name first.

    Raises
    ------
    StubError
        For an unknown command, flag or key, a missing value, a wrong number of words, or any other
        error of the script.
    """
    commands: dict[str, dict[str, Any]] = json.loads(_COMMANDS.read_text())[release]["commands"]
    interpreter = interpreter or interpreters()[0]
    steps = []
    for script in [scripts] if isinstance(scripts, (Path, str)) else scripts:
        if isinstance(script, Path):
            steps.append(f"{{source [::stub::text {_hex(str(script.resolve()))}]}}")
        else:
            steps.append(f"{{eval [::stub::text {_hex(script)}]}}")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "calls"
        lines = [_DRIVER, f"set ::stub::release {release}"]
        for name, entry in commands.items():
            least, most = entry.get("args", (0, -1))
            lists = [" ".join(entry.get(key, ())) for key in ("flags", "keys")]
            lines.append(
                f"::stub::define {name} {int(entry.get('any', False))} {{{lists[0]}}} "
                f"{{{lists[1]}}} {least} {most} {int(entry.get('redirect', False))}"
            )
        for name, value in ({"ord::get_db_block": "::stub::block"} | dict(returns or {})).items():
            lines.append(f"set ::stub::returns({name}) [::stub::text {_hex(value)}]")
        lines.append(f"::stub::run {{{' '.join(steps)}}} [::stub::text {_hex(str(output))}]")
        driver = "\n".join(lines) + "\n"
        if interpreter == "tkinter":
            import tkinter

            tkinter.Tcl().eval(driver)
        else:
            file = Path(folder) / "driver.tcl"
            file.write_text(driver)
            subprocess.run([interpreter, str(file)], check=True, timeout=60)
        first, *rest = output.read_text().splitlines()
    message, trace = _words(first[2:])
    if first[0] != "0":
        raise StubError(f"{message}\n{trace}")
    return [_words(line) for line in rest]
