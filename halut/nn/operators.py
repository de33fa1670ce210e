"""Gradients of custom operators that the transforms of `torch.func` know as well.

`torch.library` gives an operator's gradient to autograd, to compilers and to exporters, but not to
`torch.func.grad` and its like, which take an `autograd.Function` with a context of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable", "in_transform"]


def in_transform() -> bool:
    """Return whether a transform of `torch.func` is under way; False while a graph is captured."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def differentiable(
    operator: Any,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Any:
    """Register an operator's gradient, and return what to call in place of the operator.

    Its attribute `operator` is the operator.

    Parameters
    ----------
    operator : custom operator
        Of `torch.library.custom_op`.
    backward, setup_context : callable, optional
        As `torch.library.register_autograd` takes them; absent for operators without a gradient.
    """
    if backward is not None:
        operator.register_autograd(backward, setup_context=setup_context)
    name, signature = operator._init_fn.__name__, inspect.signature(operator._init_fn)

    def context(ctx: Any, inputs: Any, output: Any) -> None:
        if setup_context is not None:
            setup_context(ctx=ctx, inputs=inputs, output=output)

    def no_gradient(*_: Any) -> None:
        raise RuntimeError(f"{name} has no gradient")

    def each_alone(info: Any, in_dims: Any, *args: Any) -> Any:
        """Compute one item of a batch of `torch.func.vmap` after the other."""
        found = [
            call(*(one if at is None or not isinstance(one, Tensor) else one.select(at, index)
                   for one, at in zip(args, in_dims, strict=True)))
            for index in range(info.batch_size)
        ]  # fmt: skip
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0,) * len(found[0])

    methods = {
        "forward": staticmethod(lambda *args: operator(*args)),
        "setup_context": staticmethod(context),
        "backward": staticmethod(backward or no_gradient),
        "vmap": staticmethod(each_alone),
    }
    function = type(name, (torch.autograd.Function,), methods)

    @functools.wraps(operator._init_fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not in_transform():
            return operator(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return function.apply(*bound.args)  # type: ignore[attr-defined]

    call.operator = operator  # type: ignore[attr-defined]
    return call
