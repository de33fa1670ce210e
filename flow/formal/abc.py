"""ABC, the solver of all proofs."""

from __future__ import annotations

from pathlib import Path

from flow.tools import Tool, run_tool

__all__ = ["run_abc"]


def run_abc(tool: Tool, commands: str, folder: Path, name: str, timeout: float) -> str:
    """Run ABC commands in `folder`; returns what it prints, which ``<name>.log`` keeps.

    Raises
    ------
    CheckFailed
        When it crashes or takes more than `timeout` seconds.
    """
    return run_tool(tool, ["-q", commands], folder / f"{name}.log", cwd=folder, timeout=timeout)
