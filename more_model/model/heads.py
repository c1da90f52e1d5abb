"""Projection heads into the shared space, and the choice of normalisation."""

from __future__ import annotations

from torch import Tensor, nn

#: About the variance of the tokeniser's channels at a QRS complex. With the usual 1e-5 the norm would divide out the
#: amplitude of the tracing, and hypertrophy is a voltage.
_AMPLITUDE_KEEPING_EPS = 0.1


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of [batch, channels, time] that lets amplitude through, compressed."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_AMPLITUDE_KEEPING_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def channel_norm(kind: str, channels: int) -> nn.Module:
    """``layer`` or ``batch`` over the channels of a 1-D signal."""
    return ChannelLayerNorm(channels) if kind == "layer" else nn.BatchNorm1d(channels)


def projection_head(width: int, hidden: int, embedding: int, norm: str) -> nn.Sequential:
    """width -> hidden -> embedding, no biases, a normalisation (``layer`` or ``batch``) after each linear map."""
    make = nn.LayerNorm if norm == "layer" else nn.BatchNorm1d
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        make(hidden),
        nn.ReLU(),
        nn.Linear(hidden, embedding, bias=False),
        make(embedding),
    )
