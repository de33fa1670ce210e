"""MADDNESS: matrix products by table look-ups, without a multiplication.

A product ``A @ B`` with a matrix B that is known ahead of time becomes: walk a small decision
tree per codebook to a code, look the code up in one table per output, add. This package learns
trees and tables from data and models the accelerator that runs them, bit by bit. It needs
NumPy only; what needs PyTorch lies in `halut.nn`.
"""

from __future__ import annotations

__version__ = "0.1.0"

from halut.errors import CheckFailed, HalutError
from halut.matmul import HalutMatmul
from halut.program import Program

__all__ = ["CheckFailed", "HalutError", "HalutMatmul", "Program", "__version__"]
