"""What follows looked-up convolutions is fused with them: the same results, for running only."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from halut import native as library  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, LayerConfig, fused  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.models import ResNet9  # noqa: E402
from tests.halut.variants import VARIANTS  # noqa: E402

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(params=["off", *VARIANTS])
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param not in ("off", *library.variants()):
        pytest.skip(f"{request.param} does not run here: {library.status()[1]}")
    monkeypatch.setenv(library.VARIABLE, request.param)


def looked_up(**formats: Any) -> nn.Module:
    """ResNet-9 with looked-up convolutions after the first."""
    model = ResNet9(in_channels=1, width=8, image_size=16)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Conv2d) and part.in_channels > 1:
            given = {key: getattr(part, key) for key in HalutConv2d.arguments}
            layer = HalutConv2d(**given | {"bias": True, "config": LayerConfig(**formats)})
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer)
    for norm in list(model.modules()):
        for name, part in list(norm.named_children()):
            if isinstance(part, nn.BatchNorm2d):
                setattr(norm, name, nn.Identity())
    return model.eval()


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"padding": 1}, (3, 8, 28, 28)),
        ({"padding": 1}, (30, 8, 7, 7)),  # odd sizes
        ({"padding": 1, "groups": 2}, (2, 8, 5, 300)),
        ({"stride": 2}, (2, 8, 70, 41)),
        ({"kernel_size": 1}, (2, 8, 2, 3)),
    ],
)
def test_pooled_convolutions(
    arguments: dict[str, Any], shape: tuple[int, ...], rectify: bool, layout: Any
) -> None:
    torch.manual_seed(1)
    layer = HalutConv2d(**{"in_channels": 8, "out_channels": 22, "kernel_size": 3} | arguments)
    layer.eval()
    x = torch.randn(shape).contiguous(memory_format=layout)
    with torch.no_grad():
        want = layer(x).relu() if rectify else layer(x)
        found = layer.forward_pooled(x, rectify=rectify, pool=False)
        assert torch.equal(found, want)
        pooled = layer.forward_pooled(x, rectify=rectify, pool=True)
        assert torch.equal(pooled, nn.functional.max_pool2d(want, 2))
        layer.bias += 0.5
        assert not torch.equal(layer.forward_pooled(x, rectify=rectify, pool=True), pooled)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "formats", [{}, {"input_format": "int8", "relu": True}, {"lut_bits": None}]
)
def test_networks_give_the_same_results(formats: dict[str, Any], layout: Any) -> None:
    torch.manual_seed(2)
    model = looked_up(**formats)
    x = torch.randn(5, 1, 16, 16).contiguous(memory_format=layout)
    with torch.no_grad():
        running = fused(model)
        assert torch.equal(running(x), model(x))
        assert torch.equal(copy.deepcopy(running)(x), model(x))
    assert sum(type(part) is nn.Identity for part in running.modules()) > sum(
        type(part) is nn.Identity for part in model.modules()
    )


def test_training_steps_take_the_plain_way() -> None:
    torch.manual_seed(3)
    layer, x = HalutConv2d(4, 6, 3), torch.randn(2, 4, 8, 8, requires_grad=True)
    found = layer.forward_pooled(x, rectify=True, pool=True)
    assert torch.equal(found, nn.functional.max_pool2d(layer(x).relu(), 2))
    found.sum().backward()
    assert x.grad is not None and x.grad.any()


def test_other_poolings_stay() -> None:
    torch.manual_seed(4)
    for pooling in (nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, ceil_mode=True),
                    nn.MaxPool2d(2, padding=1), nn.AvgPool2d(2)):  # fmt: skip
        model = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU(), pooling).eval()
        x = torch.randn(2, 4, 9, 9)
        with torch.no_grad():
            assert torch.equal(fused(model)(x), model(x))
        assert type(fused(model)[2]) is type(pooling)


def test_a_fused_copy_holds_no_layers_to_export() -> None:
    model = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU()).eval()
    assert len(list(layers_of(model))) == 1
    assert not list(layers_of(fused(model)))


def test_wrong_inputs_are_refused() -> None:
    layer = HalutConv2d(4, 6, 3).eval()
    with torch.no_grad(), pytest.raises(HalutError, match="input must be"):
        layer.forward_pooled(torch.zeros(1, 4, 8, 8, dtype=torch.int32), rectify=True, pool=True)
