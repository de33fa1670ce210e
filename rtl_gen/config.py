"""The accelerator's configuration: one validated object that everything else derives from.

The Verilog, the address map of the program port, testbench constants, timing constraints and the
documentation read their numbers here. Letters follow the MADDNESS paper (arXiv 2106.10860) and
Stella Nera (arXiv 2311.10207): C codebooks, K prototypes, M outputs, P rows and Q codebooks in
parallel, W outputs per transfer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from halut.errors import HalutError, closest
from halut.formats import input_format_bits
from halut.golden import OVERFLOWS
from halut.output import ADDEND_BITS, MULTIPLIER_BITS, OUTPUT_FORMATS
from halut.program import LUT_FORMATS

__all__ = ["ENCODERS", "MEMORIES", "AcceleratorConfig", "canonical_hash", "ceil_log2"]

CONFIG_VERSION = 1
ENCODERS = ("interleaved", "pipelined")
MEMORIES = ("latch", "ff", "lutram")
MAX_CODEBOOKS = 1024
MAX_OUTPUTS = 1024
MAX_PARALLEL = 256
MAX_ACC_BITS = 32
RESULT_BITS = {"fp16": 16, "int8": 8}
OUTPUT_STAGES = {"raw": 0, "fp16": 3, "int8": 2}
CONSTANT_BITS: dict[str, dict[str, int]] = {
    "raw": {},
    "fp16": {"scale": 32, "offset": 32},
    "int8": {"multiplier": MULTIPLIER_BITS, "shift": 6, "addend": ADDEND_BITS, "zero": 8},
}
# Left out of a configuration's dictionary, and so of its hash, where they are at their defaults.
_LATER_FIELDS = ("double_buffer", "output_format", "relu", "lut_format", "overflow")


def ceil_log2(value: int) -> int:
    """Bits that number `value` different things: ceil(log2(value)), 0 for one thing."""
    return (value - 1).bit_length()


def canonical_hash(values: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a mapping as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
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
    encoder : {"interleaved", "pipelined"}
        Interleaved: T tree walkers per row and lane, offset by a cycle, T cycles per code (the
        paper's unit). Pipelined: `tree_levels_per_stage` levels per stage. Both give one code per
        cycle.
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
    overflow : {"saturate", "wrap"}, optional
        What an accumulator does that is narrower than that, and only such a one. The order of
        additions is that of `halut.golden.accumulate`: saturation is once per step.
    output_format : {"raw", "fp16", "int8"}
        Results: accumulators, half floats, or requantised bytes (not of half floats); see
        `halut.output`.
    relu : bool
        Results below zero become zero.
    memory : {"latch", "ff", "lutram"}
        LUT and threshold store: standard-cell latches with a clock gate per word, flip-flops, or
        FPGA distributed RAM.
    write_word_bits : int
        Upper bound on the width of a program word. A word spans as many decoders as fit, and they
        share its clock gate.
    look_up_adder_levels : int
        Adder-tree levels in the look-up stage, before its register; 0 to 8.
    adder_levels_per_stage : int
        Adder-tree levels in each later stage; 1 to 8.
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

    name: str = "custom"
    n_codebooks: int = 16
    n_prototypes: int = 16
    n_outputs: int = 8
    rows: int = 1
    parallel_codebooks: int = 1
    outputs_per_cycle: int | None = None
    encoder: str = "interleaved"
    input_format: str = "fp16"
    lut_bits: int = 8
    acc_bits: int | None = None
    memory: str = "latch"
    write_word_bits: int = 64
    tree_levels_per_stage: int = 1
    look_up_adder_levels: int = 1
    adder_levels_per_stage: int = 3
    double_buffer: bool = False
    codebook_width: int = 9
    output_format: str = "raw"
    relu: bool = False
    lut_format: str = "int"
    overflow: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.name):
            raise HalutError(f"name must be letters, digits, _ and -, not {self.name!r}")
        self._check_range("n_codebooks", 1, MAX_CODEBOOKS)
        self._check_range("n_prototypes", 2, 256)
        if self.n_prototypes & (self.n_prototypes - 1):
            raise HalutError(
                f"n_prototypes must be a power of two in [2, 256], not {self.n_prototypes}"
            )
        self._check_range("n_outputs", 1, MAX_OUTPUTS)
        self._check_range("rows", 1, MAX_PARALLEL)
        self._check_range("parallel_codebooks", 1, self.n_codebooks)
        if self.n_codebooks % self.parallel_codebooks:
            raise HalutError(
                f"parallel_codebooks must divide n_codebooks = {self.n_codebooks}, "
                f"not {self.parallel_codebooks}"
            )
        self._check_choice("encoder", ENCODERS)
        self._check_choice("memory", MEMORIES)
        input_format_bits(self.input_format)
        self._check_range("lut_bits", 2, 16)
        self._check_choice("output_format", OUTPUT_FORMATS)
        self._check_choice("lut_format", LUT_FORMATS)
        if self.lut_format == "fp16":
            for name, wanted in (("lut_bits", 16), ("overflow", None)):
                if getattr(self, name) != wanted:
                    raise HalutError(
                        f"{name} must be {'absent' if wanted is None else wanted} "
                        f"for lut_format fp16, not {getattr(self, name)}"
                    )
            if self.output_format == "int8":
                raise HalutError(
                    "output_format must be raw or fp16 for lut_format fp16, not int8: "
                    "bytes are made of integer sums"
                )
        low, high = self.minimum_acc_bits, MAX_ACC_BITS
        if self.overflow is not None:
            self._check_choice("overflow", OVERFLOWS)
            low, high = self.lut_bits, self.minimum_acc_bits - 1
            if low > high:
                raise HalutError("overflow must be absent where nothing is added up")
        if self.acc_bits is None:
            object.__setattr__(self, "acc_bits", self.minimum_acc_bits)
        self._check_range("acc_bits", low, high)
        if not isinstance(self.relu, bool):
            raise HalutError(f"relu must be true or false, not {self.relu!r}")
        self._check_range("write_word_bits", max(self.lut_bits, self.input_bits), 4096)
        self._check_range("tree_levels_per_stage", 1, self.tree_depth)
        if self.encoder == "interleaved" and self.tree_levels_per_stage != 1:
            raise HalutError(
                "tree_levels_per_stage must be 1 for an interleaved encoder, "
                f"not {self.tree_levels_per_stage}"
            )
        if not isinstance(self.double_buffer, bool):
            raise HalutError(f"double_buffer must be true or false, not {self.double_buffer!r}")
        self._check_range("look_up_adder_levels", 0, 8)
        self._check_range("adder_levels_per_stage", 1, 8)
        self._check_range("codebook_width", 1, 1 << 20)
        if self.outputs_per_cycle is None:
            object.__setattr__(self, "outputs_per_cycle", self._default_outputs_per_cycle())
        self._check_range("outputs_per_cycle", 1, self.rows * self.n_outputs)
        if self.outputs_per_cycle not in self._valid_outputs_per_cycle():
            raise HalutError(
                f"outputs_per_cycle must divide n_outputs = {self.n_outputs}, or be a multiple of "
                f"it that divides rows * n_outputs = {self.rows * self.n_outputs}, "
                f"not {self.outputs_per_cycle}"
            )

    def _check_range(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            rule = f"an integer in [{low}, {high}]"
            raise HalutError(f"{field} must be {rule}, not {value!r}")

    def _check_choice(self, field: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, field)
        if value not in choices:
            hint = closest(value, choices)
            raise HalutError(f"{field} must be one of {', '.join(choices)}, not {value!r}{hint}")

    def _valid_outputs_per_cycle(self) -> list[int]:
        parts = [w for w in range(1, self.n_outputs + 1) if self.n_outputs % w == 0]
        rows = [r for r in range(2, self.rows + 1) if self.rows % r == 0]
        return parts + [self.n_outputs * r for r in rows]

    def _default_outputs_per_cycle(self) -> int:
        results = self.rows * self.n_outputs
        return next(w for w in self._valid_outputs_per_cycle() if w * self.n_groups >= results)

    # Widths

    @property
    def tree_depth(self) -> int:
        """T = log2 K: levels of a tree and bits of a code."""
        return ceil_log2(self.n_prototypes)

    @property
    def input_bits(self) -> int:
        """Bits of one split-dimension value and of one threshold."""
        return input_format_bits(self.input_format)

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
    def n_banks(self) -> int:
        """Programs stored: 2 with `double_buffer`."""
        return 2 if self.double_buffer else 1

    @property
    def stored_codebooks(self) -> int:
        """Codebooks of all banks; codebook c of bank b is b*C + c."""
        return self.n_codebooks * self.n_banks

    @property
    def stored_groups(self) -> int:
        """Codebook groups of all banks; group g of bank b is b*G + g."""
        return self.n_groups * self.n_banks

    @property
    def stored_columns(self) -> int:
        """Outputs whose constants are stored, of all banks; output m of bank b is b*M + m."""
        return self.n_outputs * self.n_banks

    @property
    def n_beats(self) -> int:
        """Output transfers per row group: P*M / W."""
        return self.rows * self.n_outputs // self.output_width

    @property
    def captures_input(self) -> bool:
        """Whether the encoder registers its input before the first comparison.

        It has to when a walker keeps its values (interleaved), and does so while it fetches the
        first threshold when there is more than one codebook group to fetch from.
        """
        return self.encoder == "interleaved" or self.stored_groups > 1

    @property
    def tree_stages(self) -> int:
        """Pipeline stages that walk the tree: T / tree_levels_per_stage, rounded up."""
        return -(-self.tree_depth // self.tree_levels_per_stage)

    @property
    def encoder_cycles(self) -> int:
        """Clock edges from an accepted transfer to its registered codes."""
        return self.tree_stages + int(self.captures_input)

    @property
    def sum_stages(self) -> int:
        """Pipeline stages behind the look-up register: adder tree, then accumulator.

        The adder tree's levels beyond `look_up_adder_levels`, at most `adder_levels_per_stage`
        per stage. One stage is needed to accumulate if G > 1.
        """
        levels = max(ceil_log2(self.parallel_codebooks) - self.look_up_adder_levels, 0)
        return max(-(-levels // self.adder_levels_per_stage), int(self.n_groups > 1))

    @property
    def pipeline_stages(self) -> int:
        """Clock edges from an accepted transfer to its part in the accumulators."""
        return self.encoder_cycles + 1 + self.sum_stages

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

        Tree stages (+ 1 if the input is captured) + 1 look-up + sum stages, + 1 for the output
        buffer when a row group leaves in several beats, + the output stage's. Counted between the
        two transferring clock edges when nothing stalls.
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
        """Bits of all thresholds: C * (K - 1) * input_bits, in each bank."""
        return self.stored_codebooks * (self.n_prototypes - 1) * self.input_bits

    @property
    def constant_total_bits(self) -> int:
        """Bits of all constants of the output stage, in each bank."""
        return self.stored_columns * self.output_constant_bits

    # Program port

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
        """Thresholds that one program word holds."""
        return min(self.n_prototypes - 1, self.write_word_bits // self.input_bits)

    @property
    def threshold_words(self) -> int:
        """Program words per codebook that hold its K - 1 thresholds."""
        return -(-(self.n_prototypes - 1) // self.thresholds_per_word)

    @property
    def program_data_bits(self) -> int:
        """Width of the program port's data."""
        lut = self.decoders_per_word * self.lut_bits
        return max(lut, self.thresholds_per_word * self.input_bits)

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
        if self.output_format != "raw":
            slug += f"_out{self.output_format}"
        if self.relu:
            slug += "_relu"
        if self.overflow:
            slug += f"_{self.overflow}"
        return slug + ("_double" if self.double_buffer else "")

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the file's version, ready for YAML or JSON.

        Fields that were added later only where they are set: configurations without them have
        the hash they had before.
        """
        values = dataclasses.asdict(self)
        for each in dataclasses.fields(self):
            if each.name in _LATER_FIELDS and values[each.name] == each.default:
                del values[each.name]
        return {"version": CONFIG_VERSION, **values}

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the configuration as canonical JSON."""
        return canonical_hash(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AcceleratorConfig:
        """Build from a mapping of field names; ``version`` must be present and 1."""
        if not isinstance(values, Mapping):
            raise HalutError(f"a configuration must be a mapping, not {type(values).__name__}")
        values = dict(values)
        version = values.pop("version", None)
        if version != CONFIG_VERSION:
            raise HalutError(f"version must be {CONFIG_VERSION}, not {version!r}")
        known = [f.name for f in dataclasses.fields(cls)]
        if "tiles" in values:
            raise HalutError("a configuration must be of one unit here, not have tiles")
        for key in values:
            if key not in known:
                hint = closest(key, known)
                raise HalutError(f"a field must be one of {', '.join(known)}, not {key!r}{hint}")
        return cls(**values)

    @staticmethod
    def read_yaml(path: str | Path) -> dict[str, Any]:
        """The mapping in a YAML configuration file, not yet validated; errors name the file."""
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise HalutError(
                f"a configuration must be a readable file, not {path} ({reason})"
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise HalutError(f"a configuration must be valid YAML ({path}{line})") from None
        if not isinstance(values, dict):
            raise HalutError(
                f"a configuration must be a mapping, not {type(values).__name__} ({path})"
            )
        return values

    @classmethod
    def from_yaml(cls, path: str | Path) -> AcceleratorConfig:
        """Read a YAML configuration file; every error names the file."""
        values = cls.read_yaml(path)
        try:
            return cls.from_dict(values)
        except HalutError as error:
            raise HalutError(f"{error} ({path})") from None
