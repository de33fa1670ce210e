"""``python -m rtl_gen front-end``: an accelerator behind the front end of a 3x3 convolution."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from halut.cli import Parser

from ..convolution import generate_convolution
from ..front_end import FrontEndConfig
from ..settings import add_flags, given_settings
from ..tiled_config import AnyConfig, load_config
from .output import add_output_flags, deliver

__all__ = ["front_end_config", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen front-end",
        description="Write the Verilog of an accelerator behind the front end of a 3x3 "
        "convolution (stride 1, padding 1; raw pixels in), and its manifest.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    add_flags(parser, {"": FrontEndConfig}, required=True)
    add_output_flags(parser, "halut_convolution.v")
    return parser


def front_end_config(accelerator: AnyConfig, arguments: argparse.Namespace) -> FrontEndConfig:
    """Take the front end of an accelerator from flags that `add_flags` added."""
    given = given_settings(arguments, {"": FrontEndConfig})
    return FrontEndConfig(accelerator=accelerator, **given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    config = front_end_config(load_config(arguments.config), arguments)
    generated = generate_convolution(config, prefix=arguments.prefix)
    summary = (
        f"  pixels   {config.pixel_bits} bits, {config.height} x {config.width}\n"
        f"  timing   one image every {config.image_cycles} cycles"
    )
    return deliver(generated, config.slug, arguments.output, summary)
