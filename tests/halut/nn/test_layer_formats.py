"""Half-float tables, narrow accumulators, the output stage in layers: the golden model's bits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut import golden  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from halut.nn.layers import HalutLayer  # noqa: E402
from halut.nn.network import (  # noqa: E402
    check_exact,
    export_network,
    load_network,
    save_network,
)
from halut.nn.quantize import byte_outputs, half_outputs, wrapped  # noqa: E402
from halut.output import OutputStage  # noqa: E402
from halut.program import Program  # noqa: E402
from rtl_gen.reference import result_words  # noqa: E402
from rtl_gen.tiled_config import config_from_dict  # noqa: E402

HALF: dict[str, Any] = {"lut_format": "fp16", "lut_bits": 16}
SUMS: dict[str, dict[str, Any]] = {
    "exact": {},
    "wide": {"lut_bits": 16},
    "half_q1": HALF,
    "half_q3": {**HALF, "parallel_codebooks": 3},
    "half_q12": {**HALF, "parallel_codebooks": 12},
    "half_q6_units3": {**HALF, "parallel_codebooks": 6, "codebook_tiles": 3},
    "half_q4_units4": {**HALF, "parallel_codebooks": 4, "codebook_tiles": 4},
    "half_q5": {**HALF, "parallel_codebooks": 5},
    "half_q4_units2_loads": {
        **HALF,
        "parallel_codebooks": 4,
        "codebook_tiles": 2,
        "codebooks_per_load": 8,
    },
    "saturate_q1": {"overflow": "saturate", "acc_bits": 9},
    "saturate_q4": {"overflow": "saturate", "acc_bits": 9, "parallel_codebooks": 4},
    "saturate_q12": {"overflow": "saturate", "acc_bits": 10, "parallel_codebooks": 12},
    "wrap": {"overflow": "wrap", "acc_bits": 9, "parallel_codebooks": 4},
}
STAGES: dict[str, dict[str, Any]] = {
    f"{name}{'_relu' if relu else ''}": {"output_format": name, "relu": relu}
    for name in ("raw", "fp16", "int8") for relu in (False, True)
}  # fmt: skip


def bits_of(values: Any) -> np.ndarray:
    return result_words(np.ascontiguousarray(values))


def check_against_golden(layer: HalutLayer, x: torch.Tensor) -> np.ndarray:
    """Sums, results and output of a layer have the golden model's bits; return the results."""
    layer.eval()  # the range of 8-bit words stays
    with torch.no_grad():
        rows, sums, results, output = (
            layer.rows(x), layer.accumulators(x), layer.results(x), layer(x)
        )  # fmt: skip
        assert layer.exact
        assert np.array_equal(bits_of(layer.finish(results, x).numpy()), bits_of(output.numpy()))
    for group, program in enumerate(layer.programs()):
        words = program.input_words(rows[group].numpy())
        for found, wanted in (
            (sums[group], golden.matmul(program, words, layer.accumulation)),
            (results[group], golden.results(program, words, layer.accumulation)),
        ):
            assert found.numpy().dtype == wanted.dtype and wanted.size
            assert np.array_equal(bits_of(found.numpy()), bits_of(wanted))
        assert (program.output_format, program.relu) == (
            layer.config.output_format, layer.config.relu
        )  # fmt: skip
        if layer.config.output_format == "raw" or layer.config.lut_format == "fp16":
            wanted = wanted.astype(np.int32 if wanted.dtype.kind == "i" else np.float32)
            values = golden.dequantize(program, wanted)
            by_row = output.detach().reshape(len(x), layer.groups, layer.n_outputs, -1)
            by_row = by_row[:, group].permute(0, 2, 1).reshape(-1, layer.n_outputs)
            assert np.array_equal(bits_of(values), bits_of(by_row.numpy()))
    return results.numpy()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("input_format", ["fp16", "int8"])
def test_the_golden_models_bits(input_format: str, sums: str, stage: str) -> None:
    if sums.startswith("half") and stage.startswith("int8"):
        with pytest.raises(HalutError, match="output_format must be raw or fp16 for lut_"):
            LayerConfig(**SUMS[sums], **STAGES[stage])
        return
    if sums.endswith("loads") and stage != "raw":
        with pytest.raises(HalutError, match="codebooks_per_load must be at least 12 for output"):
            HalutLinear(36, 7, config=LayerConfig(codebook_width=3, **SUMS[sums], **STAGES[stage]))
        return
    torch.manual_seed(0)
    config = LayerConfig(
        input_format=input_format, codebook_width=3, n_prototypes=8, refine_passes=0,
        max_rows=200, ridge=1.0, **SUMS[sums], **STAGES[stage],
    )  # fmt: skip
    linear, x = nn.Linear(36, 7), torch.randn(300, 36)
    layer = HalutLinear.from_module(linear, x, config)
    unseen = 2 * torch.randn(40, 36)
    unseen[0] = 1e6
    unseen[1] = -0.0
    unseen[2] = 3e-8
    if input_format != "int8":
        unseen[3, ::2] = torch.nan
        unseen[4] = torch.inf
        unseen[5] = -torch.inf
    layer.eval()
    if config.output_format == "int8":
        exact = linear(x).relu() if config.relu else linear(x)
        if not config.overflow:
            assert (layer(x) - exact).square().mean() < 0.5 * exact.var()
        layer.output_range.mul_(0.4)  # words saturate
    results = check_against_golden(layer, unseen)
    assert len(np.unique(results)) > 20
    if config.output_format == "int8":
        assert results.min() == -128 and results.max() == 127


@pytest.mark.parametrize("stage", ["raw_relu", "fp16", "fp16_relu", "int8_relu"])
@pytest.mark.parametrize("sums", ["half_q3", "saturate_q4", "wide"])
def test_groups_and_positions(sums: str, stage: str) -> None:
    formats = {**SUMS[sums], **STAGES[stage]}
    if sums == "half_q3":
        formats["output_format"] = "raw"
    torch.manual_seed(1)
    conv, x = nn.Conv2d(24, 6, 3, groups=2, padding=1), torch.randn(4, 24, 5, 6)
    config = LayerConfig(input_format="int8", n_prototypes=8, refine_passes=0, ridge=1.0, **formats)
    layer = HalutConv2d.from_module(conv, x, config)
    assert (layer.groups, layer.n_codebooks) == (2, 12)
    check_against_golden(layer, torch.randn(2, 24, 5, 6))


@pytest.mark.parametrize(("parallel", "tiles"), [(1, 1), (2, 1), (5, 1), (10, 1), (10, 2), (5, 5)])
@pytest.mark.parametrize("relu", [False, True])
def test_special_table_entries(parallel: int, tiles: int, relu: bool) -> None:
    """Subnormals, zeros of both signs, infinities, NaN, sizes that round: all in one table."""
    rng = np.random.default_rng(parallel)
    program = golden.random_program(rng, 10, 4, 6, "fp16", 16, lut_format="fp16", corner=True)
    config = LayerConfig(
        n_prototypes=4, codebook_width=2, input_format="fp16", relu=relu,
        parallel_codebooks=parallel, codebook_tiles=tiles, **HALF,
    )  # fmt: skip
    layer = HalutLinear(20, 6, config=config)
    with torch.no_grad():
        layer.lut.copy_(torch.from_numpy(program.lut.astype(np.float32)))
        layer.bias.fill_(-0.0)
    x = torch.randn(3000, 20)
    sums = layer.accumulators(x)
    assert sums.isnan().any() and sums.isinf().any() and (sums == 0).any()
    assert (sums[sums != 0].abs() < 2.0**-14).any()
    check_against_golden(layer, x)
    # The order of additions is seen.
    if parallel != 1:
        layer.set_formats(parallel_codebooks=1, codebook_tiles=1)
        assert not np.array_equal(bits_of(layer.accumulators(x).numpy()), bits_of(sums.numpy()))


def test_double_precision() -> None:
    torch.manual_seed(2)
    x = torch.randn(200, 24, dtype=torch.float64)
    for formats in (SUMS["half_q3"], {**SUMS["saturate_q4"], **STAGES["int8_relu"]},
                    STAGES["fp16"]):  # fmt: skip
        config = LayerConfig(
            input_format="fp16", codebook_width=2, n_prototypes=4, refine_passes=0, **formats
        )
        layer = HalutLinear.from_module(nn.Linear(24, 5).double(), x, config).double().eval()
        (program,) = layer.programs()
        wanted = golden.results(program, program.input_words(x.numpy()), layer.accumulation)
        assert np.array_equal(bits_of(layer.results(x)[0].numpy()), bits_of(wanted))
        assert layer(x).dtype == torch.float64


@pytest.mark.parametrize("relu", [False, True])
def test_output_stage_constants_at_their_corners(relu: bool) -> None:
    """Cancellation, ties, subnormals, overflow: as `OutputStage` does it."""
    rng = np.random.default_rng(int(relu))
    for _ in range(20):
        program = golden.random_program(
            rng, 16, 4, 64, "int8", 16, corner=True, output_format="fp16", relu=relu
        )
        stage = program.output
        sums = golden.matmul(program, golden.random_words(rng, program, 50))
        found = half_outputs(
            torch.from_numpy(sums.T.copy()).float().view(1, 1, 64, -1),
            torch.tensor(stage.constants["scale"])[None],
            torch.tensor(stage.constants["offset"])[None],
            relu,
        )
        assert np.array_equal(
            bits_of(found[0, 0].half().numpy()), bits_of(stage.apply(sums).T.copy())
        )


def test_by_hand() -> None:
    sums = torch.tensor([[[[-130.0, -1, 0, 1, 2, 200]]]])
    one, half = torch.ones(1, 1), torch.full((1, 1), 0.5)
    # 0.5 and 1.5 are ties: halves of integers round up in the 8-bit words.
    words, inside = byte_outputs(sums, half, half, torch.tensor([1.0, 0.0]), False)
    assert words.flatten().tolist() == [-64, 0, 1, 1, 2, 101]
    words, inside = byte_outputs(sums, one, -one, torch.tensor([1.0, 0.0]), False)
    assert words.flatten().tolist() == [-128, -2, -1, 0, 1, 127]
    assert inside.flatten().tolist() == [False, True, True, True, True, False]
    words, inside = byte_outputs(sums, one, -one, torch.tensor([1.0, 0.0]), True)
    assert words.flatten().tolist() == [0, 0, 0, 0, 1, 127]
    assert inside.flatten().tolist() == [False, False, False, False, True, False]
    halves = half_outputs(sums, half, torch.full((1, 1), 2.0**-12), True)
    assert halves.flatten().tolist() == [0, 0, 2.0**-12, 0.5, 1, 100]
    assert wrapped(sums, 8).flatten().tolist() == [126, -1, 0, 1, 2, -56]


@pytest.mark.parametrize("formats", [
    SUMS["half_q3"], SUMS["saturate_q4"], SUMS["wrap"], STAGES["raw_relu"], STAGES["fp16_relu"],
    STAGES["int8"], STAGES["int8_relu"], {**HALF, "relu": True},
])  # fmt: skip
def test_gradients(formats: dict[str, Any]) -> None:
    torch.manual_seed(3)
    conv, x = nn.Conv2d(12, 5, 3, padding=1), torch.randn(4, 12, 6, 6)
    config = LayerConfig(input_format="int8", refine_passes=0, ridge=1.0, **formats)
    layer = HalutConv2d.from_module(conv, x, config).train()
    x.requires_grad_()
    layer(x).square().sum().backward()
    for name, tensor in {"x": x, **dict(layer.named_parameters())}.items():
        if tensor.requires_grad:
            assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), name
            assert tensor.grad.abs().max() > 0, name
    # Near those of the same layer without the formats, but for ReLU and overflow.
    if not config.overflow and config.output_format != "raw" and not config.relu:
        found = layer.lut.grad.clone()
        layer.set_formats(output_format="raw")
        layer.zero_grad()
        layer(x).square().sum().backward()
        assert nn.functional.cosine_similarity(found.ravel(), layer.lut.grad.ravel(), dim=0) > 0.95


def test_relu_stops_gradients() -> None:
    torch.manual_seed(4)
    for output_format in ("fp16", "int8"):
        config = LayerConfig(input_format="int8", relu=True, output_format=output_format)
        layer = HalutLinear.from_module(nn.Linear(16, 4), torch.randn(100, 16), config)
        with torch.no_grad():
            layer.bias[1] -= 1000  # never above zero
        layer(torch.randn(50, 16)).sum().backward()
        assert layer.bias.grad[1] == 0 and (layer.bias.grad[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize("formats", [SUMS["half_q3"], STAGES["fp16_relu"], STAGES["int8_relu"]])
def test_training_lowers_the_error(formats: dict[str, Any]) -> None:
    torch.manual_seed(5)
    x = torch.randn(1000, 24) @ torch.randn(24, 24)
    wanted = nn.Linear(24, 8)(x).detach().relu()
    layer = HalutLinear(24, 8, config=LayerConfig(
        input_format="int8", codebook_width=2, **formats))  # fmt: skip
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (layer(x).relu() - wanted).square().mean() / wanted.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    check_against_golden(layer.eval(), x[:100])


def test_the_output_range() -> None:
    torch.manual_seed(6)
    x = torch.randn(200, 16)
    layer = HalutLinear.from_module(nn.Linear(16, 4), x, LayerConfig(input_format="int8")).eval()
    product = layer(x)
    layer.set_formats(output_format="int8")
    with pytest.raises(HalutError, match="output range must be known"):
        layer(x)
    with pytest.raises(HalutError, match=r"output range must be known .* \(layer a\)"):
        check_exact({"a": layer})
    layer.learn_output_range([x[:50], x[50:]])
    assert layer.output_range.tolist() == [product.min().item(), product.max().item()]
    assert (layer(x) - product).abs().max() <= 0.51 * (product.max() - product.min()) / 255
    # In training it follows slowly; in evaluation it stays.
    before = layer.output_range.clone()
    layer.train()
    layer(10 * x)
    assert not torch.equal(layer.output_range, before)
    layer.eval()
    stays = layer.output_range.clone()
    layer(x)
    assert torch.equal(layer.output_range, stays)
    layer.set_formats(output_format="fp16")
    assert layer.output_range is None
    with pytest.raises(HalutError, match='output_format must be "int8" for an output range'):
        layer.learn_output_range(x)


def network() -> nn.Sequential:
    torch.manual_seed(7)
    model = nn.Sequential(
        HalutConv2d(2, 4, 3, config=LayerConfig(
            input_format="int8", parallel_codebooks=2, codebook_tiles=2, relu=True, **HALF)),
        nn.Flatten(),
        HalutLinear(144, 8, config=LayerConfig(
            input_format="int8", output_format="int8", relu=True)),
        HalutLinear(8, 3, config=LayerConfig(
            input_format="int8", codebook_width=2, overflow="saturate", acc_bits=9)),
    )  # fmt: skip
    model(torch.randn(50, 2, 8, 8))  # in training: the range
    return model.eval()


def test_files_keep_the_formats(tmp_path: Path) -> None:
    model, x = network(), torch.randn(5, 2, 8, 8)
    path = save_network(tmp_path / "n.pt", model, None)
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 3))
    loaded, _ = load_network(path, plain)
    assert torch.equal(loaded(x), model(x))
    assert [loaded[k].config for k in (0, 2, 3)] == [model[k].config for k in (0, 2, 3)]
    # A file of version 1 means the same.
    content = torch.load(path, weights_only=True)
    assert content["version"] == 2
    torch.save({**content, "version": 1}, path)
    loaded, _ = load_network(path, plain)
    assert torch.equal(loaded(x), model(x))


def test_export(tmp_path: Path) -> None:
    model = network()
    manifest = export_network(model, tmp_path, torch.randn(1, 2, 8, 8))
    layers = [layer for layer in manifest["layers"] if layer["converted"]]
    facts = [
        [layer[key] for key in ("lut_format", "accumulator_bits", "overflow", "parallel_codebooks",
                                "codebook_tiles", "output_format", "relu")]
        for layer in layers
    ]  # fmt: skip
    assert facts == [
        ["fp16", 32, None, 2, 2, "raw", True],
        ["int", 13, None, 1, 1, "int8", True],
        ["int", 9, "saturate", 1, 1, "raw", False],
    ]
    for layer, entry in zip((model[0], model[2], model[3]), layers, strict=True):
        program = Program.load(tmp_path / entry["programs"][0]["file"])
        assert program == layer.programs()[0]
        config = config_from_dict(entry["accelerator"])
        assert (config.lut_format, config.output_format, config.relu, config.overflow) == (
            program.lut_format, program.output_format, program.relu, layer.config.overflow
        )  # fmt: skip
        assert (config.n_codebooks, config.parallel_codebooks) == (
            program.n_codebooks, layer.config.parallel_codebooks
        )  # fmt: skip


def test_folding_keeps_to_exact_sums() -> None:
    for formats, reason in (
        (HALF, "adds up half floats"),
        ({"overflow": "wrap", "acc_bits": 9}, "has accumulators that overflow"),
        ({"relu": True}, "has an output stage"),
        ({"output_format": "fp16"}, "has an output stage"),
    ):
        torch.manual_seed(8)
        config = LayerConfig(input_format="int8", codebook_width=2, **formats)
        model = nn.Sequential(
            HalutLinear(16, 8, config=config), nn.BatchNorm1d(8), nn.ReLU(),
            HalutLinear(8, 3, config=LayerConfig(input_format="int8", codebook_width=2)),
        ).eval()  # fmt: skip
        x = torch.randn(20, 16)
        before = model(x)
        report = fold_(model, x, norms=False)
        edges = [e for e in report.edges if (e.producer, e.kind) == ("0", "integers")]
        assert len(edges) == 1 and not edges[0].folded and reason in edges[0].reason
        assert torch.equal(model(x), before)
    model[0].set_formats(output_format="raw", relu=True)
    report = fold_(model, x)
    (edge,) = [edge for edge in report.edges if edge.kind == "batch norm"]
    assert not edge.folded and "after an output stage" in edge.reason


def test_torch_compile_gives_the_same_bits() -> None:
    torch.manual_seed(9)
    x = torch.randn(64, 24)
    for formats in ({**HALF, "parallel_codebooks": 4, "relu": True}, SUMS["wrap"],
                    STAGES["fp16_relu"], STAGES["int8_relu"]):  # fmt: skip
        config = LayerConfig(
            input_format="int8", codebook_width=2, n_prototypes=4, refine_passes=0, **formats
        )
        layer = HalutLinear.from_module(nn.Linear(24, 5), x, config).train()
        other = copy.deepcopy(layer)
        torch.compiler.reset()
        compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
        found, wanted = compiled(x), layer(x)
        assert torch.equal(found, wanted)
        found.sin().sum().backward()
        wanted.sin().sum().backward()
        torch.testing.assert_close(other.lut.grad, layer.lut.grad)
        if layer.output_range is not None:
            assert torch.equal(layer.output_range, other.output_range)


def test_custom_operators_keep_torchs_rules() -> None:
    torch.manual_seed(10)
    sums = torch.randint(-50, 50, (2, 1, 3, 4)).float().requires_grad_()
    scale, offset = torch.rand(1, 3) + 0.1, torch.randn(1, 3, requires_grad=True)
    torch.library.opcheck(half_outputs.operator, (sums, scale, offset, True))
    torch.library.opcheck(
        byte_outputs.operator, (sums, scale, offset, torch.tensor([0.2, 0.0]), True)
    )


def test_an_output_stage_alone_is_the_hardwares() -> None:
    """Bytes of a stage made from a layer's own constants: the link to `OutputStage` by hand."""
    sums = np.arange(-600, 600, dtype=np.int32)[:, None]
    stage = OutputStage(format="int8", multiplier=[3], shift=[4], addend=[8 + 16 * 5], zero=[5])
    wanted = np.clip((3 * sums + 88) // 16, -128, 127).astype(np.int8)
    assert np.array_equal(stage.apply(sums), wanted)
    words, _ = byte_outputs(
        torch.from_numpy(sums.T.copy()).float().view(1, 1, 1, -1),
        torch.full((1, 1), 3 / 16), torch.full((1, 1), 5.0), torch.tensor([1.0, 0.0]), False,
    )  # fmt: skip
    assert np.array_equal(words.flatten().numpy(), wanted.ravel())


@pytest.mark.parametrize(("fields", "message"), [
    ({"lut_format": "fp61", "lut_bits": 16}, r'lut_format must be .* \(did you mean "fp16"\?\)'),
    ({"lut_format": "fp16"}, "lut_bits must be 16 for lut_format fp16, not 8"),
    ({**HALF, "overflow": "wrap", "acc_bits": 20}, "overflow must be absent for lut_format fp16"),
    ({"acc_bits": 20}, "acc_bits must be None without overflow, not 20"),
    ({"overflow": "wrap"}, "acc_bits must be given with overflow"),
    ({"overflow": "wrap", "acc_bits": 7}, "acc_bits must be at least 8, not 7"),
    ({"overflow": "warp", "acc_bits": 9}, 'did you mean "wrap"'),
    ({"parallel_codebooks": 0}, "parallel_codebooks must be at least 1, not 0"),
    ({**HALF, "parallel_codebooks": 4, "codebook_tiles": 3},
     "codebook_tiles must divide parallel_codebooks = 4, not be 3"),
    ({"overflow": "wrap", "acc_bits": 9, "parallel_codebooks": 2, "codebook_tiles": 2},
     "codebook_tiles must be 1 with overflow, not 2"),
    ({"codebooks_per_load": 4}, 'codebooks_per_load must be None for lut_format "int", not 4'),
    ({**HALF, "parallel_codebooks": 4, "codebooks_per_load": 6},
     "codebooks_per_load must be a multiple of parallel_codebooks = 4, not 6"),
    ({"output_format": "int4"}, "output_format must be"),
    ({"relu": 1}, "relu must be true or false, not 1"),
    ({"encoder": "centroid", "relu": True}, 'relu must be False for encoder "centroid", not True'),
])  # fmt: skip
def test_bad_configurations(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        LayerConfig(**fields)


def test_formats_that_do_not_fit_the_layer() -> None:
    layer = HalutLinear(32, 4, config=LayerConfig(codebook_width=8))  # C = 4
    with pytest.raises(HalutError, match="acc_bits must be less than the 10 that 4 codebooks need"):
        layer.set_formats(overflow="wrap", acc_bits=10)
    with pytest.raises(HalutError, match=r'not "?\'?lut_bit\'? \(did you mean "lut_bits"'):
        layer.set_formats(lut_bit=4)
    assert layer.config == LayerConfig(codebook_width=8)


def test_dictionaries_have_only_what_is_set() -> None:
    """So that recipes and files without these formats are as they were."""
    assert "relu" not in LayerConfig().to_dict()
    config = LayerConfig(relu=True, output_format="fp16", parallel_codebooks=2)
    assert config.to_dict()["parallel_codebooks"] == 2
    assert LayerConfig.from_dict(config.to_dict()) == config
