"""``python -m rtl_gen axi``: an accelerator as a block with registers and a bus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from halut.cli import Parser
from halut.errors import HalutError

from ..axi.config import AxiConfig
from ..axi.generate import generate_axi, write_axi
from ..front_end import FrontEndConfig
from ..settings import add_flags, given_settings
from ..tiled_config import load_config
from .front_end import front_end_config
from .output import add_output_flags

__all__ = ["axi_config", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen axi",
        description="Write the Verilog of an accelerator as a block of a system: registers on "
        "AXI4-Lite or Wishbone, commands, programs, rows and results over an AXI4 master. Beside "
        "it go its manifest and constraints, and its registers as SystemRDL, C, Python, Markdown, "
        "IP-XACT and a FuseSoC core.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    add_flags(parser, {"": AxiConfig})
    front_end = parser.add_argument_group("behind a front end for 3x3 convolutions")
    add_flags(front_end, {"": FrontEndConfig})
    add_output_flags(parser, "halut_axi.v")
    return parser


def axi_config(arguments: argparse.Namespace) -> AxiConfig:
    """The configuration that the flags stand for; with --height, behind a front end."""
    core = load_config(arguments.config)
    given = {}
    if hasattr(arguments, "bus"):
        given = given_settings(arguments, {"": AxiConfig})
    pixels = given_settings(arguments, {"": FrontEndConfig})
    if pixels:
        for name in ("height", "width", "channels"):
            if name not in pixels:
                raise HalutError(f"--{name} must be given for a front end, not left out")
        return AxiConfig(core=front_end_config(core, arguments), **given)
    return AxiConfig(core=core, **given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    config = axi_config(arguments)
    generated = generate_axi(config, prefix=arguments.prefix)
    if arguments.output == "-":
        sys.stdout.write(generated.verilog)
        return 0
    path = write_axi(generated, arguments.output)
    kind = "image" if config.has_front_end else f"row group of {config.accelerator.rows} row(s)"
    print(
        f"{config.slug}\n"
        f"  memory   {config.item_bytes} bytes in and {config.result_bytes} bytes out per {kind}, "
        f"program words of {config.program_word_bytes} bytes\n"
        f"  timing   cycles per {kind}: accelerator {config.core_cycles}, bus at least "
        f"{-(-max(config.item_bytes, config.result_bytes) // config.word_bytes)}"
    )
    names = ", ".join(path.with_suffix(e).name for e in generated.files(path.name))
    print(f"wrote {path}, and beside it {path.with_suffix('.json').name}, "
          f"{path.with_suffix('.sdc').name}, {names}")  # fmt: skip
    return 0
