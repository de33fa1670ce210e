"""Rules of the configuration: each is an error with its words, never a changed value."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import config_from_dict, load_config

CONFIGS = sorted(Path("configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_codebooks": 0}, r"n_codebooks must be an integer in \[1, 1024\], not 0"),
        ({"n_codebooks": 2.0}, r"n_codebooks must be an integer"),
        ({"n_codebooks": True}, r"n_codebooks must be an integer"),
        ({"n_prototypes": 12}, r"n_prototypes must be a power of two in \[2, 256\], not 12"),
        ({"n_prototypes": 512}, r"n_prototypes must be an integer in \[2, 256\], not 512"),
        ({"n_outputs": 4096}, r"n_outputs must be an integer in \[1, 1024\], not 4096"),
        ({"rows": 0}, r"rows must be an integer in \[1, 256\], not 0"),
        ({"parallel_codebooks": 3}, r"parallel_codebooks must divide n_codebooks = 16, not 3"),
        ({"parallel_codebooks": 32}, r"parallel_codebooks must be an integer in \[1, 16\]"),
        ({"outputs_per_cycle": 3}, r"outputs_per_cycle must divide n_outputs = 8"),
        ({"outputs_per_cycle": 9}, r"outputs_per_cycle must be an integer in \[1, 8\], not 9"),
        ({"encoder": "pipeline"}, r'not \'pipeline\' \(did you mean "pipelined"\?\)'),
        ({"memory": "dram"}, r"memory must be one of latch, ff, lutram, sram, not 'dram'"),
        (
            {"encoder": "addressed"},
            r"memory must be lutram or sram for an addressed encoder, not latch",
        ),
        (
            {"encoder": "addressed", "memory": "lutram", "tree_levels_per_stage": 2},
            r"tree_levels_per_stage must be 1 for an addressed encoder, not 2",
        ),
        (
            {"encoder": "addressed", "memory": "lutram", "terms": 2, "input_format": "int8"},
            r"terms must be 1 for an addressed encoder, not 2",
        ),
        ({"input_format": "int1"}, r'input_format must be "fp16", .* or "int2" to "int16"'),
        ({"input_format": "fp8_e3m4"}, r'not \'fp8_e3m4\' \(did you mean "fp8_e'),
        ({"input_format": 8}, r"input_format must be"),
        ({"lut_bits": 17}, r"lut_bits must be an integer in \[2, 16\], not 17"),
        ({"acc_bits": 11}, r"acc_bits must be an integer in \[12, 32\], not 11"),
        ({"write_word_bits": 8}, r"write_word_bits must be an integer in \[16, 4096\], not 8"),
        ({"adder_levels_per_stage": 0}, r"adder_levels_per_stage must be an integer in \[1, 8\]"),
        ({"lut_format": "fp32"}, r"lut_format must be one of int, fp16, not 'fp32'"),
        ({"lut_format": "fp16"}, r"lut_bits must be 16 for lut_format fp16, not 8"),
        (
            {"lut_format": "fp16", "lut_bits": 16, "output_format": "int8"},
            r"output_format must be raw or fp16 for lut_format fp16, not int8: bytes are made of",
        ),
        (
            {"lut_format": "fp16", "lut_bits": 16, "acc_bits": 24},
            r"acc_bits must be an integer in \[32, 32\], not 24",
        ),
        (
            {"lut_format": "fp16", "lut_bits": 16, "overflow": "wrap"},
            r"overflow must be absent for lut_format fp16, not wrap",
        ),
        ({"overflow": "clip", "acc_bits": 8}, r"overflow must be one of saturate, wrap, not"),
        (
            {"overflow": "wrap", "acc_bits": 12},
            r"acc_bits must be an integer in \[8, 11\], not 12",
        ),
        ({"overflow": "wrap"}, r"acc_bits must be an integer in \[8, 11\], not 12"),
        ({"overflow": "wrap", "n_codebooks": 1}, r"overflow must be absent where nothing is added"),
        ({"output_format": "fp32"}, r"output_format must be one of raw, fp16, int8, not 'fp32'"),
        ({"relu": 1}, r"relu must be true or false, not 1"),
        ({"codebook_width": 0}, r"codebook_width must be an integer"),
        ({"name": "a b"}, r"name must be letters, digits, _ and -, not 'a b'"),
    ],
)
def test_rules(values, message):
    with pytest.raises(HalutError, match=message):
        AcceleratorConfig(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nrow: 2\n", r'not \'row\' \(did you mean "rows"\?\) \(.*a\.yaml\)'),
        ("rows: 2\n", r"version must be 1, not None"),
        ("version: 2\n", r"version must be 1, not 2"),
        ("- 1\n", r"must be a mapping, not list"),
        ("a: [\n", r"must be valid YAML \(.*a\.yaml, line"),
        ("version: 1\nrows: 0\n", r"rows must be .* not 0 \(.*a\.yaml\)"),
    ],
)
def test_yaml_errors_name_the_file(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(HalutError, match=message):
        AcceleratorConfig.from_yaml(path)


def test_missing_file():
    with pytest.raises(HalutError, match=r"must be a readable file, not nowhere\.yaml"):
        AcceleratorConfig.from_yaml("nowhere.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_committed_configurations(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


def test_committed_configurations_are_there():
    assert {path.stem for path in CONFIGS} >= {
        "paper", "stella_nera", "small", "row_parallel", "unrolled", "dense"
    }  # fmt: skip


def test_addresses_are_distinct_and_fit():
    for values in (
        {},
        {"n_codebooks": 5, "n_outputs": 12, "write_word_bits": 32},
        {"n_codebooks": 2, "n_outputs": 12, "output_format": "int8", "write_word_bits": 16},
    ):
        config = AcceleratorConfig(**values)
        addresses = [
            config.lut_address(c, k, b)
            for c in range(config.n_codebooks)
            for k in range(config.n_prototypes)
            for b in range(config.n_blocks)
        ]
        addresses += [
            config.threshold_address(c, w)
            for c in range(config.n_codebooks)
            for w in range(config.threshold_words)
        ]
        addresses += [
            config.output_address(m, w)
            for m in range(config.n_outputs)
            for w in range(config.output_constant_words)
        ]
        assert len(set(addresses)) == len(addresses)
        assert min(addresses) >= 0 and max(addresses) < 1 << config.program_address_bits


def test_later_fields_change_the_hash_only_when_used():
    """Hashes of before there were output formats, in the header of every Verilog file."""
    assert AcceleratorConfig().hash[:16] == "3ef2c9d0007ecd37"
    assert AcceleratorConfig(relu=True).hash != AcceleratorConfig().hash
    assert AcceleratorConfig(output_format="fp16").slug.endswith("_latch_outfp16")


def test_output_constants_by_hand():
    config = AcceleratorConfig(output_format="int8", relu=True)
    assert config.output_constants == {
        "multiplier": (0, 16), "shift": (16, 6), "addend": (22, 48), "zero": (70, 8)
    }  # fmt: skip
    assert (config.output_constant_bits, config.output_constant_words) == (78, 2)
    assert config.result_bits == 8
    assert "zero" not in AcceleratorConfig(output_format="int8").output_constants


def test_name_does_not_change_the_hardware():
    assert AcceleratorConfig(name="a").slug == AcceleratorConfig(name="b").slug
