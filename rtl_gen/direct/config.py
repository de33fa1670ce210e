"""Configurations of the direct engines: exact integer products, the peers of the look-up engine.

Each is one validated object that the Verilog, the NumPy reference and the testbench derive from.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halut.checks import integer_in, known, mapping, one_of
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig, canonical_hash
from rtl_gen.settings import check_settings, name_setting, setting

from .multiply import cuts_suffix, digit_bits, product_sum_bits

__all__ = ["ENGINES", "DotProductConfig", "EngineConfig", "StoredMatrixConfig", "SystolicConfig"]

MAX_ACC_BITS = 32
MAX_CUTS = 5


def _wrap(sums: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Sums modulo 2**bits as signed numbers."""
    half = 1 << (bits - 1)
    return ((sums + half) & ((1 << bits) - 1)) - half


def _cuts_of(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be none or integers separated by commas, not {text!r}"
        ) from None


def _cuts_setting(default: tuple[int, ...]) -> Any:
    return setting(
        default, "--cuts", "heights of the carry-save tree at which it has pipeline registers, "
        "like 6,2, or none", parse=_cuts_of,
        shown=lambda cuts: ",".join(map(str, cuts)) or "none",
    )  # fmt: skip


def _columns_setting() -> Any:
    return setting(16, "--columns", "sums side by side", within=(1, 256))


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What all direct engines have.

    Parameters
    ----------
    name : str
        Label for reports; letters, digits, ``_`` and ``-``. Does not change the hardware.
    input_bits, weight_bits : int
        Widths of the two signed factors; 2 to 16.
    acc_bits : int, optional
        Width of a sum; at least, and by default, what cannot overflow; at most 32.
    cuts : tuple of int
        Pipeline registers inside a sum of products, one set per entry: as soon as the carry-save
        tree is no higher than it. Decreasing, 2 to 1024; at most 5.
    """

    engine: ClassVar[str]
    top: ClassVar[str]

    name: str = name_setting()
    input_bits: int = setting(8, "--input-bits", "width of an input in bits", within=(2, 16))
    weight_bits: int = setting(8, "--weight-bits", "width of a weight in bits", within=(2, 16))
    acc_bits: int | None = setting(
        None, "--acc-bits", "width of a sum in bits", derived="cannot overflow"
    )
    cuts: tuple[int, ...] = _cuts_setting((4,))

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_cuts()
        self._check()
        if self.minimum_acc_bits > MAX_ACC_BITS:
            raise HalutError(
                f"a sum must need at most {MAX_ACC_BITS} bits, not {self.minimum_acc_bits}"
            )
        if self.acc_bits is None:
            object.__setattr__(self, "acc_bits", self.minimum_acc_bits)
        integer_in("acc_bits", self.acc_bits, self.minimum_acc_bits, MAX_ACC_BITS)

    def _check(self) -> None:
        """Check the fields of the engine."""

    def _check_cuts(self) -> None:
        cuts = self.cuts
        valid = isinstance(cuts, tuple | list) and len(cuts) <= MAX_CUTS
        valid = valid and all(isinstance(cut, int) and 2 <= cut <= 1024 for cut in cuts)
        if not valid or any(a <= b for a, b in pairwise(cuts)):
            raise HalutError(
                f"cuts must be at most {MAX_CUTS} decreasing integers in [2, 1024], not {cuts!r}"
            )
        object.__setattr__(self, "cuts", tuple(cuts))

    def factors(self, what: str, values: ArrayLike, shape: tuple[int | None, ...]) -> NDArray:
        """Validate an array of factors: `what` is "input" or "weight".

        Parameters
        ----------
        shape : tuple
            None where any size may be.

        Returns
        -------
        ndarray of int64
        """
        bits = self.input_bits if what == "input" else self.weight_bits
        array = np.asarray(values)
        if not np.issubdtype(array.dtype, np.integer):
            raise HalutError(f"{what}s must be integers, not {array.dtype}")
        fits = len(array.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = tuple("n" if size is None else size for size in shape)
            raise HalutError(f"{what}s must have shape {wanted}, not {array.shape}")
        low, high = -1 << (bits - 1), (1 << (bits - 1)) - 1
        if array.size and (array.min() < low or array.max() > high):
            raise HalutError(
                f"{what}s must be in [{low}, {high}], not [{array.min()}, {array.max()}]"
            )
        return array.astype(np.int64)

    def wrap(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums as an accumulator of `acc_bits` holds them."""
        return _wrap(sums, self.accumulator_bits)

    @property
    def accumulator_bits(self) -> int:
        """Bits of a sum."""
        assert self.acc_bits is not None
        return self.acc_bits

    @property
    def products_per_sum(self) -> int:
        """Products that one sum is made of, at most."""
        raise TypeError(f"{type(self).__name__} must define products_per_sum")

    @property
    def stages(self) -> int:
        """Pipeline stages of a sum of products; the last one carries and accumulates."""
        return len(self.cuts) + 1

    @property
    def minimum_acc_bits(self) -> int:
        """Bits of a sum that cannot overflow."""
        return product_sum_bits(self.input_bits, self.weight_bits, self.products_per_sum)

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle at full rate."""
        raise TypeError(f"{type(self).__name__} must define macs_per_cycle")

    @property
    def sums_per_transfer(self) -> int:
        """Sums in one output transfer."""
        raise TypeError(f"{type(self).__name__} must define sums_per_transfer")

    @property
    def held_matrix(self) -> tuple[int, int]:
        """Features and outputs of the matrix that is held at once."""
        raise TypeError(f"{type(self).__name__} must define held_matrix")

    @property
    def program_words(self) -> int:
        """Words that load `held_matrix`; 0 when weights are held outside."""
        raise TypeError(f"{type(self).__name__} must define program_words")

    @property
    def program_data_bits(self) -> int:
        """Weights of a program word, in bits; without its address."""
        raise TypeError(f"{type(self).__name__} must define program_data_bits")

    @property
    def latency_cycles(self) -> int:
        """Clock cycles from an input transfer to the output transfer that it completes."""
        raise TypeError(f"{type(self).__name__} must define latency_cycles")

    @property
    def slug(self) -> str:
        """File-system name made of the parameters that change the hardware."""
        raise TypeError(f"{type(self).__name__} must define slug")

    @property
    def _suffix(self) -> str:
        cuts = cuts_suffix(self.cuts)
        return f"x{self.input_bits}_w{self.weight_bits}_acc{self.accumulator_bits}{cuts}"

    def to_dict(self) -> dict[str, Any]:
        """Every field, with the engine's name, ready for JSON."""
        return {"engine": self.engine, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> EngineConfig:
        """Build from a mapping of field names; ``engine`` says which engine's."""
        values = mapping("a configuration", values)
        engine = values.pop("engine", None)
        one_of("engine", engine, ENGINES)
        known("a field", values, [f.name for f in dataclasses.fields(ENGINES[engine])])
        return ENGINES[engine](**values)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the configuration as canonical JSON."""
        return canonical_hash(self.to_dict())


@dataclass(frozen=True, kw_only=True)
class DotProductConfig(EngineConfig):
    """Dot-product array: one vector of inputs meets one vector of weights per column.

    Parameters
    ----------
    length : int
        Products per column and cycle; 1 to 256.
    columns : int
        Dot products side by side; 1 to 256.
    max_vectors : int
        Vectors that one sum is accumulated over, at most; sets the accumulator's width.
    weights : {"ports", "latch", "ff"}
        Where weights are held: outside, in latches with a clock gate per column, in flip-flops.
    recode : {"inputs", "weights", "synthesis"}
        The factor that is Booth-recoded, before it meets the other: inputs once for all columns;
        weights once when they are stored, and those at ports come recoded. Rows of zero weight
        digits stand still, which saves energy. Synthesis: products and sums are written as
        operators and left to the tool; without cuts only.

    Examples
    --------
    >>> config = DotProductConfig()
    >>> config.macs_per_cycle, config.accumulator_bits
    (256, 24)
    """

    engine: ClassVar[str] = "dot-product"
    top: ClassVar[str] = "halut_dot_product_array"

    length: int = setting(16, "--length", "products per column and cycle", within=(1, 256))
    columns: int = _columns_setting()
    max_vectors: int = setting(16, "--max-vectors", "vectors per sum, at most", within=(1, 1 << 16))
    weights: str = setting("ports", "--weights", "held in", choices=("ports", "latch", "ff"))
    recode: str = setting(
        "inputs", "--recode", "Booth-recoded: {}, which leaves it to the tool",
        choices=("inputs", "weights", "synthesis"),
    )  # fmt: skip

    def _check(self) -> None:
        if self.recode == "synthesis" and self.cuts:
            raise HalutError(f"cuts must be none when recode is synthesis, not {self.cuts}")

    @property
    def held_bits(self) -> int:
        """Bits that hold one weight, recoded or not."""
        return digit_bits(self.weight_bits) if self.recode == "weights" else self.weight_bits

    @property
    def products_per_sum(self) -> int:
        return self.length * self.max_vectors

    @property
    def macs_per_cycle(self) -> int:
        return self.length * self.columns

    @property
    def sums_per_transfer(self) -> int:
        return self.columns

    @property
    def held_matrix(self) -> tuple[int, int]:
        return self.length, self.columns

    @property
    def program_words(self) -> int:
        return 0 if self.weights == "ports" else self.columns

    @property
    def program_data_bits(self) -> int:
        return self.length * self.weight_bits

    @property
    def latency_cycles(self) -> int:
        return 1 + self.stages

    @property
    def slug(self) -> str:
        return (
            f"dot_product_n{self.length}_c{self.columns}_{self._suffix}"
            f"_{self.weights}_{self.recode}"
        )

    def reference(
        self, inputs: ArrayLike, weights: ArrayLike, first: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """What the accumulators hold after each vector.

        Parameters
        ----------
        inputs : array-like of shape (n, length), integer
        weights : array-like of shape (columns, length), or (n, columns, length), integer
        first : array-like of shape (n,), bool, optional
            Where a new sum begins; everywhere by default.

        Returns
        -------
        ndarray of shape (n, columns), int64
            In the range of signed `acc_bits` bits.
        """
        x = self.factors("input", inputs, (None, self.length))
        wanted = (self.columns, self.length)
        per_vector = np.ndim(weights) == 3
        w = self.factors("weight", weights, (len(x), *wanted) if per_vector else wanted)
        steps = np.einsum("nl,ncl->nc", x, w) if per_vector else x @ w.T
        begins = np.ones(len(x), bool) if first is None else np.asarray(first, bool)
        sums = np.zeros_like(steps)
        total = np.zeros(self.columns, np.int64)
        for k, step in enumerate(steps):
            total = step + (0 if begins[k] else total)
            sums[k] = total
        return self.wrap(sums)


@dataclass(frozen=True, kw_only=True)
class SystolicConfig(EngineConfig):
    """Weight-stationary systolic array: inputs move right, sums move down.

    Parameters
    ----------
    rows : int
        Inputs side by side, products per sum; 1 to 256.
    columns : int
        Sums side by side; 1 to 256.

    Examples
    --------
    >>> SystolicConfig().macs_per_cycle
    256
    """

    engine: ClassVar[str] = "systolic"
    top: ClassVar[str] = "halut_systolic_array"

    rows: int = setting(16, "--rows", "inputs side by side, products per sum", within=(1, 256))
    columns: int = _columns_setting()
    cuts: tuple[int, ...] = _cuts_setting(())

    @property
    def products_per_sum(self) -> int:
        return self.rows

    @property
    def macs_per_cycle(self) -> int:
        return self.rows * self.columns

    @property
    def sums_per_transfer(self) -> int:
        return self.columns

    @property
    def held_matrix(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def program_words(self) -> int:
        return self.rows

    @property
    def program_data_bits(self) -> int:
        return self.columns * self.weight_bits

    @property
    def latency_cycles(self) -> int:
        """Transfers from a row's first input to column 0's sum of it."""
        return self.rows + self.stages

    @property
    def filling_transfers(self) -> int:
        """Input transfers after a reset that no output transfer follows.

        Sums that began before the first transfer leave until then.
        """
        return self.latency_cycles + self.columns - 1

    @property
    def slug(self) -> str:
        return f"systolic_r{self.rows}_c{self.columns}_{self._suffix}"

    def reference(self, inputs: ArrayLike, weights: ArrayLike) -> NDArray[np.int64]:
        """The product of two integer matrices.

        Parameters
        ----------
        inputs : array-like of shape (n, rows), integer
        weights : array-like of shape (rows, columns), integer

        Returns
        -------
        ndarray of shape (n, columns), int64
            In the range of signed `acc_bits` bits.
        """
        x = self.factors("input", inputs, (None, self.rows))
        w = self.factors("weight", weights, (self.rows, self.columns))
        return self.wrap(x @ w)


@dataclass(frozen=True, kw_only=True)
class StoredMatrixConfig(EngineConfig):
    """Exact engine that stores its matrix: a look-up accelerator's job, with multipliers.

    A row of n_groups * group_features inputs arrives in n_groups transfers.

    Parameters
    ----------
    n_groups : int
        G, transfers per row group; 1 to 1024.
    group_features : int
        Features of a row per transfer; 1 to 1024.
    n_outputs : int
        M, columns of the stored matrix; 1 to 1024.
    rows : int
        P, rows of inputs side by side; 1 to 256.
    outputs_per_cycle : int, optional
        W, as `AcceleratorConfig.outputs_per_cycle`.
    memory : {"latch", "ff"}
        Store of the matrix.
    write_word_bits : int
        Upper bound on the width of a program word, which spans outputs.

    Examples
    --------
    >>> config = StoredMatrixConfig.of(AcceleratorConfig(n_codebooks=16, n_outputs=8))
    >>> config.n_features, config.macs_per_cycle, config.accumulator_bits
    (144, 72, 24)
    """

    engine: ClassVar[str] = "stored-matrix"
    top: ClassVar[str] = "halut_stored_matrix"

    n_groups: int = setting(16, "--groups", "transfers per row group", within=(1, 1024))
    group_features: int = setting(9, "--group-features", "features per transfer", within=(1, 1024))
    n_outputs: int = setting(8, "--num-m", "outputs M", within=(1, 1024))
    rows: int = setting(1, "--rows", "rows P of A in parallel", within=(1, 256))
    outputs_per_cycle: int | None = setting(
        None, "--outputs-per-cycle", "results W per output transfer",
        derived="fewest that keep up",
    )  # fmt: skip
    memory: str = setting("latch", "--memory", "store", choices=("latch", "ff"))
    write_word_bits: int = setting(64, "--write-word-bits", "bound on a program word in bits")

    @classmethod
    def of(cls, accelerator: AcceleratorConfig, **fields: Any) -> StoredMatrixConfig:
        """The engine with the matrix and the throughput of `accelerator`.

        The matrix has n_codebooks * codebook_width rows; inputs and weights have 8 bits.
        """
        return cls(
            **{
                "name": accelerator.name,
                "n_groups": accelerator.n_groups,
                "group_features": accelerator.parallel_codebooks * accelerator.codebook_width,
                "n_outputs": accelerator.n_outputs,
                "rows": accelerator.rows,
                "outputs_per_cycle": accelerator.outputs_per_cycle,
                "write_word_bits": accelerator.write_word_bits,
                **fields,
            }
        )

    def _check(self) -> None:
        integer_in("write_word_bits", self.write_word_bits, self.weight_bits, 4096)
        if self.outputs_per_cycle is None:
            object.__setattr__(self, "outputs_per_cycle", self.output.output_width)
        else:
            _ = self.output

    @property
    def output(self) -> AcceleratorConfig:
        """The accelerator whose output stage this engine has."""
        return AcceleratorConfig(
            n_codebooks=self.n_groups,
            n_outputs=self.n_outputs,
            rows=self.rows,
            outputs_per_cycle=self.outputs_per_cycle,
            lut_bits=2,
            acc_bits=self.acc_bits if self.acc_bits is not None else MAX_ACC_BITS,
        )

    @property
    def n_features(self) -> int:
        """D, rows of the stored matrix."""
        return self.n_groups * self.group_features

    @property
    def outputs_per_word(self) -> int:
        """Outputs U that one program word spans; divides M."""
        fits = self.write_word_bits // self.weight_bits
        return max(u for u in range(1, self.n_outputs + 1) if self.n_outputs % u == 0 and u <= fits)

    @property
    def n_blocks(self) -> int:
        """Blocks of outputs, each written by its own program words."""
        return self.n_outputs // self.outputs_per_word

    @property
    def products_per_sum(self) -> int:
        return self.n_features

    @property
    def macs_per_cycle(self) -> int:
        interval = max(self.n_groups, self.output.n_beats)
        return self.rows * self.n_features * self.n_outputs // interval

    @property
    def sums_per_transfer(self) -> int:
        return self.output.output_width

    @property
    def held_matrix(self) -> tuple[int, int]:
        return self.n_features, self.n_outputs

    @property
    def program_words(self) -> int:
        return self.n_features * self.n_blocks

    @property
    def program_data_bits(self) -> int:
        return self.outputs_per_word * self.weight_bits

    @property
    def latency_cycles(self) -> int:
        return 1 + self.stages + int(self.output.n_beats > 1)

    @property
    def slug(self) -> str:
        return (
            f"stored_matrix_g{self.n_groups}_f{self.group_features}_m{self.n_outputs}"
            f"_p{self.rows}_o{self.outputs_per_cycle}_{self._suffix}_{self.memory}"
            f"_u{self.outputs_per_word}"
        )

    def reference(self, inputs: ArrayLike, weights: ArrayLike) -> NDArray[np.int64]:
        """The product of two integer matrices.

        Parameters
        ----------
        inputs : array-like of shape (n, n_features), integer
        weights : array-like of shape (n_features, n_outputs), integer

        Returns
        -------
        ndarray of shape (n, n_outputs), int64
            In the range of signed `acc_bits` bits.
        """
        x = self.factors("input", inputs, (None, self.n_features))
        w = self.factors("weight", weights, (self.n_features, self.n_outputs))
        return self.wrap(x @ w)

    def image(self, weights: ArrayLike) -> list[tuple[int, int]]:
        """Program words (address, data) that store a matrix.

        Address ``(group * group_features + feature) * n_blocks + block`` holds the weights of one
        feature for the block's outputs, the first in the lowest bits.

        Parameters
        ----------
        weights : array-like of shape (n_features, n_outputs), integer
        """
        w = self.factors("weight", weights, (self.n_features, self.n_outputs))
        words = w.reshape(self.n_features * self.n_blocks, self.outputs_per_word)
        mask = (1 << self.weight_bits) - 1
        return [
            (address, sum((int(v) & mask) << (u * self.weight_bits) for u, v in enumerate(word)))
            for address, word in enumerate(words)
        ]


ENGINES: dict[str, type[EngineConfig]] = {
    config.engine: config for config in (DotProductConfig, SystolicConfig, StoredMatrixConfig)
}
