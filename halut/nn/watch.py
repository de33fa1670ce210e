"""Watching a model run: its mode, hooks that go away again, the order of calls, what is finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from halut.errors import HalutError
from halut.nn.layers import HalutLayer

__all__ = [
    "batches_of",
    "call_counts",
    "evaluating",
    "finite_outputs",
    "first_not_finite",
    "hooked",
    "output_of",
    "run_batch",
]


def batches_of(data: Any) -> list[Any]:
    """Return batches, as `halut.nn.convert_` understands them, as a list; at least one."""
    if isinstance(data, (Tensor, Mapping)):
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
        for name, module in model.named_modules():
            module.training = modes.get(name, module.training)


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
    """Call a model with a batch as `halut.nn.convert_` understands it."""
    if isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    device = next((parameter.device for parameter in model.parameters()), None)
    if not isinstance(batch, (Mapping, Tensor)):
        raise HalutError(f"batches must be tensors or mappings, not {type(batch).__name__}")
    try:
        if isinstance(batch, Tensor):
            return model(batch.to(device))
        return model(
            **{
                key: value.to(device) if isinstance(value, Tensor) else value
                for key, value in batch.items()
            }
        )
    except HalutError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HalutError(f"model must take the inputs that it is given: {reason}") from error


def output_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return a model's output, which must be one tensor."""
    output = run_batch(model, x)
    if not isinstance(output, Tensor):
        raise HalutError(f"model must return one tensor, not {type(output).__name__}")
    return output


@torch.no_grad()
def call_counts(
    model: nn.Module, classes: type[nn.Module] | tuple[type[nn.Module], ...], batch: Any
) -> dict[str, int]:
    """Return how often modules of some classes are called, by name, in the order of first calls."""
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def called(*_: Any) -> None:
            counts[name] = counts.get(name, 0) + 1

        return called

    hooks = (
        module.register_forward_pre_hook(count(name))
        for name, module in model.named_modules()
        if isinstance(module, classes)
    )
    with evaluating(model), hooked(hooks):
        run_batch(model, batch)
    return counts


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
