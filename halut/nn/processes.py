"""Where a training run computes: its processes, as ``torchrun`` starts them, and its device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from halut.errors import HalutError

__all__ = ["device_of", "group", "place"]


def place() -> tuple[int, int]:
    """Return this process' number and how many share the work, as ``torchrun`` says."""
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return int(os.environ.get("RANK", "0")) if world > 1 else 0, world


@contextmanager
def group(world: int) -> Iterator[None]:
    """Let the processes meet, unless they have met already."""
    if world == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def device_of(name: str | None) -> torch.device:
    """Return the device of a name; by default the GPU of this process, or else the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and "LOCAL_RANK" in os.environ:
            name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise HalutError(f"device must be one that torch can use here, not {name!r}") from None
    return device
