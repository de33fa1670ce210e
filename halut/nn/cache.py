"""Values that follow from a layer's parameters, kept until one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Cache"]

_Value = TypeVar("_Value")


class Cache:
    """Values by name, each with what it was made of.

    A value is made anew when a source is another tensor, was written to as far as its version
    counter shows (steps of optimisers and `load_state_dict` do; writes through ``tensor.data`` or a
    NumPy array that shares its memory do not), or has other memory (``tensor.data = ...``,
    ``module.to(...)``). Copies and pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[Any, ...], Sequence[Any], Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, ()

    def get(
        self,
        name: str,
        sources: Sequence[Tensor | None],
        also: Hashable,
        make: Callable[[], _Value],
    ) -> _Value:
        """Return a value, made now unless it was and nothing has changed since.

        Parameters
        ----------
        name : str
        sources : sequence of Tensor or None
            What it is made of.
        also : hashable
            What else it depends on.
        make : callable
            Is called without gradients.
        """
        marks = _marks(sources)
        if marks is None:
            return make()
        found = self._kept.get(name)
        if found is not None and found[0] == (also, *marks):
            value: _Value = found[2]
            return value
        with torch.no_grad():
            value = make()
        # Memory that is held is not given to another tensor.
        held = [None if one is None else one.untyped_storage() for one in sources]
        self._kept[name] = (also, *marks), held, value
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def _marks(sources: Sequence[Tensor | None]) -> list[Any] | None:
    """Return what changes when a source does, or None where that cannot be known."""
    if torch.compiler.is_compiling():
        return None
    marks: list[Any] = []
    for one in sources:
        if one is None:
            marks.append(None)
        elif type(one) not in (Tensor, nn.Parameter) or one.is_inference():
            return None
        else:
            try:
                memory = one.data_ptr()
            except RuntimeError:  # tensors of torch.func
                return None
            marks.append((memory, one._version, one.shape, one.stride(), one.dtype, one.device))
    return marks
