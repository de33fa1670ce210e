"""MADDNESS inside PyTorch networks: layers, conversion, training, export.

Nothing else in the project imports torch.
"""

from __future__ import annotations

from halut.errors import HalutError

try:
    import torch  # noqa: F401
except ImportError:
    raise HalutError("torch must be installed for halut.nn: pip install -e .[torch]") from None

from halut.nn.attention import HalutMultiheadAttention
from halut.nn.config import LayerConfig
from halut.nn.convert import ConversionReport, ConversionRow, convert_
from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear

__all__ = [
    "ConversionReport",
    "ConversionRow",
    "HalutConv2d",
    "HalutLayer",
    "HalutLinear",
    "HalutMultiheadAttention",
    "LayerConfig",
    "convert_",
]
