"""Configuration of the custom function unit, and its instructions as an integer model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halut.checks import integer_in, known, mapping, one_of
from halut.errors import HalutError
from rtl_gen.config import canonical_hash
from rtl_gen.settings import check_settings, name_setting, setting

__all__ = ["ADD", "READ", "START", "THRESHOLDS", "WALK", "CfuConfig", "Command"]

Command = tuple[int, int, int]
"""An instruction: function (funct7 and funct3, 10 bits) and two operands (32 bits, unsigned)."""

# funct3 of the instructions; others answer 0 and change nothing.
THRESHOLDS, WALK, START, ADD, READ = range(5)

WORD_BITS = 32
INPUT_BITS = 8
_INDEX_BITS = 7  # of funct7


@dataclass(frozen=True, kw_only=True)
class CfuConfig:
    """A custom function unit.

    Parameters
    ----------
    name : str
        Label for reports; letters, digits, ``_`` and ``-``. Does not change the hardware.
    n_prototypes : int
        Prototypes per codebook: a power of two from 2 to 64.
    lut_bits : int
        Width of a table entry: 4 or 8.
    n_sums : int
        Sums that the unit holds: a multiple of what one instruction adds, 64 / lut_bits; at most
        128.
    acc_bits : int
        Width of a sum; from lut_bits to 32.
    port : {"cfu", "pcpi"}
        What is around the unit: the ports that LiteX connects to VexRiscv, or PicoRV32's
        co-processor interface.
    """

    name: str = name_setting()
    n_prototypes: int = setting(
        16, "--num-k", "prototypes per codebook, a power of two from 2 to 64", within=(2, 64)
    )
    lut_bits: int = setting(8, "--lut-bits", "width of a table entry in bits, 4 or 8")
    n_sums: int = setting(
        32, "--n-sums", "sums that the unit holds, a multiple of 64 / lut_bits", within=(8, 128)
    )
    acc_bits: int = setting(16, "--acc-bits", "width of a sum in bits", within=(4, 32))
    port: str = setting(
        "cfu", "--port", "the processor's interface, VexRiscv's or PicoRV32's",
        choices=("cfu", "pcpi"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.n_prototypes & (self.n_prototypes - 1):
            raise HalutError(
                f"n_prototypes must be a power of two from 2 to 64, not {self.n_prototypes}"
            )
        one_of("lut_bits", self.lut_bits, (4, 8))
        integer_in("acc_bits", self.acc_bits, self.lut_bits, WORD_BITS)
        if self.n_sums % self.lanes:
            raise HalutError(
                f"n_sums must be a multiple of {self.lanes}, the entries of one instruction, "
                f"not {self.n_sums}"
            )

    @property
    def tree_depth(self) -> int:
        """Levels of a tree (T)."""
        return self.n_prototypes.bit_length() - 1

    @property
    def threshold_bits(self) -> int:
        """Width of a threshold: one more than a value, so that every value can go right."""
        return INPUT_BITS + 1

    @property
    def lanes(self) -> int:
        """Entries that one instruction adds."""
        return 2 * WORD_BITS // self.lut_bits

    @property
    def banks(self) -> int:
        """Groups of sums that one instruction adds to."""
        return self.n_sums // self.lanes

    @property
    def most_codebooks(self) -> int:
        """Codebooks whose entries add up without overflow."""
        return 1 << (self.acc_bits - self.lut_bits)

    @property
    def latency_cycles(self) -> int:
        """Clock cycles from a command to its response."""
        return 1

    @property
    def slug(self) -> str:
        """File-system name made of the parameters that change the hardware."""
        sizes = f"k{self.n_prototypes}_lut{self.lut_bits}_s{self.n_sums}_acc{self.acc_bits}"
        return f"{self.port}_{sizes}"

    @property
    def hash(self) -> str:
        """SHA-256 of the parameters, without the name."""
        return canonical_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> CfuConfig:
        """Build from a mapping of field names."""
        values = mapping("a configuration", values)
        known("a field", values, [field.name for field in dataclasses.fields(CfuConfig)])
        return CfuConfig(**values)

    # Instructions

    def command(self, funct3: int, index: int, first: int = 0, second: int = 0) -> Command:
        """An instruction; `index` is its funct7, operands may be negative."""
        integer_in("index", index, 0, (1 << _INDEX_BITS) - 1)
        mask = (1 << WORD_BITS) - 1
        return index << 3 | funct3, first & mask, second & mask

    def set_thresholds(self, thresholds: Sequence[int]) -> list[Command]:
        """Instructions that make K - 1 thresholds, level by level, those of the tree."""
        pairs = [*thresholds, *([0] * (len(thresholds) % 2))]
        return [
            self.command(THRESHOLDS, k, pairs[2 * k], pairs[2 * k + 1])
            for k in range(len(pairs) // 2)
        ]

    def walk(self, values: Sequence[int]) -> list[Command]:
        """Instructions that walk T values down the tree; the last one answers the code."""
        pairs = [*values, *([0] * (len(values) % 2))]
        return [
            self.command(WALK, k, pairs[2 * k], pairs[2 * k + 1]) for k in range(len(pairs) // 2)
        ]

    def add(self, entries: Sequence[int], *, start: bool = False) -> list[Command]:
        """Instructions that add signed entries to the first sums, or start sums with them.

        What is left of the last bank gets 0.
        """
        filled = [*entries, *([0] * (-len(entries) % self.lanes))]
        words = []
        for first in range(0, len(filled), self.lanes // 2):
            part = filled[first : first + self.lanes // 2]
            bias = 1 << (self.lut_bits - 1)
            words.append(
                sum((int(value) + bias) << (k * self.lut_bits) for k, value in enumerate(part))
            )
        return [
            self.command(START if start else ADD, bank, words[2 * bank], words[2 * bank + 1])
            for bank in range(len(words) // 2)
        ]

    def read(self, index: int) -> Command:
        """The instruction that answers a sum."""
        return self.command(READ, index)
