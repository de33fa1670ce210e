"""What an installed wheel holds: every file that is no module, too."""

import fnmatch
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("halut", "rtl_gen", "sim", "flow")


def _data() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    ]


def test_every_data_file_is_shipped():
    discovery = pytest.importorskip("setuptools.discovery")
    text = (ROOT / "pyproject.toml").read_text()
    (found,) = re.findall(r'^"\*" = \[(.*)\]$', text, re.M)
    patterns = re.findall(r'"([^"]+)"', found)
    folders = discovery.PEP420PackageFinder.find(
        str(ROOT), include=[f"{package}*" for package in PACKAGES]
    )
    files = _data()
    assert {path.suffix for path in files} >= {".tcl", ".v", ".yaml"}
    for path in files:
        assert ".".join(path.parent.parts) in folders, path
        assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path
