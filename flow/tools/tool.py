"""Running the programs that the flow drives.

Nothing here is imported from a tool: Yosys runs in a child process, so that an assertion in it
ends one step and not the whole run, and its log lies on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from halut import process
from halut.errors import CheckFailed, HalutError
from sim.simulators import plain_link

__all__ = ["Tool", "ToolFailed", "plain_path", "run_tool", "tail"]


@dataclass(frozen=True)
class Tool:
    """A program that was found."""

    #: What it is: ``yosys``, ``abc``, ``opensta``, ``openroad``, ``icarus``, ``verilator``.
    name: str
    command: tuple[str, ...]  #: How it is started.
    version: str
    #: What it runs in; this process's when None.
    environment: Mapping[str, str] | None = field(default=None, compare=False, repr=False)


class ToolFailed(CheckFailed):
    """A tool ended badly.

    Attributes
    ----------
    tail : str
        The last lines of its log.
    """

    def __init__(self, message: str, tail: str):
        super().__init__(message)
        self.tail = tail


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.rstrip().splitlines()[-lines:])


def run_tool(
    tool: Tool, arguments: Sequence[str], log: Path, cwd: Path, timeout: float | None = None
) -> str:
    """Run a tool; its output goes to `log` and is returned.

    Raises
    ------
    CheckFailed
        When it fails or does not end in time; the message holds the last lines and the log's path.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = process.run(
            [*tool.command, *arguments], log=log, cwd=cwd, env=tool.environment, timeout_s=timeout
        )
    except OSError as error:
        if error.filename == str(log):
            raise
        raise HalutError(f"{tool.name} must be executable: {error}") from None
    if done.status is None:
        raise CheckFailed(f"{tool.name} must end within {timeout:g} s (log: {log})")
    if done.status:
        raise ToolFailed(
            f"{tool.name} must succeed, not end with {done.status} (log: {log})", tail(log)
        )
    return log.read_text(errors="replace")


def plain_path(path: Path) -> Path:
    """A path of a file that needs no quotes in a tool's own language."""
    return plain_link(path.parent) / path.name
