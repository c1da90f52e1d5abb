"""The model: three towers (encoder and projection head each) and one temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from more_model.model.config import ModelConfig
from more_model.model.heads import projection_head
from more_model.model.text import TextEncoder, build_text_encoder
from more_model.model.vit import EcgEncoder, XrayEncoder, build_ecg_encoder, build_xray_encoder

Encoder = TypeVar("Encoder", XrayEncoder, EcgEncoder, TextEncoder)


@dataclass(frozen=True, slots=True)
class Embedded:
    """``features`` [n, width]: what the encoder says, for probes. ``projection`` [n, embedding]: unit vectors of the
    shared space."""

    features: Tensor
    projection: Tensor


class Tower(nn.Module, Generic[Encoder]):
    """An encoder and the head that projects its features into the shared space."""

    def __init__(self, encoder: Encoder, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.encoder: Encoder = encoder
        self.head = projection_head(width, config.heads.hidden, config.heads.embedding, config.normalisation)
        self.width = width
        self.embedding = config.heads.embedding

    def forward(self, *inputs: Tensor) -> Embedded:
        """See the encoder for the inputs. The projection is normalised in float32 whatever the autocast type."""
        return self.projected(self.encoder(*inputs))

    def projected(self, features: Tensor) -> Embedded:
        """What the head makes of ``features`` [n, width] of the encoder."""
        return Embedded(features, functional.normalize(self.head(features).float(), dim=-1))


class More(nn.Module):
    """Three towers; ``xray``, ``ecg`` and ``text`` are also the names of the exchange groups."""

    def __init__(
        self, xray: Tower[XrayEncoder], ecg: Tower[EcgEncoder], text: Tower[TextEncoder], temperature: float
    ) -> None:
        super().__init__()
        self.xray = xray
        self.ecg = ecg
        self.text = text
        self.log_temperature = nn.Parameter(torch.tensor([math.log(temperature)]), requires_grad=False)

    @property
    def temperature(self) -> Tensor:
        """Softmax temperature, [1]; kept above 0.005 because a learned one can run away."""
        return self.log_temperature.exp().clamp(min=0.005)


def build_more(config: ModelConfig, *, seed: int, pad_id: int = 0) -> More:
    """A model without adapters: base weights from the configured local paths, everything else from ``seed``.

    Everything trains; `more_model.model.lora.adapt` freezes the base. Torch's global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder, text_width = build_text_encoder(config.text, pad_id)
        model = More(
            Tower(build_xray_encoder(config), config.xray.width, config),
            Tower(build_ecg_encoder(config), config.ecg.width, config),
            Tower(text_encoder, text_width, config),
            config.temperature.initial,
        )
    model.log_temperature.requires_grad_(config.temperature.learned)
    return model
