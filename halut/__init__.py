"""MADDNESS: matrix products by table look-ups, without a multiplication.

A product ``A @ B`` with a matrix B that is known ahead of time becomes: walk a small decision
tree per codebook to a code, look the code up in one table per output, add. This package learns
trees and tables from data and models the accelerator that runs them, bit by bit. It needs
NumPy only; what needs PyTorch lies in `halut.nn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from halut.errors import CheckFailed, HalutError

if TYPE_CHECKING:
    from halut.matmul import HalutMatmul
    from halut.program import Program

__version__ = "0.1.0"

__all__ = ["CheckFailed", "HalutError", "HalutMatmul", "Program", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: `flow.doctor` runs before NumPy is installed.
    if name == "HalutMatmul":
        from halut.matmul import HalutMatmul

        return HalutMatmul
    if name == "Program":
        from halut.program import Program

        return Program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
