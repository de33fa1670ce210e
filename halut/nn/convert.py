"""`convert_`: replace the layers of any torch model, in place, with looked-up ones."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import known, located
from halut.errors import HalutError
from halut.nn.attention import HalutMultiheadAttention, unsupported
from halut.nn.config import LayerConfig
from halut.nn.display import shown
from halut.nn.layers import HalutLayer, layers_of, learned_layer
from halut.nn.learning import total
from halut.nn.watch import batches_of, call_counts, evaluating, hooked, run_batch

__all__ = ["ConversionReport", "ConversionRow", "convert_", "replace_module", "run_batch"]

_log = logging.getLogger(__name__)

_CONVERTIBLE = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)

FilterFn = Callable[[str, nn.Module], bool]


@dataclass(frozen=True, kw_only=True)
class ConversionRow:
    """What became of one layer.

    Attributes
    ----------
    name : str
        Its name in the model.
    kind : str
        Its class before.
    converted : bool
    reason : str
        Why not; empty for converted layers.
    error : float or None
        ``|AB - Y|**2 / |AB|**2`` of its product as it then is, with tables, inputs and results
        quantised where its configuration says so, on calibration rows that were held out of
        learning; of the four products of an attention together.
    float_error : float or None
        The same of its float tables, before quantisation.
    table_bytes : int
    seconds : float
        Wall-clock time of learning.
    """

    name: str
    kind: str
    converted: bool
    reason: str = ""
    error: float | None = None
    float_error: float | None = None
    table_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What became of every layer that could have been converted, in forward order."""

    rows: tuple[ConversionRow, ...] = field(default=())

    @property
    def converted(self) -> list[str]:
        """Names of the converted layers."""
        return [row.name for row in self.rows if row.converted]

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows] + [5])
        lines = [
            f"{'layer':{width}}  {'kind':20} {'error':>8} {'float':>8} {'table bytes':>12} {'s':>6}"
        ]
        for row in self.rows:
            if row.error is not None and row.float_error is not None:
                errors = f"{row.error:8.4f} {row.float_error:8.4f}"
                what = f"{errors} {row.table_bytes:12d} {row.seconds:6.1f}"
            else:
                what = f"  stays: {row.reason}"
            lines.append(f"{row.name:{width}}  {row.kind:20} {what}")
        return "\n".join(lines)


def convert_(
    model: nn.Module,
    config: LayerConfig | Mapping[str, LayerConfig] | None,
    calibration: Tensor | Iterable[Any],
    filter_fn: FilterFn | None = None,
    *,
    sequential: bool = True,
    progress: bool = False,
) -> ConversionReport:
    """Replace layers of a model with looked-up ones, in place.

    `nn.Linear`, `nn.Conv2d` and `nn.MultiheadAttention` are converted, wherever they are in the
    model; everything else stays. Layers are learned in the order in which the model calls them.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode while it is converted; its mode is restored.
    config : LayerConfig or mapping of str to LayerConfig, optional
        For all layers, or for the layers it names (the others stay).
    calibration : Tensor, or iterable of batches
        Inputs that look like those at run time. A batch is what the model is called with: a
        tensor, a mapping (keyword arguments), or a tuple or list whose first item is one of these
        (as data loaders give with labels).
    filter_fn : callable, optional
        Takes a name and a module; layers for which it returns False stay.
    sequential : bool, default True
        Whether each layer is learned from what the layers before it, already replaced, give it;
        otherwise all are learned from the activations of the exact model.
    progress : bool, default False
        Show a progress bar, on a terminal only.

    Returns
    -------
    ConversionReport

    Raises
    ------
    HalutError
        When nothing is converted, a name is unknown, or calibration inputs cannot be used; the
        message names the layer.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> report = convert_(model, LayerConfig(n_prototypes=4), torch.randn(200, 16))
    >>> report.converted
    ['0', '2']
    """
    if isinstance(model, _CONVERTIBLE):
        raise HalutError("model must contain the layers to convert, not be one (from_module)")
    if not isinstance(model, nn.Module):
        raise HalutError(f"model must be an nn.Module, not {type(model).__name__}")
    if filter_fn is not None and not callable(filter_fn):
        raise HalutError(f"filter_fn must be a function, not {type(filter_fn).__name__}")
    batches = batches_of(calibration)
    if isinstance(config, Mapping):
        known("config", config, dict(model.named_modules()), "name modules of the model")
    with evaluating(model):
        rows = _convert(model, config, batches, filter_fn, sequential, progress)
    report = ConversionReport(rows=tuple(rows))
    if not report.converted:
        reasons = "; ".join(f"{row.name}: {row.reason}" for row in rows[:3])
        raise HalutError(
            "model must have at least one layer that is converted, not none "
            f"({reasons or 'it has no nn.Linear, nn.Conv2d or nn.MultiheadAttention'})"
        )
    return report


def _convert(
    model: nn.Module,
    config: LayerConfig | Mapping[str, LayerConfig] | None,
    batches: list[Any],
    filter_fn: FilterFn | None,
    sequential: bool,
    progress: bool,
) -> list[ConversionRow]:
    order = call_counts(model, _CONVERTIBLE, batches[0])
    position = {name: index for index, name in enumerate(order)}
    chosen: list[tuple[str, nn.Module, LayerConfig]] = []
    rows: dict[str, ConversionRow] = {}
    for name, module in model.named_modules():
        if not isinstance(module, _CONVERTIBLE) or _inside_attention(model, name):
            continue
        reason = _why_not(name, module, config, filter_fn, order)
        if reason:
            kind = type(module).__name__
            rows[name] = ConversionRow(name=name, kind=kind, converted=False, reason=reason)
        else:
            wanted = config[name] if isinstance(config, Mapping) else config or LayerConfig()
            chosen.append((name, module, wanted))
    chosen.sort(key=lambda item: position[item[0]])

    inputs = {} if sequential else _captured(model, [name for name, _, _ in chosen], batches)
    for name, module, wanted in shown(chosen, "converting", "layer", progress):
        begin = time.perf_counter()
        # Nothing that follows the only call of a layer is needed to learn it.
        last = name if order[name] == 1 else None
        calls = inputs[name] if inputs else _captured(model, [name], batches, last)[name]
        with located(f"layer {name}"):
            layer = _learned(module, calls, wanted)
        parts = layers_of(layer)
        for inner, part in parts.items():
            _warn(part, f"{name}.{inner}" if inner else name)
        found = total([part.error for part in parts.values() if part.error is not None])
        replace_module(model, name, layer)
        rows[name] = ConversionRow(
            name=name,
            kind=type(module).__name__,
            converted=True,
            error=found.error,
            float_error=found.float_error,
            table_bytes=sum(part.table_bytes for part in parts.values()),
            seconds=time.perf_counter() - begin,
        )
        _log.info(
            "converted %s: held-out error %.4g (float tables %.4g), %.1f s",
            name,
            found.error,
            found.float_error,
            rows[name].seconds,
        )
    return sorted(rows.values(), key=lambda row: position.get(row.name, len(order)))


def _warn(layer: HalutLayer, name: str) -> None:
    """Warn where quantisation costs more than 5 %."""
    quantised = layer.config.lut_bits is not None or layer.config.input_format is not None
    if quantised and layer.error is not None and layer.error.notable:
        _log.warning("warning: %s (layer %s)", layer.error, name)


def _why_not(
    name: str,
    module: nn.Module,
    config: LayerConfig | Mapping[str, LayerConfig] | None,
    filter_fn: FilterFn | None,
    order: Mapping[str, int],
) -> str | None:
    if isinstance(config, Mapping) and name not in config:
        return "config does not name it"
    if filter_fn is not None and not filter_fn(name, module):
        return "filter_fn left it out"
    if name not in order:
        return "the model did not call it with the calibration inputs"
    if isinstance(module, nn.MultiheadAttention):
        return unsupported(module)
    return None


def _inside_attention(model: nn.Module, name: str) -> bool:
    """Return whether a module belongs to an attention, which is converted as a whole."""
    parent = name.rpartition(".")[0]
    return bool(parent) and isinstance(model.get_submodule(parent), nn.MultiheadAttention)


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


def _captured(
    model: nn.Module, names: list[str], batches: list[Any], stop_after: str | None = None
) -> dict[str, list[tuple[Tensor, ...]]]:
    """Return the tensor arguments of every call of the named modules.

    A forward pass ends with the first call of `stop_after`.
    """
    calls: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if isinstance(module, nn.MultiheadAttention):
                wanted = ("query", "key", "value")
                given = [*args[:3], *(kwargs[key] for key in wanted[len(args) :])]
            else:
                given = [args[0] if args else next(iter(kwargs.values()))]
            calls[name].append(tuple(item.detach() for item in given))

        return hook

    def stop(*_: Any) -> None:
        raise _Enough

    hooks = []
    for name in names:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(keep(name), with_kwargs=True))
        if name == stop_after:
            hooks.append(module.register_forward_hook(stop))
    with torch.no_grad(), hooked(hooks):
        for batch in batches:
            with contextlib.suppress(_Enough):
                run_batch(model, batch)
    return calls


def _learned(
    module: nn.Module, calls: list[tuple[Tensor, ...]], config: LayerConfig
) -> HalutLayer | HalutMultiheadAttention:
    if isinstance(module, nn.MultiheadAttention):
        return HalutMultiheadAttention.from_module(module, calls, config)  # type: ignore[arg-type]
    return learned_layer(module, [call[0] for call in calls], config)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one with that name.

    `nn.TransformerEncoderLayer` reads the weights of its parts when it takes its fused path in
    evaluation mode; a converted one no longer takes it.
    """
    parent_name, _, child = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, child, module)
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0
