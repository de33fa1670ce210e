"""Finds place-and-route tools of FPGAs: programs on PATH, or YoWASP's pip packages."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from importlib.util import find_spec

from flow.fpga.parts import Family
from flow.tools.find import version_in, version_of
from flow.tools.tool import Tool
from halut.errors import HalutError

__all__ = ["find_fpga_tool", "missing"]


def _find(program: str, family: Family) -> Tool | None:
    path = shutil.which(program)
    if path is not None:
        version = version_in(version_of([path, "--version"])) or path
        return Tool(program, (path,), version)
    package = family.packer_package if program == family.packer else ""
    if package:
        if find_spec(package) is None:
            return None
        command = (sys.executable, "-m", f"{package}.{program}")
        return Tool(program, command, f"{package} {metadata.version(package)}")
    package = f"yowasp-{family.placer}"
    module = package.replace("-", "_")
    if find_spec(module) is None:
        return None
    call = f"import sys, {module} as tool; sys.exit(tool.run_{program.replace('-', '_')}"
    return Tool(
        program,
        (sys.executable, "-c", f"{call}(sys.argv[1:]))"),
        f"{package} {metadata.version(package)}",
    )


def missing(family: Family) -> str | None:
    """Why a family's tools cannot be used; None where they can."""
    if all(_find(program, family) for program in (family.placer, family.packer)):
        return None
    return (
        f"{family.placer} is not installed (pip install -e .[fpga], or put it and {family.packer} "
        "on PATH)"
    )


def find_fpga_tool(program: str, family: Family) -> Tool:
    """A family's placer or packer.

    Raises
    ------
    HalutError
        When it is not there; says how to get it.
    """
    tool = _find(program, family)
    if tool is None:
        package = family.packer_package if program == family.packer else ""
        raise HalutError(
            f"{program} must be installed: pip install {package or f'yowasp-{family.placer}'} (or "
            "pip install -e .[fpga]), or put it on PATH; everything but flow fpga works without it"
        )
    return tool
