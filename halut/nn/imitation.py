"""Training parts of a network to give what others gave: losses, order of batches, what was best."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from halut.nn.blocks import trainable_parts
from halut.nn.layers import HalutLayer

__all__ = ["Training", "class_loss", "copy_of", "in_random_order", "value_loss"]

_JUDGEMENTS = 4
"""Times that what was kept back is looked at in the course of a training."""


def class_loss(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the first outputs' softmax."""
    axis = 1 if wanted[0].ndim > 3 else -1
    log_found, log_wanted = (one[0].log_softmax(dim=axis) for one in (found, wanted))
    return (log_wanted.exp() * (log_wanted - log_found)).sum(dim=axis).mean()


def value_loss(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Return the squared difference of all outputs, each over its variance."""
    parts = [
        (one - exact).square().mean() / (exact.var(unbiased=False) + torch.finfo(exact.dtype).tiny)
        for one, exact in zip(found, wanted, strict=True)
    ]
    return torch.stack(parts).sum()


def in_random_order(indices: list[int], steps: int, seed: str) -> list[int]:
    """Return batches in random order, all of them before any comes again."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(number)
    order: list[int] = []
    while len(order) < steps:
        order += [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]
    return order[:steps]


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state as it is now."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class Training:
    """Trains the parts of a module that reconstruction changes, and keeps what was best.

    Parameters
    ----------
    module : nn.Module
    rate : float
        As a share of each parameter's root mean square.
    steps : int
    """

    def __init__(self, module: nn.Module, rate: float, steps: int) -> None:
        self.module, self.rate, self.steps, self.done = module, rate, steps, 0
        named = trainable_parts(module)
        self.parameters = list(named.values())
        groups = [
            {"params": [parameter], "scale": _scale(module, name)}
            for name, parameter in named.items()
        ]
        self.optimizer = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))

    def start(self, judge: Callable[[], float], state: dict[str, Any] | None = None) -> None:
        """Begin, or go on where a state was taken."""
        self._judge = judge
        if state is None:
            self.best, self.kept = judge(), copy_of(self.module)
            return
        self.done, self.best, self.kept = state["done"], state["best"], state["kept"]
        self.optimizer.load_state_dict(state["optimizer"])

    def state(self) -> dict[str, Any]:
        """Return what `start` goes on from; parameters are the module's own."""
        return {
            "done": self.done,
            "best": self.best,
            "kept": self.kept,
            "optimizer": self.optimizer.state_dict(),
        }

    def step(self, loss: Tensor) -> bool:
        """Take one step, and return whether what was kept back was looked at."""
        for group in self.optimizer.param_groups:
            share = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
            group["lr"] = self.rate * group["scale"] * share
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1
        if self.done % max(1, self.steps // _JUDGEMENTS) and self.done < self.steps:
            return False
        found = self._judge()
        if found < self.best:
            self.best, self.kept = found, copy_of(self.module)
        return True

    def end(self) -> float:
        """Go back to what was best, and return how good it is."""
        self.module.load_state_dict(self.kept)
        return self.best


@torch.no_grad()
def _scale(module: nn.Module, name: str) -> float:
    """Return the size of the values of a parameter."""
    owner_name, _, own = name.rpartition(".")
    owner: Any
    owner, parameter = module.get_submodule(owner_name), module.get_parameter(name)
    values = parameter.double()
    if isinstance(owner, HalutLayer):
        if own == "bias":  # what entries of tables add up to
            values = owner.lut.double() * math.sqrt(owner.n_codebooks)
        elif own == "thresholds":
            values = values - values.mean(dim=-1, keepdim=True) if values.shape[-1] > 1 else values
    elif own == "bias" and isinstance(getattr(owner, "weight", None), Tensor):
        values = torch.cat([values.flatten(), owner.weight.double().flatten()])
    return float(values.square().mean().sqrt()) or 1e-6
