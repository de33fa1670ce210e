"""Converted networks as ONNX: onnxruntime gives the bits of the layers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install -e .[onnx])")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed (pip install -e .[onnx])"
)

from torch import nn  # noqa: E402

from halut import native  # noqa: E402
from halut.errors import HalutError  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402
from halut.nn.interchange.write_onnx import DOMAIN, write_onnx  # noqa: E402
from halut.nn.layers import layers_of  # noqa: E402

pytestmark = pytest.mark.skipif(
    native.status()[0] is None, reason=f"no native library: {native.status()[1]}"
)

INT8 = LayerConfig(n_prototypes=4, input_format="int8")
IMAGES = nn.Sequential(
    nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(4, 8, (3, 2), padding="same", groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5),
)  # fmt: skip
WORDS = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8, bias=False))


def converted(model: nn.Module, config: LayerConfig, *shape: int) -> nn.Module:
    import copy

    torch.manual_seed(2)
    found = copy.deepcopy(model).eval()
    convert_(found, config, torch.randn(200, *shape))
    return found


CASES = {
    "int8": (IMAGES, INT8, (2, 12, 12)),
    "int4 tables, K = 16": (IMAGES, LayerConfig(n_prototypes=16, input_format="int6", lut_bits=4),
                            (2, 12, 12)),
    "fp16": (IMAGES, LayerConfig(n_prototypes=8, input_format="fp16"), (2, 12, 12)),
    "float inputs": (IMAGES, LayerConfig(n_prototypes=8), (2, 12, 12)),
    "sums of 3": (IMAGES, LayerConfig(n_prototypes=8, input_format="int6", encoder="sums", terms=3),
                  (2, 12, 12)),
    "sums of words": (WORDS, LayerConfig(n_prototypes=4, input_format="int8", encoder="sums"),
                      (7, 12)),
    "windows": (IMAGES, LayerConfig(n_prototypes=4, input_format="int8", encoder="window"),
                (2, 12, 12)),
    "nodes": (IMAGES, LayerConfig(n_prototypes=8, input_format="int8", encoder="node"),
              (2, 12, 12)),
    "words": (WORDS, INT8, (12,)),
    "sequences": (WORDS, INT8, (7, 12)),
    "a bare layer": (nn.Linear(12, 5), INT8, (12,)),
    "no layer between": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3)), INT8, (2, 8, 8)),
    "one dimension": (nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 4, 3)),
                      INT8, (2, 9)),
    "three dimensions": (nn.Sequential(nn.Conv3d(2, 4, 3, padding=1)), INT8, (2, 4, 5, 6)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(2, 4, 3, stride=2), nn.ReLU()),
                   INT8, (2, 5, 6)),
    "transposed, one dimension": (nn.ConvTranspose1d(2, 4, 3, stride=2), INT8, (2, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_gives_the_same_bits(tmp_path, name) -> None:
    model, config, shape = CASES[name]
    network = converted(model, config, *shape)
    path = write_onnx(network, tmp_path / "net.onnx", torch.randn(2, *shape))
    graph = onnx.load(path).graph
    ours = [node.op_type for node in graph.node if node.domain == DOMAIN]
    assert len(ours) == len(layers_of(network)) > 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n_items in (1, 5):
        x = torch.randn(n_items, *shape)
        (found,) = session.run(None, {"input": x.numpy()})
        with torch.no_grad():
            wanted = network(x)
        assert torch.equal(torch.from_numpy(found), wanted)


class Sorted(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(super().forward(x)).real


def test_what_torch_cannot_write_is_one_error(tmp_path) -> None:
    network = converted(Sorted(nn.Linear(12, 5)), INT8, 12)
    with pytest.raises(HalutError, match=r"network must be what torch writes as ONNX: .*net\.onnx"):
        write_onnx(network, tmp_path / "net.onnx", torch.randn(2, 12))
    assert not list(tmp_path.iterdir())


def test_a_wrong_table_is_seen(tmp_path) -> None:
    network = converted(IMAGES, INT8, 2, 12, 12)
    path = write_onnx(network, tmp_path / "net.onnx", torch.randn(2, 2, 12, 12))
    x = torch.randn(4, 2, 12, 12)
    with torch.no_grad():
        network[6].lut.mul_(1.5)
        wrong = network(x)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": x.numpy()})
    assert not torch.equal(torch.from_numpy(found), wrong)


def test_the_same_network_gives_the_same_bytes(tmp_path) -> None:
    network, example = converted(WORDS, INT8, 12), torch.randn(2, 12)
    files = [write_onnx(network, tmp_path / name, example).read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "config",
    [
        LayerConfig(n_prototypes=4, encoder="centroid"),
        LayerConfig(n_prototypes=4, encoder="sums"),
        LayerConfig(n_prototypes=4, input_format="int8", output_format="int8"),
        LayerConfig(n_prototypes=4, input_format="fp16", lut_format="fp16", lut_bits=16),
    ],
)
def test_other_layers_are_refused(tmp_path, config) -> None:
    network = converted(WORDS, config, 12)
    with pytest.raises(HalutError):
        write_onnx(network, tmp_path / "net.onnx", torch.randn(2, 12))
    assert not (tmp_path / "net.onnx").exists()
