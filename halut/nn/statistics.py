"""What the look-ups of a network do on real inputs: codes, access patterns, inputs in use.

Rows are the positions of one input after the other, as the accelerator works through them: two
rows that follow each other and select the same table entry need it read only once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from halut.checks import integer_from
from halut.errors import HalutError
from halut.nn.layers import HalutLayer, layers_of
from halut.nn.prune import required_channels, required_inputs
from halut.nn.watch import batches_of, evaluating, hooked, run_batch

__all__ = ["LayerStatistics", "collect", "plot", "table"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStatistics:
    """Statistics of one layer.

    Attributes
    ----------
    name : str
    n_rows : int
        Rows seen, N of all batches together.
    codes : int64 ndarray of shape (G, C, K)
        How often each code occurs; sums to `n_rows` over K.
    repeats : float
        Share of rows whose code is that of the row before, mean over codebooks: hits of a
        register that keeps each codebook's last entry.
    window : int
        Rows in a window.
    distinct : float
        Distinct entries per codebook that a window of rows looks up, mean; 1 to
        ``min(window, K)``.
    n_features : int
        Features that there are, G * D.
    features_read : int
        Features that a tree looks at.
    n_channels, channels_read : int
        The same, input channels (of a linear layer: input features).
    reads : int64 ndarray of shape (G * D,)
        Tree levels that look at each feature.
    accumulator_low, accumulator_high : int or None
        Least and greatest accumulator; None for layers that are not exact.
    accumulator_bits : int or None
        Width that no sum of entries overflows.
    accumulator_bits_used : int or None
        Width of the least and the greatest accumulator seen.
    """

    name: str
    n_rows: int
    codes: NDArray[np.int64]
    repeats: float
    window: int
    distinct: float
    n_features: int
    features_read: int
    n_channels: int
    channels_read: int
    reads: NDArray[np.int64]
    accumulator_low: int | None = None
    accumulator_high: int | None = None
    accumulator_bits: int | None = None
    accumulator_bits_used: int | None = None

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Entropy of the codes of each codebook in bits, 0 to log2 K; shape (G, C)."""
        share = self.codes / np.maximum(self.codes.sum(axis=2, keepdims=True), 1)
        logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
        return np.maximum(-(share * logs).sum(axis=2), 0.0)

    @property
    def unused(self) -> int:
        """Table entries, per output, that no row looked up."""
        return int((self.codes == 0).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        facts = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }
        return facts | {"entropy": self.entropy.tolist(), "unused": self.unused}


class _Counter:
    """Adds up what one layer does."""

    def __init__(self, layer: HalutLayer, window: int) -> None:
        shape = (layer.groups * layer.n_codebooks, layer.n_prototypes)
        self.codes = torch.zeros(shape, dtype=torch.int64)
        self.n_rows = self.n_pairs = self.same = 0
        self.window, self.n_windows, self.distinct = window, 0, 0
        self.low: int | None = None
        self.high: int | None = None

    def add(self, layer: HalutLayer, x: Tensor) -> None:
        codes = layer.codes(x).cpu().permute(0, 2, 1).flatten(0, 1).long()  # (G*C, N)
        n_rows = codes.shape[1]
        if not n_rows:
            return
        self.codes += torch.stack(
            [torch.bincount(row, minlength=layer.n_prototypes) for row in codes]
        )
        self.n_rows += n_rows
        self.same += int((codes[:, 1:] == codes[:, :-1]).sum())
        self.n_pairs += codes.shape[0] * max(n_rows - 1, 0)
        whole = n_rows // self.window * self.window
        ordered = codes[:, :whole].unflatten(1, (-1, self.window)).sort(dim=2).values
        self.distinct += int((ordered.diff(dim=2) != 0).sum()) + ordered[..., 0].numel()
        self.n_windows += ordered[..., 0].numel()
        if layer.exact and layer.config.encoder != "centroid" and layer.config.lut_format == "int":
            low, high = (int(value) for value in torch.aminmax(layer.accumulators(x)))
            self.low = low if self.low is None else min(low, self.low)
            self.high = high if self.high is None else max(high, self.high)

    def finish(self, name: str, layer: HalutLayer) -> LayerStatistics:
        dims = layer.split_dims.cpu().numpy()
        reads = np.zeros((layer.groups, layer.n_features), dtype=np.int64)
        for group in range(layer.groups):
            looked_at = dims[group].ravel()
            if layer.signs is not None:
                looked_at = looked_at[layer.signs[group].cpu().ne(0).numpy().ravel()]
            np.add.at(reads[group], looked_at, 1)
        channels = required_channels(layer)
        bits = used = None
        if self.low is not None and self.high is not None:
            bits = layer.config.acc_bits or (
                int(layer.config.lut_bits or 0) + (layer.n_codebooks - 1).bit_length()
            )
            used = 1 + max(self.high, -self.low - 1, 0).bit_length()
        return LayerStatistics(
            name=name,
            n_rows=self.n_rows,
            codes=self.codes.numpy().reshape(layer.groups, layer.n_codebooks, -1),
            repeats=self.same / max(self.n_pairs, 1),
            window=self.window,
            distinct=self.distinct / self.n_windows if self.n_windows else math.nan,
            n_features=reads.size,
            features_read=int(required_inputs(layer).sum()),
            n_channels=len(channels),
            channels_read=int(channels.sum()),
            reads=reads.ravel(),
            accumulator_low=self.low,
            accumulator_high=self.high,
            accumulator_bits=bits,
            accumulator_bits_used=used,
        )


@torch.no_grad()
def collect(
    model: nn.Module, data: Tensor | Mapping[str, Tensor] | Iterable[Any], *, window: int = 16
) -> dict[str, LayerStatistics]:
    """Run inputs through a network and count what its layers look up.

    Parameters
    ----------
    model : torch.nn.Module
        Run in evaluation mode; its mode is restored.
    data : Tensor, or iterable of batches
        As for `halut.nn.convert_`.
    window : int, default 16
        Rows over which distinct entries are counted; 2 or more. Rows of a batch that do not fill
        a window are left out of that count.

    Returns
    -------
    dict of str to LayerStatistics
        By name, in the order of the model; layers that are never called are left out.

    Raises
    ------
    HalutError
        When the model has no Halut layer, or there are no inputs.

    Examples
    --------
    >>> import torch
    >>> from halut.nn import HalutLinear
    >>> model = torch.nn.Sequential(HalutLinear(16, 3))
    >>> found = collect(model, torch.randn(50, 16))
    >>> found["0"].codes.shape, found["0"].n_rows
    ((1, 2, 16), 50)
    """
    integer_from("window", window, 2)
    layers = layers_of(model)
    if not layers:
        raise HalutError("model must hold at least one Halut layer (convert_)")
    counters = {name: _Counter(layer, window) for name, layer in layers.items()}
    hooks = (
        layer.register_forward_pre_hook(
            lambda module, args, counter=counters[name]: counter.add(module, args[0])
        )
        for name, layer in layers.items()
    )
    with evaluating(model), hooked(hooks):
        for batch in batches_of(data):
            run_batch(model, batch)
    found = {
        name: counter.finish(name, layers[name])
        for name, counter in counters.items()
        if counter.n_rows
    }
    if not found:
        raise HalutError("data must give at least one row to a Halut layer, not none")
    return found


def _check_any(statistics: Mapping[str, LayerStatistics]) -> None:
    if not statistics:
        raise HalutError("statistics must be those of at least one layer, not none")


def table(statistics: Mapping[str, LayerStatistics]) -> str:
    """Return one line per layer.

    Parameters
    ----------
    statistics : mapping of str to LayerStatistics
        As `collect` returns them.
    """
    _check_any(statistics)
    width = max([len(name) for name in statistics] + [5])
    lines = [
        f"{'layer':{width}} {'rows':>8} {'GxC':>7} {'K':>4} {'entropy':>8} {'lowest':>7} "
        f"{'unused':>7} {'repeats':>8} {'distinct':>9} {'features read':>15} "
        f"{'channels read':>15} {'accumulators':>16} {'bits':>7}"
    ]
    for name, one in statistics.items():
        groups, codebooks, prototypes = one.codes.shape
        span = bits = "-"
        if one.accumulator_low is not None:
            span = f"{one.accumulator_low}..{one.accumulator_high}"
            bits = f"{one.accumulator_bits_used}/{one.accumulator_bits}"
        lines.append(
            f"{name:{width}} {one.n_rows:8} {f'{groups}x{codebooks}':>7} {prototypes:4} "
            f"{one.entropy.mean():8.2f} {one.entropy.min():7.2f} "
            f"{f'{100 * one.unused / one.codes.size:.1f}%':>7} {f'{100 * one.repeats:.1f}%':>8} "
            f"{one.distinct:9.2f} {f'{one.features_read}/{one.n_features}':>15} "
            f"{f'{one.channels_read}/{one.n_channels}':>15} {span:>16} {bits:>7}"
        )
    window = next(iter(statistics.values())).window
    lines.append(
        "entropy in bits, mean and lowest of the codebooks; unused: entries never looked up; "
        "repeats: rows"
    )
    lines.append(
        "with the code of the row before; distinct: entries per codebook that "
        f"{window} rows look up; bits: used/provided"
    )
    return "\n".join(lines)


def plot(statistics: Mapping[str, LayerStatistics], path: Any) -> None:
    """Draw how often each code occurs, one picture per layer (codebooks down, codes across).

    Parameters
    ----------
    statistics : mapping of str to LayerStatistics
    path : path-like
        Where to write to; the suffix is the format (.png, .svg, .pdf).

    Raises
    ------
    HalutError
        When matplotlib is not installed, or does not know the format.
    """
    _check_any(statistics)
    figure, axes = figure_of(len(statistics))
    for axis, (name, one) in zip(axes, statistics.items(), strict=False):
        share = one.codes.reshape(-1, one.codes.shape[2]) / max(one.n_rows, 1)
        image = axis.imshow(share, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0)
        axis.set_title(f"{name}: {one.entropy.mean():.2f} bits", fontsize=9)
        axis.set_xlabel("code")
        axis.set_ylabel("codebook")
        figure.colorbar(image, ax=axis)
    save_figure(figure, path)


def figure_of(n_plots: int) -> tuple[Any, list[Any]]:
    """Return a matplotlib figure, and its axes in a grid of up to four columns."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise HalutError(
            "matplotlib must be installed for a plot: pip install -e .[demo]"
        ) from None
    columns = min(4, n_plots)
    rows = -(-n_plots // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[n_plots:]:
        axis.set_axis_off()
    return figure, axes


def save_figure(figure: Any, path: Any) -> None:
    """Write a matplotlib figure, whole or not at all."""
    from halut.files import atomic_write

    known = sorted(figure.canvas.get_supported_filetypes())
    suffix = str(path).rpartition(".")[2].lower()
    if suffix not in known:
        raise HalutError(f"plot must be one of .{', .'.join(known)}, not {str(path)!r}")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=suffix, dpi=100)
