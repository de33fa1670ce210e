"""The file of programs: what a driver finds in it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from halut.tiles import tile
from rtl_gen import reference
from rtl_gen.__main__ import main
from rtl_gen.axi.descriptor import FIELDS, OPCODES
from rtl_gen.axi.image import loads
from rtl_gen.axi.image_file import ENTRY_FIELDS, HEAD_FIELDS, IMAGE_MAGIC, image_file
from tests.rtl_gen.axi.support import CONFIGS


def _descriptor(image: bytes, offset: int) -> dict[str, int]:
    whole = int.from_bytes(image[offset : offset + 32], "little")
    return {f.name: whole >> f.first & ((1 << f.bits) - 1) for f in FIELDS}


def _entries(image: bytes) -> list[dict[str, int]]:
    words = struct.unpack_from(f"<{len(image) // 4}I", image)
    head = dict(zip(HEAD_FIELDS, words, strict=False))
    assert head["magic"] == IMAGE_MAGIC and head["bytes"] == len(image) and head["base"] == 0
    size, begin = len(ENTRY_FIELDS), len(HEAD_FIELDS)
    parts = [words[begin + k * size : begin + (k + 1) * size] for k in range(head["programs"])]
    return [dict(zip(ENTRY_FIELDS, part, strict=True)) for part in parts]


@pytest.mark.parametrize("name", ["small", "odd"])
def test_programs(name: str) -> None:
    """Chains end where they must, and lead to the words of every program."""
    config = CONFIGS[name]
    rng = np.random.default_rng(4)
    programs = [reference.random_program(config.accelerator, rng) for _ in range(3)]
    image = image_file(config, programs)
    entries = _entries(image)
    assert len(entries) == 3
    for k, (part, program) in enumerate(zip(entries, programs, strict=True)):
        offset = part["first"]
        for load in loads(config, program, k % 2 if config.double_buffer else 0):
            given = _descriptor(image, offset)
            data = image[given["source"] : given["source"] + len(load.data)]
            assert data == load.data and given["count"] == load.count
            assert given["source"] % 64 == 0
            last = offset == part["first"] + 32 * (part["loads"] - 1)
            assert given["end"] == int(last)
            offset = given["next"]
        if config.double_buffer:
            given = _descriptor(image, offset)
            assert given["opcode"] == OPCODES["switch"][0] and given["end"] == 1
        assert _descriptor(image, part["run"])["opcode"] == OPCODES["run"][0]
        assert (part["layer"], part["outputs"]) == (k, config.accelerator.n_outputs)


def test_large_programs_are_cut() -> None:
    config = CONFIGS["small"]
    program = golden.random_program(np.random.default_rng(1), 6, 4, 5, "int8")
    entries = _entries(image_file(config, [program]))
    tiling = tile(program, 4, 3)
    assert len(entries) == len(tiling.tiles) == 4
    found = [(p["codebook_part"], p["first_output"], p["outputs"], p["parts"]) for p in entries]
    assert found == [(d, 3 * m, min(3, 5 - 3 * m), 2) for d in range(2) for m in range(2)]


def test_rules() -> None:
    program = reference.random_program(CONFIGS["odd"].accelerator, np.random.default_rng(1))
    with pytest.raises(HalutError, match="bus must be master for an image, not stream"):
        image_file(CONFIGS["stream"], [program])
    with pytest.raises(HalutError, match="programs must be at least one"):
        image_file(CONFIGS["odd"], [])
    with pytest.raises(HalutError, match=r"program\.n_prototypes must be"):
        deeper = golden.random_program(np.random.default_rng(1), 4, 8, 3, "int8")
        image_file(CONFIGS["small"], [deeper])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).parents[3] / "configs" / "small.yaml"
    program = golden.random_program(np.random.default_rng(1), 4, 4, 2, "int8")
    program.save(tmp_path / "p.npz")
    image = tmp_path / "a.bin"
    assert main(["image", "--config", str(config), str(tmp_path / "p.npz"), "-o", str(image)]) == 0
    assert len(_entries(image.read_bytes())) == 1
    assert f"wrote {image}, {image.stat().st_size} bytes, 1 programs" in capsys.readouterr().out


def test_folder_of_a_network(tmp_path: Path) -> None:
    """Programs in the order of the manifest, and buffers for the largest of them."""
    config = Path(__file__).parents[3] / "configs" / "small.yaml"
    rng = np.random.default_rng(1)
    for name, n_outputs in (("a", 2), ("b", 4)):
        golden.random_program(rng, 4, 4, n_outputs, "int8").save(tmp_path / f"{name}.npz")
    layers = [
        {"name": "second", "converted": True, "programs": [{"file": "b.npz"}], "rows_per_input": 9},
        {"name": "exact", "converted": False},
        {"name": "first", "converted": True, "programs": [{"file": "a.npz"}], "rows_per_input": 4},
    ]
    manifest = {"kind": "halut-network-manifest", "layers": layers}
    (tmp_path / "network.json").write_text(json.dumps(manifest))
    image = tmp_path / "a.bin"
    assert main(["image", "--config", str(config), str(tmp_path), "-o", str(image)]) == 0
    entries = _entries(image.read_bytes())
    plan = json.loads((tmp_path / "a.bin.json").read_text())
    assert [part["name"] for part in plan["programs"]] == ["second", "second", "first"]
    assert [part["layer"] for part in entries] == [0, 0, 1]
    for part, entry in zip(plan["programs"], entries, strict=True):
        assert part["first_output"] == entry["first_output"]
    assert plan["buffers"] == {"input_bytes": 9 * 8, "result_bytes": 9 * 4}
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(HalutError, match="kind must be halut-network-manifest"):
        main(["image", "--config", str(config), str(tmp_path), "-o", str(image)])
