"""ABC, the solver that comes inside the pip package of Yosys."""

from __future__ import annotations

import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from flow.tools import Tool, run_tool
from halut.errors import HalutError

__all__ = ["find_abc", "run_abc"]


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


def run_abc(tool: Tool, commands: str, folder: Path, name: str, timeout: float) -> str:
    """Run ABC commands in `folder`; returns what it prints, which ``<name>.log`` keeps.

    Raises
    ------
    CheckFailed
        When it crashes or takes more than `timeout` seconds.
    """
    return run_tool(tool, ["-q", commands], folder / f"{name}.log", cwd=folder, timeout=timeout)
