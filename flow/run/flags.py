"""Flags that the commands share which run designs through the flow."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from flow.run.options import RunOptions
from halut import checks
from halut.errors import HalutError
from rtl_gen.settings import add_flags, given_settings

__all__ = ["add_run_arguments", "among", "check_counts", "positive_ns", "run_options"]


def add_run_arguments(
    parser: argparse.ArgumentParser,
    *,
    platform: str | None,
    defaults: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> None:
    """Add the flags that `run_options` reads.

    Parameters
    ----------
    platform : str or None
        Default of ``--platform``. None for a command with platforms of its own, which gets no
        ``--corner`` either.
    defaults : RunOptions
        What `run_options` returns without flags.
    """
    if platform is not None:
        add = parser.add_argument
        add("--platform", default=platform, metavar="NAME",
            help="a name that `platforms` lists, or a YAML file")  # fmt: skip
        add("--corner", metavar="NAME", help="corner of the platform (default: its default)")
    add_flags(parser, {"": defaults})
    parser.set_defaults(run_defaults=defaults)


def run_options(arguments: argparse.Namespace, **more: Any) -> RunOptions:
    """Take `RunOptions` from parsed flags of `add_run_arguments`; further fields win over flags.

    Raises
    ------
    HalutError
        When a period is not a positive number of ns.
    """
    given = given_settings(arguments, {"": RunOptions})
    positive_ns("--clock-ns", given.get("clock_ns"))
    positive_ns("--target-ns", given.get("target_ns"))
    corner = getattr(arguments, "corner", None)
    return replace(arguments.run_defaults, **{"corner": corner, **given, **more})


def check_counts(arguments: argparse.Namespace, **most: int) -> None:
    """Refuse flags, by name, that are not from 1 to so many; None is the default and passes."""
    for name, high in most.items():
        value = getattr(arguments, name)
        if value is not None:
            checks.integer_in(f"--{name.replace('_', '-')}", value, 1, high)


def positive_ns(flag: str, value: float | None) -> None:
    """Refuse a period that is not a positive number of ns; None is the default and passes."""
    if value is not None and not (math.isfinite(value) and 0 < value < 1e6):
        raise HalutError(f"{flag} must be a positive number of ns, not {value:g}")


def among(flag: str, text: str, known: Collection[str]) -> list[str]:
    """Split a comma-separated flag into names, all of which must be known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    checks.known(flag, names, known, "be among {}")
    return names
