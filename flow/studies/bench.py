"""``python -m flow bench``: our configurations and the direct engines in one table.

Every row goes through the same flow: synthesis, timing, simulation of the netlist with all of its
outputs compared with the exact model, power. Steps that an earlier run did are not done again.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flow.cells.platform import Platform
from flow.cells.platform_file import read_platform
from flow.designs.design import Design, accelerator
from flow.designs.direct import engine
from flow.figures.metrics import Metrics
from flow.figures.words import title
from flow.measure import measure
from flow.netlist.yosys import SynthOptions
from flow.report.table import Column, fixed, markdown, terminal
from flow.report.template import PAGES, render
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.options import RunOptions
from flow.run.sources import ROOT
from flow.studies.comparison import PUBLISHED
from flow.studies.published import LAYOUTS
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.config import AcceleratorConfig
from rtl_gen.direct import DotProductConfig, StoredMatrixConfig, SystolicConfig

__all__ = ["ROWS", "Measured", "Row", "main", "page", "with_library"]

log = logging.getLogger(__name__)

_CONFIGS = ROOT / "configs"
DEFAULT_PAGE = Path("docs") / "RESULTS.md"
# What the others are compared with.
BASE_ROW = "dot_product"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    name: str
    what: str  #: For readers of the page.
    design: Callable[[], Design]  #: Makes the `Design`.
    booth: bool = False  #: Let Yosys Booth-encode multipliers that are written as operators.
    #: Made for the common clock instead of the target: for a design that cannot come near the
    #: target, and would only grow.
    relaxed: bool = False


def _ours(name: str, what: str) -> Row:
    path = _CONFIGS / f"{name}.yaml"
    return Row(name=name, what=what, design=lambda: accelerator(AcceleratorConfig.from_yaml(path)))


def _stored() -> Design:
    like = AcceleratorConfig.from_yaml(_CONFIGS / "stella_nera.yaml")
    return engine(StoredMatrixConfig.of(like, name="stored_matrix"))


_LOOK_UP_ROWS = (
    _ours("stella_nera", "the reference's published configuration: M=8, C=16, FP16 inputs"),
    _ours("row_parallel", "16 rows share every table"),
    _ours("unrolled", "all 16 codebooks in one cycle"),
    _ours("dense", "all codebooks in one cycle, 8 rows, M=16"),
    _ours("dense_lut4", "the same with tables of 4 bits"),
)
_DIRECT_ROWS = (
    Row(
        name=BASE_ROW,
        what="INT8 dot-product array 16x16, weights Booth-recoded and held outside",
        design=lambda: engine(DotProductConfig(name="dot_product", recode="weights")),
    ),
    Row(
        name="dot_product_latch",
        what="the same with its weights in latches",
        design=lambda: engine(
            DotProductConfig(name="dot_product_latch", recode="weights", weights="latch")
        ),
    ),
    Row(
        name="dot_product_operators",
        what="the same written with * and +, one stage, Booth by Yosys",
        design=lambda: engine(
            DotProductConfig(name="dot_product_operators", recode="synthesis", cuts=())
        ),
        booth=True,
        relaxed=True,
    ),
    Row(
        name="systolic",
        what="INT8 weight-stationary systolic array 16x16, skew registers not included",
        design=lambda: engine(SystolicConfig(name="systolic")),
    ),
    Row(
        name="stored_matrix",
        what="exact INT8 engine with stella_nera's matrix size, memory cells and throughput",
        design=_stored,
    ),
)
ROWS: dict[str, Row] = {row.name: row for row in (*_LOOK_UP_ROWS, *_DIRECT_ROWS)}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row and what came of it: metrics, or why there are none."""

    row: Row
    metrics: Metrics | None
    error: str = ""


_COLUMNS = (
    Column("synth__design__instance__area__stdcell"),
    Column("halut__area__gate_equivalents", 1, 1e-3, "kGE"),
    Column("halut__design__macs_per_cycle"),
    Column("halut__design__look_ups_per_cycle"),
    Column("halut__area__per_mac_per_cycle", 1),
    Column("halut__timing__shortest_period", 2),
    Column("halut__throughput__gmacs_per_s_per_mm2"),
    Column("halut__throughput__gmacs_per_s_per_mm2_at_shortest"),
    Column("halut__energy__per_mac", 4),
    Column("halut__energy__per_mac_without_glitches", 4),
    Column("sim__transfers__checked"),
)
# What a terminal has no room for.
_WIDE = ("halut__area__gate_equivalents", "halut__energy__per_mac_without_glitches")
_RATIOS = (
    "halut__area__per_mac_per_cycle",
    "halut__energy__per_mac",
    "halut__timing__shortest_period",
)

_ACCELERATOR, _, _CIRCUITS = PUBLISHED
# Facts of others, as they published them; nothing of it was measured here.
_PUBLISHED = [
    ["what", "published figure", "conditions"],
    *(
        [f"Stella Nera, {layout.what}",
         f"{layout.area:,g} µm², {layout.kge:.1f} kGE, {layout.cells:,} cells; "
         f"{layout.clock_ns:g} ns", "NanGate45, placed and routed with OpenROAD"]
        for layout in LAYOUTS
    ),
    ["Stella Nera, whole accelerator",
     f"{_ACCELERATOR.efficiency}, {_ACCELERATOR.frequency_mhz:g} MHz",
     "14 nm, 0.55 V, commercial tools"],
    ["Stella Nera, encoder and decoder",
     "790 µm², 0.33 pJ and 1570 µm², 0.26 pJ per operation", "14 nm, 0.55 V, commercial tools"],
    [f"later {_CIRCUITS.design}", _CIRCUITS.efficiency, _CIRCUITS.technology],
]  # fmt: skip


def _cells(item: Measured, columns: Sequence[Column] = _COLUMNS) -> list[str]:
    values = item.metrics.values if item.metrics else {}
    return [column.text(values) for column in columns]


def _ratio(base: Metrics, metrics: Metrics, name: str) -> str:
    ours, theirs = metrics.values[name], base.values[name]
    return fixed(theirs / ours if ours and theirs else None, 2)


def page(items: Sequence[Measured], options: RunOptions, platform: str, command: str) -> str:
    """The page of results as Markdown.

    Parameters
    ----------
    platform : str
        Title of the platform.
    command : str
        What was run.
    """
    found = {item.row.name: item.metrics for item in items if item.metrics is not None}
    if not found:
        raise HalutError("a page of results must have at least one measured row")
    base = found.get(BASE_ROW)
    ratios = [
        [name, *(_ratio(base, metrics, ratio) for ratio in _RATIOS)]
        for name, metrics in found.items()
        if base is not None and name != BASE_ROW
    ]
    heads = ["design", *(column.head for column in _COLUMNS)]
    return render(
        PAGES / "bench.md",
        command=command,
        platform=platform,
        source={"corner": None} | next(iter(found.values())).provenance,
        options=options,
        target=options.target_ns or options.clock_ns,
        table=markdown([heads, *([item.row.name, *_cells(item)] for item in items)]),
        items=items,
        base=BASE_ROW,
        ratios=ratios and markdown([["design", *map(title, _RATIOS)], *ratios]),
        published=markdown(_PUBLISHED, left=range(3)),
    )


def _terminal(items: Sequence[Measured]) -> str:
    """The table for a terminal."""
    columns = [column for column in _COLUMNS if column.name not in _WIDE]
    rows = [["", *(column.title for column in columns)]]
    rows.append(["", *(column.shown_unit for column in columns)])
    rows += [[item.row.name, *_cells(item, columns)] for item in items]
    return terminal(rows)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow bench",
        description="Synthesise, time and power our configurations and the direct engines in one "
        "run, and write docs/RESULTS.md. Unchanged steps of an earlier run are not done again.",
    )
    add = parser.add_argument
    add("--rows", default="", metavar="NAMES",
        help=f"rows to measure, comma-separated: {', '.join(ROWS)} (default: all)")  # fmt: skip
    add_run_arguments(parser, platform="nangate45", defaults=RunOptions(target_ns=1.1))
    add("--build", default="build/bench", metavar="DIR",
        help="folder for all products but the page")  # fmt: skip
    add("-o", "--output", metavar="FILE",
        help=f"page to write (default: {DEFAULT_PAGE}; none when --rows is given)")  # fmt: skip
    return parser


def with_library(flag: str, name: str, corner: str | None = None) -> Platform:
    """A platform whose library is there."""
    platform = read_platform(name)
    if not platform.has_library:
        raise HalutError(f"{flag} must have a library for energy and area, unlike {platform.name}")
    platform.liberty_files(corner)
    return platform


def _options(arguments: argparse.Namespace, row: Row) -> RunOptions:
    options = run_options(arguments, synth=SynthOptions(booth=row.booth))
    return replace(options, target_ns=options.clock_ns) if row.relaxed else options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 1 when a row could not be measured."""
    arguments = _parser().parse_args(argv)
    rows = [ROWS[name] for name in among("--rows", arguments.rows, ROWS) or ROWS]
    options = {row.name: _options(arguments, row) for row in rows}
    platform = with_library("--platform", arguments.platform, arguments.corner)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    build = Path(arguments.build).resolve()
    items = []
    for number, row in enumerate(rows, 1):
        log.info("row %d/%d: %s", number, len(rows), row.name)
        try:
            metrics, _ = measure(row.design(), platform, options[row.name], build)
            items.append(Measured(row=row, metrics=metrics))
        except HalutError as error:
            log.error("error: %s: %s", row.name, error)
            items.append(Measured(row=row, metrics=None, error=str(error)))
    print(_terminal(items))
    failed = [item.row.name for item in items if item.metrics is None]
    output = arguments.output or (None if arguments.rows else DEFAULT_PAGE)
    if output and len(failed) < len(items):
        given = sys.argv[2:] if argv is None else argv
        command = " ".join(["python -m flow bench", *given])
        text = page(items, options[rows[0].name], platform.title, command)
        write_text(output, text)
        print(f"wrote {output}")
    if failed:
        print(f"error: not measured: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0
