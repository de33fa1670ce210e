# amaranth: UnusedElaboratable=no
"""What `make formal` proves: the configurations of each unit, those in ``checks.yaml`` first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flow.formal import axi, checkers
from flow.formal.prove import Check
from flow.formal.still import StillCheck
from flow.formal.whole import BoundCheck, NetlistCheck
from halut.checks import read_yaml
from rtl_gen.config import AcceleratorConfig
from rtl_gen.units.decoder import DecoderBlock
from rtl_gen.units.encoder import Encoder
from rtl_gen.units.output_stage import ByteConverter, HalfConverter

__all__ = ["all_checks"]

_FILE = Path(__file__).with_suffix(".yaml")


def _still(name: str, config: AcceleratorConfig) -> Iterator[StillCheck]:
    for part, unit in (("encoder", Encoder), ("decoders", DecoderBlock)):
        yield StillCheck(
            name=f"still_{part}_{name}",
            unit=partial(unit, config),
            inputs=("enable", "write_enable"),
        )


def _still_converters() -> Iterator[StillCheck]:
    for part, converter in (("int8", ByteConverter), ("fp16", HalfConverter)):
        yield StillCheck(
            name=f"still_converter_{part}",
            unit=partial(converter, width=10, relu=False),
            inputs=("enable",),
        )


def all_checks() -> list[Check | StillCheck | BoundCheck | NetlistCheck]:
    """Every check of the full set."""
    configs = {
        kind: [
            (name, AcceleratorConfig(**{**part["base"], **fields}))
            for name, fields in part["variants"].items()
        ]
        for kind, part in read_yaml(_FILE, "the list of proofs").items()
    }
    tiled = checkers.tiled_check
    return [
        BoundCheck(),
        *(NetlistCheck(f"netlist_{name}", config) for name, config in configs["netlist"]),
        *(checkers.control_check(*each) for each in configs["control"]),
        *(checkers.comparator_check(width) for width in range(2, 17)),
        *(checkers.encoder_check(*each) for each in configs["encoder"]),
        *(checkers.output_check(*each) for each in configs["output"]),
        *(checkers.skid_check(width) for width in (1, 8)),
        *(checkers.stage_check(*each) for each in configs["stage"]),
        *(checkers.decoder_check(*each) for each in configs["decoder"]),
        *(checkers.join_check(n_terms) for n_terms in (2, 3, 4)),
        tiled("2_codebook_tiles", {"codebook_tiles": 2}),
        tiled("3_codebook_tiles_2_row_tiles", {"codebook_tiles": 3, "row_tiles": 2}),
        tiled("2_output_tiles", {"output_tiles": 2}),
        *(check for each in configs["still"] for check in _still(*each)),
        *_still_converters(),
        axi.lite_check(),
        axi.sink_check(),
        axi.read_check(4, 2),
        axi.read_check(2, 1),
        axi.write_check(4, 2),
        axi.write_check(2, 1),
    ]
