"""The network file and the export: what comes back is what went in, and nothing else is taken."""

from __future__ import annotations

import copy
import dataclasses
import errno
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

from halut import golden  # noqa: E402
from halut.__main__ import main  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import (  # noqa: E402
    HalutConv2d,
    HalutLinear,
    HalutMultiheadAttention,
    LayerConfig,
    convert_,
    fused,
    handlers,
)
from halut.nn.models import build  # noqa: E402
from halut.nn.network import (  # noqa: E402
    MANIFEST,
    example_input,
    export_network,
    halut_layers,
    load_data,
    load_network,
    save_network,
)
from halut.program import Program  # noqa: E402
from halut.workloads import read_manifest  # noqa: E402
from rtl_gen.config import AcceleratorConfig  # noqa: E402

ARCHITECTURE = {"name": "resnet9", "kwargs": {"in_channels": 1, "width": 4, "image_size": 8}}
DATA = {"name": "digits", "input_shape": [1, 8, 8], "n_test": 20}
EXACT = LayerConfig(lut_bits=8, input_format="int8")


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def network(config: LayerConfig = EXACT, seed: int = 0) -> nn.Module:
    """A ResNet-9 with three layers replaced by random ones, running statistics included."""
    torch.manual_seed(seed)
    model = build(ARCHITECTURE["name"], **ARCHITECTURE["kwargs"])
    put(model, "layer1.0", HalutConv2d(4, 8, 3, padding=1, bias=False, config=config))
    put(model, "residual1.body.1.0", HalutConv2d(8, 8, 3, padding=1, bias=False, config=config))
    put(model, "classifier", HalutLinear(32, 10, config=config))
    model.train()
    with torch.no_grad():
        model(torch.randn(16, 1, 8, 8))
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_network(tmp_path / "n.pt", network(), ARCHITECTURE, DATA)


def assert_same(one: nn.Module, other: nn.Module, x: torch.Tensor) -> None:
    state = one.state_dict()
    assert state.keys() == other.state_dict().keys()
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]), name
    with torch.no_grad():
        assert torch.equal(one(x), other(x))


@pytest.mark.parametrize(
    "config",
    [
        EXACT,
        LayerConfig(lut_bits=None),
        LayerConfig(n_prototypes=8, lut_bits=4, input_format="fp16", codebook_width=6),
        LayerConfig(layout="kn2col", codebook_width=4, lut_granularity="table"),
        LayerConfig(encoder="centroid", codebook_width=4),
    ],
    ids=["int8", "float", "fp16", "kn2col", "centroid"],
)
def test_round_trip(config: LayerConfig, tmp_path: Path) -> None:
    model = network(config)
    path = save_network(tmp_path / "n.pt", model, ARCHITECTURE, DATA)
    loaded, header = load_network(path)
    assert not loaded.training
    assert_same(model, loaded, torch.randn(5, 1, 8, 8))
    assert header["architecture"] == ARCHITECTURE and header["data"] == DATA
    for name, layer in halut_layers(model).items():
        assert loaded.get_submodule(name).config == layer.config == config
        assert loaded.get_submodule(name).geometry() == layer.geometry()


def test_a_compiled_network_is_what_was_compiled(tmp_path: Path) -> None:
    model = network()
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    x = torch.randn(5, 1, 8, 8)
    loaded, _ = load_network(save_network(tmp_path / "n.pt", compiled, ARCHITECTURE))
    assert_same(model, loaded, x)
    filled, _ = load_network(tmp_path / "n.pt", torch.compile(network(seed=1), backend="eager"))
    assert_same(model, filled, x)
    assert export_network(compiled, tmp_path / "a", x) == export_network(model, tmp_path / "b", x)
    assert torch.equal(fused(compiled)(x), model(x))


def test_formats_that_were_changed_are_kept(tmp_path: Path) -> None:
    model = network(LayerConfig(lut_bits=None))
    for layer in halut_layers(model).values():
        layer.set_formats(lut_bits=6, input_format="int10")
    loaded, _ = load_network(save_network(tmp_path / "n.pt", model, ARCHITECTURE))
    assert_same(model, loaded, torch.randn(5, 1, 8, 8))
    assert all(layer.exact for layer in halut_layers(loaded).values())


def test_integer_inputs_and_outputs_are_kept(tmp_path: Path) -> None:
    model = network()
    layer = model.get_submodule("classifier")
    layer.use_integer_inputs(torch.randint(-8, 7, layer.thresholds.shape).int(), 4)
    layer.raw_output = True
    loaded, _ = load_network(save_network(tmp_path / "n.pt", model, ARCHITECTURE))
    assert loaded.get_submodule("classifier").input_format == "int4"
    assert_same(model, loaded, torch.randn(5, 1, 8, 8))


def test_a_folded_network(tmp_path: Path) -> None:
    from halut.nn.fold import fold_

    model = network()
    x = torch.randn(5, 1, 8, 8)
    fold_(model, x)
    assert any(isinstance(module, nn.Identity) for module in model.modules())
    loaded, _ = load_network(save_network(tmp_path / "n.pt", model, ARCHITECTURE))
    assert_same(model, loaded, x)


def test_a_network_that_is_not_converted(tmp_path: Path) -> None:
    model = build(**{"name": "resnet20", "width": 2}).eval()
    architecture = {"name": "resnet20", "kwargs": {"width": 2}}
    loaded, header = load_network(save_network(tmp_path / "n.pt", model, architecture))
    assert_same(model, loaded, torch.randn(2, 3, 32, 32))
    assert header["layers"] == header["data"] == {}


class Attends(nn.Module):
    """A network of the user's own, with attention and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(4, 16, 2, stride=2, groups=2)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.attend(tokens, tokens, tokens, need_weights=False)[0]


def converted_attention() -> Attends:
    torch.manual_seed(3)
    model = Attends().eval()
    model.patch = HalutConv2d(4, 16, 2, stride=2, groups=2, config=EXACT)
    model.attend = HalutMultiheadAttention(16, 2, batch_first=True, config=EXACT)
    return model.eval()


def test_any_other_network(tmp_path: Path) -> None:
    model = converted_attention()
    path = save_network(tmp_path / "n.pt", model, None)
    loaded, _ = load_network(path, Attends())
    assert_same(model, loaded, torch.randn(3, 4, 6, 6))
    with pytest.raises(HalutError, match=r"architecture must be in the file, or a model .*n\.pt"):
        load_network(path)
    with pytest.raises(HalutError, match=r"network file must fit its network: .*n\.pt"):
        load_network(path, nn.Sequential(nn.Linear(2, 2)))


class Twice(nn.Module):
    """Calls one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.rest = nn.Sequential(nn.ReLU(), self.first, nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.first(x))


class Conv2dSame(nn.Conv2d):
    """Pads as TensorFlow does; known by its name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        more = x.shape[-1] % 2
        return self._conv_forward(nn.functional.pad(x, (0, more, 0, more)), self.weight, self.bias)


class Doubled(nn.Linear):
    """Has a handler only where a test registers one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, 2 * self.weight, self.bias)


def around(module: Doubled, _x: torch.Tensor) -> nn.Module:
    layer = nn.Linear(module.in_features, module.out_features)
    with torch.no_grad():
        layer.weight.copy_(2 * module.weight)
        layer.bias.copy_(module.bias)
    return nn.Sequential(nn.Identity(), layer)


OTHERS = {
    "a bare layer": (lambda: nn.Linear(6, 3), (40, 6)),
    "a bare convolution": (lambda: nn.Conv1d(2, 3, 3), (20, 2, 8)),
    "a layer under two names": (Twice, (40, 6)),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 3, 2)),
        (20, 2, 8),
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 3, padding="same")),
        (4, 2, 4, 4, 4),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.ConvTranspose2d(3, 2, 2)),
        (6, 2, 5, 5),
    ),
    "padded": (lambda: nn.Sequential(Conv2dSame(2, 3, 2, stride=2)), (10, 2, 7, 7)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_conversion_makes_of_other_modules(tmp_path: Path, kind: str) -> None:
    make, shape = OTHERS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = make().eval()
    convert_(model, LayerConfig(n_prototypes=4, lut_bits=8, input_format="int8"), x)
    path = save_network(tmp_path / "n.pt", model, None)
    loaded, _ = load_network(path, make())
    assert_same(model, loaded, x)
    layers = [id(m) for _, m in loaded.named_modules(remove_duplicate=False)]
    kept = [id(m) for _, m in model.named_modules(remove_duplicate=False)]
    assert len(layers) == len(kept) and len(set(layers)) == len(set(kept))


def test_a_module_of_a_registered_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_registered", {Doubled: around})
    x = torch.randn(40, 6)
    model = nn.Sequential(Doubled(6, 3)).eval()
    convert_(model, LayerConfig(n_prototypes=4), x)
    path = save_network(tmp_path / "n.pt", model, None)
    assert_same(model, load_network(path, nn.Sequential(Doubled(6, 3)))[0], x)
    handlers._registered.clear()
    with pytest.raises(HalutError, match=r"0 must have a handler \(register_handler\(Doubled"):
        load_network(path, nn.Sequential(Doubled(6, 3)))


def test_the_data_set(saved: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    _, header = load_network(saved)
    assert load_data(header).test_x.shape == (20, 1, 8, 8)
    with pytest.raises(HalutError, match="network file must name its data set"):
        load_data({"data": {}})


# Bad files


def change(path: Path, **changes: object) -> Path:
    content = torch.load(path, weights_only=True)
    for name, value in changes.items():
        content.pop(name) if value is None else content.update({name: value})
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "something"}, 'file must be a network of kind "halut-network"'),
        ({"version": 3}, "version of a network must be 1 or 2, not 3"),
        ({"state": None}, "network file must have state"),
        ({"state": {}}, "network file must fit its network: .*Missing key"),
        ({"architecture": {"name": "resnet8", "kwargs": {}}}, 'did you mean "resnet9"'),
        ({"architecture": {"name": "resnet9", "kwargs": {"depth": 3}}}, "not 'depth'"),
        ({"architecture": [1]}, "network file must fit its network"),
        ({"layers": {"nowhere": {}}}, "geometry and config of a layer must be whole"),
        ({"layers": {"prep.0": {"geometry": {"kind": "dense"}}}}, "not 'dense'"),
        ({"layers": {"prep.0": {}}}, "geometry and config of a layer must be whole"),
    ],
)
def test_foreign_content(saved: Path, changes: dict, message: str) -> None:
    with pytest.raises(HalutError, match=message) as caught:
        load_network(change(saved, **changes))
    assert "n.pt" in str(caught.value) and "\n" not in str(caught.value)


class Attack:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("code of the file was run",))


def test_other_files(saved: Path, tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(HalutError, match=message) as caught:
            load_network(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "missing.pt", "network must be readable: No such file")
    refused(tmp_path, "network must be readable: Is a directory")
    other = tmp_path / "other.pt"
    other.write_bytes(bytes(range(256)))
    refused(other, "file must be an undamaged network")
    other.write_bytes(pickle.dumps(Attack()))
    refused(other, "file must be an undamaged network")
    torch.save(Attack(), other)
    refused(other, "file must be an undamaged network")
    torch.save(torch.zeros(3), other)
    refused(other, 'file must be a network of kind "halut-network"')
    golden.random_program(np.random.default_rng(1), 2, 4, 2).save(other)
    refused(other, "file must be an undamaged network")
    whole = saved.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:size])
        refused(other, "file must be an undamaged network")


def test_a_flipped_bit_is_found(saved: Path) -> None:
    """In tensors, where torch alone would not notice."""
    whole = bytearray(saved.read_bytes())
    model, _ = load_network(saved)
    values = model.get_submodule("layer2.0").weight.detach().numpy().tobytes()
    place = bytes(whole).index(values[:64])
    whole[place + 5] ^= 1
    saved.write_bytes(whole)
    with pytest.raises(HalutError, match="file must be an undamaged network"):
        load_network(saved)


def test_a_full_disk_leaves_the_file_as_it_was(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(path: Path, _: object) -> None:
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HalutError, match="output must be writable: No space left"):
        save_network(saved, network(seed=1), ARCHITECTURE, DATA)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["n.pt"]


def test_odd_headers() -> None:
    for header in ({}, {"data": None}, {"data": {}}):
        with pytest.raises(HalutError, match="network file must name its data set"):
            example_input(header)
    for shape in ([-1], ["a"], [2.0]):
        with pytest.raises(HalutError, match="input_shape must be integers of at least 1, not"):
            example_input({"data": {"input_shape": shape}})


def test_headers_must_be_json(tmp_path: Path) -> None:
    for data in ({"mean": torch.zeros(1)}, {"mean": float("nan")}):
        with pytest.raises(HalutError, match="architecture and data must be what JSON can hold"):
            save_network(tmp_path / "n.pt", network(), ARCHITECTURE, data)
    assert not list(tmp_path.iterdir())


# Export


def test_export(tmp_path: Path) -> None:
    model = network()
    x = torch.randn(3, 1, 8, 8)
    manifest = export_network(model, tmp_path, x, architecture=ARCHITECTURE, data=DATA)
    assert json.loads((tmp_path / MANIFEST).read_text()) == manifest
    assert (manifest["kind"], manifest["version"]) == ("halut-network-manifest", 2)
    assert manifest["architecture"] == ARCHITECTURE and manifest["data"] == DATA
    names = [layer["name"] for layer in manifest["layers"]]
    assert names[:4] == ["prep.0", "prep.1", "layer1.0", "layer1.1"] and names[-1] == "classifier"
    stay = [layer for layer in manifest["layers"] if not layer["converted"]]
    assert {layer["kind"] for layer in stay} == {"Conv2d", "BatchNorm2d"}
    assert stay[0]["parameters"] == model.get_submodule("prep.0").weight.numel()

    converted = [layer for layer in manifest["layers"] if layer["converted"]]
    assert [layer["name"] for layer in converted] == list(halut_layers(model))
    assert [layer["rows_per_input"] for layer in converted] == [64, 16, 1]
    seen = {}
    for name, layer in halut_layers(model).items():
        layer.register_forward_pre_hook(lambda module, args: seen.update({module: args[0]}))
        del name
    model(x)
    for index, entry in enumerate(converted):
        layer = model.get_submodule(entry["name"])
        (file,) = entry["programs"]
        assert file["file"] == f"{index:02}-{entry['name']}.npz"
        content = (tmp_path / file["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        program = Program.load(tmp_path / file["file"])
        for number in ("n_features", "n_outputs", "n_codebooks", "n_prototypes",
                       "input_format", "lut_bits", "accumulator_bits"):  # fmt: skip
            assert entry[number] == getattr(program, number)
        # What the folder holds is the layer: the same integers for the same activations.
        rows = layer.rows(seen[layer])[0].detach().numpy()
        sums = golden.matmul(program, program.input_words(rows))
        assert np.array_equal(sums, layer.accumulators(seen[layer])[0].numpy())
        config = AcceleratorConfig.from_dict(entry["accelerator"])
        assert config.n_codebooks >= min(program.n_codebooks, 16)
    assert converted[2]["accelerator"]["n_outputs"] == 10


def test_export_of_groups_and_attention(tmp_path: Path) -> None:
    model = converted_attention()
    manifest = export_network(model, tmp_path, torch.randn(2, 4, 6, 6))
    fields = ("name", "kind", "rows_per_input")
    assert [tuple(layer[field] for field in fields) for layer in manifest["layers"]] == [
        ("patch", "conv2d", 9), ("attend.q_proj", "linear", 9), ("attend.k_proj", "linear", 9),
        ("attend.v_proj", "linear", 9), ("attend.out_proj", "linear", 9),
    ]  # fmt: skip
    files = [program["file"] for program in manifest["layers"][0]["programs"]]
    assert files == ["00-patch-g0.npz", "00-patch-g1.npz"]
    assert manifest["layers"][0]["groups"] == 2
    for file, program in zip(files, model.patch.programs(), strict=True):
        assert Program.load(tmp_path / file) == program


class Multiplies(nn.Module):
    """Multiplies by parameters in many ways; only one of them is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose1d(16, 12, 2, stride=2)
        self.norm = nn.BatchNorm1d(12)
        self.memory = nn.LSTM(12, 4, batch_first=True, bidirectional=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 6)
        self.unused = nn.Linear(6, 6)
        self.weight = nn.Parameter(torch.randn(6, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.up(self.conv(x))).transpose(1, 2)
        x = self.memory(x)[0]
        x = self.head(self.attend(x, key=x, value=x)[0])
        return nn.functional.linear(x, self.unused.weight) @ self.weight


def test_an_export_lists_every_product(tmp_path: Path) -> None:
    """Layers that stay have their sizes, whatever their kind; the flow reads them."""
    torch.manual_seed(1)
    model = Multiplies().eval()
    convert_(model, {"head": dataclasses.replace(EXACT, n_prototypes=4)}, torch.randn(20, 4, 10))
    manifest = export_network(model, tmp_path, torch.randn(3, 4, 10))
    norm = next(entry for entry in manifest["layers"] if entry["name"] == "norm")
    assert norm.keys() == {"name", "converted", "kind", "parameters"}
    found = [
        (layer.name, layer.kind, layer.rows, layer.n_features, layer.n_outputs, layer.groups)
        for layer in read_manifest(tmp_path / MANIFEST)
    ]
    assert found == [
        ("conv", "Conv1d", 10, 6, 8, 2),
        ("up", "ConvTranspose1d", 10, 16, 24, 1),
        ("memory.0", "LSTM", 20, 12, 16, 1),
        ("memory.1", "LSTM", 20, 4, 16, 1),
        ("memory.2", "LSTM", 20, 12, 16, 1),
        ("memory.3", "LSTM", 20, 4, 16, 1),
        *((f"attend.{index}", "MultiheadAttention", 20, 8, 8, 1) for index in range(4)),
        ("head", "linear", 20, 8, 6, 1),
        ("", "Multiplies", 20, 6, 5, 1),
        ("unused", "linear", 20, 6, 6, 1),
    ]


class Tied(nn.Module):
    """Shares a weight between an embedding and the layer that comes last, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.middle = nn.Linear(6, 6)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self.embed(tokens)))


def test_an_export_counts_a_shared_weight_once(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokens = Tied().eval(), torch.randint(0, 9, (30, 5))
    convert_(model, {"middle": dataclasses.replace(EXACT, n_prototypes=4)}, tokens)
    export_network(model, tmp_path, tokens[:3])
    found = [(layer.name, layer.macs) for layer in read_manifest(tmp_path / MANIFEST)]
    assert found == [("middle", 5 * 6 * 6), ("head", 5 * 6 * 9)]


def test_a_folder_with_a_manifest_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 1, 8, 8)
    export_network(network(), tmp_path, x)
    (tmp_path / "mine.txt").write_text("stays")
    renamed = network()
    renamed.classifier = nn.Linear(32, 10)
    export_network(renamed, tmp_path, x)
    listed = {"00-layer1.0.npz", "01-residual1.body.1.0.npz", MANIFEST, "mine.txt"}
    assert {path.name for path in tmp_path.iterdir()} == listed

    whole, calls = Program.save, []

    def fails(program: Program, path: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:
            raise HalutError("output must be writable: No space left on device")
        return whole(program, path)

    monkeypatch.setattr(Program, "save", fails)
    with pytest.raises(HalutError, match="No space left"):
        export_network(network(), tmp_path, x)
    assert not (tmp_path / MANIFEST).exists()


def test_export_refuses(tmp_path: Path) -> None:
    x = torch.randn(1, 1, 8, 8)

    def refused(model: nn.Module, message: str) -> None:
        with pytest.raises(HalutError, match=message):
            export_network(model, tmp_path / "programs", x)
        assert not (tmp_path / "programs").exists()

    for odd, message in (
        (x[:0], "example_input must have at least one item, not 0"),
        (x[:, :, :1, :1, None], "model must take the inputs that it is given"),
        ({}, "model must take the inputs that it is given"),
    ):
        with pytest.raises(HalutError, match=message):
            export_network(network(), tmp_path / "programs", odd)
    refused(nn.Sequential(nn.Conv2d(1, 2, 3)), "network must have a converted layer, not none")
    model = network()
    late = copy.deepcopy(model)
    late.get_submodule("residual1.body.1.0").set_formats(input_format=None)
    refused(late, r"input_format must be set .*set_formats.*\(layer residual1.body.1.0\)")
    late.get_submodule("layer1.0").set_formats(lut_bits=None)
    refused(late, r"lut_bits must be set .*\(layer layer1.0\)")
    put(model, "layer1.0", HalutConv2d(4, 8, 3, padding=1,
                                       config=LayerConfig(encoder="centroid")))  # fmt: skip
    refused(model, r'encoder must be .* "node" for hardware, not "centroid" \(layer layer1.0\)')
    model = network()
    model.extra = HalutLinear(16, 2, config=EXACT)
    refused(model, "forward pass must reach every converted layer, not miss extra")
    (tmp_path / "programs").mkdir()
    foreign = tmp_path / "programs" / MANIFEST
    for text in ("{}", "[1]", "no JSON"):
        foreign.write_text(text)
        with pytest.raises(HalutError, match="output must be a folder of an earlier export"):
            export_network(network(), tmp_path / "programs", x)
        assert foreign.read_text() == text


def test_command_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "programs"
    assert main(["export", str(saved), "-o", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"wrote {folder / MANIFEST}"
    assert "layer1.0" in printed and "programs             3" in printed
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["architecture"] == ARCHITECTURE
    assert len(list(folder.glob("*.npz"))) == 3
    with pytest.raises(HalutError, match=r"missing\.pt"):
        main(["export", "missing.pt", "-o", str(folder)])
