"""Gradient-weighted attention relevance of the three towers (Chefer, Gur and Wolf, ICCV 2021, section 3).

For a scalar target s and the attention A [heads, tokens, tokens] of each layer, first to last,

    A_bar = mean over heads of (ds/dA * A)^+        R <- R + A_bar R        R starts as the identity

Only one row of R is ever read (the class token's, or the one that pooling makes), so only that row is carried, from the
last layer to the first: r <- r + r A_bar. That is the same product in the other order, without its matrix powers.

The target is always a unit projection times a direction: a text's projection, one text's minus another's, or the
positive minus the negative side of a label's prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from more_model.explain.attention_maps import Recorded
from more_model.model.more import More


@dataclass(frozen=True, slots=True)
class Relevance:
    """``score`` [n]: the target. ``tokens`` [n, tokens]: non-negative, patches (row by row) or time steps, without the
    class token. ``map``: the same on the input's own grid."""

    score: Tensor
    tokens: Tensor
    map: Tensor


def relevance_row(attention: Sequence[Tensor], gradients: Sequence[Tensor], start: Tensor) -> Tensor:
    """``start`` [n, tokens] times R [n, tokens, tokens], for attention and its gradients [n, heads, tokens, tokens] of
    each layer, first to last."""
    row = start
    for weights, gradient in zip(reversed(attention), reversed(gradients), strict=True):
        positive = (weights * gradient).clamp(min=0).mean(dim=1)
        row = row + torch.bmm(row[:, None], positive.to(row.dtype))[:, 0]
    return row


def xray_relevance(model: More, recorded: Recorded, pixels: Tensor, directions: Tensor) -> Relevance:
    """Which parts of n pictures raise ``projection @ direction``. ``pixels`` uint8 or float [n, S, S], ``directions``
    [n, embedding]; ``map`` [n, S, S] sums to one (bilinear between the centres of the patches)."""
    recorded.clear()
    score = (model.xray(pixels).projection * directions).sum(dim=1)
    tokens = _of_class_token(recorded.xray, torch.autograd.grad(score.sum(), recorded.xray))
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.reshape(len(tokens), 1, side, side)
    drawn = functional.interpolate(grid, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
    return Relevance(score.detach(), tokens, unit_sum(drawn[:, 0]))


def text_relevance(
    model: More, recorded: Recorded, ids: Tensor, mask: Tensor, direction: Tensor, pooling: str
) -> tuple[Tensor, Tensor]:
    """The score [] of one text (``ids``, ``mask`` [1, tokens]) along ``direction`` [embedding], and the relevance
    [tokens] of its tokens.

    A mean is one more layer of attention, with equal weights 1 / tokens: its row (ds/dA * A)^+ is gradient times final
    state, and is where the product starts. With ``last`` the product starts at the last token, whose own identity is
    left out, as the class token's is.
    """
    recorded.clear()
    score = (model.text(ids, mask).projection[0] * direction).sum()
    (states,) = recorded.text_states
    *gradients, of_states = torch.autograd.grad(score, [*recorded.text, states])
    attention = [layer.detach() for layer in recorded.text]
    if pooling == "last":
        start = torch.zeros_like(states[..., 0])
        start[0, int(mask.sum()) - 1] = 1.0
        return score.detach(), (relevance_row(attention, gradients, start) - start)[0]
    start = (of_states * states).sum(dim=2).clamp(min=0).detach()
    if not start.any():
        start = torch.full_like(start, 1.0 / start.shape[1])
    return score.detach(), relevance_row(attention, gradients, start)[0]


def _of_class_token(attention: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    start = torch.zeros(attention[0].shape[0], attention[0].shape[-1], device=attention[0].device)
    start[:, 0] = 1.0
    return relevance_row([layer.detach() for layer in attention], gradients, start)[:, 1:]


def unit_sum(maps: Tensor) -> Tensor:
    """Non-negative maps [n, ...], each divided by its sum; a map of zeros becomes even."""
    total = maps.flatten(1).sum(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    even = torch.full_like(maps, 1.0 / maps[0].numel()) if len(maps) else maps
    return torch.where(total > 0, maps / total.clamp(min=torch.finfo(maps.dtype).tiny), even)


def ecg_relevance(model: More, recorded: Recorded, signal: Tensor, directions: Tensor) -> Relevance:
    """Which leads and moments of n tracings raise ``projection @ direction``. ``signal`` float [n, 12, samples] in mV;
    ``map`` [n, 12, samples] sums to one.

    The relevance of a token is spread over the samples that its two convolutions look at, in proportion to the positive
    part of gradient times input: of the tokens' own contributions to the target, weighted by their relevance.
    """
    recorded.clear()
    traced = signal.detach().float().requires_grad_()
    score = (model.ecg(traced).projection * directions).sum(dim=1)
    (made,) = recorded.ecg_tokens
    gradients = torch.autograd.grad(score.sum(), [*recorded.ecg, made], retain_graph=True)
    tokens = _of_class_token(recorded.ecg, gradients[:-1])
    contribution = (made * gradients[-1]).sum(dim=2) * tokens
    (slope,) = torch.autograd.grad(contribution.sum(), traced)
    fine = (slope * traced.detach()).clamp(min=0)
    return Relevance(score.detach(), tokens, unit_sum(_spread(tokens, fine, *_field(model))))


def _field(model: More) -> tuple[int, int]:
    """Samples that one token looks at, and samples from one token to the next."""
    first, second = model.ecg.encoder.tokeniser.conv1, model.ecg.encoder.tokeniser.conv2
    width = (second.kernel_size[0] - 1) * first.stride[0] + first.kernel_size[0]
    return width, first.stride[0] * second.stride[0]


def _spread(tokens: Tensor, fine: Tensor, width: int, step: int) -> Tensor:
    """``tokens`` [n, tokens] over ``fine`` [n, 12, samples]: each token's relevance goes to its own samples in the
    proportions of ``fine``, evenly where that is zero. Keeps the sum."""
    leads, samples = fine.shape[1:]
    window = torch.ones(1, 1, width, device=fine.device)
    inside = functional.conv1d(fine.sum(dim=1, keepdim=True), window, stride=step)[:, 0, : tokens.shape[1]]
    shaped = torch.where(inside > 0, tokens / inside.clamp(min=torch.finfo(fine.dtype).tiny), 0.0)
    even = torch.where(inside > 0, 0.0, tokens / (leads * width))
    reach = [functional.conv_transpose1d(share[:, None], window, stride=step)[:, 0] for share in (shaped, even)]
    factor, floor = (functional.pad(part, (0, samples - part.shape[1]))[:, None] for part in reach)
    return fine * factor + floor
