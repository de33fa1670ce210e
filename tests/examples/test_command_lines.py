"""The example scripts' command lines: a user's mistake is one line, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_unknown_flag_is_one_line(script: Path) -> None:
    _needs(script)
    done = _call(script, "--not-a-flag", "x", "--address", "0", "x", "x", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_is_printed(script: Path) -> None:
    _needs(script)
    done = _call(script, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {script.name}"), done.stderr


def test_a_network_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    script = next(path for path in SCRIPTS if path.stem == "layer_sensitivity")
    done = _call(script, str(tmp_path / "base.pt"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def _needs(script: Path) -> None:
    if "torch" in script.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="torch is not installed")


def _call(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )
