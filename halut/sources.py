"""Hash of code that results depend on: what other code made is not reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["folder_hash"]


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
