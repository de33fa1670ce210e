"""`convert_`: replace the layers of any torch model, in place, with looked-up ones."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import known, located
from halut.errors import HalutError
from halut.nn.attention import HalutMultiheadAttention, unsupported
from halut.nn.budget import Budget
from halut.nn.config import LayerConfig
from halut.nn.deviation import Judge, all_finite
from halut.nn.display import shown
from halut.nn.handlers import PLAIN, candidates, handled, handler_of, plain
from halut.nn.layers import HalutLayer, layers_of, learned_layer
from halut.nn.learning import total
from halut.nn.macs import count_macs, macs_of_parameters, of_no_layer
from halut.nn.replace import (
    Structure,
    Whole,
    all_names,
    as_written,
    become,
    carry_over,
    replace_everywhere,
)
from halut.nn.report import report_page
from halut.nn.search import Layer, Search
from halut.nn.watch import Call, batches_of, call_counts, calls_of, evaluating, run_batch

__all__ = ["ConversionReport", "ConversionRow", "convert_"]

_log = logging.getLogger(__name__)

_WHY_LISTED: dict[type[nn.Module], str] = {
    nn.RNNBase: "its products are inside one operation of torch, step by step",
    nn.RNNCellBase: "its products are inside one operation of torch",
    nn.ConvTranspose3d: "transposed convolutions of three dimensions are not converted",
    nn.Bilinear: "neither factor of its product is fixed",
}
"""Modules with products that are never converted."""

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
    also : tuple of str
        Other names of the same layer, which was replaced under each.
    note : str
        What the new layer has not got of the old one.
    exact_inputs_error, own_inputs_error : float or None
        With `held_out`: how far the layer's output is from the exact network's, when it gets the
        inputs that it has in the exact network, and when it gets those of the converted one.
        Mean of the squared difference over the variance of each output, averaged over outputs
        that vary (columns, or channels).
    output_error : float or None
        With `held_out`: the same of the network's output, once this layer and all before it were
        replaced.
    n_codebooks, n_prototypes, lut_bits : int or None
        C (per group; of the first projection of an attention), K, and the bits of a table entry,
        None for floats. None for layers that stay.
    macs : int or None
        Of its product, for the first calibration batch; None where that is not counted.
    """

    name: str
    kind: str
    converted: bool
    reason: str = ""
    error: float | None = None
    float_error: float | None = None
    table_bytes: int = 0
    seconds: float = 0.0
    also: tuple[str, ...] = ()
    note: str = ""
    exact_inputs_error: float | None = None
    own_inputs_error: float | None = None
    output_error: float | None = None
    n_codebooks: int | None = None
    n_prototypes: int | None = None
    lut_bits: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What became of every layer that could have been converted, in forward order."""

    rows: tuple[ConversionRow, ...] = field(default=())

    @property
    def converted(self) -> list[str]:
        """Names of the converted layers."""
        return [row.name for row in self.rows if row.converted]

    @property
    def share_of_macs(self) -> float:
        """Share of the listed layers' multiply-accumulate operations that are looked up now."""
        total_macs = sum(row.macs or 0 for row in self.rows)
        return sum(row.macs or 0 for row in self.rows if row.converted) / (total_macs or 1)

    def to_json(self) -> str:
        """Return the rows as a JSON list of objects; what was not measured is null."""
        return json.dumps([asdict(row) for row in self.rows], indent=1)

    def html(self, title: str = "Conversion") -> str:
        """Return a page with a plot of the errors and a table; it loads nothing."""
        return report_page(self.rows, title)

    def __str__(self) -> str:
        width = max([len(row.name or "(model)") for row in self.rows] + [5])
        judged = any(row.output_error is not None for row in self.rows)
        heads = f" {'exact in':>9} {'own in':>9} {'output':>9}" if judged else ""
        lines = [
            f"{'layer':{width}}  {'kind':20} {'error':>8} {'float':>8} {'table bytes':>12} {'s':>6}"
            + heads
        ]
        for row in self.rows:
            if row.error is not None and row.float_error is not None:
                errors = f"{row.error:8.4f} {row.float_error:8.4f}"
                what = f"{errors} {row.table_bytes:12d} {row.seconds:6.1f}"
                for found in (row.exact_inputs_error, row.own_inputs_error, row.output_error):
                    what += "" if found is None else f" {found:9.4f}"
                what += f"  also {', '.join(row.also)}" if row.also else ""
                what += f"  {row.note}" if row.note else ""
            else:
                what = f"  stays: {row.reason}"
            lines.append(f"{row.name or '(model)':{width}}  {row.kind:20} {what}")
        return "\n".join(lines)


def convert_(
    model: nn.Module,
    config: LayerConfig | Mapping[str, LayerConfig] | None,
    calibration: Tensor | Iterable[Any],
    filter_fn: FilterFn | None = None,
    *,
    sequential: bool = True,
    progress: bool = False,
    held_out: Tensor | Iterable[Any] | None = None,
    budget: Budget | None = None,
) -> ConversionReport:
    """Replace layers of a model with looked-up ones, in place.

    `nn.Linear`, `nn.Conv2d` and `nn.MultiheadAttention` are converted, wherever they are in the
    model, and modules that a handler turns into these (`register_handler`); everything else stays.
    Layers are learned in the order in which the model calls them. After an error the model is as it
    was.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode while it is converted; its mode is restored. A bare layer becomes
        the looked-up one: its class changes, and its name is "".
    config : LayerConfig or mapping of str to LayerConfig, optional
        For all layers, or for the layers it names (the others stay).
    calibration : Tensor, or iterable of batches
        Inputs that look like those at run time. A batch is what the model is called with: a
        tensor or NumPy array, a mapping (keyword arguments), or a tuple or list. Of these the model
        gets as many items as its ``forward`` requires; others follow (labels, from data loaders).
        Batches are not changed.
    filter_fn : callable, optional
        Takes a name and a module; layers for which it returns False stay.
    sequential : bool, default True
        Whether each layer is learned from what the layers before it, already replaced, give it;
        otherwise all are learned from the activations of the exact model.
    progress : bool, default False
        Show a progress bar, on a terminal only.
    held_out : Tensor, or iterable of batches, optional
        Inputs that nothing is learned from. The report then has each layer's error on them and
        the error that has piled up at the network's output.
    budget : Budget, optional
        What conversion may cost. Which layers are converted, and how, is then chosen by what each
        costs the network; `config` says what the budget's choices begin with.

    Returns
    -------
    ConversionReport

    Raises
    ------
    HalutError
        When nothing is converted, a name is unknown, inputs cannot be used, or the model uses the
        weight or the module of a replaced layer in another way than by calling it under its name;
        the message names the layer.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> report = convert_(model, LayerConfig(n_prototypes=4), torch.randn(200, 16))
    >>> report.converted
    ['0', '2']
    """
    if not isinstance(model, nn.Module):
        raise HalutError(f"model must be an nn.Module, not {type(model).__name__}")
    model = as_written(model)
    if filter_fn is not None and not callable(filter_fn):
        raise HalutError(f"filter_fn must be a function, not {type(filter_fn).__name__}")
    if not isinstance(budget, Budget | None):
        raise HalutError(f"budget must be a Budget, not {type(budget).__name__}")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise HalutError(f"model must hold values, not be on the meta device ({name})")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f" ({name})" if name else ""
            raise HalutError(
                f"model must be what was scripted or traced, not TorchScript itself{where}"
            )
    if isinstance(model, PLAIN) or handler_of(model) is not None:
        whole = Whole(model)
        named, own_filter = whole.named(config, filter_fn)
        report = convert_(
            whole, named, calibration, own_filter, sequential=sequential, progress=progress,
            held_out=held_out, budget=budget,
        )  # fmt: skip
        become(model, whole.layer)
        return ConversionReport(
            rows=tuple(replace(row, name=whole.own_name(row.name)) for row in report.rows)
        )
    batches = batches_of(calibration)
    unseen = None if held_out is None else batches_of(held_out)
    names = all_names(model)
    if isinstance(config, Mapping):
        every = [name for found in names.values() for name in found]
        known("config", config, every, "name modules of the model")
    # Parameters that are made under inference_mode could not be trained.
    with torch.inference_mode(False), evaluating(model), Structure.kept_on_error(model):
        rows = _Conversion(model, names, config, filter_fn, batches, unseen).run(
            sequential, progress, budget
        )
        report = ConversionReport(rows=tuple(rows))
        if not report.converted:
            reasons = "; ".join(f"{row.name}: {row.reason}" for row in rows[:3])
            raise HalutError(
                "model must have at least one layer that is converted, not none "
                f"({reasons or 'it has no nn.Linear, nn.Conv2d or nn.MultiheadAttention'})"
            )
    return report


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """A plain layer to convert: where it is, and what the report says of it."""

    path: str
    module: nn.Module
    config: LayerConfig
    row: ConversionRow
    only_call: bool


class _Conversion:
    """The steps of converting one model."""

    def __init__(
        self,
        model: nn.Module,
        names: Mapping[nn.Module, list[str]],
        config: LayerConfig | Mapping[str, LayerConfig] | None,
        filter_fn: FilterFn | None,
        batches: list[Any],
        held_out: list[Any] | None,
    ) -> None:
        self.model, self.names, self.config, self.filter_fn = model, names, config, filter_fn
        self.batches, self.held_out = batches, held_out
        self.products: dict[tuple[str, ...], int] = {}

    def run(self, sequential: bool, progress: bool, budget: Budget | None) -> list[ConversionRow]:
        """Convert, and return a row for every layer in forward order."""
        found = candidates(self.model, tuple(_WHY_LISTED))
        order = self._calls(found)
        self.products = macs_of_parameters(self.model, self.batches[0])
        position = {name: index for index, name in enumerate(order)}
        rows: list[ConversionRow] = []
        chosen: list[_Chosen] = []
        for name in sorted(found, key=lambda name: position.get(name, len(order))):
            module = found[name]
            reason = self._why_not(name, module, order)
            if not reason:
                try:
                    chosen += self._expanded(name, module, order[name])
                    continue
                except HalutError as error:
                    reason = str(error)
            kind = type(module).__name__
            rows.append(ConversionRow(name=name, kind=kind, converted=False, reason=reason))
        rows += self._without_layer(found)
        macs = count_macs(self.model, self.batches[0])
        if budget is not None and chosen:
            rows += self._within(budget, chosen, sequential, progress)
        else:
            rows += self._converted(chosen, sequential, progress)
        paths = {one.row.name: one.path for one in chosen}
        rows = [
            replace(row, macs=macs.get(paths.get(row.name, row.name), row.macs)) for row in rows
        ]
        return sorted(rows, key=lambda row: position.get(self._origin(row, position), len(order)))

    def _calls(self, found: Mapping[str, nn.Module]) -> dict[str, int]:
        """Return how often a batch calls each module, in the order of first calls.

        The first batch says so, and others only where it misses some of them.
        """
        order: dict[str, int] = {}
        for batch in self.batches:
            for name, count in call_counts(self.model, found, batch).items():
                order[name] = max(order.get(name, 0), count)
            if order.keys() >= found.keys():
                break
        return order

    def _without_layer(self, found: Mapping[str, nn.Module]) -> list[ConversionRow]:
        """Return a row for each other module that multiplies by parameters of its own."""
        listed = [one for module in found.values() for one in self.names[module]]
        own: dict[str, dict[str, int]] = {}
        for parameter_name, macs in of_no_layer(self.products, listed).items():
            holder, _, parameter = parameter_name.rpartition(".")
            own.setdefault(holder, {})[parameter] = macs
        rows = []
        for name, products in own.items():
            module = self.model.get_submodule(name)
            kind = type(module).__name__
            if isinstance(module, HalutLayer):
                continue
            reason = (
                f"its product with {', '.join(products)} is no layer's "
                f"(register_handler({kind}, function))"
            )
            rows.append(
                ConversionRow(
                    name=name,
                    kind=kind,
                    converted=False,
                    reason=reason,
                    macs=sum(products.values()),
                )
            )
        return rows

    @staticmethod
    def _origin(row: ConversionRow, position: Mapping[str, int]) -> str:
        """Return the name of the module that a row is about, or a part of which it is about."""
        name = row.name
        while name and name not in position:
            name = name.rpartition(".")[0]
        return name or row.name

    def _why_not(self, name: str, module: nn.Module, order: Mapping[str, int]) -> str | None:
        names = self.names[module]
        if isinstance(self.config, Mapping):
            wanted = [self.config[one] for one in names if one in self.config]
            if not wanted:
                return "config does not name it"
            if any(one != wanted[0] for one in wanted):
                return f"config has several settings for one layer ({', '.join(names)})"
        if self.filter_fn is not None and not all(self.filter_fn(one, module) for one in names):
            return "filter_fn left it out"
        if name not in order:
            if any(one.rpartition(".")[0] == name for all_of in self.products for one in all_of):
                return "the model multiplies by its weight without calling it"
            return "the model did not call it with the calibration inputs"
        for cls, reason in _WHY_LISTED.items():
            if isinstance(module, cls) and handler_of(module) is None:
                return reason
        if not plain(module) and handler_of(module) is None:
            own = type(module).__name__
            return f"its class {own} has a forward of its own (register_handler({own}, function))"
        if isinstance(module, nn.MultiheadAttention):
            return unsupported(module)
        return None

    def _expanded(self, name: str, module: nn.Module, count: int) -> list[_Chosen]:
        """Put what a handler makes of a module in its place, and return the plain layers in it."""
        wanted: Any = self.config
        if isinstance(wanted, Mapping):
            wanted = next(wanted[one] for one in self.names[module] if one in wanted)
        equal, note = module, ""
        if handler_of(module) is not None:
            (call, *_) = calls_of(self.model, [name], self.batches[:1])[name]
            if len(call.args) != 1 or call.kwargs:
                raise HalutError("it is called with more than one input")
            with torch.no_grad():
                equal = handled(module, call.args[0])
                _check_equal(module, equal, call.args[0])
            note = carry_over(module, equal)
        parts = _plain_parts(equal)
        if not parts:
            raise HalutError("its handler gives no nn.Linear, nn.Conv2d or nn.MultiheadAttention")
        if equal is not module:
            replace_everywhere(self.model, module, equal)
        return [
            _Chosen(
                path=f"{name}.{part_name}" if part_name else name,
                module=part,
                config=wanted or LayerConfig(),
                row=ConversionRow(
                    name=name if len(parts) == 1 else f"{name}.{part_name}",
                    kind=type(module).__name__,
                    converted=True,
                    also=tuple(one for one in self.names[module] if one != name),
                    note=note,
                ),
                only_call=count == 1,
            )
            for part_name, part in parts.items()
        ]

    def _within(
        self, budget: Budget, chosen: list[_Chosen], sequential: bool, progress: bool
    ) -> list[ConversionRow]:
        """Convert what keeps a budget, and return rows for all."""

        known: dict[tuple[nn.Module, LayerConfig], nn.Module] = {}

        def learn(module: nn.Module, calls: list[Call], config: LayerConfig) -> nn.Module:
            layer = _learned(module, calls, config)
            if not sequential:  # what a trial learns, too
                known[module, config] = copy.deepcopy(layer)
            return layer

        def convert(configs: Mapping[str, LayerConfig], judged: bool) -> list[ConversionRow]:
            wanted = [
                replace(one, config=configs[one.path]) for one in chosen if one.path in configs
            ]
            return self._converted(wanted, sequential, False, judged, known)

        layers = {
            one.path: Layer(module=one.module, config=one.config, only_call=one.only_call)
            for one in chosen
        }
        judged = self.held_out is not None
        found = Search(
            self.model, self.batches, layers, budget, learn, convert, judged, progress
        ).run()
        stay = [
            replace(one.row, converted=False, reason=found.reasons[one.path], also=(), note="")
            for one in chosen
            if one.path in found.reasons
        ]
        return found.rows + stay

    def _converted(
        self,
        chosen: list[_Chosen],
        sequential: bool,
        progress: bool,
        judged: bool = True,
        known: Mapping[tuple[nn.Module, LayerConfig], nn.Module] | None = None,
    ) -> list[ConversionRow]:
        """Learn and replace layers; those that were learned from the exact network are copied."""
        known = known or {}
        if not chosen:
            return []
        finite = self._finite()
        judge = Judge(self.model, self.held_out) if self.held_out and judged else None
        paths = [one.path for one in chosen if (one.module, one.config) not in known]
        inputs = {} if sequential or not paths else calls_of(self.model, paths, self.batches)
        rows = []
        for one in shown(chosen, "converting", "layer", progress):
            begin = time.perf_counter()
            layer: Any = copy.deepcopy(known.get((one.module, one.config)))
            if layer is None:
                # Nothing that follows the only call of a layer is needed to learn it.
                last = one.path if one.only_call else None
                calls = (inputs or calls_of(self.model, [one.path], self.batches, last))[one.path]
                with located(f"layer {one.row.name}"):
                    layer = _learned(one.module, calls, one.config)
            parts = layers_of(layer)
            for inner, part in parts.items():
                _warn(part, f"{one.row.name}.{inner}" if inner else one.row.name)
            found = total([part.error for part in parts.values() if part.error is not None])
            note = carry_over(one.module, layer)
            replace_everywhere(self.model, one.module, layer)
            seconds = time.perf_counter() - begin
            errors: Any = {} if judge is None else judge.errors(one.path, layer)
            rows.append(
                replace(
                    one.row,
                    error=found.error,
                    float_error=found.float_error,
                    table_bytes=sum(part.table_bytes for part in parts.values()),
                    n_codebooks=next(iter(parts.values())).n_codebooks,
                    n_prototypes=one.config.n_prototypes,
                    lut_bits=one.config.lut_bits,
                    seconds=seconds,
                    note=f"lost: {note or one.row.note}" if note or one.row.note else "",
                    **errors,
                )
            )
            _log.info(
                "converted %s: held-out error %.4g (float tables %.4g), %.1f s",
                one.row.name,
                found.error,
                found.float_error,
                seconds,
            )
        self._check_use(chosen, finite)
        return rows

    def _finite(self) -> bool:
        with torch.no_grad():
            return all_finite(run_batch(self.model, self.batches[0]))

    def _check_use(self, chosen: list[_Chosen], finite: bool) -> None:
        """Refuse models that use replaced layers in another way than by calling them."""
        called: list[str] = []

        def noted(one: _Chosen) -> Callable[..., Any]:
            forward = one.module.forward

            def call(*args: Any, **kwargs: Any) -> Any:
                called.append(one.row.name)
                return forward(*args, **kwargs)

            return call

        # No hook: its module shares them with the one that took its place.
        for one in chosen:
            one.module.forward = noted(one)
        try:
            now_finite = self._finite()
        finally:
            for one in chosen:
                del one.module.forward
        if called:
            raise HalutError(
                "the model must call its layers under the names they are registered with, "
                f"not keep them elsewhere too (layer {called[0]})"
            )
        if finite and not now_finite:
            raise HalutError(
                "the model must call its layers, not compute with their .weight, which replaced "
                "ones do not have (leave such layers out with filter_fn)"
            )


def _plain_parts(module: nn.Module) -> dict[str, nn.Module]:
    """Return the plain layers that a module is made of, by their names in it; "" is itself."""
    if plain(module):
        return {"": module}
    return {
        f"{name}.{inner}" if inner else name: part
        for name, child in module.named_children()
        for inner, part in _plain_parts(child).items()
    }


def _check_equal(module: nn.Module, equal: nn.Module, x: Tensor) -> None:
    """Raise `HalutError` unless what a handler gave computes what the module does."""
    wanted, found = module.forward(x.clone()), equal.forward(x.clone())
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor):
        raise HalutError("it must return one tensor to be converted by a handler")
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise HalutError(
            f"its handler's module must give {wanted.dtype} of shape {tuple(wanted.shape)}, not "
            f"{found.dtype} of shape {tuple(found.shape)}"
        )
    largest = float(wanted.abs().max()) if wanted.numel() else 0.0
    apart = float((found - wanted).abs().max()) if wanted.numel() else 0.0
    if not apart <= 100 * torch.finfo(wanted.dtype).eps * largest:
        raise HalutError(
            f"its handler's module must give the same output, not one that is {apart:.3g} off "
            f"(largest: {largest:.3g})"
        )


def _warn(layer: HalutLayer, name: str) -> None:
    """Warn where quantisation costs more than 5 %."""
    quantised = layer.config.lut_bits is not None or layer.config.input_format is not None
    if quantised and layer.error is not None and layer.error.notable:
        _log.warning("warning: %s (layer %s)", layer.error, name)


def _learned(
    module: nn.Module, calls: list[Call], config: LayerConfig
) -> HalutLayer | HalutMultiheadAttention:
    if isinstance(module, nn.MultiheadAttention):
        given = [call.first(("query", "key", "value")) for call in calls]
        return HalutMultiheadAttention.from_module(module, given, config)
    return learned_layer(module, [call.first(("input",))[0] for call in calls], config)
