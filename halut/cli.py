"""Command lines: one-line errors, and the exit codes that they share.

Exit 0: done; 1: a check failed; 2: the input cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from halut.errors import HalutError, closest

__all__ = ["Parser", "run"]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `HalutError`, with a hint for a misspelt flag."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise HalutError(message)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            name = "/".join(action.option_strings) or action.metavar or action.dest
            raise HalutError(
                f"{name} must be {', '.join(choices[:-1])}{' or ' if choices[:-1] else ''}"
                f"{choices[-1]}, not {value!r}{closest(str(value), choices)}"
            )

    def _flags(self) -> list[str]:
        """Return all flags, those of sub-commands included."""
        flags: list[str] = []
        for action in self._actions:
            flags += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for verb in action.choices.values():
                    flags += verb._flags() if isinstance(verb, Parser) else []
        return flags

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):  # type: ignore[no-untyped-def,override]
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise HalutError(
                f"an argument must be one that --help lists, not {unknown[0]!r}"
                f"{closest(unknown[0].split('=')[0], self._flags())}"
            )
        return values


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Call a command line's main function and turn its errors into one line and an exit code.

    Parameters
    ----------
    main : callable
        Takes the arguments, returns the exit code.
    argv : sequence of str, optional
        ``sys.argv[1:]`` when absent.
    """
    try:
        return main(argv)
    except HalutError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        sys.stderr.close()
        return 1
