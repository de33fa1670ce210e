"""The configuration of a block: rules, sizes of what lies in memory, identity."""

from __future__ import annotations

import dataclasses
import re

import pytest

from halut.errors import HalutError
from rtl_gen.axi.config import AxiConfig
from tests.rtl_gen.axi.support import CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_dictionary(name: str) -> None:
    config = CONFIGS[name]
    assert AxiConfig.from_dict(config.to_dict()) == config
    assert AxiConfig.from_dict(config.to_dict()).hash == config.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bus": "usb"}, "bus must be one of master, stream, not 'usb'"),
        ({"control": "apb"}, "control must be one of axi-lite, wishbone, not 'apb'"),
        ({"data_bits": 48}, "data_bits must be a power of two, not 48"),
        ({"data_bits": 256}, "data_bits must be"),
        ({"address_bits": 31}, "address_bits must be"),
        ({"burst_beats": 24}, "burst_beats must be a power of two, not 24"),
        ({"outstanding": 3}, "outstanding must be a power of two, not 3"),
        ({"bus": "stream", "outstanding": 8}, "outstanding must be left out for streams, which"),
        ({"bus": "stream", "address_bits": 40}, "address_bits must be left out for streams, which"),
    ],
)
def test_rules(change: dict, message: str) -> None:
    with pytest.raises(HalutError, match=re.escape(message)):
        dataclasses.replace(CONFIGS["small"], **change)


def test_sizes() -> None:
    """Hand-computed."""
    small, odd, tiled, pixels = (CONFIGS[name] for name in ("small", "odd", "tiled", "pixels"))
    # 4 transfers of 2 levels of a byte; 3 results of 10 bits.
    assert (small.item_bytes, small.result_bytes, small.program_word_bytes) == (8, 6, 4)
    # 2 transfers of 2 rows, 3 codebooks, 3 levels; 2 rows of 3 bytes.
    assert (odd.item_bytes, odd.result_bytes) == (36, 6)
    # 2 transfers of 2 rows, 4 codebooks, 2 levels of 2 bytes; 2 rows of 12 half floats.
    assert (tiled.item_bytes, tiled.result_bytes) == (64, 48)
    # 2 transfers of 2 rows, 2 codebooks, 2 levels of 3 bytes; 2 rows of 3 results of 10 bits.
    sums = CONFIGS["sums"]
    assert (sums.item_bytes, sums.result_bytes) == (48, 12)
    # 12 pixels of 2 channels; 6 row groups of 2 rows of 3 results of 9 bits.
    assert (pixels.item_bytes, pixels.item_groups, pixels.result_bytes) == (24, 6, 72)


def test_identity() -> None:
    """Programs do not depend on the bus, so neither does the hash that they are made for."""
    small = CONFIGS["small"]
    wide = dataclasses.replace(small, data_bits=128)
    assert wide.core_hash == small.core_hash and wide.hash != small.hash
    assert wide.slug != small.slug
