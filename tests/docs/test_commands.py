"""Every command in README and docs: its flags, targets and files exist; what can be run is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import commands

ROOT = commands.ROOT
PAGES = {
    path.name: path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
}
BLOCKS = [block for page, text in PAGES.items() for block in commands.blocks(page, text)]
QUICK = [block for block in BLOCKS if block.language in commands.LANGUAGES and not block.kind]
SLOW = sorted({block.page for block in BLOCKS if block.kind == "slow"})


def test_every_command_exists() -> None:
    found = commands.complaints(PAGES, make=shutil.which("make") is not None)
    assert found == []
    assert len(QUICK) > 1 and len(SLOW) > 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\npython -m rtl_gen --num-x 4\n```\n", "--num-x"),
        ("```sh\npython -m halut lern --a a.npy\n```\n", "lern"),
        ("```sh\npython -m halut learn --a a.npy\n```\n", "required"),
        ("```sh\npython -m sim --config configs/none.yaml\n```\n", "configs/none.yaml must exist"),
        ("```console\n$ make synht\n```\n", "make must know synht"),
        ("```sh\nmake synth CONFG=configs/small.yaml\n```\n", "make must know CONFG"),
        ("```sh\nmake rtl CONFIG=configs/none.yaml\n```\n", "configs/none.yaml must exist"),
        ("```sh\nsynthesise everything\n```\n", "synthesise must be a known program"),
        ("```sh\nmake report RUNS=build/<run>\n```\n", "build/<run> must not need editing"),
        ("```\npython -m rtl_gen\n```\n", "must be marked as sh"),
        ("<!-- not run:  -->\n```sh\nmake help\n```\n", "must say why"),
        ("Use `python -m flow synth --clock 6`.\n", "--clock"),
    ],
)
def test_a_wrong_command_is_found(text: str, complaint: str) -> None:
    (found,) = commands.complaints({"page.md": text}, make=False)
    assert complaint in found


@pytest.mark.needs("make")
def test_wrong_flags_that_make_hands_on_are_found() -> None:
    text = '```sh\nmake synth ARGS="--no-powr"\n```\n'
    (found,) = commands.complaints({"page.md": text})
    assert "--no-powr" in found
    assert commands.complaints({"page.md": text.replace("powr", "power")}) == []


def _run(text: str, folder: Path) -> str:
    """Run commands as a user does, with this Python in place of the project's environment."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    python = tools / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("configs", "docs"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _shape(text: str) -> list[str]:
    """Lines without what differs between machines: numbers and the width of columns."""
    return [" ".join(re.sub(r"[\d.,]+", "#", line).split()) for line in text.splitlines() if line]


@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.where)
def test_quick_commands_run(block: commands.Block, tmp_path: Path) -> None:
    text = "\n".join(" ".join(map(_quoted, words)) for words in block.commands())
    printed = _run(text, tmp_path)
    if block.language == "console":
        expected = [line for line in block.text.splitlines() if line and line[:2] != "$ "]
        assert [line for line in printed.splitlines() if line] == expected


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.needs("pyosys")
@pytest.mark.parametrize("page", SLOW)
def test_slow_commands_run(page: str, tmp_path: Path) -> None:
    """Page by page, in order; what they print has the lines that stand below them."""
    if "[torch]" in PAGES[page]:
        pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    printed = ""
    for block in commands.blocks(page, PAGES[page]):
        if block.kind == "file":
            (tmp_path / block.note).write_text(block.text)
        elif block.kind == "slow":
            printed = _run(block.text, tmp_path)
        elif block.language == "text" and printed:
            lines = iter(_shape(printed))
            missing = [line for line in _shape(block.text) if line not in lines]
            assert missing == [], f"{block.where}\n{printed}"
            printed = ""
