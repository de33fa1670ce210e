"""A network's outputs in 8-bit words: what its C export with ``--exact int8`` computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from halut.nn.c_export.beside import channels_last
from halut.nn.c_export.int8 import in_words
from halut.nn.c_export.reference import compute
from halut.nn.c_export.trace import trace
from halut.nn.watch import evaluating

__all__ = ["words_of"]


def words_of(model: nn.Module, calibration: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what computes a network in 8-bit words, bit for bit as the C code.

    Parameters
    ----------
    model : torch.nn.Module
        As `halut.nn.c_export.export.export_c` takes it.
    calibration : float32 Tensor of shape (n, ...), finite
        Inputs that the ranges of words are learned from.

    Returns
    -------
    callable
        Of inputs, float32 of shape (n, ...), to outputs, float32 of shape (n, n_outputs).

    Raises
    ------
    HalutError
        When an operation has no counterpart in words.
    """
    with evaluating(model):
        network, _ = trace(model, calibration[:1])
    network = in_words(network, channels_last(calibration))
    places = network.output.places

    @torch.no_grad()
    def outputs(inputs: Tensor) -> Tensor:
        found = compute(network, channels_last(inputs))
        return torch.from_numpy(np.ascontiguousarray(found if places is None else found[:, places]))

    return outputs
