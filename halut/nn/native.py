"""Operators of looked-up layers that the native library computes, and what they are fed with.

They take images, or rows, as they are, and return what the layer returns: features are gathered,
and codes kept, for about a thousand positions at a time. The sums are those of
`halut.nn.functional`, bit by bit. A layer uses them on a CPU where the library can be used, for
trees of up to 16 leaves and integer table entries of up to 8 bits; `halut.nn.tables` says when.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from halut.errors import HalutError
from halut.native import convolution
from halut.native.library import Kernels, kernels

__all__ = ["Prepared", "available", "convolve", "decisions", "pack_tables"]

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


@dataclass(frozen=True)
class Prepared:
    """What the operators read, made of a layer's parameters.

    Attributes
    ----------
    dims : int32 Tensor of shape (G, C, T)
    thresholds : float32 Tensor of shape (G, C, K - 1)
        See `decisions`.
    tables : int8 Tensor
        See `pack_tables`.
    scale, offset : float32 Tensor of shape (G, M)
    """

    dims: Tensor
    thresholds: Tensor
    tables: Tensor
    scale: Tensor
    offset: Tensor


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
    dims, thresholds, tables, scale, offset
        See `Prepared`.
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
    _run(x, pad, dims, thresholds, tables, scale, offset, out, None, geometry)
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
    size: Sequence[int],
    geometry: Sequence[int],
) -> Tensor:
    return _output(x, scale, size, geometry)


_BY_PIXEL = convolution.FIELDS.index("out_by_pixel")


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
    out: Tensor,
    codes: Tensor | None,
    geometry: Sequence[int],
) -> None:
    """Write outputs and, if asked for, codes; in several threads where that pays."""
    chosen, given = _chosen(), list(geometry)

    def work(part: tuple[int, int]) -> None:
        convolution.convolve(
            chosen, given, x=x.data_ptr(), pad=None if pad is None else pad.data_ptr(),
            dims=dims.data_ptr(), thresholds=thresholds.data_ptr(), tables=tables.data_ptr(),
            scale=scale.data_ptr(), offset=offset.data_ptr(), out=out.data_ptr(),
            codes=None if codes is None else codes.data_ptr(), part=part,
        )  # fmt: skip

    n_threads = min(torch.get_num_threads(), out.numel() * dims.shape[1] // _WORTH_A_THREAD)
    n_bands = convolution.bands(chosen, given)
    n_threads = min(n_threads, n_bands)
    if n_threads < 2:
        work((0, n_bands))
        return
    ends = [n_bands * k // n_threads for k in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, pairwise(ends)))
