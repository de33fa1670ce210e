"""Layers whose codebooks take their windows: the hardware's bits, gradients, files, folding."""

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
from halut.nn.c_export.export import export_c  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from halut.nn.functional import look_up  # noqa: E402
from halut.nn.network import export_network, load_network, save_network  # noqa: E402
from halut.nn.prune import prune_  # noqa: E402
from halut.program import Program  # noqa: E402
from rtl_gen.tiled_config import config_from_dict  # noqa: E402
from tests.halut.nn.support import check_against_golden, mixture  # noqa: E402

ENCODERS = ["window", "node"]


def windows(encoder: str, **fields: Any) -> LayerConfig:
    return LayerConfig(**{"encoder": encoder, "input_format": "int8", "refine_passes": 0} | fields)


@pytest.mark.parametrize("input_format, granularity", [("int8", "all"), ("fp16", "codebook")])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_linear_is_the_golden_model(encoder: str, input_format: str, granularity: str) -> None:
    config = windows(
        encoder, input_format=input_format, input_granularity=granularity, n_prototypes=8
    )
    layer = HalutLinear.from_module(nn.Linear(23, 9), mixture(400, 23), config)
    x = 2 * torch.randn(200, 23)
    x[0], x[1] = 1e6, -1e6  # saturates
    check_against_golden(layer, x)


@pytest.mark.parametrize("layout", ["im2col", "kn2col"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_convolution_is_the_golden_model(encoder: str, layout: str) -> None:
    torch.manual_seed(2)
    conv, x = nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2), torch.randn(8, 4, 8, 8)
    layer = HalutConv2d.from_module(conv, x, windows(encoder, n_prototypes=4, layout=layout))
    check_against_golden(layer, 2 * torch.randn(2, 4, 7, 7))
    if layout == "im2col":  # a codebook per channel takes the nine values of its kernel
        dims = layer.programs()[0].split_dims
        assert np.array_equal(dims, np.arange(18).reshape(2, 9))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_floats_are_those_of_the_multiplier(encoder: str) -> None:
    x, linear = mixture(500, 16), nn.Linear(16, 5, bias=False)
    config = windows(encoder, input_format=None, lut_bits=None, codebook_width=4)
    layer = HalutLinear.from_module(linear, x, config)
    multiplier = HalutMatmul(4, encoder=encoder, refine_passes=0)
    multiplier.learn_offline(x.numpy(), linear.weight.detach().numpy().T)
    assert np.array_equal(layer.codes(x)[0].numpy(), multiplier.encode(x.numpy()))
    torch.testing.assert_close(layer(x).detach().numpy(), multiplier.matmul_online(x.numpy()))


def test_a_place_per_node_has_the_gradients_of_a_place_per_level() -> None:
    """Values of levels, repeated for their nodes, give the same sums and the same gradients."""
    torch.manual_seed(4)
    times = torch.tensor([1, 2, 4])
    x, nodes = torch.randn(3, 1, 2, 3, 5), torch.randn(1, 2, 7)
    tables, slope, weight = torch.randn(1, 2, 8, 4), torch.rand(1, 2, 3), torch.randn(3, 1, 4, 5)
    found = []
    for per_node in (False, True):
        given = [one.double().requires_grad_() for one in (x, nodes, tables, slope)]
        values = given[0].repeat_interleave(times, dim=3) if per_node else given[0]
        sums = look_up(values, *given[1:])
        (sums * weight).sum().backward()
        found.append([sums.detach(), *(one.grad for one in given)])
    for level, node in zip(*found, strict=True):
        torch.testing.assert_close(level, node)
        assert node.abs().max() > 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_training_lowers_the_error(encoder: str) -> None:
    torch.manual_seed(5)
    x = torch.randn(500, 24) @ torch.randn(24, 24)
    wanted = nn.Linear(24, 8)(x).detach()
    layer = HalutLinear(24, 8, config=windows(encoder, codebook_width=3))
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (layer(x) - wanted).square().mean() / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    layer.eval()
    check_against_golden(layer, x[:100])


def network() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(6)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()
    return model, torch.randn(40, 2, 8, 8)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_conversion_and_files(encoder: str, tmp_path: Path) -> None:
    model, x = network()
    plain = copy.deepcopy(model)
    report = convert_(model, windows(encoder, n_prototypes=4), x)
    assert len(report.converted) == 2
    loaded, _ = load_network(save_network(tmp_path / "n.pt", model, None), plain)
    assert torch.equal(loaded(x), model(x))
    manifest = export_network(model, tmp_path / "programs", x[:1])
    entries = [layer for layer in manifest["layers"] if layer["converted"]]
    for layer, entry in zip((model[0], model[4]), entries, strict=True):
        program = Program.load(tmp_path / "programs" / entry["programs"][0]["file"])
        config = config_from_dict(entry["accelerator"])
        assert program == layer.programs()[0] and program.encoder == encoder
        assert (config.window, config.splits) == (program.window, program.splits)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_integers_go_from_layer_to_layer(encoder: str) -> None:
    model, x = network()
    convert_(model, windows(encoder, n_prototypes=4), x)
    before = model(x)
    report = fold_(model, x)
    edges = [edge for edge in report.edges if edge.kind == "integers" and edge.folded]
    assert [(edge.producer, edge.consumer) for edge in edges] == [("0", "4")]
    assert report.identical and torch.equal(model(x), before)
    assert model[4].input_bits == edges[0].bits > 0


def test_windows_are_the_trees_in_c(tmp_path: Path) -> None:
    """A tree that compares the same features has the same C, but for what was converted."""
    files = []
    for encoder in ("tree", "window"):
        model, x = network()
        convert_(model, windows(encoder, n_prototypes=4), x)
        export_c(model, tmp_path / encoder, x[:1], measure_code=False)
        files.append([path.read_text() for path in sorted((tmp_path / encoder).glob("*.[ch]"))])
    assert files[0] and files[0] == files[1]


def test_pruning_keeps_what_is_taken() -> None:
    torch.manual_seed(7)
    model, x = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).eval(), mixture(80, 12)
    convert_(model, {"2": windows("window", n_prototypes=2, codebook_width=8)}, x)
    wanted = model(x)
    assert model[2].features_read().all()
    prune_(model, x)
    assert model[0].out_features == 16 and torch.equal(model(x), wanted)


@pytest.mark.parametrize(("fields", "message"), [
    ({"encoder": "windows"}, 'did you mean "window"'),
    ({"encoder": "window", "terms": 2}, 'terms must be None for encoder "window", not 2'),
    ({"encoder": "node", "input_granularity": "dimension"}, 'must be "codebook" or "all" for wind'),
])  # fmt: skip
def test_bad_configurations(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        LayerConfig(**fields)
