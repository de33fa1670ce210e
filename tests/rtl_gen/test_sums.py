"""Accelerators whose trees compare sums of words: image, contents, what is refused.

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


@pytest.mark.parametrize("terms", [2, 5])
def test_image_holds_thresholds_and_signs(terms):
    config = AcceleratorConfig(
        n_codebooks=3, n_prototypes=8, n_outputs=2, input_format="int8", terms=terms,
        write_word_bits=24,
    )  # fmt: skip
    program = golden.random_program(np.random.default_rng(1), 3, 8, 2, "int8", terms=terms)
    contents = ProgramContents(config)
    for address, data in program_image(config, program):
        contents.write(address, data)
    read = contents.program()
    assert np.array_equal(read.thresholds, program.thresholds)
    assert np.array_equal(read.signs, program.signs)


def test_terms_change_the_hash_only_when_there_are_several():
    assert "terms" not in AcceleratorConfig().to_dict()
    config = AcceleratorConfig(input_format="int8", terms=2)
    assert config.slug.endswith("_terms2")
    assert AcceleratorConfig.from_dict(config.to_dict()) == config


def test_sign_nodes_by_hand():
    """Levels 0 and 1 with two terms each: 1 0 | 0 1 in four bits behind three thresholds."""
    config = AcceleratorConfig(
        n_codebooks=1, n_prototypes=4, n_outputs=1, input_format="int3", terms=2, lut_bits=2,
        write_word_bits=16,
    )  # fmt: skip
    assert (config.threshold_bits, config.sign_nodes, config.threshold_nodes) == (4, 1, 4)
    program = golden.random_program(np.random.default_rng(1), 1, 4, 1, "int3", 2, terms=2)
    (_, word), *_ = program_image(config, program)
    flags = (program.signs < 0).ravel()
    assert word >> 12 == sum(int(flag) << bit for bit, flag in enumerate(flags))
    assert [word >> (4 * k) & 15 for k in range(3)] == (program.thresholds[0] & 15).tolist()


def test_manifest():
    config = AcceleratorConfig(n_codebooks=2, n_outputs=2, input_format="int8", terms=2)
    manifest = generate(config).manifest
    assert manifest["configuration"]["terms"] == 2
    (rows,) = [port for port in manifest["ports"] if port["name"] == "i_data"]
    assert rows["bits"] == 4 * 2 * 8
    strides = {each["index"]: each["stride_bits"] for each in rows["layout"]["dimensions"]}
    assert strides["level"] == 16 and strides["term"] == 8
    data = manifest["program"]["regions"]["thresholds"]["data"]
    assert data["element_bits"] == 9 and data["signs"]["first_node"] == 15


def test_what_is_not_supported_is_refused():
    config = AcceleratorConfig(n_codebooks=4, input_format="int8", terms=2)
    with pytest.raises(HalutError, match="terms must be 1 behind a front end, not 2"):
        FrontEndConfig(accelerator=config, height=4, width=4, channels=4)
    plain = AcceleratorConfig(n_codebooks=4, input_format="int8")
    front = FrontEndConfig(accelerator=plain, height=4, width=4, channels=4)
    sums = golden.random_program(np.random.default_rng(1), 4, 16, 8, "int8", 8, 36, terms=2)
    with pytest.raises(HalutError, match="program must not compare sums behind a front end"):
        gather_image(front, sums)
    with pytest.raises(HalutError, match='for sums of 2 terms, not "fp16"'):
        AcceleratorConfig(terms=2)
    program = golden.random_program(np.random.default_rng(1), 4, 16, 8, "int8", terms=3)
    with pytest.raises(HalutError, match=r"program.terms must be the configuration's 2, not 3"):
        program_image(config, program)
