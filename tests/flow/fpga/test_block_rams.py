"""Which SRAMs become block RAMs: those with most words, as long as the part has some."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from flow.designs.design import accelerator
from flow.fpga.block_rams import Memory, block_ram_commands, read_memories
from flow.fpga.implement import FpgaOptions, implement
from flow.fpga.parts import part
from rtl_gen import AcceleratorConfig

SHAPES = ((512, 36), (1024, 18))


def _styles(memories: list[Memory], n_block_rams: int) -> dict[str, str]:
    styles = {}
    for command in block_ram_commands(memories, n_block_rams, SHAPES):
        *_, style, name = command.split()
        styles[name] = style.strip('"')
    return styles


@pytest.mark.parametrize(
    ("words", "bits", "needed"), [(16, 128, 4), (512, 36, 1), (513, 18, 1), (1024, 37, 3)]
)
def test_block_rams_of_a_memory(words: int, bits: int, needed: int) -> None:
    assert Memory("a", words, bits).block_rams(SHAPES) == needed


def test_long_ones_come_first() -> None:
    memories = [
        Memory("unit.lane0.row0_sram.words", 16, 72),
        Memory("unit.lane1.row0_sram.words", 256, 72),
        Memory("unit.lane2.row0_sram.words", 16, 36),
    ]
    assert _styles(memories, 3) == {
        "c:unit.lane1.row0_sram.words": "block",
        "c:unit.lane0.row0_sram.words": "distributed",
        "c:unit.lane2.row0_sram.words": "block",
    }


def test_others_are_left_to_yosys_and_counted() -> None:
    sram = Memory("a.row0_sram.words", 16, 36)
    rom, short = Memory("results", 256, 36), Memory("fifo", 16, 36)
    assert _styles([sram, rom], 1) == {"c:a.row0_sram.words": "distributed"}
    assert _styles([sram, rom], 2) == {"c:a.row0_sram.words": "block"}
    assert _styles([sram, short], 1) == {"c:a.row0_sram.words": "block"}
    placed = dataclasses.replace(rom, style="distributed")
    assert _styles([sram, placed], 1) == {"c:a.row0_sram.words": "block"}


def test_memories_are_read(tmp_path: Path) -> None:
    cell = {"parameters": {"SIZE": "10000", "WIDTH": "1000"}, "attributes": {"ram_style": "block"}}
    content = {"modules": {"top": {"cells": {"a.row0_sram.words": cell}}}}
    (tmp_path / "memories.json").write_text(json.dumps(content))
    (found,) = read_memories(tmp_path)
    assert found == Memory("a.row0_sram.words", 16, 8, "block") and found.is_sram


@pytest.mark.flow
@pytest.mark.needs("pyosys", "nextpnr-ecp5")
def test_one_of_two_srams_is_a_block_ram(tmp_path: Path) -> None:
    # Two lanes' tables for one block RAM.
    design = accelerator(
        AcceleratorConfig(
            name="srams", n_codebooks=2, n_prototypes=4, n_outputs=2, parallel_codebooks=2,
            encoder="addressed", input_format="int4", memory="sram",
        )
    )  # fmt: skip
    place = dataclasses.replace(part("ecp5-25k"), block_rams=1)
    metrics, folder = implement(design, place, FpgaOptions(wide_luts=False), tmp_path)
    assert metrics.values["halut__fpga__block_rams"] == 1
    assert metrics.values["halut__fpga__lut_rams"] > 0
    assert "-nowidelut" in (folder / "map.ys").read_text()
    # No logic for a word that is written while it is read.
    assert "no_rw_check" in (folder / "memories.ys").read_text()
