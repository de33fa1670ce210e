"""Tables of a layer learned again, in closed form, for what the exact network gave.

With the codes of a layer's inputs fixed, its output is linear in its tables. The tables that come
closest to given outputs are those of a ridge regression; here on what is left over, so that
tables stay what they are where inputs say nothing about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halut.nn.layers import HalutConv2d, HalutLayer
from halut.ridge import MEANS, Gram, best_strength, solve

__all__ = ["Refit", "refit_"]

_KEPT_BACK = 0.2
"""Share of the rows that the strength is chosen on."""

_FEWEST_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What learning tables again gave, on rows that were kept back from it.

    Attributes
    ----------
    before, after : float
        Squared error of the float tables over the variance of the wanted outputs.
    """

    before: float
    after: float


@torch.no_grad()
def refit_(
    layer: HalutLayer, inputs: Sequence[Tensor], targets: Sequence[Tensor], max_rows: int
) -> Refit | None:
    """Learn the tables and constants of a layer again.

    Parameters
    ----------
    layer : HalutLayer
        Its encoder stays as it is.
    inputs : sequence of Tensor
        What it is called with in the converted network.
    targets : sequence of Tensor
        What the layer that it replaces gave in the exact network, of the shape of its outputs.
    max_rows : int
        Rows that are used at most, spread over all inputs. The last fifth of them is kept back
        to choose the strength of the regression.

    Returns
    -------
    Refit or None
        None where there are too few rows, or the layer learned without regression (`MEANS`).
    """
    if layer.config.ridge == MEANS:
        return None
    codes, wanted = _rows(layer, inputs, targets, max_rows)
    n_rows = wanted.shape[1]
    if n_rows < _FEWEST_ROWS:
        return None
    n_train = n_rows - int(_KEPT_BACK * n_rows)
    before = after = spread = 0.0
    for group in range(layer.groups):
        outputs = slice(group * layer.n_outputs, (group + 1) * layer.n_outputs)
        own_codes = np.ascontiguousarray(codes[group].T)  # (C, N)
        lut = layer.lut[group].double().cpu().numpy()  # (M, C, K)
        bias = layer.bias[outputs].double().cpu().numpy()
        left_over = wanted[group].astype(np.float64) - bias
        for codebook, code in enumerate(own_codes):
            left_over -= lut[:, codebook, code].T
        mean = left_over[:n_train].mean(axis=0)
        sides = (left_over - mean).astype(np.float32)
        train, kept = (
            Gram.of(np.ascontiguousarray(own_codes[:, part]), sides[part], layer.n_prototypes)
            for part in (slice(n_train), slice(n_train, None))
        )
        own_before = float(np.square(left_over[n_train:]).sum())
        fit = best_strength(train, kept)
        own_after = min(fit.error, own_before)
        before, after = before + own_before, after + own_after
        kept_back = wanted[group][n_train:].astype(np.float64)
        spread += float(np.square(kept_back - kept_back.mean(axis=0)).sum())
        if fit.error >= own_before:
            continue
        both = Gram(
            meetings=train.meetings + kept.meetings,
            sums=train.sums + kept.sums,
            energy=train.energy + kept.energy,
        )
        change = solve(both, fit.strength).T.reshape(lut.shape)  # (M, C, K)
        layer.lut[group] += torch.from_numpy(change).to(layer.lut)
        layer.bias[outputs] += torch.from_numpy(mean).to(layer.bias)
    spread = spread or 1.0
    return Refit(before=before / spread, after=after / spread)


def _rows(
    layer: HalutLayer, inputs: Sequence[Tensor], targets: Sequence[Tensor], max_rows: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return codes (G, N, C) and wanted outputs (G, N, M) of some rows, in order."""
    found, outputs = [], []
    counts = [target.numel() // (layer.groups * layer.n_outputs) for target in targets]
    share = min(1.0, max_rows / max(sum(counts), 1))
    generator = torch.Generator().manual_seed(layer.config.seed)
    for x, target, count in zip(inputs, targets, counts, strict=True):
        if isinstance(layer, HalutConv2d):
            by_item = target if target.ndim == 4 else target[None]
            rows = by_item.unflatten(1, (layer.groups, -1)).flatten(3)  # (B, G, M, L)
            rows = rows.permute(1, 0, 3, 2).flatten(1, 2)
        else:
            rows = target.reshape(1, -1, layer.n_outputs)
        chosen = torch.randperm(count, generator=generator)[: round(share * count)].sort().values
        found.append(layer.codes(x)[:, chosen.to(x.device)].cpu().numpy())
        outputs.append(rows[:, chosen.to(rows.device)].float().cpu().numpy())
    return np.concatenate(found, axis=1), np.concatenate(outputs, axis=1)
