# amaranth: UnusedElaboratable=no
"""What `make formal` proves: the configurations of each unit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flow.formal.checkers import (
    comparator_check,
    control_check,
    decoder_check,
    encoder_check,
    join_check,
    output_check,
    stage_check,
    tiled_check,
)
from flow.formal.prove import Check
from flow.formal.still import StillCheck
from flow.formal.whole import BoundCheck, NetlistCheck
from rtl_gen.config import AcceleratorConfig
from rtl_gen.units.decoder import DecoderBlock
from rtl_gen.units.encoder import Encoder
from rtl_gen.units.output_stage import ByteConverter, HalfConverter

__all__ = ["all_checks"]

Fields = dict[str, Any]


def _configurations(
    base: Fields, variants: dict[str, Fields]
) -> Iterator[tuple[str, AcceleratorConfig]]:
    for name, fields in variants.items():
        yield name, AcceleratorConfig(**{**base, **fields})


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
