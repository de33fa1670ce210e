"""Small networks with random parameters, of every operation that C knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.nn import HalutConv2d, HalutLinear, LayerConfig, convert_
from halut.nn.fold import fold_
from halut.nn.layers import HalutLayer

IMAGES = (3, 7, 6)  # channels, height, width


def config(**changes: Any) -> LayerConfig:
    return LayerConfig(**{"n_prototypes": 16, "input_format": "int8", **changes})


def norm(channels: int, kind: type = nn.BatchNorm2d) -> nn.Module:
    made_of = kind(channels)
    nn.init.normal_(made_of.weight)
    nn.init.normal_(made_of.bias)
    nn.init.normal_(made_of.running_mean)
    nn.init.uniform_(made_of.running_var, 0.1, 2.0)
    return made_of


class Branches(nn.Module):
    """Residual addition, groups, stride, dilation, pooling, batch norm and a row of features."""

    def __init__(self, **formats: Any) -> None:
        super().__init__()
        settings = config(**formats)
        self.first = HalutConv2d(3, 6, 3, padding=1, config=settings)
        self.norm = norm(6)
        self.second = HalutConv2d(6, 6, 3, padding="same", groups=2, config=settings)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.third = HalutConv2d(6, 5, (3, 2), stride=(2, 1), padding=(2, 0), dilation=2,
                                 config=settings)  # fmt: skip
        self.clamp = nn.ReLU6()
        self.flatten = nn.Flatten()
        self.row_norm = norm(10, nn.BatchNorm1d)
        self.last = HalutLinear(10, 7, config=settings)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.pool(x + self.second(x))
        return self.last(self.row_norm(self.flatten(self.clamp(self.third(x)))))


def chain(**formats: Any) -> nn.Sequential:
    """Convolutions whose values in between can be integers."""
    settings = config(**formats)
    return nn.Sequential(
        HalutConv2d(3, 8, 3, padding=1, config=settings), norm(8), nn.ReLU(),
        HalutConv2d(8, 6, 3, padding=1, config=settings), norm(6), nn.ReLU(),
        HalutConv2d(6, 9, 1, config=settings), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        HalutLinear(81, 10, config=settings),
    )  # fmt: skip


def made(make_it: Any, seed: int = 1, **formats: Any) -> nn.Module:
    torch.manual_seed(seed)
    return make_it(**formats).eval()


def images(n: int = 6, seed: int = 2) -> Tensor:
    return torch.randn((n, *IMAGES), generator=torch.Generator().manual_seed(seed))


def folded(**formats: Any) -> nn.Module:
    model = made(chain, **formats)
    assert fold_(model, images(2)).integer_share == 1
    return model


def bytes_out(**formats: Any) -> nn.Module:
    model = made(Branches, output_format="int8", **formats)
    with torch.no_grad():
        for layer in model.modules():  # in forward order
            if isinstance(layer, HalutLayer):
                layer.output_range = torch.tensor([-1.0, 1.5])
    return model


def mixed(**formats: Any) -> nn.Module:
    """Exact layers before, beside and behind a looked-up one."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        HalutConv2d(8, 8, 3, padding=1, config=config(**formats)), norm(8),
        nn.Conv2d(8, 4, 3, padding=1, groups=4, bias=False), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(8, 5), nn.Hardtanh(-0.5, 2.0),
    ).eval()  # fmt: skip


class Signals(nn.Module):
    """Convolutions of signals, with functions where others have modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 7, stride=2, padding=3)
        self.norm = norm(8, nn.BatchNorm1d)
        self.second = nn.Conv1d(8, 12, 5, padding=2)
        self.third = nn.Conv1d(12, 12, 3, padding="same", dilation=2, groups=2)
        self.last = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        x = functional.max_pool1d(torch.relu(self.norm(self.first(x))), 2)
        x = functional.relu6(self.second(x))
        x = functional.dropout(x + self.third(x), training=self.training)
        x = functional.avg_pool1d(x, 4)
        return self.last(x.view(x.size(0), -1))


class Pictures(nn.Module):
    """The same of images, and the mean of all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 2, ceil_mode=True)
        x = functional.hardtanh(self.second(x), 0.0, 3.0)
        return self.third(x.mean((2, 3)))


def converted(make_it: Any, x: Tensor) -> nn.Module:
    """A network whose inner layers were converted; the first and the last one are exact."""
    model = made(make_it)
    convert_(model, config(), x, filter_fn=lambda name, _: name in ("second", "third"))
    return model
