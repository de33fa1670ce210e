"""Flags that the commands share which run designs through the flow."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from typing import Any

from flow.run.options import RunOptions
from halut import checks
from halut.errors import HalutError

__all__ = ["add_run_arguments", "among", "positive_ns", "run_options"]


def add_run_arguments(
    parser: argparse.ArgumentParser,
    *,
    platform: str | None,
    clock_ns: float = RunOptions.clock_ns,
    target_ns: float | None = None,
    cycles: int | None = None,
) -> None:
    """Add the flags that `run_options` reads.

    Parameters
    ----------
    platform : str or None
        Default of ``--platform``. None for a command with platforms of its own, which gets no
        ``--corner`` either.
    clock_ns : float, optional
        That of `RunOptions` by default.
    target_ns : float, optional
        The clock period when None.
    cycles : int, optional
        Chosen by the size of the design when None.
    """
    add = parser.add_argument
    if platform is not None:
        add("--platform", default=platform, metavar="NAME",
            help="a name that `platforms` lists, or a YAML file (default: %(default)s)"
            )  # fmt: skip
        add("--corner", metavar="NAME", help="corner of the platform (default: its default)")
    add("--clock-ns", type=float, default=clock_ns, metavar="NS",
        help="clock period in ns, for timing and energy (default: %(default)s)")  # fmt: skip
    add("--target-ns", type=float, default=target_ns, metavar="NS",
        help="clock period in ns that netlists are made for "
        f"(default: {target_ns or '--clock-ns'})")  # fmt: skip
    add("--yosys", default=RunOptions.yosys, metavar="NAME",
        help="pyosys (pip package) or a program (default: %(default)s)")  # fmt: skip
    add("--sta", metavar="NAME", help="OpenSTA program (default: sta, else openroad)")
    add("--simulator", default=RunOptions.simulator, metavar="NAME",
        help="icarus (with delays), verilator or auto (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=RunOptions.seed, metavar="N",
        help="seed of program, rows and initial state (default: %(default)s)")  # fmt: skip
    add("--cycles", type=int, default=cycles, metavar="N",
        help="cycles that activity is counted in "
        f"(default: {cycles or 'by the size of the design'})")  # fmt: skip
    add("--force", action="store_true", help="do unchanged steps again")


def run_options(arguments: argparse.Namespace, **more: Any) -> RunOptions:
    """Take `RunOptions` from parsed flags.

    Parameters
    ----------
    arguments : Namespace
        Of a parser with `add_run_arguments`.
    **more
        Further fields; these win over flags.

    Raises
    ------
    HalutError
        When a period is not a positive number of ns.
    """
    positive_ns("--clock-ns", arguments.clock_ns)
    positive_ns("--target-ns", arguments.target_ns)
    names = ("clock_ns", "target_ns", "yosys", "sta", "simulator", "seed", "cycles", "force")
    given = {name: getattr(arguments, name) for name in names}
    return RunOptions(**{"corner": getattr(arguments, "corner", None), **given, **more})


def positive_ns(flag: str, value: float | None) -> None:
    """Refuse a period that is not a positive number of ns; None is the default and passes."""
    if value is not None and not (math.isfinite(value) and 0 < value < 1e6):
        raise HalutError(f"{flag} must be a positive number of ns, not {value:g}")


def among(flag: str, text: str, known: Collection[str]) -> list[str]:
    """Split a comma-separated flag into names, all of which must be known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    checks.known(flag, names, known, "be among {}")
    return names
