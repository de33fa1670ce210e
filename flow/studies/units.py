"""``python -m flow units``: the accelerator's units, each synthesised and measured alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flow.cells.platform_file import read_platform
from flow.designs.unit import UNITS, unit_design
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.report.table import Column, fixed, terminal
from flow.report.table import markdown as table_markdown
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.options import RunOptions
from flow.run.sources import ROOT
from halut.cli import Parser
from halut.files import write_text
from rtl_gen.config import AcceleratorConfig

__all__ = ["DEFAULT_CONFIG", "main", "markdown", "measure_units", "title"]

log = logging.getLogger(__name__)

DEFAULT_CONFIG = ROOT / "configs" / "paper.yaml"

_COLUMNS = (
    Column("synth__design__instance__area__stdcell", 1),
    Column("halut__area__gate_equivalents"),
    Column("halut__timing__shortest_period", 3),
    Column("synth__power__total", 4),
    Column("synth__power__switching__total", 4),
    Column("synth__power__internal__total", 4),
    Column("synth__power__leakage__total", 5),
)


def _rows(config: AcceleratorConfig, found: Mapping[str, Metrics]) -> list[list[str]]:
    """The table, its head first."""
    heads = (column.head for column in _COLUMNS)
    rows = [["unit", *heads, "operations (per cycle)", "energy (pJ/operation)"]]
    for kind, metrics in found.items():
        cells = [column.text(metrics.values) for column in _COLUMNS]
        operations = UNITS[kind].operations(config)
        energy = fixed(metrics.values["halut__energy__per_cycle"], 4, 1 / operations)
        rows.append([title(kind, config), *cells, str(operations), energy])
    return rows


def title(kind: str, config: AcceleratorConfig) -> str:
    """What a row is called for a configuration."""
    counts = {"encoders": config.tree_depth, "decoders": config.decoders_per_word}
    return f"{counts[kind]} {kind}" if kind in counts else kind


def markdown(config: AcceleratorConfig, found: Mapping[str, Metrics]) -> str:
    """The table as Markdown, with what the rows are below it."""
    notes = [
        f"- **{title(kind, config)}**: {UNITS[kind].what}; an operation is one "
        f"{UNITS[kind].operation}. {metrics.values['sim__transfers__checked']} outputs equal the "
        f"exact model; `{metrics.provenance['slug']}`."
        for kind, metrics in found.items()
    ]
    return "\n".join([table_markdown(_rows(config, found)), *notes]) + "\n"


def measure_units(
    kinds: Sequence[str],
    config: AcceleratorConfig,
    platform: str,
    options: RunOptions,
    build: Path,
) -> dict[str, Metrics]:
    """Run the flow for units of one configuration; the metrics of each."""
    place = read_platform(platform)
    found = {}
    for number, kind in enumerate(kinds, 1):
        log.info("unit %d/%d: %s on %s", number, len(kinds), kind, place.name)
        found[kind] = measure(unit_design(kind, config), place, options, build)[0]
    return found


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow units",
        description="Synthesise, time and power single units: area, gate equivalents, power "
        "(switching, internal, leakage) and energy per operation of encoders, decoders, adder.",
    )
    add = parser.add_argument
    add("--units", default="", metavar="NAMES",
        help=f"comma-separated: {', '.join(UNITS)} (default: all)")  # fmt: skip
    add("--config", default=str(DEFAULT_CONFIG), metavar="FILE",
        help="configuration of the accelerator (default: configs/paper.yaml)")  # fmt: skip
    add_run_arguments(parser, platform="nangate45", defaults=RunOptions(cycles=256))
    add("--routed", action="store_true",
        help="go on to a routed layout of each, with OpenROAD; the table stays that of synthesis, "
        "`python -m flow layouts` makes that of layouts")  # fmt: skip
    add("-o", "--output", default="build/units", metavar="DIR", help="folder for all products")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    kinds = among("--units", arguments.units, UNITS) or list(UNITS)
    options = run_options(arguments, layout="routed" if arguments.routed else "none")
    config = AcceleratorConfig.from_yaml(arguments.config)
    platform = read_platform(arguments.platform)
    if platform.has_library:
        platform.liberty_files(arguments.corner)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    build = Path(arguments.output)
    found = measure_units(kinds, config, arguments.platform, options, build)
    print(terminal(_rows(config, found)))
    page = (build / f"units-{platform.name}.md").resolve()
    write_text(page, markdown(config, found))
    print(f"wrote {page}")
    return 0
