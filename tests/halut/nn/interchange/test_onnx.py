"""ONNX files: every operator gives what onnxruntime gives, and products are layers to convert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install -e .[onnx])")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed (pip install -e .[onnx])"
)

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from halut.errors import CheckFailed, HalutError  # noqa: E402
from halut.nn import LayerConfig, convert_  # noqa: E402
from halut.nn.interchange.anything import check_with_onnxruntime  # noqa: E402
from halut.nn.interchange.onnx_network import read_onnx  # noqa: E402
from halut.nn.models import build  # noqa: E402

RNG = np.random.default_rng(11)
IMAGE = RNG.standard_normal((2, 4, 7, 6)).astype(np.float32)
MATRIX = RNG.standard_normal((3, 8)).astype(np.float32)
POSITIVE = np.abs(MATRIX) + 0.5
INTEGERS = RNG.integers(-9, 9, (3, 8))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def write(path: Path, op: str, inputs: list, attributes: dict, version: int, n_outputs: int = 1):
    """A model of one node; the first input is the graph's, the others are constants."""
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(inputs)]
    outputs = [f"o{k}" for k in range(n_outputs)]
    node = helper.make_node(op, names, outputs, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("i0", kind, inputs[0].shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(v, n) for n, v in zip(names[1:], inputs[1:], strict=True)
         if v is not None],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = 10
    inferred = onnx.shape_inference.infer_shapes(model)
    for output in inferred.graph.output:
        if not output.type.tensor_type.elem_type:  # norms, which it does not know
            kind = helper.make_tensor_type_proto(TensorProto.FLOAT, inputs[0].shape)
            output.type.CopyFrom(kind)
    onnx.save(inferred, path)


ONE = ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish", "Neg", "Relu",
       "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "Elu", "Selu",
       "LeakyRelu", "HardSigmoid", "Gelu", "Softmax", "LogSoftmax"]  # fmt: skip
TWO = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Equal", "Greater", "Less",
       "GreaterOrEqual", "LessOrEqual", "PRelu"]  # fmt: skip
REDUCTIONS = ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
              "ReduceSumSquare", "ReduceLogSumExp", "ReduceSum"]  # fmt: skip
CASES = [
    *[(op, [MATRIX], {}) for op in ONE],
    *[(op, [POSITIVE], {}) for op in ("Log", "Sqrt", "Reciprocal")],
    *[(op, [MATRIX, MATRIX[:1] if op != "PRelu" else MATRIX[0]], {}) for op in TWO],
    *[(op, [IMAGE, ints(1, -1)], {"keepdims": keep}) for op in REDUCTIONS for keep in (0, 1)],
    *[("ReduceMean", [IMAGE], {}), ("ReduceSum", [IMAGE], {"noop_with_empty_axes": 1})],
    *[(op, [IMAGE], {}) for op in ("GlobalAveragePool", "GlobalMaxPool")],
    ("Div", [INTEGERS, ints(4)], {}),
    ("Mod", [INTEGERS, ints(4)], {}),
    ("Mod", [MATRIX, MATRIX[:1]], {"fmod": 1}),
    ("Pow", [POSITIVE, np.float32(2.5)], {}),
    ("Clip", [MATRIX, np.float32(-0.5), np.float32(0.25)], {}),
    ("Clip", [MATRIX, None, np.float32(0.25)], {}),
    ("Gelu", [MATRIX], {"approximate": "tanh"}),
    ("Softmax", [IMAGE], {"axis": 1}),
    ("Where", [INTEGERS > 0, MATRIX, floats(1, 8)], {}),
    ("Not", [INTEGERS > 0], {}),
    ("And", [INTEGERS > 0, INTEGERS > 3], {}),
    ("Cast", [MATRIX * 9], {"to": TensorProto.INT32}),
    ("CastLike", [MATRIX * 9, ints(1)], {}),
    ("Gemm", [MATRIX, floats(8, 5), floats(5)], {}),
    ("Gemm", [MATRIX, floats(5, 8), floats(3, 5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [MATRIX, floats(4, 3)], {"transA": 1, "transB": 1}),
    ("MatMul", [MATRIX, floats(8, 5)], {}),
    ("MatMul", [floats(2, 3, 8), floats(8, 5)], {}),
    ("MatMul", [floats(2, 3, 8), floats(2, 8, 5)], {}),
    ("Einsum", [MATRIX, floats(8, 5)], {"equation": "ij,jk->ki"}),
    ("ArgMax", [IMAGE], {"axis": 1, "keepdims": 0}),
    ("ArgMin", [IMAGE], {"axis": -1}),
    ("CumSum", [MATRIX, np.array(1)], {}),
    ("Reshape", [IMAGE, ints(0, -1)], {}),
    ("Reshape", [IMAGE, ints(2, 0, 6, 7)], {}),
    ("Flatten", [IMAGE], {}),
    ("Flatten", [IMAGE], {"axis": -1}),
    ("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [IMAGE], {}),
    ("Squeeze", [IMAGE[:1], ints(0)], {}),
    ("Squeeze", [IMAGE[:1, :, :1]], {}),
    ("Unsqueeze", [MATRIX, ints(0, -1)], {}),
    ("Concat", [MATRIX, floats(3, 2)], {"axis": -1}),
    ("Slice", [IMAGE, ints(1, -3), ints(2**62, -1), ints(1, 2)], {}),
    ("Slice", [IMAGE, ints(0, -1), ints(9, -99), ints(2, 3), ints(2, -2)], {}),
    ("Gather", [IMAGE, ints(0, -1, 2)], {"axis": 1}),
    ("Gather", [IMAGE, np.array(-1)], {"axis": 2}),
    ("GatherElements", [MATRIX, np.abs(INTEGERS) % 8 - 4], {"axis": 1}),
    ("Expand", [IMAGE[:, :1], ints(1, 4, 1, 1)], {}),
    ("Tile", [MATRIX, ints(2, 3)], {}),
    ("Shape", [IMAGE], {"start": 1}),
    ("Size", [IMAGE], {}),
    ("ConstantOfShape", [ints(2, 3)], {"value": helper.make_tensor("v", 1, [1], [2.5])}),
    ("Range", [np.array(2), np.array(11), np.array(3)], {}),
    ("Trilu", [IMAGE], {"upper": 0}),
    ("Trilu", [IMAGE, np.array(1)], {}),
    ("Dropout", [MATRIX], {}),
    ("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(1.5)], {}),
    ("Pad", [IMAGE, ints(1, 2, 0, 3), np.float32(1.5), ints(2, -1)], {}),
    ("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "reflect"}),
    ("Pad", [IMAGE, ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "edge"}),
    ("Resize", [IMAGE, None, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ("Resize", [IMAGE, None, None, ints(2, 4, 9, 11)],
     {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", [IMAGE, None, None, ints(2, 4, 14, 13)], {"mode": "linear"}),
    ("DepthToSpace", [IMAGE], {"blocksize": 2}),
    ("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    *[("MaxPool", [IMAGE], {"kernel_shape": [3, 2], **more}) for more in (
        {}, {"strides": [2, 2]}, {"pads": [1, 0, 0, 1]}, {"strides": [2, 3], "ceil_mode": 1},
        {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
    *[("AveragePool", [IMAGE], {"kernel_shape": [3, 2], **more}) for more in (
        {}, {"pads": [1, 0, 1, 1]}, {"pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, {"strides": [2, 4], "ceil_mode": 1})],
    *[("Conv", [IMAGE, floats(6, 4 // more.get("group", 1), 3, 2), floats(6)], more) for more in (
        {}, {"pads": [1, 0, 1, 0]}, {"pads": [0, 1, 1, 0], "strides": [2, 1]}, {"group": 2},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID", "dilations": [2, 2]})],
    ("Conv", [floats(2, 4, 9), floats(6, 4, 3)], {"strides": [2]}),
    ("Conv", [floats(1, 2, 5, 5, 5), floats(3, 2, 2, 2, 2)], {}),
    ("ConvTranspose", [IMAGE, floats(4, 3, 3, 2), floats(6)], {"group": 2, "strides": [2, 2]}),
    ("ConvTranspose", [IMAGE, floats(4, 3, 3, 3)],
     {"pads": [1, 1, 1, 1], "output_padding": [1, 0], "strides": [2, 1]}),
    ("BatchNormalization", [IMAGE, floats(4), floats(4), floats(4), POSITIVE[0, :4]], {}),
    ("BatchNormalization", [MATRIX, floats(8), floats(8), floats(8), POSITIVE[1]],
     {"epsilon": 0.01}),
    ("LayerNormalization", [IMAGE, floats(6), floats(6)], {}),
    ("LayerNormalization", [IMAGE, floats(7, 6)], {"axis": 2, "epsilon": 0.1}),
    ("InstanceNormalization", [IMAGE, floats(4), floats(4)], {}),
    ("GroupNormalization", [IMAGE, floats(4), floats(4)], {"num_groups": 2}),
]  # fmt: skip
SEVERAL = [
    ("Split", [MATRIX, ints(5, 3)], {"axis": 1}, 2),
    ("Split", [MATRIX], {"axis": 1, "num_outputs": 3}, 3),
    ("TopK", [MATRIX, ints(3)], {}, 2),
    ("TopK", [MATRIX, ints(2)], {"axis": 0, "largest": 0}, 2),
]


def assert_equal(path: Path, first: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: first})
    with torch.no_grad():
        found = read_onnx(path)(torch.from_numpy(np.array(first)))
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.numpy().dtype == other.dtype and one.shape == other.shape
        if other.dtype.kind == "f":
            np.testing.assert_allclose(one.numpy(), other, rtol=2e-5, atol=2e-6)
        else:
            assert np.array_equal(one.numpy(), other)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), CASES, ids=[f"{k}-{case[0]}" for k, case in enumerate(CASES)]
)
def test_an_operator_gives_what_onnxruntime_gives(tmp_path, op, inputs, attributes) -> None:
    version = 21 if op == "GroupNormalization" else 20
    write(tmp_path / "one.onnx", op, inputs, attributes, version)
    assert_equal(tmp_path / "one.onnx", inputs[0])


@pytest.mark.parametrize(("op", "inputs", "attributes", "n_outputs"), SEVERAL)
def test_several_outputs(tmp_path, op, inputs, attributes, n_outputs) -> None:
    write(tmp_path / "one.onnx", op, inputs, attributes, 20, n_outputs)
    assert_equal(tmp_path / "one.onnx", inputs[0])


class Encoder(nn.Module):
    """A transformer's encoder, and a product of two activations that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.encoder(x).mean(1))


NETWORKS = {
    "resnet9": (lambda: build("resnet9", width=4, in_channels=1), (1, 16, 16)),
    "resnet20": (lambda: build("resnet20", width=4), (3, 32, 32)),
    "dscnn": (lambda: build("dscnn", width=8), (1, 49, 10)),
    "encoder": (Encoder, (5, 16)),
}


@pytest.mark.parametrize("new", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_networks_that_torch_exports(tmp_path, name, new) -> None:
    """Both exporters; any batch size; a training step; conversion of every product."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, path = make().eval(), tmp_path / "net.onnx"
    if new:
        pytest.importorskip(
            "onnxscript", reason="onnxscript is not installed (pip install onnxscript)"
        )
        torch.onnx.export(model, (torch.randn(2, *shape),), path, dynamo=True, verbose=False,
                          dynamic_shapes=({0: torch.export.Dim("n")},))  # fmt: skip
    else:
        torch.onnx.export(model, (torch.randn(2, *shape),), path, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "n"}})  # fmt: skip
    network = read_onnx(path)
    x = torch.randn(5, *shape)
    with torch.no_grad():
        assert torch.allclose(network(x), model(x), atol=1e-5)
    assert check_with_onnxruntime(path, network, x)
    network.train()(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    report = convert_(network, LayerConfig(n_prototypes=4), torch.randn(40, *shape))
    wanted = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    attention = 1 if name == "encoder" else 0  # its input projection is a product, too
    assert len(report.converted) == len(wanted) + attention
    assert network(x).shape == model(x).shape


def test_a_scaled_product_is_a_layer(tmp_path) -> None:
    attributes = {"alpha": 0.5, "beta": 2.0, "transB": 1}
    write(tmp_path / "one.onnx", "Gemm", [MATRIX, floats(5, 8), floats(5)], attributes, 20)
    network = read_onnx(tmp_path / "one.onnx")
    assert [type(module) for module in network.modules()].count(nn.Linear) == 1
    assert check_with_onnxruntime(tmp_path / "one.onnx", network, torch.from_numpy(MATRIX))


def test_operators_of_an_older_set(tmp_path) -> None:
    image, path = floats(2, 3, 6, 6), tmp_path / "old.onnx"
    constants = {
        "w": floats(4, 3, 3, 3), "scale": floats(4), "mean": floats(4),
        "variance": np.ones(4, np.float32), "matrix": floats(5, 4), "bias": floats(5),
    }  # fmt: skip
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("BatchNormalization", ["a", "scale", "mean", "mean", "variance"], ["b"]),
            node("Clip", ["b"], ["c"], min=0.0, max=6.0),
            node("Pad", ["c"], ["d"], pads=[0, 0, 1, 1, 0, 0, 1, 1]),
            node("ReduceMean", ["d"], ["e"], axes=[2, 3], keepdims=0),
            node("Unsqueeze", ["e"], ["f"], axes=[2]),
            node("Squeeze", ["f"], ["g"], axes=[2]),
            node("Gemm", ["g", "matrix", "bias"], ["h"], transB=1),
            node("Softmax", ["h"], ["y"]),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    onnx.save(model, path)
    network = read_onnx(path)
    assert sum(isinstance(one, nn.Linear | nn.Conv2d) for one in network.modules()) == 2
    assert check_with_onnxruntime(path, network, torch.from_numpy(image))


def test_a_network_that_differs_is_noticed(tmp_path) -> None:
    write(tmp_path / "one.onnx", "MatMul", [MATRIX, floats(8, 5)], {}, 20)
    network = read_onnx(tmp_path / "one.onnx")
    x = torch.from_numpy(MATRIX)
    assert check_with_onnxruntime(tmp_path / "one.onnx", network, x)
    with torch.no_grad():
        next(network.parameters())[0, 0] += 0.5
    with pytest.raises(CheckFailed, match="outputs must be those of onnxruntime, not"):
        check_with_onnxruntime(tmp_path / "one.onnx", network, x)


def test_wrong_files(tmp_path) -> None:
    path = tmp_path / "one.onnx"
    with pytest.raises(HalutError, match=r"network must be readable: .*one\.onnx"):
        read_onnx(path)
    path.write_bytes(b"no network at all")
    with pytest.raises(HalutError, match="network must be an ONNX model"):
        read_onnx(path)
    write(path, "NonZero", [MATRIX], {}, 20)
    with pytest.raises(HalutError, match=r"operator must be one that is known, not NonZero"):
        read_onnx(path)
    write(path, "Split", [MATRIX], {"axis": 1}, 1, 2)
    with pytest.raises(HalutError, match=r"or one that onnx can convert, not 1: .*No Adapter"):
        read_onnx(path)
    write(path, "Relu", [MATRIX], {}, 20)
    with pytest.raises(HalutError, match="network must be given i0, not 2 inputs"):
        read_onnx(path)(torch.ones(1), torch.ones(1))
