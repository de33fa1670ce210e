"""A converted network as an ONNX file: looked-up layers are functions of a domain of their own.

A layer is one node, ``halut.HalutLinear_T4`` or ``halut.HalutConv2d_T4`` for trees of 4 levels,
with ``_S2`` behind it for sums of two terms and ``_nodes`` for a split dimension per node. Its
function, which the file brings along, is made of ONNX's own operators: tools that know nothing of
look-ups run it, with the bits of the hardware; others may put something faster in its place.
"""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import located
from halut.errors import HalutError
from halut.files import atomic_write
from halut.formats import input_format_bits
from halut.nn.layers import HalutConv2d, HalutLayer, HalutLinear
from halut.nn.network import halut_layers
from halut.nn.replace import Whole, as_written, replace_everywhere

__all__ = ["DOMAIN", "write_onnx"]

DOMAIN = "halut"
_OPERATOR_SET = 18
_CONSTANTS = ("thresholds", "first_node", "tables", "first_entry", "scale", "offset",
              "split_shape", "sum_shape", "outputs")  # fmt: skip
_OF_SUMS = ("signs", "term_scale", "term_offset", "lowest", "highest")


def write_onnx(model: nn.Module, path: str | os.PathLike[str], example: Tensor) -> Path:
    """Write a converted network.

    Parameters
    ----------
    model : nn.Module
        With layers whose results are products: trees, integer tables of up to 8 bits, sums that
        neither saturate nor wrap.
    path : path-like
        The file, ``.onnx``; any number of items may be given to it as a batch.
    example : Tensor
        Inputs, to trace the network with.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    HalutError
        When a layer is something else, or there is no ``onnx``.
    """
    try:
        import onnx
    except ImportError:
        raise HalutError(
            f"output must not be an ONNX file without onnx (pip install halut-stack[onnx]; {path})"
        ) from None
    traced = Whole(copy.deepcopy(as_written(model)).eval())
    kinds: set[tuple[str, int, int | str]] = set()
    for name, layer in halut_layers(traced).items():
        with located(f"layer {traced.own_name(name)}"):
            replace_everywhere(traced, layer, _Node(layer))
        kinds.add((type(layer).__name__, layer.tree_depth, _compared(layer)))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about operators that are not its own
        file = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                traced, (example,), file, dynamo=False, input_names=["input"],
                output_names=["output"], dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
                opset_version=_OPERATOR_SET, custom_opsets={DOMAIN: 1},
            )  # fmt: skip
        except Exception as error:  # its operators raise nearly anything
            reason = " ".join(str(error).split())[:200]
            raise HalutError(
                f"network must be what torch writes as ONNX: {reason} ({path})"
            ) from error
        whole = onnx.load(file)
    whole.functions.extend(_function(*each) for each in sorted(kinds, key=str))
    onnx.checker.check_model(whole)
    with atomic_write(path) as temporary:
        temporary.write_bytes(whole.SerializeToString(deterministic=True))
    return Path(path)


class _Node(nn.Module):
    """Stands for a layer while a network is traced: one node of the graph."""

    def __init__(self, layer: HalutLayer) -> None:
        super().__init__()
        config = layer.config
        if (
            not isinstance(layer, HalutLinear | HalutConv2d)
            or config.encoder == "centroid"
            or (config.encoder == "sums" and config.input_format is None)
            or config.lut_format != "int"
            or config.lut_bits is None
            or config.lut_bits > 8
            or config.output_format != "raw"
            or config.overflow is not None
            or layer.raw_output
            or (isinstance(layer, HalutConv2d) and layer.padding_mode != "zeros")
        ):
            raise HalutError(
                "layer must give products of trees and tables of up to 8 bits, padded with zeros, "
                f"in an ONNX file, not {layer!r}"
            )
        self.layer = layer
        compared = _compared(layer)
        self.kind = _name(type(layer).__name__, layer.tree_depth, compared)
        entries, scale, offset = (one.detach() for one in layer.tables())
        groups, n_outputs, n_codebooks, n_prototypes = entries.shape
        total = groups * n_codebooks
        numbers = torch.arange(total)
        terms = compared if isinstance(compared, int) else 0
        sums = _sums(layer) if terms else {}
        values = sums or {"thresholds": layer._prepared().thresholds.reshape(-1)}
        per_level = [layer.tree_depth, terms] if terms else [layer.tree_depth]
        if compared == "nodes":
            per_level = [n_prototypes - 1]
        values |= {
            "first_node": numbers * (n_prototypes - 1),
            "tables": entries.permute(0, 2, 3, 1).reshape(-1, n_outputs).to(torch.int8),
            "first_entry": numbers * n_prototypes,
            "scale": scale.float(),
            "offset": offset.float(),
            "split_shape": torch.tensor([-1, total, *per_level]),
            "sum_shape": torch.tensor([-1, groups, n_codebooks, n_outputs]),
            "outputs": torch.tensor([groups * n_outputs]),
        }
        self.register_buffer("selected", _selection(layer))
        self.names = ("selected", *_CONSTANTS, *(_OF_SUMS if terms else ()))
        for name in self.names[1:]:
            self.register_buffer(name, values[name])
        self.attributes: dict[str, list[int] | int] = {}
        if isinstance(layer, HalutConv2d):
            sides = _zeros(layer)
            self.attributes = {
                "strides": list(layer.stride), "dilations": list(layer.dilation), "pads": sides,
                "group": groups,
            }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        constants = [getattr(self, name) for name in self.names]
        found: Tensor = _Traced.apply(x, *constants, self.layer, self.kind, self.attributes)
        return found


class _Traced(torch.autograd.Function):
    """Is traced as one node; only the shape of what it returns is right, and matters."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, *given: Any) -> Tensor:
        layer = given[-3]
        sizes = [int(size) for size in x.shape]  # numbers, which are not traced
        if isinstance(layer, HalutConv2d):
            return torch.zeros(sizes[0], layer.out_channels, *layer.output_size(*sizes[-2:]))
        return torch.zeros(*sizes[:-1], layer.n_outputs)

    @staticmethod
    def symbolic(g: Any, x: Any, *given: Any) -> Any:
        *constants, layer, kind, attributes = given
        marked = {
            f"{name}_i": value for name, value in attributes.items()
        }  # the suffix states the type
        found = g.op(f"{DOMAIN}::{kind}", x, *constants, **marked)
        rank = 4 if isinstance(layer, HalutConv2d) else (x.type().dim() or 2)
        sizes: Sequence[int | None] = [None] * rank
        found.setType(x.type().with_sizes(list(sizes)))
        return found


def _compared(layer: HalutLayer) -> int | str:
    """Return what trees compare: the number of terms of sums, ``"nodes"``, or 0: one value."""
    if layer.config.encoder == "sums":
        return layer.config.n_terms
    return "nodes" if layer.config.encoder == "node" else 0


def _name(kind: str, depth: int, compared: int | str) -> str:
    more = f"_S{compared}" if isinstance(compared, int) else f"_{compared}"
    return f"{kind}_T{depth}" + (more if compared else "")


def _sums(layer: HalutLayer) -> dict[str, Tensor]:
    """Return the thresholds of sums of words, and what makes these sums, in float64."""
    assert layer.signs is not None
    nodes, scale, offset = (one.detach().double() for one in layer._nodes(torch.float64))
    signs = layer.signs.flatten(0, 1)  # (G * C, T, terms)
    # Here a term is subtracted; its complement is less by one.
    below = (signs < 0).sum(dim=2).repeat_interleave(2 ** torch.arange(layer.tree_depth), dim=1)
    half = 2.0 ** (input_format_bits(str(layer.input_format)) - 1)
    return {
        "thresholds": (nodes.flatten(0, 1) + below).reshape(-1),
        "signs": signs.double(),
        "term_scale": scale.flatten(0, 1)[..., None],
        "term_offset": offset.flatten(0, 1)[..., None],
        "lowest": torch.tensor(-half, dtype=torch.float64),
        "highest": torch.tensor(half - 1, dtype=torch.float64),
    }


def _selection(layer: HalutLayer) -> Tensor:
    """Return what picks the values that trees look at: places, or a kernel of zeros and ones."""
    dims = layer.split_dims.reshape(-1).long()
    if isinstance(layer, HalutLinear):
        return dims
    assert isinstance(layer, HalutConv2d)
    kernel = torch.zeros(len(dims), layer.n_features)
    kernel[torch.arange(len(dims)), dims] = 1.0
    return kernel.reshape(len(dims), -1, *layer.kernel_size)


def _zeros(layer: HalutConv2d) -> list[int]:
    """Return the zeros before and after each axis."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [one // 2 for one in total] + [one - one // 2 for one in total]
    down, across = (int(one) for one in layer.padding)
    return [down, across, down, across]


def _function(kind: str, depth: int, compared: int | str) -> Any:
    """Return the ONNX function of a kind of layer with trees of so many levels, see `_name`."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []

    def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(name: str, value: int | list[int]) -> str:
        key = "value_ints" if isinstance(value, list) else "value_int"
        return node("Constant", [], name, **{key: value})

    attributes: list[str] = []
    if kind == "HalutConv2d":
        attributes = ["strides", "dilations", "pads", "group"]
        picked = helper.make_node("Conv", ["x", "selected"], ["planes"])
        for name in attributes:
            picked.attribute.append(_referred(name))
        nodes.append(picked)
        node("Transpose", ["planes"], "values", perm=[0, 2, 3, 1])
    else:
        node("Gather", ["x", "selected"], "values", axis=-1)
    is_sums, is_node = isinstance(compared, int) and compared > 0, compared == "nodes"
    rows = node("Reshape", ["values", "split_shape"], "terms_of" if is_sums else "rows")
    if is_sums:  # (N, G * C, T, terms); without: (N, G * C, T), or all nodes in place of T
        node("Cast", [rows], "exactly", to=TensorProto.DOUBLE)
        node("Sub", ["exactly", "term_offset"], "shifted")
        node("Div", ["shifted", "term_scale"], "steps")
        node("Round", ["steps"], "rounded")
        node("Max", ["rounded", "lowest"], "not_below")
        node("Min", ["not_below", "highest"], "words")
        node("Mul", ["words", "signs"], "signed")
        constant("term_axis", [3])
        node("ReduceSum", ["signed", "term_axis"], "rows", keepdims=0)
    last = constant("last", [2]) if is_node else ""
    two = constant("two", 2)
    walked = ""
    for level in range(depth):
        place = "first_node"
        if level:
            shift = constant(f"nodes_{level}", 2**level - 1)
            level_first = node("Add", ["first_node", shift], f"first_{level}")
            place = node("Add", [level_first, walked], f"place_{level}")
        node("Gather", ["thresholds", place], f"threshold_{level}")
        if is_node and level:
            at = node("Add", [constant(f"row_{level}", 2**level - 1), walked], f"at_{level}")
            at = node("Unsqueeze", [at, last], f"one_{level}")
            found = node("GatherElements", ["rows", at], f"found_{level}", axis=2)
            node("Squeeze", [found, last], f"value_{level}")
        else:
            at = constant(f"level_{level}", level)
            node("Gather", ["rows", at], f"value_{level}", axis=2)
        node("Greater", [f"value_{level}", f"threshold_{level}"], f"above_{level}")
        bit = node("Cast", [f"above_{level}"], f"bit_{level}", to=TensorProto.INT64)
        if level:
            doubled = node("Mul", [walked, two], f"doubled_{level}")
            bit = node("Add", [doubled, bit], f"walked_{level}")
        walked = bit
    node("Add", ["first_entry", walked], "entry")
    node("Gather", ["tables", "entry"], "bytes")  # (N, G * C, M)
    node("Cast", ["bytes"], "integers", to=TensorProto.INT32)
    node("Reshape", ["integers", "sum_shape"], "terms")
    constant("codebooks", [2])
    node("ReduceSum", ["terms", "codebooks"], "sums", keepdims=0)  # (N, G, M)
    node("Cast", ["sums"], "exact", to=TensorProto.FLOAT)
    node("Mul", ["exact", "scale"], "scaled")
    node("Add", ["scaled", "offset"], "products")
    node("Shape", ["values"], "shape", end=-1)
    node("Concat", ["shape", "outputs"], "shape_out", axis=0)
    if kind == "HalutConv2d":
        node("Reshape", ["products", "shape_out"], "pixels")
        node("Transpose", ["pixels"], "y", perm=[0, 3, 1, 2])
    else:
        node("Reshape", ["products", "shape_out"], "y")
    return helper.make_function(
        DOMAIN, _name(kind, depth, compared),
        ["x", "selected", *_CONSTANTS, *(_OF_SUMS if is_sums else ())], ["y"], nodes,
        [helper.make_opsetid("", _OPERATOR_SET)], attributes,
    )  # fmt: skip


def _referred(name: str) -> Any:
    """Return an attribute that is the function's of this name."""
    from onnx import AttributeProto

    found = AttributeProto()
    found.name = found.ref_attr_name = name
    found.type = AttributeProto.INT if name == "group" else AttributeProto.INTS
    return found
