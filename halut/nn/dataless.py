"""Learning a network's layers without its data: from what its batch norms guarantee.

After training, a batch norm's outputs have, over the data, mean beta and standard deviation |gamma|
in every channel. Inputs of the layers behind it can thus be drawn without an image; dimensions and
thresholds are learned from these, and so are tables, since the product of a drawn row is known.
How much error that costs, layer by layer, is what `study` measures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.checks import either, integer_at_least
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.deviation import accuracy
from halut.nn.handlers import plain
from halut.nn.layers import learned_layer
from halut.nn.refit import refit_
from halut.nn.replace import replace_everywhere
from halut.nn.watch import calls_of, evaluating, hooked

__all__ = ["SOURCES", "DatalessRow", "DatalessStudy", "drawn", "study"]

SOURCES = ("data", "noise", "independent")
"""Where rows come from: images; images of noise, which batch norms normalise anew; each value of a
batch norm's output alone, as the norm guarantees it."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_ROWS_OF_TABLES = 16384


@dataclass(frozen=True, kw_only=True)
class DatalessRow:
    """One layer: ``|WX - Y|**2 / |WX|**2`` on test images.

    Attributes
    ----------
    name : str
    errors : dict of str to float
        By source of the rows that it was learned from.
    tables_refitted : dict of str to float
        The same for sources without data, once tables were learned again from images.
    normed : bool
        Whether a batch norm comes before the layer.
    """

    name: str
    errors: dict[str, float]
    tables_refitted: dict[str, float]
    normed: bool


@dataclass(frozen=True, kw_only=True)
class DatalessStudy:
    """What learning without data costs.

    Attributes
    ----------
    rows : tuple of DatalessRow
        In the order of the calls.
    accuracy : dict of str to float
        Of the network with all these layers replaced, by source, without any training; of the
        exact network for ``"exact"``.
    """

    rows: tuple[DatalessRow, ...]
    accuracy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        titles = [*SOURCES, *(f"{source}, tables" for source in SOURCES[1:])]
        lines = [" ".join([f"{'layer':{width}}", *(f"{title:>19}" for title in titles)])]
        for row in self.rows:
            values = [*row.errors.values(), *row.tables_refitted.values()]
            shown = " ".join(f"{value:19.4f}" for value in values)
            lines.append(f"{row.name:{width}} {shown}{'' if row.normed else '  no batch norm'}")
        right = " ".join(f"{name} {100 * value:.2f} %" for name, value in self.accuracy.items())
        return "\n".join([*lines, f"accuracy, all replaced, not trained: {right}"])


@contextmanager
def drawn(model: nn.Module, source: str, seed: int) -> Iterator[None]:
    """Let batch norms give, while the block runs, what a source makes of their outputs.

    Parameters
    ----------
    model : torch.nn.Module
    source : {"data", "noise", "independent"}
        ``"noise"``: inputs are normalised by their own mean and variance. ``"independent"``:
        outputs are drawn from a normal distribution, whatever the inputs.
    seed : int
    """
    either("source", source, SOURCES)
    generator = torch.Generator().manual_seed(seed)

    def replaced(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if source == "data":
            return None
        if source == "noise":
            return functional.batch_norm(args[0], None, None, norm.weight, norm.bias, True)
        shape = (1, -1) + (1,) * (output.ndim - 2)
        ones = torch.ones(output.shape[1])
        scale, offset = (
            (default if own is None else own.detach()).view(shape).cpu()
            for own, default in ((norm.weight, ones), (norm.bias, 0 * ones))
        )
        normal = torch.randn(output.shape, generator=generator)
        return (normal * scale + offset).to(output)

    norms = [one for one in model.modules() if isinstance(one, _NORMS)]
    if not norms:
        raise HalutError("model must have a batch norm to learn without data, not none")
    with hooked([one.register_forward_hook(replaced) for one in norms]):
        yield


@torch.no_grad()
def study(
    model: nn.Module,
    images: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    config: LayerConfig,
    seed: int = 0,
    shown: Callable[[list[str]], Any] = list,
) -> DatalessStudy:
    """Learn every layer from each source, and measure it on real inputs.

    Parameters
    ----------
    model : torch.nn.Module
        Exact, trained; stays as it is.
    images : Tensor of shape (n, ...)
        For the source ``"data"``; of the others only the shape counts.
    test_images, test_labels : Tensor
        Inputs and classes that errors and accuracies are measured with.
    config : LayerConfig
    seed : int, default 0
        Of what is drawn.
    shown : callable, optional
        Is given the names of the layers, and returns them one by one.

    Returns
    -------
    DatalessStudy

    Raises
    ------
    HalutError
        When the model has no batch norm, or no layer that can be replaced.
    """
    integer_at_least("images", len(images), 2)
    kinds = nn.Linear, nn.Conv2d
    named = model.named_modules()
    names = [name for name, one in named if isinstance(one, kinds) and plain(one) and name]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images)
    batches = {"data": images, "noise": noise, "independent": noise}
    with evaluating(model):
        inputs: dict[str, dict[str, list[Tensor]]] = {}
        for source in SOURCES:
            with drawn(model, source, seed):
                calls = calls_of(model, names, [batches[source]])
            inputs[source] = {
                name: [call.first(("input",))[0] for call in found]
                for name, found in calls.items()
                if found
            }
        names = [name for name in names if name in inputs["data"]]
        if not names:
            raise HalutError("model must have at least one layer to replace, not none")
        judged = calls_of(model, names, [test_images])
        normed = {
            name: not torch.equal(inputs["noise"][name][0], inputs["independent"][name][0])
            for name in names
        }
        networks = {source: copy.deepcopy(model) for source in SOURCES}
        rows = []
        for name in shown(names):
            module = model.get_submodule(name)
            test = [call.first(("input",))[0] for call in judged[name]]
            errors, refitted = {}, {}
            for source in SOURCES:
                layer = learned_layer(module, inputs[source][name], config).eval()
                errors[source] = _error(layer, module, test)
                twin = networks[source].get_submodule(name)
                replace_everywhere(networks[source], twin, layer)
                if source != "data":
                    again = copy.deepcopy(layer)
                    wanted = [module(x) for x in inputs["data"][name]]
                    refit_(again, inputs["data"][name], wanted, _ROWS_OF_TABLES)
                    refitted[source] = _error(again, module, test)
            rows.append(
                DatalessRow(name=name, errors=errors, tables_refitted=refitted, normed=normed[name])
            )
        accuracies = {
            name: accuracy(one.eval(), test_images, test_labels)
            for name, one in {"exact": model, **networks}.items()
        }
    return DatalessStudy(rows=tuple(rows), accuracy=accuracies)


def _error(layer: nn.Module, module: Any, inputs: list[Tensor]) -> float:
    """Return the relative squared error of a layer's products, without the module's bias."""
    lost = energy = 0.0
    for x in inputs:
        exact = module(x)
        lost += float((layer(x) - exact).double().square().sum())
        if module.bias is not None:
            shape = (-1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,)
            exact = exact - module.bias.view(shape)
        energy += float(exact.double().square().sum())
    return lost / (energy or 1.0)
