"""C text of a network: its constants, the schedule of its steps, and a test vector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.nn.c_export.schedule import Schedule
from halut.nn.c_export.steps import (
    Add,
    Affine,
    Clamp,
    LookUp,
    Maximum,
    Mean,
    Network,
    Product,
    Quantise,
    Scaled,
    Stage,
    Step,
    Value,
    Window,
    Words,
)

__all__ = ["Source", "emit_network", "emit_vector"]

_C_TYPES = {"<f4": "float", "|i1": "int8_t", "|u1": "uint8_t", "<i2": "int16_t",
            "<i4": "int32_t", "<u4": "uint32_t", "<i8": "int64_t"}  # fmt: skip
_TYPES = {"f32": "HALUT_F32", "i32": "HALUT_I32", "i16": "HALUT_I16", "i8": "HALUT_I8"}
_WIDTH = 100
_MOST_IN_HALVES = 4096  # codebooks whose 4-bit entries add up in 16 bits


@dataclass(eq=False)
class Source:
    """C source of a network.

    Attributes
    ----------
    header, code : str
        Content of network.h and network.c.
    constants : dict of str to int
        Bytes of every array of constants by name.
    """

    header: str
    code: str
    constants: dict[str, int]


@dataclass(eq=False)
class _Constants:
    """Arrays of constants, each written once."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def put(self, name: str, array: NDArray[Any], dtype: str) -> str:
        """Keep an array and return its name."""
        stored = np.ascontiguousarray(array).astype(dtype)
        if not np.array_equal(stored, array):
            raise HalutError(f"{name} must fit {_C_TYPES[dtype]}")
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise HalutError(f"parameters must be finite in C, not NaN or infinite ({name})")
        self.arrays[name] = stored.ravel()
        return name

    def text(self) -> str:
        """Return the definitions, and the function that checks them."""
        parts = [
            f"static const {_C_TYPES[array.dtype.str]} {name}[{array.size}] = "
            f"{{\n{_listed(array)}}};\n"
            for name, array in self.arrays.items()
        ]
        rows = "".join(
            f"    {{{name}, {array.size}, {array.itemsize}}},\n"
            for name, array in self.arrays.items()
        )
        parts.append(f"static const halut_array constants[] = {{\n{rows}}};\n")
        return "\n".join(parts)

    def check_sum(self) -> int:
        """Return the FNV-1a check sum of all arrays, as ``halut_check_sum`` computes it."""
        result = 2166136261
        for array in self.arrays.values():
            for byte in array.tobytes():
                result = (result ^ byte) * 16777619 & 0xFFFFFFFF
        return result


def emit_network(network: Network, plan: Schedule, title: str) -> Source:
    """Write a network in C.

    Parameters
    ----------
    network : Network
    plan : Schedule
        Of this network.
    title : str
        One line for the heads of the files.

    Returns
    -------
    Source
    """
    constants = _Constants()
    layers: list[str] = []
    calls: list[str] = []
    for step in network.steps:
        write = _STEPS[type(step)]
        declared, call = write(step, constants, plan)
        layers += [declared] if declared else []
        calls += [f"    /* {step.name}: {_sizes(step)} */", *(f"    {line}" for line in call)]
    head = f"/* {title}\n * Written by `python -m halut export --c`; do not edit. */\n"
    n_words = max(1, plan.n_bytes // 4)
    header = f"""{head}#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#define NETWORK_INPUTS {network.input.size} /* {_image(network.input)}, channels last */
#define NETWORK_OUTPUTS {network.output.size} /* {_image(network.output)}, channels last */

/* Memory that the network needs while it runs; its content before and after does not matter. */
typedef union {{
    float f32[{n_words}];
    int32_t i32[{n_words}];
    uint32_t u32[{n_words}];
    int16_t i16[{2 * n_words}];
    int8_t i8[{4 * n_words}];
}} network_workspace;

/* Computes the outputs of one input. Returns 0, or -1 when an input is infinite or NaN. */
int network_run(network_workspace *workspace, const float *input, float *output);

/* Returns 0 when all tables, thresholds and weights are as they were written, else -1. */
int network_check_tables(void);

#endif
"""
    body = "\n".join(calls)
    declared = "".join(f"{layer}\n" for layer in layers)
    unused = "" if plan.n_bytes else "    (void)workspace;\n"
    code = f"""{head}#include "network.h"

#include "halut_layers.h"

{constants.text()}
{declared}int network_run(network_workspace *workspace, const float *input, float *output)
{{
{unused}    if (!halut_finite(input, NETWORK_INPUTS))
        return -1;
{body}
    return 0;
}}

int network_check_tables(void)
{{
    const size_t n = sizeof constants / sizeof constants[0];
    return halut_check_sum(constants, n) == {constants.check_sum():#010x}U ? 0 : -1;
}}
"""
    sizes = {name: array.nbytes for name, array in constants.arrays.items()}
    return Source(header, code, sizes)


def emit_vector(inputs: NDArray[np.float32], outputs: NDArray[np.float32]) -> tuple[str, str]:
    """Write vector.h and vector.c: the bits of inputs (n, n_inputs) and outputs (n, n_outputs)."""
    header = f"""/* Inputs, and the bits of the outputs that they must give. */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdint.h>

#define VECTOR_IMAGES {len(inputs)}U

extern const uint32_t vector_inputs[{len(inputs)}][{inputs.shape[1]}];
extern const uint32_t vector_outputs[{len(outputs)}][{outputs.shape[1]}];

#endif
"""
    parts = ['#include "vector.h"\n']
    for name, array in (("vector_inputs", inputs), ("vector_outputs", outputs)):
        bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
        rows = "".join(f"{{\n{_listed(row)}}},\n" for row in bits)
        shape = f"[{bits.shape[0]}][{bits.shape[1]}]"
        parts.append(f"const uint32_t {name}{shape} = {{\n{rows}}};\n")
    return header, "\n".join(parts)


# Words of C


def _literal(value: Any) -> str:
    if isinstance(value, np.floating):
        return f"{float(value).hex()}F"
    if isinstance(value, np.uint32):
        return f"{int(value):#x}U"
    if isinstance(value, np.int64):
        return f"INT64_C({int(value)})"
    return str(int(value))


def _listed(array: NDArray[Any]) -> str:
    """Return numbers separated by commas, in lines."""
    lines, line = [], "   "
    for value in array:
        word = f" {_literal(value)},"
        if len(line) + len(word) > _WIDTH:
            lines.append(line)
            line = "   "
        line += word
    return "\n".join([*lines, line]) + "\n"


def _image(value: Value) -> str:
    return "x".join(map(str, value.shape))


def _sizes(step: Step) -> str:
    return f"{', '.join(map(_image, step.inputs))} -> {_image(step.output)}"


def _place(value: Value, plan: Schedule) -> str:
    buffer = plan.buffer(value)
    if buffer.caller:
        return buffer.caller
    return f"workspace->{value.kind} + {buffer.offset // _SIZES[value.kind]}"


_SIZES = {"f32": 4, "i32": 4, "u32": 4, "i16": 2, "i8": 1}


def _scratch(step: Step, kind: str, plan: Schedule) -> str:
    buffer = plan.scratch.get(id(step))
    return "NULL" if buffer is None else f"workspace->{kind} + {buffer.offset // _SIZES[kind]}"


def _window(window: Window, step: Step) -> str:
    source, out = step.inputs[0].shape, step.output.shape
    numbers: Iterable[int] = (
        *source, *out[:2], *window.kernel, *window.stride, *window.dilation, *window.padding,
    )  # fmt: skip
    return f"{{{', '.join(map(str, numbers))}}}"


def _stage(stage: Stage, step: Step, constants: _Constants) -> str:
    fields = [f".type = {_TYPES[step.output.kind]}"]

    def put(name: str, array: Any, dtype: str) -> None:
        full = np.broadcast_to(array, step.output.shape[2:])
        fields.append(f".{name} = {constants.put(f'{step.name}_{name}', full, dtype)}")

    if isinstance(stage, Words):
        for name, dtype in (("multiplier", "<i4"), ("shift", "|u1"), ("addend", "<i8"),
                            ("low", "|i1")):  # fmt: skip
            put(name, getattr(stage, name), dtype)
        if stage.grid is not None:
            pair = np.array(stage.grid, dtype=np.float32)
            fields.append(f".grid = {constants.put(f'{step.name}_grid', pair, '<f4')}")
    else:
        fields.append(f".relu = {int(stage.relu)}")
    if isinstance(stage, Scaled):
        put("scale", stage.scale, "<f4")
        put("offset", stage.offset, "<f4")
    return f"{{{', '.join(fields)}}}"


def _structure(kind: str, step: Step, fields: dict[str, Any]) -> str:
    listed = "".join(f"    .{name} = {value},\n" for name, value in fields.items())
    return f"static const {kind} {step.name}_layer = {{\n{listed}}};\n"


def _packed(table: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
    """Return words of entries of so many bits, made positive, the first in the lowest bits."""
    by_word = table.reshape(-1, 32 // bits) + 2 ** (bits - 1)
    return (by_word << np.arange(0, 32, bits)).sum(axis=1).astype(np.uint32)


# Steps: each writes the constants of its layer, and its call.


def entry_kind(step: LookUp) -> str:
    """How entries of a table lie in memory: ``"i16"``, ``"i8"``, ``"packed"`` or ``"i4"``."""
    _, n_codebooks, _, n_outputs = step.table.shape
    if step.lut_bits > 8:
        return "i16"
    if step.lut_bits <= 4 and n_outputs % 8 == 0 and n_codebooks <= _MOST_IN_HALVES:
        return "i4"
    return "packed" if n_outputs % 4 == 0 else "i8"


def _look_up(step: LookUp, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:
    source = step.inputs[0]
    n_groups, n_codebooks, n_prototypes, n_outputs = step.table.shape
    kernel_width = step.window.kernel[1]
    down, across = step.tap // kernel_width, step.tap % kernel_width
    pixel = down * step.window.dilation[0] * source.shape[1] + across * step.window.dilation[1]
    offset = pixel * source.shape[2] + step.channel
    put = constants.put
    name, entry = f"{step.name}_table", entry_kind(step)
    in_word = {"i4": 8, "packed": 4}.get(entry)
    row_size = n_outputs // (in_word or 1)
    if in_word:
        table = put(name, _packed(step.table, 32 // in_word), "<u4")
    else:
        table = put(name, step.table, {"i16": "<i2", "i8": "|i1"}[entry])
    pad, pads = 0, "NULL"
    if step.pad is not None and (step.pad == step.pad[0]).all():
        pad = int(step.pad[0])
    elif step.pad is not None:
        pads = put(f"{step.name}_pads", step.pad, "<i2")
    fields = {
        "window": _window(step.window, step),
        "n_groups": n_groups,
        "n_codebooks": n_codebooks,
        "depth": n_prototypes.bit_length() - 1,
        "n_outputs": n_outputs,
        "row_size": row_size,
        "offset": put(f"{step.name}_read_offset", offset, "<i4"),
        "tap": put(f"{step.name}_tap", step.tap, "|u1"),
        "thresholds": put(
            f"{step.name}_thresholds",
            step.thresholds,
            "<i4" if source.kind == "f32" or step.reads == "sums" else "<i2",
        ),
        "pad": pad,
        "pads": pads,
        "table": table,
        "stage": _stage(step.stage, step, constants),
    }
    kind = source.kind if step.reads == "levels" else f"{step.reads}_{source.kind}"
    declared, layer = _structure("halut_look_up", step, fields), f"&{step.name}_layer"
    if step.terms is not None:
        terms = step.terms
        within = {
            "layer": "{\n" + "".join(f"        .{n} = {v},\n" for n, v in fields.items()) + "    }",
            "terms": terms.signs.shape[3],
            "bits": terms.bits,
            "sign": put(f"{step.name}_sign", terms.signs, "|i1"),
            "scale": put(f"{step.name}_word_scale", terms.scale, "<f4"),
            "offset": put(f"{step.name}_word_offset", terms.offset, "<f4"),
        }
        if source.grid is not None:
            within |= {"input_scale": source.grid.scale.hex(), "input_zero": source.grid.zero}
        declared, layer = _structure("halut_sums", step, within), f"{layer}.layer"
    call = (
        f"halut_look_up_{kind}_{entry}({layer}, {_place(source, plan)}, "
        f"{_place(step.output, plan)}, {_scratch(step, 'u32', plan)});"
    )
    return declared, [call]


def _product(step: Product, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:
    source = step.inputs[0]
    floats = source.kind == "f32"
    n_groups, n_outputs, n_features = step.weights.shape
    # Four outputs side by side, feature by feature.
    filled = np.pad(step.weights, ((0, 0), (0, -n_outputs % 4), (0, 0)))
    blocks = filled.reshape(n_groups, -1, 4, n_features).swapaxes(2, 3)
    bias = step.bias
    fields = {
        "window": _window(step.window, step),
        "n_groups": n_groups,
        "n_features": n_features,
        "n_outputs": n_outputs,
        "weights": constants.put(f"{step.name}_weights", blocks, "<f4" if floats else "|i1"),
        "bias": "NULL" if bias is None else constants.put(f"{step.name}_bias", bias, "<f4"),
        "pad": step.pad,
    }
    if not floats:
        fields["stage"] = _stage(step.stage, step, constants)
    call = (
        f"halut_product_{source.kind}(&{step.name}_layer, {_place(source, plan)}, "
        f"{_place(step.output, plan)}, {_scratch(step, source.kind, plan)});"
    )
    return _structure("halut_product", step, fields), [call]


def _copied(step: Step, plan: Schedule) -> tuple[list[str], str]:
    """Return a copy of the input to where the output lies, unless that is the same place."""
    source, output = _place(step.inputs[0], plan), _place(step.output, plan)
    if source == output:
        return [], output
    return [f"halut_copy({source}, {output}, {step.output.size});"], output


def _affine(step: Affine, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:
    lines, place = _copied(step, plan)
    scale = constants.put(f"{step.name}_scale", step.scale, "<f4")
    offset = constants.put(f"{step.name}_offset", step.offset, "<f4")
    n_channels = step.output.shape[2]
    function = "halut_affine" if step.fused else "halut_scale_and_add"
    lines.append(f"{function}({place}, {step.output.size}, {n_channels}, {scale}, {offset});")
    return "", lines


def _clamp(step: Clamp, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:  # noqa: ARG001
    lines, place = _copied(step, plan)
    if step.high is None and step.low == 0:
        return "", [*lines, f"halut_relu({place}, {step.output.size});"]
    low, high = (_literal(np.float32(value)) for value in (step.low, step.high))
    return "", [*lines, f"halut_clamp({place}, {step.output.size}, {low}, {high});"]


def _maximum(step: Maximum, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:  # noqa: ARG001
    source, output = step.inputs[0], step.output
    declared = f"static const halut_window {step.name}_window = {_window(step.window, step)};\n"
    call = (
        f"halut_max_{output.kind}(&{step.name}_window, {_place(source, plan)}, "
        f"{_place(output, plan)});"
    )
    return declared, [call]


def _mean(step: Mean, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:
    source, output = step.inputs[0], step.output
    declared = f"static const halut_window {step.name}_window = {_window(step.window, step)};\n"
    stage = ""
    if source.kind != "f32":
        text = _stage(step.stage, step, constants)
        declared += f"\nstatic const halut_stage {step.name}_stage = {text};\n"
        stage = f"&{step.name}_stage, "
    call = (
        f"halut_mean_{source.kind}(&{step.name}_window, {stage}{_place(source, plan)}, "
        f"{_place(output, plan)});"
    )
    return declared, [call]


def _add(step: Add, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:  # noqa: ARG001
    a, b = (_place(value, plan) for value in step.inputs)
    output = f"{_place(step.output, plan)}, {step.output.size});"
    if step.output.kind == "f32":
        return "", [f"halut_add_f32({a}, {b}, {output}"]
    first, second = step.multipliers
    declared = (
        f"static const halut_sum {step.name}_sum = {{{first}, {second}, "
        f"INT64_C({step.addend}), {step.shift}, {step.low}}};\n"
    )
    return declared, [f"halut_add_i8(&{step.name}_sum, {a}, {b}, {output}"]


def _quantise(step: Quantise, constants: _Constants, plan: Schedule) -> tuple[str, list[str]]:  # noqa: ARG001
    source, output = (_place(value, plan) for value in (step.inputs[0], step.output))
    inverse = _literal(np.float32(step.inverse))
    return "", [f"halut_quantise({source}, {output}, {step.output.size}, {inverse}, {step.zero});"]


_STEPS: dict[type[Step], Any] = {
    LookUp: _look_up,
    Product: _product,
    Affine: _affine,
    Clamp: _clamp,
    Maximum: _maximum,
    Mean: _mean,
    Add: _add,
    Quantise: _quantise,
}
