"""A network's layers on the Verilog: its integers flow onward, and every one is checked."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from torch import nn  # noqa: E402

import sim.network  # noqa: E402
from halut.errors import CheckFailed, HalutError  # noqa: E402
from halut.nn import HalutConv2d, HalutLinear, LayerConfig, convert_  # noqa: E402
from halut.nn.fold import fold_  # noqa: E402
from halut.nn.models import build  # noqa: E402
from halut.nn.network import load_network, save_network  # noqa: E402
from halut.tiles import Tiling, tile  # noqa: E402
from rtl_gen.config import AcceleratorConfig  # noqa: E402
from rtl_gen.tiled_config import AnyConfig, TiledConfig  # noqa: E402
from sim.__main__ import main  # noqa: E402
from sim.network import simulate_network  # noqa: E402
from tests.sim.support import accelerator  # noqa: E402

SMALL = Path(__file__).parents[2] / "configs" / "small.yaml"
CONFIG = AcceleratorConfig.from_yaml(SMALL)  # C = 4, K = 4, M = 2
LAYER = LayerConfig(n_prototypes=4, input_format="int8")


def network(config: LayerConfig | dict[str, LayerConfig] = LAYER) -> nn.Module:
    """C and M of its layers are below, at and above the accelerator's, and no multiples."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    convert_(model, config, torch.randn(100, 1, 8, 8), lambda name, _: name != "0")
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.sim
def test_every_integer_and_output_is_torchs(images: torch.Tensor) -> None:
    model = network()
    with torch.no_grad():
        expected = model(images).numpy()
    model.train()  # must not matter, and must stay
    result = simulate_network(CONFIG, model, images)
    assert all(module.training for module in model.modules())
    assert np.array_equal(result.outputs, expected)
    assert len(np.unique(expected)) > 6  # images differ
    assert result.classes.tolist() == expected.argmax(axis=1).tolist()
    layers = {layer.name: layer for layer in result.layers}
    assert list(layers) == ["2", "5", "8"]
    # C, M, groups, tiles, rows, integers
    facts = {
        name: (layer.n_codebooks, layer.n_outputs, layer.groups, layer.tiles, layer.rows,
               layer.outputs)
        for name, layer in layers.items()
    }  # fmt: skip
    assert facts == {
        "2": (5, 4, 1, 4, 4 * 36, 4 * 36 * 4),
        "5": (2, 3, 2, 4, 2 * 4 * 4, 2 * 4 * 4 * 3),
        "8": (3, 3, 1, 2, 4, 4 * 3),
    }
    # Four tiles of 144 rows, one row per four cycles.
    steady = (4 * 36 - 1) * CONFIG.interval_cycles + CONFIG.n_groups + CONFIG.latency_cycles
    assert layers["2"].cycles == 4 * (steady + CONFIG.n_beats - 1)

    # In batches, with pauses on both sides: other cycles, the same integers.
    batches = simulate_network(CONFIG, model.eval(), images, batch=3, stall_pattern="both")
    assert np.array_equal(batches.outputs, expected)
    for one, other in zip(result.layers, batches.layers, strict=True):
        assert (one.rows, one.outputs) == (other.rows, other.outputs)
        assert other.cycles > one.cycles and other.load_cycles > one.load_cycles
    assert not model.training


@pytest.mark.sim
def test_smaller_formats_and_integers_between_layers(images: torch.Tensor) -> None:
    """Fewer prototypes, narrower inputs and tables, folded to integers between the layers."""
    small = dataclasses.replace(LAYER, n_prototypes=2, input_format="int6", lut_bits=4)
    model = network({"2": small, "5": dataclasses.replace(small, n_prototypes=4), "8": LAYER})
    fold_(model, images)
    assert model[2].raw_output and model[5].raw_output
    assert (model[5].input_format, model[8].input_format) == ("int8", "int6")
    with torch.no_grad():
        expected = model(images).numpy()
    result = simulate_network(CONFIG, model, images)
    assert np.array_equal(result.outputs, expected)
    assert len(np.unique(expected)) > 3


@pytest.mark.sim
def test_layers_that_compare_sums(images: torch.Tensor) -> None:
    """As many terms as the accelerator adds up, fewer, and one, which is a tree."""
    sums = dataclasses.replace(LAYER, encoder="sums", terms=3)
    fewer = dataclasses.replace(LAYER, encoder="sums", n_prototypes=2)
    model = network({"2": sums, "5": fewer, "8": LAYER})
    with torch.no_grad():
        expected = model(images).numpy()
    result = simulate_network(dataclasses.replace(CONFIG, terms=3), model, images)
    assert np.array_equal(result.outputs, expected)
    assert len(np.unique(expected)) > 6
    with pytest.raises(HalutError, match=r"program.terms must be at most .* 1, not 3 \(layer 2"):
        simulate_network(CONFIG, model, images)


@pytest.mark.sim
def test_layers_that_take_windows(images: torch.Tensor) -> None:
    """A place per node, as the accelerator has it; per level; and values that are gathered."""
    node = dataclasses.replace(LAYER, encoder="node")
    model = network({"2": node, "5": dataclasses.replace(LAYER, encoder="window"), "8": LAYER})
    with torch.no_grad():
        expected = model(images).numpy()
    config = dataclasses.replace(CONFIG, window=9, splits="node", write_word_bits=24)
    result = simulate_network(config, model, images)
    assert np.array_equal(result.outputs, expected)
    assert len(np.unique(expected)) > 6
    with pytest.raises(HalutError, match=r"program must not have windows: .* \(layer 2"):
        simulate_network(CONFIG, model, images)


# Of each accelerator in tests/sim/support.py: a layer's formats, Q by number of codebooks.
STAGES = {
    ("lut_fp16", "p2q4"): {"lut_format": "fp16", "lut_bits": 16, "parallel_codebooks": 4},
    ("lut_to_fp16", "p2q4"): {
        "lut_format": "fp16",
        "lut_bits": 16,
        "parallel_codebooks": 4,
        "output_format": "fp16",
    },
    ("to_int8_relu", "p2q4"): {"output_format": "int8", "relu": True},
    ("to_fp16", "p1q1"): {"output_format": "fp16"},
    ("saturate", "p1q1"): {"overflow": "saturate", "acc_bits": 9},
}


def staged(config: AnyConfig, formats: dict, width: int = 9) -> nn.Module:
    """For C = 8 and M = 4: C of 72 / `width`, 3 (twice) and 4, M of 6, 2 (twice) and 3."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, stride=2, groups=2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    whole = LayerConfig(
        n_prototypes=8, codebook_width=4, input_format=config.input_format, **formats
    )
    few = dataclasses.replace(whole, codebook_width=None)
    configs = {"1": dataclasses.replace(whole, codebook_width=width), "4": few, "6": whole}
    convert_(model, configs, torch.randn(100, 1, 8, 8))
    return model.eval()


CASES = [
    (("lut_fp16", "p2q4"), False, ()),
    (("to_int8_relu", "p2q4"), False, ()),
    (("to_fp16", "p1q1"), False, pytest.mark.slow),
    (("saturate", "p1q1"), False, pytest.mark.slow),
    (("to_int8_relu", "p2q4"), True, pytest.mark.slow),
    (("lut_fp16", "p2q4"), True, ()),
    (("lut_to_fp16", "p2q4"), False, pytest.mark.slow),
]


def _four_units(config: AcceleratorConfig) -> TiledConfig:
    """As many codebooks, and as many at once, in units that have half of them."""
    unit = dataclasses.replace(
        config,
        n_codebooks=config.n_codebooks // 2,
        parallel_codebooks=config.parallel_codebooks // 2,
    )
    return TiledConfig(unit=unit, row_tiles=2, codebook_tiles=2)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("stage", "four_units"), [pytest.param(*case, marks=marks) for *case, marks in CASES]
)
def test_half_float_tables_overflow_and_output_stage(
    stage: tuple[str, str],
    four_units: bool,
    images: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formats, _ = stage
    config: AnyConfig = accelerator(*stage)
    added = dict(STAGES[stage])
    if four_units:
        config = _four_units(config)
        if "lut_format" in added:
            added["codebook_tiles"] = 2
    model = staged(config, added)
    with torch.no_grad():
        expected = model(images).numpy()
    result = simulate_network(config, model, images, stall_pattern="both")
    assert result.outputs.tobytes() == expected.tobytes()
    assert len(np.unique(expected)) > 3
    assert [layer.tiles for layer in result.layers] == [2, 2, 1]
    assert [layer.n_codebooks for layer in result.layers] == [8, 3, 4]
    # One sign, or one bit, of the first tile's first table is wrong.
    bit = 15 if formats.startswith("lut") else 3
    monkeypatch.setattr(sim.network, "tile", corrupted(0, (0, 0), bit=bit))
    with pytest.raises(CheckFailed, match=r"results must equal torch's: layer 1, row \d+, output"):
        simulate_network(config, model, images)


@pytest.mark.parametrize(("formats", "shape", "changes", "message"), [
    ("lut_fp16", "p2q4", {"lut_format": "int"}, "lut_format must be the .* fp16, not int"),
    ("lut_fp16", "p2q4", {"parallel_codebooks": 2},
     "parallel_codebooks must be the accelerator's 4, not 2"),
    ("to_fp16", "p1q1", {"relu": True}, "relu must be the accelerator's False, not True"),
    ("to_int8_relu", "p2q4", {"output_format": "fp16"},
     "output_format must be the accelerator's int8, not fp16"),
    ("saturate", "p1q1", {"overflow": "wrap"}, "overflow must be .* saturate, not wrap"),
    ("saturate", "p1q1", {"overflow": None, "acc_bits": None}, "saturate, not None"),
    ("saturate", "p1q1", {"acc_bits": 10}, "acc_bits must be the accelerator's 9, not 10"),
])  # fmt: skip
def test_formats_that_the_accelerator_does_not_have(
    formats: str, shape: str, changes: dict, message: str, images: torch.Tensor
) -> None:
    config = accelerator(formats, shape)
    model = staged(config, STAGES[formats, shape])
    model[1].set_formats(**changes)
    with pytest.raises(HalutError, match=message) as caught:
        simulate_network(config, model, images)
    assert "(layer 1, configuration" in str(caught.value)


def test_more_codebooks_than_the_accelerator_adds_up(images: torch.Tensor) -> None:
    torch.manual_seed(4)
    for formats, shape in STAGES:
        config = accelerator(formats, shape)
        layer = LayerConfig(
            n_prototypes=8, codebook_width=4, input_format=config.input_format,
            **STAGES[formats, shape],
        )  # fmt: skip
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        convert_(model, layer, torch.randn(100, 1, 8, 8))
        match = r"n_codebooks .*16.* \(layer 1, configuration"
        if formats == "lut_fp16":  # a matter of the order of additions
            match = r"codebooks_per_load must be the accelerator's 8, not None \(layer 1"
        with pytest.raises(HalutError, match=match):
            simulate_network(config, model.eval(), images)


@pytest.mark.sim
def test_half_floats_of_more_codebooks_than_the_accelerator_has(images: torch.Tensor) -> None:
    """18 codebooks in loads of 8, of which the last one has 2."""
    config = accelerator("lut_fp16", "p2q4")
    model = staged(config, STAGES["lut_fp16", "p2q4"] | {"codebooks_per_load": 8}, width=4)
    with torch.no_grad():
        expected = model(images).numpy()
    result = simulate_network(config, model, images)
    assert result.outputs.tobytes() == expected.tobytes()
    assert [layer.n_codebooks for layer in result.layers] == [18, 3, 4]
    assert [layer.tiles for layer in result.layers] == [3 * 2, 2, 1]
    model[1].set_formats(codebooks_per_load=None)
    with pytest.raises(HalutError, match="codebooks_per_load must be the accelerator's 8, not No"):
        simulate_network(config, model, images)
    model[1].set_formats(codebooks_per_load=4)
    with pytest.raises(HalutError, match="codebooks_per_load must be the accelerator's 8, not 4"):
        simulate_network(config, model, images)


def test_half_floats_are_added_up_in_the_units_order(images: torch.Tensor) -> None:
    config = accelerator("lut_fp16", "p2q4")
    model = staged(config, STAGES["lut_fp16", "p2q4"])
    with pytest.raises(HalutError, match="codebook_tiles must be the accelerator's 2, not 1"):
        simulate_network(_four_units(config), model, images)
    model[1].set_formats(parallel_codebooks=8)
    with pytest.raises(HalutError, match="parallel_codebooks must be the accelerator's 4, not 8"):
        simulate_network(config, model, images)


def corrupted(layer: int, entry: tuple, index: int = 0, bit: int = 0) -> object:
    """Stand in for `tile`: one bit of a table entry (or of several) of a tile is wrong."""
    calls = []

    def tile_wrongly(*args: object) -> Tiling:
        tiling = tile(*args)  # type: ignore[arg-type]
        calls.append(args)
        if len(calls) - 1 != layer:
            return tiling
        lut = tiling.tiles[index].lut.copy()
        words = lut.view(f"u{lut.itemsize}")
        words[entry] ^= 1 << bit
        wrong = dataclasses.replace(tiling.tiles[index], lut=lut)
        tiles = (*tiling.tiles[:index], wrong, *tiling.tiles[index + 1 :])
        return dataclasses.replace(tiling, tiles=tiles)

    return tile_wrongly


@pytest.mark.sim
def test_one_wrong_table_bit_is_caught(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    seen: list[torch.Tensor] = []
    model[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(images)
    codes = model[2].codes(seen[0])[0]
    # Codebook 4 is the first of the second range of codebooks, output 3 the second of its tile.
    code = int(codes[7, 4])
    row = int((codes[:, 4] == code).nonzero()[0])
    count = int((codes[:, 4] == code).sum())
    monkeypatch.setattr(sim.network, "tile", corrupted(0, (1, 0, code), index=3))
    with pytest.raises(CheckFailed) as caught:
        simulate_network(CONFIG, model, images)
    assert f"layer 2, row {row}, output 3 must be " in str(caught.value)
    assert f"({count} of {4 * 36 * 4} differ)" in str(caught.value)
    assert model[2].executor is None
    # The second group's outputs are numbered behind the first's.
    monkeypatch.setattr(sim.network, "tile", corrupted(2, (0, 0, slice(0, 4))))
    with pytest.raises(CheckFailed, match="results must equal torch's: layer 5, row 0, output 3"):
        simulate_network(CONFIG, model, images)


@pytest.mark.sim
def test_the_verilogs_integers_flow_onward(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check of the layers, wrong integers reach the outputs, which are checked."""
    monkeypatch.setattr(sim.network, "tile", corrupted(0, (0, 0, slice(0, 4)), bit=6))
    monkeypatch.setattr(sim.network, "_check_results", lambda *_: None)
    with pytest.raises(CheckFailed, match=r"outputs must equal torch's: image \d, output \d must"):
        simulate_network(CONFIG, network(), images)


class Remembers(nn.Module):
    """Calls its second layer once only."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.known: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body[:5](x)
        if self.known is None:
            self.known = self.body[5](x)
        return self.body[6:](self.known)


@pytest.mark.sim
def test_every_call_is_compared(images: torch.Tensor) -> None:
    with pytest.raises(CheckFailed, match=r"every call must reach .* \(layer body\.5\)"):
        simulate_network(CONFIG, Remembers(), images)


def test_networks_that_cannot_run(images: torch.Tensor) -> None:
    def refused(model: nn.Module, message: str, **options: object) -> None:
        with pytest.raises(HalutError, match=message):
            simulate_network(CONFIG, model, images, **options)  # type: ignore[arg-type]

    refused(nn.Sequential(nn.Flatten()), "network must have a converted layer, not none")
    refused(network(), "batch must be an integer of at least 1, not 0", batch=0)
    model = network()
    model[5].set_formats(input_format=None)
    refused(model, r"input_format must be set for hardware.*\(layer 5\)")
    model[5].set_formats(input_format="fp16")
    refused(model, r"program.input_format must be .* int8 .*, not fp16 \(layer 5, conf")
    model = network()
    model[8] = HalutLinear(24, 3, config=LayerConfig(n_prototypes=8, input_format="int8"))
    refused(model, r"program.n_prototypes must be at most .* 4, not 8 \(layer 8,")
    with pytest.raises(HalutError, match="images must be at least one, not 0"):
        simulate_network(CONFIG, network(), images[:0])


@pytest.mark.sim
def test_nan_activations_name_the_layer(images: torch.Tensor) -> None:
    model = network()
    model[3].running_mean[0] = float("nan")
    with pytest.raises(HalutError, match=r"A must not hold NaN .*\(layer 5\)"):
        simulate_network(CONFIG, model, images)


# The command line


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    torch.manual_seed(1)
    arguments = {"in_channels": 1, "width": 2, "image_size": 8}
    model = build("resnet9", **arguments)
    model.layer1[0] = HalutConv2d(2, 4, 3, padding=1, bias=False, config=LAYER)
    model.classifier = HalutLinear(16, 10, config=LAYER)
    architecture = {"name": "resnet9", "kwargs": arguments}
    return save_network(tmp_path / "n.pt", model, architecture, {"name": "digits"})


@pytest.mark.sim
def test_command_line(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(SMALL), "--network", str(saved), "--images", "3"]
    target = saved.with_name("report.json")
    assert main([*arguments, "--output", str(target)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"wrote {target}"
    assert "images               3 of digits (test part)" in printed
    assert "results              798, all equal to torch's" in printed  # 3 x (64 x 4 + 10)
    assert "classes              3, all equal to torch's" in printed
    facts = json.loads(target.read_text())
    assert [layer["name"] for layer in facts["layers"]] == ["layer1.0", "classifier"]
    assert facts["results"] == 798 and len(facts["classes"]) == 3
    assert facts["cycles"] == sum(layer["cycles"] for layer in facts["layers"]) > 3 * 64


@pytest.mark.sim
def test_own_inputs_and_a_safetensors_file(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, header = load_network(saved)
    network = save_network(tmp_path / "n.safetensors", model, header["architecture"])
    inputs = tmp_path / "x.npy"
    np.save(inputs, np.random.default_rng(0).standard_normal((2, 1, 8, 8)))
    arguments = ["--config", str(SMALL), "--network", str(network), "--input", str(inputs)]
    assert main([*arguments, "--output", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert f"images               2 of {inputs}\n" in printed and "accuracy" not in printed
    facts = json.loads((tmp_path / "r.json").read_text())
    with torch.no_grad():
        wanted = model(torch.from_numpy(np.load(inputs).astype(np.float32))).argmax(dim=1)
    assert facts["classes"] == wanted.tolist() and facts["accuracy"] is None


def test_command_line_refuses(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, *more: str, network: Path = saved) -> None:
        target = saved.with_name("report.json")
        with pytest.raises(HalutError, match=message):
            main(["--config", str(SMALL), "--network", str(network), "--output", str(target),
                  *more])  # fmt: skip
        assert not target.exists()

    refused("network must be readable: .*missing", network=saved.with_name("missing.pt"))
    refused("file must be an undamaged network", network=SMALL)
    refused("--images must be at least 1, not 0", "--images", "0")
    refused(r"--images must be at most the 500 of digits \(test part\), not 501", "--images", "501")
    refused("--batch must be at least 1, not -1", "--batch", "-1")
    refused("output must be a file, not a folder", "--output", str(saved.parent))
    refused('did you mean "verilator"', "--simulator", "verilater")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(r"torch must be installed for halut\.nn: pip install")


@pytest.mark.sim
@pytest.mark.slow
def test_a_trained_network_classifies_100_digits() -> None:
    """Real images: every interior convolution of a small ResNet-9, and each class, on Verilog."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install -e .[demo])")
    from halut.nn.data import load

    data = load("digits")
    torch.manual_seed(0)
    model = build("resnet9", in_channels=1, width=4, image_size=8)

    def train(epochs: int) -> None:
        model.train()
        optimiser = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(epochs):
            for part in torch.randperm(len(data.train_x)).split(64):
                loss = nn.functional.cross_entropy(model(data.train_x[part]), data.train_y[part])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        model.eval()

    train(5)
    exact = ("prep.0", "classifier")
    chosen = LayerConfig(input_format="int8")
    convert_(model, chosen, data.train_x[:500], lambda name, _: name not in exact)
    train(8)
    config = AcceleratorConfig.from_yaml(SMALL.with_name("digits_network.yaml"))
    images, labels = data.test_x[:100], data.test_y[:100].numpy()
    result = simulate_network(config, model, images)
    assert len(result.layers) == 7
    with torch.no_grad():
        assert result.classes.tolist() == model(images).argmax(dim=1).tolist()
    assert (result.classes == labels).mean() > 0.8
