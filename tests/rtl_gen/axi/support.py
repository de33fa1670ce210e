"""Configurations of `halut_axi` that tests share: one of every kind of accelerator."""

from __future__ import annotations

from typing import Any

from rtl_gen.axi.config import AxiConfig
from rtl_gen.config import AcceleratorConfig
from rtl_gen.front_end import FrontEndConfig
from rtl_gen.tiled_config import TiledConfig

_SMALL: dict[str, Any] = {
    "n_codebooks": 4, "n_prototypes": 4, "n_outputs": 3, "encoder": "pipelined",
    "input_format": "int8", "write_word_bits": 8,
}  # fmt: skip
_ODD: dict[str, Any] = {
    "n_codebooks": 6, "n_prototypes": 8, "n_outputs": 3, "rows": 2, "parallel_codebooks": 3,
    "encoder": "pipelined", "input_format": "int4", "output_format": "int8",
    "double_buffer": True,
}  # fmt: skip
_UNIT: dict[str, Any] = {
    "n_codebooks": 4, "n_prototypes": 4, "n_outputs": 6, "parallel_codebooks": 2,
    "encoder": "pipelined", "output_format": "fp16", "write_word_bits": 16, "skid_buffer": True,
}  # fmt: skip
_PIXELS: dict[str, Any] = {
    "n_codebooks": 2, "n_prototypes": 4, "n_outputs": 3, "rows": 2, "parallel_codebooks": 2,
    "encoder": "pipelined", "input_format": "int8",
}  # fmt: skip
_SUMS: dict[str, Any] = {
    **_SMALL,
    "rows": 2,
    "parallel_codebooks": 2,
    "terms": 3,
    "write_word_bits": 16,
}
_WINDOWS: dict[str, Any] = {**_SMALL, "window": 5, "splits": "node", "write_word_bits": 16}

CONFIGS = {
    # Three words per codebook and prototype: addresses of a program have gaps.
    "small": AxiConfig(core=AcceleratorConfig(**_SMALL)),
    # Sizes that are no powers of two, two programs, the narrowest bus.
    "odd": AxiConfig(
        core=AcceleratorConfig(**_ODD), data_bits=32, burst_beats=4, outstanding=2, address_bits=40
    ),
    # Eight units, the widest bus, one short burst at a time.
    "tiled": AxiConfig(
        core=TiledConfig(
            unit=AcceleratorConfig(**_UNIT), row_tiles=2, output_tiles=2, codebook_tiles=2
        ),
        data_bits=128, burst_beats=2, outstanding=1,
    ),
    "pixels": AxiConfig(
        core=FrontEndConfig(
            accelerator=AcceleratorConfig(**_PIXELS), height=3, width=4, channels=2
        ),
        data_bits=32,
    ),
    # The same with windows: nothing is gathered.
    "pixels, windows": AxiConfig(
        core=FrontEndConfig(
            accelerator=AcceleratorConfig(**_PIXELS, window=9, skid_buffer=True),
            height=3, width=4, channels=2,
        ),
    ),
    "stream": AxiConfig(
        core=AcceleratorConfig(**_ODD), bus="stream", control="wishbone", data_bits=32
    ),
    # Levels of a tree compare sums: input transfers are wider, signs are among the thresholds.
    "sums": AxiConfig(core=AcceleratorConfig(**_SUMS)),
    # Windows: transfers are wider, and places are beside the thresholds.
    "windows": AxiConfig(core=AcceleratorConfig(**_WINDOWS)),
    "wishbone": AxiConfig(core=AcceleratorConfig(**_SMALL), control="wishbone", data_bits=128),
}  # fmt: skip
