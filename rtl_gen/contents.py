"""What the accelerator's memories hold, word by word: the inverse of `image.program_image`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.formats import FLOAT_FORMATS
from halut.output import OutputStage
from halut.program import Program

from .config import AcceleratorConfig
from .image import threshold_keys
from .tiled_config import AnyConfig, TiledConfig

__all__ = ["Place", "ProgramContents"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a program word changes.

    Attributes
    ----------
    region : str
        ``"lut"``, ``"thresholds"``, ``"output"`` (constants) or ``"switch"`` (a command).
    bank : int
        Of which program; for a switch, the bank that it switches to.
    codebook : int
        Of tables and thresholds, counted over all units; else 0.
    prototype : int
        Of tables; else 0.
    word : int
        Position among the threshold words of a codebook, or the constants of an output; else 0.
    output : int
        Of constants, the output; of tables, the first output of the block; else 0.
    """

    region: str
    bank: int
    codebook: int = 0
    prototype: int = 0
    word: int = 0
    output: int = 0


class ProgramContents:
    """The contents of an accelerator's memories, changed by one program word after another.

    What was never written is taken for 0 here; in the accelerator it is unknown.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig

    Attributes
    ----------
    active_bank : int
        The bank that the next row groups use; 0 without `double_buffer`.

    Examples
    --------
    >>> from rtl_gen import AcceleratorConfig, program_image, reference
    >>> config = AcceleratorConfig(n_codebooks=2, n_prototypes=4, n_outputs=3)
    >>> program = reference.random_program(config, np.random.default_rng(1))
    >>> contents = ProgramContents(config)
    >>> for address, data in program_image(config, program):
    ...     _ = contents.write(address, data)
    >>> np.array_equal(contents.program().lut, program.lut)
    True
    """

    def __init__(self, config: AnyConfig) -> None:
        self.config = config
        self.active_bank = 0
        self._unit = config.unit if isinstance(config, TiledConfig) else config
        banks, nodes = self._unit.n_banks, self._unit.threshold_nodes
        shape = (banks, config.n_outputs, config.n_codebooks, config.n_prototypes)
        self._keys = np.zeros((banks, config.n_codebooks, nodes), dtype=np.int64)
        self._lut = np.zeros(shape, dtype=np.int64)
        self._constants = [[0] * config.n_outputs for _ in range(banks)]

    def place(self, address: int) -> Place | None:
        """Return what a word at an address changes; None when it stands for nothing.

        Bits of the address between the fields of its region are not looked at.
        """
        unit = self._unit

        def field(region: str, name: str) -> int:
            low, width = self.config.address_fields[region].get(name, (0, 0))
            return address >> low & ((1 << width) - 1)

        if unit.double_buffer and field("switch", "command"):
            return Place(region="switch", bank=field("switch", "bank"))
        region = {0: "lut", 1: "thresholds", 2: "output"}.get(field("lut", "region"))
        if region is None or (region == "output" and not unit.output_constants):
            return None
        output_tile = field(region, "output_tile")
        # Constants belong to the joined sums: the field is there, and must be 0.
        codebook_tile = field("lut", "codebook_tile")
        if output_tile >= self._tiles("output_tiles") or codebook_tile >= (
            1 if region == "output" else self._tiles("codebook_tiles")
        ):
            return None
        word = field(region, "word")
        if region == "output":
            bank, output = divmod(field(region, "column"), unit.n_outputs)
            if bank >= unit.n_banks or word >= unit.output_constant_words:
                return None
            output += output_tile * unit.n_outputs
            return Place(region=region, bank=bank, word=word, output=output)
        bank, codebook = divmod(field(region, "codebook"), unit.n_codebooks)
        block = field(region, "block")
        if bank >= unit.n_banks or block >= unit.n_blocks or word >= unit.threshold_words:
            return None
        if isinstance(self.config, TiledConfig):
            codebook = int(self.config.tile_codebooks(codebook_tile)[codebook])
        output = output_tile * unit.n_outputs + block * unit.decoders_per_word
        prototype = field(region, "prototype")
        return Place(
            region=region, bank=bank, codebook=codebook, prototype=prototype, word=word,
            output=output if region == "lut" else 0,
        )  # fmt: skip

    def _tiles(self, name: str) -> int:
        return getattr(self.config, name, 1)

    def write(self, address: int, data: int) -> Place | None:
        """Change the contents as an accepted word does; return what it changed."""
        place, unit = self.place(address), self._unit
        if place is None:
            return None
        if place.region == "switch":
            self.active_bank = place.bank
        elif place.region == "lut":
            last = place.output + unit.decoders_per_word
            entries = _split(data, unit.lut_bits, unit.decoders_per_word)
            self._lut[place.bank, place.output : last, place.codebook, place.prototype] = entries
        elif place.region == "thresholds":
            first = place.word * unit.thresholds_per_word
            nodes = self._keys[place.bank, place.codebook, first:][: unit.thresholds_per_word]
            nodes[:] = _split(data, unit.node_bits, len(nodes))
        else:
            bits = unit.program_data_bits
            low, width = place.word * bits, unit.output_constant_bits
            mask = ((1 << bits) - 1) << low
            whole = self._constants[place.bank][place.output] & ~mask | data << low & mask
            self._constants[place.bank][place.output] = whole & ((1 << width) - 1)
        return place

    def reset(self) -> None:
        """Do what the accelerator's reset does: bank 0 is in use; the contents stay."""
        self.active_bank = 0

    def program(self, bank: int | None = None) -> Program:
        """Return the program in a bank, by default in the one in use.

        Split dimensions are not in the accelerator: they are 0, 1, … here, one column of A per
        codebook and level. Nor are the scales of raw results: they are 1, their offsets 0.

        Raises
        ------
        HalutError
            When the contents are no program, such as thresholds that are NaN.
        """
        config, unit = self.config, self._unit
        bank = self.active_bank if bank is None else bank
        size = (config.n_codebooks, config.n_values)
        shape: tuple[int, ...] = (config.n_codebooks, config.tree_depth)
        keys, signs = self._keys[bank, :, : config.n_prototypes - 1], None
        places = None
        if config.terms > 1:
            shape = (*shape, config.terms)
            signs = 1 - 2 * self._bits_behind(bank)[:, : config.n_values]
            signs = signs.reshape(shape)
        if config.window:
            shape = size
            places = self._places(bank)
            keys = _sign_extended(keys, unit.threshold_bits)
        lut: NDArray[Any] = self._lut[bank]
        if config.lut_format == "fp16":
            lut = lut.astype(np.uint16).view(np.float16)
        return Program(
            n_features=size[0] * size[1],
            input_format=config.input_format,
            split_dims=np.arange(size[0] * size[1]).reshape(shape),
            signs=signs,
            places=places,
            thresholds=_thresholds(keys, config.input_format, unit.input_bits),
            lut=lut,
            lut_scale=np.ones(config.n_outputs),
            lut_offset=np.zeros(config.n_outputs),
            lut_bits=config.lut_bits,
            lut_format=config.lut_format,
            output=self._output(unit, bank),
        )

    def _bits_behind(self, bank: int) -> NDArray[np.int64]:
        """The bits of the nodes behind every codebook's thresholds, the lowest first."""
        stored = self._keys[bank, :, self.config.n_prototypes - 1 :, None]
        flags = stored >> np.arange(self._unit.threshold_bits) & 1
        return flags.reshape(self.config.n_codebooks, -1)

    def _places(self, bank: int) -> NDArray[np.int64]:
        unit = self._unit
        if unit.splits == "node":
            return (self._keys[bank] >> unit.threshold_bits) & ((1 << unit.place_bits) - 1)
        flags = self._bits_behind(bank)[:, : unit.tree_depth * unit.place_bits]
        shape = (len(flags), unit.tree_depth, unit.place_bits)
        return flags.reshape(shape) @ (1 << np.arange(unit.place_bits))

    def _output(self, unit: AcceleratorConfig, bank: int) -> OutputStage:
        constants: dict[str, NDArray[Any]] = {}
        for name, (low, width) in unit.output_constants.items():
            values = [whole >> low & ((1 << width) - 1) for whole in self._constants[bank]]
            if unit.output_format == "fp16":
                constants[name] = np.array(values, dtype=np.uint32).view(np.float32)
            else:
                signed = name in ("addend", "zero")
                constants[name] = np.array([_signed(v, width) if signed else v for v in values])
        if unit.output_format == "int8" and not unit.relu:  # the zero is used by ReLU only
            constants["zero"] = np.zeros(self.config.n_outputs, dtype=np.int32)
        return OutputStage(format=unit.output_format, relu=unit.relu, **constants)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _sign_extended(keys: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """The lowest bits of keys as signed numbers."""
    low = keys & ((1 << bits) - 1)
    return low - (low >> (bits - 1) << bits)


def _split(word: int, bits: int, count: int) -> list[int]:
    """Take a word apart into signed fields, the lowest bits first."""
    return [_signed(word >> (k * bits) & ((1 << bits) - 1), bits) for k in range(count)]


@lru_cache
def _words_of_keys(input_format: str) -> NDArray[Any]:
    """Return the format's word for every key, by the bits of the key; where there is none, NaN."""
    floating = FLOAT_FORMATS[input_format]
    words = np.arange(1 << floating.bits)[::-1].astype(floating.dtype)  # +0 comes after -0
    values = floating.values(words)
    found = np.full(1 << floating.bits, words[np.isnan(values)][0], dtype=floating.dtype)
    numbers = words[~np.isnan(values)]
    found[threshold_keys(numbers, input_format) & (len(found) - 1)] = numbers
    return found


def _thresholds(keys: NDArray[np.int64], input_format: str, bits: int) -> NDArray[Any]:
    if input_format not in FLOAT_FORMATS:
        return keys
    words = _words_of_keys(input_format)[keys & ((1 << bits) - 1)]
    return words.view(np.float16) if input_format == "fp16" else words
