"""How many multiply-accumulate operations the products of a network have, and whose they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from halut.nn.layer import is_dense
from halut.nn.layers import HalutLayer
from halut.nn.watch import evaluating, hooked, run_batch

__all__ = [
    "COUNTED",
    "Product",
    "count_macs",
    "macs_of_parameters",
    "of_no_layer",
    "products_by_module",
    "products_of",
]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
COUNTED = (
    nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase,
    HalutLayer,
)  # fmt: skip
"""Modules whose products `products_of` knows."""

_FACTORS = {
    "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "mv": (0, 1), "addmv": (1, 2),
    "_grouped_mm": (0, 1), "convolution": (1, 1),
}  # fmt: skip
"""Where torch's operations have the factors of a product. The first has rows as long as a sum; a
convolution has its weight only. Whatever multiplies matrices comes down to these."""


@dataclass(frozen=True)
class Product:
    """`groups` products of (rows, n_features) by parameters of shape (n_features, n_outputs)."""

    rows: float
    n_features: int
    n_outputs: int
    groups: int = 1

    @property
    def macs(self) -> float:
        """Multiply-accumulate operations."""
        return self.rows * self.n_features * self.n_outputs * self.groups


@torch.no_grad()
def count_macs(model: nn.Module, batch: Any) -> dict[str, int]:
    """Count the operations of the products of layers, see `products_of`.

    Parameters
    ----------
    model : nn.Module
    batch : batch
        As for `halut.nn.convert_`.

    Returns
    -------
    dict of str to int
        Per module that was called, in that order; of all items of the batch. Of a replaced layer
        those of the product that it stands for.
    """
    found = _called(model, batch, lambda module: isinstance(module, COUNTED))
    return {name: int(sum(one.macs for one in products)) for name, products in found.items()}


def _called(
    model: nn.Module, batch: Any, wanted: Callable[[nn.Module], bool]
) -> dict[str, list[Product]]:
    """Return the products of the wanted modules that a forward pass calls, in that order."""
    found: dict[str, list[Product]] = {}

    def watch(name: str) -> Callable[..., None]:
        def called(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            now = products_of(module, args, kwargs, output) if isinstance(module, COUNTED) else []
            before = found.get(name) or [replace(product, rows=0) for product in now]
            found[name] = [
                replace(one, rows=one.rows + other.rows)
                for one, other in zip(now, before, strict=True)
            ]

        return called

    hooks = (
        module.register_forward_hook(watch(name), with_kwargs=True)
        for name, module in model.named_modules()
        if wanted(module)
    )
    with evaluating(model), hooked(hooks):
        run_batch(model, batch)
    return found


@torch.no_grad()
def macs_of_parameters(model: nn.Module, batch: Any) -> dict[tuple[str, ...], int]:
    """Count the operations of products one of whose factors is a parameter or a buffer, or a part.

    Whatever multiplies by it, a layer or a function: of parameters that a module multiplies by
    without calling a layer, nothing else knows.

    Parameters
    ----------
    model : nn.Module
    batch : batch
        As for `halut.nn.convert_`.

    Returns
    -------
    dict of tuple of str to int
        By all names of the parameter or buffer, of two dimensions or more; in the order of first
        use, of all items of the batch.
    """
    names: dict[int, list[str]] = {}
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        if tensor.ndim >= 2 and tensor.numel():
            names.setdefault(_place(tensor), []).append(name)
    products = _Products(set(names))
    with evaluating(model), products:
        run_batch(model, batch)
    return {tuple(names[place]): count for place, count in products.counts.items()}


@torch.no_grad()
def products_by_module(model: nn.Module, batch: Any) -> dict[str, list[Product]]:
    """Return the products with parameters of a forward pass.

    Parameters
    ----------
    model : nn.Module
    batch : batch
        As for `halut.nn.convert_`.

    Returns
    -------
    dict of str to list of Product
        Of every module that has parameters of its own, or of a class of `COUNTED`, and was called,
        in forward order; an empty list of what multiplies by none. Then of modules that were not
        called, by whose parameters others multiply.
    """
    found = _called(
        model,
        batch,
        lambda module: isinstance(module, COUNTED) or any(True for _ in module.parameters(False)),
    )
    counted = [name for name in found if isinstance(model.get_submodule(name), COUNTED)]
    for name, macs in of_no_layer(macs_of_parameters(model, batch), counted).items():
        holder, _, own = name.rpartition(".")
        factor = getattr(model.get_submodule(holder), own)
        *stack, n_features, n_outputs = factor.shape
        product = Product(macs / factor.numel(), n_features, n_outputs, math.prod(stack))
        found.setdefault(holder, []).append(product)
    return found


def of_no_layer(products: Mapping[tuple[str, ...], int], layers: Iterable[str]) -> dict[str, int]:
    """Return those of `macs_of_parameters` that are not some layers', by first names.

    A weight that a layer shares with another module is the layer's.
    """
    inside = tuple(f"{name}." for name in layers)
    return {
        names[0]: macs
        for names, macs in products.items()
        if not any(name.startswith(inside) for name in names)
    }


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if is_dense(tensor) else 0


class _Products(TorchDispatchMode):
    """Counts the operations of products whose factors lie in one of several places in memory."""

    def __init__(self, places: set[int]) -> None:
        super().__init__()
        self.places, self.counts = places, dict[int, int]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        factors = _FACTORS.get(func.overloadpacket.__name__) if func.namespace == "aten" else None
        if factors is None:
            return output
        first, second = args[factors[0]], args[factors[1]]
        for place in {_place(first), _place(second)} & self.places:
            if func.overloadpacket.__name__ == "convolution":
                transposed = args[6]
                macs = (args[0] if transposed else output).numel() * first[0].numel()
            else:
                macs = output.numel() * first.shape[-1]
            self.counts[place] = self.counts.get(place, 0) + macs
        return output


def products_of(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> list[Product]:
    """Return the products with parameters of one call of a module of `COUNTED`.

    Parameters
    ----------
    module : nn.Module
    args, kwargs : tuple, mapping
        What it was called with.
    output : Tensor or tuple
        What it returned.

    Returns
    -------
    list of Product
        Of a replaced layer the product that it stands for; of an attention those of queries, keys,
        values and output, which are not those of its products of activations; of recurrent modules
        those of every layer and direction.
    """
    if isinstance(module, HalutLayer):
        rows = output.numel() // (module.groups * module.n_outputs)
        return [Product(rows, module.n_features, module.n_outputs, module.groups)]
    if isinstance(module, nn.MultiheadAttention):
        names = "query", "key", "value"
        given = (*args, *(kwargs[name] for name in names[len(args) :]))[: len(names)]
        sizes = (*(x.shape[-1] for x in given), module.embed_dim)
        return [
            Product(x.numel() // size, size, module.embed_dim)
            for x, size in zip((*given, output[0]), sizes, strict=True)
        ]
    x = next(iter((*args, *kwargs.values())))
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        x = getattr(x, "data", x)  # of a packed sequence
        rows = x.numel() // module.input_size
        weights = [one for one in module.parameters() if one.ndim == 2]
        return [Product(rows, one.shape[1], one.shape[0]) for one in weights]
    first, others, groups = len(module.weight), module.weight[0].numel(), 1
    if not isinstance(module, nn.Linear):
        groups = module.groups
    if isinstance(module, _TRANSPOSED):  # weights are those of inputs first
        return [Product(x.numel() // first, first // groups, others, groups)]
    return [Product(output.numel() // first, others, first // groups, groups)]
