"""Command line of the flow: ``python -m flow COMMAND ...``; each command has its own ``--help``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from halut.cli import Parser, run
from halut.errors import HalutError

# Command: the function that runs it (module below flow, colon, name), and what it does.
_COMMANDS = {
    "synth": ("cli:synth", "area, timing and energy of a configuration"),
    "pnr": ("cli:pnr", "a routed, extracted, timed layout of a configuration, with OpenROAD"),
    "fpga": ("fpga.cli:main", "a configuration on an FPGA: resources, period, bitstream"),
    "layouts": ("studies.layouts:main", "routed runs in one table, beside published layouts"),
    "formal": ("formal.cli:main", "proofs of what the units promise"),
    "report": ("report.html.cli:main", "runs as one HTML page"),
    "orfs": ("layout.orfs:main", "a configuration as a design of OpenROAD-flow-scripts"),
    "bench": ("studies.bench:main", "our engines and the direct ones in one table"),
    "units": ("studies.units:main", "encoder, decoder and adder alone"),
    "memories": ("studies.memories:main", "tables in latches beside tables in SRAM macros"),
    "wires": ("studies.wires:main", "capacitance of a platform's wires, fitted to extraction"),
    "cfu": ("studies.cfu:main", "the custom function unit beside processor and accelerators"),
    "tables": ("studies.tables:main", "the paper's tables rebuilt"),
    "scale": ("studies.scaling:main", "metrics carried to another technology"),
    "system": ("studies.system:main", "a whole network on an accelerator"),
    "ratio": ("studies.ratio:main", "an inference looked up beside an exact one, with accuracies"),
    "sweep": ("search.sweep:main", "every point of a space of configurations"),
    "pareto": ("search.pareto:main", "the points of a sweep that nothing beats"),
    "mutate": ("mutation.cli:main", "how many faults in the Verilog the benches find"),
    "fit": ("search.fit:main", "configurations that meet budgets"),
    "model": ("search.model:main", "estimates without synthesis"),
    "doctor": ("doctor:main", "which tools are there, and how to get the others"),
    "platforms": ("__main__:platforms", "the platforms and where their files are"),
}


def platforms(argv: Sequence[str]) -> int:
    """List the platforms, their corners and where their files are; returns the exit status."""
    from flow.cells.platform_file import platform_names, read_platform

    Parser(
        prog="python -m flow platforms",
        description="List the platforms, their corners and where their files are.",
    ).parse_args(argv)
    for name in platform_names():
        platform = read_platform(name)
        line = f"{name:<10} {platform.title}"
        if platform.has_library:
            line += f"; corners {', '.join(platform.corners)}"
            try:
                files = platform.liberty_files()
                line += f"; found in {files[0].parent}"
            except HalutError:
                line += "; not found here"
        print(line)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m flow",
        description="From a configuration to netlist, layout, figures and reports.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands, each with its own --help:\n"
        + "\n".join(f"  {name:<10} {does}" for name, (_, does) in _COMMANDS.items())
        + "\n\nExit status: 0 done, 1 a check or a tool failed, 2 wrong input or something missing",
    )
    parser.add_argument(
        "command", metavar="COMMAND", choices=_COMMANDS, nargs="?", help="see below"
    )
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="its arguments")
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(given[:1])
    if arguments.command is None:
        parser.print_help()
        return 2
    module, function = _COMMANDS[arguments.command][0].split(":")
    return int(getattr(importlib.import_module(f"flow.{module}"), function)(given[1:]))


if __name__ == "__main__":
    sys.exit(run(main))
