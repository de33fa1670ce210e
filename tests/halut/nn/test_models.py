"""Networks have the published shapes, adapt to small images, and reject what they cannot be."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn.models import MODELS, arguments, build  # noqa: E402


def convolutions(model):
    found = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return [(one.in_channels, one.out_channels, one.stride[0]) for one in found]


def test_resnet9_is_the_papers():
    model = build("resnet9")
    assert convolutions(model) == [
        (3, 64, 1), (64, 128, 1), (128, 128, 1), (128, 128, 1),
        (128, 256, 1), (256, 512, 1), (512, 512, 1), (512, 512, 1),
    ]  # fmt: skip
    # 9 * sum(in * out) of the convolutions, 2 per batch-norm channel, 512 * 10 + 10.
    products = 3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2
    channels = 64 + 3 * 128 + 256 + 3 * 512
    wanted = 9 * products + 2 * channels + 512 * 10 + 10
    assert sum(parameter.numel() for parameter in model.parameters()) == wanted
    assert model.residual1(torch.ones(2, 128, 8, 8)).shape == (2, 128, 8, 8)


@pytest.mark.parametrize(("size", "last"), [(4, 4), (8, 4), (16, 4), (32, 4), (64, 8), (12, 6)])
def test_resnet9_pools_as_far_as_the_image_allows(size, last):
    model = build("resnet9", width=2, image_size=size)
    inner = model.layer3(model.layer2(model.layer1(model.prep(torch.zeros(1, 3, size, size)))))
    assert inner.shape[2:] == (last, last)


def test_residual_adds_its_input():
    block = build("resnet9", width=2).residual1
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_resnet20_has_20_layers_and_published_size():
    model = build("resnet20")
    assert len(convolutions(model)) + 1 == 20
    assert sum(one[2] == 2 for one in convolutions(model)) == 2
    # He et al., table 6: 0.27 million parameters.
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, 2) == 0.27
    assert model.stages(torch.zeros(1, 16, 32, 32)).shape == (1, 64, 8, 8)


def test_dscnn_has_four_separable_blocks():
    model = build("dscnn")
    groups = [one.groups for one in model.modules() if isinstance(one, nn.Conv2d)]
    assert groups == [1, *[64, 1] * 4]
    assert model.prep(torch.zeros(1, 1, 49, 10)).shape == (1, 64, 25, 5)
    assert model(torch.zeros(3, 1, 49, 10)).shape == (3, 12)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    model = build(name, in_channels=2, n_classes=3, width=4)
    model(torch.randn(4, 2, 32, 32)).square().sum().backward()
    assert all(one.grad is not None and one.grad.any() for one in model.parameters())
    assert arguments(name)[:3] == ["in_channels", "n_classes", "width"]


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("resnet99", {}, r"model must be one of .*, not 'resnet99' \(did you mean \"resnet9\"\?\)"),
        ("resnet9", {"widht": 8}, r"argument of resnet9 must be .* \(did you mean \"width\"\?\)"),
        ("resnet9", {"width": 0}, r"width must be an integer in \[1, 1024\], not 0"),
        ("resnet9", {"image_size": 2}, r"image_size must be an integer in \[4, 1024\], not 2"),
        ("resnet20", {"n_classes": 2.0}, r"n_classes must be an integer"),
        ("dscnn", {"in_channels": True}, r"in_channels must be an integer"),
    ],
)
def test_rules(name, kwargs, message):
    with pytest.raises(HalutError, match=message):
        build(name, **kwargs)


def test_transformer_mixes_patches_by_attention():
    model = build("transformer", in_channels=1, width=16, image_size=8, depth=2)
    linear = [one for one in model.modules() if isinstance(one, nn.Linear)]
    assert len(linear) == 2 * (4 + 2) + 1
    x = torch.randn(1, 1, 8, 8)
    model.eval()
    patches = model.embedding(x).flatten(2).transpose(1, 2)
    attention = model.blocks[0].body[1]
    changed = patches.clone()
    changed[:, 0] += 1.0
    assert not torch.allclose(attention(patches)[:, 1:], attention(changed)[:, 1:])
    only = attention.value(patches[:, :1])  # one patch attends to itself alone
    assert torch.allclose(attention(patches[:, :1]), attention.projection(only), atol=1e-6)


def test_transformer_errors():
    with pytest.raises(HalutError, match="patch must divide image_size 8, not 3"):
        build("transformer", image_size=8, patch=3)
    with pytest.raises(HalutError, match="heads must divide width 10, not 4"):
        build("transformer", width=10)
