"""From examples to an `EmbeddedSet`: the embeddings of one model, with the labels of some tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from more_model.evaluation.embedded import EmbeddedSet, Float64
from more_model.model.more import More
from more_model.training.embed import embed
from more_model.training.examples import Examples


def embedded_set(
    model: More, examples: Examples, labels: Iterable[str], *, tokenizer: Any, max_tokens: int, threads: int
) -> EmbeddedSet:
    """The embeddings of ``examples``, row by row, with the columns of ``labels``; the model ends in evaluation mode."""
    result = embed(model, examples, tokenizer=tokenizer, max_tokens=max_tokens, threads=threads)
    return EmbeddedSet(
        patient=[triplet.patient_id for triplet in examples.triplets],
        site=[triplet.site for triplet in examples.triplets],
        xray=result.xray,
        ecg=result.ecg,
        text=result.text,
        report=list(result.words),
        xray_features=result.xray_features,
        ecg_features=result.ecg_features,
        labels={label: label_column(examples, label) for label in labels},
        attributes=attribute_columns(examples),
    )


def attribute_columns(examples: Examples) -> dict[str, list[str]]:
    """The attributes that any triplet has, each [n], empty where a triplet does not state it."""
    names = sorted({name for triplet in examples.triplets for name in triplet.attributes})
    return {name: [triplet.attributes.get(name, "") for triplet in examples.triplets] for name in names}


def label_column(examples: Examples, label: str) -> Float64:
    """Float64 [n] of one label: 1, 0, -1 and NaN where a triplet does not state it."""
    return np.array([triplet.labels.get(label, np.nan) for triplet in examples.triplets], dtype=np.float64)
