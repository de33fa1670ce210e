"""``python -m flow units``: the accelerator's units, each synthesised and measured alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flow.cells.platform import read_platform
from flow.designs.unit import UNITS, unit_design
from flow.figures.metrics import Metrics
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.run import RunOptions, measure
from halut.cli import Parser
from halut.files import atomic_write
from rtl_gen.config import AcceleratorConfig

__all__ = ["main", "markdown", "measure_units", "title"]

log = logging.getLogger(__name__)

_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "paper.yaml"

# Column: title, unit, metric, digits behind the point.
_COLUMNS = (
    ("area", "µm²", "synth__design__instance__area__stdcell", 1),
    ("size", "GE", "halut__area__gate_equivalents", 0),
    ("shortest period", "ns", "halut__timing__shortest_period", 3),
    ("power", "mW", "synth__power__total", 4),
    ("switching", "mW", "synth__power__switching__total", 4),
    ("internal", "mW", "synth__power__internal__total", 4),
    ("leakage", "mW", "synth__power__leakage__total", 5),
)
_HEAD = ["unit", *(f"{title} ({unit})" for title, unit, _, _ in _COLUMNS),
         "operations (per cycle)", "energy (pJ/operation)"]  # fmt: skip


def _cells(kind: str, config: AcceleratorConfig, metrics: Metrics) -> list[str]:
    values = metrics.values
    cells = [
        "–" if value is None else f"{value:,.{digits}f}"
        for _, _, name, digits in _COLUMNS
        for value in [values[name]]
    ]
    operations = UNITS[kind].operations(config)
    energy = values["halut__energy__per_cycle"]
    cells += [str(operations), "–" if energy is None else f"{energy / operations:.4f}"]
    return cells


def title(kind: str, config: AcceleratorConfig) -> str:
    """What a row is called for a configuration."""
    counts = {"encoders": config.tree_depth, "decoders": config.decoders_per_word}
    return f"{counts[kind]} {kind}" if kind in counts else kind


def markdown(config: AcceleratorConfig, found: Mapping[str, Metrics]) -> str:
    """The table as Markdown, with what the rows are below it."""
    lines = [_HEAD, ["---"] + ["---:"] * (len(_HEAD) - 1)]
    lines += [[title(kind, config), *_cells(kind, config, m)] for kind, m in found.items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [
        f"- **{title(kind, config)}**: {UNITS[kind].what}; an operation is one "
        f"{UNITS[kind].operation}. {metrics.values['sim__transfers__checked']} outputs equal the "
        f"exact model; `{metrics.provenance['slug']}`."
        for kind, metrics in found.items()
    ]
    return "\n".join([table, "", *notes]) + "\n"


def _terminal(config: AcceleratorConfig, found: Mapping[str, Metrics]) -> str:
    rows = [_HEAD, *([title(kind, config), *_cells(kind, config, m)] for kind, m in found.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


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
    add("--config", default=str(_CONFIG), metavar="FILE",
        help="configuration of the accelerator (default: configs/paper.yaml)")  # fmt: skip
    add_run_arguments(parser, platform="nangate45", cycles=256)
    add("--routed", action="store_true",
        help="go on to a routed layout of each, with OpenROAD; the table stays that of synthesis, "
        "`python -m flow layouts` makes that of layouts")  # fmt: skip
    add("-o", "--output", default="build/units", metavar="DIR",
        help="folder for all products (default: %(default)s)")  # fmt: skip
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
    print(_terminal(config, found))
    page = (build / f"units-{platform.name}.md").resolve()
    with atomic_write(page) as temporary:
        temporary.write_text(markdown(config, found), encoding="utf-8")
    print(f"wrote {page}")
    return 0
