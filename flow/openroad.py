"""OpenROAD: finding it, and running one script with its time and memory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.tools import Tool, ToolFailed, tail
from halut.errors import HalutError

__all__ = ["Usage", "find_openroad", "run_script", "settings"]


@dataclass(frozen=True)
class Usage:
    """What a script took.

    Attributes
    ----------
    seconds : float
        Wall clock.
    peak_mb : float or None
        Largest resident set, MB; None where the program is a container's command.
    """

    seconds: float
    peak_mb: float | None


def find_openroad() -> Tool | None:
    """OpenROAD: ``OPENROAD_EXE`` (a program or a container command), else ``openroad`` on PATH.

    Raises
    ------
    HalutError
        When ``OPENROAD_EXE`` is set to something that does not run.
    """
    wanted = os.environ.get("OPENROAD_EXE", "").strip()
    command = shlex.split(wanted) if wanted else ["openroad"]
    path = shutil.which(command[0])
    if path is None:
        if wanted:
            raise HalutError(
                f"OPENROAD_EXE must be a program or a container command, not {wanted}: "
                f"{command[0]} is not found"
            )
        return None
    command = [path, *command[1:]]
    try:
        answer = subprocess.run(
            [*command, "-version"],
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise HalutError(f"openroad must answer to -version: {error} ({path})") from None
    lines = answer.stdout.strip().splitlines()
    if answer.returncode or not lines:
        raise HalutError(
            f"openroad must answer to -version, not end with {answer.returncode} ({path})"
        )
    return Tool("openroad", tuple(command), lines[-1].split()[0])


def _quote(value: Any) -> str:
    """A value as a Tcl word; sequences become lists."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "{" + " ".join(_quote(item) for item in value) + "}"
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    if re.fullmatch(r"[\w./:+-]+", text):
        return text
    if text.count("{") != text.count("}") or "\\" in text:
        raise HalutError(f"a name must have balanced braces and no backslash, not {text}")
    return "{" + text + "}"


def settings(values: Mapping[str, Any]) -> str:
    """Settings as Tcl: the array `halut`.

    Examples
    --------
    >>> print(settings({"top": "halut_matmul", "fill": ["A", "B"], "repair": True}), end="")
    array set halut {
      top halut_matmul
      fill {A B}
      repair 1
    }
    """
    lines = [f"  {key} {_quote(value)}" for key, value in values.items()]
    return "\n".join(["array set halut {", *lines, "}", ""])


def run_script(
    tool: Tool, scripts: Sequence[Path], folder: Path, name: str
) -> tuple[dict[str, Any], Usage]:
    """Run Tcl files one after the other in one OpenROAD.

    Parameters
    ----------
    tool : Tool
    scripts : sequence of Path
    folder : Path
        Where ``<name>.tcl``, ``<name>.log`` and ``<name>.json`` (its metrics) go.
    name : str

    Returns
    -------
    metrics : dict
        What OpenROAD wrote with ``-metrics``.
    usage : Usage

    Raises
    ------
    ToolFailed
        When it fails; holds the last lines of the log.
    """
    log, found = folder / f"{name}.log", folder / f"{name}.json"
    found.unlink(missing_ok=True)
    script = folder / f"{name}.tcl"
    script.write_text("".join(f"source {path}\n" for path in scripts) + 'puts "HALUT done"\n')
    command = [*tool.command, "-no_splash", "-no_init", "-exit", "-metrics", str(found),
               str(script)]  # fmt: skip
    container = len(tool.command) > 1
    start = time.monotonic()
    with log.open("w") as stream:
        child = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            # Interrupted: nothing of ours may go on in the background.
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if child.returncode or "HALUT done" not in log.read_text(errors="replace"):
        raise ToolFailed(
            f"openroad must finish {name}, not end with {child.returncode} (log: {log})", tail(log)
        )
    metrics = json.loads(found.read_text()) if found.is_file() else {}
    return metrics, Usage(round(seconds, 1), None if container else round(usage.ru_maxrss / 1024))
