"""Measure forward passes beside PyTorch's, in float32 and in INT8, in the same run.

All sides read and write float32, in the memory layout that is named; INT8 is measured from INT8 to
INT8, too. Batch norm is folded into convolutions on every side. PyTorch's INT8 runs with each
engine that is there, and the fastest one counts. Looked-up layers have random tables: how long a
look-up takes does not depend on what is in them.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn.utils.fusion import fuse_conv_bn_eval

from halut.bench import conditions
from halut.nn.config import LayerConfig
from halut.nn.fuse import fused
from halut.nn.layers import HalutConv2d, HalutLinear
from halut.nn.models import ResNet9

__all__ = ["forward", "medians", "networks"]

_ENGINES = ("x86", "onednn", "fbgemm")
_LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
_LINEAR = ((512, 512, 1024), (768, 3072, 128))
_BATCHES = (1, 64)
_FORMATS = LayerConfig(input_format="int8")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512vbmi", "avx512_vnni", "amx_int8")

_Calls = Mapping[str, Callable[[], Any]]


def medians(calls: _Calls, repeats: int) -> dict[str, tuple[float, float]]:
    """Call all in turns; the first two turns only warm up.

    With one thread the clock is the processor's, which other processes do not disturb.

    Returns
    -------
    dict
        By name: the median in milliseconds, and the median of the ratio to the first call of the
        same turn.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    turns = []
    for _ in range(repeats + 2):
        turn = []
        for call in calls.values():
            begin = clock()
            call()
            turn.append(1e3 * (clock() - begin))
        turns.append(turn)
    times = np.array(turns[2:])
    ratios = np.median(times / times[:, :1], axis=0)
    found = zip(np.median(times, axis=0).tolist(), ratios.tolist(), strict=True)
    return dict(zip(calls, found, strict=True))


def _conditions() -> dict[str, Any]:
    found = conditions() | {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    return found | {
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _int8(model: nn.Module, x: Tensor, engine: str) -> nn.Module:
    """Quantise a module with an engine of PyTorch, which stays set."""
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this moves
        prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(engine), (x,))
        prepared(x)
        quantised: nn.Module = convert_fx(prepared)
    return quantised


def _engines() -> list[str]:
    return [name for name in _ENGINES if name in torch.backends.quantized.supported_engines]


def _int8_calls(model: nn.Module, x: Tensor, alone: bool) -> dict[str, Callable[[], Any]]:
    """Return calls from float32 to float32 and, for a single layer alone, from INT8 to INT8."""
    calls: dict[str, Callable[[], Any]] = {}
    for engine in _engines():
        quantised = _int8(model, x, engine)

        def whole(engine: str = engine, quantised: nn.Module = quantised) -> Any:
            torch.backends.quantized.engine = engine
            return quantised(x)

        calls[f"INT8 {engine}"] = whole
        if alone:
            layer = quantised.get_submodule("0")
            grid = {name.rpartition("_input_")[2]: float(value)
                    for name, value in quantised.named_buffers()}  # fmt: skip
            words = torch.quantize_per_tensor(
                x, grid["scale_0"], int(grid["zero_point_0"]), torch.quint8
            )

            def inside(
                engine: str = engine, layer: nn.Module = layer, words: Tensor = words
            ) -> Any:
                torch.backends.quantized.engine = engine
                return layer(words)

            calls[f"INT8 {engine}, INT8 in and out"] = inside
    return calls


def _both(exact: nn.Module, looked_up: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    return {"float32": partial(exact, x), "looked up": partial(looked_up, x)}


def _rows(title: str, calls: _Calls, repeats: int) -> list[dict[str, Any]]:
    return [
        {"case": title, "side": name, "ms": milliseconds, "ratio": ratio}
        for name, (milliseconds, ratio) in medians(calls, repeats).items()
    ]


@torch.no_grad()
def forward(repeats: int = 21) -> dict[str, Any]:
    """Measure single layers.

    Parameters
    ----------
    repeats : int
        Turns, in which every side runs once.

    Returns
    -------
    dict
        ``rows``: ``case``, ``side``, ``ms``, and ``ratio``, to float32 in the same turn; medians.
    """
    rows = []
    for name, layout in _LAYOUTS.items():
        torch.manual_seed(0)
        x = torch.randn(32, 64, 32, 32).contiguous(memory_format=layout)
        exact = _laid_out(nn.Sequential(nn.Conv2d(64, 128, 3, padding=1)).eval(), layout)
        layer = HalutConv2d(64, 128, 3, padding=1, config=_FORMATS).eval()
        calls = _both(exact, layer, x)
        calls |= _int8_calls(exact, x, alone=True)
        title = f"Conv2d 64->128, 3x3, 32x32, batch 32, C={layer.n_codebooks}, {name}"
        rows += _rows(title, calls, repeats)
    for n_features, n_outputs, n_rows in _LINEAR:
        torch.manual_seed(0)
        x = torch.randn(n_rows, n_features)
        exact = nn.Sequential(nn.Linear(n_features, n_outputs)).eval()
        linear = HalutLinear(n_features, n_outputs, config=_FORMATS).eval()
        calls = _both(exact, linear, x)
        calls |= _int8_calls(exact, x, alone=True)
        title = f"Linear {n_features}->{n_outputs}, batch {n_rows}, C={linear.n_codebooks}"
        rows += _rows(title, calls, repeats)
    return {"conditions": _conditions(), "repeats": repeats, "rows": rows}


def _laid_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    whole: Any = model  # torch states no type for this argument of `to`
    found: nn.Module = whole.to(memory_format=layout)
    return found


def _folded(model: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them."""
    for part in list(model.modules()):
        if not isinstance(part, nn.Sequential):
            continue
        for name, after in zip(list(part._modules), list(part._modules)[1:], strict=False):
            conv, norm = part._modules[name], part._modules[after]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part._modules[name] = fuse_conv_bn_eval(conv, norm)
                part._modules[after] = nn.Identity()
    return model


def _looked_up(model: nn.Module) -> nn.Module:
    """Replace all convolutions but the first by looked-up ones with random tables."""
    found = copy.deepcopy(model)
    names = [name for name, part in found.named_modules() if isinstance(part, nn.Conv2d)]
    for name in names[1:]:
        exact: Any = found.get_submodule(name)
        given = {argument: getattr(exact, argument) for argument in HalutConv2d.arguments}
        layer = HalutConv2d(**given | {"bias": exact.bias is not None, "config": _FORMATS})
        parent, _, last = name.rpartition(".")
        setattr(found.get_submodule(parent), last, layer)
    return found.eval()


@torch.no_grad()
def networks(repeats: int = 11) -> dict[str, Any]:
    """Measure ResNet-9 on images of Fashion-MNIST's size.

    Parameters
    ----------
    repeats : int
        Turns, in which every side runs once.

    Returns
    -------
    dict
        As of `forward`.
    """
    torch.manual_seed(0)
    model = _folded(ResNet9(in_channels=1, image_size=28).eval())
    looked_up, rows = _looked_up(model), []
    for n_images in _BATCHES:
        calls: dict[str, Callable[[], Any]] = {}
        for name, layout in _LAYOUTS.items():
            x = torch.randn(n_images, 1, 28, 28).contiguous(memory_format=layout)
            exact = _laid_out(copy.deepcopy(model), layout)
            calls[f"float32, {name}"] = partial(exact, x)
            quantised = _int8_calls(exact, x, alone=False).items()
            calls |= {f"{engine}, {name}": call for engine, call in quantised}
            calls[f"looked up, {name}"] = partial(_laid_out(fused(looked_up), layout), x)
        rows += _rows(f"ResNet-9, 28x28, batch {n_images}", calls, repeats)
    return {"conditions": _conditions(), "repeats": repeats, "rows": rows}
