"""``python -m rtl_gen front-end``: an accelerator behind the front end of a 3x3 convolution."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from halut.cli import Parser

from ..convolution import generate_convolution
from ..front_end import FrontEndConfig
from ..tiled_config import AnyConfig, load_config
from .output import add_output_flags, deliver

__all__ = ["add_image_arguments", "front_end_config", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen front-end",
        description="Write the Verilog of an accelerator behind the front end of a 3x3 "
        "convolution (stride 1, padding 1; raw pixels in), and its manifest.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    add_image_arguments(parser, required=True)
    add_output_flags(parser, "halut_convolution.v")
    return parser


def add_image_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the flags that `front_end_config` reads."""
    add = parser.add_argument
    absent = "" if required else " (default: no front end)"
    for name, what in (
        ("height", "lines of an image, in pixels"),
        ("width", "pixels of a line"),
        ("channels", "values of a pixel"),
    ):
        add(f"--{name}", type=int, required=required, metavar="N", help=what + absent)
    add("--gather", default="channel", metavar="X",
        help="split dimensions of a codebook: in its own channel, or in any "
        "(default: %(default)s)")  # fmt: skip


def front_end_config(accelerator: AnyConfig, arguments: argparse.Namespace) -> FrontEndConfig:
    """Take the front end of an accelerator from parsed flags."""
    names = ("height", "width", "channels", "gather")
    given = {name: getattr(arguments, name) for name in names}
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
