"""Measure layers beside the exact ones they replace, forward and backward, in the same run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from halut import process
from halut.bench import conditions, peak_gb
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.forward_bench import forward, medians, networks
from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear

__all__ = ["forward", "layers", "networks"]

FORMATS = {
    "float": LayerConfig(lut_bits=None),
    "int8 tables": LayerConfig(),
    "int8": LayerConfig(input_format="int8"),
    "fp16": LayerConfig(input_format="fp16"),
}
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "conv2d": (
        "Conv2d 64->128, 3x3, 32x32, batch 32, C=64, K=16", (32, 64, 32, 32), (32, 128, 32, 32)
    ),
    "linear": ("Linear 512->512, batch 1024, C=64, K=16", (1024, 512), (1024, 512)),
    "wide linear": ("Linear 768->3072, batch 128, C=96, K=16", (128, 768), (128, 3072)),
}  # fmt: skip
"""By name: how it is shown, and the shapes of input and output."""


def _layer(case: str, what: str) -> nn.Module:
    _, (_, n_inputs, *_), (_, n_outputs, *_) = CASES[case]
    if case == "conv2d":
        if what == "exact":
            return nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        return HalutConv2d(n_inputs, n_outputs, 3, padding=1, config=FORMATS[what])
    if what == "exact":
        return nn.Linear(n_inputs, n_outputs)
    return HalutLinear(n_inputs, n_outputs, config=FORMATS[what])


def _case(case: str, what: str) -> Callable[[], None]:
    """Return one training step of a layer: forward, and backward to inputs and parameters."""
    torch.manual_seed(0)
    title, *shapes = CASES[case]
    x, upstream = (torch.randn(shape) for shape in shapes)
    layer = _layer(case, what)
    if isinstance(layer, HalutLayer) and f"C={layer.n_codebooks}," not in title:
        raise HalutError(f"n_codebooks must be that of {title!r}, not {layer.n_codebooks}")
    x.requires_grad_()

    def step() -> None:
        x.grad = None
        layer.zero_grad()
        output: Tensor = layer(x)
        output.backward(upstream)

    return step


def layers(repeats: int = 11) -> dict[str, Any]:
    """Measure a step (forward and backward) of looked-up layers beside the exact ones.

    Parameters
    ----------
    repeats : int
        Turns, in which every layer steps once; medians are reported.

    Returns
    -------
    dict
        ``rows``: milliseconds per step, peak memory in MB (10**6 bytes) above what the process had
        before its first step, measured in a process of its own, and the ratios to the exact layer.
    """
    rows = []
    for case in CASES:
        names = ["exact", *FORMATS]
        steps = {name: _case(case, name) for name in names}
        times = medians(steps, repeats)
        megabytes = {name: memory_alone(case, name) for name in names}
        rows += [
            {
                "case": case,
                "title": CASES[case][0],
                "format": name,
                "ms": times[name][0],
                "time_ratio": times[name][1],
                "mb": megabytes[name],
                "memory_ratio": megabytes[name] / megabytes["exact"],
            }
            for name in names
        ]
    versions = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    return {"conditions": conditions() | versions, "repeats": repeats, "rows": rows}


def memory_alone(case: str, what: str) -> float:
    """Measure the peak memory of two steps, in MB above that before, in a process of its own."""
    done = process.run([sys.executable, "-m", "halut.nn.bench", "memory", json.dumps([case, what])])
    sys.stderr.write(done.errors)
    if done.status:
        raise HalutError(f"measurement must finish, but memory ended with {done.status}")
    return float(json.loads(done.output))


def _memory(case: str, what: str) -> float:
    step = _case(case, what)
    before = peak_gb()
    for _ in range(2):
        step()
    return 1e3 * (peak_gb() - before)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    measure = {"layers": layers, "forward": forward, "networks": networks}.get(sys.argv[1])
    print(json.dumps(_memory(*arguments) if measure is None else measure(**arguments)))
