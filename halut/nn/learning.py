"""What one group of a layer learns from rows: encoders and tables, in NumPy."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halut.baseline import ProductQuantization
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.matmul import HalutMatmul
from halut.nn.config import LayerConfig

__all__ = ["Learned", "learn_group"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What one group learned.

    Attributes
    ----------
    split_dims : int32 ndarray of shape (C, T), range [0, D), or None
        None for centroids.
    nodes : float32 ndarray of shape (C, K - 1), or (C, K, D / C)
        Thresholds, or centroids.
    lut : float32 ndarray of shape (M, C, K)
    offset : float32 ndarray of shape (M,)
    """

    split_dims: NDArray[np.int32] | None
    nodes: NDArray[np.float32]
    lut: NDArray[np.float32]
    offset: NDArray[np.float32]


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
    ).learn_offline(A, B)
    thresholds, lut = learner.thresholds_, learner.lut_
    if config.input_format in FLOAT_FORMATS:
        _warn_of_overflow(config.input_format, A, thresholds)
    elif config.input_format is not None:
        bits = input_format_bits(config.input_format)
        thresholds = learner.thresholds_for(bits, config.input_granularity)
    if config.lut_bits is not None:
        lut, _ = learner.tables_for(config.lut_bits, config.lut_granularity, config.lut_format)
    return Learned(
        split_dims=learner.split_dims_, nodes=thresholds, lut=lut, offset=learner.offset_
    )


def _learn_centroids(
    A: NDArray[np.float32], B: NDArray[np.float32], n_codebooks: int, config: LayerConfig
) -> Learned:
    sizes = n_codebooks, config.n_prototypes
    learner = ProductQuantization(*sizes, random_state=config.seed).learn_offline(A, B)
    centroids = np.stack(learner.centroids_)  # (C, K, D / C), of centred columns
    centroids += learner.centre_.reshape(n_codebooks, 1, -1)
    return Learned(split_dims=None, nodes=centroids, lut=learner.lut_, offset=learner.offset_)


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
