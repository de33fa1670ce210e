"""What `make formal` proves: units, configurations, and the checkers for them."""

from __future__ import annotations

from collections.abc import Iterator

from flow.formal.prove import Check, Property
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.control import Control

__all__ = ["all_checks"]

_CONTROL = (
    Property("accept", "stage 0 moves exactly the transfers that are taken", 1),
    Property("enable", "an enable is 1 only where a transfer is", 2),
    Property("lost", "no transfer is overwritten by the one behind it", 3),
    Property("sums", "sums are valid from when they are finished until they are taken", 8),
    Property("still", "nothing moves while finished sums wait", 8),
    Property("word", "a word for the program in use is taken between row groups only", 10),
    Property("offered", "no row group begins while such a word is offered", 11),
    Property("settle", "no row group begins in the cycle after such a word", 12),
    Property("ready", "a transfer is taken whenever nothing of this forbids it", 15),
    Property("program_ready", "a word is taken whenever nothing of this forbids it", 16),
)


def control_check(name: str, config: AcceleratorConfig) -> Check:
    """The handshakes and the order of transfers, without bound."""
    c = config
    defines = {}
    properties = list(_CONTROL)
    if c.output_constants:
        defines["BUSY"] = "1"
    if c.encoder == "interleaved":
        defines["INTERLEAVED"] = "1"
        properties.append(Property("phase", "the walkers' turns go on with every step", 8))
    if c.double_buffer:
        defines["DOUBLE"] = "1"
    if c.double_buffer and c.output_constants:
        defines["ACTIVE"] = "1"
        properties.append(Property("bank", "the bank is that of the last switch", 13))
    if c.stored_groups > 1:
        defines["GROUPS"] = "1"
        properties.append(Property("group", "thresholds are fetched for the right group", 4))
        properties.append(Property("look_up", "words are looked up in the right group", 5))
        if c.memory == "lutram":
            defines["BINARY"] = "1"
    if c.n_groups > 1:
        defines["FIRST"] = "1"
        properties.append(Property("first", "a new sum begins with a row group's first step", 6))
    return Check(
        name=f"control_{name}",
        unit=lambda: Control(c),
        checker="control.v",
        parameters={
            "STAGES": c.pipeline_stages,
            "G": c.n_groups,
            "GBITS": max(1, ceil_log2(c.stored_groups)),
            "BANKS": c.n_banks,
            "LEVELS": c.tree_depth,
            "PER_STAGE": c.tree_levels_per_stage,
            "LOOK_UP": c.encoder_cycles,
        },
        defines=defines,
        properties=tuple(properties),
    )


def _controls() -> Iterator[Check]:
    base = {"n_codebooks": 4, "n_prototypes": 4, "n_outputs": 2, "input_format": "int8"}
    variants: dict[str, dict] = {
        "g4_interleaved": {},
        "g4_pipelined": {"encoder": "pipelined"},
        "g1_interleaved": {"parallel_codebooks": 4},
        "g1_pipelined": {"parallel_codebooks": 4, "encoder": "pipelined"},
        "g3_k16": {"n_codebooks": 3, "n_prototypes": 16},
        "g3_two_levels": {
            "n_codebooks": 6, "parallel_codebooks": 2, "n_prototypes": 16, "encoder": "pipelined",
            "tree_levels_per_stage": 2,
        },
        "g1_double": {"parallel_codebooks": 4, "double_buffer": True},
        "g3_double": {"n_codebooks": 3, "double_buffer": True, "encoder": "pipelined"},
        "g4_double": {"double_buffer": True, "output_format": "int8"},
        "g4_constants": {"output_format": "fp16"},
        "g4_lutram": {"memory": "lutram"},
        "g3_lutram_double": {"n_codebooks": 3, "memory": "lutram", "double_buffer": True},
    }  # fmt: skip
    for name, fields in variants.items():
        yield control_check(name, AcceleratorConfig(**{**base, **fields}))


def all_checks() -> list[Check]:
    """Every check of the full set."""
    return [*_controls()]
