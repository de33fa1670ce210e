"""What tests of layers with several encoders share."""

from __future__ import annotations

import numpy as np
import torch

from halut import golden
from halut.nn import HalutConv2d, HalutLinear


def mixture(n_rows: int, width: int) -> torch.Tensor:
    """Rows that lie about a space of six dimensions."""
    torch.manual_seed(1)
    return torch.randn(n_rows, 6) @ torch.randn(6, width) + 0.1 * torch.randn(n_rows, width)


def check_against_golden(layer: HalutConv2d | HalutLinear, x: torch.Tensor) -> None:
    """Codes, integers and outputs of a layer equal the golden model's, bit for bit."""
    with torch.no_grad():
        rows, found, codes = layer.rows(x), layer.accumulators(x), layer.codes(x)
        for group, program in enumerate(layer.programs()):
            assert program.encoder == layer.config.encoder
            assert program.terms == layer.config.n_terms
            words = program.input_words(rows[group].numpy())
            assert np.array_equal(codes[group].numpy(), golden.encode(program, words))
            wanted = golden.matmul(program, words)
            assert wanted.size and np.array_equal(found[group].numpy(), wanted)
            if program.window:
                assert words.shape[2] == program.window >= layer.n_features // layer.n_codebooks
