"""What the manifest says of the program port: enough to write a loader from it alone."""

from __future__ import annotations

import math
from typing import Any

from halut.formats import FLOAT_FORMATS

from .config import AcceleratorConfig
from .tiled_config import AnyConfig, TiledConfig

__all__ = ["describe_program_port"]

REGIONS = {"lut": 0, "thresholds": 1, "output": 2}


def describe_program_port(config: AnyConfig) -> dict[str, Any]:
    """Describe every program word of an accelerator, ready for JSON.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig

    Returns
    -------
    dict
        Widths of address and data; per region its number of words, the fields of its addresses
        with the values that they take, and what the data is; the numbers that turn a program's
        codebooks and outputs into fields; commands; and when words are taken.
    """
    unit = config.unit if isinstance(config, TiledConfig) else config
    regions = {name: _region(config, unit, name) for name in _counts(config, unit)}
    return {
        "address_bits": config.program_address_bits,
        "data_bits": config.program_data_bits,
        "address": "the sum of value << lowest_bit over the fixed and the other fields; all other "
        "bits are 0. One word for every combination of the other fields' values, 0 to count - 1",
        "banks": unit.n_banks,
        "bank": "for bank b, b * bank_stride is added to a field's value",
        "regions": regions,
        "words": sum(region["words"] for region in regions.values()),
        "codebooks": {
            "lanes": unit.parallel_codebooks,
            "tiles": config.codebook_tiles,
            "program_codebook": "codebook // lanes * (lanes * tiles) + codebook_tile * lanes "
            "+ codebook % lanes",
        },
        "outputs": {
            "per_tile": unit.n_outputs,
            "per_word": unit.decoders_per_word,
            "program_output": "output_tile * per_tile + block * per_word + element, or "
            "output_tile * per_tile + column",
        },
        "commands": _commands(unit),
        "rules": _rules(unit),
    }


def _counts(config: AnyConfig, unit: AcceleratorConfig) -> dict[str, dict[str, int]]:
    """Values of every address field that a word exists for, by region."""
    counts = {
        "lut": {
            "block": unit.n_blocks,
            "prototype": unit.n_prototypes,
            "codebook": unit.n_codebooks,
        },
        "thresholds": {"word": unit.threshold_words, "codebook": unit.n_codebooks},
    }
    if config.output_constants:
        counts["output"] = {"word": unit.output_constant_words, "column": unit.n_outputs}
    if isinstance(config, TiledConfig):
        for region in counts:
            if region != "thresholds":
                counts[region]["output_tile"] = config.output_tiles
            if region != "output":
                counts[region]["codebook_tile"] = config.codebook_tiles
    return counts


def _bits(config: AnyConfig, region: str, field: str) -> dict[str, int]:
    low, width = config.address_fields[region][field]
    return {"lowest_bit": low, "bits": width}


def _region(config: AnyConfig, unit: AcceleratorConfig, region: str) -> dict[str, Any]:
    counts = _counts(config, unit)[region]
    fixed = {"region": REGIONS[region], **({"command": 0} if unit.double_buffer else {})}
    fields: dict[str, dict[str, int]] = {}
    for name, count in counts.items():
        fields[name] = {**_bits(config, region, name), "count": count}
        if unit.double_buffer and name in ("codebook", "column"):
            fields[name]["bank_stride"] = count
    describe = {"lut": _lut_data, "thresholds": _threshold_data, "output": _constant_data}
    return {
        "words": math.prod(counts.values()),
        "fixed": {
            name: {**_bits(config, region, name), "value": value} for name, value in fixed.items()
        },
        "fields": fields,
        "data": describe[region](unit),
    }


def _lut_data(unit: AcceleratorConfig) -> dict[str, Any]:
    is_float = unit.lut_format == "fp16"
    return {
        "element_bits": unit.lut_bits,
        "elements": unit.decoders_per_word,
        "encoding": "IEEE 754 binary16" if is_float else "two's complement",
        "meaning": "element e, at bit e * element_bits, is the table entry of the output at "
        "element e, and of the codebook and the prototype",
    }


def _threshold_data(unit: AcceleratorConfig) -> dict[str, Any]:
    data: dict[str, Any] = {
        "element_bits": unit.node_bits,
        "elements": unit.thresholds_per_word,
        "nodes": unit.n_prototypes - 1,
        "encoding": "two's complement",
        "meaning": "element e, at bit e * element_bits, is the threshold of tree node "
        "word * elements + e, breadth-first: 2**level - 1 + the code so far; 0 beyond the last",
    }
    if unit.terms > 1:
        data["signs"] = {
            "first_node": unit.n_prototypes - 1,
            "nodes": unit.sign_nodes,
            "meaning": "bit b of sign node s is that of term (s * element_bits + b) % "
            f"{unit.terms} of level (s * element_bits + b) // {unit.terms}: 1 adds the word's "
            "complement, -1 - word",
        }
    if unit.splits == "node":
        data["places"] = {
            "lowest_bit": unit.threshold_bits,
            "bits": unit.place_bits,
            "meaning": "of an element: the word of the codebook's window that the node compares; "
            "the threshold is in the bits below",
        }
    elif unit.window:
        data["places"] = {
            "first_node": unit.n_prototypes - 1,
            "nodes": unit.place_nodes,
            "bits": unit.place_bits,
            "meaning": "the bits of these nodes side by side, of which level l has those from "
            "l * bits on: the word of the codebook's window that it compares",
        }
    if unit.input_format in FLOAT_FORMATS:
        data["encoding"] = "comparison key"
        data["key"] = {
            "format": unit.input_format,
            "magnitude_bits": unit.input_bits - 1,
            "rule": "the bits of the value; if the sign bit is 1, the magnitude bits below it are "
            "complemented; -0 is stored as +0",
        }
    return data


def _constant_data(unit: AcceleratorConfig) -> dict[str, Any]:
    encoding = "IEEE 754 binary32" if unit.output_format == "fp16" else "two's complement"
    return {
        "word_bits": unit.program_data_bits,
        "constants": {
            name: {"lowest_bit": low, "bits": bits, "encoding": encoding}
            for name, (low, bits) in unit.output_constants.items()
        },
        "meaning": "the constants of an output side by side, of which a word holds bits "
        "word * word_bits and up",
    }


def _commands(unit: AcceleratorConfig) -> dict[str, Any]:
    if not unit.double_buffer:
        return {}
    return {
        "switch": {
            "fixed": {"command": {**_bits(unit, "switch", "command"), "value": 1}},
            "fields": {"bank": {**_bits(unit, "switch", "bank"), "count": unit.n_banks}},
            "data": 0,
            "meaning": "the row groups that begin after it use the bank; bank 0 after reset",
        }
    }


def _rules(unit: AcceleratorConfig) -> dict[str, Any]:
    waits = " and no result waits" if unit.output_constants else ""
    rules: dict[str, Any] = {
        "order": "any",
        "accepted": f"when no row group has begun, the pipeline is empty{waits}, and not in reset",
        "offered": "while a word is offered no row group begins; one that has begun is finished "
        "first, so its remaining transfers must be sent",
        "settling_cycles": 1,
        "settling": "in so many cycles after an accepted word no row group begins (i_ready is 0); "
        "the next one sees every word accepted before",
        "reset": "the program stays; bank 0 is in use"
        if unit.double_buffer
        else "the program stays",
    }
    if unit.double_buffer:
        rules["other_bank"] = (
            "words for the bank that is not in use are accepted at any time and hold up no row "
            "group; the rules above are those of words for the bank in use and of commands"
        )
    return rules
