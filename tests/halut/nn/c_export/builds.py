"""Builds exported networks and runs their self tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

STRICT = "-Wall -Wextra -Wpedantic -Wconversion -Werror"


def make(folder: Path, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run make in a folder of an export."""
    command = ["make", "--no-print-directory", "-s", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout_s
    )


def passed(folder: Path, *arguments: str) -> str:
    """Build a target that runs the self test, which must pass; return what it printed."""
    done = make(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: " in done.stdout and "FAILED" not in done.stdout
    return done.stdout
