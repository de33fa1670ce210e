"""Networks to try the layers on: ResNets, a depthwise-separable keyword spotter, a transformer.

ResNet-9 is the network of Stella Nera (arXiv 2311.10207, section V); ResNet-20 is that of He et
al. for CIFAR-10 (arXiv 1512.03385, with its parameter-free shortcuts); DS-CNN is that of Zhang et
al. (arXiv 1711.07128, size S); the transformer is a small one of Dosovitskiy et al. (arXiv
2010.11929). Activations and poolings are modules, so that each stage of a
network has a name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.checks import integer_in, known, one_of
from halut.errors import HalutError
from halut.files import file_hash
from halut.nn.imported import function, imported

__all__ = [
    "DSCNN",
    "FILES",
    "MODELS",
    "ResNet9",
    "ResNet20",
    "VisionTransformer",
    "arguments",
    "build",
    "check_model",
]


def _convolution(in_channels: int, out_channels: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU and, if asked for, 2x2 max pooling."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNet9(nn.Module):
    """Eight 3x3 convolutions with two residual blocks, and a classifier.

    Parameters
    ----------
    in_channels : int, default 3
        Channels of an image, 1 to 1024.
    n_classes : int, default 10
        Outputs, 1 to 65536.
    width : int, default 64
        Channels of the first convolution, 1 to 1024; the last has eight times as many.
    image_size : int, default 32
        Height and width of the images, 4 to 1024. Up to three poolings halve it while at least
        4 pixels remain, so that 8x8 images are pooled once.

    Examples
    --------
    >>> import torch
    >>> model = ResNet9(in_channels=1, width=8, image_size=8)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    >>> sum(isinstance(module, nn.Conv2d) for module in model.modules())
    8
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 10,
        width: int = 64,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        channels = integer_in("in_channels", in_channels, 1, 1024)
        width = integer_in("width", width, 1, 1024)
        n_classes = integer_in("n_classes", n_classes, 1, 65536)
        size = integer_in("image_size", image_size, 4, 1024)
        pools = [size >= 8 * 2**level for level in range(3)]
        self.prep = _convolution(channels, width)
        self.layer1 = _convolution(width, 2 * width, pool=pools[0])
        self.residual1 = _Residual(
            _convolution(2 * width, 2 * width), _convolution(2 * width, 2 * width)
        )
        self.layer2 = _convolution(2 * width, 4 * width, pool=pools[1])
        self.layer3 = _convolution(4 * width, 8 * width, pool=pools[2])
        self.residual2 = _Residual(
            _convolution(8 * width, 8 * width), _convolution(8 * width, 8 * width)
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(8 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n_images, n_classes), of images (n_images, in_channels, H, W)."""
        x = self.residual1(self.layer1(self.prep(x)))
        x = self.residual2(self.layer3(self.layer2(x)))
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut that strides and pads channels with zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, out_channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.extra))
        y = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(y)) + shortcut)
        return out


class ResNet20(nn.Module):
    """Three stages of three basic blocks, for 32x32 images.

    Parameters
    ----------
    in_channels : int, default 3
        Channels of an image, 1 to 1024.
    n_classes : int, default 10
        Outputs, 1 to 65536.
    width : int, default 16
        Channels of the first stage, 1 to 1024; doubled at the second and third.
    """

    def __init__(self, in_channels: int = 3, n_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        channels = integer_in("in_channels", in_channels, 1, 1024)
        width = integer_in("width", width, 1, 1024)
        self.prep = _convolution(channels, width)
        stages, before = [], width
        for level in range(3):
            after = width * 2**level
            strides = (1 if level == 0 else 2, 1, 1)
            blocks = []
            for stride in strides:
                blocks.append(_BasicBlock(before, after, stride))
                before = after
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * width, integer_in("n_classes", n_classes, 1, 65536))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n_images, n_classes), of images (n_images, in_channels, H, W)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.stages(self.prep(x)))))
        return logits


class DSCNN(nn.Module):
    """Keyword spotting: a convolution and four depthwise-separable ones.

    Parameters
    ----------
    in_channels : int, default 1
        Channels of the input, 1 to 1024; a spectrogram of 49 frames x 10 coefficients has one.
    n_classes : int, default 12
        Outputs, 1 to 65536.
    width : int, default 64
        Channels of every convolution, 1 to 1024.
    """

    def __init__(self, in_channels: int = 1, n_classes: int = 12, width: int = 64) -> None:
        super().__init__()
        channels = integer_in("in_channels", in_channels, 1, 1024)
        width = integer_in("width", width, 1, 1024)
        self.prep = nn.Sequential(
            nn.Conv2d(channels, width, (10, 4), stride=2, padding=(5, 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                )
                for _ in range(4)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(width, integer_in("n_classes", n_classes, 1, 65536))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n_inputs, n_classes), of inputs (n_inputs, in_channels, H, W)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.blocks(self.prep(x)))))
        return logits


class _Attention(nn.Module):
    """Self-attention of several heads; its four projections are linear layers of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # softmax would cancel its bias
        self.value = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            one(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return out


class VisionTransformer(nn.Module):
    """Blocks of attention and a perceptron over the patches of an image.

    Parameters
    ----------
    in_channels : int, default 3
        Channels of an image, 1 to 1024.
    n_classes : int, default 10
        Outputs, 1 to 65536.
    width : int, default 64
        Features of a patch, a multiple of `heads`.
    image_size : int, default 32
        Height and width of the images, a multiple of `patch`.
    patch : int, default 2
        Height and width of a patch.
    depth : int, default 2
        Blocks, 1 to 64.
    heads : int, default 4

    Examples
    --------
    >>> import torch
    >>> VisionTransformer(in_channels=1, width=16, image_size=8)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 10,
        width: int = 64,
        image_size: int = 32,
        patch: int = 2,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        channels = integer_in("in_channels", in_channels, 1, 1024)
        size, patch = (
            integer_in("image_size", image_size, 1, 1024),
            integer_in("patch", patch, 1, 1024),
        )
        if size % patch:
            raise HalutError(f"patch must divide image_size {size}, not {patch}")
        width, heads = integer_in("width", width, 1, 4096), integer_in("heads", heads, 1, 4096)
        if width % heads:
            raise HalutError(f"heads must divide width {width}, not {heads}")
        self.embedding = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.blocks = nn.Sequential()
        for _ in range(integer_in("depth", depth, 1, 64)):
            self.blocks.append(_Residual(nn.LayerNorm(width), _Attention(width, heads)))
            self.blocks.append(
                _Residual(
                    nn.LayerNorm(width),
                    nn.Linear(width, 2 * width),
                    nn.ReLU(),
                    nn.Linear(2 * width, width),
                )
            )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, integer_in("n_classes", n_classes, 1, 65536))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n_images, n_classes), of images (n_images, in_channels, H, W)."""
        patches = self.embedding(x).flatten(2).transpose(1, 2)  # (n_images, patches, width)
        y = self.norm(self.blocks(patches + self.positions))
        logits: Tensor = self.classifier(y.mean(dim=1))
        return logits


MODELS: dict[str, type[nn.Module]] = {
    "dscnn": DSCNN,
    "resnet20": ResNet20,
    "resnet9": ResNet9,
    "transformer": VisionTransformer,
}
"""Networks by the names that `build` and recipes know."""


FILES = (".onnx", ".pt2")
"""Endings of the files that hold networks of other tools."""


def check_model(model: object) -> str | dict[str, Any]:
    """Return the name of a network here, or the mapping that names a user's function or file.

    Examples
    --------
    >>> check_model({"import": "mine:Network"})
    {'import': 'mine:Network'}
    """
    if isinstance(model, str):
        one_of("model", model, MODELS)
        return model
    kinds = ({"import"}, {"file"}, {"file", "sha256"})
    if not (isinstance(model, Mapping) and set(model) in kinds
            and all(isinstance(one, str) for one in model.values())):  # fmt: skip
        raise HalutError(
            f"model must be one of {', '.join(MODELS)}, or a mapping import: "
            f"package.module:function or file: name.onnx or name.pt2, not {model!r}"
        )
    return dict(model)


def arguments(model: str | Mapping[str, Any]) -> list[str]:
    """Return the names of a network's arguments; `HalutError` when there is no such network.

    Examples
    --------
    >>> arguments("resnet20")
    ['in_channels', 'n_classes', 'width']
    """
    found = check_model(model)
    if isinstance(found, dict) and "file" in found:
        return []
    made = MODELS[found] if isinstance(found, str) else function(found["import"], "model")
    try:
        return list(inspect.signature(made).parameters)
    except ValueError:  # of a function in C
        return []


def build(name: str | Mapping[str, Any], **kwargs: Any) -> nn.Module:
    """Make a network by its name; weights are drawn from torch's global generator.

    Parameters
    ----------
    name : str or mapping
        A key of `MODELS`; or ``{"import": "package.module:function"}``, which is called; or
        ``{"file": path}`` of ONNX or of `torch.export` (.pt2), with its ``"sha256"`` where it must
        not have changed.
    **kwargs
        What the class or function takes.

    Raises
    ------
    HalutError
        When there is no such network, or it has no such argument, or a value breaks its rule.

    Examples
    --------
    >>> import torch
    >>> build("resnet20", width=4)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """
    found = check_model(name)
    if isinstance(found, str):
        known(f"an argument of {found}", kwargs, arguments(found))
        return MODELS[found](**kwargs)
    if "file" in found:
        known("an argument of a file's network", kwargs, [])
        return _read(Path(found["file"]), found.get("sha256"))
    model = imported(found["import"], "model", kwargs)
    if not isinstance(model, nn.Module):
        raise HalutError(
            f"model must be an nn.Module, not {type(model).__name__} ({found['import']})"
        )
    return model


def _read(path: Path, sha256: str | None) -> nn.Module:
    from halut.nn.interchange.exported import read_pt2
    from halut.nn.interchange.onnx_network import read_onnx

    readers = dict(zip(FILES, (read_onnx, read_pt2), strict=True))
    if path.suffix not in readers:
        raise HalutError(f"file of a network must end with {' or '.join(readers)}, not {path.name}")
    if sha256 is not None and path.is_file():
        found = file_hash(path)
        if found != sha256:
            raise HalutError(f"file must be the one that was converted, with SHA-256 {sha256}, "
                             f"not {found} ({path})")  # fmt: skip
    model: nn.Module = readers[path.suffix](path)
    return model
