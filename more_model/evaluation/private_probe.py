"""A linear probe under differential privacy: one linear layer a modality on frozen features, all its labels at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from more_model.evaluation.embedded import EmbeddedSet, Float64, ImageOrTrace, LabelTask, Mask, ScoredLabel, score_task
from more_model.evaluation.private_training import PrivateStudies, PrivateTraining
from more_model.progress import OnProgress
from more_model.training.settings import TrainingSettings

#: Strides of a probe that starts at zero; found on made-up patients.
PROBE_SETTINGS = TrainingSettings(learning_rate=1e-2, weight_decay=0.0, warmup_fraction=0.0, final_rate_fraction=0.05)
PROBE_EPOCHS = 20

_MADE_UP = 4


def probe_privately(
    train: EmbeddedSet,
    held: Sequence[EmbeddedSet],
    tasks: Sequence[LabelTask],
    budget: PrivateTraining,
    *,
    steps: int,
    threads: int,
    on_progress: OnProgress,
) -> list[list[ScoredLabel]]:
    """A probe per modality on the pre-projection features of ``train``; for each set of ``held`` the scores of every
    task over the rows that state its label.

    Labels are 0, 1 or not stated. Each row of features is standardised by itself, because mean and deviation over the
    training patients would be releases of their own. ``steps`` is for each modality.
    """
    probes: dict[ImageOrTrace, nn.Module] = {}
    for modality in dict.fromkeys(task.modality for task in tasks):
        asked = [task.label for task in tasks if task.modality == modality]
        studies = _studies(train, modality, asked)
        probes[modality] = probe = _probe(studies.made_up.shape[1], len(asked))
        progress = partial(on_progress, f"private probe, {modality}")
        budget.fit(probe, studies, PROBE_SETTINGS, steps=steps, threads=threads, on_step=progress)
    return [[_scored(part, task, tasks, probes[task.modality]) for task in tasks] for part in held]


def _studies(train: EmbeddedSet, modality: ImageOrTrace, labels: Sequence[str]) -> PrivateStudies:
    features = train.features(modality)
    target = np.stack([train.target(label, "ignore") for label in labels], axis=1)
    rows = np.flatnonzero(train.has_features(modality) & ~np.isnan(target).all(axis=1))
    generator = torch.Generator().manual_seed(0)
    return PrivateStudies(
        units=[(train.site[row], train.patient[row]) for row in rows.tolist()],
        target=target[rows],
        read=lambda places: torch.from_numpy(features[rows[list(places)]]),
        made_up=torch.randn(_MADE_UP, features.shape[1], generator=generator),
    )


def _probe(width: int, tasks: int) -> nn.Module:
    linear = nn.Linear(width, tasks)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), linear)


def _scored(part: EmbeddedSet, task: LabelTask, tasks: Sequence[LabelTask], probe: nn.Module) -> ScoredLabel:
    column = [other for other in tasks if other.modality == task.modality].index(task)

    def score(rows: EmbeddedSet) -> Float64 | str:
        known: Mask = rows.has_features(task.modality)
        if not known.any():
            return f"linear probe: no row has features of modality {task.modality}"
        answers = np.full(len(rows), np.nan)
        with torch.inference_mode():
            logits = probe(torch.from_numpy(rows.features(task.modality)[known]))
        answers[known] = logits[:, column].double().numpy()
        return answers

    return score_task(part, task, "ignore", score)
