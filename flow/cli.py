"""Command line of ``flow synth`` and ``flow pnr``: the same run, ended earlier or later."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow.netlist.yosys import SynthOptions
from flow.run.flags import add_run_arguments, run_options
from flow.run.options import BUILD, LayoutOptions
from halut.checks import read_json
from halut.cli import Parser
from halut.errors import CheckFailed, HalutError
from rtl_gen.commands.front_end import front_end_config
from rtl_gen.front_end import FrontEndConfig
from rtl_gen.settings import add_flags, given_settings

if TYPE_CHECKING:
    from rtl_gen.tiled_config import AnyConfig

_EPILOG = "Exit status: 0 done, 1 a check or a tool failed, 2 wrong input or something missing."


def _synth_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m flow synth",
        description="Synthesise a configuration, time it, simulate the netlist against the exact "
        "model and report its energy; with OpenROAD (on PATH or OPENROAD_EXE), place it and report "
        "area, timing and power with estimated wires. Unchanged steps of an earlier run are not "
        "done again.",
        epilog=_EPILOG,
    )
    _run_arguments(parser)
    parser.add_argument("--synth-only", action="store_true", help="do not go on to OpenROAD")
    return parser


def _pnr_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m flow pnr",
        description="What synth does, and then OpenROAD from floorplan to routed layout: DEF, GDS, "
        "SPEF, netlist, pictures, and the energy of a simulation of the routed netlist. Stops can "
        "be resumed: finished stages are not done again.",
        epilog=_EPILOG,
    )
    _run_arguments(parser)
    add_flags(parser, {"": LayoutOptions})
    return parser


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="configuration of the accelerator (.yaml)")
    image = parser.add_argument_group(
        "front end", "with the first three, the accelerator behind a front end of 3x3 convolutions"
    )
    add_flags(image, {"": FrontEndConfig})
    add_run_arguments(parser, platform="generic")
    add_flags(parser, {"": SynthOptions})
    add("--program", metavar="FILE", help="program to simulate with (.npz; default: random)")
    add("--input", metavar="FILE", help="matrix A to simulate with (.npy; default: random)")
    add("--prove", action="store_true",
        help="prove that the netlist equals the RTL, for all inputs and stored bits")  # fmt: skip
    add("--no-power", action="store_true", help="stop after timing")
    add("--baseline", metavar="FILE", help="metrics.json to compare with (default: the last run)")
    add("--rules", metavar="FILE", help="limits that metrics must keep (.json; default: none)")
    add("-o", "--output", default=str(BUILD), metavar="DIR",
        help="folder for all products")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="print the result only")


def _front_end(config: AnyConfig, arguments: argparse.Namespace) -> FrontEndConfig | None:
    given = given_settings(arguments, {"": FrontEndConfig})
    if not given:
        return None
    if not {"height", "width", "channels"} <= set(given):
        raise HalutError(
            f"--height, --width and --channels must come together, not --{' and --'.join(given)}"
        )
    if arguments.program:
        raise HalutError("--program must not be given with a front end, which has random images")
    return front_end_config(config, arguments)


def _run(arguments: argparse.Namespace, layout: dict[str, Any], files: list[str]) -> int:
    from flow.cells.platform_file import read_platform
    from flow.designs.convolution import convolution
    from flow.designs.design import accelerator
    from flow.figures.metrics import check_rules, read_metrics
    from flow.measure import measure
    from flow.report.terminal import comparison, summary
    from halut.arrays import load_matrix
    from halut.program import Program
    from rtl_gen.tiled_config import load_config

    config = load_config(arguments.config)
    front_end = _front_end(config, arguments)
    platform = read_platform(arguments.platform)
    if arguments.corner and platform.has_library:
        platform.corner(arguments.corner)
    program = words = None
    if arguments.program:
        program = Program.load(arguments.program)
    if arguments.input:
        if program is None:
            raise HalutError("--input must come with --program")
        words = program.input_words(load_matrix("--input", arguments.input))
    rules = read_json(arguments.rules, "rules") if arguments.rules else None
    baseline = read_metrics(Path(arguments.baseline)) if arguments.baseline else None
    options = run_options(
        arguments,
        synth=SynthOptions(**given_settings(arguments, {"": SynthOptions})),
        power=not arguments.no_power,
        prove=arguments.prove,
        **layout,
    )
    design = accelerator(config, program, words) if front_end is None else convolution(front_end)
    metrics, folder = measure(design, platform, options, Path(arguments.output))
    print(summary(metrics))
    previous = folder / "metrics.previous.json"
    if baseline is not None:
        print(comparison(baseline, metrics, arguments.baseline))
    elif previous.is_file():
        print(comparison(read_metrics(previous), metrics, "the run before"))
    failures = check_rules(metrics, rules, Path(arguments.rules)) if rules is not None else []
    print(f"wrote {', '.join(str(folder / name) for name in files)}")
    if failures:
        raise CheckFailed("; ".join(failures))
    return 0


def _logged(arguments: argparse.Namespace, layout: dict[str, Any], files: list[str]) -> int:
    level = logging.INFO
    if arguments.verbose:
        level = logging.DEBUG
    if arguments.quiet:
        level = logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    from flow.tools import ToolFailed

    try:
        return _run(arguments, layout, ["metrics.json", "netlist.v", *files])
    except ToolFailed as error:
        print("\n".join(f"  | {line}" for line in error.tail.splitlines()), file=sys.stderr)
        raise


def synth(argv: Sequence[str]) -> int:
    """Run ``python -m flow synth``; returns the exit status."""
    arguments = _synth_parser().parse_args(argv)
    return _logged(arguments, {"layout": "none" if arguments.synth_only else "auto"}, [])


def pnr(argv: Sequence[str]) -> int:
    """Run ``python -m flow pnr``; returns the exit status."""
    arguments = _pnr_parser().parse_args(argv)
    options = LayoutOptions(**given_settings(arguments, {"": LayoutOptions}))
    return _logged(
        arguments,
        {"layout": "routed", "place_and_route": options},
        ["pnr/final.def", "pnr/final.v", "pnr/final.spef"],
    )
