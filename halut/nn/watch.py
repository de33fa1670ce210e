"""Watching a model run: its mode, hooks that go away again, the order of calls, what is finite."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from halut.errors import HalutError
from halut.nn.layers import HalutLayer

__all__ = [
    "Call",
    "batches_of",
    "call_counts",
    "calls_of",
    "checked_logits",
    "evaluating",
    "finite_outputs",
    "first_not_finite",
    "hooked",
    "logits_of",
    "output_of",
    "run_batch",
    "spreads_of",
]


def batches_of(data: Any) -> list[Any]:
    """Return batches, as `halut.nn.convert_` understands them, as a list; at least one."""
    if isinstance(data, (Tensor, np.ndarray, Mapping)):
        return [data]
    if not isinstance(data, Iterable):
        raise HalutError(f"inputs must be a tensor or batches, not {type(data).__name__}")
    batches = list(data)
    if not batches:
        raise HalutError("inputs must have at least one batch, not 0")
    return batches


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into its own mode afterwards."""
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[""])  # what modules do beside changing their mode, as merging weights
        for name, module in model.named_modules():
            while name not in modes:  # a part of a module that is new
                name = name.rpartition(".")[0]
            module.training = modes[name]


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks when the block ends."""
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()


def run_batch(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch as `halut.nn.convert_` understands it; the batch stays as it is."""
    given: list[Any] = [batch]
    if isinstance(batch, (tuple, list)) and batch:
        given = list(batch[: _n_required(model)])
    for one in given:
        if not isinstance(one, (Mapping, Tensor, np.ndarray)):
            raise HalutError(f"batches must be tensors or mappings, not {type(one).__name__}")
    parameter = next((one for one in model.parameters() if one.is_floating_point()), None)
    try:
        with _eager():
            if isinstance(given[0], Mapping):
                return model(**{key: _own(value, parameter) for key, value in given[0].items()})
            return model(*(_own(one, parameter) for one in given))
    except HalutError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HalutError(f"model must take the inputs that it is given: {reason}") from error


def _eager() -> AbstractContextManager[Any]:
    """Run modules that `torch.compile` made as they were written, so that hooks see every part."""
    if not hasattr(torch.compiler, "set_stance"):  # before torch 2.6
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _n_required(model: nn.Module) -> int:
    """Return how many arguments a model must be called with by position, at least 1."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return max(1, sum(one.kind in kinds and one.default is one.empty for one in parameters))


def _own(value: Any, parameter: Tensor | None) -> Any:
    """Return a copy of an input where the model is; floats of NumPy in the model's dtype."""
    device = None if parameter is None else parameter.device
    if isinstance(value, np.ndarray):
        made = torch.tensor(value, device=device)
        return (
            made.to(parameter.dtype) if made.is_floating_point() and parameter is not None else made
        )
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else value


def output_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return a model's output, which must be one tensor."""
    output = run_batch(model, x)
    if not isinstance(output, Tensor):
        raise HalutError(f"model must return one tensor, not {type(output).__name__}")
    return output


def logits_of(model: nn.Module, x: Tensor, n_classes: int = 1) -> Tensor:
    """Return a classifier's output, which must be one tensor (n, `n_classes` or more)."""
    return checked_logits(run_batch(model, x), len(x), n_classes)


def checked_logits(output: Any, n_inputs: int, n_classes: int = 1) -> Tensor:
    """Return what a classifier gave if it is one tensor (`n_inputs`, `n_classes` or more)."""
    good = isinstance(output, Tensor) and output.ndim == 2 and len(output) == n_inputs
    if not good or output.shape[1] < n_classes:
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        raise HalutError(
            f"model must return logits of shape ({n_inputs}, at least {n_classes}), "
            f"not {type(output).__name__}{shape}"
        )
    found: Tensor = output
    return found


@torch.no_grad()
def call_counts(model: nn.Module, modules: Mapping[str, nn.Module], batch: Any) -> dict[str, int]:
    """Return how often some modules of a model are called, by name, in the order of first calls."""
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def called(*_: Any) -> None:
            counts[name] = counts.get(name, 0) + 1

        return called

    hooks = (module.register_forward_pre_hook(count(name)) for name, module in modules.items())
    with evaluating(model), hooked(hooks):
        run_batch(model, batch)
    return counts


@dataclass(frozen=True)
class Call:
    """One call of a module: copies of its arguments, as they were before it ran."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def first(self, names: Sequence[str]) -> tuple[Any, ...]:
        """Return the first arguments, given by position or by name."""
        rest = [self.kwargs[name] for name in names[len(self.args) :]]
        return (*self.args[: len(names)], *rest)

    def run(self, module: nn.Module) -> Any:
        """Call a module with copies of the arguments."""
        kwargs = {key: _copied(value) for key, value in self.kwargs.items()}
        with _eager():
            return module(*(_copied(value) for value in self.args), **kwargs)


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


@torch.no_grad()
def calls_of(
    model: nn.Module, names: Sequence[str], batches: Iterable[Any], stop_after: str | None = None
) -> dict[str, list[Call]]:
    """Return every call of the named modules; a pass ends with the first call of `stop_after`.

    Arguments are copied: what a model later changes in place does not change them.
    """
    calls: dict[str, list[Call]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[name].append(
                Call(
                    tuple(_copied(value) for value in args),
                    {key: _copied(value) for key, value in kwargs.items()},
                )
            )

        return hook

    def stop(*_: Any) -> None:
        raise _Enough

    hooks = []
    for name in names:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(keep(name), with_kwargs=True))
        if name == stop_after:
            hooks.append(module.register_forward_hook(stop))
    with hooked(hooks):
        for batch in batches:
            with suppress(_Enough):
                run_batch(model, batch)
    return calls


@torch.no_grad()
def spreads_of(model: nn.Module, names: Sequence[str], batch: Any) -> dict[str, float]:
    """Return the standard deviation of what the named modules get; 1 where there is none."""
    spreads: dict[str, float] = {}
    for name, calls in calls_of(model, names, [batch]).items():
        seen = [call.args[0].flatten() for call in calls if call.args and call.args[0].numel()]
        found = float(torch.cat(seen).float().std()) if seen else 0.0
        spreads[name] = found if found > 0 else 1.0
    return spreads


def _copied(value: Any) -> Any:
    """Copy an argument, and whatever it holds: a cache of keys and values grows in each call."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if value is None or isinstance(value, (bool, int, float, str, nn.Module)):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever objects of others raise: they are shared then
        return value


@contextmanager
def finite_outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield {name: whether everything the module gave was finite}, in forward order."""
    finite: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def watched(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                good = torch.isfinite(output).all()
                finite[name] = finite[name] & good if name in finite else good

        return watched

    with hooked(
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, HalutLayer) or not any(True for _ in module.children())
    ):
        yield finite


@torch.no_grad()
def first_not_finite(model: nn.Module, images: Tensor) -> str:
    """Return which module's output is the first that is not finite."""
    if not torch.isfinite(images).all():
        return "the images are not finite"
    with finite_outputs(model) as finite:
        model(images)
    for name, good in finite.items():
        if not good.item():
            return f"first not finite: layer {name}"
    return "every layer's output is finite"
