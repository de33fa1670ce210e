"""The sources of the native library and how they are compiled: for `library` and for setup.py.

Imports nothing of halut, so that setup.py can run it before NumPy is there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["FLAGS", "FOLDER", "INCLUDED", "LIBRARIES", "SOURCES", "fingerprint"]

FOLDER = Path(__file__).resolve().parent
SOURCES = ("kernels.c", "prepare.c", "convolution.c", "gradients.c", "network.c", "cholesky.c",
           "rows.c")  # fmt: skip
INCLUDED = (
    "stages.h", "portable.h", "avx2.h", "avx512.h", "neon.h", "quads.h", "layouts.h", "variant.h",
    "encode.h", "look_up.h", "learning.h", "common.h", "format.h", "transpose.h", "pieces.h",
    "shuffle.h", "gradients.h", "quad_blocks.h", "trees.h", "network.h",
    "cholesky.h", "terms.h",
)  # fmt: skip
LIBRARIES = ("m",)

# A multiplication and an addition round one after the other, as in NumPy.
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fvisibility=hidden")


def fingerprint() -> str:
    """Return what changes when a source or a flag does: 16 hexadecimal digits."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for name in (*SOURCES, *INCLUDED):
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]
