"""What survives conversion: names, hooks, modes, inputs, and the model itself after an error."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig, convert_  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402

FOUR = LayerConfig(n_prototypes=4, refine_passes=0)


def two(n_inputs: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.ReLU(), nn.Linear(8, 4))


def test_a_shared_layer_is_replaced_under_every_name() -> None:
    layer = nn.Linear(8, 8)
    model = nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer))
    (row,) = convert_(model, {"2.0": FOUR}, torch.randn(100, 8)).rows
    assert model[0] is model[2][0] and isinstance(model[0], HalutLinear)
    assert row.name == "0" and row.also == ("2.0",)


def test_layers_that_are_kept_elsewhere_or_whose_weight_is_read_are_refused() -> None:
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.hidden = [self.linear]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.hidden[0](x)

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) @ self.linear.weight

    for model, reason in ((Elsewhere(), "keep them elsewhere"), (Reads(), r"their \.weight")):
        before = model.linear
        with pytest.raises(HalutError, match=reason):
            convert_(model, FOUR, torch.randn(100, 8))
        assert model.linear is before and "forward" not in vars(before)


def test_an_error_leaves_the_model_as_it_was() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    layers = nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(24, 8), Root(), nn.Linear(8, 4)
    model = nn.Sequential(*layers)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(HalutError, match=r"must be finite.*\(layer 4\)"):
        convert_(model, FOUR, torch.randn(100, 2, 8))
    assert all(found is wanted for found, wanted in zip(model, layers, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_hooks_move() -> None:
    model, x, seen = two(), torch.randn(200, 16), []
    model[0].register_forward_pre_hook(lambda _, args: (args[0] * 100,))
    model[0].register_full_backward_hook(lambda *_: seen.append("backward"))
    handle = model[0].register_forward_hook(lambda *_: seen.append("forward"))
    convert_(model, FOUR, x)
    assert model[0].thresholds.abs().max() > 20  # learned from what the hook gave
    seen.clear()
    model(x).sum().backward()
    assert sorted(seen) == ["backward", "forward"]
    handle.remove()
    model(x)
    assert len(seen) == 2


def test_hooks_that_are_lost_are_reported() -> None:
    model = two()
    model[2].register_state_dict_pre_hook(lambda *_: None)
    report = convert_(model, FOUR, torch.randn(200, 16))
    assert [row.note for row in report.rows] == ["", "lost: state dict pre hooks"]
    assert "lost: state dict" in str(report)


def test_frozen_layers_stay_frozen_and_modes_stay() -> None:
    model = two()
    model[0].requires_grad_(False)
    model[2].eval()
    convert_(model, FOUR, torch.randn(200, 16))
    assert not any(parameter.requires_grad for parameter in model[0].parameters())
    assert model[2].lut.requires_grad and not model[2].temperature.requires_grad
    assert [module.training for module in model] == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    model, x = two().to(dtype), torch.randn(200, 16).to(dtype)
    convert_(model, FOUR, x)
    weight = model[0].weight
    assert model(x).dtype == weight.dtype == dtype and weight.shape == (8, 16)
    assert weight.isnan().all()
    assert model.double()[0].weight.dtype == torch.float64


def test_memory_format() -> None:
    x = torch.randn(8, 3, 8, 8).to(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Conv2d(3, 8, 3)).to(memory_format=torch.channels_last)
    convert_(model, FOUR, x)
    assert model(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), model(x.contiguous()), rtol=0, atol=0)
    assert model[0].weight.shape == (8, 3, 3, 3)


def test_inputs_are_never_changed_and_layers_learn_what_they_saw() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.sub_(10)
            y = self.linear(x)
            return x.mul_(0).add_(y)  # a residual in the memory of the layer's input

    given = torch.randn(300, 16) + 10
    before = given.clone()
    model = InPlace()
    (row,) = convert_(model, LayerConfig(codebook_width=2), given).rows
    assert torch.equal(given, before)
    assert 0 < model.linear.thresholds.abs().max() < 5
    assert row.error is not None and row.error < 0.5


def test_reports_do_not_depend_on_the_batch_size() -> None:
    x = torch.randn(200, 16)
    config = LayerConfig(n_prototypes=4, max_rows=90)
    found = []
    for size in (200, 32, 1):
        model = two()
        report = convert_(model, config, list(x.split(size)))
        found.append([row.error for row in report.rows])
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


def test_kinds_of_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, a: torch.Tensor, b: torch.Tensor, scale: float = 1) -> torch.Tensor:
            return scale * self.linear(a + b)

    a = torch.randn(100, 8)
    both = {"a": a, "b": a}
    labels = torch.zeros(100)
    for batches in ([(a, a)], [(a, a, labels)], both, [{"a": a.numpy(), "b": a.double().numpy()}]):
        model = Sum()
        assert convert_(model, FOUR, batches).converted == ["linear"]
    model = two()
    convert_(model, FOUR, np.random.default_rng(0).standard_normal((200, 16)))
    assert isinstance(model[0], HalutLinear)


def test_inference_mode_and_meta_device() -> None:
    model = two()
    with torch.inference_mode():
        convert_(model, FOUR, torch.randn(200, 16))
    model(torch.randn(3, 16)).sum().backward()
    assert model[0].lut.grad is not None
    with pytest.raises(HalutError, match=r"meta device \(0.weight\)"):
        convert_(two().to("meta"), FOUR, torch.randn(200, 16))


FORMATS: dict[str, dict[str, Any]] = {
    "float": {"lut_bits": None},
    "int8": {"input_format": "int8"},
    "half": {"input_format": "fp16", "lut_format": "fp16", "lut_bits": 16},
    "saturate": {"input_format": "int8", "acc_bits": 8, "overflow": "saturate"},
    "bytes": {"input_format": "int8", "output_format": "int8", "relu": True},
    "centroid": {"encoder": "centroid"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_export_with_any_batch_size_and_compile(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 3, 6, 6)
    model = nn.Sequential(nn.Conv2d(3, 9, 3), nn.Flatten(), nn.Linear(144, 4))
    config = LayerConfig(n_prototypes=4, refine_passes=0, codebook_width=9, **FORMATS[name])
    convert_(model, config, x)
    model.eval()
    wanted = model(x[:7])
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert torch.equal(program.module()(x[:7]), wanted)
    gradients = []
    torch.compiler.reset()  # graphs of one `forward` are counted, over all tests of a process
    for called in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        called(x[:7]).square().sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for key, wanted in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], wanted)
    assert gradients[0]["0.lut"].abs().max() > 0


def small_network(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(40, 3, 6, 6)
    model = nn.Sequential(nn.Conv2d(3, 9, 3), nn.Flatten(), nn.Linear(144, 4))
    config = LayerConfig(n_prototypes=4, refine_passes=0, codebook_width=9, **FORMATS[name])
    convert_(model, config, x)
    return model.eval(), x


def gradients_of(model: nn.Module, called: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    called(x).square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FORMATS)
def test_gradients_of_torch_func(name: str) -> None:
    model, x = small_network(name)
    parameters = dict(model.named_parameters())

    def loss(parameters: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters, x[:7])
    for key, wanted in gradients_of(model, model, x[:7]).items():
        torch.testing.assert_close(found[key], wanted)
    inputs = x[:7].clone().requires_grad_()
    loss(parameters, inputs).backward()
    torch.testing.assert_close(torch.func.grad(loss, argnums=1)(parameters, x[:7]), inputs.grad)
    assert inputs.grad is not None and inputs.grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_inductor_compiles_forward_and_backward(name: str) -> None:
    torch.compiler.reset()  # so many graphs of one `nn.Sequential.forward` are refused
    model, x = small_network(name)
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
    wanted, found = gradients_of(model, model, x), gradients_of(model, compiled, x)
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


def test_the_errors_on_held_out_inputs_show_where_it_breaks() -> None:
    torch.manual_seed(0)
    x, unseen = torch.randn(400, 16), torch.randn(300, 16)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    exact = copy.deepcopy(model)
    report = convert_(model, LayerConfig(codebook_width=2), x, held_out=list(unseen.split(70)))
    with torch.no_grad():
        wanted, found = exact(unseen), model(unseen)
        piled_up = ((found - wanted).square().mean(0) / wanted.var(0, correction=0)).mean()
        inside = exact[:4](unseen)
        last = exact[4](inside)
        alone = ((model[4](inside) - last).square().mean(0) / last.var(0, correction=0)).mean()
    first, _, end = report.rows
    assert end.output_error == pytest.approx(float(piled_up), rel=1e-3)
    assert end.own_inputs_error == pytest.approx(float(piled_up), rel=1e-3)
    assert end.exact_inputs_error == pytest.approx(float(alone), rel=1e-3)
    assert first.exact_inputs_error == pytest.approx(first.own_inputs_error)
    assert end.exact_inputs_error < end.own_inputs_error
    assert "exact in" in str(report) and f"{end.output_error:9.4f}" in str(report)
    rows = json.loads(report.to_json())
    assert [row["output_error"] for row in rows] == [row.output_error for row in report.rows]
    assert isinstance(model[0], HalutLinear) and isinstance(exact[0], nn.Linear)


def test_layers_on_the_meta_device_have_shapes() -> None:
    layer = HalutConv2d(3, 8, 3, config=FOUR).to("meta")
    assert layer(torch.empty(5, 3, 8, 8, device="meta")).shape == (5, 8, 6, 6)


BARE: dict[str, tuple[Any, Any]] = {
    "linear": (lambda: nn.Linear(16, 8), lambda: torch.randn(200, 16)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3), lambda: torch.randn(20, 4, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3), lambda: torch.randn(20, 4, 20)),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        lambda: [(torch.randn(20, 10, 8),) * 3],
    ),
}


@pytest.mark.parametrize("name", BARE)
def test_a_bare_layer_becomes_the_looked_up_one(name: str) -> None:
    torch.manual_seed(0)
    make, inputs = BARE[name]
    model, x = make(), inputs()
    holder = [model]
    twin = nn.Sequential(copy.deepcopy(model)) if name != "attention" else None
    report = convert_(model, {"": FOUR}, x)
    assert holder[0] is model and layers_of(model)
    assert {row.name for row in report.rows} == {""} and "(model)" in str(report)
    assert model.training
    called = model(*x[0])[0] if name == "attention" else model(x)
    called.sum().backward()
    if twin is not None:
        convert_(twin, FOUR, x)
        for key, value in twin[0].state_dict().items():
            assert torch.equal(model.state_dict()[key], value)
        assert torch.equal(twin(x), called)
    copy.deepcopy(model)
    with pytest.raises(HalutError, match="must have at least one layer"):
        convert_(make(), FOUR, x, filter_fn=lambda name, _: name != "")


def test_a_bare_layer_stays_after_an_error() -> None:
    model = nn.Linear(16, 8)
    with pytest.raises(HalutError, match="at least 16 rows"):
        convert_(model, FOUR, torch.randn(3, 16))
    assert type(model) is nn.Linear and "layer" not in vars(model)


def test_a_traced_network_gives_the_same() -> None:
    """`torch.jit.trace` cannot follow operators that take lists; it gets torch's form."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    convert_(model, LayerConfig(n_prototypes=4, input_format="int8"), torch.randn(100, 2, 6, 6))
    with torch.no_grad():
        traced, x = torch.jit.trace(model, torch.randn(2, 2, 6, 6)), torch.randn(2, 2, 6, 6)
        assert torch.equal(traced(x), model(x))
