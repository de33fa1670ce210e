"""The direct engines' streams as lists of integers: what goes in, and what must come out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rtl_gen.direct import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig
from rtl_gen.direct.multiply import digit_lines
from sim.packing import pack, unpack

__all__ = ["Job", "describe", "job", "make_job", "random_factors"]

Item = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Items of every stream of an engine, computed before a simulation starts.

    Attributes
    ----------
    program : list of tuple
        Items of the program stream, ports `program_fields`; empty when there is none.
    fixed : dict of str to int
        Input ports that stand still.
    inputs : list of tuple
        Items of the input stream, ports `input_fields`.
    outputs : list of tuple
        What the output stream must carry, ports `output_fields`.
    n_filling : int
        Leading items of `outputs` that do not come when the engine was reset just before.
    """

    program: list[Item]
    inputs: list[Item]
    outputs: list[Item]
    fixed: dict[str, int] = field(default_factory=dict)
    n_filling: int = 0
    program_fields: tuple[str, ...] = ("address", "data")
    input_fields: tuple[str, ...] = ("data",)
    output_fields: tuple[str, ...] = ("data",)


def _tuples(*columns: list[int]) -> list[Item]:
    return list(zip(*columns, strict=True))


def _dot_product_job(
    config: DotProductConfig, inputs: NDArray, weights: NDArray, lengths: NDArray
) -> Job:
    """Sums over `lengths` vectors each."""
    c = config
    ends = np.zeros(len(inputs), int)
    ends[np.cumsum(lengths) - 1] = 1
    first = np.r_[1, ends[:-1]]
    sums = c.reference(inputs, weights, first)[ends.astype(bool)]
    held = weights
    if c.recode == "weights":
        held = np.vectorize(lambda weight: digit_lines(int(weight), c.weight_bits))(weights)
    at_ports = c.weights == "ports"
    return Job(
        program=[] if at_ports else [*enumerate(pack(weights, c.weight_bits))],
        fixed={"weights": pack(held.reshape(1, -1), c.held_bits)[0]} if at_ports else {},
        inputs=_tuples(pack(inputs, c.input_bits), first.tolist(), ends.tolist()),
        input_fields=("data", "first", "last"),
        outputs=_tuples(pack(sums, c.accumulator_bits)),
    )


def _systolic_job(config: SystolicConfig, inputs: NDArray, weights: NDArray) -> Job:
    """Rows are skewed, and zeros follow until the last sum is out."""
    c = config
    behind = c.filling_transfers + 1
    n_items = len(inputs) + behind
    # Row n of the matrix, for n below 0 or above the last: zeros.
    padded = np.zeros((behind + n_items, c.rows), dtype=np.int64)
    padded[behind : behind + len(inputs)] = inputs
    items = np.arange(n_items)
    elements = np.arange(c.rows)
    skewed = padded[behind + items[:, None] - elements, elements]
    sums = c.reference(padded, weights)
    columns = np.arange(c.columns)
    results = sums[behind + items[:, None] - c.latency_cycles + 1 - columns, columns]
    return Job(
        program=_tuples(pack(weights[::-1], c.weight_bits)),
        program_fields=("data",),
        inputs=_tuples(pack(skewed, c.input_bits)),
        outputs=_tuples(pack(results, c.accumulator_bits)),
        n_filling=c.filling_transfers,
    )


def _stored_matrix_job(config: StoredMatrixConfig, inputs: NDArray, weights: NDArray) -> Job:
    c = config
    p, g, f = c.rows, c.n_groups, c.group_features
    grouped = inputs.reshape(-1, p, g, f).transpose(0, 2, 1, 3)
    items = pack(grouped.reshape(-1, p * f), c.input_bits)
    sums = c.reference(inputs, weights)
    beats = pack(sums.reshape(-1, c.output.output_width), c.accumulator_bits)
    n_beats = c.output.n_beats
    index = [k % n_beats for k in range(len(beats))]
    last = [int(k == n_beats - 1) for k in index]
    several = n_beats > 1
    return Job(
        program=[*c.image(weights)],
        inputs=_tuples(items),
        outputs=_tuples(beats, index, last) if several else _tuples(beats, last),
        output_fields=("data", "index", "last") if several else ("data", "last"),
    )


def make_job(
    config: EngineConfig,
    inputs: NDArray[np.integer],
    weights: NDArray[np.integer],
    lengths: NDArray[np.integer] | None = None,
) -> Job:
    """The streams that multiply `inputs` by `weights`.

    Parameters
    ----------
    config : EngineConfig
    inputs, weights : ndarray, integer
        As the configuration's `reference` takes them; for a stored matrix the number of rows of
        `inputs` must be a multiple of P.
    lengths : ndarray of int, optional
        Dot products only: how many vectors each sum has, one by default.
    """
    if isinstance(config, DotProductConfig):
        each = np.ones(len(inputs), int) if lengths is None else lengths
        return _dot_product_job(config, inputs, weights, each)
    if isinstance(config, SystolicConfig):
        return _systolic_job(config, inputs, weights)
    if isinstance(config, StoredMatrixConfig):
        return _stored_matrix_job(config, inputs, weights)
    raise TypeError(f"config must be a direct engine's, not {type(config).__name__}")


def random_factors(
    rng: np.random.Generator, bits: int, shape: tuple[int, ...], corner: bool = False
) -> NDArray[np.int64]:
    """Signed factors of `bits` bits, evenly distributed, or mostly extreme ones."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = rng.integers(low, high, size=shape, endpoint=True)
    if corner:
        extremes = rng.choice([low, low + 1, -1, 0, 1, high], size=shape)
        values = np.where(rng.random(shape) < 0.8, extremes, values)
        # The largest sums of either sign.
        values.flat[: values.size // 4] = low
    return values


def job(
    config: EngineConfig, rng: np.random.Generator, n_sums: int, *, corner: bool = False
) -> Job:
    """A random job.

    Parameters
    ----------
    config : EngineConfig
    rng : numpy.random.Generator
    n_sums : int
        Rows of results, rounded up to whole row groups.
    corner : bool
        Mostly extreme factors.
    """
    x, w = config.input_bits, config.weight_bits
    if isinstance(config, DotProductConfig):
        lengths = rng.integers(1, config.max_vectors, size=n_sums, endpoint=True)
        inputs = random_factors(rng, x, (int(lengths.sum()), config.length), corner)
        weights = random_factors(rng, w, (config.columns, config.length), corner)
        return make_job(config, inputs, weights, lengths)
    if isinstance(config, SystolicConfig):
        inputs = random_factors(rng, x, (n_sums, config.rows), corner)
        return make_job(
            config, inputs, random_factors(rng, w, (config.rows, config.columns), corner)
        )
    if isinstance(config, StoredMatrixConfig):
        n_rows = -(-n_sums // config.rows) * config.rows
        inputs = random_factors(rng, x, (n_rows, config.n_features), corner)
        weights = random_factors(rng, w, (config.n_features, config.n_outputs), corner)
        return make_job(config, inputs, weights)
    raise TypeError(f"config must be a direct engine's, not {type(config).__name__}")


def describe(config: EngineConfig, index: int, expected: Item, received: Item) -> str:
    """Say in words where two output items differ."""
    bits = config.accumulator_bits
    if expected[1:] != received[1:]:
        return f"the flags of item {index} must be {expected[1:]}, not {received[1:]}"
    n_fields = config.sums_per_transfer
    values = unpack([expected[0], received[0]], n_fields, bits, signed=True)
    wrong = np.flatnonzero(values[0] != values[1])
    return (
        f"sum {wrong[0]} of item {index} must be {values[0, wrong[0]]}, "
        f"not {values[1, wrong[0]]} ({len(wrong)} of {n_fields} differ)"
    )
