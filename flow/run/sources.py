"""Hash of the code that results depend on: what other code made is not reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "folder_hash", "sources_hash"]

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the packages."""

PACKAGES = ("flow", "halut", "rtl_gen", "sim")
"""All code that a result may depend on."""


def folder_hash(folders: Iterable[Path]) -> str:
    """Hash of the names and contents of all files in folders, their subfolders included.

    Compiled files (``__pycache__``) and hidden ones are left out.

    Parameters
    ----------
    folders : iterable of Path

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
                continue
            if path.is_file():
                content = path.read_bytes()
                digest.update(f"{folder.name}/{name.as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()


@cache
def sources_hash() -> str:
    """`folder_hash` of this project's packages."""
    return folder_hash(ROOT / package for package in PACKAGES)
