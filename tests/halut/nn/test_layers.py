"""Layers: shapes, formats, the hardware's integers, torch's own machinery."""

from __future__ import annotations

import copy
import dataclasses
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut import golden  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig  # noqa: E402
from halut.nn.layers import layer_of, learned_layer  # noqa: E402

FORMATS = ["fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int4", "int8", "int16"]
CONVOLUTIONS = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilation": {"kernel_size": (3, 2), "dilation": (2, 1), "padding": (2, 0)},
    "groups": {"kernel_size": 3, "groups": 2, "padding": "same"},
    "depthwise": {"kernel_size": 3, "groups": 6, "padding": 1, "bias": False},
    "pointwise": {"kernel_size": 1},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "even": {"kernel_size": (2, 4), "padding": "same", "padding_mode": "zeros"},
}


def conv_case(name: str, seed: int = 0) -> tuple[nn.Conv2d, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Conv2d(6, 6, **CONVOLUTIONS[name]), torch.randn(6, 6, 9, 8)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_are_the_convolution(name: str) -> None:
    conv, x = conv_case(name)
    layer = HalutConv2d.from_module(conv, x, LayerConfig(refine_passes=0))
    rows = layer.rows(x).double()  # (G, N, D)
    weight = conv.weight.double().reshape(layer.groups, layer.n_outputs, -1)
    exact = torch.einsum("gnd,gmd->gnm", rows, weight)
    if conv.bias is not None:
        exact = exact + conv.bias.double().view(layer.groups, 1, -1)
    wanted = conv.double()(x.double())
    found = exact.unflatten(1, (len(x), -1)).permute(1, 0, 3, 2).reshape(wanted.shape)
    torch.testing.assert_close(found, wanted)
    assert layer(x).shape == wanted.shape


@pytest.mark.parametrize("layout", ["im2col", "kn2col"])
@pytest.mark.parametrize("name", ["plain", "groups", "pointwise"])
def test_a_codebook_stays_inside_its_features(layout: str, name: str) -> None:
    conv, x = conv_case(name)
    layer = HalutConv2d.from_module(conv, x, LayerConfig(layout=layout, codebook_width=3))
    area = conv.kernel_size[0] ** 2
    channels = 6 // conv.groups
    for c in range(layer.n_codebooks):
        dims = layer.split_dims[:, c]
        order = dims if layout == "im2col" else dims % area * channels + dims // area
        assert (order // 3 == c).all()


@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize("name", ["plain", "stride", "groups"])
@pytest.mark.parametrize("granularity", ["column", "table"])
def test_convolution_is_the_golden_model(input_format: str, name: str, granularity: str) -> None:
    conv, x = conv_case(name)
    config = LayerConfig(
        input_format=input_format, lut_bits=5, lut_granularity=granularity, refine_passes=0
    )
    layer = HalutConv2d.from_module(conv, x, config)
    unseen = 3 * torch.randn(2, 6, 7, 7)
    check_against_golden(layer, unseen)


@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize("n_prototypes", [2, 16, 64])
@pytest.mark.parametrize("input_granularity", ["codebook", "dimension", "all"])
def test_linear_is_the_golden_model(
    input_format: str, n_prototypes: int, input_granularity: str
) -> None:
    torch.manual_seed(1)
    config = LayerConfig(
        input_format=input_format,
        input_granularity=input_granularity,
        n_prototypes=n_prototypes,
        codebook_width=5,
        refine_passes=0,
    )
    layer = HalutLinear.from_module(nn.Linear(23, 9), torch.randn(600, 23), config)
    x = torch.randn(4, 5, 23)
    # Values on thresholds, and what a half float cannot hold.
    x[0, 0, layer.split_dims[0, 0, 0]] = layer.thresholds[0, 0, 0]
    x[0, 1] = 1e6
    x[0, 2] = -0.0
    check_against_golden(layer, x)


def test_wide_tables_are_summed_exactly() -> None:
    torch.manual_seed(1)
    config = LayerConfig(input_format="int8", lut_bits=16, codebook_width=1, refine_passes=0)
    layer = HalutLinear(1024, 2, config=config)
    with torch.no_grad():
        layer.lut.copy_(torch.rand_like(layer.lut) + 1)
        layer.lut[:, :, :, 0] = -4.0
        layer.lut[:, :, :, 3] = 4.0
    x = torch.randn(40, 1024)
    check_against_golden(layer, x)
    assert layer.accumulators(x).abs().max() < 2**26
    assert 16 + 10 > 24


def check_against_golden(layer: HalutConv2d | HalutLinear, x: torch.Tensor) -> None:
    """Integers and outputs of a layer equal the golden model's, bit for bit."""
    with torch.no_grad():
        rows, found = layer.rows(x), layer.accumulators(x)
        programs = layer.programs()
        assert len(programs) == layer.groups
        codes = layer.codes(x)
        values = []
        for group, program in enumerate(programs):
            words = program.input_words(rows[group].numpy())
            assert np.array_equal(codes[group].numpy(), golden.encode(program, words))
            wanted = golden.matmul(program, words)
            assert wanted.size and np.array_equal(found[group].numpy(), wanted)
            values.append(torch.from_numpy(golden.dequantize(program, wanted)))
        output = layer(x)
        assert torch.equal(layer.finish(found, x), output)
        assert layer.exact
        values = torch.stack(values)  # (G, N, M)
        if isinstance(layer, HalutConv2d):
            values = values.unflatten(1, (len(x), -1)).permute(1, 0, 3, 2).reshape(output.shape)
        assert torch.equal(values.reshape(output.shape), output)


def test_a_changed_table_is_seen() -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(input_format="int8"))
    program, rows = layer.programs()[0], layer.rows(x)[0].numpy()
    before = layer.accumulators(x)
    entry = int(golden.encode(program, program.input_words(rows))[0, 0])
    with torch.no_grad():
        layer.lut[0, 0, 0, entry] += (layer.lut[0, 0].amax() - layer.lut[0, 0].amin()) / 20
    assert not torch.equal(layer.accumulators(x), before)


@pytest.mark.parametrize("encoder", ["tree", "centroid"])
def test_replaces_a_layer_well(encoder: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3000, 6) @ torch.randn(6, 32)
    linear = nn.Linear(32, 10)
    layer = HalutLinear.from_module(linear, x[:2000], LayerConfig(encoder=encoder))
    exact, found = linear(x[2000:]), layer(x[2000:])
    error = (exact - found).square().sum() / (exact - exact.mean(dim=0)).square().sum()
    assert error < (0.1 if encoder == "tree" else 0.16)  # k-means explains the inputs only


@pytest.mark.parametrize("config", [
    LayerConfig(lut_bits=None),
    LayerConfig(),
    LayerConfig(input_format="int8"),
    LayerConfig(input_format="fp16", lut_granularity="table"),
    LayerConfig(encoder="centroid", codebook_width=9),
], ids=["float", "int8 tables", "int8", "fp16", "centroid"])  # fmt: skip
def test_everything_gets_a_gradient(config: LayerConfig) -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, config)
    layer.temperature.requires_grad_()
    x.requires_grad_()
    layer(x).square().sum().backward()
    grown = {"x": x, **dict(layer.named_parameters())}
    assert {"lut", "bias", "temperature"} < set(grown)
    for name, tensor in grown.items():
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), name
        assert tensor.grad.abs().max() > 0, name


def test_quantised_gradients_are_near_the_float_ones() -> None:
    conv, x = conv_case("plain")
    gradients = []
    for input_format, lut_bits in ((None, None), ("int16", 16)):
        layer = HalutConv2d.from_module(
            conv, x, LayerConfig(input_format=input_format, lut_bits=lut_bits)
        )
        value = x.clone().requires_grad_()
        layer(value).sin().sum().backward()
        gradients.append([value.grad, layer.thresholds.grad, layer.lut.grad])
    for one, other in zip(*gradients, strict=True):
        cosine = nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert cosine > 0.99


def test_training_lowers_the_error() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 24) @ torch.randn(24, 24)
    wanted = nn.Linear(24, 8)(x).detach()
    layer = HalutLinear(24, 8, config=LayerConfig(input_format="int8"))
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    errors = []
    for _ in range(60):
        loss = (layer(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("kind", ["linear", "conv2d"])
def test_state_dict_and_copies(kind: str) -> None:
    config = LayerConfig(input_format="int8")
    if kind == "linear":
        layer = HalutLinear.from_module(nn.Linear(20, 6), torch.randn(300, 20), config)
        x = torch.randn(5, 20)
    else:
        conv, x = conv_case("groups")
        layer = HalutConv2d.from_module(conv, x, config)
    geometry = layer.geometry()
    assert geometry.pop("kind") == kind
    fresh = type(layer)(**geometry, config=LayerConfig.from_dict(config.to_dict()))
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    assert not torch.equal(fresh(x), layer(x))
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for twin in (fresh, copy.deepcopy(layer)):
        assert torch.equal(twin(x), layer(x))
        assert twin.programs() == layer.programs()


STATES: dict[str, tuple[HalutConv2d | HalutLinear, dict[str, tuple[int, ...]]]] = {
    "tree": (
        HalutConv2d(4, 6, 3, groups=2),
        {
            "thresholds": (2, 2, 15),
            "lut": (2, 3, 2, 16),
            "bias": (6,),
            "temperature": (),
            "split_dims": (2, 2, 4),
        },
    ),
    "centroid": (
        HalutLinear(8, 3, config=LayerConfig(encoder="centroid", n_prototypes=4)),
        {
            "centroids": (1, 1, 4, 8),
            "lut": (1, 3, 1, 4),
            "bias": (3,),
            "temperature": (),
            "split_dims": (1, 1, 8),
        },
    ),
    "bytes": (
        HalutLinear(8, 3, config=LayerConfig(input_format="int8", output_format="int8")),
        {
            "thresholds": (1, 1, 15),
            "lut": (1, 3, 1, 16),
            "bias": (3,),
            "temperature": (),
            "split_dims": (1, 1, 4),
            "output_range": (2,),
        },
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_files_of_earlier_versions_fit(name: str) -> None:
    """Names and shapes in a state dict; files that were written with them must go on loading."""
    layer, wanted = STATES[name]
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == wanted
    layer.load_state_dict({key: torch.zeros(shape) for key, shape in wanted.items()})


def test_integer_inputs_come_back_from_a_state_dict() -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(input_format="int8"))
    words = torch.randint(-500, 500, layer.thresholds.shape)
    layer.use_integer_inputs(words, 12)
    layer.pad_value = torch.arange(6.0)
    layer.raw_output = True
    fresh = HalutConv2d(**{k: v for k, v in layer.geometry().items() if k != "kind"},
                        config=layer.config)  # fmt: skip
    fresh.load_state_dict(layer.state_dict())
    fresh.use_integer_inputs(fresh.threshold_words, 12)
    x = torch.randint(-600, 600, x.shape).float()
    program, rows = layer.programs()[0], layer.rows(x)[0].numpy()
    assert program.input_format == "int12" and rows.min() < -500
    wanted = golden.matmul(program, program.input_words(rows))
    assert np.array_equal(layer.accumulators(x)[0].numpy(), wanted)
    assert torch.equal(fresh.accumulators(x), layer.accumulators(x))
    assert torch.equal(layer(x).permute(0, 2, 3, 1).reshape(-1, 6).int(), layer.accumulators(x)[0])


def test_autocast_gives_its_dtype_and_the_same_codes() -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(input_format="int8"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
        codes = layer.codes(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(codes, layer.codes(x))
    assert torch.equal(found, layer(x).bfloat16())
    half = layer.to(torch.bfloat16)
    value = x.bfloat16().requires_grad_()
    output = half(value)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert value.grad.dtype == torch.bfloat16


def test_double_precision() -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(lut_bits=None)).double()
    x = x.double().requires_grad_()
    output = layer(x)
    output.sum().backward()
    assert output.dtype == x.grad.dtype == torch.float64


def check_compiled(backend: str, input_format: str | None) -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(input_format=input_format))
    torch.compiler.reset()  # graphs of one `forward` are counted, over all tests of a process
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    assert torch.equal(compiled(x), layer(x))
    gradients = []
    for model in (layer, compiled):
        layer.zero_grad()
        model(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()
                          if parameter.requires_grad])  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("input_format", ["fp16", "int8", None])
def test_torch_compile_traces_the_whole_layer(input_format: str | None) -> None:
    check_compiled("aot_eager", input_format)


@pytest.mark.slow
@pytest.mark.parametrize("input_format", ["fp16", "int8"])
def test_torch_compile_gives_the_same_bits(input_format: str) -> None:
    check_compiled("inductor", input_format)


def test_an_executor_takes_the_place_of_the_layer() -> None:
    conv, x = conv_case("plain")
    layer = HalutConv2d.from_module(conv, x, LayerConfig(input_format="int8"))
    wanted = layer(x)
    seen = []

    def executor(which: HalutConv2d, value: torch.Tensor) -> torch.Tensor:
        seen.append(which)
        return which.accumulators(value)

    layer.executor = executor
    assert torch.equal(layer(x), wanted) and seen == [layer]


BYTES = HalutLinear(8, 2, config=LayerConfig(output_format="int8"))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: LayerConfig(n_prototypes=12), "power of two"),
    (lambda: LayerConfig(lut_bits=1), "lut_bits must be at least 2, not 1"),
    (lambda: LayerConfig(lut_bits=17), "lut_bits must be at most 16, not 17"),
    (lambda: LayerConfig(encoder="tre"), r'did you mean "tree"'),
    (lambda: LayerConfig(encoder="centroid", input_format="int8"), "input_format must be None"),
    (lambda: LayerConfig(temperature=0), "temperature must be greater than 0"),
    (lambda: LayerConfig(ridge=-1.0), "ridge must be"),
    (lambda: LayerConfig.from_dict({"lut_bit": 8}), r'did you mean "lut_bits"'),
    (lambda: HalutConv2d(4, 6, 3, groups=3), "groups must divide"),
    (lambda: HalutLinear(11, 2, config=LayerConfig(encoder="centroid", codebook_width=4)),
     "codebook_width must divide the 11 features"),
    (lambda: HalutLinear(8, 2)(torch.randn(3, 7)), r"shape \(..., 8\), not \(3, 7\)"),
    (lambda: HalutConv2d(8, 2, 3)(torch.randn(3, 8, 2, 2)), "as large as the kernel"),
    (lambda: HalutConv2d(8, 2, 3)(torch.randn(3, 7, 5, 5)), r"\(any, 8, height, width\)"),
    (lambda: HalutLinear(8, 2).accumulators(torch.randn(3, 8)), "input_format must be set"),
    (lambda: HalutLinear(8, 2, config=LayerConfig(encoder="centroid")).programs(),
     'encoder must be "tree", "sums", "window" or "node" for hardware'),
    (lambda: HalutLinear.from_module(nn.Linear(8, 2), torch.randn(20, 8)),
     "at least 64 rows .4 x 16 prototypes., not 20"),
    (lambda: HalutLinear.from_module(nn.Linear(8, 2), torch.full((99, 8), torch.nan)),
     "must be finite"),
    (lambda: HalutLinear.from_module(nn.Linear(8, 2), []), "at least 64 rows .*, not 0"),
    (lambda: HalutLinear.from_module(nn.Linear(8, 2), np.zeros((99, 8))),
     "calibration inputs must be tensors of a floating dtype, not ndarray"),
    (lambda: HalutLinear.from_module(nn.Linear(8, 2), torch.zeros(99, 8, dtype=torch.int64)),
     "calibration inputs must be tensors of a floating dtype, not torch.int64"),
    (lambda: HalutLinear.from_module(nn.Conv2d(8, 2, 1), torch.zeros(99, 8)),
     "module must be an nn.Linear, not Conv2d"),
    (lambda: HalutConv2d.from_module(nn.Linear(8, 2), torch.zeros(99, 8)),
     "module must be an nn.Conv2d, not Linear"),
    (lambda: HalutLinear(8, 2, config={"lut_bits": 8}), "config must be a LayerConfig, not dict"),
    (lambda: HalutLinear(0, 2), "in_features must be at least 1, not 0"),
    (lambda: HalutLinear(4.5, 2), "in_features must be an integer, not 4.5"),
    (lambda: HalutLinear(8, 0), "out_features must be at least 1, not 0"),
    (lambda: HalutLinear(8, 2, n_codebooks=0), "n_codebooks must be at least 1, not 0"),
    (lambda: HalutLinear(8, 2, n_codebooks=9), r"n_codebooks must be in \[1, 8\], not 9"),
    (lambda: HalutConv2d(0, 6, 3), "in_channels must be at least 1, not 0"),
    (lambda: HalutConv2d(4, 6, 3, groups=0), "groups must be at least 1, not 0"),
    (lambda: HalutConv2d(4, 6, 0), "kernel_size must be at least 1, not 0"),
    (lambda: HalutConv2d(4, 6, (3,)), r"kernel_size must be one number or two, not \(3,\)"),
    (lambda: HalutConv2d(4, 6, 3, stride=(1, 0)), "stride must be at least 1, not 0"),
    (lambda: HalutConv2d(4, 6, 3, padding=-1), "padding must be at least 0, not -1"),
    (lambda: HalutConv2d(4, 6, 3, padding="sam"), r'padding must be .* \(did you mean "same"\?\)'),
    (lambda: HalutConv2d(4, 6, 3, 2, padding="same"), 'stride must be 1 for padding "same"'),
    (lambda: HalutConv2d(4, 6, 3, padding_mode="zero"), r'\(did you mean "zeros"\?\)'),
    (lambda: HalutLinear(8, 2)("x"), "input must be a tensor, not str"),
    (lambda: HalutLinear(8, 2)(torch.ones(3, 8, dtype=torch.int64)),
     "input must be of a floating dtype, not torch.int64"),
    (lambda: HalutLinear(8, 2).finish(torch.zeros(1, 3, 4), torch.zeros(3, 8)),
     r"results must be a tensor of shape \(1, any, 2\), not \(1, 3, 4\)"),
    (lambda: BYTES.learn_output_range([]), "at least one row, not 0"),
    (lambda: BYTES.learn_output_range(torch.zeros(0, 8)), "at least one row, not 0"),
    (lambda: BYTES.use_integer_inputs(torch.full((1, 1, 15), 8), 4),
     r"threshold_words must be in \[-8, 7\]"),
    (lambda: HalutLinear(8, 2, config=LayerConfig(encoder="centroid")).use_integer_inputs(
        torch.zeros(1, 1, 15), 4), 'encoder must be "tree"'),
    (lambda: learned_layer(nn.ReLU(), torch.zeros(99, 8), LayerConfig()),
     "module must be an nn.Linear or nn.Conv2d, not ReLU"),
    (lambda: layer_of({}), "geometry and config of a layer must be whole: 'geometry'"),
    (lambda: layer_of({"geometry": {"kind": "linear", "colour": 1}, "config": {}}), "whole"),
])  # fmt: skip
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        make()


@pytest.mark.parametrize("kind", ["linear", "conv", "grouped"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "formats",
    [
        {},
        {"lut_bits": None},
        {"input_format": "int8"},
        {"input_format": "fp16", "lut_bits": 16, "lut_format": "fp16", "output_format": "fp16"},
        {"input_format": "int8", "output_format": "int8", "relu": True},
        {"input_format": "int8", "acc_bits": 8, "overflow": "saturate"},
        {"encoder": "centroid"},
    ],
    ids=str,
)
def test_an_empty_batch(kind: str, training: bool, formats: dict) -> None:
    torch.manual_seed(0)
    config = LayerConfig(n_prototypes=4, refine_passes=0, **formats)
    x = torch.randn(20, 4, 6, 6)
    module: nn.Module
    layer: HalutConv2d | HalutLinear
    if kind == "linear":
        config = dataclasses.replace(config, codebook_width=3)
        module, x = nn.Linear(6, 8), x.flatten(0, 2)
        layer = HalutLinear.from_module(module, x, config)
    else:
        module = nn.Conv2d(4, 8, 3, padding=1, groups=2 if kind == "grouped" else 1)
        layer = HalutConv2d.from_module(module, x, config)
    layer.train(training)
    before = copy.deepcopy(layer.state_dict())
    empty = x[:0].clone().requires_grad_()
    found = layer(empty)
    assert found.shape == module(x[:0]).shape
    found.sum().backward()
    assert empty.grad is not None and empty.grad.shape == empty.shape
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])  # the range of bytes among them
    if layer.exact:
        assert layer.results(x[:0]).shape == (layer.groups, 0, layer.n_outputs)
        assert layer.finish(layer.results(x[:0]), x[:0]).shape == found.shape


@pytest.mark.parametrize("formats", [{"input_format": "int8"}, {"input_format": "fp16"}], ids=str)
def test_one_outlier_does_not_spoil_a_layer(formats: dict) -> None:
    torch.manual_seed(0)
    x, module = torch.randn(600, 8), nn.Linear(8, 3)
    spoilt = x.clone()
    spoilt[0, 0] = 1e4
    layer = HalutLinear.from_module(module, spoilt, LayerConfig(codebook_width=2, **formats))
    floats = HalutLinear.from_module(module, x, LayerConfig(codebook_width=2, lut_bits=None))
    exact = module(x)
    with torch.no_grad():
        wanted, found = (float((part(x) - exact).square().sum()) for part in (floats, layer))
    assert found < 1.5 * wanted


def test_values_beyond_a_format_are_reported(caplog) -> None:
    x = 1e6 * torch.randn(200, 8)
    HalutLinear.from_module(nn.Linear(8, 3), x, LayerConfig(input_format="fp16"))
    assert "calibration values" in caplog.records[0].getMessage()
