"""Hash of the code that results depend on: what other code made is not reused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from halut.sources import folder_hash

__all__ = ["PACKAGES", "ROOT", "sources_hash"]

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the packages."""

PACKAGES = ("flow", "halut", "rtl_gen", "sim")
"""All code that a result may depend on."""


@cache
def sources_hash() -> str:
    """`folder_hash` of this project's packages."""
    return folder_hash(ROOT / package for package in PACKAGES)
