"""`HalutMultiheadAttention`: attention whose four projections are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from halut.checks import integer_at_least
from halut.errors import HalutError
from halut.nn.config import LayerConfig
from halut.nn.layer import traced_call
from halut.nn.layers import HalutLinear
from halut.nn.watch import hooked

__all__ = ["HalutMultiheadAttention"]


class HalutMultiheadAttention(nn.Module):
    """A drop-in for `nn.MultiheadAttention` with looked-up projections.

    The products of queries with keys and of weights with values have no fixed factor and stay
    exact.

    Parameters
    ----------
    embed_dim, num_heads, dropout, bias, kdim, vdim, batch_first
        As for `nn.MultiheadAttention`.
    config : LayerConfig, optional
        Of each projection.
    """

    in_proj_bias = None
    """Shows `nn.TransformerEncoderLayer` that its fused path does not apply."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        config: LayerConfig | None = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        integer_at_least("embed_dim", embed_dim, 1)
        if embed_dim % integer_at_least("num_heads", num_heads, 1):
            raise HalutError(f"num_heads must divide embed_dim {embed_dim}, not {num_heads}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first = batch_first
        self._qkv_same_embed_dim = kdim in (None, embed_dim) and vdim in (None, embed_dim)

        def projection(in_features: int) -> HalutLinear:
            return HalutLinear(in_features, embed_dim, bias, config=config, device=device)

        self.q_proj = projection(embed_dim)
        self.k_proj = projection(kdim or embed_dim)
        self.v_proj = projection(vdim or embed_dim)
        self.out_proj = projection(embed_dim)

    @classmethod
    def from_module(
        cls,
        module: nn.MultiheadAttention,
        calls: Sequence[tuple[Tensor, Tensor, Tensor]],
        config: LayerConfig | None = None,
    ) -> HalutMultiheadAttention:
        """Learn the projections of an attention from calls (query, key, value) of it."""
        reason = unsupported(module)
        if reason:
            raise HalutError(f"attention must be plain: {reason}")
        width = module.embed_dim
        layer = cls(
            width,
            module.num_heads,
            module.dropout,
            module.in_proj_bias is not None,
            module.kdim,
            module.vdim,
            module.batch_first,
            config=config,
            device=module.out_proj.weight.device,
        ).train(module.training)
        if module._qkv_same_embed_dim:
            weights = module.in_proj_weight.split(width)
        else:
            weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        if module.in_proj_bias is None:
            biases: Sequence[Tensor | None] = (None, None, None)
        else:
            biases = module.in_proj_bias.split(width)
        projections = (layer.q_proj, layer.k_proj, layer.v_proj)
        for index, (projection, weight, bias) in enumerate(
            zip(projections, weights, biases, strict=True)
        ):
            projection.learn([call[index] for call in calls], weight, bias)
        # The last projection learns from what the first three give it.
        seen: list[Tensor] = []
        see = layer.out_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad(), hooked([see]):
            for call in calls:
                layer(*call, need_weights=False)
        layer.out_proj.learn(seen, module.out_proj.weight, module.out_proj.bias)
        return layer

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as `nn.MultiheadAttention` does; shapes and masks are the same."""
        if isinstance(query, fx.Proxy):
            return traced_call(
                self, query, key, value, key_padding_mask=key_padding_mask,
                need_weights=need_weights, attn_mask=attn_mask,
                average_attn_weights=average_attn_weights, is_causal=is_causal,
            )  # fmt: skip
        batched = query.ndim == 3
        if not batched:
            query, key, value = (item.unsqueeze(0) for item in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (item.transpose(0, 1) for item in (query, key, value))
        heads = [
            projection(item).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection, item in (
                (self.q_proj, query),
                (self.k_proj, key),
                (self.v_proj, value),
            )
        ]  # (batch, heads, length, width)
        mask = self._mask(attn_mask, key_padding_mask, is_causal, heads[0], heads[1])
        weights = None
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = heads[0] @ heads[1].transpose(2, 3) / heads[0].shape[3] ** 0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=3)
            attended = nn.functional.dropout(weights, dropout) @ heads[2]
        else:
            attended = nn.functional.scaled_dot_product_attention(
                heads[0], heads[1], heads[2], attn_mask=mask, dropout_p=dropout
            )
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return output[0], None if weights is None else weights[0]
        return output if self.batch_first else output.transpose(0, 1), weights

    def _mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        is_causal: bool,
        query: Tensor,
        key: Tensor,
    ) -> Tensor | None:
        """Return what is added to the scores (batch, heads, target, source), or None."""
        parts = []
        if is_causal and attn_mask is None:
            shape = (query.shape[2], key.shape[2])
            attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).triu(1)
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
            parts.append(_additive(attn_mask, query.dtype))
        if key_padding_mask is not None:
            parts.append(_additive(key_padding_mask[:, None, None, :], query.dtype))
        return sum(parts[1:], parts[0]) if parts else None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask (True: left out) into what is added to scores."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


def unsupported(module: nn.MultiheadAttention) -> str | None:
    """Return why an attention cannot be converted, or None."""
    if module.bias_k is not None or module.bias_v is not None:
        return "bias_k and bias_v add rows that are no projection"
    if module.add_zero_attn:
        return "add_zero_attn adds rows that are no projection"
    return None
