"""What an accelerator behind `halut_axi` is given to look up the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.files import write_text
from halut.program import Program
from halut.tiles import widen
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.image_file import image_file, image_plan
from rtl_gen.config import AcceleratorConfig

if TYPE_CHECKING:
    from halut.nn.c_export.steps import LookUp, Step

__all__ = ["bus_block", "in_range", "layer_programs", "taken", "write_image"]

_DATA_BITS = 32  # of the system's bus
_LEVELS = 4  # of trees, as the firmware has them


def bus_block(config: AcceleratorConfig) -> AxiConfig:
    """The block around an accelerator that fits the system's bus.

    Raises
    ------
    HalutError
        When the firmware cannot use such an accelerator.
    """
    whole = config.parallel_codebooks == config.n_codebooks
    for rule, holds in (
        ("n_prototypes must be 16", config.tree_depth == _LEVELS),
        ("input_format must be int8", config.input_format == "int8"),
        ("lut_format must be int", config.lut_format == "int"),
        ("output_format must be raw", not config.has_output_stage),
        ("overflow must be absent", config.overflow is None),
        ("rows must be 1, or parallel_codebooks n_codebooks", config.rows == 1 or whole),
        ("acc_bits must be at least 9", config.result_bits > 8),
    ):
        if not holds:
            raise HalutError(f"{rule} (configuration {config.name})")
    return AxiConfig(core=config, data_bits=_DATA_BITS, burst_beats=16, outstanding=2)


def taken(steps: Sequence[Step], lut_bits: int) -> list[LookUp]:
    """The layers that the firmware gives to the accelerator or to the custom function unit.

    Parameters
    ----------
    steps : sequence of Step
        Of a network in words.
    lut_bits : {4, 8}
        Entries that the unit adds.
    """
    from halut.nn.c_export.emit import entry_kind
    from halut.nn.c_export.steps import LookUp

    kind = {4: "i4", 8: "packed"}[lut_bits]
    return [
        step
        for step in steps
        if isinstance(step, LookUp)
        and step.inputs[0].kind == "i8"
        and step.tap.shape[2] == _LEVELS
        and entry_kind(step) == kind
    ]


def in_range(
    thresholds: NDArray[np.int64], table: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Trees with the same results whose thresholds are words of 8 bits.

    The C export has nodes that no word passes to the left (a threshold below -128). Here every word
    goes left, to what was on the right.

    Parameters
    ----------
    thresholds : int64 ndarray of shape (C, K - 1)
        Breadth-first; greater goes right.
    table : int64 ndarray of shape (C, K, M)

    Returns
    -------
    thresholds, table : int64 ndarrays of these shapes

    Examples
    --------
    >>> in_range(np.array([[-129]]), np.array([[[1], [2]]]))[1].tolist()
    [[[2], [2]]]
    """
    thresholds, table = thresholds.copy(), table.copy()
    n_nodes = thresholds.shape[1]
    depth = n_nodes.bit_length()
    for level in range(depth):
        for place in range(1 << level):
            node = (1 << level) - 1 + place
            to_right = thresholds[:, node] < -128
            thresholds[to_right, node] = 127
            for below in range(level + 1, depth):
                width = 1 << (below - level - 1)
                left = (1 << below) - 1 + 2 * place * width
                thresholds[to_right, left : left + width] = thresholds[
                    to_right, left + width : left + 2 * width
                ]
            width = 1 << (depth - level - 1)
            left = 2 * place * width
            table[to_right, left : left + width] = table[to_right, left + width : left + 2 * width]
    return np.minimum(thresholds, 127), table


def layer_programs(step: LookUp) -> list[Program]:
    """A layer in words as programs, one per group.

    The processor gathers what trees compare, in their order: feature ``c * T + t`` is what level
    t of codebook c reads.
    """
    found = []
    for thresholds, table in zip(step.thresholds, step.table, strict=True):
        n_codebooks, depth = step.tap.shape[1:]
        nodes, entries = in_range(thresholds, table)
        found.append(
            Program(
                n_features=n_codebooks * depth,
                input_format="int8",
                split_dims=np.arange(n_codebooks * depth).reshape(n_codebooks, depth),
                thresholds=nodes.astype(np.int16),
                lut=entries.transpose(2, 0, 1).astype(np.int8),
                lut_bits=step.lut_bits,
                lut_scale=np.ones(entries.shape[2]),
                lut_offset=np.zeros(entries.shape[2]),
            )
        )
    return found


def write_image(config: AxiConfig, steps: Sequence[LookUp], folder: Path) -> None:
    """Write ``accelerator_image.h``: the image of all layers, and which part of it each is.

    Parameters
    ----------
    config : AxiConfig
    steps : sequence of LookUp
        Looked-up layers in words that `taken` returns, in the order in which they run.
    folder : Path

    Raises
    ------
    HalutError
        When a layer does not fit the accelerator.
    """
    programs = [program for step in steps for program in layer_programs(step)]
    names = [step.name for step in steps for _ in range(step.tap.shape[0])]
    core = config.accelerator
    for name, program in zip(names, programs, strict=True):
        if program.lut_bits > core.lut_bits:
            raise HalutError(
                f"layers must have entries of at most {core.lut_bits} bits for the accelerator "
                f"{core.name}, not {program.lut_bits} (layer {name})"
            )
    fitting = [widen(program, lut_bits=core.lut_bits) for program in programs]
    image = image_file(config, fitting)
    places = image_plan(config, fitting, names, [None] * len(fitting))["programs"]
    # Of every group of a layer: its first program, the parts of its codebooks, whose results are
    # added up, and of its outputs. Programs go codebook part by codebook part.
    groups = []
    for layer in range(len(fitting)):
        own = [place for place in places if place["layer"] == layer]
        n_parts = own[0]["parts"]
        groups.append((own[0]["program"], n_parts, len(own) // n_parts))
    words = np.frombuffer(image, dtype="<u4").tolist()
    rows = ",\n".join(
        ", ".join(f"{word:#x}U" for word in words[k : k + 8]) for k in range(0, len(words), 8)
    )
    listed = ", ".join(f"{{{first}, {part}, {column}}}" for first, part, column in groups)
    text = (
        "/* What the accelerator is loaded with, and which programs each group of a layer is. */\n"
        "#include <stdint.h>\n"
        f"#define ACCELERATOR_GROUPS {len(groups)}U\n"
        "static const struct { uint32_t first, n_parts, n_columns; } "
        f"accelerator_groups[ACCELERATOR_GROUPS] = {{{listed}}};\n"
        f"static uint32_t accelerator_image[{len(words)}] = {{\n{rows}}};\n"
    )
    write_text(folder / "accelerator_image.h", text)
