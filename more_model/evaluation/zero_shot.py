"""Zero-shot classification: no label is trained on, an image or trace is compared with worded prompts.

A label's prompts are averaged to one direction per side (prompt ensembling: mean of the unit embeddings, made unit
again, as in CLIP, Radford et al. 2021, section 3.1.4), and the score is the cosine to the positive side minus the
cosine to the negative side. Cosines are used as they are: a softmax over the two sides is monotone in that difference,
so the AUROC is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from more_model.evaluation.embedded import (
    EmbeddedSet,
    Float64,
    LabelTask,
    ScoredLabel,
    UncertaintyPolicy,
    score_task,
)
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet, available_prompts, load_prompts
from more_model.evaluation.uncertainty import settled

__all__ = [
    "LabelPrompts",
    "PromptDirections",
    "PromptSet",
    "available_prompts",
    "class_prompt_scores",
    "encode_prompts",
    "load_prompts",
    "zero_shot",
    "zero_shot_scores",
]


@dataclass(frozen=True, slots=True, eq=False)
class PromptDirections:
    """The embedded wordings of one label: ``positive`` [k, d] and ``negative`` [m, d] (m = 0 in an exclusive set)."""

    positive: Float64
    negative: Float64


def zero_shot_scores(
    embeddings: NDArray[np.floating], positive: NDArray[np.floating], negative: NDArray[np.floating]
) -> Float64:
    """Cosine to the positive side minus cosine to the negative side, float64 [n], in [-2, 2].

    ``embeddings`` [n, d] (NaN rows score NaN), ``positive`` [k, d] and ``negative`` [m, d] with k, m >= 1.
    Raises DataError for an empty side or differing widths.
    """
    rows = _unit_rows(embeddings)
    difference: Float64 = rows @ _direction(positive, rows.shape[1]) - rows @ _direction(negative, rows.shape[1])
    return difference


def class_prompt_scores(embeddings: NDArray[np.floating], classes: Sequence[NDArray[np.floating]]) -> Float64:
    """Scores [n, classes] for classes that exclude each other: cosine to the own class minus mean of the others.

    ``embeddings`` [n, d], each class [k_c, d] with k_c >= 1. Raises DataError for fewer than two classes.
    """
    if len(classes) < 2:
        raise DataError(f"{len(classes)} class of prompts: an exclusive set needs at least two")
    rows = _unit_rows(embeddings)
    cosines: Float64 = rows @ np.stack([_direction(wordings, rows.shape[1]) for wordings in classes], axis=1)
    others = (cosines.sum(axis=1, keepdims=True) - cosines) / (len(classes) - 1)
    scores: Float64 = cosines - others
    return scores


def encode_prompts(
    prompts: PromptSet, encode: Callable[[list[str]], NDArray[np.floating]]
) -> dict[LabelTask, PromptDirections]:
    """Embeds every wording once. ``encode`` maps k texts to [k, d]; it is called once, with distinct texts."""
    texts = prompts.texts()
    embedded = np.asarray(encode(texts), dtype=np.float64)
    if embedded.ndim != 2 or len(embedded) != len(texts):
        raise DataError(f"the text encoder answered {len(texts)} prompts with an array of shape {embedded.shape}")
    row = {text: index for index, text in enumerate(texts)}
    return {
        label.task: PromptDirections(
            positive=embedded[[row[text] for text in label.worded(label.positive)]],
            negative=embedded[[row[text] for text in label.worded(label.negative)]],
        )
        for label in prompts.labels
    }


def zero_shot(
    embedded: EmbeddedSet,
    prompts: PromptSet,
    directions: Mapping[LabelTask, PromptDirections],
    *,
    policy: UncertaintyPolicy = "ignore",
) -> list[ScoredLabel]:
    """One `ScoredLabel` per label of the prompt set, over the rows that state the label."""
    embedded, policy = settled(embedded, prompts.tasks, policy), "ignore"
    if prompts.exclusive:
        classes = [directions[label.task].positive for label in prompts.labels]
        return [
            score_task(embedded, label.task, policy, _one_class(label.task, classes, position))
            for position, label in enumerate(prompts.labels)
        ]
    return [
        score_task(embedded, label.task, policy, _two_sided(label.task, directions[label.task]))
        for label in prompts.labels
    ]


def _two_sided(task: LabelTask, sides: PromptDirections) -> Callable[[EmbeddedSet], Float64 | str]:
    def score(rows: EmbeddedSet) -> Float64 | str:
        if not rows.has(task.modality).any():
            return f"no row with this label has an embedding of modality {task.modality}"
        return zero_shot_scores(rows.embedding(task.modality), sides.positive, sides.negative)

    return score


def _one_class(task: LabelTask, classes: Sequence[Float64], position: int) -> Callable[[EmbeddedSet], Float64 | str]:
    def score(rows: EmbeddedSet) -> Float64 | str:
        if not rows.has(task.modality).any():
            return f"no row with this label has an embedding of modality {task.modality}"
        return class_prompt_scores(rows.embedding(task.modality), classes)[:, position]

    return score


def _unit_rows(matrix: NDArray[np.floating]) -> Float64:
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"embeddings have shape {rows.shape}, expected [rows, width]")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length == 0.0, 1.0, length)


def _direction(wordings: NDArray[np.floating], width: int) -> Float64:
    rows = _unit_rows(wordings)
    if len(rows) == 0:
        raise DataError("one side of a label has no prompt", remedy="give at least one wording per side")
    if rows.shape[1] != width:
        raise DataError(f"prompts are {rows.shape[1]} wide, embeddings {width}")
    direction: Float64 = _unit_rows(rows.mean(axis=0, keepdims=True))[0]
    return direction
