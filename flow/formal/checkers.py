# amaranth: UnusedElaboratable=no
"""Units under their checkers: which properties hold, and what the checker must know."""

from __future__ import annotations

from functools import partial

from flow.formal.prove import Check, Property
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.tiled import HalutTiled, JoinAdder
from rtl_gen.tiled_config import TiledConfig
from rtl_gen.top import HalutMatmul
from rtl_gen.units.comparator import Comparator
from rtl_gen.units.control import Control
from rtl_gen.units.decoder import DecoderBlock
from rtl_gen.units.encoder import encoder_unit
from rtl_gen.units.output_stage import OutputStage
from rtl_gen.units.serializer import OutputSerializer
from rtl_gen.units.skid_buffer import SkidBuffer

__all__ = [
    "comparator_check",
    "control_check",
    "decoder_check",
    "encoder_check",
    "join_check",
    "output_check",
    "skid_check",
    "stage_check",
    "tiled_check",
]

_CONTROL = (
    Property("accept", "stage 0 moves exactly the transfers that are taken", 1),
    Property("enable", "an enable is 1 only where a transfer is", 2),
    Property("lost", "no transfer is overwritten by the one behind it", 3),
    Property("sums", "sums are valid from when they are finished until they are taken", 8),
    Property("still", "nothing moves while finished sums wait", 8),
    Property("word", "a word for the program in use is taken between row groups only", 10),
    Property("offered", "no row group begins while such a word is offered", 11),
    Property("settle", "no row group begins in the cycle after such a word", 12),
    Property("ready", "a transfer is taken whenever nothing of this forbids it", 15),
    Property("reset", "nothing is taken in a cycle of reset", 14),
    Property("program_ready", "a word is taken whenever nothing of this forbids it", 16),
)


def _macros(**wanted: object) -> dict[str, str]:
    """Macros of a checker that are set to 1."""
    return {name: "1" for name, value in wanted.items() if value}


def _chosen(*rows: tuple[object, Property]) -> tuple[Property, ...]:
    """Properties behind what is true."""
    return tuple(each for wanted, each in rows if wanted)


def _bits(count: int) -> int:
    """Bits of a port that counts, at least 1."""
    return max(1, ceil_log2(count))


def _late(config: AcceleratorConfig) -> int:
    """Cycles between a write's enable and its data."""
    return int(config.constants_memory == "latch")


def control_check(name: str, config: AcceleratorConfig) -> Check:
    """The handshakes and the order of transfers, without bound."""
    c = config
    interleaved = c.encoder == "interleaved"
    stored = c.stored_groups > 1
    bank = c.double_buffer and bool(c.output_constants)
    return Check(
        name=f"control_{name}",
        unit=partial(Control, c),
        checker="control.v",
        parameters={
            "STAGES": c.pipeline_stages,
            "G": c.n_groups,
            "GBITS": _bits(c.stored_groups),
            "BANKS": c.n_banks,
            "LEVELS": c.tree_depth,
            "PER_STAGE": c.tree_levels_per_stage,
            "FIRST_STAGE": c.threshold_stage(0),
            "LOOK_UP": c.code_cycles,
        },
        defines=_macros(
            SKID=c.skid_buffer,
            BUSY=c.output_constants,
            INTERLEAVED=interleaved,
            DOUBLE=c.double_buffer,
            ACTIVE=bank,
            GROUPS=stored,
            BINARY=stored and c.numbered_tables,
            SRAM=c.fetch_stages,
            FIRST=c.n_groups > 1,
        ),
        properties=(
            *_CONTROL,
            *_chosen(
                (
                    interleaved and c.tree_depth > 1,
                    Property("phase", "the walkers' turns go on with every step", 8),
                ),
                (bank, Property("bank", "the bank is that of the last switch", 13)),
                (stored, Property("group", "thresholds are fetched for the right group", 4)),
                (stored, Property("look_up", "words are looked up in the right group", 5)),
                (
                    c.n_groups > 1,
                    Property("first", "a new sum begins with a row group's first step", 6),
                ),
            ),
        ),
    )


_MANTISSA = {"fp16": 10, "bf16": 7, "fp8_e5m2": 2, "fp8_e4m3": 3}


def encoder_check(name: str, config: AcceleratorConfig) -> Check:
    """Codes are those of the tree for every input and all thresholds."""
    c = config
    mantissa = _MANTISSA.get(c.input_format, 0)
    return Check(
        name=f"encoder_{name}",
        unit=partial(encoder_unit, c),
        checker="encoder.v",
        parameters={
            "W": c.input_bits,
            "MANTISSA": mantissa,
            "INFINITE": int(c.input_format != "fp8_e4m3"),
            "T": c.tree_depth,
            "ROWS": c.rows,
            "G": c.stored_groups,
            "GBITS": _bits(c.stored_groups),
            "CYCLES": c.encoder_cycles,
            "PER_STAGE": c.tree_levels_per_stage,
            "FIRST_STAGE": c.threshold_stage(0),
            "PER_WORD": c.thresholds_per_word,
            "S": c.threshold_bits,
            "TERMS": c.terms,
            "WINDOW": c.window,
            "NODE": int(c.splits == "node"),
            "PLACE": max(1, c.place_bits),
            "BEHIND": c.sign_nodes + c.place_nodes,
            "WORDS": c.threshold_words,
            "WBITS": _bits(c.threshold_words),
            "LATE": _late(c),
            "LINES": int(not c.binary_codes),
        },
        defines=_macros(
            INTERLEAVED=c.encoder == "interleaved",
            GROUPS=c.stored_groups > 1,
            WORD=c.threshold_words > 1,
        ),
        properties=(
            Property("codes", "codes are those of the tree, for all inputs", 1),
            *_chosen((mantissa, Property("special", "NaN goes left and -0 is +0", 2))),
        ),
        # Words, one of them again, the walk, and the cycle that looks at the codes.
        frames=c.threshold_words + 1 + _late(c) + c.encoder_cycles + 1,
    )


def comparator_check(width: int) -> Check:
    """Signed comparison, for all operands."""
    return Check(
        name=f"comparator_{width}",
        unit=partial(Comparator, width=width),
        checker="comparator.v",
        parameters={"W": width},
        properties=(Property("greater", "1 exactly where value > threshold", 1),),
        frames=2,
    )


def output_check(name: str, config: AcceleratorConfig) -> Check:
    """The serialiser's stream, without bound."""
    c = config
    several = c.n_beats > 1
    return Check(
        name=f"output_{name}",
        unit=partial(OutputSerializer, c),
        checker="output.v",
        parameters={
            "BEATS": c.n_beats,
            "BBITS": _bits(c.n_beats),
            "BEAT": c.output_width * c.accumulator_bits,
        },
        defines=_macros(SEVERAL=several),
        properties=(
            Property("ready", "sums are taken when there are none, or with the last beat", 1),
            Property("valid", "valid exactly while beats are left", 2),
            Property("data", "every sum leaves once, in order", 3),
            Property("last", "last on the last beat only", 4),
            *_chosen(
                (several, Property("index", "the index is the beat's number", 5)),
                (several, Property("stable", "valid holds and the payload stays until ready", 6)),
            ),
        ),
    )


def skid_check(width: int) -> Check:
    """The skid buffer's streams, without bound."""
    return Check(
        name=f"skid_{width}",
        unit=partial(SkidBuffer, width=width),
        checker="skid.v",
        parameters={"W": width},
        properties=(
            Property(
                "ready", "an item is taken exactly while none is kept, whatever comes after", 1
            ),
            Property("valid", "valid exactly while an item is kept or offered", 2),
            Property("data", "every item leaves once, in order", 3),
            Property("stable", "valid holds and the payload stays until ready", 4),
            Property("full", "that there is no room is said a cycle before", 5),
        ),
    )


def stage_check(name: str, config: AcceleratorConfig) -> Check:
    """The output stage's streams, without bound."""
    c = config
    return Check(
        name=f"stage_{name}",
        unit=partial(OutputStage, c),
        checker="stage.v",
        parameters={
            "STAGES": c.output_stages,
            "BEATS": c.n_beats,
            "BBITS": _bits(c.n_beats),
            "IN": c.output_width * c.accumulator_bits,
            "OUT": c.output_width * c.result_bits,
        },
        defines=_macros(
            SEVERAL=c.n_beats > 1, CONSTANTS=c.output_constants, DOUBLE=c.double_buffer
        ),
        properties=(
            Property("ready", "ready unless the last result waits", 1),
            Property("valid", "every transfer leaves once", 2),
            Property("order", "in order, with its index and last", 3),
            Property("stable", "valid holds and the payload stays until ready", 4),
            *_chosen(
                (c.output_constants, Property("busy", "busy exactly while something is inside", 5))
            ),
        ),
    )


def decoder_check(name: str, config: AcceleratorConfig) -> Check:
    """Sums are exact, so accumulators never overflow."""
    c = config
    return Check(
        name=f"decoder_{name}",
        unit=partial(DecoderBlock, c),
        checker="decoder.v",
        parameters={
            "C": c.n_codebooks,
            "K": c.n_prototypes,
            "Q": c.parallel_codebooks,
            "ROWS": c.rows,
            "UNITS": c.decoders_per_word,
            "BITS": c.lut_bits,
            "ACC": c.accumulator_bits,
            "SUM_STAGES": c.sum_stages,
            "AHEAD": c.block_code_stages,
            "BINARY": int(c.binary_codes),
            "T": c.tree_depth,
            "CBITS": _bits(c.n_codebooks),
            "LATE": _late(c),
        },
        defines=_macros(
            BOOKS=c.stored_codebooks > 1, GROUPS=c.stored_groups > 1, FIRST=c.n_groups > 1
        ),
        properties=(
            Property("sums", "sums of table entries are exact, for all tables and codes", 1),
        ),
        frames=c.n_codebooks * c.n_prototypes + 1 + _late(c) + c.n_groups + c.sum_stages + 1,
    )


def join_check(n_terms: int) -> Check:
    """Sums of partial sums are exact."""
    bits, total = 6, 6 + ceil_log2(n_terms)
    return Check(
        name=f"join_{n_terms}",
        unit=lambda: JoinAdder(n_terms=n_terms, n_results=2, partial_bits=bits, sum_bits=total),
        checker="join.v",
        parameters={"TERMS": n_terms, "RESULTS": 2, "IN": bits, "OUT": total},
        properties=(Property("sums", "sums of partial sums are exact", 1),),
        frames=2,
    )


def tiled_check(name: str, tiles: dict[str, int]) -> Check:
    """Several units behind one output: nothing lost or doubled, without bound."""
    unit = AcceleratorConfig(
        n_codebooks=2, n_prototypes=2, n_outputs=1, lut_bits=2, input_format="int2"
    )
    c = TiledConfig(unit=unit, **tiles)
    ports = {key: len(port.signal) for key, port in HalutMatmul(unit).ports.items()}
    return Check(
        name=f"tiled_{name}",
        unit=partial(HalutTiled, c),
        checker="tiled.v",
        parameters={
            "PARTS": c.row_tiles * c.output_tiles,
            "TERMS": c.codebook_tiles,
            "OUT": c.accumulator_bits,
        },
        defines={
            "I_BITS": str(ports["i_data"]),
            "O_BITS": str(ports["o_data"]),
            "ADDRESS_BITS": str(ports["program_address"]),
            "DATA_BITS": str(ports["program_data"]),
        },
        properties=(
            Property("data", "every beat of every unit leaves once, joined with its like", 1),
            Property("last", "with its own last", 2),
            Property("stable", "valid holds and the payload stays until ready", 1),
        ),
    )
