"""Commands in the pages of the documentation: found, parsed, checked.

A fenced block in ``sh``, ``bash`` or ``console`` holds commands (``console``: behind ``$``), and
what they print. A comment right before a block says what a test does with it beyond parsing:

- none: it is run,
- ``<!-- slow: reason -->``: it is run among the slow tests, page by page in order,
- ``<!-- not run: reason -->``: it is not run,
- ``<!-- file: name -->``: its text is that file, for the commands behind it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("sh", "bash", "console")
_FENCE = re.compile(
    r"(?:^<!-- (?P<kind>slow|not run|file): (?P<note>[^\n]*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_INLINE = re.compile(r"(?<!`)`((?:python -m|make) [^`]+)`(?!`)", re.S)
# Names of the project's own folders: what begins so must be there.
_FOLDERS = ("configs", "docs", "flow", "halut", "rtl_gen", "sim", "soc", "tests")
# Other programs that a page may name where its block is not run, or as a small step.
_KNOWN = {"cd", "cp", "dask", "mkdir", "pip", "python3", "source", "tensorboard", "torchrun"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment before it (kind and note)."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    note: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of every command."""
        text = self.text.replace("\\\n", " ")
        lines = text.splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        words = [shlex.split(line, comments=True) for line in lines]
        return [command for command in words if command]


def blocks(page: str, text: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("text")),
            language=match["language"],
            text=match["text"],
            kind=match["kind"] or "",
            note=match["note"] or "",
        )
        for match in _FENCE.finditer(text)
    ]


def inline(text: str) -> list[list[str]]:
    """Whole commands within sentences; those with an ellipsis stand for many and are left out."""
    found = [shlex.split(" ".join(match.split())) for match in _INLINE.findall(text)]
    return [words for words in found if not any("…" in word or "..." in word for word in words)]


_PARSE = """
import argparse, contextlib, io, json, runpy, sys

class Parsed(BaseException):
    pass

depth = 0
parse = argparse.ArgumentParser.parse_known_args

def parse_and_stop(self, args=None, namespace=None, **more):
    global depth
    args = sys.argv[1:] if args is None else list(args)
    if not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
        # Before what is missing, since a sentence need not name all.
        for word in args:
            if word.startswith("--") and word.split("=")[0] not in self._option_string_actions:
                self.error(f"unknown flag {word}")
    depth += 1
    try:
        values, unknown = parse(self, args, namespace, **more)
    finally:
        depth -= 1
    if depth or args != arguments[len(arguments) - len(args) :]:
        return values, unknown
    if unknown:
        self.error(f"unrecognized arguments: {' '.join(unknown)}")
    raise Parsed

argparse.ArgumentParser.parse_known_args = parse_and_stop
answers = []
for module, *arguments in json.load(sys.stdin):
    sys.argv = [module, *arguments]
    said = io.StringIO()
    answer = "it parses no arguments"
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Parsed:
        answer = ""
    except SystemExit as end:
        help = "-h" in arguments or "--help" in arguments
        answer = "" if help and not end.code else said.getvalue().strip()
    except ImportError as error:
        answer = str(error)
    answers.append(answer)
json.dump(answers, sys.stdout)
"""


def parse(commands: list[list[str]]) -> list[str]:
    """Let each command (a module and its arguments) parse its arguments; returns its complaints."""
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=json.dumps(commands),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout))


@cache
def _makefile() -> tuple[set[str], set[str]]:
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: ([a-z -]+)$", text, re.M)
    assert targets
    return set(targets[1].split()), set(re.findall(r"^([A-Z_]+) +\?=", text, re.M))


def _modules(command: list[str]) -> Iterator[list[str]]:
    """The Python modules of this project that a command starts, with their arguments."""
    for index, word in enumerate(command[:-1]):
        if word == "-m" and command[index + 1].split(".")[0] in _FOLDERS:
            yield command[index + 1 :]
            return


def _made(command: list[str]) -> Iterator[list[str]]:
    """The commands that make would run."""
    plan = subprocess.run(
        ["make", "-n", "--no-print-directory", *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in plan.replace("\\\n", " ").splitlines():
        if " -m " in line:
            for part in line.split(" && "):
                yield from _modules(shlex.split(part))


def _check(command: list[str], make: bool) -> tuple[list[str], list[list[str]]]:
    """What is wrong with a command but for its flags, and the modules that it starts."""
    shown = " ".join(command)
    words = list(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program = words[0].removeprefix(".venv/bin/") if words else ""
    found = [
        f"{path} must exist: {shown}"
        for word in words
        for path in [word.partition("=")[2] if program == "make" else word]
        if path.split("/")[0] in _FOLDERS and "/" in path and not (ROOT / path).exists()
    ]
    found += [
        f"{word} must not need editing: {shown}" for word in words if re.search(r"<\w+>", word)
    ]
    if program == "make" and "-C" not in words:
        targets, variables = _makefile()
        given = [word for word in words[1:] if "=" in word]
        unknown = sorted({word.partition("=")[0] for word in given} - variables)
        unknown += [word for word in words[1:] if word not in given and word not in targets]
        found += [f"make must know {word}: {shown}" for word in unknown]
        return found, list(_made(words)) if make and not unknown else []
    if program not in {"python", "make", *_KNOWN}:
        found.append(f"{program} must be a known program: {shown}")
    return found, list(_modules(words))


def complaints(pages: dict[str, str], make: bool = True) -> list[str]:
    """What is wrong with the commands of pages, in blocks and within sentences.

    Flags, targets, variables, files and programs must exist, and a block that is not run must say
    why. With `make` false there is no make to ask what it would run.
    """
    found = []
    started: list[tuple[str, bool, list[str]]] = []  # page, whether all must be given, module
    for page, text in pages.items():
        commands = [(False, words) for words in inline(text)]
        for block in blocks(page, text):
            if block.language in LANGUAGES:
                commands += [(True, words) for words in block.commands()]
                if block.kind in ("slow", "not run") and not block.note:
                    found.append(f"{block.where}: a block that is not run must say why")
            elif re.search(r"^(\$ )?(python -m|make) ", block.text, re.M):
                found.append(f"{block.where}: a block of commands must be marked as sh or console")
        for whole, words in commands:
            wrong, modules = _check(words, make)
            found += [f"{page}: {complaint}" for complaint in wrong]
            started += [(page, whole, module) for module in modules]
    answers = parse([module for *_, module in started]) if started else []
    for (page, whole, module), answer in zip(started, answers, strict=True):
        # A sentence may name a verb without all that it needs.
        missing = "required:" in answer or "expected one argument" in answer
        if answer and (whole or not missing):
            found.append(f"{page}: {answer}: python -m {' '.join(module)}")
    return found
