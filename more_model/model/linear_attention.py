"""Attention whose time and memory grow with the number of tokens, not with its square."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from more_model.model.dropkey import DropKeyAttention


class LinearAttention(DropKeyAttention):
    """Kernelised attention (Katharopoulos et al., ICML 2020), with the parameters and names of timm's attention.

    The softmax of query-key products is replaced by phi(q) . phi(k) with phi(x) = elu(x) + 1 > 0, normalised over the
    keys. Sums over keys come first, so n tokens in h heads of width d cost O(n h d^2) time and O(n h d) memory, and no
    [n, n] matrix exists. Weights trained with softmax attention load, but mean something else here: train from the
    start, or fine-tune.

    There are no logits, so DropKey acts on whole keys: while training, a token is left out of the sums of one head,
    for all queries alike, with probability ``drop_key_rate``. A head that would lose every token keeps all of them.
    """

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """``x``: [batch, tokens, width] -> the same shape.

        Raises:
            ValueError: a mask is given; sums over all keys cannot leave out some for one query only.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("linear attention takes no mask")
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        # Sums over thousands of tokens have no place in 8 bits of mantissa.
        with torch.autocast(x.device.type, enabled=False):
            mixed = self._mixed(self.q_norm(query), self.k_norm(key), value)
        mixed = mixed.to(x.dtype).transpose(1, 2).reshape(batch, tokens, self.attn_dim)
        return self.proj_drop(self.proj(self.norm(mixed)))  # type: ignore[no-any-return]

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        looking, seen = _features(query), _features(key)
        if self.training and self.drop_key_rate > 0:
            seen = seen * _kept(seen, self.drop_key_rate)
        summed = seen.transpose(-2, -1) @ value.to(seen.dtype)  # [batch, heads, d, d]
        total = looking @ seen.sum(dim=-2)[..., None]  # [batch, heads, tokens, 1]
        return (looking @ summed) / total

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The matrix that evaluation applies to the values without ever making it: [batch, heads, tokens, tokens], rows
        sum to one. ``query``, ``key``: [batch, heads, tokens, d]. For explanations: it costs what softmax costs."""
        products = _features(query) @ _features(key).transpose(-2, -1)
        return products / products.sum(dim=-1, keepdim=True)


def _features(x: Tensor) -> Tensor:
    return functional.elu(x.to(torch.promote_types(x.dtype, torch.float32))) + 1


def _kept(seen: Tensor, rate: float) -> Tensor:
    """[batch, heads, tokens, 1], one where a key stays."""
    keep = torch.rand(*seen.shape[:-1], 1, device=seen.device) >= rate
    return (keep | ~keep.any(dim=-2, keepdim=True)).to(seen.dtype)
