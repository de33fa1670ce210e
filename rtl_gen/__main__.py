"""``python -m rtl_gen``: write the Verilog of one accelerator, and its other commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from halut.cli import run

from .commands import accelerator, axi, cfu, direct, front_end, image, schedule

COMMANDS: dict[str, Callable[[Sequence[str] | None], int]] = {
    "axi": axi.main,
    "cfu": cfu.main,
    "direct": direct.main,
    "front-end": front_end.main,
    "image": image.main,
    "schedule": schedule.main,
}
"""By their names; without a name the accelerator's Verilog is written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    return accelerator.main(argv)


if __name__ == "__main__":
    sys.exit(run(main))
