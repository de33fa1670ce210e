"""Accelerators whose codebooks take their windows: image, contents, manifest, what is refused.

Their results are checked in `test_top` and by the benches of `sim`.
"""

import numpy as np
import pytest

from halut import golden
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.contents import ProgramContents
from rtl_gen.front_end import FrontEndConfig, gather_image
from rtl_gen.generate import generate
from rtl_gen.image import program_image
from rtl_gen.program_port import describe_program_port


@pytest.mark.parametrize("input_format", ["int8", "fp8_e4m3"])
@pytest.mark.parametrize("splits", ["level", "node"])
def test_image_holds_thresholds_and_places(splits, input_format):
    config = AcceleratorConfig(
        n_codebooks=3, n_prototypes=8, n_outputs=2, input_format=input_format, window=9,
        splits=splits, write_word_bits=24, double_buffer=True,
    )  # fmt: skip
    contents, rng, banks = ProgramContents(config), np.random.default_rng(1), (0, 1)
    programs = [
        golden.random_program(rng, 3, 8, 2, input_format, window=9, splits=splits) for _ in banks
    ]
    for bank, program in enumerate(programs):
        for address, data in program_image(config, program, bank):
            contents.write(address, data)
    for bank, program in enumerate(programs):
        read = contents.program(bank)
        assert np.array_equal(read.thresholds, program.thresholds)
        assert np.array_equal(read.places, program.places)


def test_words_by_hand():
    """Three thresholds of four bits, then two places of two bits; or a place above each."""
    sizes = {"n_codebooks": 1, "n_prototypes": 4, "n_outputs": 1, "input_format": "int4",
             "window": 3, "lut_bits": 2, "write_word_bits": 18}  # fmt: skip
    level = AcceleratorConfig(**sizes)
    assert (level.place_bits, level.place_nodes, level.node_bits) == (2, 1, 4)
    node = AcceleratorConfig(**sizes, splits="node")
    assert (node.place_nodes, node.node_bits, node.threshold_nodes) == (0, 6, 3)
    program = golden.random_program(np.random.default_rng(1), 1, 4, 1, "int4", 2, window=3)
    (_, word), *_ = program_image(level, program)
    keys = [int(key) & 15 for key in program.thresholds[0]]
    one, two = program.places[0].tolist()
    assert [word >> (4 * k) & 15 for k in range(4)] == [*keys, one | two << 2]
    program = golden.random_program(
        np.random.default_rng(1), 1, 4, 1, "int4", 2, window=3, splits="node"
    )
    (_, word), *_ = program_image(node, program)
    keys = [int(key) & 15 for key in program.thresholds[0]]
    wanted = [key | place << 4 for key, place in zip(keys, program.places[0].tolist(), strict=True)]
    assert [word >> (6 * k) & 63 for k in range(3)] == wanted


def test_windows_change_the_hash_only_where_there_are_some():
    assert not {"window", "splits"} & set(AcceleratorConfig().to_dict())
    config = AcceleratorConfig(window=9, splits="node")
    assert config.slug.endswith("_window9_node")
    assert AcceleratorConfig.from_dict(config.to_dict()) == config


def test_manifest():
    config = AcceleratorConfig(n_codebooks=2, n_prototypes=4, n_outputs=1, window=9, splits="node")
    manifest = generate(config).manifest
    assert manifest["configuration"]["window"] == 9
    (rows,) = [port for port in manifest["ports"] if port["name"] == "i_data"]
    assert rows["bits"] == 9 * 16
    strides = {each["index"]: each["stride_bits"] for each in rows["layout"]["dimensions"]}
    assert strides["word"] == 16 and "level" not in strides
    data = manifest["program"]["regions"]["thresholds"]["data"]
    assert data["element_bits"] == 20 and data["places"]["lowest_bit"] == 16
    port = describe_program_port(AcceleratorConfig(n_codebooks=2, n_outputs=2, window=9))
    data = port["regions"]["thresholds"]["data"]
    assert data["element_bits"] == 16
    assert data["places"]["first_node"] == 15 and data["places"]["bits"] == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": 257}, r"window must be an integer in \[0, 256\], not 257"),
        ({"window": 1}, "window must be 0, or 2 or more, not 1"),
        ({"splits": "node"}, "splits must be level without a window, not node"),
        ({"window": 4, "splits": "nodes"}, "splits must be one of level, node, not 'nodes'"),
        ({"window": 4, "terms": 2, "input_format": "int8"}, "terms must be 1 with a window"),
        ({"window": 4, "splits": "node", "n_prototypes": 2}, "must be level for n_prototypes 2"),
        (
            {"window": 4, "encoder": "addressed", "memory": "lutram"},
            "window must be 0 for an addressed encoder, not 4",
        ),
        (
            {"window": 9, "splits": "node", "write_word_bits": 19},
            r"write_word_bits must be an integer in \[20, 4096\], not 19",
        ),
    ],
)
def test_bad_configurations(values, message):
    with pytest.raises(HalutError, match=message):
        AcceleratorConfig(**values)


def test_what_is_not_supported_is_refused():
    plain = AcceleratorConfig(n_codebooks=4, input_format="int8")
    front = FrontEndConfig(accelerator=plain, height=4, width=4, channels=4)
    program = golden.random_program(np.random.default_rng(1), 4, 16, 8, "int8", 8, 36, window=9)
    with pytest.raises(HalutError, match=r"program\.window must be the accelerator's 0, not 9"):
        gather_image(front, program)
    for window in (0, 8):
        other = AcceleratorConfig(n_codebooks=4, input_format="int8", window=window)
        with pytest.raises(HalutError, match=rf"program.window must be .* {window}, not 9"):
            program_image(other, program)
    node = AcceleratorConfig(n_codebooks=4, input_format="int8", window=9, splits="node")
    with pytest.raises(HalutError, match=r"program.splits must be the configuration's node, not l"):
        program_image(node, program)
