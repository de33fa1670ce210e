"""What the commands that write Verilog have in common: where it goes, and what they say of it."""

from __future__ import annotations

import argparse
import sys

from ..generate import Generated, write_generated

__all__ = ["add_output_flags", "deliver"]


def add_output_flags(parser: argparse.ArgumentParser, module: str) -> None:
    """Add ``-o`` and ``--prefix``; `module` is what help calls the default file."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="Verilog file, manifest and timing constraints go beside it; - for standard output "
        f"(default: build/<slug>/rtl/{module})",
    )
    parser.add_argument(
        "--prefix",
        default="",
        metavar="NAME_",
        help="what the name of every module begins with; two accelerators in one design need "
        "different ones (default: nothing)",
    )


def deliver(generated: Generated, slug: str, output: str | None, summary: str) -> int:
    """Write what was generated to `output`, print what it is, and return the exit status."""
    if output == "-":
        sys.stdout.write(generated.verilog)
        return 0
    path = write_generated(generated, output, slug)
    print(f"{slug}\n{summary}")
    print(f"wrote {path}, {path.with_suffix('.json')} and {path.with_suffix('.sdc')}")
    return 0
