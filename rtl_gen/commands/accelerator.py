"""``python -m rtl_gen``: write the Verilog of one accelerator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from halut.checks import located, read_yaml
from halut.cli import Parser

from ..config import AcceleratorConfig
from ..generate import generate
from ..settings import add_flags, given_settings
from ..tiled_config import TILES, AnyConfig, config_from_dict
from .output import add_output_flags, deliver

__all__ = ["add_config_flags", "config_from_flags", "main"]


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and one flag per field of the configuration."""
    parser.add_argument("--config", metavar="FILE", help="YAML configuration; flags override it")
    add_flags(parser, {"": AcceleratorConfig})
    units = parser.add_argument_group("several units")
    for key in TILES:
        units.add_argument(
            f"--tile-{key}",
            type=int,
            metavar="N",
            help=f"units side by side in {key} (default: a single unit, or 1)",
        )


def config_from_flags(arguments: argparse.Namespace) -> AnyConfig:
    """The configuration that `add_config_flags`' arguments stand for.

    A value that an overridden field made stale (the derived accumulator width or output width of
    the file) is derived anew only if the file did not set it.
    """
    path = arguments.config
    values: dict[str, Any] = {"version": 1} if path is None else read_yaml(path)
    values |= given_settings(arguments, {"": AcceleratorConfig})
    tiles = {key: getattr(arguments, f"tile_{key}") for key in TILES}
    given = {key: count for key, count in tiles.items() if count is not None}
    if given:
        before = values.get("tiles", {})
        values["tiles"] = {**before, **given} if isinstance(before, dict) else before
    with nullcontext() if path is None else located(path):
        return config_from_dict(values)


def _summary(config: AnyConfig) -> str:
    c = config
    units = "" if isinstance(c, AcceleratorConfig) else f"  units    {c.n_units}\n"
    return (
        f"{units}"
        f"  ports    in {c.rows * c.parallel_codebooks * c.n_values * c.input_bits} bits, "
        f"out {c.output_width} x {c.result_bits} bits, "
        f"program {c.program_address_bits} + {c.program_data_bits} bits\n"
        f"  timing   latency {c.latency_cycles} cycles, one group of {c.rows} row(s) every "
        f"{c.interval_cycles} cycle(s)\n"
        f"  work     {c.look_ups_per_cycle:g} look-ups per cycle, {c.macs_per_cycle:g} MACs "
        f"replaced per cycle at codebook width {c.codebook_width}\n"
        f"  memory   {c.lut_total_bits} LUT bits, {c.threshold_total_bits} threshold bits"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m rtl_gen",
        description="Write the Verilog of a MADDNESS accelerator and its manifest.",
        epilog="python -m rtl_gen axi --help: as a block with registers and a bus master. "
        "python -m rtl_gen front-end --help: behind a front end for 3x3 convolutions. "
        "python -m rtl_gen schedule --help: products of any size on it, tile by tile. "
        "python -m rtl_gen direct --help: the exact engines that it is compared with. "
        "python -m rtl_gen cfu --help: instructions for a processor in its place.",
    )
    add_config_flags(parser)
    add_output_flags(parser, "halut_matmul.v, or halut_tiled.v")
    arguments = parser.parse_args(argv)
    config = config_from_flags(arguments)
    generated = generate(config, prefix=arguments.prefix)
    return deliver(generated, config.slug, arguments.output, _summary(config))
