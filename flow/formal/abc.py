"""ABC, the solver of all proofs."""

from __future__ import annotations

from pathlib import Path

from flow.tools import Tool, run_tool
from halut.errors import CheckFailed

__all__ = ["differ", "run_abc"]


def run_abc(tool: Tool, commands: str, folder: Path, name: str, timeout: float) -> str:
    """Run ABC commands in `folder`; returns what it prints, which ``<name>.log`` keeps.

    Raises
    ------
    CheckFailed
        When it crashes or takes more than `timeout` seconds.
    """
    return run_tool(tool, ["-q", commands], folder / f"{name}.log", cwd=folder, timeout=timeout)


def differ(
    tool: Tool, first: str, second: str, folder: Path, name: str, timeout: float, options: str = ""
) -> str:
    """Compare two circuits (BLIF) whose inputs and outputs are in the same order.

    Returns
    -------
    str
        ABC's log, with the difference; "" when they are equal.

    Raises
    ------
    CheckFailed
        When ABC does not decide within `timeout` seconds.
    """
    command = f"cec -n -T {timeout:.0f} {options} {first} {second}"
    log = run_abc(tool, command, folder, name, timeout + 60)
    if "Networks are equivalent" in log:
        return ""
    if "NOT EQUIVALENT" in log:
        return log
    raise CheckFailed(
        f"ABC must decide within {timeout:g} s whether {first} and {second} are equal "
        f"(log: {folder / name}.log)"
    )
