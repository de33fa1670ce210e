"""Reconstruction without labels: what gets better, what stays, files to go on from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig, Reconstruction, convert_, reconstruct_  # noqa: E402
from halut.nn.blocks import blocks_of, smaller_batches  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402
from halut.nn.refit import refit_  # noqa: E402
from halut.nn.watch import calls_of  # noqa: E402

QUICK = LayerConfig(refine_passes=0, ridge=1.0, max_rows=1000)
SHORT = Reconstruction(block_steps=12, distill_steps=12, batch_size=20)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.norm(self.first(x)).relu_())


def network() -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), Residual(8), Residual(8),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 5),
    )  # fmt: skip
    return model.eval()


def images(n: int = 200) -> torch.Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(n))


def converted(**changes: Any) -> tuple[nn.Sequential, nn.Sequential]:
    model = network()
    exact = copy.deepcopy(model)
    settings = {"codebook_width": 4, "n_prototypes": 8} | changes
    convert_(model, LayerConfig(refine_passes=0, ridge=1.0, max_rows=1000, **settings), images())
    return model, exact


def test_it_comes_closer_on_inputs_that_nothing_was_learned_from() -> None:
    model, exact = converted()
    before = {name: value.clone() for name, value in exact.state_dict().items()}
    model.train()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    running = model[2].norm.running_mean.clone()
    report = reconstruct_(model, exact, images(), SHORT, held_out=images(150))
    assert report.after.output_error < 0.85 * report.before.output_error
    assert report.after.agreement > report.before.agreement
    assert [row.name for row in report.rows] == ["0", "2", "3", "7"]
    for row in report.rows:
        assert row.refit is not None and row.trained is not None
        assert row.trained <= row.refit <= row.before
    assert "decisions kept" in str(report) and '"agreement"' in report.to_json()
    # What is not to change.
    assert all(torch.equal(value, before[name]) for name, value in exact.state_dict().items())
    assert model.training and torch.equal(model[2].norm.running_mean, running)
    assert not any(parameter.requires_grad for parameter in model[0].parameters())
    assert model[3].first.lut.requires_grad and model[3].first.lut.grad is None


def test_norms_are_trained_and_exact_weights_are_not() -> None:
    model = network()
    exact = copy.deepcopy(model)
    convert_(model, QUICK, images(), filter_fn=lambda name, _: name == "2.second")
    with torch.no_grad():
        model[2].norm.weight.mul_(0.7)
    norm, conv = model[2].norm.weight.clone(), model[3].first.weight.clone()
    report = reconstruct_(model, exact, images(), SHORT)
    (row,) = report.rows
    assert row.name == "" and row.trained is not None and row.trained < row.before
    assert model[2].norm.weight.mean() > norm.mean()
    assert torch.equal(model[3].first.weight, conv)


@pytest.mark.parametrize("config", [
    {"input_format": "int8"},
    {"input_format": "int8", "output_format": "int8"},
    {"encoder": "centroid", "codebook_width": 2},
    {"lut_format": "fp16", "lut_bits": 16, "input_format": "fp16"},
], ids=str)  # fmt: skip
def test_formats(config: dict[str, Any]) -> None:
    model, exact = converted(**config)
    report = reconstruct_(model, exact, images(), SHORT, held_out=images(150))
    # Blocks are kept only where they are no worse on inputs that were kept back. With centroids the
    # whole network, which nothing but distillation looks at, need not be better on others.
    assert all((row.trained or row.refit) <= row.before for row in report.rows)
    assert any((row.trained or row.refit) < row.before for row in report.rows)
    if config.get("encoder") != "centroid":
        assert report.after.output_error <= report.before.output_error


def test_refitting_finds_the_tables_that_gave_the_outputs() -> None:
    model, _ = converted(lut_bits=None)
    layer = model[7]
    x = torch.randn(2000, 32)
    with torch.no_grad():
        wanted = layer(x)
        layer.lut.mul_(0.5)
        layer.bias.add_(1.0)
        found = refit_(layer, list(x.split(500)), list(wanted.split(500)), 4096)
        assert found is not None and found.after < 1e-3 < found.before
        assert (layer(x) - wanted).square().mean() < 1e-3 * wanted.var()
    assert refit_(layer, [x[:20]], [wanted[:20]], 4096) is None  # too few rows
    layer.config = replace(layer.config, ridge="means", refine_passes=0)
    assert refit_(layer, [x], [wanted], 4096) is None  # no regression, whose matrix may not fit


def test_it_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halut.nn import reconstruct

    model, exact = converted()
    whole = copy.deepcopy(model)
    expected = reconstruct_(whole, exact, images(), SHORT)
    write = reconstruct._State.write
    for writes in (2, 5):  # in the blocks, then in distillation
        left = iter(range(writes))

        def interrupted(self: Any, model: nn.Module, left: Any = left) -> None:
            write(self, model)
            if next(left, None) is None:
                raise KeyboardInterrupt

        monkeypatch.setattr(reconstruct._State, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconstruct_(model, exact, images(), SHORT, folder=tmp_path)
    monkeypatch.setattr(reconstruct._State, "write", write)
    found = reconstruct_(model, exact, images(), SHORT, folder=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert (found.before, found.blocks, found.after) == (
        expected.before, expected.blocks, expected.after,
    )  # fmt: skip
    with pytest.raises(HalutError, match="hold a reconstruction of these networks"):
        reconstruct_(model, exact, images(120), SHORT, folder=tmp_path)


def test_blocks_are_the_largest_parts_with_so_many_layers() -> None:
    model, exact = converted()
    names = [
        [block.name for block in blocks_of(model, exact, images(2), most)] for most in (1, 2, 6)
    ]
    assert names == [
        ["0", "2.first", "2.second", "3.first", "3.second", "7"], ["0", "2", "3", "7"], [""],
    ]  # fmt: skip


def test_parts_of_handlers_and_attentions_are_blocks_as_a_whole() -> None:
    torch.manual_seed(0)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 8, 1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x).transpose(1, 2)
            return self.attention(y, y, y)[0]

    model, x = Both(), torch.randn(60, 4, 10)
    exact = copy.deepcopy(model)
    convert_(model, LayerConfig(n_prototypes=4, refine_passes=0, ridge=1.0), x)
    assert len(layers_of(model)) == 5
    names = [block.name for block in blocks_of(model, exact, x, 1)]
    assert names == ["conv", "attention"]
    with torch.no_grad():
        model.attention.out_proj.bias.add_(0.2)
    report = reconstruct_(model, exact, x, SHORT)
    assert report.rows[1].trained < report.rows[1].before


def test_batches_are_cut_where_all_tensors_have_as_many_items() -> None:
    x, y = torch.arange(5), torch.arange(10).view(5, 2)
    assert [len(one) for one in smaller_batches([x], 2)] == [2, 2, 1]
    parts = smaller_batches([{"x": x, "y": y}, (x, y)], 3)
    assert [tuple(map(len, part.values())) for part in parts[:2]] == [(3, 3), (2, 2)]
    assert torch.equal(parts[3][1], y[3:])
    (whole,) = smaller_batches([(x, y[:4])], 2)
    assert whole[0] is x


def same() -> tuple[nn.Module, nn.Module]:
    model, _ = converted()
    return model, model


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "not converted": (lambda: (network(), network()), "model must have replaced layers"),
    "exact is converted": (same, "exact must be the network before it was converted"),
    "no module": (lambda: (network(), 3), "exact must be an nn.Module, not int"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_networks(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(HalutError, match=message):
        reconstruct_(*make(), images(), SHORT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_leave_the_model_as_it_was(value: float) -> None:
    model, exact = converted()
    before = copy.deepcopy(model.state_dict())
    inputs = images()
    inputs[50, 1, 2, 3] = value
    with pytest.raises(HalutError, match=r"must give finite outputs .*\(batch 2\)"):
        reconstruct_(model, exact, inputs, SHORT)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


class Cache:
    """What a block changes in each call, as caches of keys and values."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []


class Cached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, cache: Cache) -> torch.Tensor:
        cache.seen.append(self.layer(x))
        return torch.cat(cache.seen)


class WithCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Cached(), Cached()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        cache = Cache()
        return {"wide": self.second(self.first(x, cache), cache), "narrow": x[:, :3]}


def test_what_a_block_changes_in_a_call_is_not_there_in_the_next() -> None:
    torch.manual_seed(0)
    model, inputs = WithCache(), torch.randn(200, 8)
    (call,) = calls_of(model, ["second"], [inputs])["second"]
    assert len(call.args[1].seen) == 1
    assert torch.equal(call.run(model.second), call.run(model.second))
    exact = copy.deepcopy(model)
    convert_(model, QUICK, inputs, held_out=inputs[:50])
    for settings in (SHORT, replace(SHORT, layers_per_block=1)):
        report = reconstruct_(copy.deepcopy(model), exact, inputs, settings)
        assert all(row.trained is not None and row.trained <= row.before for row in report.rows)
        assert report.after.output_error <= report.before.output_error


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch is older than 2.6")
def test_compiled_networks() -> None:
    model, exact = converted()
    plain = copy.deepcopy(model)
    both = [torch.compile(one, backend="eager") for one in (model, exact)]
    found, expected = (reconstruct_(*given, images(), SHORT) for given in (both, (plain, exact)))
    assert found.after == expected.after
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(("field", "value", "message"), [
    ("rate", 0, "rate must be greater than 0"), ("temperature", "x", "must be a number"),
    ("block_steps", -1, "block_steps must be at least 0"), ("refit", 1, "true or false"),
    ("outputs", "class", "did you mean"),
])  # fmt: skip
def test_bad_settings(field: str, value: Any, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        Reconstruction(**{field: value})
