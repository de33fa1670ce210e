"""Variants of the native kernels that processors of this kind may run."""

import platform

from halut import native

_ARM = platform.machine().lower() in ("aarch64", "arm64")

VARIANTS = [name for name in native.VARIANTS if name == "portable" or (name == "neon") == _ARM]
