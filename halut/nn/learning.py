"""What one group of a layer learns from rows, in NumPy: encoders and tables, and their error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut.baseline import ProductQuantization
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.matmul import HalutMatmul, QuantisationError
from halut.nn.config import LayerConfig

__all__ = ["Learned", "learn_group", "total"]

_log = logging.getLogger(__name__)

_JUDGED_ROWS = 4096
"""Rows, at most, that centroids are judged on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What one group learned.

    Attributes
    ----------
    split_dims : int32 ndarray of shape (C, T), (C, T, terms) or (C, K - 1), range [0, D), or None
        None for centroids.
    signs : int8 ndarray of shape (C, T, terms), range [-1, 1], or None
        Of sums.
    term_ends : float32 ndarray of shape (2, C, T, terms), or None
        The lowest and the highest value of each of their terms, far rows left out.
    nodes : float32 ndarray of shape (C, K - 1), or (C, K, D / C)
        Thresholds, or centroids.
    lut : float32 ndarray of shape (M, C, K)
    offset : float32 ndarray of shape (M,)
    judged_rows : float32 ndarray of shape (n, D)
        Rows that the error is measured on, see `HalutMatmul.judged_rows`.
    error_of : callable
        As `HalutMatmul.error_of`.
    """

    split_dims: NDArray[np.int32] | None
    nodes: NDArray[np.float32]
    lut: NDArray[np.float32]
    offset: NDArray[np.float32]
    judged_rows: NDArray[np.float32]
    error_of: Callable[..., QuantisationError]
    signs: NDArray[np.int8] | None = None
    term_ends: NDArray[np.float32] | None = None


def learn_group(
    A: NDArray[np.float32], B: NDArray[np.float32], n_codebooks: int, config: LayerConfig
) -> Learned:
    """Learn the encoder and the tables of one group.

    Parameters
    ----------
    A : float32 ndarray of shape (N, D)
    B : float32 ndarray of shape (D, M)
    n_codebooks : int
    config : LayerConfig
    """
    if config.encoder == "centroid":
        return _learn_centroids(A, B, n_codebooks, config)
    learner = HalutMatmul(
        n_codebooks,
        config.n_prototypes,
        refine_passes=config.refine_passes,
        ridge=config.ridge,
        random_state=config.seed,
        encoder=config.encoder,
        terms=config.n_terms if config.encoder == "sums" else None,
        effort=config.effort,
    ).learn_offline(A, B)
    thresholds, lut = learner.thresholds_, learner.lut_
    if config.input_format in FLOAT_FORMATS:
        _warn_of_overflow(config.input_format, A, thresholds)
    elif config.input_format is not None and config.encoder != "sums":
        bits = input_format_bits(config.input_format)
        thresholds = learner.thresholds_for(bits, config.input_granularity)
    if config.lut_bits is not None:
        lut, _ = learner.tables_for(config.lut_bits, config.lut_granularity, config.lut_format)
    return Learned(
        split_dims=learner.split_dims_,
        nodes=thresholds,
        lut=lut,
        offset=learner.offset_,
        judged_rows=learner.judged_rows,
        error_of=learner.error_of,
        signs=learner.signs_,
        term_ends=None if learner.signs_ is None else learner.term_ends(),
    )


def _learn_centroids(
    A: NDArray[np.float32], B: NDArray[np.float32], n_codebooks: int, config: LayerConfig
) -> Learned:
    sizes = n_codebooks, config.n_prototypes
    learner = ProductQuantization(*sizes, random_state=config.seed).learn_offline(A, B)
    centroids = np.stack(learner.centroids_)  # (C, K, D / C), of centred columns
    centroids += learner.centre_.reshape(n_codebooks, 1, -1)
    # A twin that did not see the rows that both are judged on.
    judged = np.random.default_rng(config.seed).permutation(len(A))[
        : min(_JUDGED_ROWS, len(A) // 5)
    ]
    twin = ProductQuantization(*sizes, random_state=config.seed)
    twin.learn_offline(np.delete(A, judged, axis=0), B)
    rows, exact = A[judged], A[judged].astype(np.float64) @ B
    energy = float(np.square(exact).sum())

    def error_of(
        product: NDArray[Any], _codes: object, *, bias: Any = 0.0, relu: bool = False
    ) -> QuantisationError:
        assert not relu  # centroids have no output stage
        own, floats, found = (
            np.square(each - exact).sum(axis=0)
            for each in (twin.matmul_online(rows), learner.matmul_online(rows), product - bias)
        )
        added = found - floats
        return QuantisationError(
            float_error=float(own.sum()) / (energy or 1.0),
            held_out=True,
            added=float(added.sum()) / (energy or 1.0),
            codebook=None,
            output=int(added.argmax()),
            energy=energy,
        )

    return Learned(
        split_dims=None,
        nodes=centroids,
        lut=learner.lut_,
        offset=learner.offset_,
        judged_rows=rows,
        error_of=error_of,
    )


def total(
    parts: Sequence[QuantisationError], n_codebooks: int = 0, n_outputs: int = 0
) -> QuantisationError:
    """Add up the errors of products that belong together.

    Parameters
    ----------
    parts : sequence of QuantisationError
        One for each group; at least one.
    n_codebooks, n_outputs : int
        C and M of each: codebooks and output columns are counted over all. 0 for products of
        several layers, of which none is blamed.
    """
    energy = sum(part.energy for part in parts)
    shares = [(part.energy or 1.0) / (energy or 1.0) for part in parts]
    added = [share * part.added for share, part in zip(shares, parts, strict=True)]
    worst = int(np.argmax(np.nan_to_num(added, nan=np.inf)))
    codebook, output = parts[worst].codebook, parts[worst].output
    return QuantisationError(
        float_error=sum(share * one.float_error for share, one in zip(shares, parts, strict=True)),
        held_out=all(part.held_out for part in parts),
        added=sum(added),
        codebook=None if codebook is None or not n_codebooks else worst * n_codebooks + codebook,
        output=None if output is None or not n_outputs else worst * n_outputs + output,
        energy=energy,
    )


def _warn_of_overflow(name: str, rows: NDArray[np.float32], nodes: NDArray[np.float32]) -> None:
    """Warn of inputs and thresholds that a floating format does not hold."""
    floating = FLOAT_FORMATS[name]
    beyond = floating.overflows(rows), floating.overflows(nodes)
    if any(beyond):
        _log.warning(
            "warning: %d of %d calibration values and %d of %d thresholds are beyond %s, which "
            "ends at %g",
            beyond[0],
            rows.size,
            beyond[1],
            nodes.size,
            name,
            floating.largest_finite,
        )
