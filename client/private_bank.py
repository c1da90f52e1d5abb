"""The public bank: what a private patient is contrasted with, embedded with the current model and never trained on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.private_units import paired, tensors_of
from more_model.cohort_file import load_cohort
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from more_model.training.views import TextView, drawn_views

#: Rows embedded at once, which bounds memory.
_AT_ONCE = 64


@dataclass(frozen=True)
class PublicBank:
    """Records that anyone may see, the same for all sites (log ``examples.digest()``).

    negatives: how many of them are drawn for a step, to be embedded anew in each; more of them take longer, and bring
    more noise. refresh_every: steps for which one drawing is kept.
    """

    examples: Examples
    negatives: int = 128
    refresh_every: int = 1

    def __post_init__(self) -> None:
        if self.negatives < 1 or self.refresh_every < 1:
            raise ValueError("negatives and refresh_every must be at least 1")


@dataclass(frozen=True)
class BankPairs:
    """Embedded pairs of words and studies of one modality: ``text`` and ``study`` [b, d], ``words`` [b] as in
    `private_units`."""

    text: Tensor
    study: Tensor
    words: Tensor


def bank_of_cohort(cohort: Path, *, preprocessing: Preprocessing, negatives: int, refresh_every: int = 1) -> PublicBank:
    """The bank of all records of a cohort on disk (see `more_model.cohort_file.load_cohort`), whatever their split.

    Raises:
        ConfigError, DataError, StoreError: see there.
    """
    return PublicBank(load_cohort(cohort, preprocessing=preprocessing).examples, negatives, refresh_every)


EmbeddedBank = dict[Modality, BankPairs]
#: Tensors of some records, as a tower takes them; a few records at a time.
DrawnBank = list[dict[str, Tensor]]


def draw_bank(
    bank: PublicBank,
    training: TrainingSettings,
    *,
    device: torch.device,
    tokenizer: Any,
    max_tokens: int,
    modalities: Collection[Modality] = (Modality.XRAY, Modality.ECG),
) -> DrawnBank:
    """A fresh drawing: only pairs of ``modalities``, as nobody is contrasted with the others."""
    generator = np.random.default_rng()
    usable = bank.examples.where(lambda triplet: not paired(triplet).isdisjoint(modalities))
    count = min(bank.negatives, len(usable))
    drawn = sorted(int(row) for row in generator.choice(len(usable), size=count, replace=False))
    parts = []
    for start in range(0, count, _AT_ONCE):
        rows = drawn[start : start + _AT_ONCE]
        views = [_about(drawn_views(usable.triplets[row], training, generator), modalities) for row in rows]
        stacked = tensors_of(usable, [rows], [views], tokenizer=tokenizer, max_tokens=max_tokens, device=device)
        parts.append({name: leaf[0] for name, leaf in stacked.items()})
    return parts


def embedded(model: More, drawn: DrawnBank) -> EmbeddedBank:
    """The drawing with ``model`` as it is now; with a graph, where gradients are on."""
    parts = []
    for records in drawn:
        text = model.text(records["ids"], records["mask"]).projection
        pairs = {}
        for modality, tower, studies in ((Modality.XRAY, model.xray, "xrays"), (Modality.ECG, model.ecg, "ecgs")):
            of_text = records[f"{modality.value}_rows"]
            study = tower(records[studies]).projection if len(of_text) else text[:0]
            pairs[modality] = BankPairs(text[of_text], study, records["words"][of_text])
        parts.append(pairs)
    return {modality: _joined([part[modality] for part in parts]) for modality in (Modality.XRAY, Modality.ECG)}


@torch.no_grad()
def embed_bank(model: More, bank: PublicBank, training: TrainingSettings, **words: Any) -> EmbeddedBank:
    """A fresh drawing, embedded, without a graph. words: see `draw_bank`."""
    return embedded(model, draw_bank(bank, training, device=next(model.parameters()).device, **words))


def tensors_of_bank(bank: EmbeddedBank) -> dict[str, Tensor]:
    """The embeddings by name, as they are."""
    return {
        f"bank.{modality.value}.{side}": tensor
        for modality, pairs in bank.items()
        for side, tensor in (("text", pairs.text), ("study", pairs.study))
    }


def _about(views: Sequence[TextView], modalities: Collection[Modality]) -> list[TextView]:
    """The texts about a study of ``modalities``, with no other study."""
    kept = [
        replace(v, xray=v.xray and Modality.XRAY in modalities, ecg=v.ecg and Modality.ECG in modalities) for v in views
    ]
    return [view for view in kept if view.xray or view.ecg]


def _joined(parts: Sequence[BankPairs]) -> BankPairs:
    return BankPairs(
        torch.cat([part.text for part in parts]),
        torch.cat([part.study for part in parts]),
        torch.cat([part.words for part in parts]),
    )
