"""Conversion of networks: shapes, gradients, export, what stays and why."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.matmul import HalutMatmul  # noqa: E402
from halut.nn import (  # noqa: E402
    HalutConv2d,
    HalutLayer,
    HalutLinear,
    HalutMultiheadAttention,
    LayerConfig,
    convert_,
)
from halut.nn.models import build  # noqa: E402
from halut.nn.watch import run_batch  # noqa: E402

QUICK = LayerConfig(input_format="int8", refine_passes=0, ridge=1.0, max_rows=1000)


def resnet9() -> tuple[nn.Module, Any]:
    return build("resnet9", in_channels=1, width=4), torch.randn(80, 1, 8, 8)


def resnet20() -> tuple[nn.Module, Any]:
    return build("resnet20", width=4), torch.randn(8, 3, 32, 32)


def ds_cnn() -> tuple[nn.Module, Any]:
    return build("dscnn", width=8), torch.randn(64, 1, 49, 10)


def resnet50_block() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(  # ResNet-50's bottlenecks, narrow and few
        embedding_size=8, hidden_sizes=[16, 32], depths=[2, 2], layer_type="bottleneck"
    )
    return transformers.ResNetModel(config), torch.randn(8, 3, 64, 64)


def levit() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.LevitConfig(
        image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1], key_dim=[8, 8, 8],
    )  # fmt: skip
    return transformers.LevitModel(config), torch.randn(80, 3, 64, 64)


def bert() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        vocab_size=100, max_position_embeddings=32,
    )  # fmt: skip
    batch = {
        "input_ids": torch.randint(0, 100, (80, 12)),
        "attention_mask": torch.ones(80, 12, dtype=torch.long),
    }
    return transformers.BertModel(config), [batch]


NETWORKS: dict[str, tuple[Callable[[], tuple[nn.Module, Any]], int, Any]] = {
    # what makes it, how many layers are converted, and which of them are asked for
    "resnet9": (resnet9, 7, lambda _, m: isinstance(m, nn.Conv2d) and m.in_channels > 1),
    "resnet20": (resnet20, 19, lambda _, m: isinstance(m, nn.Conv2d)),
    "ds_cnn": (ds_cnn, 10, None),
    "resnet50 1x1": (
        resnet50_block,
        10,
        lambda _, m: isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1),
    ),
    "levit": (levit, 0, None),
    "bert": (bert, 2 * 6 + 1, None),
}


def output_of(model: nn.Module, batch: Any) -> torch.Tensor:
    found = run_batch(model, batch[0] if isinstance(batch, list) else batch)
    if isinstance(found, torch.Tensor):
        return found
    return found.last_hidden_state + found.pooler_output.mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    make, count, filter_fn = NETWORKS[name]
    model, calibration = make()
    shape = output_of(model.eval(), calibration).shape
    wanted = [
        module_name
        for module_name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and (filter_fn is None or filter_fn(module_name, module))
    ]
    report = convert_(model, QUICK, calibration, filter_fn)
    assert set(report.converted) == set(wanted)
    assert len(wanted) == count or not count
    layers = {n: m for n, m in model.named_modules() if isinstance(m, HalutLayer)}
    assert set(layers) == set(wanted)
    for row in report.rows:
        if row.converted:
            assert row.table_bytes > 0 and row.error is not None and 0 <= row.error < 2
    output = output_of(model, calibration)
    assert output.shape == shape
    output.square().mean().backward()
    for layer_name, layer in layers.items():
        assert layer.lut.grad is not None, layer_name
        assert torch.isfinite(layer.thresholds.grad).all(), layer_name
        for program in layer.programs():
            assert program.n_outputs == layer.n_outputs
    assert any(layer.thresholds.grad.abs().max() > 0 for layer in layers.values())


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_attention(batch_first: bool) -> None:
    """With projections that are exact for the calibration rows, the attention is the same."""
    torch.manual_seed(0)
    exact = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    x = torch.randn(2, 1, 16).expand(2, 12, 16) + 0  # two different rows, K = 16 leaves
    x = torch.stack([x[i % 2, i] for i in range(12)]).expand(8, 12, 16).contiguous()
    layer = HalutMultiheadAttention.from_module(
        exact, [(x, x, x)], LayerConfig(lut_bits=None, ridge=1e-6)
    ).eval()
    layer.out_proj = exact.out_proj
    mask = torch.zeros(12, 12, dtype=torch.bool).triu(1) if batch_first else None
    wanted, weights = exact(x, x, x, attn_mask=mask)
    for need_weights in (True, False):
        found, seen = layer(x, x, x, attn_mask=mask, need_weights=need_weights)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        assert (seen is None) == (not need_weights)
        if seen is not None:
            torch.testing.assert_close(seen, weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["bool", "float", "causal", "padding", "heads"])
def test_attention_masks(kind: str) -> None:
    torch.manual_seed(0)
    exact = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.randn(1, 2, 16)[:, torch.arange(6) % 2].expand(20, 6, 16).contiguous()
    layer = HalutMultiheadAttention.from_module(
        exact, [(x, x, x)], LayerConfig(lut_bits=None, ridge=1e-6)
    ).eval()
    layer.out_proj = exact.out_proj  # its tables have not seen what masks make of the values
    above = torch.ones(6, 6, dtype=torch.bool).triu(1)
    options: dict[str, Any] = {
        "bool": {"attn_mask": above},
        "float": {"attn_mask": torch.randn(6, 6)},
        "causal": {"attn_mask": above, "is_causal": True},
        "padding": {"key_padding_mask": torch.arange(6).expand(20, 6) > 3},
        "heads": {"attn_mask": torch.randn(20 * 4, 6, 6)},
    }[kind]
    wanted, weights = exact(x, x, x, **options)
    found, seen = layer(x, x, x, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(seen, weights, rtol=1e-3, atol=1e-3)
    unmasked = layer(x, x, x)[1]
    assert not torch.allclose(unmasked, seen)


def test_transformer_encoder_layer() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    x = torch.randn(20, 6, 16)
    report = convert_(model, QUICK, x)
    assert len(report.converted) == 2 * 3
    assert isinstance(model.layers[0].self_attn, HalutMultiheadAttention)
    assert model.training
    assert model(x).shape == model.eval()(x).shape == x.shape


def test_later_layers_learn_from_the_replaced_ones() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 12)
    seen: dict[bool, torch.Tensor] = {}
    for sequential in (True, False):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4))
        convert_(model, LayerConfig(n_prototypes=4), x, sequential=sequential)
        seen[sequential] = model[2].lut.detach().clone()
    assert not torch.equal(seen[True], seen[False])


def test_the_report_says_what_stays_and_why() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            self.unused = nn.Linear(8, 8)
            self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.second(self.first(x))
            return self.attention(y, y, y)[0]

    model = Model()
    report = convert_(model, None, torch.randn(20, 10, 8), lambda name, _: name != "second")
    reasons = {row.name: row.reason for row in report.rows}
    assert list(reasons) == ["first", "second", "attention", "unused"]
    assert reasons["first"] == "" and reasons["second"] == "filter_fn left it out"
    assert "did not call it" in reasons["unused"] and "bias_k" in reasons["attention"]
    assert "stays: filter_fn" in str(report)
    assert isinstance(model.first, HalutLinear) and isinstance(model.second, nn.Linear)


class Experts(nn.Module):
    """Two products with slices of one parameter, as mixtures of experts have them."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, 8, 8))
        self.position = nn.Parameter(torch.randn(1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.position
        return nn.functional.linear(x[:20], self.weights[0]).sum() + x @ self.weights[1]


def test_products_that_no_layer_has_are_listed() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(9, 8), nn.Linear(8, 9, bias=False)
            self.head.weight = self.embedding.weight
            self.experts, self.inside = Experts(), nn.Linear(8, 8)
            self.register_buffer("fixed", torch.randn(4, 8, 3, 3))
            self.up = nn.Parameter(torch.randn(4, 2, 2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.experts(self.embedding(x)) @ self.inside.weight
            image = nn.functional.conv2d(y.view(-1, 8, 5, 5), self.fixed)
            return self.head(y).mean() + nn.functional.conv_transpose2d(image, self.up)

    report = convert_(Model(), None, torch.randint(0, 9, (100,)))
    rows = {row.name: row for row in report.rows}
    assert report.converted == ["head"] and set(rows) == {"", "head", "inside", "experts"}
    assert rows["inside"].reason == "the model multiplies by its weight without calling it"
    assert "product with weights is no layer's" in rows["experts"].reason
    assert "register_handler(Experts, function)" in rows["experts"].reason
    assert rows["experts"].macs == (20 + 100) * 64
    assert "product with fixed, up is no layer's" in rows[""].reason
    items = 100 * 8 // (8 * 5 * 5)
    assert rows[""].macs == items * (4 * 9 * 8 * 9 + 4 * 9 * 2 * 4)


def test_a_config_for_each_layer() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    configs = {"0": LayerConfig(n_prototypes=8), "2": LayerConfig(n_prototypes=4)}
    convert_(model, configs, torch.randn(100, 2, 4, 4))
    assert isinstance(model[0], HalutConv2d)
    assert [model[0].n_prototypes, model[2].n_prototypes] == [8, 4]


def test_a_layer_that_is_called_twice_learns_from_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.linear(x) + 100)

    model = Twice()
    convert_(model, LayerConfig(n_prototypes=4), torch.randn(300, 6))
    assert model.linear.thresholds.max() > 50


def _compiled_outside(model: nn.Sequential) -> nn.Module:
    return torch.compile(model, backend="eager")


def _compiled_inside(model: nn.Sequential) -> nn.Module:
    return nn.Sequential(torch.compile(model, backend="eager"))


def _compiled_in_place(model: nn.Sequential) -> nn.Module:
    model[0].compile(backend="eager")
    return model


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch is older than 2.6")
@pytest.mark.parametrize("compiled", [_compiled_outside, _compiled_inside, _compiled_in_place])
def test_a_compiled_network(compiled: Callable[[nn.Sequential], nn.Module]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    same, inputs = copy.deepcopy(plain), torch.randn(200, 16)
    model = compiled(same)
    model(inputs)  # compiled now
    assert len(convert_(model, QUICK, inputs).converted) == 2
    convert_(plain, QUICK, inputs)
    assert torch.equal(model(inputs), plain(inputs))


def test_a_compiled_layer() -> None:
    layer, inputs = nn.Linear(16, 8), torch.randn(200, 16)
    model = torch.compile(layer, backend="eager")
    model(inputs)
    assert convert_(model, QUICK, inputs).converted == [""]
    assert isinstance(layer, HalutLinear) and torch.equal(model(inputs), layer(inputs))


def test_a_layer_that_only_a_later_batch_reaches() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expert, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.expert(x) if len(x) > 70 else x)

    batches = [torch.randn(70, 8), torch.randn(80, 8)]
    assert sorted(convert_(Routed(), QUICK, batches).converted) == ["expert", "head"]


def test_data_loaders_and_labels() -> None:
    data = torch.utils.data.TensorDataset(torch.randn(100, 8), torch.zeros(100))
    model = nn.Sequential(nn.Linear(8, 4))
    convert_(model, None, torch.utils.data.DataLoader(data, batch_size=50))
    assert isinstance(model[0], HalutLinear)


def relative(exact: torch.Tensor, found: torch.Tensor) -> float:
    return float((exact - found).square().sum() / exact.square().sum())


@pytest.mark.parametrize("config", [
    LayerConfig(input_format="int8", max_rows=1000),
    LayerConfig(lut_bits=None, max_rows=1000),
    LayerConfig(lut_bits=4, max_rows=1000),
    LayerConfig(input_format="fp16", output_format="int8", max_rows=1000),
    LayerConfig(encoder="centroid", max_rows=1000),
], ids=["int8", "float", "int4 tables", "bytes", "centroid"])  # fmt: skip
def test_the_reported_error_is_that_of_rows_not_learned_from(config: LayerConfig) -> None:
    """Noise cannot be learned: what is looked up for rows that were learned from looks better."""
    torch.manual_seed(0)
    x, unseen = torch.randn(200, 32), torch.randn(2000, 32)
    exact = nn.Linear(32, 4, bias=False)
    model = nn.Sequential(exact)
    report = convert_(model, config, x)
    (row,) = report.rows
    assert row.error is not None and row.float_error is not None
    with torch.no_grad():
        seen, wanted = (relative(exact(rows), model(rows)) for rows in (x, unseen))
    assert seen < 0.75 * wanted
    assert abs(row.error / wanted - 1) < 0.15
    quantised = config.lut_bits is not None
    assert (abs(row.error - row.float_error) > 1e-6) == quantised
    assert f"{row.error:8.4f} {row.float_error:8.4f}" in str(report)


@pytest.mark.parametrize("layout", ["im2col", "kn2col"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_reported_error_is_that_of_the_programs(layout: str, groups: int) -> None:
    """As `HalutMatmul.quantisation_error` has it, and so ``halut learn``."""
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 3, groups=groups), torch.randn(30, 4, 6, 6)
    config = LayerConfig(input_format="int5", lut_bits=5, layout=layout, max_rows=10**6)
    model = nn.Sequential(conv)
    (row,) = convert_(model, config, x).rows
    layer = model[0]
    rows = layer.rows(x).numpy()
    order = np.arange(layer.n_features)
    if layout == "kn2col":
        order = order.reshape(-1, 9).T.ravel()
    wanted, energy = 0.0, 0.0
    for group, program in enumerate(layer.programs()):
        weights = conv.weight.detach()[group * 6 // groups : (group + 1) * 6 // groups].flatten(1)
        bias = conv.bias.detach()[group * 6 // groups : (group + 1) * 6 // groups].numpy()
        learner = HalutMatmul(layer.n_codebooks, refine_passes=1).learn_offline(
            rows[group][:, order], weights.numpy().T[order]
        )
        program = dataclasses.replace(
            program, split_dims=learner.split_dims_, lut_offset=program.lut_offset - bias
        )
        found = learner.quantisation_error(program)
        wanted += found.error * found.energy
        energy += found.energy
    assert row.error == pytest.approx(wanted / energy, rel=1e-4)


@pytest.mark.parametrize("name", ["output column", "the inputs of codebook"])
def test_quantisation_that_costs_much_is_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 4) @ torch.randn(4, 16)
    costly = {"lut_bits": 2} if name == "output column" else {"input_format": "int2"}
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    configs = {"0": LayerConfig(input_format="int12"), "2": LayerConfig(**costly)}
    report = convert_(model, configs, x)
    (warning,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    row = report.rows[1]
    said = f"from {row.float_error:.4g} to {row.error:.4g}, most of it by {name}"
    assert re.fullmatch(rf"warning: quantisation .* {re.escape(said)} \d+ \(layer 2\)", warning)
    assert row.error > 1.05 * row.float_error


def test_a_warning_names_the_projection_of_an_attention(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    x = torch.randn(20, 6, 4) @ torch.randn(4, 16)
    config = dataclasses.replace(QUICK, lut_bits=2)
    report = convert_(model, {"self_attn": config}, x)
    named = [one.getMessage().rpartition("(layer ")[2][:-1] for one in caplog.records]
    assert "self_attn.q_proj" in named and "self_attn.out_proj" in named
    row = report.rows[0]
    assert row.error is not None and row.error > 1.05 * row.float_error


def nan_in_the_middle() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    model = nn.Sequential(nn.Linear(8, 8), Root(), nn.Linear(8, 8))
    convert_(model, None, torch.randn(200, 8))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: convert_(nn.Sequential(nn.ReLU()), None, torch.randn(99, 8)),
     "at least one layer that is converted, not none"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(99, 8), lambda *_: False),
     "filter_fn left it out"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), {"1": LayerConfig()}, torch.randn(99, 8)),
     "config must name modules of the model, not '1'"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, []), "at least one batch"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, ["text"]), "must be tensors"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(9, 8)),
     r"at least 64 rows .* not 9 \(layer 0\)"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, None), "tensor or batches, not NoneTy"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, [()]), "or mappings, not tuple"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(99, 9)),
     "model must take the inputs that it is given: mat1 and mat2"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, {}), "must take the inputs"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), "int8", torch.randn(99, 8)),
     r"config must be a LayerConfig, not str \(layer 0\)"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(99, 8), 3),
     "filter_fn must be a function, not int"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(99, 8),
                      held_out=torch.full((9, 8), torch.nan)),
     r"must give finite outputs for the inputs that it is compared on, .*\(batch 0\)"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None, torch.randn(99, 8).to_sparse()),
     r"must be dense tensors, not sparse or nested ones \(layer 0\)"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2)), None,
                      torch.nested.nested_tensor([torch.randn(50, 8), torch.randn(49, 8)])),
     r"must be dense tensors, not sparse or nested ones \(layer 0\)"),
    (lambda: HalutLinear(8, 2)(torch.randn(9, 8).to_sparse()), "input must be a dense tensor"),
    (lambda: convert_("model", None, torch.randn(99, 8)), "model must be an nn.Module, not str"),
    (lambda: convert_(torch.jit.script(nn.Linear(8, 2)), None, torch.randn(99, 8)),
     "must be what was scripted or traced, not TorchScript itself$"),
    (lambda: convert_(nn.Sequential(nn.Linear(8, 2), torch.jit.script(nn.ReLU())), None,
                      torch.randn(99, 8)), r"not TorchScript itself \(1\)"),
    (lambda: HalutMultiheadAttention(8, 0), "num_heads must be at least 1, not 0"),
    (nan_in_the_middle, r"must be finite.*\(layer 2\)"),
])  # fmt: skip
def test_bad_input(call: Callable[[], None], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        call()
