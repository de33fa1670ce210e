# amaranth: UnusedElaboratable=no
"""What `make formal` proves: units, configurations, and the checkers for them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flow.formal.prove import Check, Property
from flow.formal.still import StillCheck
from flow.formal.whole import BoundCheck, NetlistCheck
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.tiled import HalutTiled, JoinAdder
from rtl_gen.tiled_config import TiledConfig
from rtl_gen.top import HalutMatmul
from rtl_gen.units.comparator import Comparator
from rtl_gen.units.control import Control
from rtl_gen.units.decoder import DecoderBlock
from rtl_gen.units.encoder import Encoder
from rtl_gen.units.output_stage import ByteConverter, HalfConverter, OutputStage
from rtl_gen.units.serializer import OutputSerializer

__all__ = ["all_checks"]

Fields = dict[str, Any]


def _configurations(
    base: Fields, variants: dict[str, Fields]
) -> Iterator[tuple[str, AcceleratorConfig]]:
    for name, fields in variants.items():
        yield name, AcceleratorConfig(**{**base, **fields})


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


def control_check(name: str, config: AcceleratorConfig) -> Check:
    """The handshakes and the order of transfers, without bound."""
    c = config
    defines = {}
    properties = list(_CONTROL)
    if c.output_constants:
        defines["BUSY"] = "1"
    if c.encoder == "interleaved":
        defines["INTERLEAVED"] = "1"
    if c.encoder == "interleaved" and c.tree_depth > 1:
        properties.append(Property("phase", "the walkers' turns go on with every step", 8))
    if c.double_buffer:
        defines["DOUBLE"] = "1"
    if c.double_buffer and c.output_constants:
        defines["ACTIVE"] = "1"
        properties.append(Property("bank", "the bank is that of the last switch", 13))
    if c.stored_groups > 1:
        defines["GROUPS"] = "1"
        properties.append(Property("group", "thresholds are fetched for the right group", 4))
        properties.append(Property("look_up", "words are looked up in the right group", 5))
        if c.memory == "lutram":
            defines["BINARY"] = "1"
    if c.n_groups > 1:
        defines["FIRST"] = "1"
        properties.append(Property("first", "a new sum begins with a row group's first step", 6))
    return Check(
        name=f"control_{name}",
        unit=partial(Control, c),
        checker="control.v",
        parameters={
            "STAGES": c.pipeline_stages,
            "G": c.n_groups,
            "GBITS": max(1, ceil_log2(c.stored_groups)),
            "BANKS": c.n_banks,
            "LEVELS": c.tree_depth,
            "PER_STAGE": c.tree_levels_per_stage,
            "LOOK_UP": c.encoder_cycles,
        },
        defines=defines,
        properties=tuple(properties),
    )


def _controls() -> Iterator[Check]:
    base: Fields = {
        "n_codebooks": 4,
        "n_prototypes": 4,
        "n_outputs": 2,
        "input_format": "int8",
    }
    variants: dict[str, Fields] = {
        "g4_interleaved": {},
        "g4_pipelined": {"encoder": "pipelined"},
        "g1_interleaved": {"parallel_codebooks": 4},
        "g1_pipelined": {"parallel_codebooks": 4, "encoder": "pipelined"},
        "g3_k16": {"n_codebooks": 3, "n_prototypes": 16},
        "g3_two_levels": {
            "n_codebooks": 6, "parallel_codebooks": 2, "n_prototypes": 16, "encoder": "pipelined",
            "tree_levels_per_stage": 2,
        },
        "g1_double": {"parallel_codebooks": 4, "double_buffer": True},
        "g3_double": {"n_codebooks": 3, "double_buffer": True, "encoder": "pipelined"},
        "g4_double": {"double_buffer": True, "output_format": "int8"},
        "g4_constants": {"output_format": "fp16"},
        "g4_lutram": {"memory": "lutram"},
        "g3_lutram_double": {"n_codebooks": 3, "memory": "lutram", "double_buffer": True},
    }  # fmt: skip
    for name, config in _configurations(base, variants):
        yield control_check(name, config)


_MANTISSA = {"fp16": 10, "bf16": 7, "fp8_e5m2": 2, "fp8_e4m3": 3}


def encoder_check(name: str, config: AcceleratorConfig) -> Check:
    """Codes are those of the tree for every input and all thresholds."""
    c = config
    mantissa = _MANTISSA.get(c.input_format, 0)
    properties = [Property("codes", "codes are those of the tree, for all inputs", 1)]
    if mantissa:
        properties.append(Property("special", "NaN goes left and -0 is +0", 2))
    defines = {}
    if c.encoder == "interleaved":
        defines["INTERLEAVED"] = "1"
    if c.stored_groups > 1:
        defines["GROUPS"] = "1"
    if c.threshold_words > 1:
        defines["WORD"] = "1"
    return Check(
        name=f"encoder_{name}",
        unit=partial(Encoder, c),
        checker="encoder.v",
        parameters={
            "W": c.input_bits,
            "MANTISSA": mantissa,
            "INFINITE": int(c.input_format != "fp8_e4m3"),
            "T": c.tree_depth,
            "ROWS": c.rows,
            "G": c.stored_groups,
            "GBITS": max(1, ceil_log2(c.stored_groups)),
            "CYCLES": c.encoder_cycles,
            "PER_STAGE": c.tree_levels_per_stage,
            "PER_WORD": c.thresholds_per_word,
            "WORDS": c.threshold_words,
            "WBITS": max(1, ceil_log2(c.threshold_words)),
            "LATE": int(c.memory == "latch"),
            "LINES": int(c.memory != "lutram"),
        },
        defines=defines,
        properties=tuple(properties),
        # Words, one that disturbs, a pause, the walk, and the cycle that looks at the codes.
        frames=c.threshold_words + 2 + c.encoder_cycles + 1,
    )


def _encoders() -> Iterator[Check]:
    base: Fields = {
        "n_codebooks": 1,
        "n_prototypes": 4,
        "n_outputs": 1,
        "encoder": "pipelined",
    }
    variants: dict[str, Fields] = {
        "int2_k2": {"n_prototypes": 2, "input_format": "int2"},
        "int5_k4": {"input_format": "int5"},
        "int8_k16": {"n_prototypes": 16, "input_format": "int8"},
        "int16_k8": {"n_prototypes": 8, "input_format": "int16"},
        "fp16_k16": {"n_prototypes": 16, "input_format": "fp16"},
        "bf16_k16_two_levels": {
            "n_prototypes": 16, "input_format": "bf16", "tree_levels_per_stage": 2
        },
        "fp8_e4m3_k16_three_levels": {
            "n_prototypes": 16, "input_format": "fp8_e4m3", "tree_levels_per_stage": 3
        },
        "fp8_e5m2_k8_one_stage": {
            "n_prototypes": 8, "input_format": "fp8_e5m2", "tree_levels_per_stage": 3
        },
        "fp16_k16_interleaved": {
            "n_prototypes": 16, "input_format": "fp16", "encoder": "interleaved"
        },
        "fp8_e4m3_k4_interleaved_g3": {
            "n_codebooks": 3, "input_format": "fp8_e4m3", "encoder": "interleaved"
        },
        "int8_k8_interleaved_g4_rows2": {
            "n_codebooks": 4, "n_prototypes": 8, "rows": 2, "input_format": "int8",
            "encoder": "interleaved",
        },
        "int4_k4_g2_words3": {
            "n_codebooks": 2, "input_format": "int4", "write_word_bits": 4, "lut_bits": 4
        },
        "int4_k8_ff_g3": {
            "n_codebooks": 3, "n_prototypes": 8, "input_format": "int4", "memory": "ff",
            "write_word_bits": 12, "lut_bits": 4,
        },
        "fp8_e5m2_k4_lutram_g3": {
            "n_codebooks": 3, "input_format": "fp8_e5m2", "memory": "lutram"
        },
        "int6_k4_double": {"input_format": "int6", "double_buffer": True},
    }  # fmt: skip
    for name, config in _configurations(base, variants):
        yield encoder_check(name, config)


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
    properties = [
        Property("ready", "sums are taken when there are none, or with the last beat", 1),
        Property("valid", "valid exactly while beats are left", 2),
        Property("data", "every sum leaves once, in order", 3),
        Property("last", "last on the last beat only", 4),
    ]
    if c.n_beats > 1:
        properties += [
            Property("index", "the index is the beat's number", 5),
            Property("stable", "valid holds and the payload stays until ready", 6),
        ]
    return Check(
        name=f"output_{name}",
        unit=partial(OutputSerializer, c),
        checker="output.v",
        parameters={
            "BEATS": c.n_beats,
            "BBITS": max(1, ceil_log2(c.n_beats)),
            "BEAT": c.output_width * c.accumulator_bits,
        },
        defines={"SEVERAL": "1"} if c.n_beats > 1 else {},
        properties=tuple(properties),
    )


def stage_check(name: str, config: AcceleratorConfig) -> Check:
    """The output stage's streams, without bound."""
    c = config
    defines = {}
    properties = [
        Property("ready", "ready unless the last result waits", 1),
        Property("valid", "every transfer leaves once", 2),
        Property("order", "in order, with its index and last", 3),
        Property("stable", "valid holds and the payload stays until ready", 4),
    ]
    if c.n_beats > 1:
        defines["SEVERAL"] = "1"
    if c.output_constants:
        defines["CONSTANTS"] = "1"
        properties.append(Property("busy", "busy exactly while something is inside", 5))
    if c.double_buffer:
        defines["DOUBLE"] = "1"
    return Check(
        name=f"stage_{name}",
        unit=partial(OutputStage, c),
        checker="stage.v",
        parameters={
            "STAGES": c.output_stages,
            "BEATS": c.n_beats,
            "BBITS": max(1, ceil_log2(c.n_beats)),
            "IN": c.output_width * c.accumulator_bits,
            "OUT": c.output_width * c.result_bits,
        },
        defines=defines,
        properties=tuple(properties),
    )


def _streams() -> Iterator[Check]:
    base: Fields = {
        "n_codebooks": 4, "n_prototypes": 4, "n_outputs": 4, "lut_bits": 4,
        "input_format": "int8", "parallel_codebooks": 4,
    }  # fmt: skip
    outputs: dict[str, Fields] = {
        "1_beat": {"outputs_per_cycle": 4},
        "2_beats": {"outputs_per_cycle": 2},
        "3_beats": {"n_outputs": 3, "outputs_per_cycle": 1},
        "4_beats": {"outputs_per_cycle": 1},
        "6_beats_rows2": {"rows": 2, "n_outputs": 3, "outputs_per_cycle": 1},
    }
    for name, config in _configurations(base, outputs):
        yield output_check(name, config)
    stages: dict[str, Fields] = {
        "int8_1_beat": {"n_outputs": 1, "output_format": "int8"},
        "int8_4_beats": {"outputs_per_cycle": 1, "output_format": "int8", "relu": True},
        "int8_double": {"n_outputs": 1, "output_format": "int8", "double_buffer": True},
        "fp16_2_beats": {"n_outputs": 2, "outputs_per_cycle": 1, "output_format": "fp16"},
        "single_2_beats": {
            "n_outputs": 2, "outputs_per_cycle": 1, "output_format": "fp16", "lut_format": "fp16",
            "lut_bits": 16,
        },
    }  # fmt: skip
    for name, config in _configurations(base, stages):
        yield stage_check(name, config)


def decoder_check(name: str, config: AcceleratorConfig) -> Check:
    """Sums are exact, so accumulators never overflow."""
    c = config
    defines = {}
    properties = [Property("sums", "sums of table entries are exact, for all tables and codes", 1)]
    if c.stored_codebooks > 1:
        defines["BOOKS"] = "1"
    if c.stored_groups > 1:
        defines["GROUPS"] = "1"
    if c.n_groups > 1:
        defines["FIRST"] = "1"
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
            "T": c.tree_depth,
            "CBITS": max(1, ceil_log2(c.n_codebooks)),
            "LATE": int(c.memory == "latch"),
        },
        defines=defines,
        properties=tuple(properties),
        frames=c.n_codebooks * c.n_prototypes + 1 + c.n_groups + c.sum_stages + 1,
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


def _sums() -> Iterator[Check]:
    base: Fields = {
        "n_prototypes": 2,
        "n_outputs": 1,
        "lut_bits": 4,
        "input_format": "int4",
    }
    decoders: dict[str, Fields] = {
        "c4_q1": {"n_codebooks": 4},
        "c3_q3": {"n_codebooks": 3, "parallel_codebooks": 3},
        "c6_q2_rows2": {"n_codebooks": 6, "parallel_codebooks": 2, "rows": 2, "lut_bits": 3},
        "c8_q8": {
            "n_codebooks": 8, "parallel_codebooks": 8, "look_up_adder_levels": 0,
            "adder_levels_per_stage": 1,
        },
        "c2_q1_ff_units2": {"n_codebooks": 2, "n_outputs": 2, "memory": "ff", "n_prototypes": 4},
    }  # fmt: skip
    for name, config in _configurations(base, decoders):
        yield decoder_check(name, config)
    yield from (join_check(n_terms) for n_terms in (2, 3, 4))
    yield tiled_check("2_codebook_tiles", {"codebook_tiles": 2})
    yield tiled_check("3_codebook_tiles_2_row_tiles", {"codebook_tiles": 3, "row_tiles": 2})
    yield tiled_check("2_output_tiles", {"output_tiles": 2})


def _still() -> Iterator[StillCheck]:
    base: Fields = {
        "n_codebooks": 4,
        "n_prototypes": 4,
        "n_outputs": 2,
        "input_format": "int8",
    }
    variants: dict[str, Fields] = {
        "interleaved": {},
        "pipelined": {"encoder": "pipelined"},
        "rows2_ff": {"rows": 2, "memory": "ff"},
    }
    for name, config in _configurations(base, variants):
        for part, unit in (("encoder", Encoder), ("decoders", DecoderBlock)):
            yield StillCheck(
                name=f"still_{part}_{name}",
                unit=partial(unit, config),
                inputs=("enable", "write_enable"),
            )
    for part, converter in (("int8", ByteConverter), ("fp16", HalfConverter)):
        yield StillCheck(
            name=f"still_converter_{part}",
            unit=partial(converter, width=10, relu=False),
            inputs=("enable",),
        )


def _small() -> AcceleratorConfig:
    """The configuration of configs/small.yaml."""
    return AcceleratorConfig(
        n_codebooks=4, n_prototypes=4, n_outputs=2, encoder="pipelined", input_format="int8"
    )


def all_checks() -> list[Check | StillCheck | BoundCheck | NetlistCheck]:
    """Every check of the full set."""
    return [
        BoundCheck(),
        NetlistCheck("netlist_small", _small()),
        *_controls(),
        *(comparator_check(width) for width in range(2, 17)),
        *_encoders(),
        *_streams(),
        *_sums(),
        *_still(),
    ]
