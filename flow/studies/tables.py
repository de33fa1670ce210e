"""``python -m flow tables``: the paper's tables rebuilt from our own flow, in one run."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flow.cells.platform_file import read_platform
from flow.designs.unit import UNITS
from flow.figures.metrics import Metrics, base_provenance
from flow.measure import measure
from flow.report.template import PAGES, render
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.options import RunOptions
from flow.studies import scaling, units
from flow.studies.bench import ROWS, with_library
from flow.studies.comparison import PUBLISHED, Figures, measured_row
from flow.studies.published import DECODER, ENCODER
from halut.cli import Parser
from halut.errors import CheckFailed, HalutError
from halut.files import write_text
from rtl_gen.config import AcceleratorConfig

__all__ = ["main", "page"]

log = logging.getLogger(__name__)

_PLATFORMS = "nangate45,asap7"
_ROWS = "stella_nera,dense,dot_product_latch"
_NODES = "14nm,3nm"
_UNIT_CYCLES = 256  # units are small: a long window costs little


def page(
    config: AcceleratorConfig,
    measured: Mapping[str, Mapping[str, Metrics]],
    rows: Sequence[Figures],
    options: RunOptions,
    command: str,
    failures: Sequence[str] = (),
) -> str:
    """The page as Markdown.

    Parameters
    ----------
    config : AcceleratorConfig
        That the units are of.
    measured : mapping of str to mapping of str to Metrics
        Units by platform and name.
    rows : sequence of Figures
        Of the comparison.
    command : str
        What was run.
    failures : sequence of str
        Rows that could not be measured.
    """
    return render(
        PAGES / "tables.md",
        config=config,
        platforms=[
            {
                "name": name,
                "title": read_platform(name).title,
                "source": next(iter(found.values())).provenance,
                "units": units.markdown(config, found),
            }
            for name, found in measured.items()
        ],
        comparison=scaling.markdown(rows),
        options=options,
        target=options.target_ns or options.clock_ns,
        command=command,
        failures=failures,
        source=base_provenance(),
        encoder=ENCODER,
        decoder=DECODER,
    )


def comparison(
    names: Sequence[str],
    platforms: Sequence[str],
    targets: Sequence[int],
    options: RunOptions,
    build: Path,
) -> tuple[list[Figures], list[str]]:
    """Measure rows of the bench on every platform, scale each, and add what others published.

    Returns
    -------
    failures : list of str
        What could not be measured.
    """
    rows: list[Figures] = []
    failures = []
    for name in names:
        for platform in platforms:
            log.info("%s on %s", name, platform)
            try:
                metrics, _ = measure(ROWS[name].design(), read_platform(platform), options, build)
            except HalutError as error:
                log.error("error: %s on %s: %s", name, platform, error)
                failures.append(f"{name} on {platform}")
                continue
            rows.append(measured_row(metrics))
            rows += [
                scaling.scaled_row(scaling.scale(metrics, target))
                for target in targets
                if target != scaling.source_node(metrics)
            ]
    return [*rows, *PUBLISHED], failures


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow tables",
        description="Rebuild the paper's tables from our flow, on several platforms in one run. "
        "Unchanged steps of an earlier run are not done again.",
    )
    add = parser.add_argument
    add("--platforms", default=_PLATFORMS, metavar="NAMES",
        help="platforms with a library, comma-separated")  # fmt: skip
    add("--config", default=str(units.DEFAULT_CONFIG), metavar="FILE",
        help="configuration that the units are of (default: configs/paper.yaml)")  # fmt: skip
    add_run_arguments(parser, platform=None, defaults=RunOptions(clock_ns=1.6, target_ns=1.1))
    add("--rows", default=_ROWS, metavar="NAMES",
        help="rows of `python -m flow bench` to compare, comma-separated")  # fmt: skip
    add("--to", default=_NODES, metavar="NODES", help="nodes that the comparison is scaled to")
    add("--build", default="build/tables", metavar="DIR",
        help="folder for all products but the page")  # fmt: skip
    add("-o", "--output", default="build/TABLES.md", metavar="FILE", help="page to write")
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = _parser().parse_args(argv)
    arguments.common = run_options(arguments)
    arguments.targets = scaling.nodes(arguments.to)
    arguments.designs = among("--rows", arguments.rows, ROWS)
    arguments.names = [name.strip() for name in arguments.platforms.split(",") if name.strip()]
    if not arguments.names:
        raise HalutError("--platforms must be at least one")
    for name in arguments.names:
        with_library("--platforms", name)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _arguments(argv)
    common = arguments.common
    options = dataclasses.replace(common, cycles=common.cycles or _UNIT_CYCLES)
    config = AcceleratorConfig.from_yaml(arguments.config)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    build = Path(arguments.build)
    measured = {
        name: units.measure_units(list(UNITS), config, name, options, build)
        for name in arguments.names
    }
    rows, failures = comparison(
        arguments.designs, arguments.names, arguments.targets, common, build
    )
    given = sys.argv[2:] if argv is None else argv
    command = " ".join(["python -m flow tables", *given])
    text = page(config, measured, rows, options, command, failures)
    write_text(arguments.output, text)
    print(f"wrote {arguments.output}")
    if failures:
        raise CheckFailed(f"all rows must be measured, not miss {', '.join(failures)}")
    return 0
