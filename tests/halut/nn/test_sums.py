"""Layers whose trees compare sums of features: the hardware's bits, gradients, files, folding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut import HalutMatmul  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig, convert_  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from halut.nn.network import export_network, load_network, save_network  # noqa: E402
from halut.nn.prune import prune_  # noqa: E402
from halut.nn.sums import signed_sums, sum_thresholds, sum_words  # noqa: E402
from halut.program import Program  # noqa: E402
from rtl_gen.tiled_config import config_from_dict  # noqa: E402
from tests.halut.nn.support import check_against_golden, mixture  # noqa: E402


def sums(**fields: Any) -> LayerConfig:
    return LayerConfig(**{"encoder": "sums", "input_format": "int8", "refine_passes": 0} | fields)


@pytest.mark.parametrize("granularity", ["codebook", "dimension", "all"])
@pytest.mark.parametrize(("input_format", "terms"), [("int8", 2), ("int4", 3), ("int12", 16)])
def test_linear_is_the_golden_model(input_format: str, terms: int, granularity: str) -> None:
    config = sums(
        input_format=input_format, terms=terms, input_granularity=granularity, n_prototypes=8
    )
    layer = HalutLinear.from_module(nn.Linear(24, 9), mixture(400, 24), config)
    x = 2 * torch.randn(200, 24)
    x[0], x[1] = 1e6, -1e6  # saturates
    check_against_golden(layer, x)
    assert (layer.signs == 0).any() or terms == 2


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_is_the_golden_model(groups: int) -> None:
    torch.manual_seed(2)
    conv, x = nn.Conv2d(4, 6, 3, padding=1, groups=groups, stride=2), torch.randn(8, 4, 8, 8)
    layer = HalutConv2d.from_module(conv, x, sums(terms=3, n_prototypes=4, layout="kn2col"))
    check_against_golden(layer, 2 * torch.randn(2, 4, 7, 7))


def test_floats_are_those_of_the_multiplier() -> None:
    x, linear = mixture(500, 16), nn.Linear(16, 5, bias=False)
    config = sums(input_format=None, lut_bits=None, effort=1, codebook_width=4)
    layer = HalutLinear.from_module(linear, x, config)
    multiplier = HalutMatmul(4, encoder="sums", refine_passes=0, effort=1)
    multiplier.learn_offline(x.numpy(), linear.weight.detach().numpy().T)
    assert np.array_equal(layer.codes(x)[0].numpy(), multiplier.encode(x.numpy()))
    torch.testing.assert_close(layer(x).detach().numpy(), multiplier.matmul_online(x.numpy()))


def test_trees_that_are_as_good() -> None:
    """Sums of one feature each, of a layer that was asked for sums."""
    torch.manual_seed(3)
    linear, x = nn.Linear(4, 4), torch.randn(200, 4)
    linear.weight.data.copy_(torch.eye(4))
    config = sums(terms=3, effort=1, n_prototypes=2, codebook_width=1)
    layer = HalutLinear.from_module(linear, x, config)
    assert (layer.signs.abs().sum(dim=3) == 1).all()
    check_against_golden(layer, 2 * x)


def test_by_hand() -> None:
    """x0 - x1, and x2 alone; grids from -127 to 127, steps of 1."""
    signs = torch.tensor([[[[1, -1], [1, 0]]]], dtype=torch.int8)
    x = torch.tensor([[5.0, 3.0], [2.0, 9.0], [-4.0, 200.0], [7.0, 7.0]]).view(1, 1, 1, 4, 2)
    assert signed_sums(x, signs).flatten().tolist() == [3, -6, -4, 200]
    ends = torch.stack([torch.full((1, 1, 2, 2), end) for end in (-127.0, 127.0)])
    thresholds = torch.tensor([[[2.5, 0.0, 0.0]]])
    words, scale, offset = sum_thresholds(thresholds, signs, ends, 8, "codebook")
    assert scale.flatten().tolist() == [1, 1] and offset.flatten().tolist() == [0, 0]
    assert words.flatten()[0] == 1  # 5 - 2 - 1 = 2 goes right, as 3 > 2.5 does
    assert sum_words(x, signs, scale, offset, 8).flatten().tolist() == [2, -7, -4, 127]


def test_gradients_reach_what_is_added_up() -> None:
    x = mixture(400, 16).requires_grad_()
    layer = HalutLinear.from_module(nn.Linear(16, 4), x.detach(), sums(terms=4))
    layer(x).square().sum().backward()
    for name, tensor in {"x": x, **dict(layer.named_parameters())}.items():
        if tensor.requires_grad:
            assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), name
            assert tensor.grad.abs().max() > 0, name
    read = layer.features_read()[0]
    moved = x.grad.abs().amax(dim=0) > 0
    assert torch.equal(moved, read)


def test_training_lowers_the_error() -> None:
    torch.manual_seed(5)
    x = torch.randn(500, 24) @ torch.randn(24, 24)
    wanted = nn.Linear(24, 8)(x).detach()
    layer = HalutLinear(24, 8, config=sums(codebook_width=2))
    ends = layer.term_ends.clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (layer(x) - wanted).square().mean() / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert not torch.equal(layer.term_ends, ends)  # grids went along
    layer.eval()
    kept = layer.term_ends.clone()
    check_against_golden(layer, x[:100])
    assert torch.equal(layer.term_ends, kept)


def network() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(6)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()
    return model, torch.randn(40, 2, 8, 8)


def test_conversion_and_files(tmp_path: Path) -> None:
    model, x = network()
    plain = copy.deepcopy(model)
    report = convert_(model, sums(n_prototypes=4, terms=3), x)
    assert len(report.converted) == 2
    loaded, _ = load_network(save_network(tmp_path / "n.pt", model, None), plain)
    assert torch.equal(loaded(x), model(x))
    manifest = export_network(model, tmp_path / "programs", x[:1])
    entries = [layer for layer in manifest["layers"] if layer["converted"]]
    for layer, entry in zip((model[0], model[4]), entries, strict=True):
        program = Program.load(tmp_path / "programs" / entry["programs"][0]["file"])
        assert program == layer.programs()[0] and program.terms == 3
        assert config_from_dict(entry["accelerator"]).terms == 3


def test_folding_says_what_it_does_not_do() -> None:
    model, x = network()
    convert_(model, sums(n_prototypes=4), x)
    before = model(x)
    report = fold_(model, x)
    why = {edge.kind for edge in report.edges if edge.reason == "4 compares sums of features"}
    assert why == {"relu", "integers"}
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-4)
    with pytest.raises(HalutError, match='encoder must be "tree", "window" or "node" for int'):
        model[0].use_integer_inputs(torch.zeros(model[0].thresholds.shape).int(), 8)


def test_pruning_keeps_what_is_added_up() -> None:
    torch.manual_seed(7)
    model, x = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).eval(), mixture(80, 12)
    convert_(model, {"2": sums(n_prototypes=2, codebook_width=8)}, x)
    wanted = model(x)
    assert 0 < model[2].features_read().sum() <= 4
    prune_(model, x)
    assert model[0].out_features <= 4
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize(("fields", "message"), [
    ({"encoder": "sum"}, 'did you mean "sums"'),
    ({"encoder": "sums", "terms": 1}, r"terms must be in \[2, 16\], not 1"),
    ({"encoder": "sums", "input_format": "fp16"}, '"int2" to "int15" for sums of 2 terms'),
    ({"terms": 2}, 'terms must be None for encoder "tree", not 2'),
    ({"effort": 4}, r"effort must be in \[0, 3\], not 4"),
    ({"encoder": "centroid", "effort": 1}, 'effort must be 0 for encoder "centroid", not 1'),
])  # fmt: skip
def test_bad_configurations(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        LayerConfig(**fields)


def test_dictionaries_have_only_what_is_set() -> None:
    assert not {"terms", "effort"} & set(LayerConfig().to_dict())
    config = LayerConfig(encoder="sums", terms=4, effort=2)
    assert LayerConfig.from_dict(config.to_dict()) == config
