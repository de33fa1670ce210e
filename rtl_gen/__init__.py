"""Generators of the accelerator's Verilog."""

from .config import AcceleratorConfig
from .generate import Generated, generate, write
from .image import check_program, program_image, switch_word
from .tiled_config import TiledConfig, load_config

__all__ = [
    "AcceleratorConfig",
    "Generated",
    "TiledConfig",
    "check_program",
    "generate",
    "load_config",
    "program_image",
    "switch_word",
    "write",
]
