"""Looked-up convolutions and what is between them run in one native call, with the same results."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from halut import native as library  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig, fused  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.models import ResNet9, ResNet20  # noqa: E402
from halut.nn.region import Region  # noqa: E402
from tests.halut.variants import VARIANTS  # noqa: E402

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(params=["off", *VARIANTS])
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Force a variant; return whether there is native code."""
    if request.param not in ("off", *library.variants()):
        pytest.skip(f"{request.param} does not run here: {library.status()[1]}")
    monkeypatch.setenv(library.VARIABLE, request.param)
    return bool(request.param != "off")


def regions(model: nn.Module) -> list[Region]:
    return [part for part in model.modules() if isinstance(part, Region)]


def ran_natively(model: nn.Module) -> bool:
    """Say whether there are regions, and torch ran none of them."""
    plans = [list(one.plans.values()) for one in regions(model)]
    return bool(plans) and all(one and None not in one for one in plans)


def norm(n_channels: int) -> nn.BatchNorm2d:
    """Return a batch norm that turns some channels round."""
    found = nn.BatchNorm2d(n_channels)
    with torch.no_grad():
        assert found.running_mean is not None
        assert found.running_var is not None
        found.weight.copy_(torch.randn(n_channels))
        found.bias.copy_(torch.randn(n_channels))
        found.running_mean.copy_(torch.randn(n_channels))
        found.running_var.copy_(torch.rand(n_channels) + 0.5)
    return found


def looked_up(model: nn.Module, *, with_norms: bool, **formats: Any) -> nn.Module:
    """Replace convolutions but the first by looked-up ones, and maybe leave out batch norms."""
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Conv2d) and part.in_channels > 1:
            given = {key: getattr(part, key) for key in HalutConv2d.arguments}
            layer = HalutConv2d(**given | {"bias": True, "config": LayerConfig(**formats)})
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer)
    for parent_module in list(model.modules()):
        for name, part in list(parent_module.named_children()):
            if isinstance(part, nn.BatchNorm2d):
                setattr(
                    parent_module, name, norm(part.num_features) if with_norms else nn.Identity()
                )
    return model.eval()


FOLLOWING: dict[str, Callable[[], list[nn.Module]]] = {
    "nothing": lambda: [],
    "relu": lambda: [nn.ReLU()],
    "pool": lambda: [nn.MaxPool2d(2)],
    "norm, relu": lambda: [norm(22), nn.ReLU(inplace=True)],
    "norm, relu, pool": lambda: [norm(22), nn.ReLU(), nn.MaxPool2d(2)],
    "pool, relu": lambda: [nn.Dropout(), nn.MaxPool2d(2), nn.ReLU()],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"padding": 1}, (3, 8, 28, 28)),
        ({"padding": (2, 1), "dilation": (2, 1)}, (30, 8, 7, 9)),
        ({"padding": 1, "groups": 2}, (2, 8, 5, 300)),
        ({"stride": 2, "padding": 1}, (2, 8, 70, 41)),
        ({"kernel_size": 1}, (2, 8, 2, 3)),
        ({"kernel_size": (2, 4), "padding": "same"}, (2, 8, 6, 5)),
    ],
)
def test_convolutions_and_what_follows(
    arguments: dict[str, Any], shape: tuple[int, ...], following: str, layout: Any, forced: bool
) -> None:
    torch.manual_seed(1)
    layer = HalutConv2d(**{"in_channels": 8, "out_channels": 22, "kernel_size": 3} | arguments)
    model = nn.Sequential(layer, *FOLLOWING[following]()).eval()
    x = torch.randn(shape).contiguous(memory_format=layout)
    running = fused(model)
    with torch.no_grad():
        want, found = model(x), running(x)
        assert torch.equal(found, want)
        assert found.is_contiguous(memory_format=layout)
        assert ran_natively(running) or not forced
        layer.bias += 0.5
        assert not torch.equal(fused(model)(x), found)


@pytest.mark.parametrize(
    "formats",
    [
        {"n_prototypes": 4},
        {"n_prototypes": 8, "lut_bits": 4, "input_format": "int8"},
        {"input_format": "fp8_e4m3", "n_prototypes": 2},
        {"input_format": "int8", "acc_bits": 8, "overflow": "wrap", "relu": True},
    ],
)
def test_formats(formats: dict[str, Any], forced: bool) -> None:
    torch.manual_seed(2)
    config = LayerConfig(**formats)
    model = nn.Sequential(
        HalutConv2d(6, 9, 3, padding=1, config=config),
        nn.ReLU(),
        nn.MaxPool2d(2),
        HalutConv2d(9, 7, 3, padding=1, config=config),
    ).eval()
    x = torch.randn(5, 6, 11, 9)
    running = fused(model)
    with torch.no_grad():
        assert torch.equal(running(x), model(x))
    assert ran_natively(running) or not forced


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize("kind", [ResNet9, ResNet20])
def test_networks_give_the_same_results(
    kind: Any, with_norms: bool, layout: Any, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    given = {"width": 8, "image_size": 16} if kind is ResNet9 else {"width": 4}
    model = looked_up(kind(in_channels=1, **given), with_norms=with_norms, input_format="int8")
    x = torch.randn(5, 1, 16, 16).contiguous(memory_format=layout)
    running = fused(model)
    with torch.no_grad():
        want = model(x)
        assert torch.equal(running(x), want)
        assert torch.equal(copy.deepcopy(running)(x), want)
        assert ran_natively(running) or not forced
        assert torch.equal(running(x[:2]), model(x[:2]))
        # A few images at a time, also in threads.
        monkeypatch.setattr("halut.nn.region.AT_ONCE", 512)
        n_threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert torch.equal(running(x), want)
        finally:
            torch.set_num_threads(n_threads)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"in_channels": 1, "padding": 1}, (3, 1, 28, 28)),
        ({"in_channels": 3, "padding": (2, 0), "bias": False}, (5, 3, 9, 40)),
        ({"in_channels": 4, "stride": (2, 1), "dilation": (1, 2)}, (1, 4, 12, 21)),
        ({"in_channels": 2, "kernel_size": (1, 4)}, (2, 2, 3, 6)),
    ],
)
def test_a_first_convolution_that_is_not_looked_up(
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    layout: Any,
    forced: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(9)
    exact = nn.Conv2d(**{"out_channels": 13, "kernel_size": 3} | arguments)
    model: Any = nn.Sequential(exact, norm(13), nn.ReLU(), HalutConv2d(13, 5, 1), nn.ReLU())
    model = model.eval().to(memory_format=layout)
    x = torch.randn(shape).contiguous(memory_format=layout)
    running = fused(model)
    with torch.no_grad():
        want, found = model(x), running(x)
        assert torch.equal(found, want)
        assert found.stride() == want.stride() or min(shape) == 1
        assert ran_natively(running) or not forced
        with monkeypatch.context() as patched:
            patched.setattr("halut.nn.region.rounding_of", lambda *_: None)
            assert torch.equal(fused(model)(x), want)
        exact.weight[0, 0, 0, 0] = torch.inf  # times what is padded: not a number
        running = fused(model)
        assert torch.equal(running(x).nan_to_num(nan=7), model(x).nan_to_num(nan=7))


class FirstIsRead(nn.Module):
    """The first convolution's result leaves the region, too."""

    def __init__(self) -> None:
        super().__init__()
        self.exact = nn.Conv2d(1, 6, 3, padding=1)
        self.second = HalutConv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = functional.relu(self.exact(x))
        found: Tensor = torch.tanh(self.second(a) + a) + torch.tanh(a)
        return found


def test_a_first_convolution_that_others_read(forced: bool) -> None:
    torch.manual_seed(10)
    model, x = FirstIsRead().eval(), torch.randn(3, 1, 9, 8)
    running = fused(model)
    with torch.no_grad():
        assert torch.equal(running(x), model(x))
    assert ran_natively(running) or not forced


class Branches(nn.Module):
    """Values that several operations read, additions of both kinds, outputs that are read, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = HalutConv2d(4, 6, 3, padding=1)
        self.second = HalutConv2d(6, 6, 3, padding=1)
        self.third = HalutConv2d(6, 6, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = functional.relu(self.first(x))
        b = self.second(a)
        b += a
        b = b.relu()
        c = torch.add(y, self.third(functional.relu(b)))
        d = self.third(b) + self.second(b)  # one of them is there before the other
        return b, functional.max_pool2d(c + d, 2), torch.tanh(b)


def test_branches(forced: bool) -> None:
    torch.manual_seed(4)
    model, x, y = Branches().eval(), torch.randn(3, 4, 9, 8), torch.randn(3, 6, 9, 8)
    running = fused(model)
    with torch.no_grad():
        for found, want in zip(running(x, y), model(x, y), strict=True):
            assert torch.equal(found, want)
    assert regions(running)
    assert ran_natively(running) or not forced


@pytest.mark.usefixtures("forced")
def test_values_that_are_not_finite() -> None:
    torch.manual_seed(5)
    model = looked_up(ResNet9(in_channels=2, width=8, image_size=8), with_norms=True).eval()
    x = torch.randn(4, 2, 8, 8)
    x[1, 0, 3, 3], x[2, 1, 7, 7], x[3, 0, 0, 0] = torch.nan, torch.inf, -torch.inf
    running = fused(model)
    with torch.no_grad():
        assert torch.equal(running(x).nan_to_num(nan=7), model(x).nan_to_num(nan=7))
        layer = next(iter(layers_of(model).values()))
        layer.bias[0] = torch.nan
        running = fused(model)
        assert torch.equal(running(x).nan_to_num(nan=7), model(x).nan_to_num(nan=7))
        assert not ran_natively(running)


def test_what_torch_runs() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU()).eval()
    running = fused(model)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(running(x.double()), model(x.double()))
        assert torch.equal(running(x[0]), model(x[0]))
        assert running(x[:0]).shape == (0, 6, 6, 6)
        with torch.autocast("cpu"):
            assert running(x).dtype == torch.bfloat16
        with pytest.raises(HalutError, match="input must"):
            running(torch.zeros(1, 3, 8, 8))
        with pytest.raises(HalutError, match="input must"):
            running(torch.zeros(1, 4, 2, 8))
    x.requires_grad_()
    running(x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_other_operations_stay() -> None:
    torch.manual_seed(7)
    for pooling in (nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, ceil_mode=True),
                    nn.MaxPool2d(2, padding=1), nn.AvgPool2d(2)):  # fmt: skip
        model = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU(), pooling).eval()
        x = torch.randn(2, 4, 9, 9)
        running = fused(model)
        with torch.no_grad():
            assert torch.equal(running(x), model(x))
        assert any(type(part) is type(pooling) for part in running.modules())
    linear = nn.Sequential(HalutLinear(8, 4), nn.ReLU()).eval()
    assert not regions(fused(linear))


class Untraceable(nn.Module):
    """A forward method that looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x) if x.sum() > 0 else -self.body(x)
        return found


def test_parts_of_a_network_that_cannot_be_traced() -> None:
    torch.manual_seed(8)
    model, x = Untraceable().eval(), torch.randn(2, 4, 8, 8)
    running = fused(model)
    with torch.no_grad():
        for one in (x, -x):
            assert torch.equal(running(one), model(one))
    assert type(running) is Untraceable
    assert regions(running)


def test_a_fused_copy_holds_no_layers_to_export() -> None:
    model = nn.Sequential(HalutConv2d(4, 6, 3), nn.ReLU()).eval()
    assert len(layers_of(model)) == 1
    assert not layers_of(fused(model))
    assert "operations" in str(fused(model))
