"""Modules that are no plain layers: what is equal to them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import (  # noqa: E402  # noqa: E402
    HalutConv2d,
    HalutLinear,
    LayerConfig,
    as_called,
    convert_,
    handlers,
    register_handler,
)
from halut.nn.handlers import handler_of  # noqa: E402

FOUR = LayerConfig(n_prototypes=4, refine_passes=0)

OF_TORCH: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv1d": (nn.Conv1d(4, 6, 5, 2, 3, 2, 2), (3, 4, 20)),
    "conv1d same": (nn.Conv1d(4, 6, 4, padding="same", bias=False), (3, 4, 20)),
    "conv1d circular": (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), (3, 4, 20)),
    "conv1d one": (nn.Conv1d(4, 6, 3), (4, 20)),
    "conv3d": (nn.Conv3d(4, 6, (3, 2, 3), (2, 1, 2), (1, 0, 2), (2, 1, 1), 2), (2, 4, 8, 6, 7)),
    "conv3d same": (nn.Conv3d(2, 6, (2, 3, 4), padding="same"), (2, 2, 5, 6, 7)),
    "conv3d one": (nn.Conv3d(2, 3, 2, bias=False), (2, 5, 6, 7)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 5, 3, 2, 1, 2, dilation=2), (3, 4, 9)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, 1, 2), (3, 4, 5, 6)),
    "transposed one": (nn.ConvTranspose2d(4, 6, 3, bias=False), (4, 5, 6)),
}


@pytest.mark.parametrize("name", OF_TORCH)
def test_what_is_equal_to_modules_of_torch(name: str) -> None:
    module, shape = OF_TORCH[name]
    module, x = module.double().eval(), torch.randn(shape, dtype=torch.float64)
    handler = handler_of(module)
    assert handler is not None
    equal = handler(module, x)
    torch.testing.assert_close(equal(x), module(x))
    assert equal.kernel_size == module.kernel_size and equal.stride == module.stride


@pytest.mark.parametrize(("layer", "x"), [
    (nn.Conv1d(4, 6, 3), torch.randn(8, 4, 20)),
    (nn.Conv3d(2, 3, 3), torch.randn(4, 2, 6, 6, 6)),
    (nn.ConvTranspose1d(8, 4, 4, 2), torch.randn(8, 8, 20)),
    (nn.ConvTranspose2d(8, 4, 2, 2), torch.randn(4, 8, 6, 6)),
], ids=["conv1d", "conv3d", "transposed 1d", "transposed 2d"])  # fmt: skip
def test_they_are_converted_and_train(layer: nn.Module, x: torch.Tensor) -> None:
    model = nn.Sequential(layer, nn.ReLU())
    shape = model(x).shape
    report = convert_(model, FOUR, x)
    assert [(row.name, row.kind) for row in report.rows] == [("0", type(layer).__name__)]
    assert report.converted == ["0"] and model[0].training
    assert isinstance(model[0].layer, HalutConv2d) and model[0].layer.training
    assert model(x).shape == shape and model(x[:0]).shape == (0, *shape[1:])
    model(x).sum().backward()
    assert model[0].layer.lut.grad.abs().max() > 0
    assert model[0].weight.dtype == torch.float32


class Conv2dSame(nn.Conv2d):
    """As timm has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sides: list[int] = []
        for size, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            more = max((-(-size // s) - 1) * s + k - size, 0)
            sides = [more // 2, more - more // 2, *sides]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride)


class StdConv2d(nn.Conv2d):
    """A convolution with standardised weights, as timm has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-6)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Conv1D(nn.Module):
    """GPT-2's linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 6))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Adapted(nn.Linear):
    """A low-rank adapter, which `eval` adds to the weight."""

    def __init__(self) -> None:
        super().__init__(12, 6)
        self.left, self.right = (nn.Parameter(torch.randn(s)) for s in ((6, 2), (2, 12)))
        self.merged = False

    def train(self, mode: bool = True) -> Adapted:
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.left @ self.right).detach()
            self.merged = not mode
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, self.weight, self.bias)
        return y if self.merged else y + F.linear(F.linear(x, self.right), self.left)


@pytest.mark.parametrize(("layer", "x"), [
    (Conv2dSame(3, 4, 3, 2), torch.randn(20, 3, 9, 8)),
    (StdConv2d(3, 4, 3, padding=1), torch.randn(20, 3, 9, 8)),
    (Conv1D(), torch.randn(300, 12)),
    (Adapted(), torch.randn(300, 12)),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_known_classes(layer: nn.Module, x: torch.Tensor) -> None:
    exact = nn.Sequential(layer)
    wanted = exact.eval()(x).detach()
    equal = handler_of(layer)(layer, x)  # type: ignore[misc]
    torch.testing.assert_close(equal(x), wanted)
    (row,) = convert_(exact, LayerConfig(codebook_width=2), x).rows
    assert row.converted and row.error is not None and row.error < 0.5
    assert (exact(x) - wanted).square().sum() < 0.5 * wanted.square().sum()


def test_parametrised_weights_and_those_of_old_hooks() -> None:
    for normed in (
        nn.utils.parametrizations.weight_norm(nn.Linear(12, 6)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(12, 6)),
        nn.utils.spectral_norm(nn.Linear(12, 6)),
    ):
        x, model = torch.randn(300, 12), nn.Sequential(normed)
        wanted = model.eval()(x).detach()
        convert_(model, LayerConfig(codebook_width=2), x)
        assert type(model[0]) is HalutLinear and not model[0]._forward_pre_hooks
        assert (model(x) - wanted).square().sum() < 0.5 * wanted.square().sum()


class Scaled(nn.Linear):
    """A class that no handler knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, 0.1 * self.weight, self.bias) + 1


def test_a_forward_of_its_own_is_refused_by_name() -> None:
    model = nn.Sequential(Scaled(16, 8), nn.ReLU(), nn.Linear(8, 4))
    first = model[0]
    report = convert_(model, FOUR, torch.randn(200, 16))
    assert report.converted == ["2"] and model[0] is first
    assert "its class Scaled has a forward of its own (register_handler" in report.rows[0].reason
    own = nn.Linear(8, 4)
    own.forward = lambda x: x[:, :4]  # type: ignore[method-assign]
    with pytest.raises(HalutError, match="has a forward of its own"):
        convert_(nn.Sequential(own), FOUR, torch.randn(200, 8))


@pytest.mark.parametrize(("handler", "reason"), [
    (as_called, "must be one product and nothing else"),
    (lambda *_: nn.Linear(16, 8), "must give the same output, not one that is"),
    (lambda *_: nn.Linear(16, 7), "of shape"),
    (lambda *_: None, "must return an nn.Module, not NoneType"),
    (lambda *_: Scaled(16, 8), "same output|gives no nn.Linear"),
])  # fmt: skip
def test_handlers_that_are_wrong_are_refused(
    handler: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_registered", {})
    register_handler(Scaled, handler)
    with pytest.raises(HalutError, match=reason):
        convert_(nn.Sequential(Scaled(16, 8)), FOUR, torch.randn(200, 16))


def test_a_handler_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_registered", {})

    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    def equal(module: Scaled, _: torch.Tensor) -> nn.Module:
        layer = nn.Linear(16, 8)
        layer.weight.data, layer.bias.data = 0.1 * module.weight.data, module.bias.data
        return nn.Sequential(layer, Shifted())

    register_handler(Scaled, equal)
    x = torch.randn(500, 16)
    model = nn.Sequential(Scaled(16, 8))
    wanted = model(x).detach()
    report = convert_(model, LayerConfig(codebook_width=2), x)
    assert report.converted == ["0"] and isinstance(model[0][0], HalutLinear)
    assert (model(x) - wanted).square().sum() < (wanted - wanted.mean(0)).square().sum()
    for call in (lambda: register_handler(int, equal), lambda: register_handler(Scaled, 3)):  # type: ignore[arg-type]
        with pytest.raises(HalutError, match="must be a"):
            call()


def test_recurrent_layers_are_listed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.head = nn.LSTM(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.recurrent(x)[0])

    report = convert_(Net(), FOUR, torch.randn(20, 10, 8))
    assert report.converted == ["head"]
    assert "inside one operation of torch" in report.rows[0].reason
