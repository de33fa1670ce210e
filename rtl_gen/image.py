"""What is written over the program port for one program."""

from __future__ import annotations

import numpy as np

from halut import golden
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.program import Program

from .config import AcceleratorConfig

__all__ = ["check_program", "program_image"]


def check_program(config: AcceleratorConfig, program: Program) -> None:
    """Check that a program fits an accelerator.

    Raises
    ------
    HalutError
        Naming the first number that differs.
    """
    for name in ("n_codebooks", "n_prototypes", "n_outputs", "input_format", "lut_bits",
                 "lut_format", "output_format", "relu"):  # fmt: skip
        wanted, given = getattr(config, name), getattr(program, name)
        if wanted != given:
            raise HalutError(
                f"program.{name} must be the configuration's {wanted}, not {given} "
                f"(configuration {config.name})"
            )


def _threshold_keys(program: Program) -> np.ndarray:
    """Thresholds, int64 (C, K-1), as the comparators take them: see `comparator`."""
    keys = golden.comparison_keys(program.threshold_words, program.input_format).astype(np.int64)
    if program.input_format not in FLOAT_FORMATS:
        return keys
    return np.where(keys < 0, keys - 1, keys)


def _pack(values: np.ndarray, bits: int) -> list[int]:
    """Join each row of integers to one word, the first value in the lowest bits."""
    masked = values.astype(np.int64) & ((1 << bits) - 1)
    return [sum(int(value) << (i * bits) for i, value in enumerate(row)) for row in masked.tolist()]


def program_image(config: AcceleratorConfig, program: Program) -> list[tuple[int, int]]:
    """Words to write over the program port, in any order, to load `program`.

    Parameters
    ----------
    config : AcceleratorConfig
    program : Program

    Returns
    -------
    list of (address, data)
        Thresholds first, then the LUT: `config.threshold_words` words per codebook and
        `config.n_blocks` per (codebook, prototype); at last the output stage's constants,
        `config.output_constant_words` per output.

    Raises
    ------
    HalutError
        When the program does not fit the configuration.
    """
    check_program(config, program)
    image: list[tuple[int, int]] = []
    per_word = config.thresholds_per_word
    padding = config.threshold_words * per_word - (config.n_prototypes - 1)
    keys = np.pad(_threshold_keys(program), ((0, 0), (0, padding)))
    words = _pack(keys.reshape(-1, per_word), config.input_bits)
    for index, word in enumerate(words):
        codebook, position = divmod(index, config.threshold_words)
        image.append((config.threshold_address(codebook, position), word))
    stored = program.lut.view(np.uint16) if config.lut_format == "fp16" else program.lut
    entries = stored.transpose(1, 2, 0).reshape(-1, config.decoders_per_word)
    for index, word in enumerate(_pack(entries, config.lut_bits)):
        rest, block = divmod(index, config.n_blocks)
        codebook, prototype = divmod(rest, config.n_prototypes)
        image.append((config.lut_address(codebook, prototype, block), word))
    return image + _constants(config, program)


def _constants(config: AcceleratorConfig, program: Program) -> list[tuple[int, int]]:
    """The words of the output stage's constants."""
    mask = (1 << config.program_data_bits) - 1
    image: list[tuple[int, int]] = []
    for column in range(config.n_outputs if config.output_constants else 0):
        whole = 0
        for name, (low, width) in config.output_constants.items():
            array = program.output.constants[name]
            bits = array.view(np.uint32) if array.dtype == np.float32 else array
            whole |= (int(bits[column]) & ((1 << width) - 1)) << low
        for word in range(config.output_constant_words):
            part = whole >> (word * config.program_data_bits) & mask
            image.append((config.output_address(column, word), part))
    return image
