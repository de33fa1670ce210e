"""Sizes of an exported network: constants by purpose, and code by compiler."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halut import process

__all__ = ["COMPILERS", "Compiler", "by_purpose", "code_bytes"]


@dataclass(frozen=True)
class Compiler:
    """A C compiler, and how it is called for a target."""

    target: str
    command: str
    size: str
    flags: tuple[str, ...]


COMPILERS = (
    Compiler("host", "cc", "size", ("-static", "-fno-pie", "-no-pie")),
    Compiler("rv32", "riscv64-unknown-elf-gcc", "riscv64-unknown-elf-size",
             ("-march=rv32imac", "-mabi=ilp32", "-mcmodel=medany", "-Wl,--no-relax")),
    Compiler("cortex-m", "arm-none-eabi-gcc", "arm-none-eabi-size",
             ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=soft")),
)  # fmt: skip

_PURPOSES = {"table": "tables", "thresholds": "thresholds", "weights": "weights"}
_LIMIT_S = 120.0


def by_purpose(constants: Mapping[str, int]) -> dict[str, int]:
    """Add up bytes of constants: tables, thresholds, weights, and all others."""
    totals = dict.fromkeys((*_PURPOSES.values(), "other"), 0)
    for name, n_bytes in constants.items():
        totals[_PURPOSES.get(name.rpartition("_")[2], "other")] += n_bytes
    return totals


def code_bytes(folder: Path) -> dict[str, int]:
    """Compile a network by every compiler that is there, -O2, and return the bytes of its code.

    Counted is what ``network_run`` calls, the compiler's functions for floats included.
    """
    found = {}
    for compiler in COMPILERS:
        if shutil.which(compiler.command) and shutil.which(compiler.size):
            n_bytes = _code_bytes(compiler, folder)
            if n_bytes is not None:
                found[compiler.target] = n_bytes
    return found


def _code_bytes(compiler: Compiler, folder: Path) -> int | None:
    with tempfile.TemporaryDirectory() as temporary:
        program = Path(temporary) / "network"
        command = [
            compiler.command, "-std=c99", "-O2", "-ffp-contract=off", "-ffreestanding",
            "-fno-builtin", "-nostdlib", "-ffunction-sections", *compiler.flags,
            "-Wl,--gc-sections,--entry=network_run,--unresolved-symbols=ignore-all",
            "-o", str(program), str(folder / "network.c"), str(folder / "halut_layers.c"), "-lgcc",
        ]  # fmt: skip
        if process.run(command, timeout_s=_LIMIT_S).status != 0:
            return None
        listed = process.run([compiler.size, "-A", str(program)], timeout_s=_LIMIT_S).output
    sections = re.findall(r"^\.text\S*\s+(\d+)", listed, re.M)
    return sum(map(int, sections)) if sections else None
