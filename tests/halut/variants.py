"""Variants of the native kernels that processors of this kind may run, and how they are watched."""

import platform
from pathlib import Path

from halut import native

_ARM = platform.machine().lower() in ("aarch64", "arm64")

VARIANTS = [name for name in native.VARIANTS if name == "portable" or (name == "neon") == _ARM]


def sanitizing_compiler(folder: Path) -> Path:
    """Write a compiler whose programs stop at wrong addresses and undefined behaviour."""
    compiler = folder / "cc"  # -O1 comes last: more of it takes minutes
    compiler.write_text(
        '#!/bin/sh\nexec gcc "$@" -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all\n'
    )
    compiler.chmod(0o755)
    return compiler
