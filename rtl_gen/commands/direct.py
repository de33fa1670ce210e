"""``python -m rtl_gen direct``: write the Verilog of an exact engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from halut.checks import one_of
from halut.cli import Parser
from halut.errors import HalutError

from ..config import AcceleratorConfig
from ..direct.config import ENGINES, EngineConfig, StoredMatrixConfig
from ..direct.generate import generate, write
from ..flags import add_prefix_flag, wrote
from ..settings import add_flags, given_settings, settings_of

__all__ = ["main"]


def _flag(config: type[EngineConfig], name: str) -> str:
    """Return the flag of a field, nothing where the engine has no such field."""
    return next((rule.flag for field, rule in settings_of(config) if field.name == name), "")


def _config(arguments: argparse.Namespace) -> EngineConfig:
    engine = arguments.engine
    one_of("--engine", engine, ENGINES)
    values = given_settings(arguments, ENGINES)
    for name in values:
        flags = {other: _flag(config, name) for other, config in ENGINES.items()}
        owners = [other for other, flag in flags.items() if flag]
        if engine not in owners:
            raise HalutError(
                f"{flags[owners[0]]} must be given for {' or '.join(owners)} only, not {engine}"
            )
    if arguments.like is None:
        return ENGINES[engine](**values)
    if engine != "stored-matrix":
        raise HalutError(f"--like must be given for stored-matrix only, not {engine}")
    accelerator = AcceleratorConfig.from_yaml(arguments.like)
    return StoredMatrixConfig.of(accelerator, **values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m rtl_gen direct",
        description="Write the Verilog of an exact matrix engine, with multipliers, and its "
        "manifest.",
    )
    parser.add_argument("--engine", required=True, metavar="X", help=f"which: {', '.join(ENGINES)}")
    parser.add_argument(
        "--like",
        metavar="FILE",
        help="stored-matrix: the matrix and the throughput of this accelerator configuration",
    )
    add_flags(parser, ENGINES)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="Verilog file, manifest and timing constraints go beside it; - for standard output "
        "(default: build/<slug>/rtl/<module>.v)",
    )
    add_prefix_flag(parser)
    arguments = parser.parse_args(argv)
    config = _config(arguments)
    if arguments.output == "-":
        sys.stdout.write(generate(config, prefix=arguments.prefix).verilog)
        return 0
    path = write(config, arguments.output, prefix=arguments.prefix)
    print(
        f"{config.slug}\n"
        f"  work     {config.macs_per_cycle} MACs per cycle\n"
        f"  timing   latency {config.latency_cycles} cycles\n"
        f"  sums     {config.sums_per_transfer} x {config.accumulator_bits} bits per transfer"
    )
    print(wrote(path))
    return 0
