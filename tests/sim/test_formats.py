"""Every number format on the Verilog, in the two shapes of an accelerator, under every stall."""

from __future__ import annotations

import json

import pytest

from halut.errors import HalutError
from rtl_gen import AcceleratorConfig
from sim import runner
from sim.simulation import build_accelerator

SHAPES = {
    "p1q1": {"n_codebooks": 8, "n_prototypes": 8, "n_outputs": 4},
    "p2q4": {"n_codebooks": 8, "n_prototypes": 8, "n_outputs": 4, "rows": 2,
             "parallel_codebooks": 4, "encoder": "pipelined"},
}  # fmt: skip
FORMATS = {
    **{
        f"inputs_{name}": {"input_format": name}
        for name in ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int4", "int8", "int12", "int16")
    },
    **{
        f"lut_int{bits}": {"lut_bits": bits, "input_format": "int8"} for bits in (4, 8, 12, 16)
    },
    "acc_24": {"acc_bits": 24, "input_format": "int8"},
    "acc_32": {"acc_bits": 32, "input_format": "int8"},
    "saturate": {"acc_bits": 9, "overflow": "saturate", "input_format": "int8"},
    "wrap": {"acc_bits": 9, "overflow": "wrap", "input_format": "int8"},
    "lut_fp16": {"lut_format": "fp16", "lut_bits": 16},
    "lut_fp16_relu": {"lut_format": "fp16", "lut_bits": 16, "relu": True, "input_format": "bf16"},
    "lut_to_fp16": {"lut_format": "fp16", "lut_bits": 16, "output_format": "fp16"},
    "double_to_int8": {"double_buffer": True, "output_format": "int8", "input_format": "int8"},
    "relu": {"relu": True, "input_format": "int8"},
    "to_fp16": {"output_format": "fp16", "input_format": "int8"},
    "to_fp16_relu": {"output_format": "fp16", "relu": True, "memory": "ff"},
    "to_int8": {"output_format": "int8", "input_format": "int8", "lut_bits": 12},
    "to_int8_relu": {"output_format": "int8", "relu": True, "memory": "lutram"},
}
# One of each kind; `make test-slow` runs all.
FAST = {("inputs_bf16", "p1q1"), ("inputs_fp8_e4m3", "p2q4"), ("to_fp16", "p1q1"),
        ("to_int8_relu", "p2q4"), ("saturate", "p1q1"), ("lut_fp16", "p2q4"),
        ("lut_to_fp16", "p2q4")}  # fmt: skip


@pytest.mark.sim
@pytest.mark.parametrize(
    ("formats", "shape"),
    [
        pytest.param(
            formats, shape, marks=[] if (formats, shape) in FAST else [pytest.mark.slow]
        )
        for formats in FORMATS
        for shape in SHAPES
    ],
)
def test_format_equals_model(formats: str, shape: str) -> None:
    try:
        runner.pick_simulator("verilator")
    except HalutError as error:
        pytest.skip(str(error))
    config = AcceleratorConfig(name=formats, **SHAPES[shape], **FORMATS[formats])
    built = build_accelerator(config, simulator="verilator")
    env = {"HALUT_CONFIG": json.dumps(config.to_dict())}
    result = runner.run(built, "sim.bench_matmul", env=env)
    assert len(result.tests) == 13
