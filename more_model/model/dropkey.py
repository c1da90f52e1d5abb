"""Attention with DropKey: single attention logits are dropped before the softmax, during training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.nn import functional


class DropKeyAttention(Attention):
    """timm's attention (same parameters, same names) whose logits are dropped independently with probability
    ``drop_key_rate`` while training (Li et al., CVPR 2023).

    The rate is an attribute of the attention itself, because it is the attention that reads it: a rate set elsewhere
    would be without effect.
    """

    drop_key_rate: float = 0.0

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """``x``: [batch, tokens, width] -> the same shape."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        if self.training and self.drop_key_rate > 0:
            attn_mask = _with_dropped(attn_mask, query, tokens, self.drop_key_rate)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, is_causal=is_causal)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, self.attn_dim)
        return self.proj_drop(self.proj(self.norm(mixed)))  # type: ignore[no-any-return]

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """How evaluation mode mixes the values: [batch, heads, tokens, tokens] from ``query`` and ``key``
        [batch, heads, tokens, head width], each row summing to one. `forward` never forms it."""
        return torch.softmax(query @ key.transpose(-2, -1) * self.scale, dim=-1)


def _with_dropped(mask: Tensor | None, query: Tensor, tokens: int, rate: float) -> Tensor:
    # The lowest finite number instead of -inf: a row that lost every key becomes uniform instead of NaN.
    lowest = torch.finfo(query.dtype).min
    drawn = torch.rand(query.shape[0], query.shape[1], tokens, tokens, device=query.device)
    dropped = torch.zeros_like(drawn, dtype=query.dtype).masked_fill_(drawn < rate, lowest)
    if mask is None:
        return dropped
    if mask.dtype == torch.bool:  # true where a key may be looked at
        return dropped.masked_fill_(~mask, lowest)
    return dropped.add_(mask).clamp_(min=lowest)


def set_drop_rates(blocks: Iterable[nn.Module], rates: Sequence[float]) -> None:
    """Give each block's attention its rate, first to last.

    Raises:
        ValueError: another number of rates than blocks, or a block without `DropKeyAttention`.
    """
    for block, rate in zip(blocks, rates, strict=True):
        if not isinstance(block, Block) or not isinstance(block.attn, DropKeyAttention):
            raise ValueError(f"{type(block).__name__} has no DropKeyAttention to set a rate on")
        block.attn.drop_key_rate = float(rate)
