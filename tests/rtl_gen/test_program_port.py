"""A loader written from the manifest alone writes the words that `program_image` lists."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig
from rtl_gen.generate import generate
from rtl_gen.image import program_image, switch_word
from rtl_gen.program_port import describe_program_port
from rtl_gen.tiled_config import TiledConfig

UNIT = {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 4}
CONFIGS = {
    "one": AcceleratorConfig(**UNIT),
    "threes": AcceleratorConfig(n_codebooks=9, n_prototypes=8, n_outputs=3, parallel_codebooks=3,
                                input_format="int5", write_word_bits=12),
    "fp8": AcceleratorConfig(**UNIT, input_format="fp8_e4m3", write_word_bits=16),
    "bf16": AcceleratorConfig(**UNIT, input_format="bf16"),
    "lutram": AcceleratorConfig(**UNIT, parallel_codebooks=2, memory="lutram", lut_bits=5),
    "lut-fp16": AcceleratorConfig(**UNIT, lut_format="fp16", lut_bits=16),
    "double": AcceleratorConfig(**UNIT, parallel_codebooks=2, double_buffer=True),
    "to-fp16": AcceleratorConfig(**UNIT, output_format="fp16", write_word_bits=24),
    "to-int8": AcceleratorConfig(**UNIT, output_format="int8", relu=True, memory="ff"),
    "double-int8": AcceleratorConfig(n_codebooks=6, n_prototypes=4, n_outputs=3, rows=2,
                                     parallel_codebooks=2, output_format="int8",
                                     double_buffer=True),
    "tiled": TiledConfig(unit=AcceleratorConfig(**UNIT, parallel_codebooks=2, lut_bits=16,
                                                write_word_bits=32),
                         row_tiles=2, output_tiles=3, codebook_tiles=2),
    "tiled-fp16": TiledConfig(unit=AcceleratorConfig(**UNIT, output_format="fp16"),
                              output_tiles=2, codebook_tiles=3),
    "tiled-double": TiledConfig(unit=AcceleratorConfig(**UNIT, double_buffer=True,
                                                       output_format="int8"),
                                output_tiles=2, codebook_tiles=2),
}  # fmt: skip


def load(manifest, thresholds, tables, constants, bank=0):
    """Words for the program port: {address: data}, from a manifest and arrays of integers.

    thresholds (C, K-1) are bits of values in the input format, tables (M, C, K) signed entries or
    bits of half floats, constants per name (M,) signed integers or bits of floats.
    """
    port = manifest["program"]
    codebooks, outputs = port["codebooks"], port["outputs"]
    words = {}
    for name, region in port["regions"].items():
        data = region["data"]
        ranges = [range(field["count"]) for field in region["fields"].values()]
        for values in itertools.product(*ranges):
            at = dict(zip(region["fields"], values, strict=True))
            address = 0
            for field in region["fixed"].values():
                address |= field["value"] << field["lowest_bit"]
            for field_name, field in region["fields"].items():
                value = at[field_name] + bank * field.get("bank_stride", 0)
                assert value < 1 << field["bits"] or value == 0
                address |= value << field["lowest_bit"]
            if "codebook" in at:
                lanes, tiles = codebooks["lanes"], codebooks["tiles"]
                group, lane = divmod(at["codebook"], lanes)
                tile = at.get("codebook_tile", 0)
                codebook = group * lanes * tiles + tile * lanes + lane
            tile = at.get("output_tile", 0) * outputs["per_tile"]
            if name == "lut":
                first = tile + at["block"] * outputs["per_word"]
                elements = [
                    int(tables[first + e, codebook, at["prototype"]])
                    for e in range(data["elements"])
                ]
            elif name == "thresholds":
                nodes = [at["word"] * data["elements"] + e for e in range(data["elements"])]
                elements = [
                    key(data, int(thresholds[codebook, node])) if node < data["nodes"] else 0
                    for node in nodes
                ]
            else:
                whole = 0
                for constant, place in data["constants"].items():
                    bits = int(constants[constant][tile + at["column"]])
                    whole |= (bits & (1 << place["bits"]) - 1) << place["lowest_bit"]
                words[address] = whole >> at["word"] * data["word_bits"] & (
                    (1 << data["word_bits"]) - 1
                )
                continue
            mask = (1 << data["element_bits"]) - 1
            word = 0
            for e, element in enumerate(elements):
                word |= (element & mask) << e * data["element_bits"]
            words[address] = word
    return words


def key(data, bits):
    """A threshold as it is stored."""
    if data["encoding"] == "two's complement":
        return bits
    magnitude_bits = data["key"]["magnitude_bits"]
    mask = (1 << magnitude_bits) - 1
    if not bits >> magnitude_bits:
        return bits
    return 0 if bits & mask == 0 else bits ^ mask


def _arrays(program):
    thresholds = program.threshold_words
    tables = program.lut.view(np.uint16) if program.lut.dtype == np.float16 else program.lut
    constants = {
        name: array.view(np.uint32) if array.dtype == np.float32 else array
        for name, array in program.output.constants.items()
    }
    return thresholds, tables, constants


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_a_loader_from_the_manifest_alone(config):
    manifest = {"program": json.loads(json.dumps(describe_program_port(config)))}
    banks = range(manifest["program"]["banks"])
    for bank, corner in itertools.product(banks, (False, True)):
        program = reference.random_program(config, np.random.default_rng(bank + 7), corner)
        image = program_image(config, program, bank)
        words = load(manifest, *_arrays(program), bank=bank)
        assert len(words) == len(image) == manifest["program"]["words"]
        assert words == dict(image)
        assert max(words) < 1 << manifest["program"]["address_bits"]
        assert max(words.values()) < 1 << manifest["program"]["data_bits"]
    commands = manifest["program"]["commands"]
    assert bool(commands) == (len(banks) == 2)
    for bank in banks if commands else ():
        switch = commands["switch"]
        command, field = switch["fixed"]["command"], switch["fields"]["bank"]
        address = command["value"] << command["lowest_bit"] | bank << field["lowest_bit"]
        assert (address, switch["data"]) == switch_word(config, bank)


def test_minus_zero_and_negative_thresholds_are_keys():
    data = describe_program_port(CONFIGS["fp8"])["regions"]["thresholds"]["data"]
    assert [key(data, bits) for bits in (0x00, 0x80, 0x81, 0xFE, 0x7E)] == [
        0x00, 0x00, 0xFE, 0x81, 0x7E,
    ]  # fmt: skip


def test_the_manifest_says_when_words_are_taken(config):
    port = describe_program_port(config)
    assert (port["rules"]["order"], port["rules"]["settling_cycles"]) == ("any", 1)
    assert ("other_bank" in port["rules"]) == (port["banks"] == 2)


@pytest.mark.parametrize("name", ["one", "tiled"])
def test_the_manifest_holds_it(name):
    manifest = json.loads(generate(CONFIGS[name]).manifest_text)
    assert manifest["version"] == 2
    assert manifest["program"] == describe_program_port(CONFIGS[name])
