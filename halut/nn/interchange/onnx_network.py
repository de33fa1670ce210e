"""A network in an ONNX file as an `nn.Module`, whose products with constant weights are layers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.errors import HalutError
from halut.nn.interchange.operators import DTYPES, OPERATORS, pad_sides, spatial_padding

__all__ = ["OnnxNetwork", "read_onnx"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class _Step:
    """One node: an operator's function or a module, what it takes and what it gives."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    module: str | None
    last_uses: tuple[str, ...]


class _Padded(nn.Module):
    """A layer whose zeros at the two sides of an image differ, or depend on the image's size."""

    def __init__(self, layer: nn.Module, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.layer = layer
        names = ("auto_pad", "pads", "strides", "dilations")
        self._attributes = {name: attributes[name] for name in names if name in attributes}

    def forward(self, x: Tensor) -> Tensor:
        kernel: Any = self.layer.kernel_size
        low, high = spatial_padding(self._attributes, x.shape[2:], kernel)
        found: Tensor = self.layer(functional.pad(x, pad_sides(low, high)))
        return found


_OLDEST = 13
"""Oldest set of ONNX operators that is carried out; older ones are converted to it."""


class OnnxNetwork(nn.Module):
    """Carries out the nodes of an ONNX graph.

    ``Conv``, ``ConvTranspose``, ``Gemm``, ``MatMul`` and ``BatchNormalization`` with constant
    weights are torch's modules, named after their nodes, which `halut.nn.convert_` replaces and
    training changes. Other floating constants are parameters. Everything else is a function, see
    `halut.nn.interchange.operators`.

    Parameters
    ----------
    model : onnx.ModelProto
        Operator set 13 or later.

    Raises
    ------
    HalutError
        When an operator is not known, or the graph has what this cannot carry out.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        graph = model.graph
        version = _operator_set(model)
        if version < _OLDEST:
            raise HalutError(f"ONNX operator set must be {_OLDEST} or later, not {version}")
        constants = {one.name: _tensor(one) for one in graph.initializer}
        given = {one.name for one in graph.initializer}
        self.input_names = tuple(one.name for one in graph.input if one.name not in given)
        self.output_names = tuple(one.name for one in graph.output)
        nodes = [node for node in graph.node if not _folded(node, constants)]
        self._steps: list[_Step] = []
        self._places: dict[str, str] = {}  # of constants, as attributes of this module
        used = _last_uses(nodes, self.output_names)
        for index, node in enumerate(nodes):
            self._add(index, node, constants, used[index])

    def _add(self, index: int, node: Any, constants: dict[str, Tensor], last: list[str]) -> None:
        label = node.name or f"{node.op_type}_{index}"
        if node.domain not in ("", "ai.onnx"):
            raise HalutError(f"operator must be ONNX's, not {node.domain}.{node.op_type} ({label})")
        attributes = _attributes(node) | {"_outputs": len(node.output)}
        layer = _layer(node.op_type, attributes, [constants.get(name) for name in node.input])
        module = None
        inputs = tuple(node.input)
        if layer is not None:
            module = _unused(self, label)
            self.add_module(module, layer)
            inputs = inputs[:1]
        elif node.op_type not in OPERATORS:
            raise HalutError(f"operator must be one that is known, not {node.op_type} ({label})")
        for name in inputs:
            if name in constants and name not in self._places:
                self._places[name] = self._hold(name, constants[name])
        self._steps.append(
            _Step(label, node.op_type, inputs, tuple(node.output), attributes, module, tuple(last))
        )

    def _hold(self, name: str, value: Tensor) -> str:
        place = _unused(self, name)
        if value.is_floating_point() and value.numel() > 1:
            self.register_parameter(place, nn.Parameter(value))
        else:
            self.register_buffer(place, value)
        return place

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Return the graph's output, or a tuple where it has several.

        Parameters
        ----------
        *inputs, **named : Tensor
            In the order of the graph's inputs, or by their names.
        """
        values: dict[str, Any] = dict(zip(self.input_names, inputs, strict=False)) | named
        missing = [name for name in self.input_names if name not in values]
        if missing or len(inputs) > len(self.input_names):
            raise HalutError(
                f"network must be given {', '.join(self.input_names)}, "
                f"not {len(inputs) + len(named)} inputs"
            )
        for step in self._steps:
            given = [self._value(name, values) for name in step.inputs]
            if step.module is not None:
                found = self.get_submodule(step.module)(*given)
            else:
                found = OPERATORS[step.operator](step.attributes, *given)
            outputs = found if isinstance(found, tuple) else (found,)
            values.update(zip(step.outputs, outputs, strict=False))
            for name in step.last_uses:
                values.pop(name, None)
        results = tuple(self._value(name, values) for name in self.output_names)
        return results[0] if len(results) == 1 else results

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        if not name:
            return None
        return values[name] if name in values else getattr(self, self._places[name])


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    found: dict[str, Any] = {}
    for one in node.attribute:
        value = onnx.helper.get_attribute_value(one)
        if isinstance(value, onnx.TensorProto):
            value = _tensor(value)
        elif isinstance(value, onnx.GraphProto):
            raise HalutError(f"operator must have no graph inside of it, not {node.op_type}")
        elif isinstance(value, bytes):
            value = value.decode()
        elif one.type == onnx.AttributeProto.INTS:
            value = list(value)
        found[one.name] = value
    return found


def _tensor(proto: Any) -> Tensor:
    import onnx

    if proto.data_type not in DTYPES:
        raise HalutError(f"dtype must be one of torch's, not {proto.data_type} ({proto.name})")
    array = np.array(onnx.numpy_helper.to_array(proto))  # a copy, which may be written to
    if proto.data_type == 16:  # bfloat16
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array)


def _folded(node: Any, constants: dict[str, Tensor]) -> bool:
    """Compute a node of constants now; return whether it is one."""
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith("Random"):
        return False
    if node.op_type == "Constant":
        constants[node.output[0]] = _constant(_attributes(node))
        return True
    names = list(node.input)
    if node.op_type not in OPERATORS or not names or any(
        name not in constants for name in names if name
    ):  # fmt: skip
        return False
    attributes = _attributes(node) | {"_outputs": len(node.output)}
    found = OPERATORS[node.op_type](attributes, *(constants.get(name) for name in names))
    constants.update(
        zip(node.output, found if isinstance(found, tuple) else (found,), strict=False)
    )
    return True


def _constant(attributes: Mapping[str, Any]) -> Tensor:
    value = next(value for name, value in attributes.items() if name.startswith("value"))
    return value if isinstance(value, Tensor) else torch.tensor(value)


def _last_uses(nodes: list[Any], outputs: tuple[str, ...]) -> list[list[str]]:
    """Return what no later node needs, per node."""
    seen = set(outputs)
    found: list[list[str]] = []
    for node in reversed(nodes):
        names = [name for name in dict.fromkeys((*node.input, *node.output)) if name not in seen]
        found.append(names)
        seen.update(node.input)
    return found[::-1]


def _unused(module: nn.Module, name: str) -> str:
    """Return an attribute name made of a node's or a constant's name."""
    base = re.sub(r"\W+", "_", name).strip("_") or "constant"
    base = f"_{base}" if base[0].isdigit() else base
    found, number = base, 1
    while hasattr(module, found):
        found, number = f"{base}_{number}", number + 1
    return found


# Layers


def _layer(
    operator: str, attributes: Mapping[str, Any], constants: list[Tensor | None]
) -> nn.Module | None:
    """Return the module of a node whose weights are constant, or None."""
    make = _LAYERS.get(operator)
    weights = constants[1:]
    if make is None or not weights or any(one is None for one in weights):
        return None
    floats = [one for one in weights if one is not None]
    if not all(one.is_floating_point() for one in floats):
        return None
    layer: nn.Module | None = make(attributes, *floats)
    return layer


def _filled(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = None if bias is None else nn.Parameter(bias.clone())
    return layer


def _convolution(
    attributes: Mapping[str, Any], weight: Tensor, bias: Tensor | None = None
) -> nn.Module | None:
    n_axes = weight.ndim - 2
    if not 1 <= n_axes <= 3:
        return None
    groups = attributes.get("group", 1)
    low = attributes.get("pads", [0] * (2 * n_axes))
    even = attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    symmetric = even and low[:n_axes] == low[n_axes:]
    padding: Any = tuple(low[:n_axes]) if symmetric else 0
    if attributes.get("auto_pad") == "VALID":
        padding = 0
    make: Any = _CONVOLUTIONS[n_axes - 1]
    layer = make(
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
        tuple(attributes.get("strides", [1] * n_axes)), padding,
        tuple(attributes.get("dilations", [1] * n_axes)), groups, bias is not None,
    )  # fmt: skip
    layer = _filled(layer, weight, bias)
    return layer if symmetric else _Padded(layer, attributes)


def _transposed(
    attributes: Mapping[str, Any], weight: Tensor, bias: Tensor | None = None
) -> nn.Module | None:
    n_axes = weight.ndim - 2
    pads = attributes.get("pads", [0] * (2 * n_axes))
    if (
        not 1 <= n_axes <= 3
        or attributes.get("auto_pad", "NOTSET") != "NOTSET"
        or "output_shape" in attributes
        or pads[:n_axes] != pads[n_axes:]
    ):
        raise HalutError("ConvTranspose must have equal pads at both sides")
    groups = attributes.get("group", 1)
    make: Any = _TRANSPOSED[n_axes - 1]
    layer = make(
        weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]),
        tuple(attributes.get("strides", [1] * n_axes)), tuple(pads[:n_axes]),
        tuple(attributes.get("output_padding", [0] * n_axes)), groups, bias is not None,
        tuple(attributes.get("dilations", [1] * n_axes)),
    )  # fmt: skip
    return _filled(layer, weight, bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a linear layer of a weight of shape (n_outputs, n_features)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _filled(layer, weight.contiguous(), bias)


def _gemm(
    attributes: Mapping[str, Any], weight: Tensor, bias: Tensor | None = None
) -> nn.Module | None:
    if attributes.get("transA"):
        return None
    weight = attributes.get("alpha", 1.0) * (weight if attributes.get("transB") else weight.t())
    if bias is not None:
        if bias.numel() not in (1, len(weight)):
            return None
        bias = attributes.get("beta", 1.0) * bias.reshape(-1).expand(len(weight))
    return _linear(weight, bias)


def _matmul(_: Mapping[str, Any], weight: Tensor) -> nn.Module | None:
    return _linear(weight.t(), None) if weight.ndim == 2 else None


def _batch_norm(
    attributes: Mapping[str, Any], scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> nn.Module:
    layer = _BatchNorm(len(scale), attributes.get("epsilon", 1e-5),
                       1 - attributes.get("momentum", 0.9))  # fmt: skip
    _filled(layer, scale, bias)
    layer.running_mean, layer.running_var = mean.clone(), variance.clone()
    return layer


class _BatchNorm(nn.BatchNorm2d):
    """A batch norm of inputs of any number of dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


_LAYERS: dict[str, Any] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
}


def _operator_set(model: Any) -> int:
    """Return the version of ONNX's own operators."""
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    return int(max(versions, default=0))


def _raised(model: Any) -> Any:
    """Return a model, with newer operators from ONNX's own converter where it has older ones."""
    from onnx import version_converter

    version = _operator_set(model)
    if version >= _OLDEST:
        return model
    try:
        return version_converter.convert_version(model, _OLDEST)
    except Exception as error:  # the converter raises classes of its own
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise HalutError(
            f"ONNX operator set must be {_OLDEST} or later, or one that onnx can convert, "
            f"not {version}: {reason}"
        ) from None


def read_onnx(path: str | os.PathLike[str]) -> OnnxNetwork:
    """Read a network from an ONNX file; weights beside it are read, too.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    OnnxNetwork
        On the CPU, in evaluation mode.

    Raises
    ------
    HalutError
        When the file cannot be read, is no ONNX model, or has what cannot be carried out.
    """
    try:
        import onnx
    except ImportError:
        raise HalutError(
            f"network must not be an ONNX file without onnx (pip install halut-stack[onnx]; {path})"
        ) from None
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise HalutError(f"network must be readable: {error.strerror or error} ({path})") from None
    except Exception as error:  # protobuf and the checker raise classes of their own
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise HalutError(f"network must be an ONNX model: {reason} ({path})") from None
    try:
        return OnnxNetwork(_raised(model)).eval()
    except HalutError as error:
        raise HalutError(f"{error} ({Path(path)})") from None
