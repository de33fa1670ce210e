"""Several units as one accelerator: how many, and what they are together.

Units of one configuration stand side by side in N (rows), M (outputs) and D (codebooks). Seen
from outside they are one accelerator with the products of the numbers, so that `TiledConfig` has
the properties that testbenches, images and manifests read from an `AcceleratorConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import integer_in, known, located, mapping, read_yaml
from halut.errors import HalutError

from .config import AcceleratorConfig, canonical_hash, ceil_log2

__all__ = ["TILES", "AnyConfig", "TiledConfig", "config_from_dict", "load_config", "result_order"]

TILES = ("rows", "outputs", "codebooks")
"""Keys of ``tiles`` in YAML, each the number of units in that direction."""
MAX_TILES = 16


@dataclass(frozen=True, kw_only=True)
class TiledConfig:
    """Parameters of several units that work as one accelerator.

    Parameters
    ----------
    unit : AcceleratorConfig
        Every unit.
    row_tiles, output_tiles, codebook_tiles : int
        Units side by side in N, M and D; 1 to 16 each.

    Raises
    ------
    HalutError
        When a number breaks its rule.

    Examples
    --------
    >>> unit = AcceleratorConfig(n_codebooks=16, n_outputs=8)
    >>> config = TiledConfig(unit=unit, row_tiles=2, codebook_tiles=2)
    >>> config.n_units, config.rows, config.n_codebooks, config.n_outputs
    (4, 2, 32, 8)
    >>> config.accumulator_bits
    13
    """

    unit: AcceleratorConfig
    row_tiles: int = 1
    output_tiles: int = 1
    codebook_tiles: int = 1

    def __post_init__(self) -> None:
        for key, value in self.tiles.items():
            integer_in(f"tiles.{key}", value, 1, MAX_TILES)
        if self.codebook_tiles > 1 and self.unit.overflow is not None:
            raise HalutError(
                "overflow must be absent for several units along the codebooks, "
                f"not {self.unit.overflow}: each would lose another part of a sum"
            )

    @property
    def tiles(self) -> dict[str, int]:
        """Units in each direction, by the keys of `TILES`."""
        counts = (self.row_tiles, self.output_tiles, self.codebook_tiles)
        return dict(zip(TILES, counts, strict=True))

    @property
    def n_units(self) -> int:
        """Units in all."""
        return self.row_tiles * self.output_tiles * self.codebook_tiles

    # What the units are together

    @property
    def name(self) -> str:
        """Label of the units' configuration."""
        return self.unit.name

    @property
    def n_codebooks(self) -> int:
        """C of all units: codebook g*Q + q, with Q of all units, is lane q's in step g."""
        return self.unit.n_codebooks * self.codebook_tiles

    @property
    def n_outputs(self) -> int:
        """M of all units."""
        return self.unit.n_outputs * self.output_tiles

    @property
    def rows(self) -> int:
        """P of all units."""
        return self.unit.rows * self.row_tiles

    @property
    def parallel_codebooks(self) -> int:
        """Q of all units; unit d's are lanes d*Q and up, with Q of one unit."""
        return self.unit.parallel_codebooks * self.codebook_tiles

    @property
    def output_width(self) -> int:
        """Results in one output transfer of all units."""
        return self.unit.output_width * self.row_tiles * self.output_tiles

    @property
    def accumulator_bits(self) -> int:
        """Bits of a sum: the unit's, or what sums of all codebooks need if that is more."""
        if self.codebook_tiles == 1 or self.unit.lut_format == "fp16":
            return self.unit.accumulator_bits
        needed = self.unit.lut_bits + ceil_log2(self.n_codebooks)
        return max(self.unit.accumulator_bits, needed)

    @property
    def joined(self) -> AcceleratorConfig:
        """The unit's configuration with accumulators as wide as the joined sums."""
        return dataclasses.replace(self.unit, acc_bits=self.accumulator_bits)

    @property
    def result_bits(self) -> int:
        """Bits of a result."""
        return self.joined.result_bits

    @property
    def output_format(self) -> str:
        """Format of the results."""
        return self.unit.output_format

    @property
    def relu(self) -> bool:
        """Whether results below zero become zero."""
        return self.unit.relu

    @property
    def lut_format(self) -> str:
        """Format of the tables' entries."""
        return self.unit.lut_format

    @property
    def overflow(self) -> str | None:
        """What a unit's accumulator does that is too narrow."""
        return self.unit.overflow

    @property
    def output_constants(self) -> dict[str, tuple[int, int]]:
        """Constants of one output's conversion."""
        return self.unit.output_constants

    @property
    def output_constant_bits(self) -> int:
        """Bits of one output's constants."""
        return self.unit.output_constant_bits

    @property
    def output_constant_words(self) -> int:
        """Program words of one output's constants."""
        return self.unit.output_constant_words

    @property
    def latency_cycles(self) -> int:
        """As the unit's, and a cycle more where partial sums are joined."""
        return self.unit.latency_cycles + int(self.codebook_tiles > 1)

    @property
    def interval_cycles(self) -> int:
        """Cycles between row groups, as the unit's."""
        return self.unit.interval_cycles

    @property
    def look_ups_per_cycle(self) -> float:
        """LUT reads per cycle at full rate, of all units."""
        return self.unit.look_ups_per_cycle * self.n_units

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates replaced per cycle at full rate, of all units."""
        return self.unit.macs_per_cycle * self.n_units

    @property
    def lut_total_bits(self) -> int:
        """Bits of all units' tables; units that differ in the rows only hold the same."""
        return self.unit.lut_total_bits * self.n_units

    @property
    def threshold_total_bits(self) -> int:
        """Bits of all units' thresholds."""
        return self.unit.threshold_total_bits * self.n_units

    @property
    def constant_total_bits(self) -> int:
        """Bits of all constants; units that differ in the rows only hold the same."""
        return self.unit.constant_total_bits * self.row_tiles * self.output_tiles

    # What they have in common

    @property
    def n_prototypes(self) -> int:
        """K."""
        return self.unit.n_prototypes

    @property
    def tree_depth(self) -> int:
        """T."""
        return self.unit.tree_depth

    @property
    def terms(self) -> int:
        """Input words that a tree level adds up."""
        return self.unit.terms

    @property
    def window(self) -> int:
        """Words of a codebook's window, 0 for none."""
        return self.unit.window

    @property
    def splits(self) -> str:
        """What has a place in the window of its own."""
        return self.unit.splits

    @property
    def n_values(self) -> int:
        """Input words of a row and codebook."""
        return self.unit.n_values

    @property
    def input_format(self) -> str:
        """Format of the input words."""
        return self.unit.input_format

    @property
    def input_bits(self) -> int:
        """Bits of an input word."""
        return self.unit.input_bits

    @property
    def lut_bits(self) -> int:
        """Bits of a table entry."""
        return self.unit.lut_bits

    @property
    def codebook_width(self) -> int:
        """Columns of A per codebook."""
        return self.unit.codebook_width

    @property
    def n_groups(self) -> int:
        """G: input transfers per row group."""
        return self.unit.n_groups

    @property
    def n_beats(self) -> int:
        """Output transfers per row group."""
        return self.unit.n_beats

    # Program port

    @property
    def decoders_per_word(self) -> int:
        """Outputs that one LUT program word spans."""
        return self.unit.decoders_per_word

    @property
    def n_blocks(self) -> int:
        """LUT words per codebook and prototype, of all units."""
        return self.unit.n_blocks * self.output_tiles

    @property
    def thresholds_per_word(self) -> int:
        """Thresholds that one program word holds."""
        return self.unit.thresholds_per_word

    @property
    def threshold_words(self) -> int:
        """Program words per codebook that hold its thresholds."""
        return self.unit.threshold_words

    @property
    def program_data_bits(self) -> int:
        """Width of the program port's data."""
        return self.unit.program_data_bits

    @cached_property
    def address_fields(self) -> dict[str, dict[str, tuple[int, int]]]:
        """The unit's fields and, above them, which units take the word.

        ``output_tile`` (not for thresholds, which units of one ``codebook_tile`` share) and
        ``codebook_tile`` (not for constants, which belong to the joined sums). Units that differ
        in the rows only take the same words.
        """
        low = self.unit.program_address_bits
        bits = ceil_log2(self.output_tiles)
        outputs = {"output_tile": (low, bits)}
        codebooks = {"codebook_tile": (low + bits, ceil_log2(self.codebook_tiles))}
        fields = self.unit.address_fields
        return {
            region: {
                **parts,
                **(outputs if region in ("lut", "output") else {}),
                **(codebooks if region in ("lut", "thresholds") else {}),
            }
            for region, parts in fields.items()
        }

    @property
    def program_address_bits(self) -> int:
        """Width of the program port's address."""
        return sum(self.address_fields["lut"]["codebook_tile"])

    def tile_address(self, output_tile: int, codebook_tile: int) -> int:
        """What a unit's program address is added to for the units of a tile."""
        fields = self.address_fields["lut"]
        return (output_tile << fields["output_tile"][0]) | (
            codebook_tile << fields["codebook_tile"][0]
        )

    def tile_codebooks(self, codebook_tile: int) -> NDArray[np.intp]:
        """Codebooks of the units of a tile, (C of a unit,), in the unit's order."""
        lanes = np.arange(self.n_codebooks).reshape(self.n_groups, self.codebook_tiles, -1)
        return lanes[:, codebook_tile].ravel()

    # Identity

    @property
    def slug(self) -> str:
        """File-system name made of the parameters that change the hardware."""
        counts = "x".join(str(count) for count in self.tiles.values())
        return f"tiles{counts}_{self.unit.slug}"

    def to_dict(self) -> dict[str, Any]:
        """The unit's fields and ``tiles``, ready for YAML or JSON."""
        return {**self.unit.to_dict(), "tiles": self.tiles}

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the configuration as canonical JSON."""
        return canonical_hash(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TiledConfig:
        """Build from the unit's fields and ``tiles``, a mapping with keys of `TILES`."""
        rest = dict(values)
        tiles = mapping("tiles", rest.pop("tiles", {}))
        known("tiles", tiles, TILES, "have keys {}")
        counts = {f"{key[:-1]}_tiles": value for key, value in tiles.items()}
        return cls(unit=AcceleratorConfig.from_dict(rest), **counts)


AnyConfig = AcceleratorConfig | TiledConfig


def config_from_dict(values: Mapping[str, Any]) -> AnyConfig:
    """One unit, or several where the mapping has ``tiles``."""
    if isinstance(values, Mapping) and "tiles" in values:
        return TiledConfig.from_dict(values)
    return AcceleratorConfig.from_dict(values)


def load_config(path: str | Path) -> AnyConfig:
    """Read a YAML configuration file of one unit or several; every error names the file."""
    values = read_yaml(path)
    with located(path):
        return config_from_dict(values)


def result_order(config: AnyConfig) -> NDArray[np.intp]:
    """Which result every element of a row group's output transfers is.

    Returns
    -------
    intp ndarray of shape (n_beats, output_width)
        row * M + output. One unit sends its results in that order. Of several, each sends its own
        in a part of every transfer: output tile by output tile, then the next row tile's.
    """
    if isinstance(config, AcceleratorConfig):
        return np.arange(config.rows * config.n_outputs).reshape(config.n_beats, -1)
    shape = (config.row_tiles, config.unit.rows, config.output_tiles, config.unit.n_outputs)
    results = np.arange(config.rows * config.n_outputs).reshape(shape).transpose(0, 2, 1, 3)
    beats = results.reshape(config.row_tiles, config.output_tiles, config.n_beats, -1)
    return beats.transpose(2, 0, 1, 3).reshape(config.n_beats, -1)
