"""Finds the programs that the flow drives: the only place that knows where they are."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from flow.tools.tool import Tool
from halut import process
from halut.errors import HalutError
from sim import simulators

__all__ = [
    "find_abc",
    "find_openroad",
    "find_simulator",
    "find_sta",
    "find_yosys",
    "no_simulator",
    "openroad_command",
    "version_in",
    "version_of",
]

# Numbers (2.0.17), and OpenROAD's releases, which are named by quarter (25Q4, 26Q3-1-gabc).
_VERSION = re.compile(r"\d+[.Q]\d[\w.-]*")


def version_in(text: str) -> str | None:
    """The version that a tool's answer holds; None without one."""
    found = _VERSION.search(text)
    return found[0] if found else None


def version_of(command: Sequence[str], timeout_s: float = 60) -> str:
    """What a program prints when it is asked for its version; empty when it does not run."""
    try:
        done = process.run(command, timeout_s=timeout_s)
    except OSError:
        return ""
    return "" if done.status is None else (done.output + done.errors).strip()


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
    version = (version_of([path, "-V"]).splitlines() or [""])[0]
    match = re.search(r"(\d+)\.(\d+)", version)
    if match and (int(match[1]), int(match[2])) < _YOSYS_MIN:
        raise HalutError(
            f"yosys must be 0.46 or newer (it has no clockgate before), not {match[0]} ({path}); "
            "pip install pyosys and leave --yosys out"
        )
    return Tool("yosys", (path, "-q", "-s"), version)


def find_abc() -> Tool:
    """The ABC of the pip package pyosys, else ``yosys-abc`` or ``abc`` on PATH.

    Raises
    ------
    HalutError
        When there is none.
    """
    spec = find_spec("pyosys")
    for place in spec.submodule_search_locations or [] if spec else []:
        path = Path(place) / "yosys-abc"
        if path.is_file():
            return Tool("abc", (str(path),), f"of pyosys {metadata.version('pyosys')}")
    for name in ("yosys-abc", "abc"):
        found = shutil.which(name)
        if found:
            return Tool("abc", (found,), found)
    raise HalutError(
        "ABC must be installed: pip install pyosys (or pip install -e .[flow]), whose package "
        "holds yosys-abc; rtl_gen and sim work without it"
    )


def openroad_command() -> tuple[str, ...] | None:
    """How OpenROAD is started: ``OPENROAD_EXE``, else ``openroad`` on PATH; None without one.

    ``OPENROAD_EXE`` is a program or a container command, in shell's words.

    Raises
    ------
    HalutError
        When ``OPENROAD_EXE`` names a program that is not there.
    """
    wanted = os.environ.get("OPENROAD_EXE", "").strip()
    try:
        words = shlex.split(wanted) or ["openroad"]
    except ValueError as error:
        raise HalutError(f"OPENROAD_EXE must be a command: {error}, not {wanted}") from None
    # A path with spaces needs no quotes when it is there.
    path = shutil.which(wanted) if wanted else None
    if path is not None:
        return (path,)
    path = shutil.which(words[0])
    if path is None:
        if wanted:
            raise HalutError(
                f"OPENROAD_EXE must be a program or a container command, not {wanted}: "
                f"{words[0]} is not found"
            )
        return None
    return (path, *words[1:])


def find_openroad() -> Tool | None:
    """OpenROAD: ``OPENROAD_EXE`` (a program or a container command), else ``openroad`` on PATH.

    Raises
    ------
    HalutError
        When ``OPENROAD_EXE`` is set to something that does not run.
    """
    command = openroad_command()
    if command is None:
        return None
    try:
        done = process.run([*command, "-version"], timeout_s=120)
    except OSError as error:
        raise HalutError(f"openroad must answer to -version: {error} ({command[0]})") from None
    lines = done.output.strip().splitlines()
    if done.status or done.status is None or not lines:
        how = "take longer than 120 s" if done.status is None else f"end with {done.status}"
        raise HalutError(f"openroad must answer to -version, not {how} ({command[0]})")
    return Tool("openroad", command, lines[-1].split()[0])


def find_sta(wanted: str | None = None) -> Tool | None:
    """OpenSTA: `wanted`, or ``sta``, or the one inside OpenROAD; None when there is none.

    ``openroad`` is what `openroad_command` finds.
    """
    program = wanted or "sta"
    path = shutil.which(program) if program != "openroad" else None
    command: tuple[str, ...] | None = (path,) if path else None
    if command is None and wanted in (None, "openroad"):
        command = openroad_command()
    if command is None:
        if wanted is None:
            return None
        raise HalutError(
            f"--sta must be a program on PATH, not {wanted}: apt install opensta, or give the "
            f"path of sta or openroad"
        )
    text = version_of([*command, "-version"])
    version = version_in(text) or (text.splitlines() or [""])[-1]
    return Tool("opensta", (*command, "-no_splash", "-no_init", "-exit"), version)


_NETLIST_ORDER = ("icarus", "verilator")


def find_simulator(wanted: str = "auto") -> Tool | None:
    """A netlist simulator: Icarus (with delays) before Verilator; None when there is none."""
    if wanted not in ("auto", *_NETLIST_ORDER):
        raise HalutError(f"--simulator must be auto, icarus or verilator, not {wanted}")
    if wanted == "auto" and no_simulator() is not None:
        return None
    found = simulators.find(None if wanted == "auto" else wanted, order=_NETLIST_ORDER)
    return Tool(found.name, (found.program(),), found.version, found.environment())


def no_simulator() -> str | None:
    """Why there is no netlist simulator here; None when there is one."""
    reasons = [simulators.why_not(name) for name in _NETLIST_ORDER]
    return None if None in reasons else "no simulator: " + "; ".join(map(str, reasons))
