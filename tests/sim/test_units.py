"""Every unit's Verilog, alone, equals the model; and every unit's bench can fail."""

from __future__ import annotations

import json

import pytest

from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from sim import runner
from sim.units import UNITS, build_unit, unit_kinds

CONFIGS = {
    # Walks in turns, one codebook per cycle, latches: the paper's unit, smaller.
    "interleaved": {"n_codebooks": 4, "n_prototypes": 16, "n_outputs": 4},
    # One level per stage, several rows, lanes and groups; several words per codebook and block.
    "pipelined": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 6, "rows": 2,
                  "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8",
                  "write_word_bits": 24, "outputs_per_cycle": 3, "output_format": "int8",
                  "relu": True, "code_stages": 2},
    # Codes that blocks of decoders register and decode, one group or several.
    "decoded": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 4, "rows": 2,
                "parallel_codebooks": 4, "encoder": "pipelined", "input_format": "int8",
                "write_word_bits": 16, "code_stages": 1, "decode_in_blocks": True},
    "decoded_groups": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 2, "rows": 2,
                       "parallel_codebooks": 2, "memory": "ff", "code_stages": 2,
                       "decode_in_blocks": True},
    # All codebooks at once, distributed RAM, an adder tree.
    "unrolled": {"n_codebooks": 5, "n_prototypes": 4, "n_outputs": 3, "rows": 3,
                 "parallel_codebooks": 5, "encoder": "pipelined", "input_format": "int5",
                 "memory": "lutram", "lut_bits": 4, "adder_levels_per_stage": 1,
                 "output_format": "fp16", "skid_buffer": True},
    # A RAM per row and tree level, for FPGAs.
    "addressed": {"n_codebooks": 6, "n_prototypes": 8, "n_outputs": 2, "rows": 2,
                  "parallel_codebooks": 3, "encoder": "addressed", "memory": "lutram",
                  "skid_buffer": True},
    # Levels that add up words; several words per codebook.
    "sums": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 2, "rows": 2, "terms": 3,
             "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8",
             "write_word_bits": 24},
    # Windows of three and four words, with a place per level behind the thresholds, or per node.
    "window": {"n_codebooks": 4, "n_prototypes": 8, "n_outputs": 2, "rows": 2, "window": 4,
               "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8",
               "write_word_bits": 24},
    "node": {"n_codebooks": 3, "n_prototypes": 8, "n_outputs": 2, "window": 3, "splits": "node"},
    "flip_flops": {"n_codebooks": 3, "n_prototypes": 2, "n_outputs": 2, "rows": 2,
                   "memory": "ff", "lut_bits": 12},
    "sram": {"n_codebooks": 6, "n_prototypes": 4, "n_outputs": 4, "rows": 2,
             "parallel_codebooks": 2, "encoder": "pipelined", "input_format": "int8",
             "memory": "sram", "write_word_bits": 16},
}  # fmt: skip


def _run(
    kind: str, name: str, simulator: str = "icarus", *, spoil: bool = False
) -> runner.RunResult:
    config = AcceleratorConfig(name=name, **CONFIGS[name])
    built = build_unit(kind, config, simulator=simulator)
    env = {"HALUT_CONFIG": json.dumps(config.to_dict()), "HALUT_SPOIL": str(int(spoil))}
    return runner.run(built, "sim.benches.units", testcase=kind, env=env, timeout_s=300)


def _pairs(*names: str) -> list[tuple[str, str]]:
    """Return (kind, configuration) of every unit that these configurations have."""
    return [
        (kind, name) for name in names for kind in unit_kinds(AcceleratorConfig(**CONFIGS[name]))
    ]


# In Icarus, which builds them in a moment; those that are hard for Verilator come after.
@pytest.mark.sim
@pytest.mark.needs("iverilog")
@pytest.mark.parametrize(("kind", "name"), _pairs(*CONFIGS))
def test_unit_equals_model(kind: str, name: str) -> None:
    result = _run(kind, name)
    assert {test.partition("/")[0] for test in result.tests} == {kind}


@pytest.mark.sim
@pytest.mark.needs("verilator")
@pytest.mark.parametrize(
    "kind",
    # Units with latches; the others are the same to Verilator: `make test-slow`.
    [
        pytest.param(kind, marks=[] if kind.endswith("memory") else [pytest.mark.slow])
        for kind in UNITS
    ],
)
def test_unit_equals_model_in_verilator(kind: str) -> None:
    _run(kind, "pipelined", "verilator")


@pytest.mark.sim
@pytest.mark.needs("iverilog")
@pytest.mark.parametrize(
    ("kind", "name"),
    [*_pairs("unrolled", "sram"), ("encoder", "window"), ("encoder", "node")],
)
def test_one_spoiled_bit_is_caught(kind: str, name: str) -> None:
    with pytest.raises(runner.SimulationFailed, match=r"must be|received"):
        _run(kind, name, spoil=True)


def test_unknown_unit() -> None:
    with pytest.raises(HalutError, match=r"unit must be one of .*, not \'encode\'"):
        build_unit("encode", AcceleratorConfig())
