"""Command lines: one-line errors, and the exit codes that they share.

Exit 0: done; 1: a check failed; 2: the input cannot be used; 128 + n: ended by signal n.
"""

from __future__ import annotations

import argparse
import codecs
import io
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from halut.errors import HalutError, closest

__all__ = ["Parser", "run"]


class _Help(argparse.HelpFormatter):
    """States the default of every flag that has one, unless its text does."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        stated = not action.option_strings or "(default" in text or "; default" in text
        if stated or isinstance(action.default, (bool, list, type(None))):
            return text
        return text if action.default == argparse.SUPPRESS else f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `HalutError`, with a hint for a misspelt flag.

    Its help states defaults: other than None, switches and lists, they need no words.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Help)
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

    def _flags(self, args: Sequence[str]) -> list[str]:
        """Return all flags, those of the sub-command that is given included."""
        flags: list[str] = []
        for action in self._actions:
            flags += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                verb = next((action.choices[one] for one in args if one in action.choices), None)
                flags += verb._flags(args) if isinstance(verb, Parser) else []
        return flags

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):  # type: ignore[no-untyped-def,override]
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = self._flags(sys.argv[1:] if args is None else args)
            raise HalutError(
                f"an argument must be one that --help lists, not {unknown[0]!r}"
                f"{closest(unknown[0].split('=')[0], flags)}"
            )
        return values


class _Ended(BaseException):
    """A signal asked this process to end; not an `Exception`, so that nobody carries on."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that end a process into an exception: files are tidied up, children end."""

    def end(number: int, _: FrameType | None) -> None:
        raise _Ended(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP, and means it.
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ASCII = {"µ": "u", "μ": "u", "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "…": "...",
          "≤": "<=", "≥": ">=", "→": "->", "±": "+-", "√": "sqrt", "λ": "lambda"}  # fmt: skip


def _transliterate(error: UnicodeError) -> tuple[str, int]:
    """Replace what the terminal's encoding lacks: um2 for µm²."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    plain = unicodedata.normalize("NFKD", "".join(_ASCII.get(letter, letter) for letter in text))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in letters), error.end


codecs.register_error("halut.transliterate", _transliterate)


def _open_streams() -> None:
    """Make stdout and stderr take every text; where they are closed, nobody reads it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the end)
            setattr(sys, name, null)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="halut.transliterate")


def _drop_output() -> None:
    """What stdout still holds cannot be written: keep Python from trying again at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


_SHOWN = 1000  # characters of an error's beginning and of its end, which says where


def _complain(message: object) -> None:
    text = str(message)
    if len(text) > 2 * _SHOWN:  # a value of any length may be in it
        text = f"{text[:_SHOWN]} … {text[-_SHOWN:]}"
    with suppress(OSError, ValueError):
        print(f"error: {text}", file=sys.stderr, flush=True)


def _file_error(error: OSError) -> str:
    """One line about a file or folder that cannot be used."""
    reason = error.strerror or " ".join(str(error).split())
    if error.filename is None:
        return f"output must be writable: {reason}"
    name = error.filename2 if error.filename2 is not None else error.filename
    name = os.fsdecode(name) if isinstance(name, (str, bytes)) else name
    return f"files and folders must be usable: {reason} ({name})"


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Call a command line's main function and turn its errors into one line and an exit code.

    SIGTERM and SIGHUP end the command with 128 and their number, SIGINT with 130. Letters that
    the terminal's encoding lacks are printed as similar ones that it has.

    Parameters
    ----------
    main : callable
        Takes the arguments, returns the exit code.
    argv : sequence of str, optional
        ``sys.argv[1:]`` when absent.
    """
    _open_streams()
    try:
        with _signals():
            status = main(argv)
            # A full disk or a reader that is gone shows here at the latest.
            sys.stdout.flush()
            return status
    except HalutError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except _Ended as error:
        _complain(f"ended by {error}")
        return 128 + error.number
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        _drop_output()
        return 1
    except OSError as error:
        _complain(_file_error(error))
        _drop_output()
        return HalutError.exit_code
