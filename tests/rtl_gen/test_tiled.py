"""Several units as one accelerator, in Amaranth's simulator; their configuration and manifest."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from halut import golden
from halut.errors import HalutError
from halut.program import Program
from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig
from rtl_gen.generate import generate, write
from rtl_gen.image import program_image
from rtl_gen.program_port import describe_program_port
from rtl_gen.tiled_config import TiledConfig, config_from_dict, load_config, result_order
from tests.rtl_gen.support import TopBench, check_sums_latency_and_rate, lint, random_case

SMALL = {"n_codebooks": 3, "n_prototypes": 4, "n_outputs": 2, "encoder": "pipelined",
         "input_format": "int8"}  # fmt: skip
CONFIGS = {
    "rows": ({"row_tiles": 2}, SMALL),
    "outputs": ({"output_tiles": 3}, SMALL),
    "codebooks": ({"codebook_tiles": 3}, SMALL),
    "all": (
        {"row_tiles": 2, "output_tiles": 2, "codebook_tiles": 2},
        {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 2, "rows": 2, "outputs_per_cycle": 2,
         "input_format": "int4", "lut_bits": 4, "write_word_bits": 4},
    ),
    "one-beat": (
        {"row_tiles": 2, "output_tiles": 2},
        {"n_codebooks": 2, "n_prototypes": 4, "n_outputs": 2, "rows": 2, "parallel_codebooks": 2,
         "encoder": "pipelined", "outputs_per_cycle": 4},
    ),
    "single": ({}, SMALL),
    "to-int8": (
        {"row_tiles": 2, "output_tiles": 2},
        {**SMALL, "output_format": "int8", "relu": True, "write_word_bits": 32},
    ),
    "wrap": ({"output_tiles": 2}, {**SMALL, "overflow": "wrap", "acc_bits": 8}),
    "join-to-int8": (
        {"row_tiles": 2, "output_tiles": 2, "codebook_tiles": 3},
        {**SMALL, "output_format": "int8", "outputs_per_cycle": 1},
    ),
    "join-to-fp16": ({"codebook_tiles": 2}, {**SMALL, "output_format": "fp16", "relu": True}),
    "join-relu": ({"output_tiles": 2, "codebook_tiles": 2}, {**SMALL, "relu": True}),
    "join-floats": (
        {"codebook_tiles": 3},
        {**SMALL, "n_codebooks": 4, "parallel_codebooks": 2, "lut_format": "fp16", "lut_bits": 16},
    ),
    "join-floats-to-fp16": (
        {"output_tiles": 2, "codebook_tiles": 2},
        {**SMALL, "rows": 2, "lut_format": "fp16", "lut_bits": 16, "output_format": "fp16",
         "outputs_per_cycle": 2},
    ),
}  # fmt: skip


def _config(name: str) -> TiledConfig:
    tiles, unit = CONFIGS[name]
    return TiledConfig(unit=AcceleratorConfig(**unit), **tiles)


def _expected(config, program, words):
    return reference.result_words(reference.results(config, program, words))


@pytest.mark.parametrize("name", CONFIGS)
def test_sums_latency_and_rate(name):
    check_sums_latency_and_rate(_config(name))


@pytest.mark.parametrize("name", ["rows", "all", "to-int8", "join-to-int8", "join-to-fp16"])
def test_a_row_group_sees_one_program(name):
    """A second program arrives, unit by unit, while the first one's rows are on their way."""
    config = _config(name)
    first, words = random_case(config, 5 * config.rows, seed=2)
    second, _ = random_case(config, config.rows, seed=3)
    bench = TopBench(config, "both")

    async def load(ctx):
        await bench.send(ctx, bench.top.program, bench.image(first))
        while len(bench.input_cycles) < 3 * config.n_groups:
            await ctx.tick()
        await bench.send(ctx, bench.top.program, bench.image(second), loaded)

    async def send(ctx):
        for _ in bench.image(first):
            await ctx.tick()
        payloads = bench.payloads(words)
        await bench.send(ctx, bench.top.i, payloads, bench.input_cycles, bench.input_pause)

    async def receive(ctx):
        await bench.receive(ctx, 5 * config.n_beats)

    loaded: list[int] = []
    bench.run(load, send, receive)
    order = result_order(config).ravel()
    sums = np.empty((5, len(order)), dtype=np.int64)
    sums[:, order] = np.array(bench.results).reshape(5, -1)
    begun = bench.input_cycles[:: config.n_groups]
    new = np.repeat(np.array(begun) > loaded[-1], config.rows)
    assert new.any() and not new.all()
    expected = np.where(
        new[:, None], _expected(config, second, words), _expected(config, first, words)
    )
    np.testing.assert_array_equal(sums.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", ["codebooks", "all"])
def test_one_flipped_lut_bit_in_any_unit_is_seen(name):
    config = _config(name)
    program, words = random_case(config, config.rows)
    codes = golden.encode(program, words)
    expected = golden.matmul(program, words)
    flipped, outputs = [], []
    for o in range(config.output_tiles):
        for d in range(config.codebook_tiles):
            output, codebook = o * config.unit.n_outputs, int(config.tile_codebooks(d)[-1])
            lut = program.lut.copy()
            lut[output, codebook, codes[0, codebook]] ^= 1
            flipped.append((dataclasses.replace(program, lut=lut), words))
            outputs.append(output)
    for wrong, output in zip(TopBench(config).matmuls(flipped), outputs, strict=True):
        assert wrong[0, output] != expected[0, output]
        others = np.arange(config.n_outputs) != output
        np.testing.assert_array_equal(wrong[:, others], expected[:, others])


def test_order_of_results_by_hand():
    """Two row tiles of one row, two output tiles of two outputs, one result a beat and unit."""
    unit = AcceleratorConfig(n_codebooks=2, n_outputs=2, outputs_per_cycle=1)
    config = TiledConfig(unit=unit, row_tiles=2, output_tiles=2)
    # result = row * 4 + output; parts: (row 0, tile 0), (row 0, tile 1), (row 1, …)
    assert result_order(config).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert result_order(unit).tolist() == [[0], [1]]


def test_codebooks_of_a_tile_by_hand():
    """Lanes 0 and 1 belong to tile 0, lanes 2 and 3 to tile 1; two steps."""
    unit = AcceleratorConfig(n_codebooks=4, parallel_codebooks=2)
    config = TiledConfig(unit=unit, codebook_tiles=2)
    assert [config.tile_codebooks(d).tolist() for d in range(2)] == [[0, 1, 4, 5], [2, 3, 6, 7]]


@pytest.mark.parametrize("name", ["all", "to-int8", "join-to-int8"])
def test_image_writes_each_word_of_each_unit_once(name):
    config = _config(name)
    program, _ = random_case(config, config.rows)
    image = program_image(config, program)
    regions = describe_program_port(config)["regions"].values()
    assert len({address for address, _ in image}) == len(image)
    assert len(image) == sum(region["words"] for region in regions)
    assert max(address for address, _ in image) < 1 << config.program_address_bits


def test_sums_of_all_codebooks_fit():
    unit = AcceleratorConfig(n_codebooks=5)
    assert unit.accumulator_bits == 11
    assert TiledConfig(unit=unit, codebook_tiles=3).accumulator_bits == 12  # 15 entries of 8 bits
    wide = AcceleratorConfig(n_codebooks=5, acc_bits=24)
    assert TiledConfig(unit=wide, codebook_tiles=3).accumulator_bits == 24


@pytest.mark.parametrize("name", CONFIGS)
def test_verilog_is_clean_and_manifest_complete(name, tmp_path):
    config = _config(name)
    path = write(config, tmp_path / "halut_tiled.v")
    assert lint(path, "halut_tiled") == (0, "")
    assert path.read_text() == generate(config).verilog
    assert path.read_text().count("\nmodule halut_matmul(") == 1
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["module"] == "halut_tiled"
    assert config_from_dict(manifest["configuration"]) == config
    for port in manifest["ports"]:
        if port["name"] in ("i_data", "o_data"):
            outer = port["layout"]["dimensions"][0]
            assert outer["size"] * outer["stride_bits"] == port["bits"]


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ({"rows": 0}, r"tiles.rows must be an integer in \[1, 16\], not 0 \(.*a.yaml\)"),
        ({"outputs": 2.0}, r"tiles.outputs must be an integer in \[1, 16\], not 2.0"),
        ({"codebooks": True}, r"tiles.codebooks must be an integer"),
        ({"row": 2}, r"tiles must have keys rows, outputs, codebooks, not \'row\' \(did you mean"),
        (3, r"tiles must be a mapping, not int"),
    ],
)
def test_rules(tiles, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "tiles": tiles}))
    with pytest.raises(HalutError, match=message):
        load_config(path)


def test_one_unit_where_several_will_not_do():
    with pytest.raises(HalutError, match=r"must be of one unit here, not have tiles \(.*\.yaml\)"):
        AcceleratorConfig.from_yaml("configs/four_units.yaml")


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "rtl_gen", "--config", "configs/small.yaml"]
    target = tmp_path / "a.v"
    done = subprocess.run(
        [*command, "--tile-outputs", "3", "-o", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads(target.with_suffix(".json").read_text())
    assert manifest["configuration"]["tiles"] == {"rows": 1, "outputs": 3, "codebooks": 1}
    assert "  units    3\n" in done.stdout
    four = load_config(Path("configs/four_units.yaml"))
    assert four.n_units == 4


def test_partial_sums_must_be_whole():
    unit = AcceleratorConfig(overflow="wrap", acc_bits=9)
    assert TiledConfig(unit=unit, output_tiles=2).accumulator_bits == 9
    with pytest.raises(HalutError, match="overflow must be absent for several units along the"):
        TiledConfig(unit=unit, codebook_tiles=2)


def test_order_of_additions_by_hand():
    """Two units of two lanes, two steps; in another order the small numbers would be lost."""
    big, small = 2048.0, 2.0**-14  # more than 24 bits apart: big + small is big
    lut = np.zeros((1, 8, 2), dtype=np.float16)
    # Lanes 0 and 1 of each step are unit 0's, lanes 2 and 3 unit 1's.
    lut[0, :, 0] = [big, 0, small, 0, -big, 0, small, 0]
    program = Program(
        n_features=1, input_format="int8", split_dims=np.zeros((8, 1)),
        thresholds=np.zeros((8, 1)), lut=lut, lut_bits=16, lut_format="fp16",
        lut_scale=[1], lut_offset=[0],
    )  # fmt: skip
    words = np.full((1, 8, 1), -1, dtype=np.int16)
    unit = AcceleratorConfig(
        n_codebooks=4, n_prototypes=2, n_outputs=1, parallel_codebooks=2, lut_format="fp16",
        lut_bits=16, input_format="int8",
    )  # fmt: skip
    config = TiledConfig(unit=unit, codebook_tiles=2)
    assert reference.results(config, program, words).tolist() == [[2 * small]]
    assert golden.results(program, words, parallel_codebooks=4).tolist() == [[0.0]]
    found = TopBench(config).matmul(program, words).astype(np.uint32)
    assert found.view(np.float32).tolist() == [[2 * small]]
