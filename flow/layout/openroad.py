"""OpenROAD: running one script, with its time and memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.tools import Tool, ToolFailed, tail
from flow.tools.tcl import quote
from halut import process

__all__ = ["Usage", "run_script"]


@dataclass(frozen=True)
class Usage:
    """What a script took."""

    seconds: float  #: Wall clock.
    #: Largest resident set, MB; None where the program is a container's command.
    peak_mb: float | None


def run_script(
    tool: Tool, scripts: Sequence[Path], folder: Path, name: str
) -> tuple[dict[str, Any], Usage]:
    """Run Tcl files one after the other in one OpenROAD.

    Parameters
    ----------
    folder : Path
        Where ``<name>.tcl``, ``<name>.log`` and ``<name>.json`` (its metrics) go.

    Returns
    -------
    metrics : dict
        What OpenROAD wrote with ``-metrics``.

    Raises
    ------
    ToolFailed
        When it fails; holds the last lines of the log.
    """
    log, found = folder / f"{name}.log", folder / f"{name}.json"
    found.unlink(missing_ok=True)
    script = folder / f"{name}.tcl"
    script.write_text(
        "".join(f"source {quote(path)}\n" for path in scripts) + 'puts "HALUT done"\n'
    )
    command = [*tool.command, "-no_splash", "-no_init", "-exit", "-metrics", str(found),
               str(script)]  # fmt: skip
    container = len(tool.command) > 1
    done = process.run(command, log=log, cwd=folder)
    if done.status or "HALUT done" not in log.read_text(errors="replace"):
        raise ToolFailed(
            f"openroad must finish {name}, not end with {done.status} (log: {log})", tail(log)
        )
    metrics = json.loads(found.read_text()) if found.is_file() else {}
    return metrics, Usage(round(done.seconds, 1), None if container else round(done.peak_mb))
