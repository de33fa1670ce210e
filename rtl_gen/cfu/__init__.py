"""A custom function unit: the instructions that let a small processor look up.

It stands behind VexRiscv's CFU port. Tables stay in the processor's memory, and reach the unit as
operands; what the unit holds is the thresholds of one codebook and a few sums.
"""

from .config import CfuConfig
from .generate import generate, write

__all__ = ["CfuConfig", "generate", "write"]
