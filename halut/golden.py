"""The bit-exact model of the accelerator, in integer arithmetic on integer arrays.

What this module computes is what the hardware computes, on every output bit, for every input,
special values included. The walk through a tree is Algorithm 1 of MADDNESS (arXiv 2106.10860)
with a strict comparison: a value goes right when it is greater than the threshold, not when it
equals it. As in Stella Nera (arXiv 2311.10207), and unlike section 4.4 of MADDNESS, table entries
are summed exactly, never averaged.

Floats are compared as integers: sign and magnitude become one signed key, for which -0 = +0, and
NaN comes before everything, so that it goes left.

Examples
--------
>>> import numpy as np
>>> rng = np.random.default_rng(1)
>>> program = random_program(rng, 4, 16, 3, "fp16", 8)
>>> words = random_words(rng, program, 5)
>>> words.shape, words.dtype.name
((5, 4, 4), 'uint16')
>>> accumulators = matmul(program, words)
>>> accumulators.shape, accumulators.dtype.name
((5, 3), 'int32')
>>> dequantize(program, accumulators).dtype.name
'float32'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.errors import HalutError
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.output import OutputStage
from halut.program import Program

T = TypeVar("T")

__all__ = [
    "OVERFLOWS",
    "accumulate",
    "add_in_order",
    "check_order",
    "check_sums",
    "check_words",
    "comparison_keys",
    "dequantize",
    "encode",
    "matmul",
    "pairwise",
    "random_program",
    "random_words",
    "results",
]


def comparison_keys(words: ArrayLike, input_format: str) -> NDArray[np.int32]:
    """Map input words to integers that compare as the words' values do.

    Parameters
    ----------
    words : ndarray of any shape
        Bit patterns, uint16 or uint8, for floating formats; int16 in the format's range for
        integer formats.
    input_format : str
        A floating format, or ``"int2"`` to ``"int16"``.

    Returns
    -------
    int32 ndarray of the shape of `words`, range [-0x8000, 0x7fff]
        For ``"fp16"``: -0 and +0 are both 0, infinities are -0x7c00 and 0x7c00, every NaN is
        -0x8000; see `FloatFormat.keys`. Integer formats are returned as they are.

    Raises
    ------
    HalutError
        When the words are not of the format.

    Examples
    --------
    >>> import numpy as np
    >>> halves = np.array([-np.inf, -0.0, 0.0, 6e-8, np.inf, np.nan], dtype=np.float16)
    >>> comparison_keys(halves.view(np.uint16), "fp16").tolist()
    [-31744, 0, 0, 1, 31744, -32768]
    """
    array = np.asarray(words)
    bits = input_format_bits(input_format)
    floating = FLOAT_FORMATS.get(input_format)
    wanted = np.dtype(floating.dtype if floating else np.int16)
    if array.dtype != wanted:
        raise HalutError(f'words must be {wanted} for input_format "{input_format}", '
                         f"not {array.dtype}")  # fmt: skip
    if floating:
        return floating.keys(array)
    limit = 2 ** (bits - 1)
    if array.size and (array.min() < -limit or array.max() >= limit):
        raise HalutError(
            f"words must be in [{-limit}, {limit - 1}], not {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)


def encode(program: Program, words: ArrayLike) -> NDArray[np.uint8]:
    """Walk every row through every codebook's tree.

    Level t compares the row's word t with the threshold of the node that the walk has reached;
    strictly greater gives bit 1. The root's decision is the most significant bit.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        As `Program.input_words` returns them.

    Returns
    -------
    uint8 ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
        Codes.
    """
    partial = _walk(program, check_words(program, words), program.tree_depth)
    return partial.astype(np.uint8)


def check_words(program: Program, words: ArrayLike) -> NDArray[Any]:
    """Return words as an array; raise `HalutError` unless their shape fits the program."""
    array = np.asarray(words)
    wanted = (program.n_codebooks, program.tree_depth)
    if array.ndim != 3 or array.shape[1:] != wanted:
        raise HalutError(f"words must have shape (any, {wanted[0]}, {wanted[1]}), "
                         f"not {array.shape}")  # fmt: skip
    return array


def _walk(program: Program, words: NDArray[Any], n_levels: int) -> NDArray[np.intp]:
    """Return the decisions of the first levels, the root's as the most significant bit."""
    keys = comparison_keys(words, program.input_format)
    thresholds = comparison_keys(program.threshold_words, program.input_format)  # (C, K-1)
    codebook = np.arange(program.n_codebooks)
    partial = np.zeros(words.shape[:2], dtype=np.intp)  # (N, C)
    for level in range(n_levels):
        reached = thresholds[codebook, 2**level - 1 + partial]
        partial = 2 * partial + (keys[:, :, level] > reached)
    return partial


OVERFLOWS = ("saturate", "wrap")
"""What an accumulator that is too narrow does."""


def pairwise(terms: Sequence[T], add: Callable[[T, T], T]) -> T:
    """Add up terms: neighbours first, then their sums; an odd last term is kept for later.

    The order of additions of the adder tree, in the model and in the hardware.

    Examples
    --------
    >>> pairwise(["a", "b", "c", "d", "e"], lambda a, b: f"({a}{b})")
    '(((ab)(cd))e)'
    """
    while len(terms) > 1:
        pairs = [add(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + list(terms[len(terms) - len(terms) % 2 :])
    return terms[0]


def add_in_order(
    entry: Callable[[int], T],
    n_codebooks: int,
    add: Callable[[T, T], T],
    parallel_codebooks: int = 1,
    codebook_tiles: int = 1,
    codebooks_per_load: int | None = None,
) -> T:
    """Add up one entry per codebook, in the order that `accumulate` states.

    Parameters
    ----------
    entry : callable
        Takes a codebook.
    n_codebooks : int
    add : callable
        Of two terms; may work in place on the first one, which is used no more.
    parallel_codebooks, codebook_tiles, codebooks_per_load
        As for `accumulate`.

    Examples
    --------
    >>> def order(*sizes):
    ...     return add_in_order("abcdefg".__getitem__, 7, lambda a, b: f"({a}{b})", *sizes)
    >>> order(), order(4), order(4, 2), order(2, 1, 4)
    ('((((((ab)c)d)e)f)g)', '(((ab)(cd))((ef)g))', '(((ab)(ef))((cd)g))', '(((ab)(cd))((ef)g))')
    """
    lanes = parallel_codebooks // codebook_tiles
    size = codebooks_per_load or n_codebooks

    def load(first: int) -> T:
        end = min(first + size, n_codebooks)
        units = range(first, min(first + parallel_codebooks, end), lanes)
        return pairwise([unit(start, end) for start in units], add)

    def unit(start: int, end: int) -> T:
        steps = range(start, end, parallel_codebooks)
        return reduce(add, (step(first, min(first + lanes, end)) for first in steps))

    def step(first: int, end: int) -> T:
        return pairwise([entry(codebook) for codebook in range(first, end)], add)

    return reduce(add, (load(first) for first in range(0, n_codebooks, size)))


def check_order(
    parallel_codebooks: int, codebook_tiles: int, codebooks_per_load: int | None
) -> None:
    """Raise `HalutError` unless an accelerator may have these numbers; see `accumulate`."""
    if parallel_codebooks < 1:
        raise HalutError(f"parallel_codebooks must be at least 1, not {parallel_codebooks}")
    if codebook_tiles < 1 or parallel_codebooks % codebook_tiles:
        raise HalutError(
            f"codebook_tiles must divide parallel_codebooks = {parallel_codebooks}, "
            f"not be {codebook_tiles}"
        )
    if codebooks_per_load is not None and (
        codebooks_per_load < 1 or codebooks_per_load % parallel_codebooks
    ):
        raise HalutError(
            f"codebooks_per_load must be a multiple of parallel_codebooks = {parallel_codebooks}, "
            f"not {codebooks_per_load}"
        )


def accumulate(
    program: Program,
    codes: ArrayLike,
    acc_bits: int | None = None,
    overflow: str | None = None,
    parallel_codebooks: int = 1,
    codebook_tiles: int = 1,
    codebooks_per_load: int | None = None,
) -> NDArray[Any]:
    """Add up the table entries that the codes select.

    Exact integers are the same in any order. Half floats and saturation are not: codebooks
    g*Q to g*Q + Q-1, with Q = `parallel_codebooks`, are added up by `pairwise`, and the result to
    the accumulator, for g = 0, 1, …, which begins as the first of them. Saturation happens once
    per g, then, not within `pairwise`. Several units share the Q codebooks of a step, unit d the
    d-th part of them; each accumulates its part so, and the accumulators are added by `pairwise`.
    The last step may be without its last codebooks. Where an accelerator has too few codebooks, the
    sums of as many as it has are added up, one range of them after the other.

    Parameters
    ----------
    program : Program
    codes : integer ndarray of shape (n_rows, n_codebooks), range [0, n_prototypes)
    acc_bits : int, optional
        Width of the accumulator, `Program.accumulator_bits` when absent. A wider one changes
        nothing but the dtype.
    overflow : {"saturate", "wrap"}, optional
        Needed, and allowed, only where `acc_bits` is narrower than that.
    parallel_codebooks : int, default 1
        Q, at least 1.
    codebook_tiles : int, default 1
        Units that share them, a divisor of Q; must be 1 with `overflow`.
    codebooks_per_load : int, optional
        C of the accelerator, a multiple of Q; all when absent, as it must be with `overflow`.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        Accumulators: int32 up to 32 bits, int64 above; float32 for tables of half floats, with
        every NaN 0x7fc00000.

    Raises
    ------
    HalutError
        When the codes do not fit the program, or `acc_bits` could overflow and `overflow` is
        absent.
    """
    array, width = check_sums(
        program, codes, acc_bits, overflow, parallel_codebooks, codebook_tiles, codebooks_per_load
    )
    dtype = np.int32 if width <= 32 else np.int64
    table = np.ascontiguousarray(program.lut.transpose(1, 2, 0))  # (C, K, M)
    if program.lut_format == "fp16":

        def entry(codebook: int) -> NDArray[np.float32]:
            return table[codebook][array[:, codebook]].astype(np.float32)

        order = parallel_codebooks, codebook_tiles, codebooks_per_load
        with np.errstate(all="ignore"):
            floats = add_in_order(entry, program.n_codebooks, np.add, *order)
        return np.where(np.isnan(floats), np.float32(np.nan), floats)
    half = 1 << (width - 1)
    sums = np.zeros((array.shape[0], program.n_outputs), dtype=dtype)
    for codebook in range(program.n_codebooks):
        sums += table[codebook][array[:, codebook]]
        ends = (codebook + 1) % parallel_codebooks == 0 or codebook == program.n_codebooks - 1
        if overflow == "saturate" and ends:
            np.clip(sums, -half, half - 1, out=sums)
    if overflow == "wrap":
        sums = ((sums + half) & (2 * half - 1)) - half
    return sums


def check_sums(
    program: Program,
    codes: ArrayLike,
    acc_bits: int | None = None,
    overflow: str | None = None,
    parallel_codebooks: int = 1,
    codebook_tiles: int = 1,
    codebooks_per_load: int | None = None,
) -> tuple[NDArray[Any], int]:
    """Return codes as an array, and the accumulator's width in bits.

    Raises `HalutError` unless they and the other arguments are what `accumulate` takes.
    """
    check_order(parallel_codebooks, codebook_tiles, codebooks_per_load)
    if overflow is not None and (codebook_tiles > 1 or codebooks_per_load is not None):
        name = "codebook_tiles" if codebook_tiles > 1 else "codebooks_per_load"
        raise HalutError(f"overflow must be absent with {name}, not {overflow}")
    array = np.asarray(codes)
    if array.ndim != 2 or array.shape[1] != program.n_codebooks:
        raise HalutError(f"codes must have shape (any, {program.n_codebooks}), not {array.shape}")
    if array.dtype.kind not in "iu":
        raise HalutError(f"codes must be integers, not {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= program.n_prototypes):
        raise HalutError(
            f"codes must be in [0, {program.n_prototypes}), not {array.min()} to {array.max()}"
        )
    needed = program.accumulator_bits
    width = needed if acc_bits is None else acc_bits
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
        raise HalutError(f"acc_bits must be an integer, not {width!r}")
    if overflow is None:
        low, high = needed, 64
    elif overflow in OVERFLOWS:
        low, high = program.lut_bits, needed - 1
    else:
        raise HalutError(f"overflow must be one of {', '.join(OVERFLOWS)}, not {overflow!r}")
    if program.lut_format == "fp16":
        low = high = 32
    if not low <= width <= high:
        raise HalutError(f"acc_bits must be in [{low}, {high}], not {width}")
    return array, int(width)


def matmul(
    program: Program,
    words: ArrayLike,
    acc_bits: int | None = None,
    overflow: str | None = None,
    parallel_codebooks: int = 1,
    codebook_tiles: int = 1,
    codebooks_per_load: int | None = None,
) -> NDArray[Any]:
    """Return the accumulators that the hardware returns for input words.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        As `Program.input_words` returns them.
    acc_bits, overflow, parallel_codebooks, codebook_tiles, codebooks_per_load
        As for `accumulate`.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs), int32, int64 or float32
        ``accumulate(program, encode(program, words), …)``.
    """
    codes = encode(program, words)
    return accumulate(
        program, codes, acc_bits, overflow, parallel_codebooks, codebook_tiles, codebooks_per_load
    )


def results(
    program: Program,
    words: ArrayLike,
    acc_bits: int | None = None,
    overflow: str | None = None,
    parallel_codebooks: int = 1,
    codebook_tiles: int = 1,
    codebooks_per_load: int | None = None,
) -> NDArray[Any]:
    """Return what leaves the hardware for input words: accumulators after the output stage.

    Parameters
    ----------
    program : Program
    words : ndarray of shape (n_rows, n_codebooks, tree_depth)
        As `Program.input_words` returns them.
    acc_bits, overflow, parallel_codebooks, codebook_tiles, codebooks_per_load
        As for `accumulate`.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        `OutputStage.apply` of the accumulators: int32, int64 or float32; float16; or int8.
    """
    sums = matmul(
        program, words, acc_bits, overflow, parallel_codebooks, codebook_tiles, codebooks_per_load
    )
    return program.output.apply(sums)


def dequantize(program: Program, accumulators: ArrayLike) -> NDArray[np.float32]:
    """Turn accumulators into values of the product.

    Computed in float32, in this order: an integer accumulator is rounded to float32, multiplied by
    `Program.lut_scale`, rounded, `Program.lut_offset` is added, rounded; each to nearest even.

    Parameters
    ----------
    program : Program
    accumulators : integer, or for tables of half floats float32, ndarray (n_rows, n_outputs)

    Returns
    -------
    float32 ndarray of shape (n_rows, n_outputs)
    """
    array = np.asarray(accumulators)
    if array.ndim != 2 or array.shape[1] != program.n_outputs:
        raise HalutError(
            f"accumulators must have shape (any, {program.n_outputs}), not {array.shape}"
        )
    if program.lut_format == "fp16":
        if array.dtype != np.float32:
            raise HalutError(f"accumulators must be float32, not {array.dtype}")
    elif array.dtype.kind not in "iu":
        raise HalutError(f"accumulators must be integers, not {array.dtype}")
    return array.astype(np.float32) * program.lut_scale + program.lut_offset


def _corner_words(input_format: str) -> NDArray[Any]:
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

    Returns
    -------
    Program
    """
    if n_prototypes not in {2**depth for depth in range(1, 9)}:
        raise HalutError(f"n_prototypes must be a power of two in [2, 256], not {n_prototypes}")
    for name, value in (("n_codebooks", n_codebooks), ("n_outputs", n_outputs)):
        if value < 1:
            raise HalutError(f"{name} must be at least 1, not {value}")
    tree_depth = int(n_prototypes).bit_length() - 1
    features = n_codebooks * tree_depth if n_features is None else n_features
    nodes = (n_codebooks, n_prototypes - 1)
    low, high = -(2 ** (lut_bits - 1)), 2 ** (lut_bits - 1) - 1
    shape = (n_outputs, n_codebooks, n_prototypes)
    lut: NDArray[Any]
    if corner:
        pool = _corner_words(input_format)
        if input_format in FLOAT_FORMATS:
            pool = pool[~np.isnan(FLOAT_FORMATS[input_format].values(pool))]
        thresholds = rng.choice(pool, nodes)
        level = rng.choice(pool, (n_codebooks, 1))
        thresholds = np.where(rng.random((n_codebooks, 1)) < 0.25, level, thresholds)
    else:
        thresholds = _random_words(rng, input_format, nodes)
    if lut_format == "fp16":
        # Sums round, since entries differ in size.
        size = 2.0 ** rng.integers(-14, 15, shape)
        lut = (rng.standard_normal(shape) * size).astype(np.float16)
        if corner:
            kind = rng.random(shape)
            special = rng.choice(_corner_words("fp16"), shape).view(np.float16)
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
        split_dims=rng.integers(0, features, (n_codebooks, tree_depth)),
        thresholds=thresholds.view(np.float16) if input_format == "fp16" else thresholds,
        lut=lut,
        lut_scale=rng.uniform(0.01, 0.1, n_outputs),
        lut_offset=rng.uniform(-1, 1, n_outputs),
        provenance={"source": "halut.golden.random_program"},
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
        format's ends), the thresholds that a row is compared
        with and their direct neighbours.

    Returns
    -------
    ndarray of shape (n_rows, n_codebooks, tree_depth)
        uint16 or uint8 for floating formats, int16 otherwise.
    """
    shape = (n_rows, program.n_codebooks, program.tree_depth)
    words = _random_words(rng, program.input_format, shape)
    if not corner:
        return words
    special = rng.choice(_corner_words(program.input_format), shape)
    kind = rng.random(shape)
    words = np.where(kind < 0.4, special, words)
    # Equality is where strictness shows: the threshold of the node that the walk has reached.
    stored, codebook = program.threshold_words, np.arange(program.n_codebooks)
    limit = 2 ** (program.input_bits - 1)
    for level in range(program.tree_depth):
        node = 2**level - 1 + _walk(program, words, level)
        near = stored[codebook, node].astype(np.int32)
        near += rng.integers(-1, 2, shape[:2])
        if program.input_format in FLOAT_FORMATS:
            near &= (1 << program.input_bits) - 1
        else:
            np.clip(near, -limit, limit - 1, out=near)
        words[:, :, level] = np.where(
            kind[:, :, level] > 0.6, near.astype(words.dtype), words[:, :, level]
        )
    return words
