"""What is written over the program port for one program."""

from __future__ import annotations

import numpy as np

from halut import golden
from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS
from halut.program import Program
from halut.tiles import select

from .config import AcceleratorConfig
from .tiled_config import AnyConfig, TiledConfig

__all__ = ["check_program", "program_image", "switch_word", "threshold_keys"]


def check_program(config: AnyConfig, program: Program) -> None:
    """Check that a program fits an accelerator.

    Raises
    ------
    HalutError
        Naming the first number that differs.
    """
    for name in ("n_codebooks", "n_prototypes", "n_outputs", "input_format", "lut_bits",
                 "terms", "window", "splits", "lut_format", "output_format", "relu"):  # fmt: skip
        wanted, given = getattr(config, name), getattr(program, name)
        if wanted != given:
            raise HalutError(
                f"program.{name} must be the configuration's {wanted}, not {given} "
                f"(configuration {config.name})"
            )


def threshold_keys(words: np.ndarray, input_format: str) -> np.ndarray:
    """Return thresholds as the comparators take them, int64: see `comparator`.

    Parameters
    ----------
    words : ndarray of any shape
        As `Program.threshold_words`.
    input_format : str
    """
    keys = golden.comparison_keys(words, input_format).astype(np.int64)
    if input_format not in FLOAT_FORMATS:
        return keys
    return np.where(keys < 0, keys - 1, keys)


def _pack(values: np.ndarray, bits: int) -> list[int]:
    """Join each row of integers to one word, the first value in the lowest bits."""
    masked = values.astype(np.int64) & ((1 << bits) - 1)
    return [sum(int(value) << (i * bits) for i, value in enumerate(row)) for row in masked.tolist()]


def program_image(config: AnyConfig, program: Program, bank: int = 0) -> list[tuple[int, int]]:
    """Words to write over the program port, in any order, to load `program`.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    program : Program
    bank : int, default 0
        With `double_buffer`, where to; see `switch_word`.

    Returns
    -------
    list of (address, data)
        Thresholds first, then the LUT: `config.threshold_words` words per codebook and
        `config.n_blocks` per (codebook, prototype); at last the output stage's constants,
        `config.output_constant_words` per output. Of several units, tile by tile.

    Raises
    ------
    HalutError
        When the program does not fit the configuration.
    """
    check_program(config, program)
    unit = config.unit if isinstance(config, TiledConfig) else config
    if not 0 <= bank < unit.n_banks:
        raise HalutError(f"bank must be in [0, {unit.n_banks}), not {bank}")
    if isinstance(config, TiledConfig):
        return _tiled_image(config, program, bank)
    return _unit_image(config, program, bank)


def switch_word(config: AnyConfig, bank: int) -> tuple[int, int]:
    """(address, data) of the command that lets the next row groups use a bank."""
    unit = config.unit if isinstance(config, TiledConfig) else config
    if not unit.double_buffer:
        raise HalutError(f"double_buffer must be set to switch (configuration {config.name})")
    if bank not in (0, 1):
        raise HalutError(f"bank must be in [0, 2), not {bank}")
    return unit.switch_address(bank), 0


def _tiled_image(config: TiledConfig, program: Program, bank: int) -> list[tuple[int, int]]:
    """The units' images, tile by tile; what units share, thresholds or constants, once for them."""
    image: list[tuple[int, int]] = []
    for d in range(config.codebook_tiles):
        codebooks = config.tile_codebooks(d)
        for o in range(config.output_tiles):
            size = config.unit.n_outputs
            part = select(program, codebooks, slice(o * size, (o + 1) * size))
            words = _thresholds(config.unit, part, bank) if o == 0 else []
            words += _tables(config.unit, part, bank)
            words += _constants(config.unit, part, bank) if d == 0 else []
            tile = config.tile_address(o, d)
            image += [(tile | address, word) for address, word in words]
    return image


def _unit_image(config: AcceleratorConfig, program: Program, bank: int) -> list[tuple[int, int]]:
    return (
        _thresholds(config, program, bank)
        + _tables(config, program, bank)
        + _constants(config, program, bank)
    )


def _thresholds(config: AcceleratorConfig, program: Program, bank: int) -> list[tuple[int, int]]:
    image: list[tuple[int, int]] = []
    offset = bank * config.n_codebooks
    per_word = config.thresholds_per_word
    padding = config.threshold_words * per_word - config.threshold_nodes
    if program.signs is None:
        keys = threshold_keys(program.threshold_words, program.input_format)
    else:
        keys = np.concatenate([program.thresholds, _sign_nodes(config, program.signs)], axis=1)
    if program.places is not None and program.splits == "node":
        keys = keys & ((1 << config.threshold_bits) - 1)
        keys = keys | program.places.astype(np.int64) << config.threshold_bits
    elif program.places is not None:
        keys = np.concatenate([keys, _place_nodes(config, program.places)], axis=1)
    keys = np.pad(keys, ((0, 0), (0, padding)))
    words = _pack(keys.reshape(-1, per_word), config.node_bits)
    for index, word in enumerate(words):
        codebook, position = divmod(index, config.threshold_words)
        image.append((config.threshold_address(offset + codebook, position), word))
    return image


def _sign_nodes(config: AcceleratorConfig, signs: np.ndarray) -> np.ndarray:
    """The nodes that hold the signs of a codebook's terms, 1 for those that are subtracted."""
    return _bit_nodes(config, signs < 0, config.sign_nodes)


def _place_nodes(config: AcceleratorConfig, places: np.ndarray) -> np.ndarray:
    """The nodes that hold the places of a codebook's levels, the root's in the lowest bits."""
    return _bit_nodes(config, places[..., None] >> np.arange(config.place_bits) & 1,
                      config.place_nodes)  # fmt: skip


def _bit_nodes(config: AcceleratorConfig, flags: np.ndarray, n_nodes: int) -> np.ndarray:
    """The bits of each codebook in nodes, the first ones in the lowest bits."""
    bits = config.threshold_bits
    flat = flags.reshape(len(flags), -1)
    padded = np.pad(flat, ((0, 0), (0, n_nodes * bits - flat.shape[1])))
    return padded.reshape(len(flags), n_nodes, bits) @ (1 << np.arange(bits))


def _tables(config: AcceleratorConfig, program: Program, bank: int) -> list[tuple[int, int]]:
    image: list[tuple[int, int]] = []
    offset = bank * config.n_codebooks
    stored = program.lut.view(np.uint16) if config.lut_format == "fp16" else program.lut
    entries = stored.transpose(1, 2, 0).reshape(-1, config.decoders_per_word)
    for index, word in enumerate(_pack(entries, config.lut_bits)):
        rest, block = divmod(index, config.n_blocks)
        codebook, prototype = divmod(rest, config.n_prototypes)
        image.append((config.lut_address(offset + codebook, prototype, block), word))
    return image


def _constants(config: AcceleratorConfig, program: Program, bank: int) -> list[tuple[int, int]]:
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
            stored = bank * config.n_outputs + column
            image.append((config.output_address(stored, word), part))
    return image
