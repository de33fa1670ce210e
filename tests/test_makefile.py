"""The Makefile in folders with awkward names: it works there, and removes nothing outside."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH")


@pytest.fixture(params=["plain", "My Projects", "a $HOME b", "it's", 'say "x"', "ü µ", "x;y&z"])
def clone(request, tmp_path):
    folder = tmp_path / request.param / "repo"
    (folder / "configs").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    # A stand-in for Python that reports its arguments, one per line.
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    python.chmod(0o755)
    for stamp in ("sim-demo-flow-dev", "sim-demo-flow-dev-torch"):
        (folder / ".venv" / f".installed-{stamp}").touch()
        os.utime(folder / ".venv" / f".installed-{stamp}", (2**31, 2**31))
    return folder


def _make(*arguments, cwd, status=0):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_clean_removes_build_and_nothing_else(clone, tmp_path):
    beside = [clone / "configs", clone.parent / "build", tmp_path / "thesis"]
    beside += [tmp_path / word for word in clone.parent.name.split()]
    for folder in [clone / "build", *beside]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kept.txt").touch()
    _make("clean", cwd=clone)
    assert not (clone / "build").exists()
    assert all((folder / "kept.txt").is_file() for folder in beside)


@pytest.mark.parametrize("way", ["inside", "-C", "-f"])
def test_values_arrive_whole_and_in_the_folder_of_the_clone(clone, tmp_path, way):
    arguments = {
        "inside": (clone, []),
        "-C": (tmp_path, ["--no-print-directory", "-C", str(clone)]),
        "-f": (tmp_path, ["-f", str(clone / "Makefile")]),
    }
    cwd, first = arguments[way]
    lines, _ = _make(*first, "rtl", "CONFIG=it's $HOME/a b.yaml", 'OUT=x "y"', cwd=cwd)
    assert lines == [
        str(clone), "-m", "rtl_gen", "--config", "it's $HOME/a b.yaml", "-o", 'x "y"'
    ]  # fmt: skip


def test_recipes_with_spaces_have_a_folder(clone):
    lines, _ = _make("network", "RECIPE=my nets/a b.yaml", cwd=clone)
    assert lines[2:6] == ["halut", "train", "my nets/a b.yaml", "-o"]
    assert lines[6] == "build/networks/a b"
    assert "build/networks/a b/network.pt" in lines


def test_the_platform_is_handed_on_only_when_it_was_given(clone):
    assert "--platform" not in _make("bench", cwd=clone)[0]
    assert "asap7" in _make("bench", "PLATFORM=asap7", cwd=clone)[0]


@pytest.mark.parametrize("venv", ["a b", "$x", "it's", ""])
def test_an_environment_that_make_cannot_name_is_refused_in_one_line(clone, venv):
    lines, errors = _make("rtl", f"VENV={venv}", cwd=clone, status=2)
    assert lines == []
    (line,) = [line for line in errors.splitlines() if "Warning" not in line]
    assert "VENV must be a path of letters" in line


def test_distclean_keeps_an_environment_that_is_not_its_own(clone):
    own, other = clone / ".venv", clone / "other"
    other.mkdir()
    for folder in (own, other):
        (folder / "pyvenv.cfg").touch()
    _make("distclean", "VENV=other", cwd=clone)
    assert other.is_dir()
    _make("distclean", cwd=clone)
    assert not own.exists()
