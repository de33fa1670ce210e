"""MADDNESS inside PyTorch networks: layers, conversion, training, export.

Nothing else in the project imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from halut.errors import HalutError

if TYPE_CHECKING:
    from halut.nn.attention import HalutMultiheadAttention
    from halut.nn.budget import Budget
    from halut.nn.config import LayerConfig
    from halut.nn.convert import ConversionReport, ConversionRow, convert_
    from halut.nn.fuse import fused
    from halut.nn.handlers import as_called, register_handler
    from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear
    from halut.nn.reconstruct import Reconstruction, ReconstructionReport, reconstruct_

__all__ = [
    "Budget",
    "ConversionReport",
    "ConversionRow",
    "HalutConv2d",
    "HalutLayer",
    "HalutLinear",
    "HalutMultiheadAttention",
    "LayerConfig",
    "Reconstruction",
    "ReconstructionReport",
    "as_called",
    "convert_",
    "fused",
    "reconstruct_",
    "register_handler",
]

_MODULES = {"HalutMultiheadAttention": "attention", "Budget": "budget", "LayerConfig": "config",
            "fused": "fuse"}  # fmt: skip
_MODULES |= dict.fromkeys(("ConversionReport", "ConversionRow", "convert_"), "convert")
_MODULES |= dict.fromkeys(("as_called", "register_handler"), "handlers")
_MODULES |= dict.fromkeys(("Reconstruction", "ReconstructionReport", "reconstruct_"), "reconstruct")
_MODULES |= dict.fromkeys(("HalutConv2d", "HalutLayer", "HalutLinear"), "layers")


def need_torch() -> None:
    """Raise `HalutError` where torch is not installed; command lines call it before they begin."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise HalutError("torch must be installed for halut.nn: pip install -e .[torch]") from None


def __getattr__(name: str) -> Any:
    # Imported when asked for: command lines show their help without torch.
    if name in _MODULES:
        need_torch()
        return getattr(import_module(f"halut.nn.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
