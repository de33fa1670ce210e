"""Generators of the accelerator's Verilog."""

from .config import AcceleratorConfig
from .generate import Generated, generate, write
from .image import check_program, program_image

__all__ = [
    "AcceleratorConfig",
    "Generated",
    "check_program",
    "generate",
    "program_image",
    "write",
]
