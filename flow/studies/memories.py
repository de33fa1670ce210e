"""``python -m flow memories``: tables in latches beside tables in SRAM macros, size by size."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flow.cells.platform_file import read_platform
from flow.designs.design import accelerator
from flow.figures.metrics import Metrics
from flow.measure import measure
from flow.report.table import fixed, terminal
from flow.report.table import markdown as table_markdown
from flow.run.flags import add_run_arguments, among, run_options
from flow.run.options import RunOptions
from flow.run.sources import ROOT
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.config import AcceleratorConfig

__all__ = ["Row", "crossovers", "main", "markdown", "table_of_words"]

log = logging.getLogger(__name__)

DEFAULT_CONFIG = ROOT / "configs" / "options" / "sram.yaml"
_MEMORIES = ("latch", "sram")
# Kinds of unit that hold the tables, write them and select from them.
_TABLES = ("LUT memory and select", "SRAM", "decoder block")
_PARTS = ("internal_mw", "switching_mw", "leakage_mw")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A configuration that was measured."""

    config: AcceleratorConfig
    metrics: Metrics

    @property
    def words(self) -> int:
        """Words of a table."""
        return self.config.stored_groups * self.config.n_prototypes

    @property
    def _units(self) -> list[dict[str, Any]]:
        """Area and power by unit: of the layout where there is one."""
        rows: list[dict[str, Any]] = self.metrics.notes.get("routed_breakdown", [])
        return rows or self.metrics.breakdown

    @property
    def area_per_bit(self) -> float:
        """um2 of memory, writing and selection for each stored bit."""
        area = sum(row["area"] for row in self._units if row["unit"] in _TABLES)
        return float(area) / self.config.lut_total_bits

    @property
    def energy_per_look_up(self) -> float | None:
        """pJ of memory, writing and selection for each look-up; None without a simulation."""
        rows = [row for row in self._units if row["unit"] in _TABLES]
        if not all(part in row for row in rows for part in _PARTS):
            return None
        power = sum(row[part] for row in rows for part in _PARTS)
        period = self.metrics.provenance["clock_ns"]
        return float(power) * period / self.config.look_ups_per_cycle


def table_of_words(
    base: AcceleratorConfig, words: int, rows: int, memory: str
) -> AcceleratorConfig:
    """`base` with as many codebooks in turn as give tables of `words` words.

    Raises
    ------
    HalutError
        When the words are no whole number of codebooks.
    """
    groups, rest = divmod(words, base.n_prototypes)
    if rest or not groups:
        raise HalutError(
            f"--words must be multiples of n_prototypes = {base.n_prototypes}, not {words}"
        )
    return replace(
        base,
        name=f"{memory}_{words}_words_{rows}_rows",
        n_codebooks=groups * base.parallel_codebooks,
        rows=rows,
        memory=memory,
        acc_bits=None,
        outputs_per_cycle=None,
    )


def crossovers(rows: Sequence[Row]) -> list[str]:
    """From which size on SRAM is better, for each number of rows and both figures."""
    lines = []
    for count in sorted({row.config.rows for row in rows}):
        for what, figure in (
            ("area", lambda row: row.area_per_bit),
            ("energy", lambda row: row.energy_per_look_up),
        ):
            found = {
                (row.config.memory, row.words): figure(row)
                for row in rows
                if row.config.rows == count
            }
            both = sorted(w for memory, w in found if memory == "sram" and ("latch", w) in found)
            if not both or None in found.values():
                continue
            better = [w for w in both if found["sram", w] < found["latch", w]]
            text = f"SRAM takes less from {better[0]} words on" if better else "latches take less"
            if better and better != [w for w in both if w >= better[0]]:
                text = f"SRAM takes less at {', '.join(map(str, better))} words"
            lines.append(f"{_count(count)}, {what}: {text} (of {both[0]} to {both[-1]})")
    return lines


# Title, name and decimals of the figures of a whole accelerator.
_MAPPED = (
    ("all cells (µm²)", "synth__design__instance__area__stdcell", 0),
    ("energy (pJ/look-up)", "halut__energy__per_look_up", 3),
    ("shortest period (ns)", "halut__timing__shortest_period", 3),
)
_ROUTED = (
    ("all cells (µm²)", "finish__design__instance__area__stdcell", 0),
    ("die (µm²)", "finish__design__die__area", 0),
    ("energy (pJ/look-up)", "halut__routed__energy_per_look_up", 3),
    ("shortest period (ns)", "halut__routed__shortest_period", 3),
    ("hold slack (ns)", "finish__timing__hold__ws", 3),
    ("design-rule violations", "detailedroute__route__drc_errors", 0),
)


def _table(rows: Sequence[Row], routed: bool) -> list[list[str]]:
    """The table, its head first."""
    figures = _ROUTED if routed else _MAPPED
    table = [["memory", "rows", "words", "table bits", "tables (µm²/bit)", "tables (pJ/look-up)",
              *(title for title, _, _ in figures)]]  # fmt: skip
    for row in rows:
        table.append(
            [
                row.config.memory,
                str(row.config.rows),
                f"{row.words:,}",
                f"{row.config.lut_total_bits:,}",
                fixed(row.area_per_bit, 2),
                fixed(row.energy_per_look_up, 3),
                *(fixed(row.metrics.values[name], decimals) for _, name, decimals in figures),
            ]
        )
    return table


def markdown(rows: Sequence[Row], routed: bool = False) -> str:
    """The table as Markdown, with what the sizes are made of and where the figures cross.

    Parameters
    ----------
    routed : bool
        Of layouts, which all of `rows` have; else of mapped netlists.
    """
    lines = [table_markdown(_table(rows, routed))]
    lines += [f"- {line}" for line in crossovers(rows)]
    lines += [
        f"- {row.words:,} words, {_count(row.config.rows)}: {row.metrics.notes['sram']}"
        for row in rows
        if "sram" in row.metrics.notes
    ]
    return "\n".join(lines) + "\n"


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def _numbers(flag: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise HalutError(f"{flag} must be whole numbers of at least 1, comma-separated, not {text}")
    return numbers


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow memories",
        description="Measure one configuration with tables of several sizes, in latches and in "
        "SRAM macros. Unchanged steps of an earlier run are not done again.",
    )
    add = parser.add_argument
    add("--config", default=str(DEFAULT_CONFIG), metavar="FILE",
        help="its number of codebooks is changed (default: configs/options/sram.yaml)")  # fmt: skip
    add("--words", default="16,64,256", metavar="NUMBERS", help="words of a table")
    add("--rows", default="1,4", metavar="NUMBERS", help="rows that read a table at once")
    add("--memories", default=",".join(_MEMORIES), metavar="NAMES",
        help="of latch, ff and sram, comma-separated")  # fmt: skip
    add_run_arguments(parser, platform="nangate45", defaults=RunOptions(clock_ns=2.0, cycles=128))
    add(
        "--routed",
        action="store_true",
        help="go on to a routed layout of each, with OpenROAD: figures are then those of layouts",
    )
    add("-o", "--output", default="build/memories", metavar="DIR", help="folder for all products")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    base = AcceleratorConfig.from_yaml(arguments.config)
    memories = among("--memories", arguments.memories, ("latch", "ff", "sram"))
    configs = [
        table_of_words(base, words, rows, memory)
        for rows in _numbers("--rows", arguments.rows)
        for words in _numbers("--words", arguments.words)
        for memory in memories
    ]
    routed = arguments.routed
    options = run_options(arguments, layout="routed" if routed else "none")
    platform = read_platform(arguments.platform)
    if platform.has_library:
        platform.liberty_files(arguments.corner)
    if "sram" in memories:
        platform.sram_library(arguments.corner)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    build = Path(arguments.output)
    found = []
    for number, config in enumerate(configs, 1):
        log.info("%d/%d: %s on %s", number, len(configs), config.name, platform.name)
        metrics, _ = measure(accelerator(config), platform, options, build)
        found.append(Row(config=config, metrics=metrics))
    print(terminal(_table(found, routed)))
    print("\n".join(crossovers(found)))
    page = (build / f"memories-{platform.name}{'-routed' if routed else ''}.md").resolve()
    write_text(page, markdown(found, routed))
    print(f"wrote {page}")
    return 0
