"""What lies in memory, against lists that are made word by word."""

from __future__ import annotations

import re

import numpy as np
import pytest

from halut.errors import HalutError
from rtl_gen import reference
from rtl_gen.axi.descriptor import FIELDS, OPCODES, descriptor
from rtl_gen.axi.image import loads, result_array, row_bytes
from rtl_gen.image import program_image
from rtl_gen.tiled_config import result_order
from tests.rtl_gen.axi.support import CONFIGS


@pytest.mark.parametrize("name", ["small", "odd", "tiled", "sums", "windows"])
@pytest.mark.parametrize("bank", [0, 1])
def test_loads(name: str, bank: int) -> None:
    """The words of all loads are those of the program's image, by their addresses."""
    config = CONFIGS[name]
    if bank and not config.double_buffer:
        pytest.skip("one program only")
    program = reference.random_program(config.accelerator, np.random.default_rng(1))
    image = program_image(config.accelerator, program, bank)
    found = []
    parts = loads(config, program, bank)
    for part in parts:
        size = part.word_bytes
        words = [part.data[k : k + size] for k in range(0, len(part.data), size)]
        assert part.opcode == "load" and len(words) == part.count
        found += zip(part.addresses(), (int.from_bytes(w, "little") for w in words), strict=True)
    assert found == image
    # One for each region and unit, not one for each word.
    units = config.core.n_units if name == "tiled" else 1
    assert len(parts) <= 3 * units


def test_descriptor() -> None:
    raw = descriptor("run", source=0x12345678, count=3, tag=0xBEEF, end=1)
    whole = int.from_bytes(raw, "little")
    value = {f.name: whole >> f.first & ((1 << f.bits) - 1) for f in FIELDS}
    given = {"opcode": OPCODES["run"][0], "source": 0x12345678, "count": 3, "tag": 0xBEEF, "end": 1}
    assert value == {**dict.fromkeys(value, 0), **given}
    with pytest.raises(HalutError, match=re.escape("tag must be in [0, 65536), not 65536")):
        descriptor("run", tag=1 << 16)
    with pytest.raises(HalutError, match="opcode must be one of load, run, switch, gather"):
        descriptor("jump")
    with pytest.raises(HalutError, match="a field must be one of"):
        descriptor("run", target=1)


def test_rows() -> None:
    """One row in parallel: the array as it is. Several: transfer by transfer."""
    small, odd = CONFIGS["small"], CONFIGS["odd"]
    rng = np.random.default_rng(2)
    words = rng.integers(-128, 128, (5, 4, 2), dtype=np.int16)
    assert row_bytes(small, words) == words.astype(np.int8).tobytes()
    words = rng.integers(-8, 8, (3, 6, 3), dtype=np.int16)
    data = np.frombuffer(row_bytes(odd, words), dtype=np.int8)
    assert len(data) == 2 * odd.item_bytes
    for row, codebook, level in np.ndindex(words.shape):
        transfer, lane = divmod(codebook, 3)
        place = (((row // 2 * 2 + transfer) * 2 + row % 2) * 3 + lane) * 3 + level
        assert data[place] == words[row, codebook, level]


def test_results() -> None:
    config = CONFIGS["tiled"]
    a = config.accelerator
    values = np.random.default_rng(3).standard_normal((4, a.n_outputs)).astype(np.float16)
    flat = values.view(np.int16).reshape(2, -1)[:, result_order(a).ravel()]
    given = result_array(config, flat.tobytes(), 3)
    assert given.dtype == np.float16 and np.array_equal(given, values[:3])
    with pytest.raises(HalutError, match="results must be whole row groups of 48 bytes"):
        result_array(config, bytes(47), 1)
