"""What is written through the program port: the words, and the address of each."""

from __future__ import annotations

import itertools
from functools import cached_property

from halut.formats import input_format_bits
from halut.output import ADDEND_BITS, MULTIPLIER_BITS

__all__ = ["AddressMap", "ceil_log2"]

CONSTANT_BITS: dict[str, dict[str, int]] = {
    "raw": {},
    "fp16": {"scale": 32, "offset": 32},
    "int8": {"multiplier": MULTIPLIER_BITS, "shift": 6, "addend": ADDEND_BITS, "zero": 8},
}


def ceil_log2(value: int) -> int:
    """Bits that number `value` different things: ceil(log2(value)), 0 for one thing."""
    return (value - 1).bit_length()


class AddressMap:
    """Words and addresses of the program port of a configuration, which inherits them."""

    n_codebooks: int
    n_prototypes: int
    n_outputs: int
    encoder: str
    input_format: str
    write_word_bits: int
    lut_bits: int
    lut_format: str
    output_format: str
    relu: bool
    double_buffer: bool
    terms: int
    window: int
    splits: str

    @property
    def tree_depth(self) -> int:
        """T = log2 K: levels of a tree and bits of a code."""
        return ceil_log2(self.n_prototypes)

    @property
    def input_bits(self) -> int:
        """Bits of one split-dimension value."""
        return input_format_bits(self.input_format)

    @property
    def n_values(self) -> int:
        """Input words of a row and codebook: T * terms, level by level; or those of its window."""
        return self.window or self.tree_depth * self.terms

    @property
    def threshold_bits(self) -> int:
        """Bits of a threshold: of an input word, or of a sum of `terms` of them."""
        return self.input_bits + ceil_log2(self.terms)

    @property
    def sign_nodes(self) -> int:
        """Nodes behind a codebook's thresholds that hold the signs of its terms, a bit each."""
        return 0 if self.terms == 1 else -(-self.n_values // self.threshold_bits)

    @property
    def place_bits(self) -> int:
        """Bits of a place in a window; 0 without one."""
        return max(1, ceil_log2(self.window)) if self.window else 0

    @property
    def place_nodes(self) -> int:
        """Nodes behind a codebook's thresholds that hold the places of its levels."""
        if self.splits == "node":
            return 0
        return -(-self.tree_depth * self.place_bits // self.threshold_bits)

    @property
    def node_bits(self) -> int:
        """Bits that are stored of a node: a threshold, and above it the node's place if any."""
        return self.threshold_bits + (self.place_bits if self.splits == "node" else 0)

    @property
    def threshold_nodes(self) -> int:
        """What is stored of a tree: K - 1 nodes, then the signs of its terms, or its places."""
        return self.n_prototypes - 1 + self.sign_nodes + self.place_nodes

    @property
    def n_banks(self) -> int:
        """Programs stored: 2 with `double_buffer`."""
        return 2 if self.double_buffer else 1

    @property
    def stored_codebooks(self) -> int:
        """Codebooks of all banks; codebook c of bank b is b*C + c."""
        return self.n_codebooks * self.n_banks

    @property
    def stored_columns(self) -> int:
        """Outputs whose constants are stored, of all banks; output m of bank b is b*M + m."""
        return self.n_outputs * self.n_banks

    @property
    def decoders_per_word(self) -> int:
        """Decoder columns that one LUT program word spans; divides M."""
        fits = self.write_word_bits // self.lut_bits
        return max(u for u in range(1, self.n_outputs + 1) if self.n_outputs % u == 0 and u <= fits)

    @property
    def n_blocks(self) -> int:
        """Decoder blocks, each written by its own program words: M / decoders_per_word."""
        return self.n_outputs // self.decoders_per_word

    @property
    def thresholds_per_word(self) -> int:
        """Thresholds that one program word holds; 1 where they are words of RAMs."""
        if self.encoder == "addressed":
            return 1
        return min(self.threshold_nodes, self.write_word_bits // self.node_bits)

    @property
    def threshold_words(self) -> int:
        """Program words per codebook that hold its nodes, and what is behind them."""
        return -(-self.threshold_nodes // self.thresholds_per_word)

    @property
    def program_data_bits(self) -> int:
        """Width of the program port's data."""
        lut = self.decoders_per_word * self.lut_bits
        return max(lut, self.thresholds_per_word * self.node_bits)

    @cached_property
    def output_constants(self) -> dict[str, tuple[int, int]]:
        """Constants of one output's conversion: {name: (lowest bit, width)}.

        Empty for raw results, and where binary32 sums are rounded as they are.
        """
        if self.lut_format == "fp16":
            return {}
        fields = dict(CONSTANT_BITS[self.output_format])
        if not self.relu:
            fields.pop("zero", None)
        lows = itertools.accumulate(fields.values(), initial=0)
        return {name: (low, fields[name]) for name, low in zip(fields, lows, strict=False)}

    @property
    def output_constant_bits(self) -> int:
        """Bits of one output's constants."""
        return sum(width for _, width in self.output_constants.values())

    @property
    def output_constant_words(self) -> int:
        """Program words that hold one output's constants."""
        return -(-self.output_constant_bits // self.program_data_bits)

    @cached_property
    def address_fields(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Fields of a program address: {region: {field: (lowest bit, width)}}.

        The top bit tells the regions apart: 0 LUT, 1 thresholds; the top two bits where there are
        constants of the output stage, region 2. LUT words are addressed by (codebook, prototype,
        block), thresholds by (codebook, word), constants by (column, word). With `double_buffer`,
        codebook and column count those of both banks, and the bit above, `command`, is 0 for
        words; a ``switch`` command names the `bank` that the next row groups use.
        """
        codebook_bits = ceil_log2(self.stored_codebooks)
        block_bits = ceil_log2(self.n_blocks)
        word_bits = ceil_log2(self.threshold_words)
        lut_bits = block_bits + self.tree_depth + codebook_bits
        region_bit = max(lut_bits, word_bits + codebook_bits)
        region_bits = 1
        output: dict[str, dict[str, tuple[int, int]]] = {}
        if self.output_constants:
            constant_bits = ceil_log2(self.output_constant_words)
            column_bits = ceil_log2(self.stored_columns)
            region_bit = max(region_bit, constant_bits + column_bits)
            region_bits = 2
            output["output"] = {
                "word": (0, constant_bits),
                "column": (constant_bits, column_bits),
                "region": (region_bit, region_bits),
            }
        command = {"command": (region_bit + region_bits, 1)} if self.double_buffer else {}
        switch = {"switch": {"bank": (0, 1), **command}} if self.double_buffer else {}
        if output:
            output["output"] |= command
        return {
            "lut": {
                "block": (0, block_bits),
                "prototype": (block_bits, self.tree_depth),
                "codebook": (block_bits + self.tree_depth, codebook_bits),
                "region": (region_bit, region_bits),
                **command,
            },
            "thresholds": {
                "word": (0, word_bits),
                "codebook": (word_bits, codebook_bits),
                "region": (region_bit, region_bits),
                **command,
            },
            **output,
            **switch,
        }

    @property
    def program_address_bits(self) -> int:
        """Width of the program port's address."""
        return sum(self.address_fields["lut"]["region"]) + int(self.double_buffer)

    def lut_address(self, codebook: int, prototype: int, block: int) -> int:
        """Program address of the LUT word of (codebook, prototype) for one decoder block."""
        fields = self.address_fields["lut"]
        return (
            (codebook << fields["codebook"][0])
            | (prototype << fields["prototype"][0])
            | (block << fields["block"][0])
        )

    def threshold_address(self, codebook: int, word: int) -> int:
        """Program address of a codebook's threshold word."""
        fields = self.address_fields["thresholds"]
        return (
            (1 << fields["region"][0])
            | (codebook << fields["codebook"][0])
            | (word << fields["word"][0])
        )

    def output_address(self, column: int, word: int) -> int:
        """Program address of a word of an output's constants."""
        fields = self.address_fields["output"]
        return (
            (2 << fields["region"][0])
            | (column << fields["column"][0])
            | (word << fields["word"][0])
        )

    def switch_address(self, bank: int) -> int:
        """Program address of the command that switches to a bank, with `double_buffer`."""
        fields = self.address_fields["switch"]
        return (1 << fields["command"][0]) | (bank << fields["bank"][0])
