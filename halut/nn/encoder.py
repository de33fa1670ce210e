"""`Encoder`: what the codebooks of a looked-up product look at, and how values become codes.

Shapes are those of gathered features, (B, G, C, S, L): items, groups, codebooks, features that a
codebook looks at, positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halut.checks import integer_at_least
from halut.errors import HalutError
from halut.forest import subspaces
from halut.formats import FLOAT_FORMATS, input_format_bits
from halut.nn.config import LayerConfig
from halut.nn.functional import nearest, walk
from halut.nn.quantize import float_inputs, float_thresholds, input_words, integer_thresholds
from halut.nn.sums import signed_sums, sum_thresholds, sum_words
from halut.windows import WINDOWED, window_fields

__all__ = ["Encoder"]

_MOMENTUM = 0.1
"""Share of a batch in the ends of terms that training keeps."""


class Encoder(nn.Module):
    """What codebooks look at: trees, or centroids.

    Parameters
    ----------
    n_features : int
        D, per group.
    groups : int
        G.
    n_codebooks : int
        C, per group.
    config : LayerConfig

    Attributes
    ----------
    thresholds : float32 Parameter of shape (G, C, K - 1)
        Breadth-first, as in `Program`. For centroids absent.
    split_dims : int64 buffer of shape (G, C, T), range [0, D)
        What the trees look at. For sums (G, C, T, terms); for ``encoder="node"`` (G, C, K - 1);
        for centroids (G, C, D / C): all
        features of each codebook.
    signs : int8 buffer of shape (G, C, T, terms), range [-1, 1], or None
        For ``encoder="sums"``: of the terms; 0 where a level has fewer.
    term_ends : float32 buffer of shape (2, G, C, T, terms), or None
        For ``encoder="sums"``: the lowest and the highest value of each term, which the grids of
        integer formats span. Learned from calibration inputs; in training a moving average.
    centroids : float32 Parameter of shape (G, C, K, D / C)
        Instead of thresholds, for ``encoder="centroid"``.
    input_bits : int
        Not 0: inputs are integers of so many bits, compared with the buffer `threshold_words`
        of shape (G, C, K - 1), int32.
    """

    temperature: Tensor
    split_dims: Tensor
    signs: Tensor | None
    term_ends: Tensor | None
    threshold_words: Tensor | None

    def __init__(
        self,
        n_features: int,
        groups: int,
        n_codebooks: int,
        config: LayerConfig,
        device: Any = None,
    ) -> None:
        super().__init__()
        if integer_at_least("n_codebooks", n_codebooks, 1) > n_features:
            raise HalutError(f"n_codebooks must be in [1, {n_features}], not {n_codebooks}")
        self.config = config
        self.n_features, self.groups, self.n_codebooks = n_features, groups, n_codebooks
        self.n_prototypes = n_prototypes = config.n_prototypes
        self.input_bits = 0
        columns = subspaces(n_features, n_codebooks)
        signs = term_ends = None
        if config.encoder == "centroid":
            if n_features % n_codebooks:
                raise HalutError(
                    f'codebook_width must divide the {n_features} features for encoder "centroid", '
                    f"not cut them into {n_codebooks} codebooks"
                )
            width = n_features // n_codebooks
            dims = torch.arange(n_features).view(1, n_codebooks, width).repeat(groups, 1, 1)
            shape = (groups, n_codebooks, n_prototypes, width)
            self.centroids = nn.Parameter(torch.randn(shape, device=device))
        else:
            n_values = config.n_values
            dims = torch.stack(
                [part.start + torch.randperm(part.stop - part.start).repeat(n_values)[:n_values]
                 for _ in range(groups) for part in columns]
            ).view(groups, n_codebooks, n_values)  # fmt: skip
            if config.encoder == "sums":
                dims = dims.unflatten(2, (config.tree_depth, config.n_terms))
                signs = torch.ones(dims.shape, dtype=torch.int8)
                signs[..., 1::2] = -1
                term_ends = torch.stack([torch.full(dims.shape, end) for end in (-3.0, 3.0)])
            nodes = (groups, n_codebooks, n_prototypes - 1)
            self.thresholds = nn.Parameter(0.5 * torch.randn(nodes, device=device))
        self.register_buffer("split_dims", self._in_layout(dims).to(device))
        self.register_buffer("signs", None if signs is None else signs.to(device))
        self.register_buffer("term_ends", None if term_ends is None else term_ends.to(device))
        self.register_buffer("threshold_words", None)

    def _in_layout(self, dims: Tensor) -> Tensor:
        """Turn indices into the features as the layout orders them into indices of features."""
        return dims

    @property
    def tree_depth(self) -> int:
        """T = log2 K."""
        return self.config.tree_depth

    @property
    def input_format(self) -> str | None:
        """What trees compare, None for floats."""
        return f"int{self.input_bits}" if self.input_bits else self.config.input_format

    @property
    def read(self) -> Tensor:
        """The features that are gathered, int64 of shape (G, C, S): those of `split_dims`."""
        return self.split_dims.flatten(2)

    def features_read(self) -> Tensor:
        """Return which features of each group are looked at, bool of shape (G, D)."""
        dims = self.split_dims.cpu()
        if self.config.encoder in WINDOWED:  # the accelerator takes them all
            return torch.ones(self.groups, self.n_features, dtype=torch.bool)
        used = torch.ones_like(dims, dtype=torch.int32)
        if self.signs is not None:
            used = self.signs.cpu().ne(0).int()
        counts = torch.zeros(self.groups, self.n_features, dtype=torch.int32)
        return counts.scatter_add_(1, dims.flatten(1), used.flatten(1)) > 0

    def use_integer_inputs(self, threshold_words: Tensor, bits: int) -> None:
        """Compare inputs that are integers with integer thresholds from now on.

        Parameters
        ----------
        threshold_words : int32 Tensor of shape (G, C, K - 1), range of signed `bits` bits
        bits : int
            2 to 16.
        """
        if self.config.encoder not in ("tree", *WINDOWED):
            raise HalutError(
                'encoder must be "tree", "window" or "node" for integer inputs, not '
                f'"{self.config.encoder}"'
            )
        if threshold_words.shape != self.thresholds.shape:
            raise HalutError(
                f"threshold_words must have shape {tuple(self.thresholds.shape)}, "
                f"not {tuple(threshold_words.shape)}"
            )
        input_format_bits(f"int{bits}")  # checks it
        half = 2 ** (bits - 1)
        if not ((threshold_words >= -half) & (threshold_words < half)).all():
            raise HalutError(f"threshold_words must be in [{-half}, {half - 1}] (int{bits})")
        self.input_bits = bits
        self.threshold_words = threshold_words.to(self.thresholds.device, torch.int32)

    def _nodes(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return what inputs are compared with.

        Returns
        -------
        nodes (G, C, K - 1)
            In the words of the input format, or in values.
        scale, offset : (G, C, T)
            Of the words, one and zero when they are values.
        """
        thresholds = self.thresholds.to(dtype)
        scale = torch.ones_like(self.split_dims[:, :, : self.tree_depth], dtype=dtype)
        if self.signs is not None:
            scale = scale[..., 0]
        offset = torch.zeros_like(scale)
        if self.input_bits:
            assert self.threshold_words is not None
            return self.threshold_words.to(dtype) + 0.5, scale, offset
        if self.config.input_format is None:
            return thresholds, scale, offset
        if self.config.input_format in FLOAT_FORMATS:
            return float_thresholds(thresholds, self.config.input_format), scale, offset
        bits, granularity = (
            input_format_bits(self.config.input_format),
            self.config.input_granularity,
        )
        if self.signs is not None:
            grids = self.signs, self.term_ends, bits, granularity
            words, scale, offset = sum_thresholds(thresholds, *grids)
        else:
            words, scale, offset = integer_thresholds(thresholds, bits, granularity)
        # Between a threshold and the next word: the same decisions, and never on the edge.
        return words + 0.5, scale, offset

    def _compared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what the trees compare, for gathered inputs (B, G, C, S, L).

        Returns
        -------
        values (B, G, C, T or K - 1, L), nodes (G, C, K - 1), slope (G, C, T)
            For `look_up`.
        scale, offset : (G, C, T)
            As of `_nodes`.
        """
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        x = x.to(dtype)
        nodes, scale, offset = self._nodes(dtype)
        if self.signs is not None and self.input_format is None:
            values = signed_sums(x, self.signs)
        elif self.signs is not None:
            bits = input_format_bits(str(self.input_format))
            values = sum_words(x, self.signs, scale, offset, bits)
        elif self.input_format is None:
            values = x
        elif self.input_format in FLOAT_FORMATS:
            values = float_inputs(x, self.input_format)
        elif self.config.encoder == "node":  # one grid per codebook
            nodes_of = (*scale.shape[:2], x.shape[3])
            values = input_words(x, *(one[..., :1].expand(nodes_of) for one in (scale, offset)))
        else:
            values = input_words(x, scale, offset)
        return values, nodes, scale / self.temperature.to(dtype), scale, offset

    def _codes(self, gathered: Tensor) -> Tensor:
        """Return codes (B, G, C, L), uint8, for gathered inputs."""
        if self.config.encoder == "centroid":
            return nearest(gathered.to(self.centroids.dtype), self.centroids)
        values, nodes, _, _, _ = self._compared(gathered)
        return walk(values, nodes)

    def _follow_terms(self, ends: Tensor | None) -> None:
        """Move the ends of terms towards those of features (2, G, D); None: there are no inputs."""
        assert self.term_ends is not None
        if ends is not None:
            each = self.split_dims.flatten(1).expand(2, -1, -1)
            self.term_ends.lerp_(ends.gather(2, each).view_as(self.term_ends), _MOMENTUM)

    def tree_fields(self, group: int) -> dict[str, Any]:
        """Return the fields of the `Program` of a group that say what its trees compare."""
        nothing = torch.zeros(1, *self.read.shape, 1, device=self.split_dims.device)
        _, nodes, _, scale, offset = self._compared(nothing)
        found = (
            one[group].detach().cpu().numpy() for one in (nodes, scale, offset, self.split_dims)
        )
        words, input_scale, input_offset, dims = found
        fields: dict[str, Any] = {
            "input_scale": input_scale,
            "input_offset": input_offset,
            "split_dims": dims,
        }
        if self.config.encoder in WINDOWED:
            order = self._in_layout(torch.arange(self.n_features)).numpy()
            grids = self.config.input_granularity, input_scale, input_offset
            fields |= window_fields(dims, self.n_features, *grids, order)
        if self.input_format not in FLOAT_FORMATS:
            words = words - 0.5
        elif self.input_format != "fp16":
            words = FLOAT_FORMATS[self.input_format].words(words)
        if self.signs is not None:
            signs = self.signs[group].cpu().numpy()
            fields["split_dims"] = np.where(signs == 0, -1, dims)
            fields["signs"] = np.where(signs < 0, -1, 1)
        return fields | {"thresholds": words}
