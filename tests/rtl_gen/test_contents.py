"""The contents of the memories, word by word, are the inverse of the program image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from halut.errors import HalutError
from rtl_gen import AcceleratorConfig, TiledConfig, program_image, reference
from rtl_gen.contents import Place, ProgramContents
from rtl_gen.image import switch_word
from rtl_gen.tiled_config import AnyConfig

BASE = AcceleratorConfig(
    n_codebooks=6, n_prototypes=8, n_outputs=6, rows=2, parallel_codebooks=3, write_word_bits=24,
    encoder="pipelined", input_format="int5", lut_bits=4,
)  # fmt: skip
CONFIGS: dict[str, AnyConfig] = {
    "integers": BASE,
    "double": dataclasses.replace(BASE, double_buffer=True, output_format="int8", relu=True),
    "bytes": dataclasses.replace(BASE, output_format="int8"),
    "halves": dataclasses.replace(BASE, output_format="fp16", input_format="fp16"),
    "half tables": dataclasses.replace(
        BASE,
        acc_bits=None,
        lut_format="fp16",
        lut_bits=16,
        output_format="fp16",
        input_format="fp8_e4m3",
    ),
    "bf16": dataclasses.replace(BASE, input_format="bf16", relu=True),
    "tiled": TiledConfig(
        unit=dataclasses.replace(BASE, double_buffer=True, output_format="fp16"),
        output_tiles=3,
        codebook_tiles=2,
        row_tiles=2,
    ),
}


@pytest.mark.parametrize("corner", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_image_gives_its_program(name: str, corner: bool) -> None:
    """In any order, and whatever the other bank holds."""
    config = CONFIGS[name]
    rng = np.random.default_rng(1)
    contents = ProgramContents(config)
    banks = range(2 if "double" in name or name == "tiled" else 1)
    programs = [reference.random_program(config, rng, corner) for _ in banks]
    words = [w for bank in banks for w in program_image(config, programs[bank], bank)]
    for k in rng.permutation(len(words)):
        assert contents.write(*words[k]) == contents.place(words[k][0]) is not None
    for bank in banks:
        found, program = contents.program(bank), programs[bank]
        # Bits, since -0 is stored as +0 and equals it.
        assert np.array_equal(found.threshold_values, program.threshold_values)
        assert found.lut.tobytes() == program.lut.tobytes()
        assert program_image(config, found, bank) == program_image(config, program, bank)


def test_one_word_changes_its_place_only() -> None:
    """By hand: a table word of block 1, and the second threshold word of codebook 5."""
    config = dataclasses.replace(BASE, write_word_bits=12)  # 3 outputs, 2 thresholds a word
    contents = ProgramContents(config)
    place = contents.write(config.lut_address(4, 7, 1), 0x8F1)
    assert place == Place(region="lut", bank=0, codebook=4, prototype=7, output=3)
    lut = contents.program().lut
    assert lut[3:, 4, 7].tolist() == [1, -1, -8]
    assert np.count_nonzero(lut) == 3
    contents.write(config.threshold_address(5, 1), 0b10000_01111)
    thresholds = contents.program().thresholds
    assert thresholds[5].tolist() == [0, 0, 15, -16, 0, 0, 0]
    assert np.count_nonzero(thresholds) == 2


def test_addresses_that_stand_for_nothing() -> None:
    config = CONFIGS["tiled"]
    assert isinstance(config, TiledConfig)
    contents = ProgramContents(config)
    unit = config.unit
    for address in (
        unit.lut_address(12, 0, 0),  # 12 codebooks in two banks
        unit.threshold_address(12, 0),
        unit.output_address(12, 0),
        unit.output_address(0, 0) | unit.threshold_address(0, 0),  # region 3
        config.tile_address(3, 0),
        config.tile_address(0, 1) | unit.output_address(0, 0),
    ):
        assert contents.write(address, 1) is None
    assert not contents.program().lut.any()


def test_switch_and_reset() -> None:
    config = CONFIGS["double"]
    contents = ProgramContents(config)
    assert contents.write(*switch_word(config, 1)) == Place(region="switch", bank=1)
    assert contents.active_bank == 1
    contents.reset()
    assert contents.active_bank == 0


def test_contents_that_are_no_program() -> None:
    config = CONFIGS["halves"]
    contents = ProgramContents(config)
    contents.write(config.threshold_address(0, 0), 0x8000)  # the key of NaN
    with pytest.raises(HalutError, match="thresholds must not be NaN"):
        contents.program()
