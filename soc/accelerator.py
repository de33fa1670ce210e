"""What an accelerator behind `halut_axi` is given to look up the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import located
from halut.errors import HalutError
from halut.files import write_text
from halut.output import CONSTANTS, OutputStage
from halut.program import Program
from halut.tiles import tile, widen
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.image_file import image_file, image_plan
from rtl_gen.config import AcceleratorConfig

if TYPE_CHECKING:
    from halut.nn.c_export.steps import LookUp, Stage, Step, Words

__all__ = ["bus_block", "in_range", "layer_programs", "places", "taken", "with_stage",
           "write_image"]  # fmt: skip

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
        ("output_format must be int8", config.output_format == "int8"),
        ("relu must be false", not config.relu),
        ("terms must be 1", config.terms == 1),
        ("window must be 0", config.window == 0),
        ("overflow must be absent", config.overflow is None),
        ("double_buffer must be false", not config.double_buffer),
        ("rows must be 1, or parallel_codebooks n_codebooks", config.rows == 1 or whole),
    ):
        if not holds:
            raise HalutError(f"{rule} (configuration {config.name})")
    return AxiConfig(core=config, data_bits=_DATA_BITS, burst_beats=64, outstanding=2)


def taken(steps: Sequence[Step], lut_bits: int) -> list[LookUp]:
    """The layers that the firmware gives to the accelerator.

    Parameters
    ----------
    steps : sequence of Step
        Of a network in words.
    lut_bits : {4, 8}
        Entries of the tables, those that the custom function unit adds.
    """
    from halut.nn.c_export.emit import entry_kind
    from halut.nn.c_export.steps import LookUp, Words

    kind = {4: "i4", 8: "packed"}[lut_bits]
    return [
        step
        for step in steps
        if isinstance(step, LookUp)
        and step.inputs[0].kind == "i8"
        and step.reads == "levels"
        and step.tap.shape[2] == _LEVELS
        and entry_kind(step) == kind
        and isinstance(step.stage, Words)
        and step.output.kind == "i8"
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


def with_stage(
    words: Words, n_codebooks: int, table: NDArray[np.int64]
) -> tuple[OutputStage, NDArray[np.int64]]:
    """The output stage of an accelerator that gives the same words, and its table.

    Its multipliers are not negative and have 16 bits. Where one is, every entry e becomes -1 - e:
    their sum is that of the C entries, negated, less C.

    Parameters
    ----------
    words : Words
        Of M outputs.
    n_codebooks : int
        C.
    table : int64 ndarray of shape (C, K, M)

    Raises
    ------
    HalutError
        When a constant does not fit the accelerator.

    Examples
    --------
    >>> from halut.nn.c_export.steps import Words
    >>> one = {name: np.array([number]) for name, number in
    ...        dict(multiplier=-3, shift=1, addend=4, low=-128).items()}
    >>> stage, table = with_stage(Words(**one), 1, np.array([[[5], [-2]]]))
    >>> stage.apply(table[0]).ravel().tolist(), [(5 * -3 + 4) >> 1, (-2 * -3 + 4) >> 1]
    ([-6, 5], [-6, 5])
    """
    negative = words.multiplier < 0
    multiplier = np.abs(words.multiplier)
    addend = words.addend + np.where(negative, n_codebooks * multiplier, 0)
    # A multiplier that rounding made one bit longer is even: half of everything is the same.
    halved = (multiplier > CONSTANTS["int8"]["multiplier"][2]) & (words.shift > 0)
    constants: dict[str, Any] = {
        "multiplier": np.where(halved, multiplier // 2, multiplier),
        "addend": np.where(halved, addend >> 1, addend),
        "shift": words.shift - halved,
    }
    if (halved & (multiplier % 2 != 0)).any() or (words.low != -128).any():
        raise HalutError("words must have multipliers of 16 bits, and -128 as the lowest")
    for name, array in constants.items():
        _, low, high = CONSTANTS["int8"][name]
        if array.min() < low or array.max() > high:
            raise HalutError(
                f"{name} must be in [{low}, {high}] for the accelerator, not {array.min()} to "
                f"{array.max()}"
            )
    zero = np.zeros(len(multiplier), np.int64)
    stage = OutputStage(format="int8", zero=zero, **constants)
    return stage, np.where(negative, -1 - table, table)


def layer_programs(step: LookUp) -> list[Program]:
    """A layer in words as programs, one per group.

    The processor gathers what trees compare, in their order: feature ``c * T + t`` is what level
    t of codebook c reads.
    """
    found = []
    for group, (thresholds, table) in enumerate(zip(step.thresholds, step.table, strict=True)):
        n_codebooks, depth = step.tap.shape[1:]
        n_outputs = table.shape[2]
        outputs = slice(group * n_outputs, (group + 1) * n_outputs)
        stage, entries = with_stage(_some(step.stage, outputs), n_codebooks, table)
        nodes, entries = in_range(thresholds, entries)
        found.append(
            Program(
                n_features=n_codebooks * depth,
                input_format="int8",
                split_dims=np.arange(n_codebooks * depth).reshape(n_codebooks, depth),
                thresholds=nodes.astype(np.int16),
                lut=entries.transpose(2, 0, 1).astype(np.int8),
                lut_bits=step.lut_bits,
                lut_scale=np.ones(n_outputs),
                lut_offset=np.zeros(n_outputs),
                output=stage,
            )
        )
    return found


def _some(stage: Stage, outputs: slice) -> Words:
    from halut.nn.c_export.steps import Words

    if not isinstance(stage, Words):
        raise HalutError("layers of an accelerator must store words")
    names = ("multiplier", "shift", "addend", "low")
    return Words(**{name: getattr(stage, name)[outputs] for name in names})


def places(step: LookUp) -> NDArray[np.int64]:
    """Where a layer's trees read in its image with padding, as the firmware stores it.

    Returns
    -------
    int64 ndarray of shape (G, C, T)
        Bytes from what the first pixel's kernel covers first.
    """
    window, source, out = step.window, step.inputs[0].shape, step.output.shape
    reach = (window.kernel[1] - 1) * window.dilation[1] + 1
    last = (out[1] - 1) * window.stride[1] - window.padding[1] + reach
    width = window.padding[1] + max(last, source[1])
    down, across = np.divmod(step.tap, window.kernel[1])
    pixel = down * window.dilation[0] * width + across * window.dilation[1]
    return pixel * source[2] + step.channel


def write_image(config: AxiConfig, steps: Sequence[LookUp], folder: Path, most_bytes: int) -> None:
    """Write ``accelerator_image.h``: the image of all layers, and which part of it each is.

    Parameters
    ----------
    config : AxiConfig
    steps : sequence of LookUp
        Looked-up layers in words that `taken` returns, in the order in which they run.
    folder : Path
    most_bytes : int
        Of the memory that holds the image.

    Raises
    ------
    HalutError
        When a layer does not fit the accelerator, or all of them the memory.
    """
    programs, names = [], []
    for step in steps:
        with located(step.name):
            for program in layer_programs(step):
                programs.append(widen(program, lut_bits=config.accelerator.lut_bits))
                names.append(step.name)
                tile(programs[-1], config.accelerator.n_codebooks, config.accelerator.n_outputs)
    image = image_file(config, programs)
    if len(image) > most_bytes:
        raise HalutError(
            f"programs must fit the {most_bytes} bytes of their memory, not take {len(image)}"
        )
    plan = image_plan(config, programs, names, [None] * len(programs))["programs"]
    groups: list[tuple[int, ...]] = []
    rows: list[str] = []
    for levels in (group for step in steps for group in places(step)):
        own = [one["program"] for one in plan if one["layer"] == len(groups)]
        groups.append((own[0], len(own), len(rows)))
        rows += [_braces(row) for row in levels.tolist()]
    words = np.frombuffer(image, dtype="<u4").tolist()
    lines = ",\n".join(
        ", ".join(f"{word:#x}U" for word in words[k : k + 8]) for k in range(0, len(words), 8)
    )
    listed = ",\n".join(map(_braces, groups))
    text = (
        "/* What the accelerator is loaded with; of every group of a layer its programs, and the\n"
        "   first of its codebooks, which read at these places. */\n"
        "#include <stdint.h>\n"
        f"#define ACCELERATOR_GROUPS {len(groups)}U\n"
        "static const struct { uint32_t first, n_columns, first_codebook; }\n"
        f"accelerator_groups[ACCELERATOR_GROUPS] = {{\n{listed}}};\n"
        f"static const uint16_t accelerator_places[{len(rows)}][{_LEVELS}] = {{\n"
        + ",\n".join(rows)
        + f"}};\nstatic const uint32_t accelerator_image[{len(words)}] = {{\n{lines}}};\n"
    )
    write_text(folder / "accelerator_image.h", text)


def _braces(numbers: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, numbers)) + "}"
