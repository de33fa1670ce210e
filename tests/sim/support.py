"""Accelerators of every number format, in two shapes: one build of each for all tests."""

from __future__ import annotations

from rtl_gen import AcceleratorConfig
from sim.runner import available_simulators

QUICK = "icarus" if "icarus" in available_simulators() else None
"""The simulator for small designs: Icarus builds them in a moment, Verilator in seconds."""

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
    **{f"lut_int{bits}": {"lut_bits": bits, "input_format": "int8"} for bits in (4, 8, 12, 16)},
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


def accelerator(formats: str, shape: str) -> AcceleratorConfig:
    """Return the accelerator of one of `FORMATS` in one of `SHAPES`."""
    return AcceleratorConfig(name=formats, **SHAPES[shape], **FORMATS[formats])
