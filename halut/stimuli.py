"""Random programs and input words for benches, those at which comparisons go wrong among them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import integer_at_least, power_of_two
from halut.encoding import at_level, at_node, compared_keys, threshold_keys
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.output import OutputStage
from halut.program import Program

__all__ = ["corner_words", "random_program", "random_words"]


def corner_words(input_format: str) -> NDArray[Any]:
    """Words at which comparisons go wrong, when they do."""
    floating = FLOAT_FORMATS.get(input_format)
    if floating:
        one = floating.words(1.0)
        normal = 1 << floating.mantissa_bits
        ones = (1 << (floating.bits - 1)) - 1
        magnitudes = {0, 1, normal - 1, normal, int(one), int(one) + 1, floating.largest - 1,
                      floating.largest, floating.largest + 1, ones}  # fmt: skip
        positive = np.array(sorted(magnitudes), dtype=floating.dtype)
        return np.concatenate([positive, positive | floating.dtype(ones + 1)])
    limit = 2 ** (input_format_bits(input_format) - 1)
    values = {-limit, -limit + 1, -1, 0, 1, limit - 2, limit - 1}
    return np.array(sorted(values), dtype=np.int16)


def _random_words(
    rng: np.random.Generator, input_format: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    if input_format in FLOAT_FORMATS:
        return FLOAT_FORMATS[input_format].words(rng.standard_normal(shape))
    limit = 2 ** (input_format_bits(input_format) - 1)
    return rng.integers(-limit, limit, shape, dtype=np.int16)


def random_program(
    rng: np.random.Generator,
    n_codebooks: int,
    n_prototypes: int,
    n_outputs: int,
    input_format: str = "fp16",
    lut_bits: int = 8,
    n_features: int | None = None,
    corner: bool = False,
    output_format: str = "raw",
    relu: bool = False,
    lut_format: str = "int",
    terms: int = 1,
    window: int = 0,
    splits: str = "level",
) -> Program:
    """Return a program of random content, for benches.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the randomness comes from.
    n_codebooks : int
        C.
    n_prototypes : int
        K, a power of two from 2 to 256.
    n_outputs : int
        M.
    input_format : str, default "fp16"
        A floating format, or ``"int2"`` to ``"int16"``.
    lut_bits : int, default 8
        2 to 16.
    n_features : int, optional
        D; one column per codebook and level when absent.
    corner : bool, default False
        Special thresholds (zeros of both signs, subnormals, infinities, the format's ends, all
        of a tree's nodes equal) and extreme tables (the first output's accumulator can only
        reach its lowest value, the last output's only its highest), extreme constants of the
        output stage.
    output_format : {"raw", "fp16", "int8"}, default "raw"
    relu : bool, default False
        See `OutputStage`.
    lut_format : {"int", "fp16"}, default "int"
    terms : int, default 1
        Words that a level adds up; see `Program`.
    window : int, default 0
        Words of a codebook's window, 0 for none; see `Program`.
    splits : {"level", "node"}, default "level"
        What has a place in the window of its own.

    Returns
    -------
    Program
    """
    power_of_two("n_prototypes", n_prototypes)
    integer_at_least("n_codebooks", n_codebooks, 1)
    integer_at_least("n_outputs", n_outputs, 1)
    tree_depth = int(n_prototypes).bit_length() - 1
    n_values = window or tree_depth * terms
    features = n_codebooks * n_values if n_features is None else n_features
    sums: dict[str, Any] = {}
    dims: tuple[int, ...] = (n_codebooks, tree_depth, terms)[: 2 + (terms > 1)]
    if window:
        dims = (n_codebooks, window)
        n_places = tree_depth if splits == "level" else n_prototypes - 1
        sums = {"places": rng.integers(0, window, (n_codebooks, n_places))}
    if terms > 1:
        levels = (n_codebooks, tree_depth, terms)
        sums = {"signs": rng.choice(np.array([-1, 1]), levels)}
        if corner:  # all subtracted, and all added: sums reach both ends
            sums["signs"][0, 0], sums["signs"][-1, -1] = -1, 1
    nodes = (n_codebooks, n_prototypes - 1)
    low, high = -(2 ** (lut_bits - 1)), 2 ** (lut_bits - 1) - 1
    shape = (n_outputs, n_codebooks, n_prototypes)
    lut: NDArray[Any]
    if corner:
        pool = corner_words(input_format)
        if input_format in FLOAT_FORMATS:
            pool = pool[~np.isnan(FLOAT_FORMATS[input_format].values(pool))]
        thresholds = rng.choice(pool, nodes)
        level = rng.choice(pool, (n_codebooks, 1))
        thresholds = np.where(rng.random((n_codebooks, 1)) < 0.25, level, thresholds)
    else:
        thresholds = _random_words(rng, input_format, nodes)
    if terms > 1:
        half = 2 ** (input_format_bits(input_format) - 1 + (terms - 1).bit_length())
        wide = rng.integers(-half, half, nodes)
        if corner:
            ends = rng.choice(np.array([-half, -1, 0, half - 1]), nodes)
            wide = np.where(rng.random(nodes) < 0.3, ends, wide // terms)
        thresholds = wide.astype(np.int16)
    if lut_format == "fp16":
        # Sums round, since entries differ in size.
        size = 2.0 ** rng.integers(-14, 15, shape)
        lut = (rng.standard_normal(shape) * size).astype(np.float16)
        if corner:
            kind = rng.random(shape)
            special = rng.choice(corner_words("fp16"), shape).view(np.float16)
            lut = np.where(kind < 0.1, special, lut)
            # Both signs of few values cancel: zeros have signs, and subnormals appear.
            small = rng.choice(np.array([-3, -1, -0.0, 0.0, 1, 2]) * 2.0**-24, shape)
            lut[0] = small[0]
            lut[-1] = np.where(kind[-1] < 0.03, special[-1], lut[-1])
    elif corner:
        lut = rng.choice(np.array([low, low, -1, 0, 1, high, high]), shape)
        lut[0] = low
        lut[-1] = high
    else:
        lut = rng.integers(low, high + 1, shape)
    program = Program(
        n_features=features,
        input_format=input_format,
        lut_bits=lut_bits,
        lut_format=lut_format,
        split_dims=rng.integers(0, features, dims),
        thresholds=thresholds.view(np.float16) if input_format == "fp16" else thresholds,
        lut=lut,
        lut_scale=rng.uniform(0.01, 0.1, n_outputs),
        lut_offset=rng.uniform(-1, 1, n_outputs),
        provenance={"source": "halut.golden.random_program"},
        **sums,
    )
    if output_format == "raw" and not relu:
        return program
    return dataclasses.replace(
        program, output=_random_stage(rng, program, output_format, relu, corner)
    )


def _random_stage(
    rng: np.random.Generator, program: Program, output_format: str, relu: bool, corner: bool
) -> OutputStage:
    """Constants that use the range of the results; corner ones leave it, cancel, or are zero."""
    shape = (program.n_outputs,)
    bits = program.accumulator_bits
    constants: dict[str, NDArray[Any]] = {}
    if output_format == "fp16" and program.lut_format == "int":
        scale = rng.uniform(0.5, 2, shape) * 2.0 ** rng.integers(-16, 12 - bits, shape)
        offset = rng.standard_normal(shape) * scale * 2.0 ** (bits - 3)
        if corner:
            tiny = float(np.finfo(np.float32).smallest_subnormal)
            special = [0, tiny, 2.0**-26, 2.0**-24, 2.0**-14, 1, 65504, 2.0**100, 3e38]
            scale = np.where(rng.random(shape) < 0.5, scale, rng.choice(special, shape))
            beside = rng.choice([-tiny, -0.0, -(2.0**-25), 2.0**-20, -65519.99, 65520, 3e38], shape)
            cancelling = -(scale.astype(np.float32) * rng.integers(-(2 ** (bits - 2)), 0, shape))
            cancelling = cancelling * (1 + rng.integers(-2, 3, shape) * 2.0**-23)
            offset = np.where(rng.random(shape) < 0.5, beside, cancelling)
            offset = np.clip(offset, -3e38, 3e38)
        constants = {"scale": scale, "offset": offset}
    elif output_format == "int8":
        shift = rng.integers(bits, bits + 8, shape)
        constants = {
            "multiplier": rng.integers(0, 2**16, shape),
            "shift": shift,
            "addend": rng.integers(-120, 120, shape) * 2**shift + 2**shift // 2,
            "zero": rng.integers(-128, 128, shape),
        }
        if corner:
            edge = 2**47
            constants = {
                "multiplier": rng.choice([0, 1, 2**15, 2**16 - 1], shape),
                "shift": rng.choice([0, 1, bits, bits + 7, 47], shape),
                "addend": rng.choice([-edge, -1, 0, 1, 2 ** (bits + 7), edge - 1], shape),
                "zero": rng.choice([-128, -1, 0, 127], shape),
            }
    return OutputStage(format=output_format, relu=relu, **constants)


def random_words(
    rng: np.random.Generator, program: Program, n_rows: int, corner: bool = False
) -> NDArray[Any]:
    """Return random input words for a program, for benches.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the randomness comes from.
    program : Program
        The program that they are for.
    n_rows : int
        N.
    corner : bool, default False
        Special values (zeros of both signs, subnormals, infinities, NaN of both signs, the
        format's ends), the thresholds that a row is compared with and their direct
        neighbours.

    Returns
    -------
    ndarray of shape (n_rows, n_codebooks, n_values)
        uint16 or uint8 for floating formats, int16 otherwise.
    """
    shape = (n_rows, program.n_codebooks, program.n_values)
    words = _random_words(rng, program.input_format, shape)
    if not corner:
        return words
    special = rng.choice(corner_words(program.input_format), shape)
    kind = rng.random(shape)
    words = np.where(kind < 0.4, special, words)
    drawn = words.copy()
    # Equality is where strictness shows: the threshold of the node that the walk has reached.
    if program.signs is None:
        stored = program.threshold_words
        thresholds = threshold_keys(program)
    else:
        stored = thresholds = threshold_keys(program)
    limit = 2 ** (program.input_bits - 1)
    partial = np.zeros(shape[:2], dtype=np.intp)
    compared = np.zeros(shape, dtype=bool)
    for level in range(program.tree_depth):
        last = _last_places(program, partial, level)
        near = at_node(stored, partial, level).astype(np.int32)
        near += rng.integers(-1, 2, shape[:2])
        if program.signs is not None:  # the last term makes up for the others
            np.put_along_axis(words, last, 0, axis=2)
            near -= compared_keys(program, words)[:, :, level]
            near = np.where(program.signs[:, level, -1] < 0, -near, near)
        if program.input_format in FLOAT_FORMATS:
            near &= (1 << program.input_bits) - 1
        else:
            np.clip(near, -limit, limit - 1, out=near)
        is_near = np.take_along_axis(kind, last, axis=2)[:, :, 0] > 0.6
        is_near &= ~np.take_along_axis(compared, last, axis=2)[:, :, 0]  # the walk came by it
        given = np.take_along_axis(drawn, last, axis=2)[:, :, 0]
        chosen = np.where(is_near, near.astype(words.dtype), given)
        for array, value in ((words, chosen), (drawn, chosen), (compared, np.array(True))):
            np.put_along_axis(array, last, value[..., None], axis=2)
        keys = at_level(program, compared_keys(program, words), partial, level)
        partial = 2 * partial + (keys > at_node(thresholds, partial, level))
    return words


def _last_places(program: Program, partial: NDArray[np.intp], level: int) -> NDArray[np.intp]:
    """Return where the last word that a level compares is: (n_rows, n_codebooks, 1)."""
    if program.places is None:
        last: Any = (level + 1) * program.terms - 1
    elif program.splits == "level":
        last = program.places[:, level]
    else:
        last = at_node(program.places, partial, level)
    return np.broadcast_to(np.asarray(last, dtype=np.intp), partial.shape)[:, :, None]
