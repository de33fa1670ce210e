"""``python -m rtl_gen front-end``: an accelerator behind the front end of a 3x3 convolution."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser

from ..convolution import generate_convolution
from ..flags import add_prefix_flag, wrote
from ..front_end import FrontEndConfig
from ..generate import BUILD_DIR, write_generated
from ..tiled_config import AnyConfig, load_config

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
    add("-o", "--output", metavar="FILE",
        help="Verilog file, manifest and timing constraints go beside it; - for standard output "
        "(default: build/<slug>/rtl/halut_convolution.v)")  # fmt: skip
    add_prefix_flag(parser)
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
    if arguments.output == "-":
        sys.stdout.write(generated.verilog)
        return 0
    default = BUILD_DIR / config.slug / "rtl" / f"{generated.manifest['module']}.v"
    path = write_generated(generated, Path(arguments.output) if arguments.output else default)
    print(
        f"{config.slug}\n"
        f"  pixels   {config.pixel_bits} bits, {config.height} x {config.width}\n"
        f"  timing   one image every {config.image_cycles} cycles"
    )
    print(wrote(path))
    return 0
