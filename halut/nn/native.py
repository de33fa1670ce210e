"""Operators of looked-up layers that the native library computes, and what they are fed with.

They take images, or rows, as they are, and return what the layer returns: features are gathered,
and codes kept, for about a thousand positions at a time. The sums are those of
`halut.nn.functional`, bit by bit. A layer uses them on a CPU where the library can be used, for
trees of up to 16 leaves and integer table entries of up to 8 bits; `halut.nn.tables` says when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from halut.errors import HalutError
from halut.native import convolution
from halut.native.library import Kernels, kernels

__all__ = ["Prepared", "available", "convolve", "decisions", "pack_tables", "quantised", "train"]

_Result = TypeVar("_Result")
_WORTH_A_THREAD = 1 << 25
"""Additions, at least, that a thread of its own is started for."""


@torch.compiler.assume_constant_result
def available() -> bool:
    """Say whether there is a native library."""
    return kernels() is not None


def _chosen() -> Kernels:
    found = kernels()
    if found is None:
        raise HalutError("native library must be usable for operators that it computes")
    return found


def quantised(
    lut: Tensor, lut_bits: int, scale_of: Callable[[Tensor], Tensor], packed: bool = False
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Quantise float32 tables (G, M, C, K) as `halut.nn.quantize.quantize_tables` does.

    Parameters
    ----------
    lut : Tensor
    lut_bits : int
    scale_of : callable
        Takes the largest spans (G, M), returns the scales.
    packed : bool
        Return entries as `pack_tables` does; of up to 8 bits, K at most 16.

    Returns
    -------
    entries (G, M, C, K), middles (G, M, C), scale (G, M); or None
        None where torch is to compute them: also for tables with NaN.
    """
    chosen = kernels() if lut.device.type == "cpu" and lut.dtype == torch.float32 else None
    if chosen is None or not lut.numel():
        return None
    groups, n_outputs, n_codebooks, n_prototypes = lut.shape
    lut = lut.contiguous()
    middle, span = lut.new_empty((2, groups, n_outputs, n_codebooks))
    n_tables = groups * n_outputs * n_codebooks
    if not convolution.table_ranges(
        chosen, n_tables, n_prototypes, lut.data_ptr(), middle.data_ptr(), span.data_ptr()
    ):
        return None
    scale, half = scale_of(span.amax(dim=2)).contiguous(), 2.0 ** (lut_bits - 1)
    read = {"entries": lut, "middle": middle, "scale": scale}
    addresses = {name: one.data_ptr() for name, one in read.items()}
    if packed:
        shape = convolution.packed_shape(groups, n_outputs, n_codebooks)
        entries = torch.empty(shape, dtype=torch.int8)
        convolution.quantise_packed(
            chosen, (groups, n_outputs, n_codebooks, n_prototypes), half,
            tables=entries.data_ptr(), **addresses,
        )  # fmt: skip
    else:
        entries = torch.empty_like(lut)
        convolution.quantise(
            chosen, (groups * n_outputs, n_codebooks, n_prototypes), half,
            out=entries.data_ptr(), **addresses,
        )  # fmt: skip
    return entries, middle, scale


@dataclass(frozen=True)
class Prepared:
    """What the operators read, made of a layer's parameters.

    Attributes
    ----------
    dims : int32 Tensor of shape (G, C, T) or (G, C, T, terms)
    thresholds : float32 Tensor of shape (G, C, K - 1)
        See `decisions`; of sums in the words of their format.
    tables : int8 Tensor
        See `pack_tables`.
    scale, offset : float32 Tensor of shape (G, M)
    signs : int8 Tensor of shape (G, C, T, terms), range [-1, 1], or None
        Of the terms that levels add up; None: they compare single features.
    input_scale, input_offset : float32 Tensor of shape (G, C, T), or None
        Of the words of terms.
    """

    dims: Tensor
    thresholds: Tensor
    tables: Tensor
    scale: Tensor
    offset: Tensor
    signs: Tensor | None = None
    input_scale: Tensor | None = None
    input_offset: Tensor | None = None


@torch.library.custom_op("halut::decisions", mutates_args=())
def decisions(nodes: Tensor, scale: Tensor, offset: Tensor, input_format: str) -> Tensor:
    """Find the thresholds that decide on float32 inputs as nodes do on converted ones.

    Parameters
    ----------
    nodes : float32 Tensor of shape (G, C, K - 1)
        Breadth-first; compared with `input_words` or `float_inputs` of the inputs.
    scale, offset : float32 Tensor of shape (G, C, T)
        Of `input_words`.
    input_format : str
        ``"int"``, a name of `halut.formats.FLOAT_FORMATS`, or empty: inputs are compared as they
        are.

    Returns
    -------
    float32 Tensor of shape (G, C, K - 1)
    """
    nodes, scale, offset = nodes.contiguous(), scale.contiguous(), offset.contiguous()
    out = torch.empty_like(nodes)
    convolution.decisions(
        _chosen(), input_format, nodes.shape[:-1].numel(), scale.shape[-1],
        nodes.data_ptr(), scale.data_ptr(), offset.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


@decisions.register_fake
def _(nodes: Tensor, _scale: Tensor, _offset: Tensor, _input_format: str) -> Tensor:
    return nodes.new_empty(nodes.shape)


@torch.library.custom_op("halut::pack_tables", mutates_args=())
def pack_tables(entries: Tensor) -> Tensor:
    """Lay out table entries for `convolve`.

    Parameters
    ----------
    entries : float32 Tensor of shape (G, M, C, K)
        Integers in [-128, 127]; K at most 16.

    Returns
    -------
    int8 Tensor
    """
    entries = entries.contiguous()
    groups, n_outputs, n_codebooks, n_prototypes = entries.shape
    shape = convolution.packed_shape(groups, n_outputs, n_codebooks)
    tables = torch.empty(shape, dtype=torch.int8)
    convolution.pack(
        _chosen(), (groups, n_outputs, n_codebooks, n_prototypes),
        entries.data_ptr(), tables.data_ptr(),
    )  # fmt: skip
    return tables


@pack_tables.register_fake
def _(entries: Tensor) -> Tensor:
    shape = convolution.packed_shape(*entries.shape[:3])
    return entries.new_empty(shape, dtype=torch.int8)


@torch.library.custom_op("halut::convolve", mutates_args=())
def convolve(
    x: Tensor,
    pad: Tensor | None,
    dims: Tensor,
    thresholds: Tensor,
    tables: Tensor,
    scale: Tensor,
    offset: Tensor,
    signs: Tensor | None,
    input_scale: Tensor | None,
    input_offset: Tensor | None,
    input_format: str,
    size: Sequence[int],
    geometry: Sequence[int],
) -> Tensor:
    """Encode images, look up, add and scale.

    Parameters
    ----------
    x : float32 Tensor of shape (B, channels, H, W)
        As the geometry says: contiguous, or contiguous with channels last.
    pad : float32 Tensor of shape (channels,) or None
        What images are padded with; None: 0.
    dims, thresholds, tables, scale, offset, signs, input_scale, input_offset
        See `Prepared`.
    input_format : str
        Of terms: ``"int8"`` and the like, or empty: values are added up as they are.
    size : sequence of int
        Height and width of the output.
    geometry : sequence of int
        See `halut.native.convolution.FIELDS`.

    Returns
    -------
    float32 Tensor of shape (B, G * M, height, width)
        ``sum * scale``, rounded, ``+ offset``, rounded.
    """
    out = _output(x, scale, size, geometry)
    terms = signs, input_scale, input_offset, input_format
    _run(x, pad, dims, thresholds, tables, scale, offset, terms, out, geometry)
    return out


@convolve.register_fake
def _(
    x: Tensor,
    _pad: Tensor | None,
    _dims: Tensor,
    _thresholds: Tensor,
    _tables: Tensor,
    scale: Tensor,
    _offset: Tensor,
    _signs: Tensor | None,
    _input_scale: Tensor | None,
    _input_offset: Tensor | None,
    _input_format: str,
    size: Sequence[int],
    geometry: Sequence[int],
) -> Tensor:
    return _output(x, scale, size, geometry)


_Terms = tuple[Tensor | None, Tensor | None, Tensor | None, str]
"""Signs, scale and offset of words, and their format: see `convolve`."""

_BY_PIXEL = convolution.FIELDS.index("out_by_pixel")
_KERNEL_HEIGHT = convolution.FIELDS.index("kernel_height")


def _output(x: Tensor, scale: Tensor, size: Sequence[int], geometry: Sequence[int]) -> Tensor:
    if geometry[_BY_PIXEL]:
        return x.new_empty((x.shape[0], *size, scale.numel())).permute(0, 3, 1, 2)
    return x.new_empty((x.shape[0], scale.numel(), *size))


def _run(
    x: Tensor,
    pad: Tensor | None,
    dims: Tensor,
    thresholds: Tensor,
    tables: Tensor,
    scale: Tensor,
    offset: Tensor,
    terms: _Terms,
    out: Tensor,
    geometry: Sequence[int],
) -> None:
    """Write outputs; in several threads where that pays."""
    chosen, given = _chosen(), list(geometry)
    *sums, input_format = terms
    signs, input_scale, input_offset = (None if one is None else one.data_ptr() for one in sums)

    def work(part: tuple[int, int]) -> None:
        convolution.convolve(
            chosen, given, x=x.data_ptr(), pad=None if pad is None else pad.data_ptr(),
            dims=dims.data_ptr(), thresholds=thresholds.data_ptr(), input_format=input_format,
            signs=signs, input_scale=input_scale, input_offset=input_offset,
            tables=tables.data_ptr(), scale=scale.data_ptr(), offset=offset.data_ptr(),
            out=out.data_ptr(), part=part,
        )  # fmt: skip

    _share(convolution.bands(chosen, given), out.numel() * dims.shape[1], work)


def _share(
    n_parts: int, additions: int, work: Callable[[tuple[int, int]], _Result]
) -> list[_Result]:
    """Do all parts of the work, in several threads where that pays."""
    n_threads = min(torch.get_num_threads(), additions // _WORTH_A_THREAD, n_parts)
    if n_threads < 2:
        return [work((0, n_parts))]
    ends = [n_parts * k // n_threads for k in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, pairwise(ends)))


@torch.library.custom_op("halut::train", mutates_args=())
def train(
    x: Tensor,
    pad: Tensor | None,
    dims: Tensor,
    nodes: Tensor,
    lut: Tensor,  # noqa: ARG001  # for backward
    step: Tensor | None,  # noqa: ARG001  # for backward
    tables: Tensor,
    scale: Tensor,
    offset: Tensor,
    slope: Tensor,  # noqa: ARG001  # for backward
    signs: Tensor | None,
    input_scale: Tensor,
    input_offset: Tensor,
    input_format: str,
    size: Sequence[int],
    geometry: Sequence[int],
) -> Tensor:
    """Do `convolve`, differentiably once in `x`, `nodes`, `lut`, `offset` and `slope`.

    Parameters
    ----------
    x, pad, dims, tables, scale, offset, signs, size, geometry
        As for `convolve`.
    nodes, input_scale, input_offset, input_format
        As for `decisions`; with `signs` as for `convolve`.
    lut : float32 Tensor of shape (G, M, C, K)
        What `tables` hold in steps: rounding to them is the identity backward.
    step : float32 Tensor of shape (G, M) or None
        What a step is; None: `scale`, so that results are in the unit of `lut`.
    slope : float32 Tensor of shape (G, C, T)
        As for `halut.nn.functional.look_up`, whose surrogate gradient this has. Wrapping is the
        identity backward.

    Returns
    -------
    Tensor
        As of `convolve`.
    """
    inputs = input_scale.contiguous(), input_offset.contiguous(), input_format
    thresholds = nodes.contiguous() if signs is not None else decisions(nodes, *inputs)
    scale, offset = scale.contiguous(), offset.contiguous()
    return convolve(x, pad, dims, thresholds, tables, scale, offset, signs, *inputs, size, geometry)


@train.register_fake
def _(
    x: Tensor,
    _pad: Tensor | None,
    _dims: Tensor,
    _nodes: Tensor,
    _lut: Tensor,
    _step: Tensor | None,
    _tables: Tensor,
    scale: Tensor,
    _offset: Tensor,
    _slope: Tensor,
    _signs: Tensor | None,
    _input_scale: Tensor,
    _input_offset: Tensor,
    _input_format: str,
    size: Sequence[int],
    geometry: Sequence[int],
) -> Tensor:
    return _output(x, scale, size, geometry)


@torch.library.custom_op("halut::train_backward", mutates_args=())
def _train_backward(
    grad: Tensor,
    x: Tensor,
    pad: Tensor | None,
    dims: Tensor,
    nodes: Tensor,
    step: Tensor | None,
    tables: Tensor,
    scale: Tensor,
    slope: Tensor,
    signs: Tensor | None,
    input_scale: Tensor,
    input_offset: Tensor,
    input_format: str,
    geometry: Sequence[int],
    with_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    chosen, given = _chosen(), list(geometry)
    if given[_BY_PIXEL]:
        grad = grad.permute(0, 2, 3, 1)
    shape = (*scale.shape, nodes.shape[1], nodes.shape[2] + 1)
    read = {
        "x": x, "pad": pad, "dims": dims, "signs": signs,
        "nodes": nodes.contiguous(), "slope": slope.contiguous(),
        "input_scale": input_scale.contiguous(), "input_offset": input_offset.contiguous(),
        "tables": tables, "table_scale": scale.contiguous(), "upstream": grad.contiguous(),
    }  # fmt: skip
    grad_x = torch.zeros_like(x) if with_x else x.new_empty(0)

    def work(part: tuple[int, int]) -> list[Tensor]:
        made = {
            "grad_tables": torch.empty(shape),
            "grad_nodes": torch.empty(nodes.shape),
            "grad_slope": torch.empty(slope.shape),
        }
        addresses: dict[str, Any] = {
            name: None if one is None else one.data_ptr() for name, one in (read | made).items()
        }
        convolution.convolve_backward(
            chosen, given, input_format, part=(together * part[0], together * part[1]),
            grad_x=grad_x.data_ptr() if with_x else None, **addresses,
        )  # fmt: skip
        return list(made.values())

    # Pieces of an item share rows of its input, but for kernels of one row.
    n_pieces = convolution.pieces(chosen, given)
    together = 1 if given[_KERNEL_HEIGHT] == 1 else n_pieces // given[0]
    # An addition of the forward pass is one for every leaf.
    n_additions = grad.numel() * dims.shape[1] * shape[-1]
    found = _share(n_pieces // together, n_additions, work)
    grad_tables, grad_nodes, grad_slope = (
        sum(parts[1:], parts[0]) for parts in zip(*found, strict=True)
    )
    if step is not None:
        grad_tables *= (scale / step)[..., None, None]
    return grad_x, grad_nodes, grad_tables, grad_slope


@_train_backward.register_fake
def _(
    _grad: Tensor,
    x: Tensor,
    _pad: Tensor | None,
    _dims: Tensor,
    nodes: Tensor,
    _step: Tensor | None,
    _tables: Tensor,
    scale: Tensor,
    slope: Tensor,
    _signs: Tensor | None,
    _input_scale: Tensor,
    _input_offset: Tensor,
    _input_format: str,
    _geometry: Sequence[int],
    with_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x) if with_x else x.new_empty(0),
        nodes.new_empty(nodes.shape),
        scale.new_empty((*scale.shape, nodes.shape[1], nodes.shape[2] + 1)),
        slope.new_empty(slope.shape),
    )


def _train_context(ctx: Any, inputs: Any, output: Tensor) -> None:  # noqa: ARG001
    x, pad, dims, nodes, _, step, tables, scale, _, slope, signs, *others = inputs
    input_scale, input_offset, ctx.input_format, _, ctx.geometry = others
    ctx.save_for_backward(
        x, pad, dims, nodes, step, tables, scale, slope, signs, input_scale, input_offset
    )


def _train_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: where it is checkpointed, a second time is an error
    scale, with_x = saved[6], ctx.needs_input_grad[0]
    grad_x, grad_nodes, grad_lut, grad_slope = _train_backward(
        grad, *saved, ctx.input_format, ctx.geometry, with_x
    )
    grad_offset = grad.sum(dim=(0, 2, 3)).view(scale.shape)
    return (
        grad_x if with_x else None, None, None, grad_nodes, grad_lut, None, None, None, grad_offset,
        grad_slope, None, None, None, None, None, None,
    )  # fmt: skip


train.register_autograd(_train_gradient, setup_context=_train_context)
