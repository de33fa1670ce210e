"""Layer lists of networks: published totals, and the torch models of the same names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from halut.errors import HalutError
from halut.workloads import NETWORKS, bert_base, network, read_manifest, resnet9, resnet20


def macs(layers) -> int:
    return sum(layer.macs for layer in layers)


def test_resnet50_has_its_published_macs() -> None:
    """4.09 GMAC (with the stride in the 3x3 convolution), 53 convolutions and a classifier."""
    layers = network("resnet50")
    assert len(layers) == 54
    assert macs(layers) == 4_089_184_256
    assert layers[0].macs == 112 * 112 * 3 * 49 * 64
    assert (layers[-2].rows, layers[-2].n_features, layers[-2].n_outputs) == (49, 512, 2048)


def test_mobilenet_has_its_published_macs() -> None:
    """569 million mult-adds, 94.86 % of them in 1x1 convolutions (arXiv 1704.04861, table 2)."""
    layers = network("mobilenet")
    assert round(macs(layers) / 1e6) == 569
    pointwise = macs(layer for layer in layers if layer.name.endswith("pointwise"))
    assert round(100 * pointwise / macs(layers), 2) == 94.86


def test_bert_base_by_hand() -> None:
    """12 layers of 12 hidden^2 per token, and two products of sequence^2 hidden."""
    layers = bert_base()
    linear = macs(layer for layer in layers if not layer.exact)
    assert linear == 12 * 128 * 12 * 768**2
    assert macs(layers) - linear == 12 * 2 * 128**2 * 768
    assert macs(bert_base(sequence=1)) < macs(layers) / 128


def test_small_networks() -> None:
    # 2.7 million (arXiv 1711.07128 counts 5.4 million operations).
    assert round(macs(network("ds_cnn")) / 1e6, 1) == 2.7
    # 40.55 million in convolutions and classifier (He et al.'s CIFAR network, n = 3).
    assert macs(network("resnet20")) == 40_551_040
    assert [layer.exact for layer in network("resnet9")] == ["first layer", *[""] * 7, "last layer"]
    assert {layer.exact for layer in network("ds_cnn")} == {
        "first layer", "depthwise", "", "last layer",
    }  # fmt: skip
    assert network("resnet9")[1].codebooks() == 64  # one per input channel
    assert network("resnet9")[1].codebooks(width=2) == 288


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("resnet9", (3, 32, 32), {}),
        ("resnet9", (1, 8, 8), {"in_channels": 1, "width": 8, "image_size": 8}),
        ("resnet20", (3, 32, 32), {}),
        ("dscnn", (1, 49, 10), {}),
    ],
)
def test_same_layers_as_the_torch_model(name: str, shape: tuple, options: dict) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn.models import build

    found = []

    def visited(name: str, module, output) -> None:
        groups = getattr(module, "groups", 1)
        rows = output.numel() // len(module.weight)
        found.append((name, rows, module.weight[0].numel(), len(module.weight) // groups, groups))

    model = build(name, **options).eval()
    for part, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda m, _, y, part=part: visited(part, m, y))
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    make = {"resnet9": resnet9, "resnet20": resnet20, "dscnn": NETWORKS["ds_cnn"]}[name]
    layers = make(**options)
    assert found == [
        (layer.name, layer.rows, layer.n_features, layer.n_outputs, layer.groups)
        for layer in layers
    ]


@pytest.mark.parametrize("width", [None, 1, 2, 5, 1000])
def test_as_many_codebooks_as_conversion_makes(width: int | None) -> None:
    pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
    from halut.nn import LayerConfig

    config = LayerConfig(codebook_width=width)
    for layer in (*network("resnet9"), *network("ds_cnn")):
        area = layer.kernel[0] * layer.kernel[1]
        assert layer.codebooks(width) == config.codebooks(layer.n_features, area)


def manifest(folder: Path, **changes: object) -> Path:
    data = {
        "kind": "halut-network-manifest",
        "version": 1,
        "layers": [
            {"name": "0", "converted": False, "kind": "Conv2d", "parameters": 45,
             "groups": 1, "rows_per_input": 36, "n_features": 9, "n_outputs": 5},
            {"name": "1", "converted": False, "kind": "BatchNorm2d", "parameters": 10},
            {"name": "2", "converted": True, "kind": "conv2d", "groups": 1, "rows_per_input": 36,
             "n_features": 45, "n_outputs": 4, "n_codebooks": 5, "n_prototypes": 4,
             "input_format": "int8", "lut_bits": 8},
            {"name": "old", "converted": False, "kind": "Linear", "parameters": 3},
        ],
    }  # fmt: skip
    path = folder / "network.json"
    path.write_text(json.dumps(data | changes))
    return path


def test_manifest(tmp_path: Path) -> None:
    first, second, old = network(str(manifest(tmp_path)))
    assert (first.exact, first.kind, first.macs) == ("not converted", "conv2d", 36 * 9 * 5)
    assert (second.exact, second.macs, second.codebooks()) == ("", 36 * 45 * 4, 5)
    assert old.macs is None  # an export that did not write sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "halut-program"}, 'kind must be "halut-network-manifest"'),
        ({"version": 3}, "version must be 1 or 2, not 3"),
        ({"layers": []}, "layers must be as an export writes them"),
        ({"layers": [{"converted": True}]}, "layers must be as an export writes them"),
        ({"layers": 3}, "layers must be as an export writes them"),
    ],
)
def test_wrong_manifest(changes: dict, message: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, **changes)
    with pytest.raises(HalutError, match=f"{message}.*{re.escape(str(path))}"):
        read_manifest(path)


def test_names_take_arguments_of_their_networks() -> None:
    assert network("resnet9:width=8,image_size=28,in_channels=1") == resnet9(1, 10, 8, 28)
    assert network("resnet9:") == network("resnet9")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet9:widht=8", 'did you mean "width"'),
        ("resnet9:width", "width of resnet9 must be an integer in [1, 65536], not ''"),
        ("resnet9:width=0", "width of resnet9 must be an integer in [1, 65536], not '0'"),
        ("resnet9:width=-1", "not '-1'"),
        ("resnet9:width=8,", "an argument of resnet9 must be one of in_channels"),
        ("resnet8:width=8", 'did you mean "resnet9"'),
    ],
)
def test_bad_arguments_of_networks_are_refused(name: str, message: str) -> None:
    with pytest.raises(HalutError, match=re.escape(message)):
        network(name)
