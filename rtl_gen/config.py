"""The accelerator's configuration: one validated object that everything else derives from.

The Verilog, the address map of the program port, testbench constants, timing constraints and the
documentation read their numbers here. Letters follow the MADDNESS paper (arXiv 2106.10860) and
Stella Nera (arXiv 2311.10207): C codebooks, K prototypes, M outputs, P rows and Q codebooks in
parallel, W outputs per transfer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halut.accumulation import OVERFLOWS
from halut.checks import integer_in, known, located, mapping, read_yaml
from halut.errors import HalutError
from halut.formats import (
    FLOAT_FORMATS,
    MOST_TERMS,
    MOST_WORDS,
    check_half_tables,
    check_sums,
    input_format_bits,
)
from halut.output import OUTPUT_FORMATS
from halut.program import LUT_FORMATS

from .address_map import AddressMap, ceil_log2
from .settings import check_settings, name_setting, setting, settings_of

__all__ = ["ENCODERS", "MEMORIES", "AcceleratorConfig", "canonical_hash", "ceil_log2"]

CONFIG_VERSION = 1
ENCODERS = ("interleaved", "pipelined", "addressed")
MEMORIES = ("latch", "ff", "lutram", "sram")
MAX_CODEBOOKS = 1024
DISTRIBUTED_WORDS = 64
_PRODUCT, _THROUGHPUT, _STAGES = "product", "throughput", "stages"
_FORMATS, _STORE = "number formats", "store"
MAX_ACC_BITS = 32
RESULT_BITS = {"fp16": 16, "int8": 8}
OUTPUT_STAGES = {"raw": 0, "fp16": 3, "int8": 2}


def canonical_hash(values: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a mapping as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig(AddressMap):
    """Parameters of one accelerator.

    Parameters
    ----------
    name : str
        Label for reports; letters, digits, ``_`` and ``-``. Does not change the hardware.
    n_codebooks : int
        C, column groups of A; 1 to 1024.
    n_prototypes : int
        K, leaves of a tree; a power of two from 2 to 256.
    n_outputs : int
        M, columns of B, one decoder column each; 1 to 1024.
    rows : int
        P, rows of A worked on side by side; 1 to 256.
    parallel_codebooks : int
        Q, codebooks looked up in one cycle; divides C.
    outputs_per_cycle : int, optional
        W, results per output transfer: a divisor of M, or a multiple of M that divides P*M.
        By default the fewest that keep up with the input.
    encoder : {"interleaved", "pipelined", "addressed"}
        Interleaved: T tree walkers per row and lane, offset by a cycle, T cycles per code (the
        paper's unit). Pipelined: `tree_levels_per_stage` levels per stage. Addressed, for FPGAs
        and lutram or sram only: one level per stage, its thresholds in a RAM per row, which the
        code so far addresses; a program word is one threshold. All give one code per cycle.
    tree_levels_per_stage : int
        Pipelined encoder: levels compared side by side in a stage, with 2**levels - 1 comparators
        per row and lane; 1 to T.
    input_format : str
        Of the split-dimension values and thresholds: ``fp16``, ``bf16``, ``fp8_e4m3``,
        ``fp8_e5m2`` (see `halut.formats`), or ``int2`` to ``int16`` (signed).
    lut_format : {"int", "fp16"}
        LUT entries: signed integers of `lut_bits`, or half floats, which are added up in binary32.
    lut_bits : int
        Width of a LUT entry; 2 to 16 bits, 16 for half floats.
    acc_bits : int, optional
        Width of an accumulator; at least, and by default, lut_bits + ceil(log2 C); at most 32.
        32 for half floats. With `overflow` less, but at least lut_bits.
    terms : int
        Input words that a level of a tree adds up before it compares, 1 to 16; with signs, which
        are stored behind the thresholds. More than 1 for integer formats only.
    window : int
        Words of a codebook's window, 2 to 256: a transfer has all of them, in the order of the
        columns, and trees select from them what they compare. 0: it has what levels compare.
        Not with several `terms`, nor for an addressed encoder.
    splits : {"level", "node"}
        With a window, what has a place in it of its own: a level, stored behind the thresholds; or
        a node, stored with each threshold.
    overflow : {"saturate", "wrap"}, optional
        What an accumulator does that is narrower than that, and only such a one. The order of
        additions is that of `halut.accumulation.Accumulation`: saturation is once per step.
    output_format : {"raw", "fp16", "int8"}
        Results: accumulators, half floats, or requantised bytes (not of half floats); see
        `halut.output`.
    relu : bool
        Results below zero become zero.
    memory : {"latch", "ff", "lutram", "sram"}
        LUT and threshold store: standard-cell latches with a clock gate per word, flip-flops,
        FPGA distributed RAM, or, for tables too large for these, SRAM macros, one for each block
        of decoders, lane, row and bank; thresholds are then in latches.
    write_word_bits : int
        Upper bound on the width of a program word. A word spans as many decoders as fit, and they
        share its clock gate.
    look_up_adder_levels : int
        Adder-tree levels in the look-up stage, before its register; 0 to 8.
    adder_levels_per_stage : int
        Adder-tree levels in each later stage; 1 to 8.
    code_stages : int
        Registers that carry codes from the encoders to the tables, one behind the other; 0 to 4.
        For wide arrays, whose codes go a long way.
    decode_in_blocks : bool
        Codes go to the tables of latches or flip-flops as numbers, log2(K) wires in place of K, and
        become one line per prototype in each block of decoders, which has the last of the
        `code_stages` for itself. For wide arrays: a block's ports are then few, and registered.
    skid_buffer : bool
        Sums that are not taken are kept in a second register, so that whether the pipeline stands
        still comes from registers and not from the consumer. For wide arrays on FPGAs.
    double_buffer : bool
        Two programs are stored. While one computes the other can be written; a command switches
        between row groups.
    codebook_width : int
        Columns of A per codebook, D / C, for counting the multiply-accumulates that a look-up
        replaces; 9 for a 3x3 kernel. Does not change the hardware.

    Raises
    ------
    HalutError
        When a value breaks its rule; values are never clamped.

    Examples
    --------
    >>> config = AcceleratorConfig(n_codebooks=16, n_outputs=8)
    >>> config.slug
    'c16_k16_m8_p1_q1_w1_interleaved_fp16_lut8_acc12_latch'
    >>> config.look_ups_per_cycle, config.interval_cycles
    (8, 16)
    """

    name: str = name_setting(_PRODUCT)
    n_codebooks: int = setting(
        16, "--num-c", "codebooks C", group=_PRODUCT, within=(1, MAX_CODEBOOKS)
    )
    n_prototypes: int = setting(
        16, "--num-k", "prototypes K per codebook, a power of two", group=_PRODUCT, within=(2, 256)
    )
    n_outputs: int = setting(
        8, "--num-m", "outputs M, one decoder column each", group=_PRODUCT, within=(1, 1024)
    )
    rows: int = setting(1, "--rows", "rows of A in parallel P", group=_THROUGHPUT, within=(1, 256))
    parallel_codebooks: int = setting(
        1, "--parallel-codebooks", "codebooks per cycle Q, divides C", group=_THROUGHPUT
    )
    outputs_per_cycle: int | None = setting(
        None, "--outputs-per-cycle", "results W per output transfer", group=_THROUGHPUT,
        derived="fewest that keep up",
    )  # fmt: skip
    encoder: str = setting("interleaved", "--encoder", "tree walk", group=_STAGES, choices=ENCODERS)
    input_format: str = setting(
        "fp16", "--input", group=_FORMATS,
        help="values and thresholds: fp16, bf16, fp8_e4m3, fp8_e5m2, or int2 to int16",
    )  # fmt: skip
    lut_bits: int = setting(
        8, "--lut-bits", "width of a LUT entry in bits", group=_FORMATS, within=(2, 16)
    )
    acc_bits: int | None = setting(
        None, "--acc-bits", "width of an accumulator in bits", group=_FORMATS,
        derived="lut bits + ceil(log2 C)",
    )  # fmt: skip
    memory: str = setting("latch", "--memory", "LUT store", group=_STORE, choices=MEMORIES)
    write_word_bits: int = setting(
        64, "--write-word-bits", "bound on a program word in bits", group=_STORE
    )
    tree_levels_per_stage: int = setting(
        1, "--tree-levels", "tree levels per stage (pipelined encoder)", group=_STAGES
    )
    look_up_adder_levels: int = setting(
        1, "--look-up-adder-levels", "adder-tree levels in the look-up", group=_STAGES,
        within=(0, 8),
    )  # fmt: skip
    adder_levels_per_stage: int = setting(
        3, "--adder-levels", "adder-tree levels per later stage", group=_STAGES, within=(1, 8)
    )
    double_buffer: bool = setting(
        False, "--double-buffer", "store two programs, one loaded while one computes",
        group=_STORE, later=True,
    )  # fmt: skip
    codebook_width: int = setting(
        9, "--codebook-width", "columns of A per codebook, to count MACs", group=_PRODUCT,
        within=(1, 1 << 20),
    )  # fmt: skip
    output_format: str = setting(
        "raw", "--output-format", "results", group=_FORMATS, choices=OUTPUT_FORMATS, later=True
    )
    relu: bool = setting(
        False, "--relu", "results below zero become zero", group=_FORMATS, later=True
    )
    lut_format: str = setting(
        "int", "--lut-format", "LUT entries: {} (of 16 bits)", group=_FORMATS,
        choices=LUT_FORMATS, later=True,
    )  # fmt: skip
    terms: int = setting(
        1, "--terms", "input words that a tree level adds up", group=_STAGES,
        within=(1, MOST_TERMS), later=True,
    )  # fmt: skip
    window: int = setting(
        0, "--window", "words of a codebook's window, all of which it takes; 0: only what trees "
        "compare", group=_STAGES, within=(0, MOST_WORDS), later=True,
    )  # fmt: skip
    splits: str = setting(
        "level", "--splits", "what has a place in the window of its own", group=_STAGES,
        choices=("level", "node"), later=True,
    )  # fmt: skip
    code_stages: int = setting(
        0, "--code-stages", "registers that carry codes to the tables", group=_STAGES,
        within=(0, 4), later=True,
    )  # fmt: skip
    decode_in_blocks: bool = setting(
        False, "--decode-in-blocks", "codes go to blocks of decoders as numbers (latches, ff)",
        group=_STAGES, later=True,
    )  # fmt: skip
    skid_buffer: bool = setting(
        False, "--skid-buffer", "keep sums that are not taken, so that stalls come from registers",
        group=_STAGES, later=True,
    )  # fmt: skip
    overflow: str | None = setting(
        None, "--overflow", "what an accumulator narrower than needed does", group=_FORMATS,
        choices=OVERFLOWS, derived="there is none", later=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.n_prototypes & (self.n_prototypes - 1):
            raise HalutError(
                f"n_prototypes must be a power of two in [2, 256], not {self.n_prototypes}"
            )
        integer_in("parallel_codebooks", self.parallel_codebooks, 1, self.n_codebooks)
        if self.n_codebooks % self.parallel_codebooks:
            raise HalutError(
                f"parallel_codebooks must divide n_codebooks = {self.n_codebooks}, "
                f"not {self.parallel_codebooks}"
            )
        input_format_bits(self.input_format)
        if self.terms > 1:
            check_sums(self.terms, self.input_format)
        self._check_window()
        if self.decode_in_blocks:
            if self.numbered_tables:
                raise HalutError(
                    f"memory must be latch or ff with decode_in_blocks, not {self.memory}"
                )
            if not self.code_stages:
                raise HalutError(
                    "code_stages must be 1 or more with decode_in_blocks, not 0: blocks have the "
                    "last of them"
                )
        if self.lut_format == "fp16":
            check_half_tables(self.lut_bits, self.output_format, self.overflow)
        low, high = self.minimum_acc_bits, MAX_ACC_BITS
        if self.overflow is not None:
            low, high = self.lut_bits, self.minimum_acc_bits - 1
            if low > high:
                raise HalutError("overflow must be absent where nothing is added up")
        if self.acc_bits is None:
            object.__setattr__(self, "acc_bits", self.minimum_acc_bits)
        integer_in("acc_bits", self.acc_bits, low, high)
        integer_in(
            "write_word_bits", self.write_word_bits, max(self.lut_bits, self.node_bits), 4096
        )
        integer_in("tree_levels_per_stage", self.tree_levels_per_stage, 1, self.tree_depth)
        if self.encoder != "pipelined" and self.tree_levels_per_stage != 1:
            raise HalutError(
                f"tree_levels_per_stage must be 1 for an {self.encoder} encoder, "
                f"not {self.tree_levels_per_stage}"
            )
        if self.encoder == "addressed":
            if not self.numbered_tables:
                raise HalutError(
                    f"memory must be lutram or sram for an addressed encoder, not {self.memory}"
                )
            if self.terms != 1:
                raise HalutError(f"terms must be 1 for an addressed encoder, not {self.terms}")
        if self.outputs_per_cycle is None:
            object.__setattr__(self, "outputs_per_cycle", self._default_outputs_per_cycle())
        integer_in("outputs_per_cycle", self.outputs_per_cycle, 1, self.rows * self.n_outputs)
        if self.outputs_per_cycle not in self._valid_outputs_per_cycle():
            raise HalutError(
                f"outputs_per_cycle must divide n_outputs = {self.n_outputs}, or be a multiple of "
                f"it that divides rows * n_outputs = {self.rows * self.n_outputs}, "
                f"not {self.outputs_per_cycle}"
            )

    def _check_window(self) -> None:
        if not self.window and self.splits == "node":
            raise HalutError("splits must be level without a window, not node")
        if self.window == 1:
            raise HalutError("window must be 0, or 2 or more, not 1")
        if self.window and self.terms > 1:
            raise HalutError(f"terms must be 1 with a window, not {self.terms}")
        if self.window and self.encoder == "addressed":
            raise HalutError(f"window must be 0 for an addressed encoder, not {self.window}")
        if self.splits == "node" and self.n_prototypes == 2:
            raise HalutError("splits must be level for n_prototypes 2, not node")

    def _valid_outputs_per_cycle(self) -> list[int]:
        parts = [w for w in range(1, self.n_outputs + 1) if self.n_outputs % w == 0]
        rows = [r for r in range(2, self.rows + 1) if self.rows % r == 0]
        return parts + [self.n_outputs * r for r in rows]

    def _default_outputs_per_cycle(self) -> int:
        results = self.rows * self.n_outputs
        return next(w for w in self._valid_outputs_per_cycle() if w * self.n_groups >= results)

    # Widths

    @property
    def entry_name(self) -> str:
        """A LUT entry's format in names: its bits, or ``fp16``."""
        return "fp16" if self.lut_format == "fp16" else str(self.lut_bits)

    @property
    def minimum_acc_bits(self) -> int:
        """Accumulator bits that C look-ups of lut_bits cannot overflow; 32 for half floats."""
        if self.lut_format == "fp16":
            return 32
        return self.lut_bits + ceil_log2(self.n_codebooks)

    @property
    def accumulator_bits(self) -> int:
        """Accumulator bits of this configuration."""
        assert self.acc_bits is not None
        return self.acc_bits

    @property
    def result_bits(self) -> int:
        """Bits of one result."""
        return RESULT_BITS.get(self.output_format, self.accumulator_bits)

    @property
    def output_width(self) -> int:
        """W, results in one output transfer."""
        assert self.outputs_per_cycle is not None
        return self.outputs_per_cycle

    # Schedule

    @property
    def n_groups(self) -> int:
        """G = C / Q: input transfers (steps) per row group."""
        return self.n_codebooks // self.parallel_codebooks

    @property
    def stored_groups(self) -> int:
        """Codebook groups of all banks; group g of bank b is b*G + g."""
        return self.n_groups * self.n_banks

    @property
    def n_beats(self) -> int:
        """Output transfers per row group: P*M / W."""
        return self.rows * self.n_outputs // self.output_width

    @property
    def constants_memory(self) -> str:
        """Store of thresholds and of the output stage's constants: `memory`; latches for SRAM.

        An addressed encoder is for FPGAs, which have no latches.
        """
        if self.encoder == "addressed":
            return "lutram"
        return "latch" if self.memory == "sram" else self.memory

    @property
    def numbered_tables(self) -> bool:
        """Whether codes and groups address tables as numbers, not as one line per word."""
        return self.memory in ("lutram", "sram")

    @property
    def binary_codes(self) -> bool:
        """Whether codes go to the blocks of decoders as numbers, not as one line per prototype."""
        return self.numbered_tables or self.decode_in_blocks

    @property
    def code_wires(self) -> int:
        """Wires of a code on its way to a block of decoders: log2(K), or K."""
        return self.tree_depth if self.binary_codes else self.n_prototypes

    def pack_codes(self, codes: Iterable[int]) -> int:
        """Codes as these wires carry them side by side, the first in the lowest bits."""
        return sum(
            (int(code) if self.binary_codes else 1 << int(code)) << place * self.code_wires
            for place, code in enumerate(codes)
        )

    @property
    def look_up_group_bits(self) -> int:
        """Bits of a table's group address: for SRAM the group in its bank, and above it the bank.

        For distributed RAM the number of a stored group, else a line per stored group.
        """
        if self.memory == "sram":
            return ceil_log2(self.n_groups) + int(self.double_buffer)
        return ceil_log2(self.stored_groups) if self.numbered_tables else self.stored_groups

    @property
    def captures_input(self) -> bool:
        """Whether the encoder registers its input before the first comparison.

        It has to when a walker keeps its values (interleaved), and does so while it fetches the
        first threshold when there is more than one codebook group to fetch from. Sums are
        registered before they are compared. An addressed encoder fetches nothing; it registers the
        keys that floats compare as.
        """
        if self.encoder == "addressed":
            return self.input_format in FLOAT_FORMATS
        return self.encoder == "interleaved" or self.stored_groups > 1 or self.terms > 1

    @property
    def ram_per_row(self) -> bool:
        """Whether each row has RAMs of its own, with one read port, rather than a port of one."""
        return self.encoder == "addressed"

    @property
    def table_ram_style(self) -> str:
        """The attribute of tables' RAMs: long ones may be block RAMs, which have a register."""
        words = self.stored_groups * self.n_prototypes
        return "distributed" if self.ram_per_row and words <= DISTRIBUTED_WORDS else ""

    @property
    def tree_stages(self) -> int:
        """Pipeline stages that walk the tree: T / tree_levels_per_stage, rounded up."""
        return -(-self.tree_depth // self.tree_levels_per_stage)

    def threshold_stage(self, level: int) -> int:
        """Pipeline stage in which a tree level's thresholds are read (fetched, if registered)."""
        if self.encoder == "addressed":
            return level + int(self.captures_input)
        return level // self.tree_levels_per_stage

    @property
    def encoder_cycles(self) -> int:
        """Clock edges from an accepted transfer to its registered codes."""
        return self.tree_stages + int(self.captures_input)

    @property
    def code_cycles(self) -> int:
        """Clock edges from an accepted transfer to its codes at the tables."""
        return self.encoder_cycles + self.code_stages

    @property
    def block_code_stages(self) -> int:
        """How many of the `code_stages` are in the blocks of decoders: 1 or none."""
        return int(self.decode_in_blocks)

    @property
    def block_cycles(self) -> int:
        """Clock edges from the codes at a block of decoders to its accumulators."""
        return self.block_code_stages + self.fetch_stages + 1 + self.sum_stages

    @property
    def sum_stages(self) -> int:
        """Pipeline stages behind the look-up register: adder tree, then accumulator.

        The adder tree's levels beyond `look_up_adder_levels`, at most `adder_levels_per_stage`
        per stage. One stage is needed to accumulate if G > 1.
        """
        levels = max(ceil_log2(self.parallel_codebooks) - self.look_up_adder_levels, 0)
        return max(-(-levels // self.adder_levels_per_stage), int(self.n_groups > 1))

    @property
    def fetch_stages(self) -> int:
        """Pipeline stages that tables take to be read: 1 for SRAM, which is clocked; else 0."""
        return int(self.memory == "sram")

    @property
    def pipeline_stages(self) -> int:
        """Clock edges from an accepted transfer to its part in the accumulators."""
        return self.code_cycles + self.fetch_stages + 1 + self.sum_stages

    @property
    def has_output_stage(self) -> bool:
        """Whether anything is done with the sums before they leave."""
        return self.relu or self.output_format != "raw"

    @property
    def output_stages(self) -> int:
        """Pipeline stages of the output stage: fp16 3 (1 of binary32 sums), int8 2, raw 0."""
        if self.output_format == self.lut_format == "fp16":
            return 1
        return OUTPUT_STAGES[self.output_format]

    @property
    def latency_cycles(self) -> int:
        """Clock cycles from a row group's last input transfer to its first output transfer.

        Tree stages (+ 1 if the input is captured) + code stages + 1 look-up (2 from SRAM) + sum
        stages, + 1 for the output buffer when a row group leaves in several beats, + the output
        stage's. Counted between the two transferring clock edges when nothing stalls.
        """
        return self.pipeline_stages + int(self.n_beats > 1) + self.output_stages

    @property
    def codebook_tiles(self) -> int:
        """Units that share the codebooks of a step: this one."""
        return 1

    @property
    def interval_cycles(self) -> int:
        """Cycles between two row groups when nothing stalls: max(G, output beats)."""
        return max(self.n_groups, self.n_beats)

    # Figures

    @property
    def look_ups_per_cycle(self) -> float:
        """LUT reads per cycle at full rate."""
        total = self.rows * self.n_codebooks * self.n_outputs
        value = total / self.interval_cycles
        return int(value) if value == int(value) else value

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates replaced per cycle at full rate: look-ups x codebook_width."""
        return self.look_ups_per_cycle * self.codebook_width

    @property
    def lut_total_bits(self) -> int:
        """Bits of all look-up tables: C * K * M * lut_bits, in each bank."""
        return self.stored_codebooks * self.n_prototypes * self.n_outputs * self.lut_bits

    @property
    def threshold_total_bits(self) -> int:
        """Bits of all nodes: C * (K - 1) * node_bits, in each bank; and of what is behind them."""
        return self.stored_codebooks * self.threshold_nodes * self.node_bits

    @property
    def constant_total_bits(self) -> int:
        """Bits of all constants of the output stage, in each bank."""
        return self.stored_columns * self.output_constant_bits

    # Identity

    @property
    def slug(self) -> str:
        """File-system name made of the parameters that change the hardware."""
        slug = (
            f"c{self.n_codebooks}_k{self.n_prototypes}_m{self.n_outputs}_p{self.rows}"
            f"_q{self.parallel_codebooks}_w{self.output_width}_{self.encoder}"
            f"_{self.input_format}_lut{self.entry_name}_acc{self.accumulator_bits}_{self.memory}"
        )
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        if self.write_word_bits != defaults["write_word_bits"]:
            slug += f"_word{self.write_word_bits}"
        for label, field in (
            ("tree", "tree_levels_per_stage"),
            ("look", "look_up_adder_levels"),
            ("add", "adder_levels_per_stage"),
        ):
            if getattr(self, field) != defaults[field]:
                slug += f"_{label}{getattr(self, field)}"
        if self.terms > 1:
            slug += f"_terms{self.terms}"
        if self.window:
            slug += f"_window{self.window}" + ("_node" if self.splits == "node" else "")
        if self.output_format != "raw":
            slug += f"_out{self.output_format}"
        if self.relu:
            slug += "_relu"
        if self.overflow:
            slug += f"_{self.overflow}"
        if self.code_stages:
            slug += f"_code{self.code_stages}" + ("_decode" if self.decode_in_blocks else "")
        if self.skid_buffer:
            slug += "_skid"
        return slug + ("_double" if self.double_buffer else "")

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the file's version, ready for YAML or JSON.

        Fields that were added later only where they are set: configurations without them have
        the hash they had before.
        """
        values = dataclasses.asdict(self)
        for each, rule in settings_of(self):
            if rule.later and values[each.name] == each.default:
                del values[each.name]
        return {"version": CONFIG_VERSION, **values}

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the configuration as canonical JSON."""
        return canonical_hash(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AcceleratorConfig:
        """Build from a mapping of field names; ``version`` must be present and 1."""
        values = mapping("a configuration", values)
        version = values.pop("version", None)
        if version != CONFIG_VERSION:
            raise HalutError(f"version must be {CONFIG_VERSION}, not {version!r}")
        if "tiles" in values:
            raise HalutError("a configuration must be of one unit here, not have tiles")
        known("a field", values, [f.name for f in dataclasses.fields(cls)])
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> AcceleratorConfig:
        """Read a YAML configuration file; every error names the file."""
        values = read_yaml(path)
        with located(path):
            return cls.from_dict(values)
