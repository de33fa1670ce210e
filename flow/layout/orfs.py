"""A configuration as a design of OpenROAD-flow-scripts (ORFS): ``python -m flow orfs``.

Written is a folder that ORFS' Makefile takes as ``DESIGN_CONFIG``: ``config.mk``, the Verilog, the
clock gate as the platform's cell, constraints in the platform's units, and rules that a finished
run is checked with. ORFS' own synthesis maps it; latches and adders through its platform's maps.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.designs.design import Design, accelerator
from flow.netlist.yosys import SynthOptions, clock_gate_module
from flow.run.flags import positive_ns
from halut.cli import Parser
from halut.errors import HalutError, closest
from halut.files import write_text
from rtl_gen.settings import add_flags, given_settings, setting
from rtl_gen.tiled_config import load_config
from sim.simulators import is_plain

__all__ = ["OrfsOptions", "config_mk", "constraint_sdc", "main", "rules", "write_design"]


@dataclass(frozen=True)
class _Units:
    """Of an ORFS platform: what its libraries count in, and the latches that it maps to."""

    time: str
    per_ns: float
    load: str
    per_ff: float
    latches: str


_PLATFORMS = {
    "asap7": _Units("ps", 1000.0, "fF", 1.0, "*/DHLx*_ASAP7_75t_*"),
    "nangate45": _Units("ns", 1.0, "fF", 1.0, "*/DLH_X*"),
    "sky130hd": _Units("ns", 1.0, "pF", 0.001, "*/sky130_fd_sc_hd__dlxtp_*"),
}


@dataclass(frozen=True, kw_only=True)
class OrfsOptions:
    """What the run is asked for."""

    clock_ns: float = setting(6.0, "--clock-ns", "clock period in ns", parse=float, metavar="NS")
    utilisation: float = setting(
        50.0, "--utilisation", "cells per core area in percent", parse=float, metavar="PERCENT"
    )
    io_share: float = 0.2  #: Share of the period that is outside at every port.

    def __post_init__(self) -> None:
        positive_ns("--clock-ns", self.clock_ns)
        if not (math.isfinite(self.utilisation) and 0 < self.utilisation <= 100):
            raise HalutError(
                f"--utilisation must be a percentage above 0, not {self.utilisation:g}"
            )


def _units(platform: Platform) -> _Units:
    if platform.folder not in _PLATFORMS:
        raise HalutError(
            f"platform must be one of OpenROAD-flow-scripts' {', '.join(_PLATFORMS)}, not "
            f"{platform.name}{closest(platform.name, _PLATFORMS)}"
        )
    return _PLATFORMS[platform.folder]


def config_mk(design: Design, platform: Platform, options: OrfsOptions) -> str:
    """``config.mk``: the design's variables; the files are found beside it, wherever that is."""
    _units(platform)
    gate = platform.cells["clock_gate"]
    ties = "".join(f" -tie_lo {pin}" for pin in gate.get("tie_low", []))
    least = SynthOptions().gate_min
    return f"""\
# {design.name}; config {design.config_hash[:12] or "none"}
halut_folder := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))

export PLATFORM = {platform.folder}
export DESIGN_NAME = {design.top}
export DESIGN_NICKNAME = {design.slug}

export VERILOG_FILES = $(halut_folder)/{design.top}.v $(halut_folder)/cells.v
export SDC_FILE = $(halut_folder)/constraint.sdc

# ORFS would take the number in the constraints, which is in ns on some platforms.
export ABC_CLOCK_PERIOD_IN_PS = {options.clock_ns * 1000:g}
export ABC_AREA = 1
# Registers with a common enable get a clock gate instead of multiplexers.
export INFER_CLKGATES = 1
export POS_CLKGATE_AND_PORTS = {gate["cell"]} {gate["enable"]}:{gate["clock"]}:{gate["output"]}\
{ties} -min_net_size {least}

export CORE_UTILIZATION ?= {options.utilisation:g}
export PLACE_DENSITY_LB_ADDON ?= 0.10
export TNS_END_PERCENT ?= 100
"""


def constraint_sdc(design: Design, platform: Platform, options: OrfsOptions) -> str:
    """``constraint.sdc``, in the units of the platform's libraries, as ORFS reads it."""
    units = _units(platform)
    quiet = " ".join(f"{name} {name}[*]" for name in (design.reset, *design.static))
    driver = platform.driver
    return f"""\
# Times in {units.time}, loads in {units.load}; {options.io_share:.0%} of the period is outside.
current_design {design.top}
set clk_period {options.clock_ns * units.per_ns:g}
create_clock -name clk -period $clk_period [get_ports {design.clock}]
set outside [expr {{{options.io_share:g} * $clk_period}}]
set inputs [all_inputs -no_clocks]
set_input_delay $outside -clock clk $inputs
set_output_delay $outside -clock clk [all_outputs]
set_driving_cell -lib_cell {driver["cell"]} -pin {driver["output"]} $inputs
set_load {platform.output_load_ff * units.per_ff:g} [all_outputs]
# These stand still while results are computed.
set_false_path -from [get_ports -quiet {{{quiet}}}]
# Nothing is computed while a table is written: no path runs through a latch's data pin.
foreach latch [get_lib_cells -quiet {units.latches}] {{
  set_disable_timing -from D -to Q $latch
}}
"""


def rules() -> str:
    """``rules-base.json``: what a finished run must keep, in the form of ORFS' checkMetadata.py."""
    must = {
        "constraints__clocks__count": (1, "=="),
        "detailedplace__design__violations": (0, "=="),
        "detailedroute__route__drc_errors": (0, "<="),
        "detailedroute__antenna__violating__nets": (0, "<="),
        "finish__timing__setup__ws": (0.0, ">="),
        "finish__timing__hold__ws": (0.0, ">="),
    }
    text = {name: {"value": value, "compare": how} for name, (value, how) in must.items()}
    return json.dumps(text, indent=4) + "\n"


_GATE = re.compile(r"(?:^//[^\n]*\n)*^module halut_clock_gate\b.*?^endmodule\n", re.M | re.S)


def write_design(design: Design, platform: Platform, options: OrfsOptions, build: Path) -> Path:
    """Write the folder.

    Parameters
    ----------
    platform : Platform
        Its `folder` is the name of an ORFS platform.
    build : Path
        The folder is ``<build>/<slug>/orfs/<platform>``.

    Returns
    -------
    Path
        ``config.mk``.

    Raises
    ------
    HalutError
        When ORFS has no such platform, or a file cannot be written.
    """
    folder = (build / design.slug / "orfs" / platform.name).resolve()
    if not is_plain(folder):
        raise HalutError(
            "the folder of an ORFS design must have a path of letters, digits and ./+,@_-, which "
            f"make can take ({folder})"
        )
    files = {
        # The behavioural clock gate gives way to the platform's cell.
        f"{design.top}.v": _GATE.sub("", design.verilog),
        "cells.v": clock_gate_module(platform),
        "constraint.sdc": constraint_sdc(design, platform, options),
        "rules-base.json": rules(),
        # Last, because it is what ORFS is pointed at.
        "config.mk": config_mk(design, platform, options),
    }
    for name, text in files.items():
        write_text(folder / name, text)
    return folder / "config.mk"


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow orfs",
        description="Write a configuration as a design of OpenROAD-flow-scripts, which "
        "synthesises, places and routes it. Nothing is run.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="configuration of the accelerator (.yaml)")
    add("--platform", default="nangate45", metavar="NAME",
        help=f"{', '.join(_PLATFORMS)}, or a YAML file of one's own for one of them"
        )  # fmt: skip
    add_flags(parser, {"": OrfsOptions})
    add("-o", "--output", default="build", metavar="DIR", help="folder for all products")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments: argparse.Namespace = _parser().parse_args(argv)
    options = OrfsOptions(**given_settings(arguments, {"": OrfsOptions}))
    platform = read_platform(arguments.platform)
    _units(platform)
    design = accelerator(load_config(arguments.config))
    path = write_design(design, platform, options, Path(arguments.output))
    print(f"make -C $FLOW_HOME DESIGN_CONFIG={path}")
    print("($FLOW_HOME is the folder `flow` of an OpenROAD-flow-scripts checkout)")
    print(f"wrote {path} and what it needs beside it")
    return 0
