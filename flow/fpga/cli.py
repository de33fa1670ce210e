"""``python -m flow fpga``: a configuration on an FPGA, or as a bitstream for a board."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flow.fpga.implement import FpgaOptions, implement
from flow.fpga.parts import Board, board, boards, part, parts
from flow.report.table import Column, markdown
from flow.run.options import BUILD
from halut.checks import known
from halut.cli import Parser
from halut.errors import HalutError
from rtl_gen.direct import DotProductConfig
from rtl_gen.settings import add_flags, given_settings

if TYPE_CHECKING:
    from flow.designs.design import Design
    from rtl_gen.tiled_config import AnyConfig

__all__ = ["main"]

# Direct engines of a size that parts have multipliers for; products written as ``*`` go into those.
_ENGINES = {
    "int8_multipliers": DotProductConfig(
        name="int8_multipliers", length=8, columns=8, cuts=(), recode="synthesis"
    ),
    "int8_luts": DotProductConfig(name="int8_luts", length=8, columns=8, recode="weights"),
}
_COLUMNS = (
    Column("halut__design__look_ups_per_cycle"),
    Column("halut__design__macs_per_cycle"),
    Column("halut__fpga__luts"),
    Column("halut__fpga__flip_flops"),
    Column("halut__fpga__lut_rams"),
    Column("halut__fpga__block_rams"),
    Column("halut__fpga__multipliers"),
    Column("halut__fpga__luts_per_mac_per_cycle", 2),
    Column("halut__fpga__frequency", 1),
)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow fpga",
        description="Map a configuration by Yosys for an FPGA, place and route it with nextpnr, "
        "and report resources and the shortest period. For a board it becomes a bitstream that "
        "plays random rows to the accelerator at full rate, compares all results with the exact "
        "model's and lights one LED for right and another for wrong.",
        epilog="Exit status: 0 done, 1 a tool failed or the board's clock is missed, 2 wrong input "
        "or something missing.",
    )
    add = parser.add_argument
    add("--config", action="append", default=[], metavar="FILE",
        help="configuration (.yaml); may be given again, for a table")  # fmt: skip
    add(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a direct INT8 engine to compare with: {', '.join(_ENGINES)}; may be given again",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", metavar="PART", default="ecp5-85k",
        help=f"{', '.join(parts())} (default: %(default)s)")  # fmt: skip
    where.add_argument("--board", metavar="NAME",
        help=f"{', '.join(boards())}: a bitstream (default: none)")  # fmt: skip
    add_flags(parser, {"": FpgaOptions})
    add("-o", "--output", default=str(BUILD), metavar="DIR", help="folder for all products")
    add("-q", "--quiet", action="store_true", help="print the result only")
    return parser


def _designs(arguments: argparse.Namespace) -> Iterator[Design]:
    """The designs that were asked for, each when its turn comes."""
    from flow.designs.direct import engine

    for name in arguments.engine:
        known("engine", [name], _ENGINES, "be one of {}")
    for path in arguments.config:
        design, changed = _accelerator(path)
        if changed:
            print(changed)
        yield design
    for name in arguments.engine:
        yield engine(_ENGINES[name])


def _accelerator(path: str) -> tuple[Design, str]:
    """The accelerator, and what was changed in it: FPGAs have no latches."""
    from flow.designs.design import accelerator
    from rtl_gen.tiled_config import TiledConfig, load_config

    config: AnyConfig = load_config(path)
    unit = config.unit if isinstance(config, TiledConfig) else config
    if unit.memory != "latch" and unit.constants_memory != "latch":
        return accelerator(config), ""
    unit = dataclasses.replace(unit, memory="lutram")
    changed = dataclasses.replace(config, unit=unit) if isinstance(config, TiledConfig) else unit
    return accelerator(changed), "memory: lutram in place of latches, which FPGAs do not have"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from flow.report.terminal import summary

    arguments = _parser().parse_args(argv)
    level = logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    place = board(arguments.board) if arguments.board else part(arguments.device)
    options = FpgaOptions(**given_settings(arguments, {"": FpgaOptions}))
    if not arguments.config and not arguments.engine:
        raise HalutError("--config or --engine must be given")
    rows = [["", *(column.head for column in _COLUMNS)]]
    for design in _designs(arguments):
        metrics, folder = implement(design, place, options, Path(arguments.output))
        print(summary(metrics))
        products = [
            "metrics.json",
            *([place.part.family.bitstream] if isinstance(place, Board) else []),
        ]
        print(f"wrote {', '.join(str(folder / name) for name in products)}")
        rows.append([design.name, *(column.text(metrics.values) for column in _COLUMNS)])
    if len(rows) > 2:
        print(markdown(rows))
    return 0
