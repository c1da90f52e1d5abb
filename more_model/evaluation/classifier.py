"""One tower with a linear layer on top, and which of its parameters each recipe trains."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from more_model.checkpoint import TrainedModel, random_twin
from more_model.evaluation.embedded import ImageOrTrace
from more_model.model.config import Lora
from more_model.model.lora import adapt_encoder, merged
from more_model.model.more import Tower

#: ``published``: the projection head and the qkv weights of the last blocks. ``lora``: the projection head and new
#: adapters. ``supervised``: everything, from random weights. The linear layer always trains.
RecipeName: TypeAlias = Literal["published", "lora", "supervised"]


class Classifier(nn.Module):
    """Encoder, projection head and one linear layer: studies of one modality -> a logit for each task."""

    def __init__(self, tower: Tower[Any], tasks: int) -> None:
        super().__init__()
        self.tower = tower
        self.linear = nn.Linear(tower.embedding, tasks)

    def forward(self, studies: Tensor) -> Tensor:
        """``studies`` as the encoder takes them -> float32 [n, tasks].

        The linear layer reads the projection before it is made a unit vector: its length is information, and on unit
        vectors a small learning rate would take many epochs to reach any confidence.
        """
        logits: Tensor = self.linear(self.tower.head(self.tower.encoder(studies)))
        return logits.float()

    def train(self, mode: bool = True) -> Self:
        """Training mode, except for batch normalisations that do not train: their running statistics stay."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, _BatchNorm) and not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self


def masked_bce(logits: Tensor, target: Tensor, positive_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each example, float32 [n]: the mean over the labels that it states, 0 where it states
    none. One value per example, so that a caller may clip or weight examples.

    ``logits`` and ``target`` are [n, tasks], ``target`` of 0, 1 and NaN (not stated); ``positive_weight`` [tasks]
    multiplies the term of a positive.
    """
    stated = ~torch.isnan(target)
    terms = functional.binary_cross_entropy_with_logits(
        logits, torch.where(stated, target, 0.0), pos_weight=positive_weight, reduction="none"
    )
    return (terms * stated).sum(dim=1) / stated.sum(dim=1).clamp(min=1)


def build_classifier(
    trained: TrainedModel, modality: ImageOrTrace, tasks: int, recipe: RecipeName, *, blocks: int, seed: int
) -> Classifier:
    """A classifier over a copy of one tower of ``trained``, which stays as it is, with exactly the parameters of
    ``recipe`` set to train. ``blocks`` is how many of the last blocks recipe ``published`` opens.

    Adapters that the model has are merged into its weights first, so that one recipe means the same for every model;
    ``lora`` then adds fresh ones of the configured rank, which start as the merged model.
    """
    source = random_twin(trained, seed) if recipe == "supervised" else trained
    tower = merged(source.model.xray if modality == "xray" else source.model.ecg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(tower, tasks)
    classifier.requires_grad_(recipe == "supervised")
    if recipe == "published":
        _open_last_blocks(tower, blocks)
    elif recipe == "lora":
        adapt_encoder(tower.encoder, trained.config.lora, _targets(trained.config.lora, modality), seed)
    tower.head.requires_grad_(True)
    classifier.linear.requires_grad_(True)
    return classifier


def _open_last_blocks(tower: Tower[Any], blocks: int) -> None:
    for block in tower.encoder.vit.blocks[-blocks:]:
        block.attn.qkv.weight.requires_grad_(True)


def _targets(lora: Lora, modality: ImageOrTrace) -> tuple[str, ...]:
    return lora.xray_targets if modality == "xray" else lora.ecg_targets
