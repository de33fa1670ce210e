"""``python -m rtl_gen image``: programs as one file for a driver."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser
from halut.files import atomic_write
from halut.program import Program

from ..front_end import FrontEndConfig
from ..settings import add_flags
from .axi import axi_config

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen image",
        description="Write programs as one file for a driver of halut_axi: program words, and the "
        "descriptors that load and run them. Programs that are larger than the accelerator are cut "
        "into its size.",
    )
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="a program (.npz), in order")
    parser.add_argument("--config", required=True, metavar="FILE", help="the accelerator (.yaml)")
    front_end = parser.add_argument_group("behind a front end for 3x3 convolutions")
    add_flags(front_end, {"": FrontEndConfig})
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the image")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    from ..axi.image_file import image_file

    config = axi_config(arguments)
    data = image_file(config, [Program.load(path) for path in arguments.programs])
    with atomic_write(Path(arguments.output)) as temporary:
        temporary.write_bytes(data)
    print(f"wrote {arguments.output}: {len(data)} bytes for configuration {config.core_hash[:16]}")
    return 0
