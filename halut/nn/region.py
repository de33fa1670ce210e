"""A region of a traced network that the native library runs in one call; see `halut.nn.fuse`.

Looked-up convolutions take in what follows them: a batch norm, ReLU and 2x2 max pooling, the
addition of another value, another ReLU. Values between them are planes (`halut.native.network`),
which are made once for a size of images.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from halut.native.library import Kernels, kernels
from halut.nn.config import BY_LEVEL
from halut.nn.layers import HalutConv2d
from halut.nn.region_exact import Rounding, has_kernel, rounding_of
from halut.nn.region_plan import Convolve, Exact, Largest, Load, Operation, Plan, Refused, reads

__all__ = ["AT_ONCE", "Region", "matched"]

_SAME = (nn.Identity, nn.Dropout, nn.Dropout2d)
_RELU = (torch.relu, functional.relu, "relu")
_ADD = (operator.add, torch.add, "add")
AT_ONCE = 1 << 17
"""Values of the largest plane of a region, about, that are worked on at a time."""


def matched(traced: fx.GraphModule) -> tuple[set[fx.Node], int]:
    """Return the nodes of a network that regions can have, and how many convolutions they hold."""
    found = _Matcher(traced)
    n_convolutions = sum(isinstance(one, Convolve) for one in found.operations)
    return found.nodes, n_convolutions


class _Matcher:
    """Turns nodes into operations, in order; values are named after the node that makes them."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.modules = dict(traced.named_modules())
        self.nodes: set[fx.Node] = set()
        self.operations: list[Operation] = []
        self.order = {node: k for k, node in enumerate(traced.graph.nodes)}
        self.known: dict[fx.Node, str] = {}  # values of the region
        for node in traced.graph.nodes:
            if node not in self.nodes:
                self._match(node)

    def _module(self, node: fx.Node) -> Any:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def _source(self, node: fx.Node) -> fx.Node | None:
        """Return the only argument of a node that is a value, if there is nothing else."""
        others = {name: value for name, value in node.kwargs.items() if name != "inplace"}
        if len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not others:
            return node.args[0]
        return None

    def _read(self, node: fx.Node) -> str:
        """Return a value's name; load it, where it comes from outside."""
        if node not in self.known:
            self.known[node] = node.name
            self.operations.append(Load(node.name, node.name))
        return self.known[node]

    def _match(self, node: fx.Node) -> None:
        module, source = self._module(node), self._source(node)
        if source is None:
            return
        if type(module) is HalutConv2d and _is_native(module):
            self._convolution(node, source, module)
        elif has_kernel(module) and source.op == "placeholder" and len(node.users) == 1:
            self._exact(node, source, module)
        elif type(module) in _SAME and source in self.known:
            self.known[node] = self.known[source]
            self.nodes.add(node)
        elif self._is_relu(node) and source not in self.known and self._is_own(node, source):
            self.known[node] = node.name
            self.operations.append(Load(source.name, node.name, rectify=True))
            self.nodes.add(node)
        elif (
            type(module) is nn.AdaptiveMaxPool2d
            and module.output_size in (1, (1, 1))
            and not module.return_indices
            and source in self.known
        ):
            self.operations.append(Largest(self.known[source], node.name))
            self.nodes.add(node)

    def _is_relu(self, node: fx.Node) -> bool:
        return type(self._module(node)) is nn.ReLU or (
            node.op in ("call_function", "call_method") and node.target in _RELU
        )

    def _is_own(self, node: fx.Node, source: fx.Node) -> bool:
        """Say whether nobody sees if a ReLU works in place or not."""
        module = self._module(node)
        in_place = node.kwargs.get("inplace", False) if module is None else module.inplace
        return not in_place or (len(source.users) == 1 and source.op != "placeholder")

    def _convolution(self, node: fx.Node, source: fx.Node, layer: HalutConv2d) -> None:
        read, begin = self._read(source), self.order[node]
        found: dict[str, Any] = {
            "norm": None, "rectify": False, "pool": False, "other": None, "rectify_sum": False,
        }  # fmt: skip
        self.nodes.add(node)
        while len(node.users) == 1:
            (following,) = node.users
            module = self._module(following)
            if type(module) in _SAME:
                pass
            elif following.op != "call_module" and following.target in (*_ADD, operator.iadd):
                other = self._added(following, node, begin)
                if other is None or found["other"]:
                    break
                found["other"] = self._read(other)
            elif self._is_relu(following):
                found["rectify_sum" if found["other"] else "rectify"] = True
            elif found["other"]:
                break
            elif _halves(module) and not found["pool"]:
                found["pool"] = True
            elif _normalises(module) and not (found["norm"] or found["rectify"] or found["pool"]):
                found["norm"] = module
            else:
                break
            node = following
            self.nodes.add(node)
        self.operations.append(Convolve(read, node.name, layer, **found))
        self.known[node] = node.name

    def _exact(self, node: fx.Node, source: fx.Node, layer: nn.Conv2d) -> None:
        read, norm, rectify = self._read(source), None, False
        self.nodes.add(node)
        while len(node.users) == 1:
            (following,) = node.users
            module = self._module(following)
            if self._is_relu(following):
                rectify = True
            elif _normalises(module) and not (norm or rectify):
                norm = module
            elif type(module) not in _SAME:
                break
            node = following
            self.nodes.add(node)
        self.operations.append(Exact(read, node.name, layer, norm, rectify))
        self.known[node] = node.name

    def _added(self, node: fx.Node, own: fx.Node, begin: int) -> fx.Node | None:
        """Return what is added to a value, where it is there before the convolution begins."""
        if len(node.args) != 2 or node.kwargs or not all(isinstance(a, fx.Node) for a in node.args):
            return None
        left, right = node.args
        if node.target is operator.iadd and left is not own:
            return None
        other: Any = right if left is own else left
        return other if other is not own and self.order[other] < begin else None


def _normalises(module: nn.Module | None) -> bool:
    """Say whether a module normalises batches with what it has learned."""
    return type(module) is nn.BatchNorm2d and module.running_mean is not None


def _halves(module: nn.Module | None) -> bool:
    """Say whether a module takes the largest of two by two values."""
    return (
        type(module) is nn.MaxPool2d
        and module.kernel_size in (2, (2, 2))
        and module.stride in (2, (2, 2))
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )


def _is_native(layer: HalutConv2d) -> bool:
    """Say whether the native library computes values of a layer's product from float32 images."""
    return (
        layer.executor is None
        and layer.pad_value is None
        and (layer.padding_mode == "zeros" or not any(layer.sides()))
        and layer.config.output_format == "raw"
        and not layer.raw_output
        and layer.computes_natively
        and layer.config.encoder in BY_LEVEL
    )


class Region(nn.Module):
    """Operations that the native library runs in one call.

    The layers are no submodules: what looks for layers, to export or to convert them, finds none,
    and says so, instead of leaving out what is between them.

    Attributes
    ----------
    operations : tuple of Operation
    inputs, outputs : list of str
        Names of values.
    plans : dict
        By kernels, layout and size: a `Plan`, or None where torch runs the region.
    roundings : dict
        How torch computes convolutions that are not looked up, by all that may change it.
    """

    def __init__(self, plain: fx.GraphModule, operations: Sequence[Operation]) -> None:
        super().__init__()
        self.__dict__["plain"] = plain
        self.operations = tuple(operations)
        self.inputs = [node.name for node in plain.graph.nodes if node.op == "placeholder"]
        (result,) = (node.args[0] for node in plain.graph.nodes if node.op == "output")
        self.single = not isinstance(result, tuple)
        self.outputs = [node.name for node in ((result,) if self.single else result)]
        self.plans: dict[Any, Plan | None] = {}
        self.roundings: dict[Any, Rounding | None] = {}

    @classmethod
    def of(cls, plain: fx.GraphModule) -> Region | None:
        """Return the region of a part of a network, or None where torch is to run it."""
        found = _Matcher(plain)
        calls = [n for n in plain.graph.nodes if n.op not in ("placeholder", "output")]
        if found.nodes.issuperset(calls) and any(
            isinstance(one, Convolve) for one in found.operations
        ):
            region = cls(plain, found.operations)
            made = {one.output for one in found.operations if not isinstance(one, Load)}
            # Names of nodes that change nothing are not made by an operation.
            return region if made.issuperset(region.outputs) else None
        return None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"plans": {}, "roundings": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.plans.clear()
        self.roundings.clear()
        self.__dict__["plain"]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        return f"{len(self.operations)} operations, {', '.join(self.outputs)}"

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the network's own modules do."""
        chosen = self._kernels(inputs)
        found = None if chosen is None else self._run(chosen, inputs)
        return self.__dict__["plain"](*inputs) if found is None else found

    @staticmethod
    def _kernels(inputs: Sequence[Tensor]) -> Kernels | None:
        """Return the kernels that run the region on these inputs, or None where torch is to."""
        if (
            torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or torch._C._are_functorch_transforms_active()
            or torch.is_autocast_enabled("cpu")
        ):
            return None
        for x in inputs:
            if (
                type(x) is not Tensor
                or x.dtype != torch.float32
                or x.device.type != "cpu"
                or x.ndim != 4
                or not x.numel()
                or len(x) != len(inputs[0])
                or (x.requires_grad and torch.is_grad_enabled())
            ):
                return None
        return kernels()

    def _rounding(self, chosen: Kernels, one: Exact, x: Tensor) -> Rounding | None:
        """Return how torch computes a convolution of images, or None where torch is to do it."""
        key = (
            chosen.variant, one.output, x.shape, x.stride(), torch.get_num_threads(),
            torch._C._get_mkldnn_enabled(), torch.get_float32_matmul_precision(),
        )  # fmt: skip
        if key not in self.roundings:
            self.roundings[key] = rounding_of(chosen, one.layer, x)
        return self.roundings[key]

    def _resolved(
        self, chosen: Kernels, inputs: Sequence[Tensor]
    ) -> tuple[list[Operation], dict[str, Tensor], dict[str, Tensor], bool]:
        """Let torch run convolutions whose rounding is not known: their results are loaded.

        Returns
        -------
        operations : list of Operation
        inputs, outputs : dict
            By name: what the library reads, and what torch has computed of the region's outputs.
        by_pixel : bool
            Whether torch would have images with neighbouring channels between the layers.
        """
        given = dict(zip(self.inputs, inputs, strict=True))
        by_pixel = not inputs[0].is_contiguous()
        operations, made = list(self.operations), {}
        for k, one in enumerate(operations):
            if not isinstance(one, Exact):
                continue
            x = given[one.source]
            rounding = self._rounding(chosen, one, x)
            if rounding is not None:
                operations[k] = replace(one, by_channel=rounding.by_channel)
            else:
                y = one.layer(x) if one.norm is None else one.norm(one.layer(x))
                rounding = Rounding(by_channel=False, by_pixel=not y.is_contiguous())
                if one.output in self.outputs:
                    y = made[one.output] = torch.relu(y) if one.rectify else y
                given[one.output] = y
                operations[k] = Load(one.output, one.output, one.rectify)
            if one.source == self.inputs[0]:
                by_pixel = rounding.by_pixel
        read = {name for one in operations for name in reads(one)}
        operations = [one for one in operations if not isinstance(one, Load) or one.output in read]
        loaded = {one.source for one in operations if isinstance(one, Load)}
        read_here = {name: x for name, x in given.items() if name in loaded}
        return operations, read_here, made, by_pixel

    def _run(self, chosen: Kernels, inputs: Sequence[Tensor]) -> Any:
        operations, named, made, norms_by_pixel = self._resolved(chosen, inputs)
        by_pixel = [not x.is_contiguous() for x in named.values()]
        placed = [
            x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            for x, last in zip(named.values(), by_pixel, strict=True)
        ]
        given = _Given(
            chosen, tuple(operations), tuple(named),
            tuple(name for name in self.outputs if name not in made), tuple(by_pixel),
            tuple((x.shape[1], x.shape[2], x.shape[3]) for x in placed), norms_by_pixel,
        )  # fmt: skip
        largest = max(x.shape[2] * x.shape[3] for x in placed)
        n_items = len(placed[0])
        at_once = min(n_items, max(1, AT_ONCE // largest))
        first = self._plan(given, at_once, 0)
        if first is None:
            return None
        outputs = [torch.empty((n_items, *shape)) for shape in first.output_shapes]
        begins = range(0, n_items, at_once)
        n_threads = min(torch.get_num_threads(), len(begins))

        def work(thread: int) -> None:
            for begin in begins[thread::n_threads]:
                plan = self._plan(given, min(at_once, n_items - begin), thread)
                assert plan is not None
                plan.run(placed, outputs, begin)

        if n_threads < 2:
            work(0)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(work, range(n_threads)))
        if norms_by_pixel:
            outputs = [y.contiguous(memory_format=torch.channels_last) for y in outputs]
        made |= zip(given.outputs, outputs, strict=True)
        found = tuple(made[name] for name in self.outputs)
        return found[0] if self.single else found

    def _plan(self, given: _Given, n_items: int, thread: int) -> Plan | None:
        """Return the plan for so many images, or None where the library cannot run them."""
        key = given, n_items, thread
        if key not in self.plans:
            try:
                self.plans[key] = Plan(
                    given.chosen, given.operations, given.inputs, given.outputs, n_items,
                    given.by_pixel, given.shapes, given.norms_by_pixel,
                )  # fmt: skip
            except Refused:
                self.plans[key] = None
        return self.plans[key]


class _Given(NamedTuple):
    """What a plan is made for, but for the number of images."""

    chosen: Kernels
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    by_pixel: tuple[bool, ...]
    shapes: tuple[tuple[int, int, int], ...]
    norms_by_pixel: bool
