"""What the commands that write Verilog have in common."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from halut.errors import HalutError

__all__ = ["add_prefix_flag", "check_prefix", "wrote"]

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,63})?")


def check_prefix(prefix: str) -> None:
    """Check what the names of modules are to begin with.

    Raises
    ------
    HalutError
        When a module's name cannot begin with it.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise HalutError(
            f"prefix must be at most 64 letters, digits and _, a letter first, not {prefix!r}"
        )


def add_prefix_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--prefix``."""
    parser.add_argument(
        "--prefix",
        default="",
        metavar="NAME_",
        help="what the name of every module begins with; two accelerators in one design need "
        "different ones (default: nothing)",
    )


def wrote(path: Path) -> str:
    """The last line of a command that wrote `path` and the files beside it."""
    return f"wrote {path}, {path.with_suffix('.json')} and {path.with_suffix('.sdc')}"
