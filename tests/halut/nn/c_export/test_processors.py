"""The C code without an operating system, under QEMU: RV32 and Cortex-M."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.nn.c_export.export import export_c  # noqa: E402
from tests.halut.nn.c_export.builds import passed  # noqa: E402
from tests.halut.nn.c_export.networks import images, mixed  # noqa: E402

TARGETS = [
    pytest.param("rv32", "riscv64-unknown-elf-size", marks=pytest.mark.needs(
        "make", "riscv64-unknown-elf-gcc", "qemu-system-riscv32")),
    pytest.param("cortex-m", "arm-none-eabi-size", marks=pytest.mark.needs(
        "make", "arm-none-eabi-gcc", "qemu-system-arm")),
]  # fmt: skip


@pytest.mark.parametrize(("target", "size"), TARGETS)
def test_bare_metal_gives_the_bits_of_pytorch(target: str, size: str, tmp_path: Path) -> None:
    done = export_c(mixed(), tmp_path, images(4), measure_code=False)
    printed = passed(tmp_path, target)
    (counted,) = re.findall(r"^(\d+) instructions per input$", printed, re.M)
    assert int(counted) > 1000
    assert passed(tmp_path, target) == printed  # the count, too, is the same again
    assert "passed: 20 outputs of 4 inputs equal" in printed
    _check_memory(tmp_path, target, size, done.workspace_bytes)


def _check_memory(folder: Path, target: str, size: str, workspace_bytes: int) -> None:
    """Tables are in read-only memory once, and nowhere else."""
    import subprocess

    program = folder / "build" / target.replace("-", "_") / "selftest"
    listed = subprocess.run([size, str(program)], capture_output=True, text=True, check=True)
    text, data, zeroed = map(int, listed.stdout.splitlines()[1].split()[:3])
    buffers = workspace_bytes + 4 * (126 + 5)  # with the input and the output of the self test
    assert data == 0
    assert buffers <= zeroed < buffers + 256
    assert text > 5000
