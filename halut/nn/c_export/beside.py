"""Every step beside the operation of PyTorch that it stands for, on the very same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from halut.errors import CheckFailed
from halut.nn.c_export.reference import compute
from halut.nn.c_export.steps import Mean, Network, Product, Step, Value

__all__ = ["check_steps", "has_order"]


def has_order(step: Step) -> bool:
    """Whether PyTorch's operation has one result: it adds up no floats in an order of its own."""
    return not isinstance(step, (Product, Mean)) or step.inputs[0].kind != "f32"


def check_steps(
    model: nn.Module, graph: fx.Graph, network: Network, images: Tensor
) -> tuple[NDArray[np.float32], float]:
    """Compute the steps, and PyTorch's operations on what the steps before gave.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    graph : torch.fx.Graph
        Of the model; its nodes have the names of the steps' values.
    network : Network
        The steps of this graph.
    images : float32 Tensor of shape (n, ...)

    Returns
    -------
    outputs : float32 ndarray of shape (n, n_outputs)
        Of the network, as they lie in memory.
    difference : float
        Largest difference of a step that adds up floats, as a share of the largest value there.

    Raises
    ------
    CheckFailed
        When any other step differs by a bit; the message names it.
    """
    given: dict[str, NDArray[Any]] = {}

    def keep(value: Value, array: NDArray[Any]) -> None:
        given[value.name] = array

    outputs = compute(network, channels_last(images), keep)
    beside = _Beside(model, graph, network, given)
    with torch.no_grad():
        beside.run(images)
    return outputs, beside.difference


def channels_last(images: Tensor) -> NDArray[np.float32]:
    """Return (n, height, width, channels) of images, signals (height 1) or rows of features."""
    if images.ndim == 2:
        return images[:, None, None].numpy()
    if images.ndim == 3:
        images = images.unsqueeze(2)
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())


class _Beside(fx.Interpreter):
    """Runs a graph, and goes on with what the steps gave."""

    def __init__(
        self, model: nn.Module, graph: fx.Graph, network: Network, given: dict[str, NDArray[Any]]
    ) -> None:
        super().__init__(fx.GraphModule(model, graph))
        self.extra_traceback = False  # errors stay one line
        self.steps = {step.output.name: step for step in network.steps}
        self.given = given
        self.difference = 0.0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        step = self.steps.get(n.name)
        if step is None:
            return result
        mine = _like(result, self.given[n.name], step.output)
        if has_order(step):
            _check_equal(str(n.target) if n.op == "call_module" else n.name, mine, result)
        else:
            largest = float(result.abs().max()) or 1.0
            self.difference = max(self.difference, float((mine - result).abs().max()) / largest)
        return mine


def _like(result: Tensor, array: NDArray[Any], value: Value) -> Tensor:
    """Return what a step gave in PyTorch's layout; integers become floats."""
    floats = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if result.ndim == 4:
        return floats.permute(0, 3, 1, 2).contiguous()
    if result.ndim == 3:
        return floats[:, 0].permute(0, 2, 1).contiguous()
    rows = floats.flatten(1)
    return rows if value.places is None else rows[:, torch.from_numpy(value.places)]


def _check_equal(name: str, given: Tensor, wanted: Tensor) -> None:
    wrong = (given.view(torch.int32) != wanted.contiguous().view(torch.int32)).nonzero()
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise CheckFailed(
            f"steps must give the bits of PyTorch: {name} at {place} must be "
            f"{float(wanted[place])!r}, not {float(given[place])!r} "
            f"({len(wrong)} of {given.numel()} differ)"
        )
