"""Layers of networks as plain data: rows, features and outputs of every matrix product.

Computed from the networks' parameters, not typed in. ResNet-9, ResNet-20 and DS-CNN are those of
`halut.nn.models`; ResNet-50 is that of He et al. (arXiv 1512.03385) with the stride in the 3x3
convolution, as common libraries have it; MobileNetV1 is arXiv 1704.04861; BERT-base arXiv
1810.04805. `read_manifest` reads the ``network.json`` of an exported network.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halut.checks import one_of, read_json
from halut.errors import HalutError

__all__ = ["NETWORKS", "Layer", "codebooks_of", "in_file_name", "named_network", "network",
           "read_manifest"]  # fmt: skip

_LARGEST_ARGUMENT = 1 << 16
_NARROW = 8  # features of a codebook where there is no kernel


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer as `groups` matrix products of (rows, features) by (features, outputs).

    Attributes
    ----------
    name : str
    kind : str
        ``"conv2d"``, ``"linear"``, ``"product"`` (both factors are activations) or another.
    rows : float
        N of every group for one inference; a fraction when it is a mean over inputs, 0 when the
        layer's sizes are not known.
    n_features, n_outputs : int
        D and M of a group.
    groups : int
    kernel, stride : tuple of int
        Of a convolution, (vertical, horizontal).
    n_codebooks : int or None
        C of a group; None: derived from a codebook's width.
    exact : str
        Why the layer is not looked up; "" when it is.
    n_prototypes, lut_bits : int or None
        K and bits of a table entry, where they are known.
    input_format : str or None
    """

    name: str
    kind: str
    rows: float
    n_features: int
    n_outputs: int
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    n_codebooks: int | None = None
    exact: str = ""
    n_prototypes: int | None = None
    lut_bits: int | None = None
    input_format: str | None = None

    @property
    def macs(self) -> float | None:
        """Multiply-accumulates of one inference; None when the layer's sizes are not known."""
        if not self.rows:
            return None
        macs = self.rows * self.n_features * self.n_outputs * self.groups
        return int(macs) if macs == int(macs) else macs

    def codebooks(self, width: int | None = None) -> int:
        """C of a group: `n_codebooks` where it is known, else D / `width`, rounded.

        `width` is that of `halut.nn.LayerConfig.codebook_width`: by default a kernel's area, 8
        where there is no kernel.

        Examples
        --------
        >>> layer = Layer(name="a", kind="linear", rows=1, n_features=100, n_outputs=10)
        >>> layer.codebooks(), layer.codebooks(width=25), layer.macs
        (12, 4, 1000)
        """
        if self.n_codebooks is not None:
            return self.n_codebooks
        return codebooks_of(self.n_features, self.kernel[0] * self.kernel[1], width)


def codebooks_of(n_features: int, kernel_area: int, width: int | None) -> int:
    """C for D features: D / `width`, rounded; without a width that of the kernel, or 8."""
    width = width or (kernel_area if kernel_area > 1 else _NARROW)
    return min(n_features, max(1, round(n_features / width)))


class _Builder:
    """Collects the layers of a convolutional network, and follows the size of its images."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels, self.size = channels, (height, width)
        self.layers: list[Layer] = []

    def convolution(
        self,
        name: str,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        groups: int = 1,
    ) -> None:
        """Add a convolution; by default it pads so that a stride of 1 keeps the size."""
        area = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (area[0] // 2, area[1] // 2) if padding is None else padding
        pads = (around, around) if isinstance(around, int) else around
        self._shrink(area, stride, pads)
        self.layers.append(
            Layer(
                name=name,
                kind="conv2d",
                rows=self.size[0] * self.size[1],
                n_features=self.channels // groups * area[0] * area[1],
                n_outputs=channels // groups,
                groups=groups,
                kernel=area,
                stride=(stride, stride),
                exact="depthwise" if groups > 1 and groups == channels else "",
            )
        )
        self.channels = channels

    def pool(self, kernel: int, stride: int, padding: int = 0) -> None:
        self._shrink((kernel, kernel), stride, (padding, padding))

    def _shrink(self, kernel: tuple[int, int], stride: int, pads: tuple[int, int]) -> None:
        height, width = (
            (size + 2 * pad - side) // stride + 1
            for size, pad, side in zip(self.size, pads, kernel, strict=True)
        )
        self.size = (height, width)

    def classified(self, name: str, n_classes: int) -> tuple[Layer, ...]:
        """Add global pooling and a classifier; the first and the last layer stay exact."""
        last = Layer(
            name=name, kind="linear", rows=1, n_features=self.channels, n_outputs=n_classes,
            exact="last layer",
        )  # fmt: skip
        first, *others = self.layers
        return (replace(first, exact="first layer"), *others, last)


def resnet9(
    in_channels: int = 3, n_classes: int = 10, width: int = 64, image_size: int = 32
) -> tuple[Layer, ...]:
    """Layers of `halut.nn.models.ResNet9` with the same arguments."""
    net = _Builder(in_channels, image_size, image_size)
    pools = [image_size >= 8 * 2**level for level in range(3)]

    def residual(name: str, channels: int) -> None:
        for index in range(2):
            net.convolution(f"{name}.body.{index}.0", channels, 3)

    net.convolution("prep.0", width, 3)
    for level in range(3):
        channels = width * 2 ** (level + 1)
        net.convolution(f"layer{level + 1}.0", channels, 3)
        if pools[level]:
            net.pool(2, 2)
        if level == 0:
            residual("residual1", channels)
    residual("residual2", 8 * width)
    return net.classified("classifier", n_classes)


def resnet20(in_channels: int = 3, n_classes: int = 10, width: int = 16) -> tuple[Layer, ...]:
    """Layers of `halut.nn.models.ResNet20` with the same arguments, for 32x32 images."""
    net = _Builder(in_channels, 32, 32)
    net.convolution("prep.0", width, 3)
    for level in range(3):
        for block in range(3):
            stride = 2 if level and not block else 1
            net.convolution(f"stages.{level}.{block}.conv1", width * 2**level, 3, stride)
            net.convolution(f"stages.{level}.{block}.conv2", width * 2**level, 3)
    return net.classified("classifier", n_classes)


def resnet50(n_classes: int = 1000, image_size: int = 224) -> tuple[Layer, ...]:
    """Layers of ResNet-50 for ImageNet: 3, 4, 6 and 3 bottlenecks."""
    net = _Builder(3, image_size, image_size)
    net.convolution("conv1", 64, 7, 2)
    net.pool(3, 2, 1)
    for level, n_blocks in enumerate((3, 4, 6, 3)):
        narrow = 64 * 2**level
        for block in range(n_blocks):
            name = f"layer{level + 1}.{block}"
            stride = 2 if level and not block else 1
            before, size = net.channels, net.size
            net.convolution(f"{name}.conv1", narrow, 1)
            net.convolution(f"{name}.conv2", narrow, 3, stride)
            net.convolution(f"{name}.conv3", 4 * narrow, 1)
            if not block:
                net.channels, net.size = before, size
                net.convolution(f"{name}.downsample.0", 4 * narrow, 1, stride)
    return net.classified("fc", n_classes)


def ds_cnn(in_channels: int = 1, n_classes: int = 12, width: int = 64) -> tuple[Layer, ...]:
    """Layers of `halut.nn.models.DSCNN` with the same arguments, for 49x10 spectrograms."""
    net = _Builder(in_channels, 49, 10)
    net.convolution("prep.0", width, (10, 4), 2, padding=(5, 1))
    for block in range(4):
        net.convolution(f"blocks.{block}.0", width, 3, groups=width)
        net.convolution(f"blocks.{block}.3", width, 1)
    return net.classified("classifier", n_classes)


def mobilenet(n_classes: int = 1000, image_size: int = 224) -> tuple[Layer, ...]:
    """Layers of MobileNetV1 for ImageNet: depthwise 3x3 and 1x1 convolutions in turn."""
    net = _Builder(3, image_size, image_size)
    net.convolution("conv1", 32, 3, 2)
    wider = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for index, channels in enumerate(wider):
        stride = 2 if index in (1, 3, 5, 11) else 1
        net.convolution(f"blocks.{index}.depthwise", net.channels, 3, stride, groups=net.channels)
        net.convolution(f"blocks.{index}.pointwise", channels, 1)
    return net.classified("fc", n_classes)


def bert_base(
    sequence: int = 128, n_layers: int = 12, hidden: int = 768, heads: int = 12
) -> tuple[Layer, ...]:
    """Layers of BERT-base's encoder; the two products of attention have no fixed factor."""
    layers = []
    for index in range(n_layers):
        name = f"encoder.layer.{index}"
        for part, wide, narrow in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", hidden, 4 * hidden),
            ("output.dense", 4 * hidden, hidden),
        ):
            layers.append(
                Layer(
                    name=f"{name}.{part}",
                    kind="linear",
                    rows=sequence,
                    n_features=wide,
                    n_outputs=narrow,
                )
            )
        head = hidden // heads
        for part, wide, narrow in (("scores", head, sequence), ("context", sequence, head)):
            layers.append(
                Layer(
                    name=f"{name}.attention.{part}",
                    kind="product",
                    rows=sequence,
                    n_features=wide,
                    n_outputs=narrow,
                    groups=heads,
                    exact="both factors are activations",
                )
            )
    return tuple(layers)


NETWORKS: dict[str, Callable[..., tuple[Layer, ...]]] = {
    "bert_base": bert_base,
    "ds_cnn": ds_cnn,
    "mobilenet": mobilenet,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "resnet9": resnet9,
}


def network(name: str) -> tuple[Layer, ...]:
    """Return the layers of a network that is known, or of an exported one.

    Parameters
    ----------
    name : str
        A name in `NETWORKS`, also with arguments of its function, as in
        ``resnet9:width=8,image_size=28``, or the path of a ``network.json``.

    Returns
    -------
    tuple of Layer
        In the order of the forward pass.

    Examples
    --------
    >>> len(network("resnet9")), sum(layer.macs for layer in network("resnet9"))
    (9, 379261952)
    >>> network("resnet9:width=8,n_classes=100")[-1].n_outputs
    100
    """
    if Path(name).suffix == ".json":
        return read_manifest(name)
    name, _, given = name.partition(":")
    rule = "be one of {}, or a network.json that `python -m halut export` wrote"
    one_of("--network", name, NETWORKS, rule)
    return NETWORKS[name](**_arguments(name, given))


def named_network(given: str) -> tuple[str, tuple[Layer, ...]]:
    """Return a network's name, that of its folder when it is an exported one, and its layers."""
    layers = network(given)
    if Path(given).suffix == ".json":
        given = Path(given).resolve().parent.name or "network"
    return given, layers


def in_file_name(name: str) -> str:
    """A network's name as a part of a file's name: arguments are joined with ``_``."""
    return re.sub("[^A-Za-z0-9_.-]+", "_", name)


def _arguments(name: str, given: str) -> dict[str, int]:
    """Arguments of a network's function, from text such as ``width=8,image_size=28``."""
    known = list(inspect.signature(NETWORKS[name]).parameters)
    found: dict[str, int] = {}
    for part in given.split(",") if given else ():
        key, _, value = part.partition("=")
        one_of(f"an argument of {name}", key, known)
        if not value.isdecimal() or not 1 <= int(value) <= _LARGEST_ARGUMENT:
            raise HalutError(
                f"{key} of {name} must be an integer in [1, {_LARGEST_ARGUMENT}], not {value!r}"
            )
        found[key] = int(value)
    return found


def read_manifest(path: str | os.PathLike[str]) -> tuple[Layer, ...]:
    """Return the layers that an export lists.

    Raises
    ------
    HalutError
        When the file is missing or is not such a manifest.
    """
    data = read_json(path, "network")
    if not isinstance(data, dict) or data.get("kind") != "halut-network-manifest":
        raise HalutError(f'kind must be "halut-network-manifest" ({path})')
    if data.get("version") not in (1, 2):
        raise HalutError(f"version must be 1 or 2, not {data.get('version')!r} ({path})")
    try:
        return _layers(data["layers"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HalutError(f"layers must be as an export writes them: {error!r} ({path})") from None


# Fields of a looked-up layer that are called the same in a manifest.
_FIELDS = (
    "name", "kind", "groups", "n_features", "n_outputs", "n_codebooks", "n_prototypes",
    "lut_bits", "input_format",
)  # fmt: skip
_PLAIN = {"Conv2d": "conv2d", "Linear": "linear"}


def _layers(entries: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    layers = []
    for entry in entries:
        if entry["converted"]:
            same = {name: entry[name] for name in _FIELDS}
            layers.append(Layer(rows=entry["rows_per_input"], **same))
        else:
            products = entry.get("products", [entry] if _multiplies(entry) else [])
            layers += [
                Layer(
                    name=entry["name"] + (f".{index}" if len(products) > 1 else ""),
                    kind=_PLAIN.get(entry["kind"], entry["kind"]),
                    rows=product.get("rows_per_input", 0),
                    n_features=product.get("n_features", 0),
                    n_outputs=product.get("n_outputs", 0),
                    groups=product.get("groups", 1),
                    exact="not converted",
                )
                for index, product in enumerate(products)
            ]
    if not layers:
        raise ValueError("no layer")
    return tuple(layers)


def _multiplies(entry: Mapping[str, Any]) -> bool:
    """Return whether a layer that stays has one product; earlier exports gave no sizes of it."""
    return "n_features" in entry or entry["kind"] in _PLAIN
