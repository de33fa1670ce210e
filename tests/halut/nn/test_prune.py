"""Pruned networks compute the same with less."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import Tensor, nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.network import load_network, save_network  # noqa: E402
from halut.nn.prune import prune_, required_channels, required_inputs  # noqa: E402
from halut.nn.replace import replace_module  # noqa: E402

CONFIG = LayerConfig(n_prototypes=8, input_format="int8", codebook_width=8)


def _norm(norm: nn.Module) -> nn.Module:
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)  # type: ignore[arg-type]
    return norm


def test_required_inputs() -> None:
    layer = HalutConv2d(3, 2, 3, config=LayerConfig(n_prototypes=4))
    layer.split_dims = torch.tensor([[[0, 8], [9, 9], [10, 13]]])
    assert required_inputs(layer)[0].nonzero().flatten().tolist() == [0, 8, 9, 10, 13]
    assert required_channels(layer).tolist() == [True, True, False]
    grouped = HalutConv2d(4, 2, 1, groups=2, config=LayerConfig(n_prototypes=2, codebook_width=2))
    grouped.split_dims = torch.tensor([[[1]], [[0]]])
    assert required_channels(grouped).tolist() == [False, True, True, False]


def test_linear_layers() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        HalutLinear(32, 64, config=CONFIG),
        _norm(nn.BatchNorm1d(64)),
        nn.GELU(),
        nn.Dropout(),
        HalutLinear(64, 10, config=CONFIG),
    ).eval()
    x = torch.randn(40, 32)
    whole = copy.deepcopy(model)
    report = prune_(model, x[:3])
    read = int(required_channels(whole[4]).sum())
    assert read < 64
    assert model[0].out_features == model[4].in_features == model[1].num_features == read
    assert model[4].n_features == read and len(model[0].bias) == read
    assert report.identical and torch.equal(model(x), whole(x))
    assert torch.equal(model[4].codes(model[:4](x)), whole[4].codes(whole[:4](x)))
    row = report.rows[0]
    assert (row.name, row.outputs, row.kept, row.consumers) == ("0", 64, read, ("4",))
    # C = 4 codebooks of K = 8 entries of 8 bits.
    assert row.table_bytes == (64 - read) * 4 * 8 == report.table_bytes
    assert row.look_ups == (64 - read) * 4 and row.macs == 0
    # Programs say the same.
    assert model[0].programs()[0].n_outputs == read
    assert model[4].programs()[0].n_features == read
    # A feature less would be one too few.
    with torch.no_grad():
        model[4].split_dims = (model[4].split_dims + 1) % read
        assert not torch.equal(model(x), whole(x))
    again = prune_(copy.deepcopy(model), x)
    assert again.table_bytes == 0 and again.rows[0].reason == "every output is read"


@pytest.mark.parametrize("plain", [False, True])
def test_pointwise_convolutions(plain: bool) -> None:
    torch.manual_seed(2)
    first = nn.Conv2d(3, 32, 3) if plain else HalutConv2d(3, 32, 3, config=CONFIG)
    model = nn.Sequential(
        first,
        _norm(nn.BatchNorm2d(32)),
        nn.ReLU(),
        nn.AvgPool2d(2),
        HalutConv2d(32, 16, 1, config=CONFIG),
        nn.ReLU(),
        HalutConv2d(16, 5, 3, padding=1, config=CONFIG),
    ).eval()
    x = torch.randn(4, 3, 10, 10)
    whole = copy.deepcopy(model)
    report = prune_(model, x)
    kept = model[4].in_channels
    assert kept == int(required_channels(whole[4]).sum()) < 32
    assert report.identical and torch.equal(model(x), whole(x))
    row = report.rows[0]
    if plain:
        assert row.macs == (32 - kept) * 27 * 64 and row.look_ups == 0
        assert row.table_bytes == (32 - kept) * 27 * 4
    else:
        assert row.look_ups == (32 - kept) * first.n_codebooks * 64 and row.macs == 0
    assert [row.name for row in report.rows] == ["0", "4"]
    assert "saved" in str(report) and report.to_dict()["look_ups"] == report.look_ups


def test_two_readers_and_flattening() -> None:
    torch.manual_seed(3)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = HalutConv2d(3, 24, 3, config=CONFIG)
            self.norm = _norm(nn.BatchNorm2d(24))
            self.b = HalutConv2d(24, 4, 1, config=CONFIG)
            self.pool = nn.AdaptiveAvgPool2d((1, 2))
            self.flatten = nn.Flatten()
            self.norm_c = _norm(nn.BatchNorm1d(48))
            self.c = HalutLinear(48, 4, config=LayerConfig(n_prototypes=2, codebook_width=24))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.a(x))
            return self.b(y).amax((2, 3)) + self.c(self.norm_c(self.flatten(self.pool(y))))

    model = Two().eval()
    with torch.no_grad():
        model.b.split_dims = torch.tensor([[[0, 2, 4], [9, 9, 9], [23, 23, 23]]])
        model.c.split_dims = torch.tensor([[[11], [47]]])  # channels 5 and 23
    x = torch.randn(5, 3, 8, 8)
    whole = copy.deepcopy(model)
    report = prune_(model, x)
    assert report.rows[0].kept == 6 and model.norm.num_features == 6
    assert model.norm_c.num_features == model.c.in_features == 12
    assert model.b.split_dims.tolist() == [[[0, 1, 2], [4, 4, 4], [5, 5, 5]]]
    assert model.c.split_dims.tolist() == [[[7], [11]]]
    assert torch.equal(model(x), whole(x))


def test_kernels_keep_their_positions() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(
        HalutConv2d(3, 6, 3, config=CONFIG),
        nn.MaxPool2d(2),
        HalutConv2d(6, 4, (2, 3), config=CONFIG),
    ).eval()
    with torch.no_grad():
        model[2].split_dims %= 18  # of 36 features, those of the first three channels
    x = torch.randn(3, 3, 10, 10)
    whole = copy.deepcopy(model)
    assert prune_(model, x).rows[0].kept == 3
    assert torch.equal(model(x), whole(x))
    with torch.no_grad():
        model[2].split_dims = model[2].split_dims // 6 * 6
        assert not torch.equal(model(x), whole(x))


def test_folding_and_pruning_together() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        HalutConv2d(3, 32, 3, config=CONFIG),
        _norm(nn.BatchNorm2d(32)),
        nn.ReLU(),
        HalutConv2d(32, 6, 1, padding=1, config=CONFIG),
    ).eval()
    x = torch.randn(4, 3, 9, 9)
    whole = copy.deepcopy(model)
    folded = copy.deepcopy(model)
    assert fold_(folded, x).integer_share == 1.0
    assert prune_(folded, x).table_bytes > 0
    prune_(model, x)
    assert fold_(model, x).integer_share == 1.0
    assert torch.equal(model(x), whole(x)) and torch.equal(folded(x), whole(x))
    assert folded[3].pad_value.shape == (folded[3].in_channels,)


class _View(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(y).mean() + y.view(-1).mean()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("table", "one scale for all tables would change (lut_granularity)"),
        ("producer", "it has groups"),
        ("consumer", "1 has groups"),
        ("view", "the function view ends the chain"),
    ],
)
def test_why_not(case: str, reason: str) -> None:
    torch.manual_seed(5)
    granularity = "table" if case == "table" else "column"
    config = LayerConfig(n_prototypes=8, codebook_width=8, lut_granularity=granularity)
    first = HalutConv2d(4, 32, 3, groups=2 if case == "producer" else 1, config=config)
    second = HalutConv2d(32, 4, 1, groups=2 if case == "consumer" else 1, config=CONFIG)
    with torch.no_grad():
        first.lut[:, -1] *= 10  # this output alone makes the scale
        second.split_dims //= 2
    model = (_View if case == "view" else nn.Sequential)(first, second).eval()
    x = torch.randn(2, 4, 6, 6)
    whole = copy.deepcopy(model)
    row = prune_(model, x).rows[0]
    assert row.reason == reason and row.kept == 32
    assert torch.equal(model(x), whole(x))


def _separable(config: LayerConfig) -> nn.Module:
    """A DS-CNN whose depthwise layers are plain and whose pointwise ones are looked up."""
    model = build("dscnn", width=16).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            replace_module(model, name, HalutConv2d(16, 16, 1, bias=False, config=config))
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            replace_module(model, name, nn.Identity())
    return model.eval()


def test_pruned_networks_are_saved(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = LayerConfig(n_prototypes=4, input_format="int8", codebook_width=8)
    model = _separable(config)
    x = torch.randn(3, 1, 49, 10)
    whole = copy.deepcopy(model)
    report = prune_(model, x)
    assert [row.kept < 16 for row in report.rows] == [True] * 4
    assert model.prep[0].out_channels < 16 and isinstance(model.prep[0], nn.Conv2d)
    file = tmp_path / "pruned.pt"
    save_network(file, model, {"name": "dscnn", "kwargs": {"width": 16}})
    loaded, _ = load_network(file)
    assert torch.equal(loaded(x), whole(x)) and loaded.prep[1].num_features < 16


def test_nothing_to_prune() -> None:
    with pytest.raises(HalutError, match="must have a Halut layer that reads"):
        prune_(nn.Sequential(nn.Linear(4, 4)).eval(), torch.zeros(1, 4))
    for odd in (torch.zeros(0, 4), None):
        with pytest.raises(HalutError, match="example_input must be a tensor of at least one item"):
            prune_(nn.Sequential(HalutLinear(4, 4)).eval(), odd)
