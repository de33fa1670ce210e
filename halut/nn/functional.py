"""The differentiable look-up: trees forward, their smooth surrogate backward.

Differentiable MADDNESS (Stella Nera, arXiv 2311.10207, section IV, equations 7 to 10) writes a
tree as ``E = onehot(argmax(softmax(H sign(S x - theta))))``, where S picks the split dimension of
every node and H holds +1 and -1 where a leaf's path goes right and left. Forward, sign and argmax
are exact. Backward, the derivative of the sign is that of ``tanh((S x - theta) / temperature)``,
and that of the one-hot code is that of the softmax.

Here neither S nor H nor E exists. Forward walks the trees and adds up table rows. Backward walks
all nodes level by level: sums over subtrees take the place of H, and one matrix product with the
tables gives what every leaf would have contributed. Nothing of size rows x outputs x codebooks
is ever made, and work is cut into pieces that fit a cache.

Shapes: B items (images) of L positions each, G groups, and per group C codebooks of K = 2**T
prototypes and M outputs. Rows of a matrix are the positions of one item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from halut.accumulation import Accumulation, add_in_order
from halut.nn.operators import differentiable

__all__ = ["look_up", "nearest", "nearest_sums", "ordered_sums", "table_sums", "walk"]

_PIECE = 1 << 21
"""Leaves (codebooks x prototypes x positions) that backward works on at a time on a CPU."""

_PIECE_GPU = 1 << 27

_UNLIKELY = math.exp(-2.0)
"""A leaf's weight in the softmax falls by this factor for each node that decides against it."""


def walk(x: Tensor, thresholds: Tensor) -> Tensor:
    """Walk every position through the trees.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T, L), or (B, G, C, K - 1, L)
        What each level of each tree looks at; or each node, as `thresholds` has them.
    thresholds : float Tensor of shape (G, C, K - 1)
        Breadth-first: node ``2**level - 1 + partial_code``.

    Returns
    -------
    uint8 Tensor of shape (B, G, C, L), range [0, K)
        Codes. Strictly greater goes right; equal or NaN goes left. The root's decision is the
        most significant bit.
    """
    code = (x[:, :, :, 0] > thresholds[:, :, :1]).to(torch.uint8)
    for level in range(1, _depth(thresholds)):
        nodes = thresholds[:, :, 2**level - 1 : 2 ** (level + 1) - 1]  # (G, C, 2**level)
        right = _at_level(x, thresholds, level) > nodes[..., None]  # (B, G, C, 2**level, L)
        taken = right.gather(3, code.long()[:, :, :, None])[:, :, :, 0]
        code = 2 * code + taken
    return code


def _depth(thresholds: Tensor) -> int:
    return thresholds.shape[2].bit_length()


def _at_level(x: Tensor, thresholds: Tensor, level: int) -> Tensor:
    """Return what a level's nodes look at: (B, G, C, 2**level, L), or 1 for all of them."""
    if x.shape[3] == _depth(thresholds):
        return x[:, :, :, level, None]
    return x[:, :, :, 2**level - 1 : 2 ** (level + 1) - 1]


def table_sums(codes: Tensor, tables: Tensor) -> Tensor:
    """Add up the table entries that codes select.

    Parameters
    ----------
    codes : integer Tensor of shape (B, G, C, L), range [0, K)
    tables : float Tensor of shape (G, C, K, M)
        Integer entries are summed exactly while sums stay below 2**24 (float32) or 2**53.

    Returns
    -------
    Tensor of shape (B, G, M, L), dtype of `tables`
    """
    n_items, n_groups, n_codebooks, n_positions = codes.shape
    n_prototypes, n_outputs = tables.shape[2:]
    first = torch.arange(
        0, n_groups * n_codebooks * n_prototypes, n_prototypes, device=codes.device
    ).view(n_groups, n_codebooks, 1)
    entries = (codes + first).permute(0, 3, 1, 2).reshape(-1, n_codebooks)  # (B*L*G, C)
    sums = torch.nn.functional.embedding_bag(entries, tables.reshape(-1, n_outputs), mode="sum")
    sums = sums.view(n_items, n_positions, n_groups, n_outputs)
    return sums.permute(0, 2, 3, 1).contiguous()


def ordered_sums(codes: Tensor, tables: Tensor, order: Sequence[int], acc_bits: int) -> Tensor:
    """Add up the table entries that codes select, in the order of `halut.golden.accumulate`.

    Parameters
    ----------
    codes : integer Tensor of shape (B, G, C, L), range [0, K)
    tables : float Tensor of shape (G, C, K, M)
    order : sequence of int
        `Accumulation.order`; what follows Q counts for half floats only.
    acc_bits : int
        Width at which sums of integers saturate, once per Q codebooks. 0: entries are half
        floats, added up in float32; every NaN is 0x7fc00000.

    Returns
    -------
    Tensor of shape (B, G, M, L), dtype of `tables`
    """
    n_items, n_groups, n_codebooks, n_positions = codes.shape
    how = Accumulation.of_order(order)
    parallel = how.parallel_codebooks
    if acc_bits:
        half = 2 ** (acc_bits - 1)
        total = tables.new_zeros((n_items, n_groups, tables.shape[3], n_positions))
        for first in range(0, n_codebooks, parallel):
            step = slice(first, first + parallel)
            total.add_(table_sums(codes[:, :, step], tables[:, step])).clamp_(-half, half - 1)
        return total
    n_prototypes, n_outputs = tables.shape[2:]
    flat = tables.float().transpose(0, 1).reshape(n_codebooks, n_groups * n_prototypes, n_outputs)
    table = torch.arange(0, n_groups * n_prototypes, n_prototypes, device=codes.device)
    rows = codes.permute(2, 0, 3, 1).long().add_(table).flatten(1)  # (C, B*L*G)
    sums = flat.new_empty((rows.shape[1], n_outputs))
    at_once = max(1, (_PIECE_GPU if codes.is_cuda else _PIECE) // (parallel * n_outputs))
    for out, part in zip(sums.split(at_once), rows.split(at_once, dim=1), strict=True):

        def entry(codebook: int, part: Tensor = part) -> Tensor:
            return flat[codebook][part[codebook]]

        out.copy_(add_in_order(entry, n_codebooks, Tensor.add_, how))
    sums = torch.where(sums.isnan(), torch.nan, sums)
    sums = sums.view(n_items, n_positions, n_groups, n_outputs)
    return sums.permute(0, 2, 3, 1).to(tables.dtype).contiguous()


@torch.library.custom_op("halut::look_up", mutates_args=())
def _look_up(
    x: Tensor,
    thresholds: Tensor,
    tables: Tensor,
    slope: Tensor,  # noqa: ARG001  # for backward
    order: Sequence[int],
    acc_bits: int,
) -> tuple[Tensor, Tensor]:
    codes = walk(x, thresholds).contiguous()  # whatever the layout of x
    if order:
        return ordered_sums(codes, tables, order, acc_bits), codes
    return table_sums(codes, tables), codes


@_look_up.register_fake
def _(
    x: Tensor,
    _thresholds: Tensor,
    tables: Tensor,
    _slope: Tensor,
    _order: Sequence[int],
    _acc_bits: int,
) -> tuple[Tensor, Tensor]:
    n_items, n_groups, n_codebooks, _, n_positions = x.shape
    sums = tables.new_empty((n_items, n_groups, tables.shape[3], n_positions))
    codes = x.new_empty((n_items, n_groups, n_codebooks, n_positions), dtype=torch.uint8)
    return sums, codes


def _pieces(n_items: int, n_positions: int, leaves: int, piece: int) -> list[tuple[slice, slice]]:
    """Cut items, and the positions of an item when one is too large, into pieces."""
    if not n_items * n_positions:
        return []
    step = max(1, piece // leaves)  # positions
    if step >= n_positions:
        items = max(1, step // n_positions)
        return [(slice(b, b + items), slice(None)) for b in range(0, n_items, items)]
    return [
        (slice(b, b + 1), slice(p, p + step))
        for b in range(n_items)
        for p in range(0, n_positions, step)
    ]


@torch.library.custom_op("halut::look_up_backward", mutates_args=())
def _look_up_backward(
    grad: Tensor, x: Tensor, thresholds: Tensor, tables: Tensor, slope: Tensor, codes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_items, n_groups, n_codebooks, n_values, n_positions = x.shape
    n_prototypes, n_outputs = tables.shape[2:]
    depth = _depth(thresholds)
    per_node = n_values != depth
    n_leaves = n_codebooks * n_prototypes
    flat_tables = tables.reshape(n_groups, n_leaves, n_outputs)
    leaf = torch.arange(n_prototypes, device=x.device, dtype=x.dtype)[:, None]

    grad_x = torch.empty_like(x)
    grad_thresholds = torch.zeros_like(thresholds)
    grad_tables = torch.zeros_like(flat_tables)
    grad_slope = torch.zeros_like(slope)
    piece = _PIECE_GPU if x.is_cuda else _PIECE
    for items, positions in _pieces(n_items, n_positions, n_groups * n_leaves, piece):
        g = grad[items, :, :, positions]  # (b, G, M, l)
        values = x[items, ..., positions]  # (b, G, C, T, l)
        shape = (*values.shape[:3], n_prototypes, values.shape[-1])
        code = codes[items, :, :, None, positions].to(x.dtype)  # (b, G, C, 1, l)
        hot = torch.eq(code, leaf, out=x.new_empty(shape)).flatten(2, 3)  # (b, G, C*K, l)
        grad_tables += torch.matmul(hot, g.transpose(2, 3)).sum(dim=0)
        del hot

        # What every leaf would have contributed to the loss.
        value = torch.matmul(flat_tables, g).view(shape)
        share = _leaf_weights(values, thresholds)
        share.div_(share.sum(dim=3, keepdim=True))  # the softmax
        gain = value.mul_(share)
        gain.addcmul_(share, gain.sum(dim=3, keepdim=True), value=-1)
        del share

        # The derivative of tanh(z) is 4 s (1 - s) with s = sigmoid(2 z), which is faster.
        twice = 2 * slope
        steps = twice
        if per_node:
            times = 2 ** torch.arange(depth, device=x.device)
            steps = twice.repeat_interleave(times, dim=2, output_size=n_values)
        scaled = values * steps[..., None]
        for level in reversed(range(depth)):
            first, last = 2**level - 1, 2 ** (level + 1) - 1
            left, right = gain.view(*shape[:3], 2**level, 2, shape[-1]).unbind(4)
            change = right - left  # of the loss with the node's sign
            if level:
                gain = left + right
            nodes = thresholds[:, :, first:last] * twice[:, :, level, None]
            smooth = (_at_level(scaled, thresholds, level) - nodes[..., None]).sigmoid_()
            change = torch.ops.aten.sigmoid_backward(change, smooth).mul_(4)
            of_nodes = change.sum(dim=(0, 4))  # (G, C, 2**level)
            grad_thresholds[:, :, first:last] -= of_nodes * slope[:, :, level, None]
            if per_node:
                grad_x[items, :, :, first:last, positions] = change * slope[:, :, level, None, None]
                towards = (change * values[:, :, :, first:last]).sum(dim=(0, 3, 4))
            else:
                summed = change.sum(dim=3)  # (b, G, C, l)
                grad_x[items, :, :, level, positions] = summed * slope[:, :, level, None]
                towards = (summed * values[:, :, :, level]).sum(dim=(0, 3))
            away = (of_nodes * thresholds[:, :, first:last]).sum(dim=2)
            grad_slope[:, :, level] += towards - away
    return grad_x, grad_thresholds, grad_tables.view_as(tables), grad_slope


@_look_up_backward.register_fake
def _(
    _grad: Tensor, x: Tensor, thresholds: Tensor, tables: Tensor, slope: Tensor, _codes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x),
        torch.empty_like(thresholds),
        torch.empty_like(tables),
        torch.empty_like(slope),
    )


_differentiated_once = differentiable(_look_up_backward)


def _leaf_weights(x: Tensor, thresholds: Tensor) -> Tensor:
    """Return ``exp(H sign(S x - theta))`` up to a factor of each tree, (B, G, C, K, L)."""
    depth, n_prototypes = _depth(thresholds), thresholds.shape[2] + 1
    shape = (*x.shape[:3], n_prototypes, x.shape[4])
    # A node's weight is kept in the place of its leftmost leaf.
    weights = x.new_empty(shape)
    weights[:, :, :, 0] = 1
    for level in range(depth):
        step = n_prototypes >> level
        nodes = thresholds[:, :, 2**level - 1 : 2 ** (level + 1) - 1]
        likely = torch.gt(
            _at_level(x, thresholds, level),
            nodes[..., None],
            out=x.new_empty((*shape[:3], 2**level, shape[4])),
        )
        likely.mul_(1 - _UNLIKELY).add_(_UNLIKELY)  # of going right
        left, right = weights[:, :, :, ::step], weights[:, :, :, step // 2 :: step]
        torch.mul(left, likely, out=right)
        left.mul_(1 + _UNLIKELY).sub_(right)
    return weights


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, thresholds, tables, slope, *_ = inputs
    ctx.save_for_backward(x, thresholds, tables, slope, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    return *_differentiated_once(grad.contiguous(), *ctx.saved_tensors), None, None


_differentiable_look_up = differentiable(_look_up, _backward, _setup)


def look_up(
    x: Tensor,
    thresholds: Tensor,
    tables: Tensor,
    slope: Tensor,
    order: Sequence[int] = (),
    acc_bits: int = 0,
) -> Tensor:
    """Walk trees and add up table entries, differentiably.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, T, L), or (B, G, C, K - 1, L)
        What each level of each tree looks at; or each node, as `thresholds` has them.
    thresholds : float Tensor of shape (G, C, K - 1)
        Breadth-first.
    tables : float Tensor of shape (G, C, K, M)
    slope : float Tensor of shape (G, C, T)
        Backward, the sign of ``x - threshold`` is ``tanh(slope * (x - threshold))``: the inverse
        of the paper's temperature, in units of `x`.
    order : sequence of int, default ()
        As for `ordered_sums`; empty for exact sums, in any order.
    acc_bits : int, default 0
        As for `ordered_sums`. Backward, rounding and saturation are the identity.

    Returns
    -------
    Tensor of shape (B, G, M, L), dtype of `x`
        Sums of table entries; differentiable once in all four arguments.
    """
    sums: Tensor
    sums, _ = _differentiable_look_up(x, thresholds, tables, slope, order, acc_bits)
    return sums


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """Find the nearest centroid of every codebook.

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, W, L)
        Features of each codebook.
    centroids : float Tensor of shape (G, C, K, W)

    Returns
    -------
    uint8 Tensor of shape (B, G, C, L), range [0, K)
    """
    return _distances(x, centroids).argmin(dim=3).to(torch.uint8)


def _distances(x: Tensor, centroids: Tensor) -> Tensor:
    """Return squared distances less the square of `x`, which all K share: (B, G, C, K, L)."""
    squares = centroids.square().sum(dim=3, keepdim=True)  # (G, C, K, 1)
    return squares - 2 * torch.matmul(centroids, x)


def nearest_sums(x: Tensor, centroids: Tensor, tables: Tensor, temperature: Tensor) -> Tensor:
    """Add up the table entries of the nearest centroids, differentiably.

    Forward the code is the nearest centroid; backward its one-hot vector has the derivative of
    ``softmax(-distance**2 / temperature)`` (as LUT-NN, arXiv 2302.03213, does).

    Parameters
    ----------
    x : float Tensor of shape (B, G, C, W, L)
    centroids : float Tensor of shape (G, C, K, W)
    tables : float Tensor of shape (G, C, K, M)
    temperature : float Tensor of shape ()

    Returns
    -------
    Tensor of shape (B, G, M, L), dtype of `tables`
    """
    distances = _distances(x, centroids)
    soft = torch.softmax(-distances / temperature, dim=3)  # (B, G, C, K, L)
    hard = torch.zeros_like(soft).scatter_(3, distances.argmin(dim=3, keepdim=True), 1.0)
    code = (hard + (soft - soft.detach())).flatten(2, 3).to(tables.dtype)  # (B, G, C*K, L)
    return torch.matmul(tables.flatten(1, 2).transpose(1, 2), code)
