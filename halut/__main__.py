"""``python -m halut``: learn a program from matrices, look at it, multiply with it, measure."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import halut
from halut.cli import Parser, run
from halut.commands import (
    analyse,
    bench,
    convert,
    dataless,
    evaluate,
    export,
    fold,
    formats,
    info,
    learn,
    multiply,
    reconstruct,
    stats,
    train,
)

COMMANDS = (
    learn, info, multiply, bench, convert, reconstruct, evaluate, export, fold, formats, stats,
    analyse, dataless, train,
)  # fmt: skip
"""Modules that each add a command, in the order of ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = Parser(
        prog="python -m halut",
        description="Learn MADDNESS for a matrix product and run its bit-exact model.",
        epilog="Exit status: 0 done, 1 a check failed, 2 wrong input.",
    )
    parser.add_argument("--version", action="version", version=f"halut {halut.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for command in COMMANDS:
        command.add_verb(verbs)
    options = parser.parse_args(argv)
    verbose = getattr(options, "verbose", False)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(run(main))
