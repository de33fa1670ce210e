"""Folded networks decide exactly as the networks that they were made from."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
from torch import Tensor, nn  # noqa: E402

from halut import golden  # noqa: E402
from halut.__main__ import main  # noqa: E402
from halut.cli import run  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig  # noqa: E402
from halut.nn.fold import FoldReport, fold_  # noqa: E402
from halut.nn.layers import HalutLayer  # noqa: E402
from halut.nn.models import ResNet9  # noqa: E402
from halut.nn.network import load_network, save_network  # noqa: E402
from halut.nn.replace import replace_module  # noqa: E402


def _config(**changes: object) -> LayerConfig:
    return LayerConfig(**{"n_prototypes": 8, "input_format": "int8", **changes})  # type: ignore[arg-type]


def _norm(channels: int, negative: bool = True, kind: type = nn.BatchNorm2d) -> nn.Module:
    norm = kind(channels)
    nn.init.normal_(norm.weight)
    if not negative:
        norm.weight.data.abs_()
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.1, 2.0)
    return norm


def _record(model: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return codes and accumulators of every exact layer as they are in the network."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: found.update(
                {name: (module.codes(args[0]), module.accumulators(args[0]))}
            )
        )
        for name, module in model.named_modules()
        if isinstance(module, HalutLayer)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def _fold(model: nn.Module, x: Tensor) -> tuple[nn.Module, FoldReport]:
    folded = copy.deepcopy(model)
    return folded, fold_(folded, x[:2])


def _edges(report: FoldReport, kind: str) -> dict[tuple[str, str], bool]:
    return {(e.producer, e.consumer): e.folded for e in report.edges
            if e.kind == kind and e.consumer != "output"}  # fmt: skip


def _chain(middle: Callable[[int], list[nn.Module]], first: LayerConfig, second: LayerConfig,
           **geometry: int) -> nn.Sequential:  # fmt: skip
    return nn.Sequential(
        HalutConv2d(3, 6, 3, padding=1, config=first),
        *middle(6),
        HalutConv2d(6, 5, 3, config=second, **geometry),
    ).eval()


MIDDLES: dict[str, Callable[[int], list[nn.Module]]] = {
    "nothing": lambda _: [],
    "relu": lambda _: [nn.ReLU()],
    "norm, relu": lambda n: [_norm(n), nn.ReLU()],
    "norm, relu, pool": lambda n: [_norm(n), nn.ReLU(), nn.MaxPool2d(2, padding=1)],
    "pool, norm": lambda n: [nn.MaxPool2d(2), _norm(n, negative=False), nn.Dropout(0.5)],
    "relu, norm, relu6": lambda n: [nn.ReLU(), _norm(n), nn.Identity(), nn.ReLU6()],
    "never 0": lambda _: [nn.Hardtanh(-2.0, -1.0)],
    "two norms": lambda n: [_norm(n), nn.Hardtanh(), _norm(n)],
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("formats", ["int8", "fp16", "fp8_e4m3", "int2", "int16"])
@pytest.mark.parametrize("middle", MIDDLES)
def test_integers_between_convolutions(middle: str, formats: str, seed: int) -> None:
    torch.manual_seed(seed)
    # Two-bit tables: accumulators of few values, so that equality with thresholds happens.
    lut_bits = (8, 2)[seed]
    model = _chain(
        MIDDLES[middle],
        _config(lut_bits=lut_bits),
        _config(input_format=formats, input_granularity=("codebook", "dimension")[seed]),
        padding=0 if middle in ("nothing", "pool, norm", "two norms") else 1,
    )
    x = torch.randn(6, 3, 9, 9)
    x[3] = 0.0
    x[4] = 1e4
    x[5] = -1e4
    folded, report = _fold(model, x)
    assert _edges(report, "integers") == {("0", str(len(model) - 1)): True}, str(report)
    assert report.identical and report.integer_share == 1.0
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.ReLU, nn.ReLU6)) for m in folded.modules())
    before, after = _record(model, x), _record(folded, x)
    last = str(len(model) - 1)
    assert torch.equal(before[last][0], after[last][0])
    assert torch.equal(before[last][1], after[last][1])
    assert torch.equal(before["0"][0], after["0"][0])
    assert torch.equal(model(x), folded(x))
    assert len(before[last][0].unique()) > 1
    # Accumulators are handed on as they are, or as -a - C where the norm turns them round.
    raw = folded[0](x).permute(1, 0, 2, 3).flatten(1).to(torch.int32)
    was = before["0"][1][0].T
    same, turned = (raw == was).all(1), (raw == -was - 3).all(1)
    assert (same | turned).all() and raw.unique().numel() > 3
    assert middle != "norm, relu" or (same.any() and turned.any())


@pytest.mark.parametrize("formats", ["int8", "fp16", "int2"])
@pytest.mark.parametrize("middle", ["relu", "norm, relu, pool", "never 0", "relu, norm, relu6"])
@pytest.mark.parametrize("encoder", ["window", "node"])
def test_integers_between_layers_that_take_windows(encoder: str, middle: str, formats: str) -> None:
    torch.manual_seed(17)
    both = [
        _config(
            lut_bits=bits,
            encoder=encoder,
            input_granularity=granularity,
            input_format=input_format,
            codebook_width=9,
        )
        for bits, granularity, input_format in ((2, "codebook", "int8"), (8, "all", formats))
    ]
    model = _chain(MIDDLES[middle], *both, padding=1)
    x = torch.cat([torch.randn(5, 3, 9, 9), torch.zeros(1, 3, 9, 9), 1e4 * torch.randn(1, 3, 9, 9)])
    folded, report = _fold(model, x)
    last = str(len(model) - 1)
    assert _edges(report, "integers") == {("0", last): True}, str(report)
    before, after = _record(model, x), _record(folded, x)
    assert torch.equal(before[last][0], after[last][0]) and len(before[last][0].unique()) > 1
    assert torch.equal(before[last][1], after[last][1])
    assert torch.equal(model(x), folded(x)) and report.identical
    # One less, and some decision is another; not where the padding alone decides.
    less = folded[-1].codes(folded[:-1](x) - 1)
    assert middle == "never 0" or not torch.equal(less, after[last][0])


@pytest.mark.parametrize("encoder", ["tree", "window", "node"])
def test_programs_of_folded_layers_are_what_the_network_computes(encoder: str) -> None:
    torch.manual_seed(3)
    config = _config(encoder=encoder)
    model = _chain(MIDDLES["norm, relu"], config, config, padding=1)
    x = torch.randn(2, 3, 6, 6)
    folded, report = _fold(model, x)
    raw = folded[0](x)
    program = folded[3].programs()[0]
    assert program.input_format == f"int{report.edges[0].bits}"
    assert (program.input_scale == 1).all() and (program.input_offset == 0).all()
    rows = folded[3].rows(raw)[0].detach().numpy()
    assert np.array_equal(rows, rows.astype(np.int16))
    accumulators = golden.matmul(program, program.input_words(rows))
    was = _record(model, x)["3"][1][0].numpy()
    assert np.array_equal(accumulators, was)
    # The comparison is strict: one higher would be another decision.
    moved = program.input_words(rows) - 1
    assert not np.array_equal(golden.matmul(program, moved), was)


def test_every_integer_decides_as_its_value() -> None:
    """All accumulators that there are, one by one, through a layer of one output."""
    torch.manual_seed(4)
    producer = HalutLinear(1, 3, config=_config(n_prototypes=256, input_format="fp16"))
    nodes = [
        (2 * node + 1) * 2 ** (7 - level) - 0.5 for level in range(8) for node in range(2**level)
    ]
    with torch.no_grad():
        producer.thresholds.copy_(torch.tensor(nodes))
        producer.lut.copy_(torch.linspace(-1, 1, 256).expand(1, 3, 1, 256) * 2.0)
    norm = nn.BatchNorm1d(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -0.7, 0.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    consumer = HalutLinear(3, 2, config=_config(codebook_width=1, n_prototypes=16))
    model = nn.Sequential(producer, norm, consumer).eval()
    x = torch.arange(256.0)[:, None]
    assert len(producer.accumulators(x).unique()) == 256
    folded, report = _fold(model, x)
    assert report.edges[0].folded and report.edges[0].bits == 10  # 'always' needs -129
    assert torch.equal(consumer.codes(model[:2](x)), folded[2].codes(folded[0](x)))


def test_tables_that_round_otherwise_when_negated() -> None:
    """Constant tables, which have no step, and entries in the middle between two steps."""
    torch.manual_seed(16)
    model = _chain(MIDDLES["norm, relu"], _config(), _config(), padding=1)
    with torch.no_grad():
        model[1].weight.fill_(-1.0)
        model[0].lut[0, :3, 1] = 0.25
        model[0].lut[0, 3, 1, :3] = torch.tensor([-1.0, 1.0, 0.0])
        model[0].lut[0, 3].clamp_(-1.0, 1.0)
        model[0].lut[0, 4] = 0.0  # all of an output's
    x = torch.randn(4, 3, 8, 8)
    entries = model[0].tables()[0][0]
    assert (entries[:3, 1] == 0).all() and entries[3, 1, 2] == 0 and (entries[4] == 0).all()
    folded, report = _fold(model, x)
    assert report.edges[0].folded and torch.equal(model(x), folded(x))
    assert torch.equal(folded[0].tables()[0][0, 3], -1 - entries[3])


@pytest.mark.parametrize("seed", range(3))
def test_integers_between_linear_layers(seed: int) -> None:
    """Many rows, at one time and one by one: rounding must not depend on the layout."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        HalutLinear(16, 64, config=_config(codebook_width=2)),
        _norm(64, kind=nn.BatchNorm1d),
        nn.ReLU(),
        HalutLinear(64, 32, config=_config(n_prototypes=256, input_format="int16")),
    ).eval()
    x = torch.randn(20000, 16)
    folded, report = _fold(model, x)
    assert report.integer_share == 1.0
    with torch.no_grad():
        wanted = model(x)
        assert torch.equal(wanted, folded(x))
        assert torch.equal(wanted[:9], torch.cat([folded(row[None]) for row in x[:9]]))
        assert torch.equal(wanted[:9], torch.cat([model(row[None]) for row in x[:9]]))


def test_flattening_and_groups() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(
        HalutConv2d(4, 8, 3, groups=2, config=_config()),
        _norm(8),
        nn.ReLU(),
        HalutConv2d(8, 6, 3, padding=1, groups=2, stride=2, config=_config()),
        nn.ReLU(),
        nn.Flatten(),
        nn.BatchNorm1d(54),
        HalutLinear(54, 7, config=_config(layout="im2col", codebook_width=9)),
    ).eval()
    x = torch.randn(5, 4, 8, 8)
    folded, report = _fold(model, x)
    assert _edges(report, "integers") == {("0", "3"): True, ("3", "7"): True}
    assert torch.equal(model(x), folded(x)) and report.identical
    before, after = _record(model, x), _record(folded, x)
    for name in ("3", "7"):
        assert torch.equal(before[name][1], after[name][1])


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = HalutConv2d(3, 4, 3, padding=1, config=_config())
        self.relu = nn.ReLU()
        self.b = HalutConv2d(4, 4, 3, padding=1, config=_config())
        self.norm = _norm(4)
        self.c = HalutConv2d(4, 2, 1, config=_config(codebook_width=2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.a(x))
        return self.c(y + self.norm(self.b(y)))


def test_residual_additions_end_chains() -> None:
    torch.manual_seed(6)
    model, x = _Residual().eval(), torch.randn(3, 3, 6, 6)
    folded, report = _fold(model, x)
    assert _edges(report, "integers") == {
        ("a", "add"): False, ("a", "b"): False, ("b", "add"): False
    }  # fmt: skip
    assert "an addition ends the chain" in str(report)
    assert _edges(report, "batch norm") == {("b", "norm"): True}
    # b and c read what depends on another layer, none of it as integers.
    assert report.integer_values == 0 and report.values == 2 * 4 * 36
    assert torch.allclose(model(x), folded(x), atol=1e-5)


def _random_resnet9(**kwargs: int) -> nn.Module:
    model = ResNet9(**kwargs)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(_norm(module.num_features).state_dict())
        elif isinstance(module, nn.Conv2d) and name != "prep.0":
            layer = HalutConv2d(
                module.in_channels, module.out_channels, 3, padding=1, bias=False, config=_config()
            )
            replace_module(model, name, layer)
    return model.eval()


def test_resnet9_shape() -> None:
    torch.manual_seed(7)
    model = _random_resnet9(in_channels=1, width=4, image_size=8)
    x = torch.randn(4, 1, 8, 8)
    folded, report = _fold(model, x)
    done = [pair for pair, yes in _edges(report, "integers").items() if yes]
    assert done == [
        ("residual1.body.0.0", "residual1.body.1.0"),
        ("layer2.0", "layer3.0"),
        ("residual2.body.0.0", "residual2.body.1.0"),
    ]
    assert 0.4 < report.integer_share < 0.7
    # Bit-identical until the first batch norm that is folded into tables.
    before, after = _record(model, x), _record(folded, x)
    name = "residual1.body.1.0"
    assert isinstance(folded.residual1.body[1][1], nn.Identity)
    assert torch.equal(before[name][0], after[name][0])


def test_folded_networks_are_saved_and_run_on_programs(tmp_path: Path) -> None:
    """What a network file keeps, and what hardware with each layer's program would compute."""
    torch.manual_seed(13)
    kwargs = {"in_channels": 1, "width": 4, "image_size": 8}
    model = _random_resnet9(**kwargs)
    x = torch.randn(3, 1, 8, 8)
    folded = copy.deepcopy(model)
    report = fold_(folded, x, norms=False, least_bits=16)
    assert {edge.bits for edge in report.edges if edge.folded} == {16}
    assert report.identical and torch.equal(model(x), folded(x))
    save_network(tmp_path / "folded.pt", folded, {"name": "resnet9", "kwargs": kwargs})
    loaded, _ = load_network(tmp_path / "folded.pt")
    assert torch.equal(loaded(x), folded(x))

    def on_programs(layer: HalutLayer, x: Tensor) -> Tensor:
        sums = [
            golden.matmul(program, program.input_words(rows.detach().numpy()))
            for program, rows in zip(layer.programs(), layer.rows(x), strict=True)
        ]
        return torch.from_numpy(np.stack(sums))

    for layer in loaded.modules():
        if isinstance(layer, HalutLayer):
            layer.executor = on_programs
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("sign", [1, -1])
def test_batch_norm_into_float_tables(sign: int) -> None:
    torch.manual_seed(8)
    config = _config(lut_bits=None, input_format=None)
    norm = _norm(6)
    norm.weight.data.abs_().mul_(sign)
    model = nn.Sequential(HalutConv2d(3, 6, 3, config=config), nn.Dropout(), norm, nn.Sigmoid())
    model.eval()
    x = torch.randn(4, 3, 8, 8)
    folded, report = _fold(model, x)
    assert isinstance(folded[2], nn.Identity)
    assert report.max_difference < 1e-5
    assert torch.allclose(model(x), folded(x), atol=1e-5) and not torch.allclose(
        model(x), model[3](model[0](x)), atol=1e-2
    )


def test_one_scale_for_all_tables_keeps_its_batch_norm() -> None:
    model = nn.Sequential(
        HalutConv2d(3, 6, 3, config=_config(lut_granularity="table")), _norm(6), nn.Sigmoid()
    ).eval()
    _, report = _fold(model, torch.randn(2, 3, 8, 8))
    assert _edges(report, "batch norm") == {("0", "1"): False}
    assert "one scale for all tables" in str(report)


@pytest.mark.parametrize("input_format", [None, "fp16", "fp8_e4m3", "bf16"])
def test_relu_into_float_thresholds(input_format: str | None) -> None:
    torch.manual_seed(9)
    config = _config(input_format=input_format)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        HalutConv2d(4, 5, 3, padding=1, config=config),
    ).eval()
    with torch.no_grad():
        model[3].thresholds[:, 0, :3] = torch.tensor([0.0, -0.0, -1e-9])
    x = torch.randn(4, 3, 10, 10)
    folded, report = _fold(model, x)
    assert isinstance(folded[1], nn.Identity) and report.identical
    assert torch.equal(model(x), folded(x))
    with torch.no_grad():
        model[1] = nn.Identity()
        assert not torch.equal(model(x), folded(x))  # the ReLU did matter


def test_relu_before_integer_thresholds() -> None:
    torch.manual_seed(10)
    layer = HalutConv2d(4, 5, 3, config=_config())
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), layer).eval()
    x = torch.randn(4, 3, 10, 10)
    _, report = _fold(model, x)
    assert _edges(report, "relu") == {("0", "1"): False} and "below 0" in str(report)
    with torch.no_grad():
        layer.thresholds.abs_().add_(0.1)
    folded, report = _fold(model, x)
    assert _edges(report, "relu") == {("0", "1"): True}
    assert torch.equal(model(x), folded(x))


class _Function(nn.Module):
    def __init__(self, case: str) -> None:
        super().__init__()
        self.a = HalutLinear(8, 8, config=_config())
        self.relu = nn.ReLU()
        self.b = HalutLinear(8, 8, config=_config())
        self.case = case

    def forward(self, x: Tensor) -> Tensor:
        if self.case == "relu twice":
            return self.b(self.relu(self.a(self.relu(x))))
        if self.case == "layer twice":
            return self.b(self.relu(self.a(self.a(x))))
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_Function("function"), "is a function in forward"),
        (_Function("relu twice"), "relu is called more than once"),
        (_Function("layer twice"), "a -> b       integers    no: a is called more than once"),
        (nn.Sequential(HalutLinear(8, 8, config=_config()), nn.GELU(),
                       HalutLinear(8, 8, config=_config())), "not a non-decreasing"),
        (nn.Sequential(HalutLinear(8, 8, config=_config()),
                       HalutLinear(8, 8, config=_config(input_format=None))), "is not exact"),
        (nn.Sequential(HalutLinear(8, 8, config=_config(lut_bits=16, codebook_width=1)),
                       HalutLinear(8, 8, config=_config())), "more than 16 bits"),
    ],
)  # fmt: skip
def test_why_not(model: nn.Module, reason: str) -> None:
    x = torch.randn(5, 8)
    folded, report = _fold(model.eval(), x)
    assert not any(edge.folded for edge in report.edges if edge.kind == "integers")
    assert reason in str(report)
    assert torch.equal(model(x), folded(x))


def test_maximum_before_a_turning_norm() -> None:
    torch.manual_seed(11)
    model = _chain(lambda n: [nn.MaxPool2d(2), _norm(n)], _config(), _config())
    _, report = _fold(model, torch.randn(2, 3, 9, 9))
    assert "before a batch norm with a negative weight" in str(report)
    flat = nn.BatchNorm1d(24)
    with torch.no_grad():
        flat.weight[11] = -1.0  # one place of one channel
    layers = [nn.MaxPool2d(2), nn.Flatten(), flat, HalutLinear(24, 3, config=_config())]
    model = nn.Sequential(HalutConv2d(3, 6, 3, config=_config()), *layers).eval()
    _, report = _fold(model, torch.randn(2, 3, 6, 6))
    assert "1 comes before a batch norm with a negative weight" in str(report)


def test_batch_norm_of_another_axis() -> None:
    """Behind linear layers with three axes, it normalises places and not features."""
    torch.manual_seed(15)
    norm = nn.BatchNorm1d(8)
    nn.init.normal_(norm.weight)
    model = nn.Sequential(
        HalutLinear(8, 8, config=_config()), norm, HalutLinear(8, 8, config=_config())
    ).eval()
    x = torch.randn(5, 8, 8)
    folded, report = _fold(model, x)
    assert not any(edge.folded for edge in report.edges)
    assert str(report).count("1 does not work channel by channel") == 2
    assert torch.equal(model(x), folded(x))


def test_folding_twice_changes_nothing() -> None:
    torch.manual_seed(12)
    model = _chain(MIDDLES["norm, relu"], _config(), _config(), padding=1)
    x = torch.randn(2, 3, 8, 8)
    folded, _ = _fold(model, x)
    again, report = _fold(folded, x)
    assert torch.equal(folded(x), again(x)) and report.identical
    assert report.integer_share == 1.0


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(14)
    kwargs = {"in_channels": 1, "width": 4, "image_size": 8}
    model = _random_resnet9(**kwargs)
    wide = _config(codebook_width=8)
    replace_module(model.residual1.body[1], "0", HalutConv2d(8, 8, 1, bias=False, config=wide))
    model.eval()
    before, after, report = (tmp_path / name for name in ("net.pt", "folded.pt", "report.json"))
    data = {"input_shape": [1, 8, 8]}
    save_network(before, model, {"name": "resnet9", "kwargs": kwargs}, data)
    arguments = ["fold", str(before), "-o", str(after), "--report", str(report)]
    assert run(main, [*arguments, "--prune", "--keep-norms", "--bits", "16"]) == 0
    printed = capsys.readouterr().out
    assert "int16" in printed and printed.splitlines()[-1] == f"wrote {after}, {report}"
    facts = json.loads(report.read_text())
    assert facts["prune"]["table_bytes"] > 0 and facts["fold"]["integer_share"] > 0.3
    loaded, header = load_network(after)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(loaded(x), model(x)) and header["data"] == data
    assert run(main, [*arguments, "--bits", "17"]) == 2
    assert "--bits must be in [2, 16], not 17" in capsys.readouterr().err


def test_what_cannot_be_folded_at_all() -> None:
    with pytest.raises(HalutError, match="at least one Halut layer"):
        fold_(nn.Linear(2, 2).eval(), torch.zeros(1, 2))
    model = nn.Sequential(HalutLinear(8, 8, config=_config()))
    with pytest.raises(HalutError, match=r"eval mode, not in training mode"):
        fold_(model.train(), torch.zeros(1, 8))

    with pytest.raises(HalutError, match=r"least_bits must be in \[2, 16\], not 17"):
        fold_(model.eval(), torch.zeros(1, 8), least_bits=17)

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(HalutError, match=r"that torch\.fx can trace, not Branches"):
        fold_(Branches().eval(), torch.zeros(1, 8))
